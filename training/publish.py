"""`python -m training.publish RUN --repo-id OWNER/NAME`: upload a finished run to the Hub and check it there.

Everything is staged in a folder first; each repository gets one commit. Safe to interrupt and to repeat:
files that are there already are not sent again. The access token is the one that `hf auth login` stored, or
HF_TOKEN; a flag would leave it in the shell's history.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml
from huggingface_hub import get_token

from resnet_hub import from_pretrained
from resnet_hub.command import program_name, run_command
from resnet_hub.errors import Refusal
from resnet_hub.files import whole_folder
from resnet_hub.hub.card import public_facts, render_card
from resnet_hub.hub.card_merge import merged, parse_front_matter, split_front_matter
from resnet_hub.hub.fetch import (
    CARD_FILE,
    CONFIG_FILE,
    REPO_ID,
    WEIGHTS_FILE,
    CheckpointError,
    fetch_card,
)
from resnet_hub.hub.load import is_half
from resnet_hub.hub.push import BESIDE, RECORD, Space, push_folder
from resnet_hub.models.registry import list_models
from resnet_hub.models.timm_names import SAME_IN_TIMM, architecture
from training.command import add_labels_flag, data_source
from training.data import load_data, with_classes
from training.evaluate import TOLERANCE, card_differences, measure, summary
from training.job import checkout
from training.label_table import LabelTable

PHOTO_FILE = "photo.onnx"
NEEDED = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, RECORD, "history.jsonl", "curves.png")
APP_FILES = ("app.py", "requirements.txt", "LICENSE", "resnet_hub", "training/results")
# What ZeroGPU offers, in November 2026.
ZERO_GPU = "zero-a10g"
ZERO_GPU_PYTHON = "3.12.12"
ZERO_GPU_VERSIONS = {"torch": ">=2.8,<2.14", "torchvision": ">=0.23,<0.29"}
SPACE = '''"""Start the app with the model this Space is for."""

import app

app.main({flags})
'''


class PublishError(Refusal):
    """A run that must not be published as it is; the message says what to do."""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(program_name("training.publish"), description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory that a trainer wrote")
    parser.add_argument("--repo-id", required=True, metavar="OWNER/NAME", help="repository on the Hub")
    parser.add_argument("--private", action="store_true", help="create it as a private repository")
    parser.add_argument("--data", help="before uploading, measure again on this data's test part and compare")
    add_labels_flag(parser)
    space = (
        "publish a Space of that name too: the app (gradio, on ZeroGPU), or a page without a server (static)"
    )
    parser.add_argument("--space", nargs="?", const="gradio", choices=("gradio", "static"), help=space)
    hardware = (
        f"the app's machine by the Hub's name, e.g. cpu-upgrade, for those who pay (default: {ZERO_GPU})"
    )
    parser.add_argument("--space-hardware", metavar="NAME", help=hardware)
    onnx = "publish OWNER/NAME-ONNX too: the file that takes the photo, and transformers.js's layout"
    parser.add_argument("--onnx", action="store_true", help=onnx)
    dry_run = "upload nothing; write the files to DIR (and DIR-space; default: RUN-upload) instead"
    parser.add_argument("--dry-run", nargs="?", const="", metavar="DIR", help=dry_run)
    options = parser.parse_args(arguments)
    if not REPO_ID.fullmatch(options.repo_id):
        parser.error(f"--repo-id {options.repo_id!r} is not of the form OWNER/NAME")
    if options.labels and not options.data:
        parser.error("--labels is the table of --data's labels; give --data too")
    if options.space_hardware and options.space != "gradio":
        parser.error("--space-hardware is for --space gradio; a static Space needs no machine")
    options.run = options.run.absolute()  # "." has no name
    return options


def read_run(run: Path):
    """(model, facts) of a run directory.

    Raises:
        PublishError: naming the files that a finished run has and this one lacks.
        CheckpointError: when its weights cannot be loaded.
    """
    missing = [name for name in NEEDED if not (run / name).is_file()]
    if missing:
        raise PublishError(
            f"{run} is not a finished run: {', '.join(missing)} missing; finish it with --resume first"
        )
    try:
        facts = json.loads((run / RECORD).read_text(encoding="utf-8"))
        facts["results"]["images"], facts["command"], facts["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(f"{run / RECORD} does not hold a run's facts ({error}); train it again") from error
    return from_pretrained(run.resolve()), facts  # not a shipped one of that name


def check_figures(model, facts: dict, run: Path, data: str | LabelTable | None) -> None:
    """Refuse a run whose card, facts and, with `data`, weights disagree.

    Raises:
        PublishError: with the first figures that differ.
    """
    card = (run / CARD_FILE).read_text(encoding="utf-8")
    refuse_differences(f"the card and {RECORD} of {run}", card_differences(model, card, facts["results"]))
    if data is None:
        return
    several = bool(model.calibration.class_thresholds)
    test = with_classes(load_data(data, "test", model.preprocess), model.labels, several)
    found = card_differences(model, render_card(model, facts, load_from=run.name), measure(model, test))
    refuse_differences(f"{RECORD} of {run} and what was measured on {data}", found)


def refuse_differences(between: str, differences: dict[str, tuple[float, float]]) -> None:
    if differences:
        shown = "; ".join(f"{name} {a:.6g} and {b:.6g}" for name, (a, b) in list(differences.items())[:5])
        raise PublishError(
            f"{between} differ in {len(differences)} figures, more than {TOLERANCE} apart: {shown}"
        )


def stage(model, facts: dict, run: Path, repo_id: str, folder: Path) -> None:
    """Write into `folder` what is to be uploaded: no resume file, no folder names of this machine."""
    beside = [name for name in BESIDE if (run / name).is_file()]
    images = {"images": [name for name in beside if name.endswith(".png")]}
    half = is_half(run / WEIGHTS_FILE)
    card = render_card(model, facts | images, load_from=repo_id, half=half)
    model.save_pretrained(folder, card=card)
    for name in (WEIGHTS_FILE, *beside):  # the weights bit for bit as measured
        shutil.copyfile(run / name, folder / name)
    public = public_facts(facts) | {"results": facts["results"]}
    text = json.dumps(public, indent=2, ensure_ascii=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def stage_space(repo_id: str, folder: Path) -> None:
    """Write into `folder` the app as a Space that offers `repo_id` and loads nothing else from the Hub."""
    root = checkout()
    folder.mkdir()
    for name in APP_FILES:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(root / name, folder / name, ignore=ignored)
        else:
            shutil.copyfile(root / name, folder / name)
    front, _ = split_front_matter((root / "README.md").read_text(encoding="utf-8"))
    name = repo_id.split("/")[1]
    fields = parse_front_matter(front) | {
        "title": name,
        "python_version": ZERO_GPU_PYTHON,
        "app_file": "space.py",
        "models": [repo_id],
        "short_description": f"Try {name}"[:60],
    }
    body = f"# {name}\n\nThe app of resnet_hub, serving [{repo_id}](https://huggingface.co/{repo_id}).\n"
    text = f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n\n{body}"
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    requirements = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [_within(line, ZERO_GPU_VERSIONS) for line in requirements]
    (folder / "requirements.txt").write_text("\n".join(pinned) + "\n", encoding="utf-8")
    flags = ["--model", repo_id, "--models-only-from", repo_id]
    (folder / "space.py").write_text(SPACE.format(flags=flags), encoding="utf-8")


def _within(requirement: str, versions: dict[str, str]) -> str:
    name = re.split(r"[<>=]", requirement)[0]
    return name + versions[name] if name in versions else requirement


def stage_onnx(model, repo_id: str, folder: Path) -> None:
    """Write into `folder` the file that takes the photo and, where it can be, transformers.js's layout."""
    from resnet_hub.interop.onnx import check_photo_file, export_onnx
    from resnet_hub.interop.transformers_js import save_transformers_js

    try:
        save_transformers_js(model, folder, repo_id)
    except Refusal as error:
        print(f"without transformers.js's layout: {error}", file=sys.stderr)
    export_onnx(model, folder / PHOTO_FILE, repo_id=repo_id)
    check_photo_file(model, folder / PHOTO_FILE)


