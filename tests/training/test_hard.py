"""Promises of `--hard-share`: images that a small network finds hard are learned from, at the stated cost."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from helpers.training import Head, noise_set
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_hub import create_model
from resnet_hub.preprocess import Preprocess
from training.augment import Feed
from training.engine import Trainer, training_flops
from training.hard import STEPS_BETWEEN
from training.recipes import RECIPES, Recipe

CPU = torch.device("cpu")
VIEW = Preprocess((3, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
HALF = Recipe(epochs=1, batch_size=8, lr=0.05, warmup=0.0, augment=(), hard_share=0.5)

pytestmark = pytest.mark.usefixtures("one_thread")


def trainer(recipe: Recipe, net: nn.Module | None = None) -> Trainer:
    torch.manual_seed(0)
    data = noise_set(32, side=16, classes=3)
    feed = Feed(data, VIEW, recipe, 0, CPU)
    return Trainer(net or Head(16), recipe, feed, seed=0, device=CPU)


def step(one: Trainer, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Take one step; returns what was shown, images and labels."""
    one.step = number
    order = torch.arange(one.recipe.shown).tensor_split(one.recipe.accumulate)
    numbered = list(enumerate(order))
    shown = list(one.feed.batches(0, numbered, 16))
    one.net.train()
    one.train_step(iter(shown))
    return torch.cat([x for x, _, _ in shown]), torch.cat([labels for *_, labels in shown])


def test_each_step_learns_from_the_images_with_the_largest_loss():
    one = trainer(HALF)
    judge, learned = copy.deepcopy(one.judge.net), []
    one.net.register_forward_pre_hook(lambda net, inputs: learned.append(inputs[0]))
    x, labels = step(one)
    losses = nn.functional.cross_entropy(judge(x), labels, reduction="none")
    hardest = losses.sort(descending=True).indices[:8].sort().values
    assert len(x) == 16 and torch.equal(learned[0], x[hardest])


def test_the_small_network_goes_downhill_on_every_fourth_batch():
    """Its first step with SGD: the gradient of the mean loss on the chosen images, times 1 + momentum."""
    one = trainer(HALF)
    judge = copy.deepcopy(one.judge.net)
    x, labels = step(one)
    chosen = one.loss.each(judge(x), labels).topk(8).indices.sort().values
    nn.functional.cross_entropy(judge(x[chosen]), labels[chosen]).backward()
    expected = judge.fc.weight - 0.05 * 1.9 * (judge.fc.weight.grad + 5e-4 * judge.fc.weight)
    torch.testing.assert_close(one.judge.net.fc.weight, expected, rtol=1e-4, atol=1e-6)
    after = one.judge.net.fc.weight.detach().clone()
    for number in range(1, STEPS_BETWEEN):
        step(one, number)
        assert torch.equal(one.judge.net.fc.weight, after)
    step(one, STEPS_BETWEEN)
    assert not torch.equal(one.judge.net.fc.weight, after)


def test_micro_batches_of_a_step_move_the_small_network_once():
    """Without its batch norms, which see a micro-batch alone, parts and whole would be the same step."""
    before = trainer(HALF).judge.net.fc.weight.detach().clone()
    moved = []
    for parts in (1, 2):
        one = trainer(replace(HALF, accumulate=parts))
        step(one)
        moved.append(one.judge.net.fc.weight.detach() - before)
    assert nn.functional.cosine_similarity(*(m.flatten() for m in moved), dim=0) > 0.5
    assert moved[1].norm() == pytest.approx(moved[0].norm().item(), rel=0.5)


def test_an_epoch_shows_every_image_once_and_learns_from_half(tmp_path):
    one = trainer(HALF)
    seen, learned = [], []
    one.judge.net.register_forward_pre_hook(
        lambda net, inputs: seen.append(len(inputs[0])) if not torch.is_grad_enabled() else None
    )
    one.net.register_forward_pre_hook(lambda net, inputs: learned.append(len(inputs[0])))
    one.train_epoch(tmp_path)
    assert sum(seen) == 32 and learned == [8, 8]


def test_cost_counts_what_the_small_network_computes():
    """Against torch's counter over the steps between two of its own."""
    one = trainer(HALF, net=create_model("resnet20_cifar", num_classes=3, input_size=16))
    with FlopCounterMode(display=False) as counter:
        for number in range(STEPS_BETWEEN):
            step(one, number)
    stated = one._flops[16] * 8 * STEPS_BETWEEN
    assert counter.get_total_flops() == pytest.approx(stated, rel=1e-3)
    assert stated > 1.1 * training_flops(one.net, (3, 16, 16), CPU) * 8 * STEPS_BETWEEN


@pytest.mark.parametrize("share", [0, 1.5, -0.5])
def test_a_share_of_nothing_or_more_than_all_is_refused(share):
    with pytest.raises(ValueError, match="hard_share"):
        replace(RECIPES["plain"], hard_share=share)
