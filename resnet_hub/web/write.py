"""Write the static page of a network: HTML, style sheet, modules, the ONNX file and onnxruntime-web.

    python -m resnet_hub.web resnet20_cifar10 out/page
    python -m http.server --directory out/page

Any static host serves the folder. The page asks no other host for anything, and sends nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tomllib
from base64 import b64encode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

import resnet_hub
from resnet_hub.command import program_name, run_command
from resnet_hub.errors import Refusal
from resnet_hub.files import check_is_free, whole_folder
from resnet_hub.hub.card_merge import licence_fields
from resnet_hub.hub.fetch import REPO_ID
from resnet_hub.hub.push import Space, push_folder
from resnet_hub.onnx_file import OnnxFile, is_onnx_file
from resnet_hub.statement import LEAST_SHARE, MOST_NAMED, SENTENCES, with_article
from resnet_hub.web.runtime import runtime_files

HERE = Path(__file__).parent
PAGE = (
    "index.html", "page.js", "text.js", "worker.js", "style.css", "icon.svg", "manifest.webmanifest", "sw.js",
)  # fmt: skip
RUNTIME = "ort"  # folder of onnxruntime-web's files
NOT_KEPT = {"sw.js", "files.js", "README.md", "index.html"}  # by their names; the page itself is kept as "./"
TEXTS = Path(resnet_hub.__file__).parent / "ui"


def write_page(file: Path, out: Path, repo_id: str | None = None) -> None:
    """Write the page of an ONNX file that takes the photo.

    Args:
        out: a new or empty folder.
        repo_id: the model's repository on the Hub, to which the page links; by default the one that the file
            was made from, if it was.

    Raises:
        Refusal: for another file, a folder that is not empty, or where onnxruntime-web cannot be had.
    """
    onnx, runtime = OnnxFile(file), runtime_files()
    repo_id = repo_id or repository(onnx)
    with whole_folder(out) as folder:
        for name in PAGE:
            shutil.copyfile(HERE / name, folder / name)
        (folder / RUNTIME).mkdir()
        for name, path in runtime.items():
            shutil.copyfile(path, folder / RUNTIME / name)
        shutil.copyfile(file, folder / "model.onnx")
        facts = model_facts(onnx, repo_id)
        _write_text(folder / "model.json", json.dumps(facts, ensure_ascii=False))
        _write_text(folder / "README.md", space_card(facts, repo_id))
        kept = kept_files(folder)
        _write_text(folder / "files.js", f"self.pageFiles = {json.dumps(kept)};\n")
        page = (folder / "index.html").read_text(encoding="utf-8")
        marked = page.replace('name="version" content=""', f'name="version" content="{kept["version"]}"')
        _write_text(folder / "index.html", marked)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def repository(file: OnnxFile) -> str | None:
    """The Hub repository that a file was made from; None for a checkpoint from this disk."""
    return file.made_from if file.commit else None


def model_facts(file: OnnxFile, repo_id: str | None) -> dict[str, Any]:
    """What the page says of the model; the type is `Model` in page.js."""
    japanese = tomllib.loads((TEXTS / "shared" / "labels.toml").read_text(encoding="utf-8"))
    name = Path(file.made_from).name or file.facts.get("name", "")
    content = hashlib.sha256(Path(file.source).read_bytes()).hexdigest()
    return {
        "title": repo_id.split("/")[1] if repo_id else name,
        "made_from": repo_id or name,
        "revision": file.commit[:12] if file.commit else f"sha256:{content[:12]}",
        "licence": file.facts.get("licence", ""),
        "link": f"https://huggingface.co/{repo_id}" if repo_id else None,
        "labels": [
            {"en": label, "ja": japanese.get(label, label), "said": with_article(label)}
            for label in file.labels
        ],
        "firm_threshold": file.calibration.firm_threshold,
        "class_thresholds": list(file.calibration.class_thresholds) or None,
        "sentences": sentences(),
        "named": {"most": MOST_NAMED, "least_share": LEAST_SHARE},
    }


def sentences() -> dict[str, dict[str, str]]:
    """The sentence of each kind of answer in both languages, as the app says it."""
    texts = tomllib.loads((TEXTS / "classify" / "text.toml").read_text(encoding="utf-8"))
    return {kind: texts[f"answer_{kind}"] for kind in SENTENCES}


def kept_files(folder: Path) -> dict[str, Any]:
    """The files that the service worker keeps beside the page itself, each with its hash as `integrity` takes
    it, and a version that changes with any of them."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).digest() for path in found
    }
    files = {
        name: f"sha256-{b64encode(digest).decode()}"
        for name, digest in digests.items()
        if name not in NOT_KEPT
    }
    return {"version": hashlib.sha256(b"".join(digests.values())).hexdigest()[:16], "files": files}


def space_card(facts: dict[str, Any], repo_id: str | None) -> str:
    """The README.md that makes the folder a static Space."""
    fields = {
        "title": facts["title"],
        "emoji": "🪜",
        "colorFrom": "blue",
        "colorTo": "indigo",
        "sdk": "static",
        "app_file": "index.html",
        "short_description": f"{facts['title']} in the browser"[:60],
        **licence_fields(facts["licence"]),
        **({"models": [repo_id]} if repo_id else {}),
    }
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{front}---\n\n# {facts['title']}\n\nClassifies photos in the browser; they never leave the "
        "device. Written by resnet_hub (`python -m resnet_hub.web`); runs on onnxruntime-web (MIT).\n"
    )


def write_model_page(source: str, out: Path, repo_id: str | None = None) -> None:
    """Write the page of a checkpoint or of an ONNX file that takes the photo.

    Weights are in half precision, which halves the download and changes no probability by 0.01.

    Raises:
        Refusal, resnet_hub.hub.fetch.CheckpointError: when the model cannot be used.
    """
    check_is_free(out)  # this and the runtime before the work, which would be lost
    if is_onnx_file(source):
        return write_page(Path(source), out, repo_id)
    try:
        from resnet_hub.interop.convert import load
        from resnet_hub.interop.onnx import check_photo_file, export_onnx

        runtime_files()
        model = load(source)
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / "model.onnx"
            export_onnx(model, file, "fp16", repo_id)
            check_photo_file(model, file)
            write_page(file, out, repo_id)
    except ImportError as error:
        raise Refusal(f"{error}; pip install -e '.[export]'") from error


def push_page(folder: Path, space_id: str) -> str:
    """Upload a page as a static Space, which costs nothing; its address.

    Raises:
        resnet_hub.hub.fetch.CheckpointError: when the upload fails.
    """
    pushed = push_folder(
        space_id, folder, repo_type="space", space=Space("static"), message="Upload the page"
    )
    return pushed.url


# The command


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.web"),
        description="Write a page that classifies photos in the browser, for any static host.",
    )
    models = "Hub repository, checkpoint directory, shipped checkpoint or ONNX file that takes the photo"
    parser.add_argument("model", metavar="MODEL", help=models)
    parser.add_argument("out", type=Path, metavar="OUT", help="new or empty folder")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload it too, as a static Space of that name")
    options = parser.parse_args(arguments)
    if options.push and not REPO_ID.fullmatch(options.push):
        parser.error(f"--push {options.push!r} is not of the form OWNER/NAME")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when the page was written, 2 with one line when not."""
    options = parse_arguments(arguments)
    return run_command("resnet_hub.web", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    write_model_page(options.model, options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size:,} bytes; try it: python -m http.server --directory {options.out}")
    if options.push:
        print(push_page(options.out, options.push))
