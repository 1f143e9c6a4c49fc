"""Images with any number of labels, from a table. Oracles: average precision and thresholds worked out by
hand, torch's own losses, the words of the card and of the page."""

from __future__ import annotations

import csv
import json
import math
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import ROOT
from PIL import Image
from torch.nn import functional as F

from resnet_hub import create_model, from_pretrained, predict
from resnet_hub.errors import Refusal
from resnet_hub.hub.load import read_calibration
from resnet_hub.models.calibration import Calibration
from resnet_hub.statement import statement
from training import cifar, evaluate, multilabel, publish, transfer
from training.data import DataError, split_held_out, val_for_test, whole_image, with_classes
from training.label_table import read_table
from training.loss import Loss
from training.recipes import Recipe

QUICK = ["--epochs", "2", "--batch-size", "16", "--device", "cpu", "--precision", "fp32"]
CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Images whose red, green and blue are bright or dark, a folder below, and labels.csv that says which."""
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    (root / "all").mkdir()
    lines = ["image,tags,split"]
    for i in range(64):
        bright = [name for bit, name in enumerate(("red", "green", "blue")) if i >> bit & 1]
        low = [150 if name in bright else 0 for name in ("red", "green", "blue")]
        pixels = (draw.integers(0, 100, (32, 32, 3)) + low).astype(np.uint8)
        Image.fromarray(pixels).save(root / "all" / f"{i:02}.png")
        lines.append(f"all/{i:02},{';'.join(bright)},{'valid' if i % 4 == 3 else 'train'}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """A finished run; tests only read it."""
    directory = tmp_path_factory.mktemp("runs") / "colours"
    words = ["resnet20_cifar", "--data", str(photos), "--labels", str(photos / "labels.csv"), *QUICK]
    words += ["--recipe", "plain"]
    words += ["--epochs", "15", "--lr", "0.1", "--ema", "0", "--augment", "none"]
    assert cifar.main([*words, "--out", str(directory)]) == 0
    return directory


# Figures


def test_average_precision_is_the_sum_of_precisions_where_recall_grows():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    present = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
    by_hand = (1 / 1 + 2 / 3 + 3 / 4) / 3
    assert multilabel.average_precision(scores, present) == pytest.approx(by_hand)
    # Images that score alike are called present together: two of four are.
    assert multilabel.average_precision(torch.ones(4), torch.tensor([1.0, 0, 0, 1])) == pytest.approx(0.5)
    assert multilabel.average_precision(scores, torch.zeros(5)) == 0


def test_the_mean_leaves_out_classes_that_no_image_shows():
    logits = torch.tensor([[3.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert multilabel.mean_average_precision(logits, labels) == pytest.approx((1 + 1 / 2) / 2)


def test_a_threshold_is_the_best_of_all_that_could_be_drawn_also_among_ties():
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        shares = torch.randint(0, 30, (200,), generator=draw) / 30
        present = (torch.rand(200, generator=draw) < shares).float()
        found = multilabel.best_threshold(shares, present)

        def f1(threshold, shares=shares, present=present):
            called = (shares >= threshold).float()
            return 2 * (called * present).sum() / (called.sum() + present.sum())

        assert f1(found) == max(map(f1, shares))


@pytest.mark.parametrize(
    "shares", [[4e-5, 1e-5, 1e-5], [0.99999, 0.99998, 0.5], [1 - 2**-24, 1 - 2**-23, 0.5]]
)
def test_a_threshold_calls_those_it_was_fitted_to_also_among_extreme_shares(shares):
    """Rounded to four digits, one would call everything and the other nothing."""
    given = torch.tensor(shares)
    found = multilabel.best_threshold(given, torch.tensor([1.0, 0.0, 0.0]))
    assert [share >= found for share in given.tolist()] == [True, False, False]
    model = SimpleNamespace(calibration=Calibration(class_thresholds=(found,)))
    assert multilabel.is_called(model, given[:, None])[:, 0].tolist() == [True, False, False]


def test_thresholds_of_many_images_take_memory_for_each_alone():
    shares = torch.rand(400_000, generator=torch.Generator().manual_seed(1))  # of pairs 160 GB
    assert multilabel.best_threshold(shares, (shares > 0.4).float()) == pytest.approx(0.4, abs=1e-3)


def test_figures_of_several_labels_are_those_worked_out_by_hand():
    """One of three images is right in both classes; the second class is called once, wrongly."""
    model = create_model("lenet5", num_classes=2)
    model.calibration = Calibration(class_thresholds=(0.5, 0.5))
    logits = torch.tensor([[2.0, -3], [2, 2], [-2, -1]])
    found = multilabel.measure(model, logits, torch.tensor([[1.0, 0], [1, 0], [0, 1]]))
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["class_f1"] == pytest.approx([1, 0]) and found["macro_f1"] == pytest.approx(0.5)
    assert found["class_precision"] == found["class_recall"] == pytest.approx([1, 0])
    assert found["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert found["class_ap"] == pytest.approx([1, 1 / 2])
    assert found["mean_average_precision"] == pytest.approx(3 / 4)


def test_a_threshold_has_the_best_f1_and_lies_between_the_images():
    shares = torch.tensor([0.9, 0.6, 0.4, 0.2])
    # From 0.4 on: 3 called, 3 of 3 present, F1 1; the next image has 0.2.
    assert multilabel.best_threshold(shares, torch.tensor([1.0, 1, 1, 0])) == pytest.approx(0.3)
    assert multilabel.best_threshold(shares, torch.tensor([1.0, 0, 0, 0])) == pytest.approx(0.75)
    assert multilabel.best_threshold(shares, torch.zeros(4)) == 0.5


def test_the_loss_is_torch_s_binary_cross_entropy_smoothed_and_weighed():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    plain = Loss(Recipe(epochs=1), labels, 2, torch.device("cpu"))
    torch.testing.assert_close(plain(logits, labels), F.binary_cross_entropy(logits.sigmoid(), labels))
    smooth = Loss(Recipe(epochs=1, label_smoothing=0.2), labels, 2, torch.device("cpu"))
    torch.testing.assert_close(
        smooth(logits, labels), F.binary_cross_entropy(logits.sigmoid(), labels * 0.8 + 0.1)
    )
    weighed = Loss(Recipe(epochs=1, balance="weights"), labels, 2, torch.device("cpu"))
    each = F.binary_cross_entropy(logits.sigmoid(), labels, reduction="none")
    by_hand = torch.where(labels > 0, each * torch.tensor([1.0, 3.0]), each).mean()
    torch.testing.assert_close(weighed(logits, labels), by_hand)


def test_a_split_takes_the_rare_label_into_both_parts():
    labels = torch.zeros(40, 2)
    labels[:, 0], labels[:4, 1] = 1, 1
    kept, held = split_held_out(labels, 10, seed=0)
    assert len(held) == 10 and labels[held, 1].sum() == 1 and labels[kept, 1].sum() == 3


# Tables


def table(tmp_path: Path, text: str, files: str = "a.png b.png c.png"):
    for name in files.split():
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    return read_table(tmp_path / "t.csv", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "file,labels\na.png,cat;dog\nb.png,dog\nc.png,\n",
        "file\tlabels\na\tcat|dog\nb\tdog\nc\t\n",
        "file;labels\na.png;cat|dog\nb.png;dog\nc.png;\n",
        "file,cat,dog\na.png,1,1\nb.png,0,1\nc.png,0,0\n",
        "file,labels\na.png,cat\na.png,dog\nb.png,dog\nc.png,\n",
    ],
)
def test_a_table_is_read_as_people_write_it(tmp_path, text):
    read = table(tmp_path, text)
    assert read.classes == ("cat", "dog") and read.is_multi
    assert {file.name: set(labels) for file, labels in read.labels.items()} == {
        "a.png": {"cat", "dog"}, "b.png": {"dog"}, "c.png": set()
    }  # fmt: skip


def test_a_table_of_one_label_each_is_classes_as_ever(tmp_path):
    read = table(tmp_path, "file,label,split\na.png,dog,train\nb.png,cat,train\nc.png,dog,test\n")
    images = read.images("train", whole_image((8, 8)))
    assert not read.is_multi and images.labels.tolist() == [1, 0] and images.classes == ("cat", "dog")
    assert [file.name for file in read.images("test", whole_image((8, 8))).files] == ["c.png"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,labels\na.png,cat\nz.png,dog\n", "names 1 images that are not below"),
        ("file,labels\na.png,cat,dog\n", "row 2: 3 columns, the first line has 2"),
        ("a.png\nb.png\n", "is not a table of images"),
        pytest.param(
            'file,labels\n"a.png,cat\n' + "b.png,dog\n" * 20_000,
            "look for a stray quotation mark",
            id="a quote that nothing closes",
        ),
        ("file,cat,dog\na.png,1,-1\nb.png,0,1\n", "row 2: dog holds '-1'; give 0 or 1 in the column of each"),
        ("file,cat,dog\na.png,,1\nb.png,1,0\n", "row 2: cat holds ''; give 0 or 1"),
        ("file,labels,split\na.png,cat,later\n", "'later' is not a part; give train, val or test"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        table(tmp_path, text)


def test_columns_beside_the_labels_are_left_alone(tmp_path):
    assert table(tmp_path, "file,label,width\na.png,dog,8\nb.png,cat,8\n").classes == ("cat", "dog")


@pytest.mark.parametrize(("parts", "said"), [("train val", True), ("val test", False), ("train test", False)])
def test_a_table_says_whether_its_validation_set_is_the_test_part(tmp_path, parts, said):
    rows = "".join(f"{name}.png,cat,{part}\n" for name, part in zip("ab", parts.split(), strict=True))
    read = table(tmp_path, f"file,label,split\n{rows}")
    assert read.val_for_test == val_for_test(read) == said


@pytest.mark.parametrize("label", ["dog \x96 big", "d" * 300])
def test_a_label_that_no_checkpoint_could_hold_is_refused_before_training(tmp_path, label):
    read = table(tmp_path, f"file,labels,split\na.png,cat,train\nb.png,{label},train\nc.png,cat,test\n")
    with pytest.raises(DataError, match="has characters that cannot be shown, or more than 256; rename it"):
        read.check()


def test_labels_of_a_mac_are_those_of_other_systems(tmp_path):
    read = table(tmp_path, "file,labels\na.png,か\u3099\nb.png,が\nc.png,あ\n")
    assert read.classes == ("あ", "が")


def test_a_label_that_nothing_teaches_is_refused_before_training(tmp_path):
    read = table(tmp_path, "file,labels,split\na.png,cat,train\nb.png,cat,train\nc.png,dog,test\n")
    with pytest.raises(DataError, match="no image of the train part has label dog"):
        read.check()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,labels,split\na.png,cat;dog,train\nb.png,dog,train\n", "no image of the test part; add some"),
        ("file,labels\nsix.png,cat;dog\n", "or name the parts in a column 'split'"),
    ],
)
def test_a_table_without_test_images_is_refused_before_training(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        table(tmp_path, text, "a.png b.png six.png").check()


def test_the_start_says_which_rows_make_every_class_a_question_of_its_own(tmp_path):
    one = table(tmp_path, "file,label\na.png,cat\nb.png,dog\nc.png,\n")
    assert one.summary() == (
        "each class is answered by itself: 1 of 3 images have no label or several (c.png)"
    )
    assert table(tmp_path, "file,label\na.png,cat\nb.png,dog\n").summary() == ""


def test_rows_name_images_as_spreadsheets_and_other_systems_write_them(tmp_path):
    """Empty rows at the end, whole paths, and accents in the other Unicode form."""
    composed, decomposed = (unicodedata.normalize(form, "が.png") for form in ("NFC", "NFD"))
    rows = f"file;labels\n{tmp_path.resolve()}/a.png;cat\nb;dog\n{composed};dog\n;\n;\n"
    read = table(tmp_path, rows, f"a.png b.png {decomposed}")
    assert sorted(file.name for file in read.labels) == sorted(["a.png", "b.png", decomposed])
    with pytest.raises(DataError, match="not below"):
        table(tmp_path, f"file,labels\n{__file__},cat\nb.png,dog\n")


def test_one_answer_cannot_be_measured_on_images_with_several(photos):
    images = read_table(photos / "labels.csv", photos).images("test", whole_image((32, 32)))
    with pytest.raises(DataError, match="the model gives one answer"):
        with_classes(images, CLASSES)
    turned = with_classes(images, ("red", "blue", "green"), several=True)
    assert torch.equal(turned.labels, images.labels[:, [2, 0, 1]])


# A whole run


def test_a_run_learns_each_label_and_its_card_says_how_well(run, photos):
    facts = json.loads((run / "run.json").read_text())
    results, card = facts["results"], (run / "README.md").read_text()
    assert results["mean_average_precision"] > 0.9 and facts["metric"] == "mean_average_precision"
    assert "| class | average precision | precision | recall | F1 | threshold | images |" in card
    assert "says which of 3 things an image shows" in card and "binary cross entropy of each class" in card
    assert "It always answers with one" not in card and not (run / "confusion.png").exists()
    config = json.loads((run / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert len(config["resnet_hub"]["calibration"]["class_thresholds"]) == 3
    words = [str(run), "--data", str(photos), "--labels", str(photos / "labels.csv"), "--device", "cpu"]
    assert evaluate.main(words) == 0


@pytest.mark.parametrize("flags", [["--tta"], ["--unknown", "."]])
def test_what_is_of_one_answer_is_refused_where_its_labels_are_measured(run, photos, capsys, flags):
    words = [str(run), "--data", str(photos), "--labels", str(photos / "labels.csv"), "--device", "cpu"]
    assert evaluate.main([*words, *flags]) == 2
    assert f"{flags[0]} has no effect on a network that answers for each class" in capsys.readouterr().err


def test_its_card_says_on_how_many_images_the_thresholds_were_fitted(run):
    facts = json.loads((run / "run.json").read_text())
    fewest, most = facts["calibration"]["shown"]
    assert 0 <= fewest <= most <= facts["held_out_images"]
    words = f"({facts['held_out_images']} images, of which from {fewest} to {most} show a class)"
    assert words in (run / "README.md").read_text()


def test_predict_says_what_is_present_by_each_class_s_threshold(run, photos, capsys, tmp_path):
    model = from_pretrained(run)
    image = photos / "all" / "03.png"  # red and green
    with torch.no_grad():
        logits = model(model.preprocess.tensor(Image.open(image))[None])[0] / model.calibration.temperature
    shares = dict(zip(model.labels, logits.sigmoid().tolist(), strict=True))
    prediction = predict.classify(model, [image])[0]
    assert dict(prediction.top) == pytest.approx(shares, abs=1e-5)
    limits = dict(zip(model.labels, model.calibration.class_thresholds, strict=True))
    assert set(prediction.present) == {name for name in CLASSES if shares[name] >= limits[name]}
    assert predict.main([str(image), "--model", str(run), "--device", "cpu"]) == 0
    assert f"This shows: {', '.join(prediction.present)}." in capsys.readouterr().out
    predict.main([str(image), "--model", str(run), "--json", "--device", "cpu"])
    assert json.loads(capsys.readouterr().out)["predictions"][0]["present"] == prediction.present


def test_the_table_of_a_run_names_every_true_and_predicted_label(run):
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    true = {row["file"]: set(filter(None, row["true"].split(";"))) for row in rows}
    assert true["all/03.png"] == {"red", "green"} and len(rows) == 16
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True) and all(map(math.isfinite, losses))


def test_fine_tuning_takes_the_table_too(run, photos, tmp_path):
    words = ["--weights", str(run), "--data", str(photos), "--labels", str(photos / "labels.csv"), *QUICK]
    assert transfer.main([*words, "--mode", "feature", "--out", str(tmp_path / "run")]) == 0
    assert len(from_pretrained(tmp_path / "run").calibration.class_thresholds) == 3


def test_a_run_is_measured_again_and_made_ready_to_publish(run, photos, tmp_path, capsys):
    words = ["--data", str(photos), "--labels", str(photos / "labels.csv"), "--dry-run", str(tmp_path / "up")]
    assert publish.main([str(run), "--repo-id", "me/colours", *words]) == 0
    precision = json.loads((run / "run.json").read_text())["results"]["mean_average_precision"]
    assert f"mean average precision {precision:.2%}" in capsys.readouterr().out
    thresholds = from_pretrained(run).calibration.class_thresholds
    assert from_pretrained(tmp_path / "up").calibration.class_thresholds == thresholds


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--metric", "macro_f1"], "--metric macro_f1 is not for these"),
        (["--balance", "sampler"], "one class each"),
        (["--unknown", "."], "--unknown has no effect on images with several labels"),
        (
            ["--outliers", str(ROOT / "resnet_hub" / "examples")],
            "--teacher and --outliers are for images of one class each",
        ),
    ],
)
def test_what_needs_one_class_each_is_refused(photos, tmp_path, capsys, flags, said):
    words = ["resnet20_cifar", "--data", str(photos), "--labels", str(photos / "labels.csv"), *QUICK, *flags]
    assert cifar.main([*words, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_sentences_of_several_labels():
    top = [("cat", 0.9), ("dog", 0.8)]
    assert statement(None, top, ["cat", "dog"]) == "This shows: cat, dog."
    assert statement(None, top, []) == "I found none of the things I know."


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 1.5], [0.5, float("nan")]])
def test_thresholds_that_are_not_one_a_class_are_refused(thresholds):
    with pytest.raises(Refusal, match="calibration"):
        read_calibration({"resnet_hub": {"calibration": {"class_thresholds": thresholds}}}, 2)
