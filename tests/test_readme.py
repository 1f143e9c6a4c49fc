"""The promises of README.md and README.ja.md: figures that are the cards', commands and flags that exist,
code that runs, and both languages saying the same."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from collections import Counter

import pytest
from helpers import ROOT

from resnet_hub import from_pretrained
from resnet_hub.hub.card import card_figures
from resnet_hub.hub.fetch import SHIPPED, shipped_names

READMES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md")}
CAT = str(ROOT / "resnet_hub" / "examples" / "cat.jpg")


def table_row(text: str, name: str) -> list[str]:
    (row,) = (line for line in text.splitlines() if line.startswith(f"| [`{name}`]"))
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_checkpoint_is_what_its_card_and_the_readmes_say(name):
    model = from_pretrained(name)
    stated = card_figures((SHIPPED / name / "README.md").read_text(encoding="utf-8"))
    assert stated["temperature"] == model.calibration.temperature
    assert stated["energy_threshold"] == model.calibration.energy_threshold
    cats = {"cat", "tabby", "Egyptian cat"} & {*model.labels}
    if cats and name != "plain20_cifar10":  # it is right about four of five, and takes this cat for a dog
        assert model.predict(CAT)[0][0][0] in cats
    assert model.revision == "shipped"
    parameters = sum(p.numel() for p in model.parameters())
    for text in READMES.values():
        row = " ".join(table_row(text, name))
        assert f"{parameters:,} " in row.replace("（", " ")
        assert f"{stated['top1']:.2%}".replace("%", " %") in row
        assert f"{stated['top1_flip_tta']:.2%}".replace("%", " %") in row


def code_blocks(text: str) -> list[str]:
    """The code of a README without its comments and blank lines."""
    blocks = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
    return [
        "\n".join(
            re.sub(r"\s+#.*", "", line)
            for line in block.splitlines()
            if line.strip() and not line.startswith("#")
        )
        for block in blocks
    ]


def test_both_languages_show_the_same_code_and_accuracies():
    english, japanese = READMES.values()
    assert set(code_blocks(japanese)) == set(code_blocks(english))
    percents = [Counter(re.findall(r"\d+\.\d+ %", text)) for text in (english, japanese)]
    assert percents[0].keys() == percents[1].keys()


def test_the_first_python_block_runs(tmp_path, monkeypatch):
    block = next(b for b in code_blocks(READMES["README.md"]) if b.startswith("import resnet_hub"))
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(CAT, tmp_path / "photo.jpg")
    exec(block, {})


def commands() -> list[tuple[str, str]]:
    """(module, its row) of the table of commands; two commands may share a row."""
    rows = [line for line in READMES["README.md"].splitlines() if line.startswith("| `python ")]
    found = []
    for row in rows:
        for shown in re.findall(r"`python (?:-m )?([^`]+)`", row.split(" | ")[0]):
            found.append((shown.split()[0].removesuffix(".py"), shown))
    return found


@pytest.mark.parametrize(("module", "shown"), commands(), ids=[module for module, _ in commands()])
def test_every_flag_of_the_table_is_in_the_command_s_help(module, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit):
        runpy.run_module(module, run_name="__main__")
    said = capsys.readouterr().out
    for flag in re.findall(r"--[a-z][a-z-]*", shown):
        assert flag in said
    for names in re.findall(r"--recipe ([\w\\|]+)", shown):
        assert set(names.replace("\\", "").split("|")) <= set(re.findall(r"\w+", said))


def test_the_tree_names_every_room_and_every_module_beside_them():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = guide.split("## Repository layout")[1].split("```")[1]
    entries = [
        *(path for name in ("resnet_hub", "training") for path in (ROOT / name).iterdir()),
        *(ROOT / name for name in ("app.py", "requirements.txt", "tests")),
    ]
    missing = [
        path.relative_to(ROOT).as_posix()
        for path in entries
        if not path.name.startswith(("_", ".", "py.typed")) and path.name not in tree
    ]
    assert not missing
