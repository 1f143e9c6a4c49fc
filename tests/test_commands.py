"""What every command promises: `--help` exits with 0, bad input is one line and 2, `resnet-hub` offers it.

The list of commands is read from the sources, so a new one is tested as well.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import cycle
from pathlib import Path

import pytest
from helpers import ROOT

import resnet_hub
from resnet_hub import cli
from resnet_hub.predict import DEFAULT_MODEL

SOURCES = [ROOT / "app.py", *(ROOT / "resnet_hub").rglob("*.py"), *(ROOT / "training").rglob("*.py")]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("__init__", "__main__"))


COMMANDS = sorted(module_of(path) for path in SOURCES if 'if __name__ == "__main__"' in path.read_text())
BAD_INPUT = {
    "app": ["--port", "70000"],
    "resnet_hub.cli": ["nonsense"],
    "resnet_hub.convert": ["no/such/file.pth", "out", "--to", "onnx"],
    "resnet_hub.family": ["--json", "nonsense"],
    "resnet_hub.geometry": ["resnet50", "--input", "zero"],
    "resnet_hub.parity": ["resnet49"],
    "resnet_hub.predict": ["photo.jpg", "--model", "no_such_model"],
    "resnet_hub.web": ["no_such_file.onnx", "{folder}/page"],
    "training.ablation": ["no_such_model", "--data", "/no/such/folder"],
    "resnet_hub.bench": ["--runs", "0"],
    "training.bench": ["resnet49"],
    "training.check": ["/no/such/folder"],
    "training.cifar": ["resnet20_cifar", "--data", "/no/such/folder", "--out", "{folder}/run"],
    "training.evaluate": ["no_such_model", "--data", "/no/such/folder"],
    "training.film": ["--data", "/no/such/folder"],
    "training.gpu": ["resnet49"],
    "training.publish": ["/no/such/run", "--repo-id", "owner/name", "--dry-run"],
    "training.quantize": ["no_such_model", "--data", "/no/such/folder"],
    "training.scale": ["resnet49"],
    "training.study": ["nonsense", "--data", "/no/such/folder"],
    "training.transfer": ["--weights", "no_such", "--data", "/no/such", "--out", "{folder}/run"],
}

NEEDS_TORCH = {
    "resnet_hub.convert": ["resnet20_cifar10", "{folder}/out", "--to", "timm"],
    "resnet_hub.family": ["--measure"],
    "resnet_hub.parity": ["resnet20_cifar"],
    "resnet_hub.predict": ["{photo}"],
    "resnet_hub.web": ["resnet20_cifar10", "{folder}/page"],
}
WITHOUT_TORCH = {"app", "resnet_hub.bench", "resnet_hub.cli", "resnet_hub.geometry"}  # or late


def status_of(module: str, words: list[str], monkeypatch) -> int:
    """The exit status of `python -m module words`, run in this process."""
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of a module that is there already
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    return end.value.code


def test_who_reads_one_line_only_gets_no_error():
    words = [sys.executable, "-m", "resnet_hub.geometry", "resnet152"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as command:
        command.stdout.close()  # before anything is written
        assert command.stderr.read() == b"" and command.wait() == 141


@pytest.mark.parametrize("module", COMMANDS)
def test_help_exits_with_0(module, monkeypatch, capsys):
    assert status_of(module, ["--help"], monkeypatch) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: ") and not said.err


@pytest.mark.parametrize("module", COMMANDS)
def test_bad_input_is_one_line_and_status_2(module, monkeypatch, capsys, tmp_path):
    words = [word.format(folder=tmp_path) for word in BAD_INPUT[module]]
    assert status_of(module, words, monkeypatch) == 2
    said = capsys.readouterr()
    assert not said.out and "Traceback" not in said.err
    assert "error: " in said.err.splitlines()[-1] or said.err.splitlines()[-1].startswith(f"{module}: ")


ENDING = """
import os, signal, sys
class Ending:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Ending())
"""


@pytest.mark.parametrize(
    ("module", "signal"),
    zip(sorted(set(COMMANDS) - WITHOUT_TORCH), cycle(["SIGTERM", "SIGINT"]), strict=False),
)
def test_a_signal_while_torch_is_imported_ends_with_a_sentence(module, signal, tmp_path, photo):
    """Where a command's imports begin; the words are such that torch is needed."""
    (tmp_path / "sitecustomize.py").write_text(ENDING.format(name="torch", signal=signal))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    }
    words = [word.format(folder=tmp_path, photo=photo) for word in NEEDS_TORCH.get(module, BAD_INPUT[module])]
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr and "Traceback" not in done.stderr


# One command


@pytest.fixture
def resnet_hub_command(monkeypatch):
    """The function behind the installed `resnet-hub`, run with words as a shell would run it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = scripts["resnet-hub"].partition(":")

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/resnet-hub", *words])
        try:
            return getattr(import_module(module), name)()
        except SystemExit as end:
            return end.code

    return run


def test_resnet_hub_offers_every_command():
    offered = [module.removesuffix(".__main__") for module, _ in cli.COMMANDS.values()]
    assert sorted(offered) == sorted(set(COMMANDS) - {"resnet_hub.cli"})


def test_resnet_hub_lists_its_commands(resnet_hub_command, capsys):
    assert resnet_hub_command("--help") == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and does in said for name, (_, does) in cli.COMMANDS.items())


@pytest.mark.parametrize(("name", "module"), [(name, module) for name, (module, _) in cli.COMMANDS.items()])
def test_a_subcommand_has_the_help_of_its_module_under_its_own_name(
    name, module, resnet_hub_command, monkeypatch, capsys
):
    assert resnet_hub_command(name, "--help") == 0
    usage, said = f"usage: resnet-hub {name} ", capsys.readouterr().out
    assert said.startswith(usage)
    assert status_of(module.removesuffix(".__main__"), ["--help"], monkeypatch) == 0
    words, its_words = said.removeprefix(usage).split(), capsys.readouterr().out.split()
    assert its_words[-len(words) :] == words  # only the name and the indentation differ


def test_a_subcommand_answers_as_its_module_does(resnet_hub_command, photo, capsys):
    assert resnet_hub_command("predict", str(photo), "--top-k", "2", "--json") == 0
    (answer,) = json.loads(capsys.readouterr().out)["predictions"]
    expected = resnet_hub.from_pretrained(DEFAULT_MODEL).predict(photo, top_k=2)[0]
    assert [(each["label"], each["probability"]) for each in answer["top"]] == [
        (label, pytest.approx(share, abs=1e-5)) for label, share in expected
    ]


def test_a_subcommand_that_fails_names_itself(resnet_hub_command, capsys):
    assert resnet_hub_command("predict", "photo.jpg", "--model", "no_such_model") == 2
    assert capsys.readouterr().err.startswith("resnet-hub predict: ")


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["geometry", "resnet18"]], ids=" ".join)
def test_a_command_that_needs_no_torch_does_not_wait_for_it(words):
    script = f"""
import sys
from resnet_hub.cli import main
try:
    main({words})
finally:
    print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0 and ran.stdout.endswith("False\n"), ran.stderr
