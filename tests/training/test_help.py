"""`--help` of the trainers: the flags people need stand on top, and every flag stands in one section."""

from __future__ import annotations

import re

import pytest

from resnet_hub import create_model
from training import cifar, transfer

TOP = "the flags most people need:"


def sections(command, capsys) -> dict[str, list[str]]:
    """{title: the flags below it} of what --help prints."""
    with pytest.raises(SystemExit):
        command.parse_arguments(["--help"])
    found: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if re.fullmatch(r"\S.*:", line):
            flags = found.setdefault(line, [])
        elif match := re.match(r"  ((?:-h, )?--[\w-]+|[A-Z]+\b)", line):
            flags.append(match[1])
    return found


@pytest.mark.parametrize(("command", "needed"), [(cifar, "MODEL"), (transfer, "--weights")])
def test_ten_flags_and_help_stand_on_top_and_none_is_without_a_section(command, needed, capsys):
    found = sections(command, capsys)
    assert next(iter(found)) == TOP and len(found[TOP]) == 11
    assert {needed, "--data", "--out", "--epochs", "--resume"} <= set(found[TOP])
    assert "further flags:" not in found
    flags = [flag for listed in found.values() for flag in listed]
    assert len(flags) == len(set(flags)) > 40


def test_rate_alone_lists_the_layers_of_the_weights(tmp_path, capsys):
    create_model("resnet20_cifar").save_pretrained(tmp_path / "net")
    words = ["--weights", str(tmp_path / "net"), "--data", "d", "--out", str(tmp_path / "run"), "--rate"]
    assert transfer.main(words) == 0
    shown = capsys.readouterr().out
    names = [line.split()[0] for line in shown.splitlines() if line.endswith(" parameters")]
    assert names == ["conv1", "bn1", "layer1", "layer2", "layer3", "fc"]
    assert re.search(r"conv1 +432 parameters", shown) and not (tmp_path / "run").exists()


def test_a_rate_for_a_layer_that_is_not_there_names_those_that_are():
    from resnet_hub.lab.fine_tuning import share_of_each

    names = [name for name, _ in create_model("resnet20_cifar").named_parameters()]
    with pytest.raises(ValueError, match="the layers are conv1, bn1, layer1, layer2, layer3, fc"):
        share_of_each(names, (("layer9", 1.0), ("", 0.0)))
