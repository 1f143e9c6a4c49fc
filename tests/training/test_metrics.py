"""Classes of unlike size: figures that do not favour large ones, and training that makes them count alike.
Oracle: a confusion matrix worked out by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers.training import image_folders, noise_image, noise_set
from PIL import Image
from torch.nn import functional as F

from resnet_hub import create_model, from_pretrained
from resnet_hub.hub.card import card_figures
from resnet_hub.models.calibration import Calibration
from training import cifar, evaluate, plots, unknown
from training.augment import Feed
from training.data import ImageSet, whole_image
from training.engine import Trainer
from training.metrics import (
    balanced_draw,
    by_class,
    class_weights,
    confusion_matrix,
    of_held_out,
    summary,
)
from training.recipes import Recipe

# true class 0: 8 images, 6 right, 2 called 1; class 1: 2 images, 1 right, 1 called 0; class 2: none
CONFUSION = torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]])
CPU = torch.device("cpu")
SAME = whole_image((16, 16))


def test_figures_of_a_class_are_the_textbook_s():
    labels = torch.tensor([0] * 8 + [1] * 2)
    predicted = torch.tensor([0] * 6 + [1] * 2 + [0, 1])
    assert confusion_matrix(predicted, labels, 3).tolist() == CONFUSION.tolist()
    each = {name: values.tolist() for name, values in by_class(CONFUSION).items()}
    assert each["precision"] == pytest.approx([6 / 7, 1 / 3, 0])
    assert each["recall"] == pytest.approx([6 / 8, 1 / 2, 0])
    assert each["f1"] == pytest.approx([12 / 15, 2 / 5, 0])
    assert each["images"] == [8, 2, 0]


def test_means_over_classes_count_only_those_that_have_images():
    figures = summary(CONFUSION)
    assert figures["balanced_accuracy"] == pytest.approx((0.75 + 0.5) / 2)
    assert figures["macro_precision"] == pytest.approx((6 / 7 + 1 / 3) / 2)
    assert figures["macro_f1"] == pytest.approx((0.8 + 0.4) / 2)
    assert figures["weighted_precision"] == pytest.approx(0.8 * 6 / 7 + 0.2 / 3)
    assert figures["weighted_f1"] == pytest.approx(0.8 * 0.8 + 0.2 * 0.4)


def test_a_line_of_the_history_has_each_figure_under_its_name():
    logits, labels = (
        F.one_hot(torch.tensor([0] * 6 + [1] * 2 + [0, 1]), 3).float(),
        torch.tensor([0] * 8 + [1] * 2),
    )
    line = of_held_out(logits, labels)
    assert line["val_acc"] == pytest.approx(0.7) and line["val_balanced_acc"] == pytest.approx(0.625)
    assert line["val_macro_f1"] == pytest.approx(0.6)
    right, wrong = (math.log(2 + math.e) - each for each in (1, 0))
    assert line["val_loss"] == pytest.approx(0.7 * right + 0.3 * wrong)


def test_top5_counts_the_five_best():
    logits = torch.arange(6.0).expand(4, 6)
    found = evaluate.figures(logits, torch.zeros(4, 6), torch.tensor([0, 1, 2, 5]), 6, temperature=1.0)
    assert (found["top1"], found["top5"]) == (0.25, 0.75)


def test_figures_of_unknown_images_are_those_worked_out_by_hand(tmp_path, monkeypatch):
    """Of four known images the third is flagged and the second wrong; of two unknown ones one is flagged."""
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    model = create_model("lenet5", num_classes=2)
    model.labels = ("x", "y")
    model.calibration = Calibration(energy_threshold=1.0, firm_threshold=0.9)
    known, labels = torch.tensor([[4.0, 0], [0, 4], [0, 0], [2, 0]]), torch.tensor([0, 0, 0, 0])
    others = torch.tensor([[0.0, 0], [3, 0]])
    monkeypatch.setattr(unknown, "predict_logits", lambda *anything, **more: (others, torch.zeros(2)))
    odd = unknown.UnknownSet("odd", tmp_path)
    found = unknown.measure_unknown(model, [odd], known, labels)["odd"]
    assert (found["images"], found["flagged"][0], found["firm"]) == (2, 0.5, 0.5)
    assert found["right_unflagged"] == pytest.approx((2 / 4) / (3 / 4 + 1 / 2))
    assert found["auroc"] == pytest.approx((3 + 0.5 + 2) / 8)  # pairs in order, a tie for half
    test = evaluate.familiarity(model, known, known.argmax(1) == labels)
    assert test["false_alarms"][0] == 0.25
    assert (test["firm_share"][0], test["firm_right"][0]) == (0.5, 0.5)  # e^2 is 0.88 of e^2 + 1


def test_weights_make_every_class_weigh_the_same_and_an_image_one_on_average():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    weights = class_weights(labels, 3)
    assert weights.tolist() == pytest.approx([12 / 18, 12 / 9, 12 / 9])
    assert weights[labels].mean().item() == pytest.approx(1)


def test_the_sampler_draws_small_classes_as_often_as_large_ones_by_the_seed_alone():
    labels = torch.tensor([0] * 900 + [1] * 100)
    drawn = balanced_draw(labels, 2, 1)
    assert len(drawn) == 1000 and (labels[drawn] == 1).sum().item() == pytest.approx(500, abs=60)
    assert torch.equal(drawn, balanced_draw(labels, 2, 1))
    assert not torch.equal(drawn, balanced_draw(labels, 2, 2))


def uneven(count: int = 20) -> ImageSet:
    """Noise, one image in four of class 1."""
    found = noise_set(count, side=16, classes=2)
    return ImageSet(found.images, (torch.arange(count) % 4 == 3).long(), ("many", "few"), "noise")


def trainer(recipe: Recipe) -> Trainer:
    net = create_model("resnet20_cifar", num_classes=2, input_size=16)
    return Trainer(net, recipe, Feed(uneven(), SAME, recipe, 0, CPU), seed=0, device=CPU)


def test_a_feed_with_the_sampler_shows_each_draw_with_the_label_of_its_image():
    """An image is told by its pixels; drawn twice, it is augmented twice."""
    data = uneven()
    feed = Feed(data, SAME, Recipe(epochs=1, augment=(), balance="sampler"), 0, CPU)
    ((x, targets, labels),) = feed.batches(0, [(0, torch.arange(20))], 16)
    drawn = feed.drawn(0)
    assert torch.equal(labels, data.labels[drawn]) and torch.equal(targets, labels)
    plain = Feed(data, SAME, Recipe(epochs=1, augment=()), 0, CPU)
    ((shown, _, _),) = plain.batches(0, [(0, drawn)], 16)
    assert torch.equal(x, shown)
    flips = Feed(data, SAME, Recipe(epochs=1, augment=("flip",), balance="sampler"), 0, CPU)
    ((turned, _, _),) = flips.batches(0, [(0, torch.arange(20))], 16)
    twice = [i for i in range(20) if (drawn == drawn[i]).sum() > 1]
    assert any(not torch.equal(turned[i], turned[j]) for i in twice for j in twice if drawn[i] == drawn[j])


def test_the_weighted_loss_is_each_image_s_times_its_class_s_weight():
    one = trainer(Recipe(epochs=1, balance="weights"))
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 2, generator=draw), torch.tensor([0, 1, 1, 0])
    plain = F.cross_entropy(logits, labels, reduction="none")
    by_hand = (plain * torch.tensor([20 / 30, 2.0, 2.0, 20 / 30])).mean()
    torch.testing.assert_close(one.loss(logits, labels), by_hand)


LINES = [  # of a history: by accuracy the first is best, by every other metric the second
    {"epoch": 1, "val_acc": 0.9, "val_balanced_acc": 0.5, "val_macro_f1": 0.5, "val_loss": 0.4},
    {"epoch": 2, "val_acc": 0.8, "val_balanced_acc": 0.8, "val_macro_f1": 0.8, "val_loss": 0.3},
]


@pytest.mark.parametrize(
    ("metric", "second_is_better"),
    [("accuracy", False), ("balanced_accuracy", True), ("macro_f1", True), ("loss", True)],
)
def test_the_best_epoch_is_chosen_by_the_metric_that_is_named(metric, second_is_better):
    one = trainer(Recipe(epochs=1, metric=metric))
    assert one._is_better(LINES[0])
    one.best = LINES[0]
    assert one._is_better(LINES[1]) == second_is_better


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Bright and dark images."""
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    return image_folders(tmp_path_factory.mktemp("photos"), {"train": 12, "test": 4}, classes)


