"""Promises of `--hard-share`: images that a small network finds hard are learned from, at the stated cost."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from helpers.training import Head, image_folders, noise_image, noise_set, same_weights
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_hub import create_model
from resnet_hub.preprocess import Preprocess
from training import cifar, hard
from training.augment import Feed
from training.data import DataError, ImageSet
from training.engine import Stopped, Trainer, TrainingError, training_flops
from training.recipes import RECIPES, Recipe, recipe_from

CPU = torch.device("cpu")
HALF = Recipe(epochs=2, batch_size=8, lr=0.05, warmup=0.0, augment=(), hard_share=0.5)
BETWEEN = hard.STEPS_BETWEEN

pytestmark = pytest.mark.usefixtures("one_thread")


def trainer(recipe: Recipe = HALF, net: nn.Module | None = None, side: int = 16, **more) -> Trainer:
    torch.manual_seed(0)
    view = Preprocess((3, side, side), mean=(0.5,) * 3, std=(0.25,) * 3)
    feed = Feed(noise_set(48, side=side, classes=3), view, recipe, 0, CPU)
    return Trainer(net or Head(side), recipe, feed, seed=0, device=CPU, **more)


def step(one: Trainer, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Take one step; returns what was shown, images and labels."""
    one.step = number
    order = torch.arange(one.recipe.shown).tensor_split(one.recipe.accumulate)
    numbered = list(enumerate(order))
    side = min(one.feed.data.shape[1:])
    shown = list(one.feed.batches(0, numbered, side))
    one.net.train()
    one.train_step(iter(shown), one._outlier_batches(numbered, side))
    return torch.cat([x for x, _, _ in shown]), torch.cat([labels for *_, labels in shown])


