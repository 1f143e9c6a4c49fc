"""The promises for few images: the epoch is not chosen by chance, a temperature makes nothing worse,
thresholds keep the share they promise, and a card says on how many images each was fitted. Oracles: a fine
grid, Beta quantiles in closed form, and draws of fresh images."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.training import Head, image_folders, noise_image, noise_set
from torch.nn import functional as F

from resnet_hub import create_model, from_pretrained
from resnet_hub.hub.card import run_facts
from resnet_hub.hub.figures import percent
from resnet_hub.preprocess import Preprocess
from training import cifar, evaluate, transfer
from training.augment import Feed
from training.calibrate import (
    FEWEST_FOR_THRESHOLD,
    LEAST_FIRM,
    TEMPERATURE_SPREAD,
    calibrate,
    energy_threshold,
    firm_threshold,
    fit_temperature,
    useful_temperature,
)
from training.command import find_images_to_train
from training.data import split_held_out, whole_image
from training.engine import Trainer, eval_batch, predict_logits, weights_kept
from training.recipes import FEWEST_TO_CHOOSE, Recipe

CPU = torch.device("cpu")
SAME = Preprocess(input_size=(3, 12, 12), crop_pct=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)
STILL = Recipe(epochs=4, batch_size=8, lr=0.02, augment=(), schedule="constant", warmup=0.0)


def fitted(recipe: Recipe, held_out: int, run: Path) -> tuple[Trainer, list[torch.Tensor]]:
    """A trainer after its last epoch, and the weights after each."""
    torch.manual_seed(0)
    feed = Feed(noise_set(24, classes=3), SAME, recipe, 0, CPU)
    one = Trainer(Head(12), recipe, feed, seed=0, device=CPU)
    weights, save = [], one.save
    one.save = lambda run: (weights.append(one.kept.state_dict()["fc.weight"].clone()), save(run))
    one.fit(noise_set(held_out, classes=3), run)
    one.restore_kept()
    return one, weights


# The epoch that is kept


@pytest.mark.parametrize(
    ("keep", "held_out", "kept"),
    [
        ("auto", FEWEST_TO_CHOOSE, "best"), ("auto", FEWEST_TO_CHOOSE - 1, "last"), ("auto", 0, "last"),
        ("best", 24, "best"), ("last", 5000, "last"), ("ema", 24, "ema"),
    ],
)  # fmt: skip
def test_the_epoch_is_chosen_by_accuracy_only_where_the_images_can_tell(keep, held_out, kept):
    assert weights_kept(replace(STILL, keep=keep), held_out) == kept


@pytest.mark.parametrize("changes", [{"keep": "best"}, {"patience": 3}, {"metric": "macro_f1"}])
def test_choosing_without_held_out_images_is_refused(changes):
    with pytest.raises(ValueError, match="--held-out 0 leaves none"):
        weights_kept(replace(STILL, **changes), 0)


@pytest.mark.parametrize("changes", [{"metric": "accuracy"}, {"metric": "macro_f1"}, {"patience": 3}])
def test_who_says_how_to_choose_has_it_chosen_among_few_images_too(changes):
    assert weights_kept(replace(STILL, **changes), FEWEST_TO_CHOOSE - 1) == "best"


def test_kept_weights_are_those_of_the_chosen_epoch(tmp_path):
    last, weights = fitted(replace(STILL, lr=0.5), 9, tmp_path)
    assert torch.equal(last.net.fc.weight, weights[-1]) and last.kept_epoch == 4
    best, weights = fitted(replace(STILL, lr=0.5, keep="best"), 9, tmp_path)
    accuracies = [line["val_acc"] for line in best.history]
    assert accuracies[best.kept_epoch - 1] == max(accuracies)
    assert torch.equal(best.net.fc.weight, weights[best.kept_epoch - 1])


def test_among_epochs_of_equal_accuracy_the_least_loss_is_kept_and_of_equal_losses_the_first():
    """24 held-out images give many ties."""
    recipe = replace(STILL, keep="best")
    one = Trainer(Head(12), recipe, Feed(noise_set(24, classes=3), SAME, recipe, 0, CPU), seed=0, device=CPU)
    one.best = {"epoch": 1, "val_acc": 0.75, "val_loss": 0.6}
    for accuracy, loss, is_better in (
        (0.75, 0.5, True), (0.75, 0.6, False), (0.75, 0.7, False), (0.8, 0.9, True), (0.7, 0.1, False)
    ):  # fmt: skip
        assert one._is_better({"epoch": 2, "val_acc": accuracy, "val_loss": loss}) == is_better


def moving_average(weights, decay):
    """Of the weights after each step, by torch's recursion."""
    average = weights[0]
    for weight in weights[1:]:
        average = decay * average + (1 - decay) * weight
    return average


