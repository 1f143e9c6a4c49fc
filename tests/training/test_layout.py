"""The promises about how data sets lie in folders: what is used, what is left out, what is refused and why.
Each case is one that people report."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import noise_image
from matplotlib.font_manager import get_font_names
from PIL import Image

from training import cifar, evaluate, transfer
from training import command as run_command
from training import data as data_module
from training.data import (
    check_parts,
    find_data,
    in_memory,
    load_data,
    split_held_out,
    val_for_test,
    whole_image,
)
from training.layout import DataError, left_out_words
from training.unknown import UnknownSet, check_unknown, unknown_set

VIEW = whole_image((8, 8))
KINDS = {"circle": noise_image(0, 90), "line": noise_image(80, 170), "square": noise_image(160, 256)}
QUICK = ["--epochs", "1", "--mode", "feature", "--weights", "resnet20_cifar10", "--device", "cpu"]


def line() -> Image.Image:
    return KINDS["line"](np.random.default_rng(1))


def folder(root: Path, count: int, classes=("circle", "line", "square"), suffix: str = "png") -> Path:
    draw = np.random.default_rng(zlib.crc32(root.name.encode()))
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            KINDS.get(name, noise_image(0, 256))(draw).save(root / name / f"p{i:03}.{suffix}")
    return root


def counts(data) -> list[int]:
    return torch.bincount(data.labels, minlength=len(data.classes)).tolist()


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        check_parts(str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("parts", "said"),
    [(("train", "val"), True), (("train", "val", "test"), False), (("train", "test"), False), ((), False)],
)
def test_it_is_known_whether_the_val_part_stands_for_the_test(tmp_path, parts, said):
    for name in parts or ("",):
        folder(tmp_path / name, 2)
    assert val_for_test(str(tmp_path)) is said


@pytest.mark.parametrize(
    ("train", "val", "test"), [("Training", "Validation", "Testing"), ("train", "dev", "TEST")]
)
def test_all_three_parts_are_used_whatever_they_are_called(tmp_path, train, val, test):
    for name, count in ((train, 5), (val, 3), (test, 2)):
        folder(tmp_path / name, count)
    check_parts(str(tmp_path))
    trained, held_out = run_command.find_images_to_train(str(tmp_path), None, 0, VIEW)
    tested = find_data(str(tmp_path), "test", VIEW)
    assert [counts(each) for each in (trained, held_out, tested)] == [[5] * 3, [3] * 3, [2] * 3]
    assert tested.classes == ("circle", "line", "square")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: [folder(d / n, 3) for n in ("Fold1", "Fold2")], "the same folders (circle, line, square)"),
        (lambda d: folder(d / "photos", 3), "one level too deep; use"),
        (lambda d: [folder(d / "set" / n, 3) for n in ("train", "test")], "with the parts in it; use"),
        (lambda d: folder(d, 3, ["cat"]), "holds one class, cat"),
        (lambda d: (folder(d, 3), folder(d / "test", 3)), "beside test; move them into"),
        (lambda d: [folder(d / n, 3) for n in ("train", "Training")], "are both the train part"),
        (lambda d: folder(d / "test", 3), "no train part"),
        (lambda d: line().save(d / "1.png"), "its 1 images lie in no sub-folder"),
        (lambda d: (folder(d, 4), folder(d, 1, ["star"])), "star has one image; a class needs two"),
        (lambda d: (folder(d, 4), (d / "star").mkdir()), "holds no image of star; put some there, or remove"),
    ],
)  # fmt: skip
def test_what_is_no_set_of_classes_is_refused_with_the_reason(tmp_path, make, said):
    make(tmp_path)
    assert said in refusal(tmp_path)


def test_a_number_to_hold_out_beside_a_validation_part_is_refused(tmp_path):
    for name in ("train", "val", "test"):
        folder(tmp_path / name, 4)
    with pytest.raises(DataError, match=r"--held-out 5 has no effect: .*val.* is the validation set"):
        run_command.find_images_to_train(str(tmp_path), 5, 0, VIEW)


def test_a_class_without_a_training_image_is_refused(tmp_path):
    folder(tmp_path / "train", 4)
    folder(tmp_path / "test", 2)
    folder(tmp_path / "test", 2, ["star"])
    (tmp_path / "train" / "star").mkdir()
    (tmp_path / "train" / "star" / "1.txt").touch()
    said = refusal(tmp_path)
    assert "train holds no image of star" in said and "1.txt" in said


def test_class_names_of_a_mac_are_those_of_other_systems(tmp_path):
    """Unpacked on Linux, "か" + voicing mark and "が" are two names."""
    decomposed, composed = "か\u3099", "が"
    folder(tmp_path / "train", 4, [decomposed, "あ", "き"])
    folder(tmp_path / "test", 2, [composed, "あ", "き"])
    check_parts(str(tmp_path))
    parts = [find_data(str(tmp_path), part, VIEW) for part in ("train", "test")]
    assert [part.classes for part in parts] == [("あ", "が", "き")] * 2
    for part, name in zip(parts, (decomposed, composed), strict=True):
        folders = {(file.parent.name, int(i)) for file, i in zip(part.files, part.labels, strict=True)}
        assert folders == {("あ", 0), (name, 1), ("き", 2)}
    folder(tmp_path / "train", 4, [composed])
    assert "holds two folders for が, whose names differ in how Unicode writes them" in refusal(tmp_path)


def test_what_lies_in_an_empty_class_of_a_mac_is_named(tmp_path):
    folder(tmp_path, 4)
    (tmp_path / "か\u3099").mkdir()
    (tmp_path / "か\u3099" / "1.txt").touch()
    said = refusal(tmp_path)
    assert "holds no image of が" in said and "1.txt" in said


def test_a_name_that_is_no_text_is_one_line(tmp_path):
    folder(tmp_path, 4)
    os.rename(os.fsencode(tmp_path / "line"), os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH104
    assert "has a name that is not readable text; rename it" in refusal(tmp_path)


def test_many_classes_that_differ_are_cut_with_a_count(tmp_path):
    for part, names in (("train", range(60)), ("test", range(2))):
        for i in names:
            (tmp_path / part / f"c{i:02}").mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / f"c{i:02}" / "1.png")
    said = refusal(tmp_path)
    assert "and 50 more" in said and len(said) < 400


def test_hidden_files_and_copies_of_notebooks_are_not_trained_on(tmp_path):
    folder(tmp_path, 10)
    shutil.copytree(tmp_path / "circle", tmp_path / ".ipynb_checkpoints")
    shutil.copytree(tmp_path / "circle", tmp_path / "circle" / ".ipynb_checkpoints")
    (tmp_path / "__MACOSX" / "circle").mkdir(parents=True)
    (tmp_path / "test").mkdir()
    check_parts(str(tmp_path))
    parts = [find_data(str(tmp_path), part, VIEW) for part in ("train", "test")]
    assert parts[0].classes == ("circle", "line", "square")
    assert [sum(each) for each in zip(*map(counts, parts), strict=True)] == [10, 10, 10]


def test_every_suffix_that_predict_reads_is_used_and_others_are_counted(tmp_path):
    folder(tmp_path, 4)
    for suffix in ("avif", "jfif", "jpe", "mpo", "pgm", "ppm", "JPEG"):
        image = line()
        kind = {"jfif": "jpeg", "jpe": "jpeg", "mpo": "jpeg", "JPEG": "jpeg", "pgm": "ppm"}.get(
            suffix, suffix
        )
        image.convert("L" if suffix == "pgm" else "RGB").save(tmp_path / "line" / f"x.{suffix}", kind)
    for name in ("a.txt", "b.txt", "c.json", "Thumbs.db"):
        (tmp_path / "line" / name).touch()
    found = [in_memory(find_data(str(tmp_path), part, VIEW)) for part in ("train", "test")]
    assert sum(counts(each)[1] for each in found) == 11
    said = left_out_words(tmp_path)
    assert "2 .txt, 1 .json" in said and "Thumbs" not in said


def test_nested_and_linked_folders_count_to_the_class(tmp_path):
    data = folder(tmp_path / "d", 4)
    folder(tmp_path / "far", 3, ["more"])
    (data / "line" / "2023").mkdir()
    line().save(data / "line" / "2023" / "1.png")
    (data / "line" / "linked").symlink_to(tmp_path / "far" / "more")
    parts = [find_data(str(data), part, VIEW) for part in ("train", "test")]
    assert [sum(each) for each in zip(*map(counts, parts), strict=True)] == [4, 8, 4]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_small_sets_have_every_class_in_both_parts(tmp_path, count):
    root = folder(tmp_path / "d", count)
    chosen = (name for i in range(1000) if zlib.crc32((name := f"all/{i}.png").encode()) % 7 == 0)
    for name in itertools.islice(chosen, count):  # a class whose every image would be for the test
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    check_parts(str(root))
    for part in ("train", "test"):
        found = counts(find_data(str(root), part, VIEW))
        assert len(found) == 4 and min(found) > 0


def test_the_only_image_of_a_class_is_not_held_out():
    labels = torch.tensor([0] * 20 + [1] + [2] * 20)
    for seed in range(20):
        for held_out in (4, 20, 38):
            kept, held = split_held_out(labels, held_out, seed)
            assert len(held) == held_out and set(labels[kept].tolist()) == {0, 1, 2}


def test_class_names_alike_in_their_first_200_characters_do_not_collide(tmp_path):
    names = [f"{'x' * 220}{letter}" for letter in "ab"]
    data = folder(tmp_path / "d", 6, names)
    words = ["--data", str(data), "--out", str(tmp_path / "run"), *QUICK]
    assert transfer.main(words) == 0
    from resnet_hub import from_pretrained

    assert from_pretrained(tmp_path / "run").labels == tuple(names)


def test_a_batch_of_one_image_is_one_line_that_says_what_to_do(tmp_path, capsys):
    for part in ("train", "test"):
        folder(tmp_path / "d" / part, 3)
    words = ["resnet18", "--data", str(tmp_path / "d"), "--out", str(tmp_path / "run"), "--batch-size", "1"]
    assert cifar.main([*words, "--epochs", "1", "--device", "cpu", "--precision", "fp32"]) == 2
    assert "give a larger --batch-size" in capsys.readouterr().err.splitlines()[-1]


# Evaluation


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """(data with train/ and test/, run)"""
    root = tmp_path_factory.mktemp("trained")
    folder(root / "d" / "train", 12)
    folder(root / "d" / "test", 14)
    assert transfer.main(["--data", str(root / "d"), "--out", str(root / "run"), *QUICK]) == 0
    return root / "d", root / "run"


def measured(run: Path, data: Path, capsys) -> tuple[int, dict, str]:
    capsys.readouterr()
    code = evaluate.main([str(run), "--data", str(data), "--json", "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_evaluation_measures_the_whole_of_the_folder_it_is_given(trained, capsys):
    data, run = trained
    by_set, by_part = (measured(run, where, capsys) for where in (data, data / "test"))
    assert by_set[0] == by_part[0] == 0 and by_set[1]["images"] == by_part[1]["images"] == 42
    assert by_set[1]["top1"] == by_part[1]["top1"]
    assert "measured 42 images: all of" in by_part[2]


def test_other_images_are_measured_but_not_compared_with_the_card(trained, tmp_path, capsys):
    _, run = trained
    other = folder(tmp_path / "elsewhere", 5, ["square", "line"])
    code, results, said = measured(run, other, capsys)
    assert code == 0 and results["images"] == 10 and results["differs_from_card"] == {}
    assert "not compared with the card, whose figures are of 42 other images" in said


def test_a_set_without_parts_is_measured_on_what_training_left(tmp_path, capsys):
    data = folder(tmp_path / "d", 12)
    assert transfer.main(["--data", str(data), "--out", str(tmp_path / "run"), *QUICK]) == 0
    left = len(find_data(str(data), "test", VIEW))
    code, results, said = measured(tmp_path / "run", data, capsys)
    assert code == 0 and results["images"] == left < 36
    assert "of the 36 in" in said


def test_it_is_known_by_its_card_alone_also_where_a_file_is_broken(tmp_path, capsys):
    data = folder(tmp_path / "d", 12)
    find_data(str(data), "test", VIEW).files[0].write_bytes(b"no image")
    words = ["--data", str(data), "--data-name", "shapes", "--out", str(tmp_path / "run"), *QUICK]
    assert transfer.main(words) == 0
    code, results, said = measured(tmp_path / "run", data, capsys)
    assert code == 0 and results["images"] == len(find_data(str(data), "test", VIEW)) - 1
    assert "that training left for the test" in said


def test_new_images_of_which_as_many_would_be_left_are_all_measured(tmp_path, capsys):
    data, other = folder(tmp_path / "d", 5), folder(tmp_path / "other", 5)
    assert transfer.main(["--data", str(data), "--out", str(tmp_path / "run"), *QUICK]) == 0
    assert len(find_data(str(data), "test", VIEW)) == len(find_data(str(other), "test", VIEW))
    code, results, said = measured(tmp_path / "run", other, capsys)
    assert code == 0 and results["images"] == 15 and "all of" in said


def test_images_that_are_learned_are_no_unknown_ones(tmp_path, capsys):
    data = folder(tmp_path / "d", 30)
    words = ["--data", str(data), "--held-out", "20", "--out", str(tmp_path / "run"), *QUICK]
    assert transfer.main([*words, "--unknown", str(data / "circle")]) == 2
    assert "30 of its 30 images belong to --data" in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_directory_among_the_classes_is_refused_and_not_made(tmp_path, capsys, monkeypatch):
    data = folder(tmp_path / "d", 5)
    monkeypatch.chdir(data)
    assert transfer.main(["--data", ".", "--out", "run", *QUICK]) == 2
    assert "where its folder would be taken for a class" in capsys.readouterr().err
    assert sorted(each.name for each in data.iterdir()) == ["circle", "line", "square"]


def test_two_images_a_class_are_enough(tmp_path, capsys):
    """One to learn from and one to measure on; none to hold out."""
    data = folder(tmp_path / "d", 2)
    assert transfer.main(["--data", str(data), "--out", str(tmp_path / "run"), *QUICK]) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["train_images"], facts["held_out_images"], facts["results"]["images"]) == (3, 0, 3)


def test_class_names_that_look_like_formulas_and_japanese_ones_end_in_pictures(tmp_path, recwarn):
    data = folder(tmp_path / "d", 6, ["$5_$10", "蟻"])
    assert transfer.main(["--data", str(data), "--out", str(tmp_path / "run"), *QUICK]) == 0
    assert (tmp_path / "run" / "top_losses.png").stat().st_size > 1000
    if "Noto Sans CJK JP" not in get_font_names():
        pytest.skip("needs fonts-noto-cjk")
    assert not [each for each in recwarn if "Glyph" in str(each.message)]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["a/images", "b/images"], "two sets are called 'images'"),
        (["x=a/images:antz"], "--unknown x: a/images has no folder antz"),
        (["a/empty"], "--unknown empty: a/empty holds no image"),
    ],
)
def test_unknown_sets_that_cannot_be_measured_are_refused_before_training(tmp_path, monkeypatch, sets, said):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        folder(tmp_path / name, 1, ["images"])
    (tmp_path / "a" / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        check_unknown([unknown_set(text) for text in sets])


def test_unknown_sets_are_folders_and_called_like_them(tmp_path, monkeypatch):
    monkeypatch.chdir(folder(tmp_path / "bees", 1, ["images", "others"]))
    assert unknown_set(".").what == "bees"
    assert unknown_set("images") == UnknownSet("images", Path("images"), ())
    assert unknown_set("x=.:images,others") == UnknownSet("x", Path(), ("images", "others"))
    folder(tmp_path / "bees", 1, ["か\u3099", "images/2026"])
    deep, composed = unknown_set(".:images/2026"), unknown_set(".:が")
    assert [file.parent.name for file in (*deep.files(), *composed.files())] == ["2026", "か\u3099"]
    for text in ("nowhere", "images,others", "x=", ":images"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a folder"):
            unknown_set(text)


def test_images_that_are_measured_on_are_not_unknown(trained, capsys):
    data, run = trained
    before = (run / "run.json").read_bytes()
    for more in ([], ["--write"]):
        words = [str(run), "--data", str(data), "--unknown", f"x={data}/test/circle", *more]
        assert evaluate.main([*words, "--device", "cpu"]) == 2
        assert "--unknown x" in capsys.readouterr().err.splitlines()[-1]
    assert (run / "run.json").read_bytes() == before


def test_classes_that_the_model_does_not_have_are_named(trained, tmp_path, capsys):
    _, run = trained
    other = folder(tmp_path / "d", 3, ["line", "star"])
    assert evaluate.main([str(run), "--data", str(other), "--device", "cpu"]) == 2
    assert "'star'" in capsys.readouterr().err.splitlines()[-1]


def test_a_broken_file_in_a_streamed_folder_is_left_out_by_name(tmp_path, monkeypatch, capfd):
    data = tmp_path / "d"
    for part, count in (("train", 8), ("val", 3), ("test", 3)):
        folder(data / part, count)
    (data / "train" / "circle" / "p003.png").write_bytes(b"x")
    monkeypatch.setattr(data_module, "IN_MEMORY_BYTES", 0)
    assert transfer.main(["--data", str(data), "--out", str(tmp_path / "run"), *QUICK]) == 0
    assert "left out" in (said := capfd.readouterr().err) and "p003.png" in said
    assert json.loads((tmp_path / "run" / "run.json").read_text())["train_images"] == 23
    assert len(load_data(str(data), "test", VIEW)) == 9