@pytest.mark.parametrize("balance", ["weights", "sampler"])
def test_a_run_states_balanced_figures_and_evaluation_finds_them_again(photos, tmp_path, balance):
    words = ["resnet20_cifar", "--data", str(photos), "--out", str(tmp_path / "run"), "--recipe", "plain"]
    words += [
        "--epochs",
        "2",
        "--batch-size",
        "8",
        "--held-out",
        "4",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    words += ["--balance", balance, "--metric", "macro_f1", "--tensorboard"]
    assert cifar.main(words) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    results = facts["results"]
    assert results["balanced_accuracy"] == pytest.approx(sum(results["per_class"]) / 2)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| class | accuracy | precision | F1 | images |" in card
    assert "(best validation macro f1)" in card
    assert ("weighted by the inverse" if balance == "weights" else "drawn as often") in card
    assert card_figures(card)["macro_f1"] == pytest.approx(results["macro_f1"], abs=1e-4)
    assert evaluate.main([str(tmp_path / "run"), "--data", str(photos), "--device", "cpu"]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"val_balanced_acc", "val_macro_f1"} <= set(logged.Tags()["scalars"])
    assert from_pretrained(tmp_path / "run").labels == ("bright", "dark")


def test_long_class_names_leave_room_for_the_matrix_and_stay_apart():
    names = tuple(f"American Staffordshire terrier, Staffordshire terrier, pit bull {i}" for i in range(2))
    figure = plots.confusion([[5, 1], [2, 4]], names)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_position().width > 0.25
    assert all(text.get_window_extent().x0 >= 0 for text in axes.get_yticklabels())
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert len({*shown}) == 2 and all(
        long.startswith(short[:10]) for long, short in zip(names, shown, strict=True)
    )


def test_a_thousand_classes_make_a_picture_of_bounded_size():
    figure = plots.confusion([[0] * 1000] * 1000, tuple(map(str, range(1000))))
    assert figure.get_size_inches().max() < 100
