"""The promises of the wheel: it holds every file of the packages and nothing else, and the app runs from it,
away from the checkout, with its studies and shipped models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from helpers import ROOT
from helpers.serving import served

PACKAGES = ("resnet_hub", "training")
SOURCES = ("app.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")


def run(*command: str | Path, folder: Path) -> str:
    env = os.environ | {"PYTHONPATH": ""}  # which would lead back to the checkout
    words = [*map(str, command)]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools would pack what an earlier build left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    quiet = ("--quiet", "--disable-pip-version-check")
    flags = ("--no-deps", "--no-build-isolation", "--wheel-dir", "dist")
    run(sys.executable, "-m", "pip", "wheel", ".", *quiet, *flags, folder=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        file.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert expected - packed == set()
    assert {name for name in packed - expected if ".dist-info/" not in name} == {"app.py"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Python of an environment with the wheel and this one's dependencies, but without the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    ours = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    zipfile.ZipFile(wheel).extractall(ours)  # what an installer does with a wheel of pure Python
    # A folder named in a .pth file is searched, but its own .pth files (an editable install's) are not read.
    theirs = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    Path(ours, "dependencies.pth").write_text("\n".join(theirs) + "\n")
    return python


def test_the_installed_package_is_the_one_imported(installed, tmp_path):
    shown = run(installed, "-c", "import resnet_hub, training; print(resnet_hub.__file__)", folder=tmp_path)
    assert Path(shown.strip()).is_relative_to(installed.parents[1])


def event_answer(address: str, event: int, data: list) -> list:
    """What the page's event of this number answers."""
    body = json.dumps({"fn_index": event, "data": data, "session_hash": "wheel"}).encode()
    urlopen(Request(f"{address}gradio_api/queue/join", body, {"Content-Type": "application/json"}))
    for line in urlopen(f"{address}gradio_api/queue/data?session_hash=wheel", timeout=60):
        message = json.loads(line.removeprefix(b"data: ") if line.strip() else "{}")
        if message.get("msg") == "process_completed":
            return message["output"]["data"]
    raise AssertionError("no answer")


def test_the_app_runs_from_the_wheel_with_its_studies_and_models(installed, tmp_path):
    with served([str(installed), "-m", "app"], tmp_path, cwd=tmp_path) as address:
        config = json.load(urlopen(f"{address}config"))
        (panel,) = (c["id"] for c in config["components"] if c["props"].get("elem_id") == "studies")
        events = (d for d in config["dependencies"] if panel in d["outputs"])
        event = next(d for d in events if d["targets"][0][1] == "select")
        studies = event_answer(address, event["id"], ["en", *[None] * (len(event["inputs"]) - 1)])[0]
        assert studies.count('data-study="') >= 10 and studies.count("<svg") == 2  # all named, one shown
        assert "resnet20_cifar10" in json.dumps(config) and "resnet8_cifar10" in json.dumps(config)
        assert ".fine-print" in config["css"]  # of style.css