def hardest(judge: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    losses = nn.functional.cross_entropy(judge(x), labels, reduction="none")
    return losses.sort(descending=True).indices[: len(x) // 2].sort().values


def test_each_step_learns_from_the_images_with_the_largest_loss():
    one = trainer()
    judge, learned = copy.deepcopy(one.judge.net), []
    one.net.register_forward_pre_hook(lambda net, inputs: learned.append(inputs[0]))
    x, labels = step(one)
    assert len(x) == 16 and torch.equal(learned[0], x[hardest(judge, x, labels)])


def test_the_small_network_goes_downhill_on_every_fourth_batch():
    """Its first step with SGD: the gradient of the mean loss on the chosen images, times 1 + momentum."""
    one = trainer()
    judge = copy.deepcopy(one.judge.net)
    x, labels = step(one)
    chosen = hardest(judge, x, labels)
    nn.functional.cross_entropy(judge(x[chosen]), labels[chosen]).backward()
    expected = judge.fc.weight - 0.05 * 1.9 * (judge.fc.weight.grad + 5e-4 * judge.fc.weight)
    torch.testing.assert_close(one.judge.net.fc.weight, expected, rtol=1e-4, atol=1e-6)
    after = one.judge.net.fc.weight.detach().clone()
    for number in range(1, BETWEEN):
        step(one, number)
        assert torch.equal(one.judge.net.fc.weight, after)
    step(one, BETWEEN)
    assert not torch.equal(one.judge.net.fc.weight, after)


def test_the_gradients_of_all_processes_are_averaged(monkeypatch):
    """Beside another process, whose gradient is 1 everywhere; the step as above."""
    one = trainer()
    judge = copy.deepcopy(one.judge.net)
    monkeypatch.setattr(hard, "summed", lambda gradient: gradient.add_(1.0))
    monkeypatch.setattr(hard, "world_size", lambda: 2)
    x, labels = step(one)
    chosen = hardest(judge, x, labels)
    nn.functional.cross_entropy(judge(x[chosen]), labels[chosen]).backward()
    mean = (judge.fc.weight.grad + 1) / 2
    expected = judge.fc.weight - 0.05 * 1.9 * (mean + 5e-4 * judge.fc.weight)
    torch.testing.assert_close(one.judge.net.fc.weight, expected, rtol=1e-4, atol=1e-6)


def test_the_small_network_is_clipped_as_the_trained_one():
    one = trainer(replace(HALF, clip_norm=1e-3, weight_decay=0.0))
    before = copy.deepcopy(one.judge.net)
    step(one)
    moved = [now - then for now, then in zip(one.judge.net.parameters(), before.parameters(), strict=True)]
    assert 0 < sum(m.norm() ** 2 for m in moved) ** 0.5 <= 0.05 * 1.9 * 1e-3 * 1.001


def test_a_small_network_that_diverged_is_noticed(tmp_path):
    one = trainer()
    one.judge.net.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="sum of the weights became nan"):
        one.save(tmp_path)


def test_an_epoch_shows_every_image_once_learns_from_half_and_follows_the_schedule(tmp_path):
    one = trainer()
    shown, learned = [], []
    choose = one.judge.hardest

    def look(x, targets):
        shown.append(x)
        return choose(x, targets)

    one.judge.hardest = look
    one.net.register_forward_pre_hook(lambda net, inputs: learned.append(len(inputs[0])))
    one.train_epoch(tmp_path)
    whole = torch.cat([x for x, _, _ in one.feed.batches(0, [(0, torch.arange(48))], 16)])
    sums = [torch.cat(images).sum((1, 2, 3)).sort().values for images in (shown, [whole])]
    torch.testing.assert_close(*sums)
    assert learned == [8, 8, 8]
    rates = {group["lr"] for each in (one, one.judge) for o in each.optimizers for group in o.param_groups}
    assert [*rates] == [pytest.approx(0.05 * (1 - (2 / 3) / 2))]


def test_a_run_stopped_mid_epoch_resumes_to_the_same_bits(tmp_path):
    held_out = noise_set(9, side=16, classes=3)
    through, half, rest = trainer(), trainer(), trainer()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    through.fit(held_out, tmp_path / "a")
    stops = iter([True])
    with pytest.raises(Stopped):
        half.train_epoch(tmp_path / "b", lambda: next(stops))
    rest.load(tmp_path / "b")
    assert (rest.epoch, rest.step) == (0, 1)
    rest.fit(held_out, tmp_path / "b")
    assert same_weights(through.net.state_dict(), rest.net.state_dict())
    assert same_weights(through.judge.net.state_dict(), rest.judge.net.state_dict())


@pytest.mark.parametrize("side", [16, 64])
def test_cost_counts_what_the_small_network_computes(side):
    """Against torch's counter over the steps between two of its own, with outliers; 64 pixels are shrunk."""
    net = create_model("resnet20_cifar", num_classes=3, input_size=side)
    one = trainer(net=net, side=side, outliers=noise_set(48, side=side, classes=3))
    with FlopCounterMode(display=False) as counter:
        for number in range(BETWEEN):
            step(one, number)
    stated = one._flops[side] * 8 * BETWEEN
    assert counter.get_total_flops() == pytest.approx(stated, rel=1e-3)
    trained = 2 * training_flops(one.net, (3, side, side), CPU) * 8 * BETWEEN
    assert (1.1 if side == 16 else 1.02) * trained < stated < 1.5 * trained


def test_outliers_are_as_many_as_the_images_learned_from():
    one = trainer(outliers=noise_set(48, side=16, classes=3))
    seen = []
    one.net.register_forward_pre_hook(lambda net, inputs: seen.append(len(inputs[0])))
    step(one)
    assert seen == [16]


def test_its_stem_starts_whitened_as_the_trained_networks(tmp_path, monkeypatch):
    class Enough(Exception):
        pass

    trained: list[Trainer] = []

    def stop(one, *anything):
        trained.append(one)
        raise Enough

    monkeypatch.setattr(cifar, "fit", stop)
    classes = {"dark": noise_image(0, 120), "bright": noise_image(100, 256)}
    data = image_folders(tmp_path / "data", {"train": 12, "test": 2}, classes)
    words = ["resnet8_cifar", "--data", str(data), "--out", str(tmp_path / "run"), "--recipe", "short"]
    words += ["--batch-size", "4", "--hard-share", "0.5", "--held-out", "4", "--precision", "fp32"]
    options = cifar.parse_arguments([*words, "--low-res", "0", "--low-res-until", "0"])
    options.command, options.data_name = "python -m training.cifar", None
    with pytest.raises(Enough):
        cifar.train(options, CPU)
    (one,) = trained
    assert torch.equal(one.judge.net.conv1.weight, one.net.conv1.weight)


def test_what_cannot_be_chosen_from_is_refused():
    several = ImageSet(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.ones(4, 2), ("a", "b"), "noise")
    view = Preprocess((3, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    with pytest.raises(ValueError, match="images of one class each"):
        hard.Judge(HALF, Feed(several, view, HALF, 0, CPU), 0, CPU)
    with pytest.raises(ValueError, match="needs images of 8 pixels, and some have 6"):
        trainer(replace(HALF, low_res=6, low_res_until=0.5))
    with pytest.raises((ValueError, DataError), match="a step of 8 images cannot be cut into 16"):
        trainer(replace(HALF, accumulate=16)).train_epoch(None)


def test_a_share_that_changes_nothing_is_refused():
    words = ["resnet20_cifar", "--data", "d", "--out", "o", "--recipe", "plain", "--batch-size", "16"]
    assert recipe_from(cifar.parse_arguments([*words, "--hard-share", "1"])).shown == 16
    with pytest.raises(ValueError, match=r"--hard-share 0\.99 has no effect here"):
        recipe_from(cifar.parse_arguments([*words, "--hard-share", "0.99"]))
    assert replace(RECIPES["plain"], batch_size=16, hard_share=0.5).shown == 32