def stage_more(options: argparse.Namespace, staged: Path, place: Path) -> dict[str, Path]:
    """What is published beside the model: {what: folder}."""
    more = {}
    try:
        if options.onnx:
            more["onnx"] = place / "onnx"
            stage_onnx(from_pretrained(staged), options.repo_id, more["onnx"])
        if options.space == "static":
            from resnet_hub.web.write import write_model_page

            more["space"] = place / "space"
            write_model_page(str(staged), more["space"], options.repo_id)
    except ImportError as error:
        raise PublishError(f"{error}; pip install -e '.[export]'") from error
    if options.space == "gradio":
        more["space"] = place / "space"
        stage_space(options.repo_id, more["space"])
    return more


def refuse_tokens(folder: Path) -> None:
    """Refuse to upload a file with an access token in it.

    Raises:
        PublishError: naming the file, not the token.
    """
    mine = (get_token() or "").encode()
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        if re.search(rb"\bhf_[A-Za-z0-9]{20,}", content) or (mine and mine in content):
            raise PublishError(f"{path.relative_to(folder)} holds what looks like an access token; remove it")


def listing(folder: Path, what: str) -> str:
    """The files to be uploaded, with their sizes in bytes."""
    sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    lines = [f"{size:>13,}  {name}" for name, size in sorted(sizes.items())]
    return "\n".join([f"{what}: {len(sizes)} files, {sum(sizes.values()):,} bytes", *lines])