def test_a_kept_average_is_over_the_last_fifth_of_the_run(tmp_path):
    """12 steps: a decay of 1 - 1 / 2.4, by torch's recursion."""
    one, _ = fitted(replace(STILL, keep="ema"), 9, tmp_path)
    plain, _ = fitted(STILL, 9, tmp_path)
    decay, seen = 1 - 1 / 2.4, []
    torch.manual_seed(0)
    again = Trainer(Head(12), STILL, plain.feed, seed=0, device=CPU)
    step = again.train_step
    again.train_step = lambda *a: (step(*a), seen.append(again.net.fc.weight.detach().clone()))
    again.fit(noise_set(9, classes=3), tmp_path)
    torch.testing.assert_close(one.net.fc.weight.detach(), moving_average(seen, decay))


def test_a_kept_average_of_further_epochs_is_over_the_last_fifth_of_these(tmp_path):
    """Four epochs after four: 12 steps again."""
    recipe, seen, decay = replace(STILL, epochs=8, keep="ema"), [], 1 - 1 / 2.4
    feed = Feed(noise_set(24, classes=3), SAME, recipe, 0, CPU)
    one = Trainer(Head(12), recipe, feed, seed=0, device=CPU, restart=4)
    one.go_on([{"epoch": epoch} for epoch in range(1, 5)], {"best_epoch": 4})
    step = one.train_step
    one.train_step = lambda *a: (step(*a), seen.append(one.net.fc.weight.detach().clone()))
    one.fit(noise_set(9, classes=3), tmp_path)
    assert len(seen) == 12
    torch.testing.assert_close(one.kept.fc.weight.detach(), moving_average(seen, decay))


def test_an_average_can_warm_up(tmp_path):
    """As in TensorFlow and timm: decay min(d, (1 + n) / (10 + n)) at the n-th update."""
    recipe, seen = replace(STILL, ema=0.9, ema_warmup=True), []
    torch.manual_seed(0)
    one = Trainer(Head(12), recipe, Feed(noise_set(24, classes=3), SAME, recipe, 0, CPU), seed=0, device=CPU)
    step = one.train_step
    one.train_step = lambda *a: (step(*a), seen.append(one.net.fc.weight.detach().clone()))
    one.fit(noise_set(9, classes=3), tmp_path)
    expected = seen[0]
    for n, weight in enumerate(seen[1:], start=1):
        expected = torch.lerp(weight, expected, min(0.9, (1 + n) / (10 + n)))
    torch.testing.assert_close(one.kept.fc.weight.detach(), expected)


# Temperature and thresholds


