"""The promises every command makes: `--help` ends well, what it cannot use is one line and status 2.

The list of commands is read from the sources, so a new one is asked the same.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest
from helpers import ROOT

SOURCES = [ROOT / "app.py", *(ROOT / "resnet_hub").rglob("*.py"), *(ROOT / "training").rglob("*.py")]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("__init__", "__main__"))


COMMANDS = sorted(module_of(path) for path in SOURCES if 'if __name__ == "__main__"' in path.read_text())
BAD_INPUT = {
    "app": ["--port", "70000"],
    "resnet_hub.convert": ["no/such/file.pth", "out", "--to", "onnx"],
    "resnet_hub.family": ["--json", "nonsense"],
    "resnet_hub.geometry": ["resnet50", "--input", "zero"],
    "resnet_hub.parity": ["resnet49"],
    "resnet_hub.predict": ["photo.jpg", "--model", "no_such_model"],
    "resnet_hub.ui.bench": ["--runs", "0"],
    "training.bench": ["resnet49"],
    "training.cifar": ["resnet20_cifar", "--data", "/no/such/folder", "--out", "{folder}/run"],
    "training.evaluate": ["no_such_model", "--data", "/no/such/folder"],
    "training.publish": ["/no/such/run", "--repo-id", "owner/name", "--dry-run"],
    "training.quantize": ["no_such_model", "--data", "/no/such/folder"],
    "training.scale": ["resnet49"],
    "training.study": ["nonsense", "--data", "/no/such/folder"],
    "training.transfer": ["--weights", "no_such", "--data", "/no/such", "--out", "{folder}/run"],
}


def status_of(module: str, words: list[str], monkeypatch) -> int:
    """The exit status of `python -m module words`, run in this process."""
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of a module that is there already
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    return end.value.code


@pytest.mark.parametrize("module", COMMANDS)
def test_help_says_what_it_does_and_ends_well(module, monkeypatch, capsys):
    assert status_of(module, ["--help"], monkeypatch) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: ") and not said.err


@pytest.mark.parametrize("module", COMMANDS)
def test_what_it_cannot_use_is_one_line_and_status_2(module, monkeypatch, capsys, tmp_path):
    words = [word.format(folder=tmp_path) for word in BAD_INPUT[module]]
    assert status_of(module, words, monkeypatch) == 2
    said = capsys.readouterr()
    assert not said.out and "Traceback" not in said.err
    assert "error: " in said.err.splitlines()[-1] or said.err.splitlines()[-1].startswith(f"{module}: ")


# Who imports whom


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def starts(names: set[str], package: str) -> list[str]:
    return [name for name in names if name == package or name.startswith(package + ".")]


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_run_one_way(path):
    names, module = imports_of(path), module_of(path)
    is_page = module == "app" or module.startswith("resnet_hub.ui.")
    assert is_page or not starts(names, "gradio")
    assert module.startswith("training.") or not starts(names, "training")
    assert not starts(names, "matplotlib.pyplot")  # figures without its global state
    assert is_page or not starts(names, "resnet_hub.ui")