def verify(repo_id: str, revision: str, folder: Path) -> None:
    """Load the commit back from the Hub, past every cache, and compare it with what was staged.

    Raises:
        CheckpointError: when it cannot be loaded.
        PublishError: when it differs.
    """
    here = from_pretrained(folder)
    with TemporaryDirectory() as cache:
        back = from_pretrained(repo_id, revision=revision, cache_dir=cache)
    theirs = back.state_dict()
    is_same = all(torch.equal(value, theirs[key]) for key, value in here.state_dict().items())
    about = [(model.config, model.labels) for model in (here, back)]
    if not (is_same and about[0] == about[1] and back.revision == revision):
        raise PublishError(f"{repo_id} at {revision} differs from what was uploaded; run the command again")


def load_lines(model, repo_id: str) -> str:
    """How to load the repository in the libraries that know its network."""
    if model.config.name not in list_models():
        return f'  resnet_hub.from_pretrained("{repo_id}")'
    is_stock = architecture(model.config)[0] in SAME_IN_TIMM
    first = "" if is_stock else "resnet_hub.register_timm(); "
    lines = [
        f'  resnet_hub.from_pretrained("{repo_id}")',
        f'  {first}timm.create_model("hf-hub:{repo_id}", pretrained=True)',
        f'  {first}transformers.AutoModelForImageClassification.from_pretrained("{repo_id}")',
    ]
    return "\n".join(lines)


def publish(options: argparse.Namespace) -> None:
    """Check, stage, show, upload and verify a run."""
    model, facts = read_run(options.run)
    check_figures(model, facts, options.run, options.data and data_source(options.data, options.labels))
    checked = f"measured again on {options.data}" if options.data else "not measured again (give --data)"
    print(f"{options.run}: {summary(facts['results'])}, card and {RECORD} agree; {checked}")
    with TemporaryDirectory() as place:
        staged = Path(place) / "model"
        stage(model, facts, options.run, options.repo_id, staged)
        print(listing(staged, f"{options.repo_id}, one commit"))
        if options.onnx or options.space == "static":  # they state the licence that a person chose there
            merge_with_hub(options.repo_id, staged / CARD_FILE)
        more = stage_more(options, staged, Path(place))
        for what, folder in more.items():
            name = f"{options.repo_id}-ONNX" if what == "onnx" else f"Space {options.repo_id}"
            print(listing(folder, f"{name}, one commit"))
        refuse_tokens(Path(place))
        if options.dry_run is not None:
            kept = Path(options.dry_run or f"{options.run}-upload")
            keep(staged, kept)
            for what, folder in more.items():
                keep(folder, kept.with_name(f"{kept.name}-{what}"))
            return
        upload(model, options, staged, more)


def merge_with_hub(repo_id: str, card: Path) -> None:
    """Put a person's front matter on the Hub's card, where that can be read, into the staged one; the rest of
    what they wrote follows when it is pushed."""
    with suppress(CheckpointError):
        if remote := fetch_card(repo_id):
            text = card.read_text(encoding="utf-8")
            front, _ = split_front_matter(merged(remote, text))
            card.write_text(front + split_front_matter(text)[1], encoding="utf-8")


def keep(staged: Path, folder: Path) -> None:
    """Copy what would be uploaded to a new or empty folder.

    Raises:
        Refusal: when it is not empty.
    """
    with whole_folder(folder) as temporary:
        shutil.copytree(staged, temporary, dirs_exist_ok=True)
    print(f"nothing uploaded; written to {folder}")


def upload(model, options: argparse.Namespace, staged: Path, more: dict[str, Path]) -> None:
    """Send the model, load it back, then send what belongs to it."""
    private = options.private or None
    pushed = push_folder(options.repo_id, staged, private=private, message=f"Upload {options.run.name}")
    verify(options.repo_id, pushed.revision, staged)
    state = f"changed {', '.join(pushed.changed)}" if pushed.changed else "every file was there already"
    print(f"{pushed.url} at {pushed.revision}: {state}; loaded back and identical")
    print(load_lines(model, options.repo_id))
    if "onnx" in more:
        there = f"{options.repo_id}-ONNX"
        files = push_folder(there, more["onnx"], private=private, message=f"ONNX files of {options.repo_id}")
        print(f"{files.url} at {files.revision}")
    if "space" in more:
        hardware = (options.space_hardware or ZERO_GPU) if options.space == "gradio" else None
        app = push_folder(
            options.repo_id,
            more["space"],
            private=private,
            repo_type="space",
            space=Space(options.space, hardware),
            message=f"Serve {options.repo_id}",
        )
        print(f"{app.url} at {app.revision}")
        if private and options.space == "gradio":
            print(f"to load {options.repo_id} it needs a secret HF_TOKEN: add it in the Space's settings")


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when the run is published (or staged), 2 with one line when it cannot be."""
    options = parse_arguments(arguments)
    return run_command("training.publish", lambda: publish(options))


if __name__ == "__main__":
    sys.exit(main())