def drawn(count: int, seed: int, sharpness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of two classes and labels drawn from softmax(logits / sharpness)."""
    draw = torch.Generator().manual_seed(seed)
    true = torch.randn(count, 2, generator=draw)
    labels = torch.multinomial(true.softmax(1), 1, generator=draw)[:, 0]
    return true * sharpness, labels


@pytest.mark.parametrize("count", [10, 24, 300])
def test_temperature_is_the_most_probable_with_a_prior_toward_1(count):
    logits, labels = drawn(count, 3, sharpness=3.0)
    grid = torch.linspace(math.log(0.2), math.log(8), 4001)
    cost = [
        F.cross_entropy(logits / t, labels, reduction="sum") + t.log() ** 2 / (2 * TEMPERATURE_SPREAD**2)
        for t in grid.exp()
    ]
    found = fit_temperature(logits, labels)
    assert found.value == pytest.approx(grid[torch.stack(cost).argmin()].exp().item(), rel=2e-3)
    assert found.interval[0] < found.value < found.interval[1]


def test_temperature_of_few_images_that_are_all_right_stays_near_1():
    """24 images once gave 0.23, with which the test images were less probable than by a coin."""
    logits = torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
    assert fit_temperature(logits, logits.argmax(1)).value > 0.4


def test_fitting_makes_fresh_images_no_worse_on_average():
    """200 sets of 24 held-out images of a network whose probabilities are right, a fresh set for each."""
    worse = []
    for seed in range(200):
        value = useful_temperature(*drawn(24, seed, sharpness=1.0)).value
        logits, labels = drawn(2000, 1000 + seed, sharpness=1.0)
        worse.append(F.cross_entropy(logits / value, labels) - F.cross_entropy(logits, labels))
    assert torch.stack(worse).mean() < 0.01 and torch.stack(worse).max() < 0.15


def test_a_temperature_that_helps_is_taken_also_from_few_images():
    gains = []
    for seed in range(50):
        value = useful_temperature(*drawn(24, seed, sharpness=6.0)).value
        logits, labels = drawn(2000, 1000 + seed, sharpness=6.0)
        gains.append(F.cross_entropy(logits, labels) - F.cross_entropy(logits / value, labels))
    assert torch.stack(gains).mean() > 0.3 and torch.stack(gains).min() > -0.01


def test_a_temperature_that_helps_only_the_images_it_was_fitted_on_is_left_at_1():
    """The last of the five images of each fold contradicts the others: what is fitted to four parts fails on
    the fifth, and fitted to all of them it would be 1.2."""
    logits = torch.tensor([[2.0, 0.0]] * 10)
    labels = torch.tensor([0, 0, 0, 0, 1] * 2)
    gains = []
    for part in range(5):
        here = torch.arange(10) % 5 == part
        value = fit_temperature(logits[~here], labels[~here]).value
        before, after = (F.cross_entropy(logits[here] / t, labels[here], reduction="sum") for t in (1, value))
        gains.append((before - after).item())
    assert sum(gains) < 0 and fit_temperature(logits, labels).value != pytest.approx(1, abs=0.01)
    assert useful_temperature(logits, labels) == (1.0, None)


def test_threshold_keeps_its_share_of_false_alarms_whatever_the_number_of_images():
    """Mean share of fresh images below it, over 400 draws; the quantile itself gave 11 % from 24 images."""
    draw = torch.Generator().manual_seed(0)
    for count, expected in ((19, 1 / 20), (24, 1 / 25), (60, 3 / 61), (1000, 50 / 1001)):
        shares = [
            torch.special.ndtr(torch.tensor(energy_threshold(torch.randn(count, generator=draw))[0]))
            for _ in range(400)
        ]
        assert torch.stack(shares).mean() == pytest.approx(expected, abs=0.006)


def test_false_alarms_to_expect_have_their_interval():
    """From the lowest of 24: Beta(1, 24), whose quantiles are 1 - (1 - p) ** (1 / 24)."""
    _, (share, low, high) = energy_threshold(torch.randn(24))
    assert share == pytest.approx(1 / 25)
    assert (low, high) == pytest.approx((1 - 0.975 ** (1 / 24), 1 - 0.025 ** (1 / 24)), abs=1e-4)


def test_too_few_images_give_no_threshold():
    assert energy_threshold(torch.randn(FEWEST_FOR_THRESHOLD - 1)) is None
    assert energy_threshold(torch.randn(FEWEST_FOR_THRESHOLD)) is not None


def test_the_firm_threshold_says_how_many_answers_it_was_fitted_on(monkeypatch):
    """38 of 40 answers are right, and the two wrong ones are the least probable."""
    logits = torch.stack([torch.linspace(6, 1, 40), torch.zeros(40)], 1)
    labels = (torch.arange(40) >= 38).long()
    monkeypatch.setattr("training.calibrate.predict_logits", lambda *a, **k: (logits, labels))
    model = create_model("resnet20_cifar", num_classes=2)
    fit, said = calibrate(model, noise_set(40, classes=2))
    count, share, low, high = said["firm"]
    top = (logits / fit.temperature).softmax(1)[:, 0]
    is_firm = (logits.logsumexp(1) >= fit.energy_threshold) & (top >= fit.firm_threshold)
    assert count == is_firm.sum() and share == pytest.approx((labels[is_firm] == 0).float().mean().item())
    assert low < share <= high
    spread = 1.96 * math.sqrt(share * (1 - share) / count + 1.96**2 / (4 * count**2))  # Wilson's
    assert low == pytest.approx((share + 1.96**2 / (2 * count) - spread) / (1 + 1.96**2 / count), abs=1e-3)


def test_the_firm_threshold_is_the_lowest_from_which_nine_of_ten_answers_are_right():
    shares = torch.linspace(0.99, 0.8, 20)
    right = torch.ones(20, dtype=torch.bool)
    right[[9, 17, 18]] = False  # 9 of 10, then 17 of 19 and 17 of 20
    assert firm_threshold(shares, right) == pytest.approx(shares[16].item(), abs=1e-4)
    assert firm_threshold(torch.tensor([0.4, 0.3]), torch.tensor([True, True])) == LEAST_FIRM
    assert firm_threshold(torch.tensor([0.9, 0.8]), torch.tensor([False, False])) is None


# Whole runs


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """train/ with 20 bright and 20 dark images, test/ with 6 of each."""
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    return image_folders(tmp_path_factory.mktemp("photos"), {"train": 20, "test": 6}, classes)


QUICK = ["--epochs", "2", "--batch-size", "8", "--device", "cpu", "--precision", "fp32"]


def trained(data: Path, run: Path, *more: str) -> dict:
    words = ["resnet20_cifar", "--recipe", "plain", "--data", str(data), "--out", str(run), *QUICK, *more]
    assert cifar.main([*words, "--input", "16"]) == 0
    return json.loads((run / "run.json").read_text())


def test_all_images_can_be_trained_on(photos, tmp_path):
    facts = trained(photos, tmp_path / "run", "--held-out", "0")
    assert (facts["train_images"], facts["held_out_images"], facts["keep"]) == (40, 0, "last")
    assert facts["val_acc"] is None and facts["best_epoch"] == 2
    model = from_pretrained(tmp_path / "run")
    assert (model.calibration.temperature, model.calibration.energy_threshold) == (1.0, None)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "All images were used for training, so no temperature" in card
    assert "40 training images" in card and "none were held out" in card and "validation accuracy" not in card
    assert evaluate.main([str(tmp_path / "run"), "--data", str(photos), "--device", "cpu"]) == 0


def test_one_image_can_be_held_out(photos, tmp_path):
    facts = trained(photos, tmp_path / "run", "--held-out", "1")
    assert (facts["train_images"], facts["held_out_images"]) == (39, 1)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "The temperature stays 1: it takes 5 validation images to fit it." in card


def test_a_card_says_on_how_many_images_the_calibration_was_fitted(photos, tmp_path):
    facts = trained(photos, tmp_path / "run", "--held-out", "20")
    card = (tmp_path / "run" / "README.md").read_text()
    assert "20 validation images" in card
    share, low, high = (percent(each, 1) for each in facts["calibration"]["false_alarms"])
    assert (
        f"estimated from 20 images, {share} of new images like them fall below it ({low} to {high})" in card
    )
    assert run_facts(card)["calibration"]["images"] == 20
    low, high = facts["calibration"]["temperature"] or (None, None)
    assert (f"(95 % interval {low:.3g} to {high:.3g})" if low else "The temperature stays 1") in card


def test_unknown_images_with_too_few_held_out_ones_are_refused_before_training(photos, tmp_path, capsys):
    words = ["resnet20_cifar", "--data", str(photos), "--out", str(tmp_path / "run"), *QUICK]
    assert cifar.main([*words, "--held-out", "10", "--unknown", str(photos / "test")]) == 2
    assert "10 held-out images are too few for; give --held-out 19 or more" in capsys.readouterr().err


def test_a_broken_held_out_image_too_many_costs_the_measure_of_unknown_images_not_the_run(
    photos, tmp_path, capsys
):
    data = Path(shutil.copytree(photos, tmp_path / "photos"))
    _, held_out = find_images_to_train(str(data), 19, 0, whole_image((16, 16)))
    held_out.files[0].write_bytes(b"broken, and as long as before".ljust(held_out.files[0].stat().st_size))
    facts = trained(data, tmp_path / "run", "--held-out", "19", "--unknown", str(photos / "test" / "dark"))
    assert facts["calibration"]["images"] < FEWEST_FOR_THRESHOLD
    assert "validation images could be read, too few for a threshold (19 or more)" in capsys.readouterr().err


@pytest.mark.parametrize(("classes", "is_given"), [(5, False), (6, True)])
def test_top5_of_few_classes_is_no_result(classes, is_given):
    model = create_model("resnet20_cifar", input_size=16, num_classes=classes).eval()
    assert ("top5" in evaluate.measure(model, noise_set(12, 16, classes=classes))) == is_given


def test_cards_of_feature_mode_tell_what_was_computed_and_how(photos, tmp_path):
    torch.manual_seed(3)
    create_model("resnet20_cifar").save_pretrained(tmp_path / "start")
    words = ["--weights", str(tmp_path / "start"), "--data", str(photos), "--mode", "feature", *QUICK[:-1]]
    assert transfer.main([*words, "bf16", "--out", str(tmp_path / "run")]) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    card = (tmp_path / "run" / "README.md").read_text()
    assert facts["precision"] == "bfloat16" and 0 < facts["feature_seconds"] < facts["seconds"]
    assert "augmented" not in card and "augmentation" not in card.partition("## How it was trained")[2]
    assert f"{facts['feature_seconds']:.1f} of them for the features, in bfloat16" in card
    assert "top-5" not in card


def test_a_head_alone_learns_by_sgd_where_the_recipe_has_muon_for_convolutions(photos, tmp_path):
    create_model("resnet20_cifar").save_pretrained(tmp_path / "start")
    words = ["--weights", str(tmp_path / "start"), "--data", str(photos), "--mode", "feature", *QUICK]
    words += ["--recipe", "long", "--no-whiten", "--out", str(tmp_path / "run")]
    assert transfer.main(words) == 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert "- optimizer: SGD with Nesterov momentum" in card
    assert "Muon" not in card and "for batch-norm biases" not in card


# Memory


def test_large_images_are_evaluated_in_smaller_batches():
    assert [eval_batch((3, side, side)) for side in (32, 64, 224, 2000)] == [250, 250, 20, 1]
    assert eval_batch((512,)) == 250


def test_batches_of_any_size_answer_alike():
    net = create_model("resnet20_cifar", input_size=12, num_classes=4).eval()
    data = noise_set(30, classes=4)
    whole, small = (predict_logits(net, data, SAME, batch_size=size)[0] for size in (None, 7))
    torch.testing.assert_close(whole, small, rtol=1e-5, atol=1e-6)


@pytest.fixture
def shown_at_once() -> Iterator[list[int]]:
    """How many images each convolution of a network in eval mode was given."""
    seen: list[int] = []

    def note(module, inputs):
        if isinstance(module, torch.nn.Conv2d) and not module.training:
            seen.append(len(inputs[0]))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    yield seen
    hook.remove()


def test_no_part_of_a_run_evaluates_more_images_than_eval_batch(photos, tmp_path, shown_at_once):
    others = image_folders(tmp_path / "others", {"any": 4}, {"grey": noise_image(100, 150)})
    few = ["--eval-batch", "3", "--unknown", str(others)]
    trained(photos, tmp_path / "run", "--held-out", "20", *few)
    assert max(shown_at_once) == 3
    shown_at_once.clear()
    words = ["--weights", str(tmp_path / "run"), "--data", str(photos), "--mode", "feature", *QUICK, *few]
    assert transfer.main([*words, "--held-out", "20", "--out", str(tmp_path / "head")]) == 0
    assert max(shown_at_once) == 3


def test_no_part_of_an_evaluation_takes_more_images_than_eval_batch(photos, tmp_path, shown_at_once):
    trained(photos, tmp_path / "run", "--held-out", "20")
    others = image_folders(tmp_path / "others", {"any": 4}, {"grey": noise_image(100, 150)})
    few = ["--eval-batch", "3", "--unknown", str(others), "--device", "cpu"]
    words = [str(tmp_path / "run"), "--data", str(photos), "--engine", "eager", *few]
    for more, ends in ((["--tta"], (0,)), (["--precision", "bf16"], (0, 1)), (["--write"], (0,))):
        shown_at_once.clear()
        assert evaluate.main([*words, *more]) in ends  # bf16 may move the loss away from the card's
        assert max(shown_at_once) == 3


def test_split_of_none_keeps_all():
    train, held = split_held_out(torch.arange(30) % 3, 0, seed=0)
    assert (len(train), len(held)) == (30, 0)
