"""The static page's pure functions, its files and its runtime; no browser."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.loopback_hub import TOKEN

from resnet_hub.errors import Refusal
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.statement import SENTENCES, statement
from resnet_hub.web import runtime, write


def node() -> str:
    """Node, or the one that Playwright brings."""
    import playwright

    return shutil.which("node") or str(Path(playwright.__file__).parent / "driver" / "node")


def test_node_finds_the_page_s_pure_functions_right():
    command = [node(), "--test", "tests/web/page.test.mjs"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout


def test_push_makes_a_static_space(hub, monkeypatch, tmp_path):
    def page(source: str, out: Path) -> None:
        out.mkdir()
        (out / "index.html").write_text("a page")

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(write, "write_model_page", page)
    assert write.main(["resnet20_cifar10", str(tmp_path / "page"), "--push", "owner/page"]) == 0
    assert hub.files("owner/page", "spaces")["index.html"] == b"a page"
    assert hub.wishes[-1]["sdk"] == "static"


def test_the_page_says_what_python_says():
    """Its sentences are the app's, and the app's are the library's."""
    found = write.sentences()
    assert {kind: both["en"] for kind, both in found.items()} == SENTENCES
    said = found["firm"]["en"].replace("{first}", "a cat")
    assert said == statement("firm", [("cat", 0.9)])


def test_without_a_network_the_runtime_is_refused_with_what_to_do(monkeypatch, tmp_path, closed_port):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtime, "SECONDS", 1)
    monkeypatch.setattr(runtime, "TARBALL", f"http://127.0.0.1:{closed_port}/ort.tgz")
    with pytest.raises(Refusal, match=r"cannot be downloaded.*needs it once.*unpack its dist") as caught:
        runtime.runtime_files()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_tarball_is_refused():
    with pytest.raises(Refusal, match="has changed"):
        runtime.unpacked(b"another")


def test_a_damaged_cache_is_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime.cache_folder().mkdir(parents=True)
    for name in runtime.FILES:
        (runtime.cache_folder() / name).write_bytes(b"cut")
    assert not runtime.is_cached()


@pytest.mark.parametrize("commit", [None, "0123456789abcdef0123456789abcdef01234567"])
def test_the_page_names_a_commit_and_its_repository_or_the_file_s_hash(photo_file, commit):
    file = OnnxFile(photo_file)
    assert file.commit is None  # shipped with the package
    file.commit, file.made_from = commit, "runs/mine"  # a folder, unless there is a commit
    facts = write.model_facts(file, write.repository(file))
    digest = hashlib.sha256(photo_file.read_bytes()).hexdigest()
    assert facts["revision"] == (commit[:12] if commit else f"sha256:{digest[:12]}")
    assert facts["link"] == ("https://huggingface.co/runs/mine" if commit else None)
    assert facts["made_from"] == ("runs/mine" if commit else "mine")


@pytest.mark.parametrize(("out", "said"), [(".", "is not empty"), ("mine.txt", "is a file")])
def test_what_is_there_is_kept_and_refused_before_the_work(monkeypatch, tmp_path, capsys, out, said):
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.setattr("resnet_hub.interop.convert.load", None)
    assert write.main(["resnet20_cifar10", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
