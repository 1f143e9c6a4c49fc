"""The lab computes what torch's own layers, autograd or a count by hand gives, and bounds every input."""

from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resnet_hub import create_model
from resnet_hub.lab import (
    batchnorm,
    cost,
    dropout,
    family,
    fine_tuning,
    gradients,
    heads,
    pooling,
    products,
    residual,
    scaling,
    skips,
    timeline,
)
from resnet_hub.lab.conv_stack import ConvStack
from resnet_hub.lab.fine_tuning import mode_for, mode_rates
from training.transfer import chosen_mode

# pooling

WINDOWS = [(2, 2, 0), (3, 2, 1), (2, 3, 0), (3, 1, 1), (4, 4, 2), (1, 2, 0)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
@pytest.mark.parametrize("shape", [(6, 6), (7, 9), (3, 11, 8)])
def test_pooling_is_torch_s(shape, kernel, stride, padding):
    grid = np.random.default_rng(0).normal(size=shape)
    x = torch.from_numpy(grid).reshape(1, -1, *shape[-2:])
    for kind, oracle in (("max", F.max_pool2d), ("average", F.avg_pool2d)):
        expected = oracle(x, kernel, stride, padding).numpy()
        found = pooling.pool(grid, kind, kernel, stride, padding).values
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-12)
    everything = pooling.pool(grid, "global").values.ravel()
    np.testing.assert_allclose(everything, F.adaptive_avg_pool2d(x, 1).numpy().ravel(), rtol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_inputs_called_dropped_are_those_without_a_gradient(kernel, stride, padding):
    grid = np.random.default_rng(1).normal(size=(7, 8))
    for kind, oracle in (("max", F.max_pool2d), ("average", F.avg_pool2d)):
        x = torch.from_numpy(grid)[None, None].requires_grad_()
        oracle(x, kernel, stride, padding).sum().backward()
        found = pooling.pool(grid, kind, kernel, stride, padding)
        np.testing.assert_array_equal(found.used, x.grad[0, 0].numpy() != 0)
        assert found.dropped == pytest.approx((x.grad == 0).double().mean().item())


def test_a_shift_by_one_pixel_is_no_mirror_image_and_changes_what_is_pooled():
    edge = np.array([[0, 0, 0, 9, 0, 0]] * 6)
    found = pooling.shift_test(edge, "max")
    np.testing.assert_array_equal(found.moved[0], [0, 0, 0, 0, 9, 0])
    np.testing.assert_array_equal(found.before[0], [0, 9, 0])
    np.testing.assert_array_equal(found.after[0], [0, 0, 9])
    assert found.changed == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "arguments",
    [("max", 9), ("max", 2, 0), ("max", 2, 2, 2), ("median",), ("max", 7, 1, 0), ("max", float("nan"))],
)
def test_a_window_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match=r"allowed|known"):
        pooling.pool(np.zeros((6, 6)), *arguments)
    with pytest.raises(ValueError, match="longest side"):
        pooling.pool(np.zeros((6, 129)), "max")


# residual blocks


def test_a_zeroed_branch_returns_its_input_as_far_as_the_relu_lets_it():
    kept, cut = residual.pass_through(0), residual.pass_through(0, negative=True)
    assert kept.difference == 0 and np.array_equal(kept.before, kept.residual)
    x = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0)).abs()
    assert not kept.plain.any() and kept.plain_difference == pytest.approx(x.max().item(), rel=1e-6)
    np.testing.assert_array_equal(cut.residual, np.maximum(cut.before, 0))
    assert cut.difference > 0
    assert residual.pass_through(1).difference > 0


@pytest.mark.parametrize("block", residual.BLOCKS)
@pytest.mark.parametrize(
    ("inside", "outside", "stride", "size"), [(64, 128, 2, 56), (64, 64, 1, 56), (16, 64, 1, 7)]
)
def test_shapes_through_a_block_are_those_of_the_real_one(block, inside, outside, stride, size):
    from resnet_hub.config import ResNetConfig
    from resnet_hub.models.resnet import BasicBlock, Bottleneck

    found = residual.block_shapes(block, inside, outside, stride, size)
    width = outside // (4 if block == "bottleneck" else 1)
    kind = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
    real = kind(ResNetConfig(name="x", block=block), inside, width, stride)
    shapes = {}
    for name, module in real.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, out, name=name: shapes.update({name: tuple(out.shape[1:])})
            )
    out = real(torch.zeros(2, inside, size, size))
    assert found.out_shape == tuple(out.shape[1:])
    assert {step.name: step.shape for step in found.steps} == shapes
    assert found.params == sum(p.numel() for p in real.parameters())


def test_the_course_s_strided_block():
    found = residual.block_shapes("basic", 64, 128, 2, 56)
    assert found.out_shape == (128, 28, 28)
    assert [step.params for step in found.steps] == [64 * 128 * 9, 128 * 128 * 9, 64 * 128]


# gradients and products


def images_and_labels():
    """What the lab draws its gradients from."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(gradients.IMAGES, 3, gradients.SIDE, gradients.SIDE, generator=draw)
    return x.double(), torch.randint(10, (gradients.IMAGES,), generator=draw)


def functional_norms(model, depth: int, kind: str, act, batch_norm: bool) -> dict[str, list[float]]:
    """The same network written out with functions on copies of its weights: an independent backward pass."""
    weights = [conv.weight.detach().clone().requires_grad_() for conv in model.convs]
    norm = (lambda y: F.batch_norm(y, None, None, training=True)) if batch_norm else (lambda y: y)
    x, labels = images_and_labels()
    maps = []

    def seen(y):
        y.retain_grad()
        maps.append(y)
        return y

    if kind == "pre":
        y = seen(F.conv2d(x, weights[0], padding=1))
        for first in range(1, depth - 1, 2):
            z = seen(F.conv2d(act(norm(y)), weights[first], padding=1))
            y = seen(y + F.conv2d(act(norm(z)), weights[first + 1], padding=1))
        if depth % 2 == 0:
            y = seen(F.conv2d(act(norm(y)), weights[-1], padding=1))
        y = act(norm(y))
    else:
        y = seen(act(norm(F.conv2d(x, weights[0], padding=1))))
        for first in range(1, depth - 1, 2):
            z = seen(act(norm(F.conv2d(y, weights[first], padding=1))))
            z = norm(F.conv2d(z, weights[first + 1], padding=1))
            y = seen(act(z + y if kind == "post" else z))
        if depth % 2 == 0:
            y = seen(act(norm(F.conv2d(y, weights[-1], padding=1))))
    logits = F.linear(y.mean((2, 3)), model.head.weight.detach())
    F.cross_entropy(logits, labels).backward()
    return {
        "weights": [weight.grad.norm().item() for weight in weights],
        "activations": [each.grad.norm().item() for each in maps],
    }


@pytest.mark.parametrize("depth", [5, 8])
@pytest.mark.parametrize("kind", ["plain", "post", "pre"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("activation", gradients.ACTIVATIONS)
def test_gradient_norms_are_those_of_an_independent_backward_pass(depth, kind, batch_norm, activation):
    skip, order = kind != "plain", "pre" if kind == "pre" else "post"
    model = ConvStack(depth, skip, activation, batch_norm, 0, order)
    act = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "none": lambda y: y}[activation]
    expected = functional_norms(model, depth, kind, act, batch_norm)
    settings = {"skip": skip, "activation": activation, "batch_norm": batch_norm, "order": order}
    for at in gradients.PLACES:
        found = gradients.gradient_flow(depth, at=at, **settings)
        np.testing.assert_allclose(found.norms, expected[at], rtol=1e-6)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_plus_one_and_the_branch_add_up_to_the_gradient_of_each_block(batch_norm):
    found = gradients.plus_one(7, batch_norm=batch_norm)
    model = ConvStack(7, True, "relu", batch_norm, seed=0)
    x, labels = images_and_labels()
    F.cross_entropy(model(x), labels)
    out = model.joins[-1][0].detach().requires_grad_()  # the last block, once more by itself
    sums = model.norms[6](model.convs[6](torch.relu(model.norms[5](model.convs[5](out)))))
    total = (sums + out.clone()).detach().requires_grad_()
    F.cross_entropy(model.head(torch.relu(total).mean((2, 3))), labels).backward()
    through = torch.autograd.grad(sums, out, total.grad)[0]  # F's own vector-Jacobian product
    assert found.shortcut[-1] == pytest.approx(total.grad.norm().item(), rel=1e-3)
    assert found.branch[-1] == pytest.approx(through.norm().item(), rel=1e-3)
    cosine = torch.cosine_similarity(total.grad.flatten(), through.flatten(), dim=0).item()
    assert found.cosines[-1] == pytest.approx(cosine, abs=1e-3)
    assert found.whole[-1] == pytest.approx((total.grad + through).norm().item(), rel=1e-6)
    assert len(found.shortcut) == len(found.cosines) == 3


def test_at_56_layers_activations_and_weights_tell_opposite_stories_without_batch_norm():
    def ratio(skip, at):
        return gradients.gradient_flow(56, skip=skip, batch_norm=False, at=at).first_to_last

    assert ratio(False, "activations") < 0.1 and ratio(True, "activations") > 10_000
    assert ratio(False, "weights") > 2 and ratio(True, "weights") < 0.1


def test_plain_nets_with_batch_norm_explode_toward_the_input_and_residual_ones_do_not():
    plain, post, pre = (
        gradients.gradient_flow(56, **kind).first_to_last
        for kind in ({"skip": False}, {"skip": True}, {"skip": True, "order": "pre"})
    )
    assert plain > 1000 > 10 > post > pre > 1


def test_sigmoids_make_both_networks_vanish_beyond_float32_but_not_the_pre_activation_one():
    plain, post, pre = (
        gradients.gradient_flow(56, activation="sigmoid", batch_norm=False, **kind).first_to_last
        for kind in ({"skip": False}, {"skip": True}, {"skip": True, "order": "pre"})
    )
    assert 0 < plain < 1e-25 < post < 1e-15 and pre > 0.01


def test_branch_and_shortcut_are_nearly_orthogonal_and_their_sum_longer_than_the_shortcut():
    found = gradients.plus_one(56)
    assert max(map(abs, found.cosines)) < 0.06 and len(found.cosines) == 27
    assert all(whole > part for whole, part in zip(found.whole, found.shortcut, strict=True))


def test_a_pre_activation_network_has_shortcuts():
    with pytest.raises(ValueError, match="skip=True"):
        gradients.gradient_flow(8, skip=False, order="pre")


def test_the_paper_s_plain_net_has_far_larger_gradients_than_its_residual_twin():
    weights = []
    for seed in range(3):
        plain, skip = (
            gradients.registered_flow(f"{k}56_cifar", "weights", seed) for k in ("plain", "resnet")
        )
        weights.append(plain.norms[0] / skip.norms[0])
    assert weights == pytest.approx([404, 493, 338], rel=0.01)
    plain, skip = (gradients.registered_flow(f"{kind}56_cifar") for kind in ("plain", "resnet"))
    assert len(plain.norms) == len(skip.norms) == 55  # and the classifier
    assert plain.norms[0] / skip.norms[0] == pytest.approx(419, rel=0.02)


def test_the_factor_a_layer_leads_from_the_last_to_the_first():
    flow = gradients.GradientFlow((8.0, 4.0, 2.0, 1.0))
    assert flow.first_to_last == 8 and flow.factor_a_layer == pytest.approx(2)


def test_products_are_the_course_s():
    assert products.product(0.9, 100).last == pytest.approx(2.656e-5, rel=1e-3)
    assert products.product(1.1, 100).last == pytest.approx(13_780.6, rel=1e-4)
    assert products.product(0.5, 9).values == tuple(2.0**-i for i in range(10))


# batch norm and dropout


@pytest.mark.parametrize("border", batchnorm.BORDERS)
@pytest.mark.parametrize("norm", [True, False])
def test_spread_along_depth_is_that_of_torch_s_own_layers(norm, border):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(batchnorm.IMAGES, 128, 8, 8, generator=draw)
    expected = []
    for _ in range(6):
        conv = nn.Conv2d(128, 128, 3, padding=1, bias=False, padding_mode=border)
        with torch.no_grad():
            conv.weight.copy_(torch.randn(128, 128, 3, 3, generator=draw) * 0.7 * (2 / 1152) ** 0.5)
            x = nn.BatchNorm2d(128)(conv(x)) if norm else conv(x)
        expected.append(x.std().item())
        x = x.relu()
    np.testing.assert_allclose(batchnorm.spread(6, norm, 0.7, border).stds, expected, rtol=1e-4)


def test_he_s_initialisation_keeps_activations_and_zeros_at_the_border_eat_them():
    ends = [
        [batchnorm.spread(20, False, 1.0, border, seed).stds[-1] for border in batchnorm.BORDERS]
        for seed in range(5)
    ]
    assert np.mean(ends, axis=0)[0] == pytest.approx(2**0.5, rel=0.4)
    assert all(eaten < kept / 2 for kept, eaten in ends)


def test_without_batch_norm_activations_die_or_explode_and_with_it_they_stay():
    assert batchnorm.spread(40, False, 0.5).stds[-1] < 1e-9
    assert batchnorm.spread(40, False, 2).stds[-1] > 1e9
    assert all(abs(std - 1) < 0.05 for gain in (0.5, 2) for std in batchnorm.spread(40, True, gain).stds)


def test_stored_statistics_move_a_tenth_of_the_way_each_batch():
    mean, variance = 0.0, 1.0
    draw = torch.Generator().manual_seed(0)
    torch.randn(64, 1, generator=draw)
    for _ in range(5):
        x = torch.randn(64, 1, generator=draw) * 2 + 3
        mean, variance = 0.9 * mean + 0.1 * x.mean().item(), 0.9 * variance + 0.1 * x.var().item()
    found = batchnorm.modes(3, 2, 5)
    assert (found.running_mean, found.running_var) == pytest.approx((mean, variance), rel=1e-5)
    assert found.train == pytest.approx((0, 1), abs=1e-3)
    expected = (x.mean().item() - mean) / variance**0.5, x.std(correction=0).item() / variance**0.5
    assert found.evaluated == pytest.approx(expected, rel=1e-3)


def test_a_bias_before_batch_norm_changes_nothing_and_learns_nothing():
    right, wrong = (batchnorm.needless_bias(5, order) for order in batchnorm.ORDERS)
    assert right.with_norm < 1e-4 and right.gradient < 1e-6
    assert wrong.with_norm > 0.1 and wrong.gradient > 1e-5
    assert right.without_norm == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize("p", [0, 0.3, 0.5, 0.7])
def test_dropout_scales_while_training_and_leaves_evaluation_alone(p):
    found = dropout.drop(p, training=True)
    kept = found.after != 0
    np.testing.assert_allclose(found.after[kept], found.before[kept] / (1 - p), rtol=1e-5)
    assert found.zeroed == pytest.approx(1 - kept.mean()) and found.zeroed == pytest.approx(p, abs=0.15)
    assert found.scale == pytest.approx(1 / (1 - p))
    assert found.mean_after == pytest.approx(found.mean_before, rel=0.05)
    used = dropout.drop(p, training=False)
    assert np.array_equal(used.before, used.after) and used.scale == 1 and used.zeroed == 0


def test_the_lab_leaves_torch_s_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    dropout.drop(0.5, training=True, seed=3)
    assert torch.rand(1) == expected


# costs, scaling, skips, guides


@pytest.mark.parametrize("width", [64, 256, 512])
def test_block_costs_are_module_counts(width):
    def weights(*kernels):
        return [nn.Conv2d(i, o, k, bias=False).weight.numel() for i, o, k in kernels]

    inner = width // 4
    found = cost.block_cost(width, size=14)
    assert list(found.basic) == weights((width, width, 3), (width, width, 3))
    assert list(found.bottleneck) == weights((width, inner, 1), (inner, inner, 3), (inner, width, 1))
    assert found.macs == (sum(found.basic) * 196, sum(found.bottleneck) * 196)


def test_the_course_s_costs():
    found = cost.block_cost(256)
    assert (sum(found.basic), sum(found.bottleneck)) == (1_179_648, 69_632)
    assert found.ratio == pytest.approx(16.94, abs=0.01)
    assert cost.windows(64) == cost.Windows(18 * 64**2, 25 * 64**2)
    small, large = cost.networks("resnet34", "resnet50")
    assert (small.params, large.params) == (21_797_672, 25_557_032)


def test_compound_scaling_about_doubles_the_cost():
    assert [round(getattr(scaling.compound(1), k), 2) for k in ("depth", "width", "resolution")] == [
        1.2,
        1.1,
        1.15,
    ]
    assert scaling.compound(1).flops == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    assert scaling.compound(3).flops == pytest.approx(2**3, rel=0.12)
    found = scaling.compound(2)
    assert found.alone[1] ** 2 == pytest.approx(found.flops) == found.alone[0]


def test_patches_are_vit_b_16_s():
    found = scaling.patches(224, 16)
    assert (found.across, found.tokens, found.patch_values, found.attention) == (14, 197, 768, 197 * 197)
    with pytest.raises(ValueError, match="multiple"):
        scaling.patches(225, 16)


def test_joining_by_concatenation_grows_as_real_layers_do():
    found = skips.compare(64, 32, 4)
    x = torch.zeros(1, 64, 4, 4)
    for i in range(4):
        layer = nn.Conv2d(x.shape[1], 32, 3, padding=1, bias=False)
        assert found.concatenated_weights[i] == layer.weight.numel()
        x = torch.cat([x, layer(x)], 1)
        assert found.concatenated[i + 1] == x.shape[1]
    assert set(found.added) == {64} and set(found.added_weights) == {64 * 64 * 9}
    assert found.unet_weights == nn.Conv2d(2 * 64, 64, 3, bias=False).weight.numel()


def test_the_timeline_has_the_published_errors_and_counted_sizes():
    errors = {each.key: each.top5_error for each in timeline.MILESTONES if each.top5_error}
    assert errors == {"alexnet": 16.4, "vgg": 7.3, "googlenet": 6.7, "resnet": 3.57}
    assert [each.year for each in timeline.MILESTONES] == sorted(each.year for each in timeline.MILESTONES)
    assert timeline.MILESTONES[0].year == 1998 and timeline.MILESTONES[-1].name == "ViT"
    assert family.size("resnet152").params == 60_192_808
    assert family.size("lenet5").params == sum(p.numel() for p in create_model("lenet5").parameters())


def test_latency_is_measured():
    assert 1e-3 < family.latency("resnet18") < 10


# the adviser


@pytest.mark.parametrize(
    ("images", "mode", "trainable"),
    [(500, "feature", 4_098), (10_000, "partial", 14_968_834), (50_000, "full", 23_512_130)],
)
def test_advice_is_what_the_trainer_does(images, mode, trainable):
    found = fine_tuning.advise(images, 2, similar=True)
    assert found.mode == mode == chosen_mode("auto", images, create_model("resnet50").config)
    assert (found.trainable, found.total) == (trainable, 23_512_130)


@pytest.mark.parametrize("images", [500, 5_000, 50_000])
@pytest.mark.parametrize("network", ["resnet18", "resnet50"])
def test_advised_rates_and_counts_are_those_of_the_real_network(images, network):
    found = fine_tuning.advise(images, 7, True, network)
    model = create_model(network, num_classes=7)
    rates = mode_rates(found.mode, model.config, "fc")
    share = {n: next(s for p, s in rates if re.match(p, n)) for n, _ in model.named_parameters()}
    assert found.trainable == sum(p.numel() for n, p in model.named_parameters() if share[n])
    stages = {"stem": "bn1.weight", "head": "fc.weight"} | {
        f"layer{i}": f"layer{i}.0.bn1.weight" for i in range(1, 5)
    }
    assert dict(found.rates) == pytest.approx({stage: 1e-3 * share[name] for stage, name in stages.items()})


def test_images_unlike_imagenet_s_teach_every_layer_however_few_they_are():
    assert {mode_for(n, similar=False) for n in (5, 500, 5_000, 50_000)} == {"full"}
    assert fine_tuning.advise(500, 2, similar=False).rates == (
        *((stage, pytest.approx(3e-4)) for stage in ("stem", "layer1", "layer2", "layer3", "layer4", "head")),
    )


def test_the_advised_command_is_one_the_trainer_takes():
    from training.transfer import parse_arguments

    words = fine_tuning.advise(500, 2, False).command.split()
    assert words[:3] == ["python", "-m", "training.transfer"]
    assert (parse_arguments(words[3:]).mode, parse_arguments(words[3:]).far) == ("full", True)


def test_bounds_name_the_value_and_what_is_allowed():
    for call in (
        lambda: gradients.gradient_flow(1000, skip=True),
        lambda: batchnorm.spread(10, True, 1e9),
        lambda: dropout.drop(1.0, True),
        lambda: cost.block_cost(10**9),
        lambda: skips.compare(64, 32, 10**6),
        lambda: products.product(0.9, 10**9),
        lambda: scaling.compound(100),
        lambda: fine_tuning.advise(0, 2, True),
        lambda: residual.block_shapes("basic", 64, 10**6, 1, 56),
        lambda: batchnorm.modes(0, 1, 10**9),
    ):
        with pytest.raises(ValueError, match=r"is not allowed; give .+ to .+"):
            call()


# batch norm's formula and effects


def test_the_formula_of_batch_norm_is_the_paper_s():
    for x, mean, std, gamma, beta in ((5, 3, 2, 1.5, 0.5), (-4, 1.5, 0.5, -2, 3)):
        expected = gamma * (x - mean) / (std**2 + 1e-5) ** 0.5 + beta
        assert batchnorm.normalise(x, mean, std, gamma, beta) == pytest.approx(expected, rel=1e-5)


def test_effects_of_batch_norm_are_those_of_its_definition():
    few, many = batchnorm.effects(4), batchnorm.effects(64)
    for found in (few, many):
        assert found.rescaled < 1e-3 and found.biased < 1e-4
        assert found.gradient == pytest.approx(0.1, rel=1e-3)  # y(cw) = y(w), so dL/d(cw) = dL/dw / c
    assert few.noise > 2 * many.noise > 0


def test_the_noise_of_the_batch_is_the_spread_of_one_image_s_output():
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(100, 8, 4, 4, 4, generator=draw)
    images[:, 0] = images[0, 0]
    weight = torch.randn(4, 4, 3, 3, generator=draw) * 0.25
    outs = []
    for batch in images:
        maps = F.conv2d(batch, weight, padding=1).double()
        mean, var = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), correction=0, keepdim=True)
        outs.append(((maps - mean) / (var + 1e-5).sqrt())[0])
    assert batchnorm.effects(8).noise == pytest.approx(torch.stack(outs).std(0).mean().item(), rel=1e-4)


# a block's own code


@pytest.mark.parametrize(("block", "inside"), [("basic", 64), ("bottleneck", 64), ("basic", 128)])
def test_each_line_of_a_block_s_code_has_the_shape_a_debugger_sees(block, inside):
    """Oracle: a trace function that looks at `out` after each line while the real block runs."""
    from resnet_hub.config import ResNetConfig
    from resnet_hub.models.resnet import BasicBlock, Bottleneck

    kind = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
    real = kind(ResNetConfig(name="x", block=block), inside, 128 // (4 if block == "bottleneck" else 1), 2)
    shapes: list[tuple[int, ...]] = []

    def look(frame, event, value):
        if frame.f_code is not kind.forward.__code__:
            return None
        if event == "return":
            shapes.append(tuple(value.shape[1:]))
        elif event == "line" and "out" in frame.f_locals:
            shapes.append(tuple(frame.f_locals["out"].shape[1:]))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        real(torch.zeros(1, inside, 14, 14))
    finally:
        sys.settrace(before)
    found = residual.block_code(block, inside, 128, 2, 14)
    assert found[0].code.startswith("def forward(self, x")
    shown = [line.shape for line in found if line.shape]
    distinct = [shapes[0], *(b for a, b in itertools.pairwise(shapes) if a != b)]
    assert [shown[0], *(b for a, b in itertools.pairwise(shown) if a != b)] == distinct
    assert shown[-1] == shapes[-1] == (128, 7, 7)


# heads


@pytest.mark.parametrize(("channels", "side", "classes"), [(512, 7, 1000), (64, 8, 10), (16, 1, 2)])
def test_heads_are_module_counts(channels, side, classes):
    def count(*layers):
        return sum(p.numel() for layer in layers for p in layer.parameters())

    with torch.device("meta"):
        flat = channels * side * side
        hidden = nn.Linear(flat, 4096), nn.Linear(4096, 4096), nn.Linear(4096, classes)
        expected = (count(nn.Linear(channels, classes)), count(nn.Linear(flat, classes)), count(*hidden))
    found = heads.heads(channels, side, classes)
    assert (found.pooled, found.flat, found.hidden) == expected


def test_the_head_of_vgg_16_and_of_resnet_50_are_known():
    assert heads.heads(512, 7, 1000).hidden == 123_642_856
    assert heads.heads(2048, 7, 1000).pooled == 2_049_000


def test_the_average_divides_noise_by_the_side_and_the_maximum_saves_a_spike():
    found = heads.pooling_errors(0.5, side=8, draws=4000)
    assert found.flat[0] == pytest.approx(0.5 / 8, rel=0.05)
    # The mean of the largest of 64 normal values is 2.4 deviations (Tippett 1925: 2.39 for n = 64).
    assert found.flat[1] == pytest.approx(0.5 * 2.39, rel=0.05)
    assert found.spike[0] == pytest.approx(1 - 1 / 64, rel=0.01) and found.spike[1] < found.spike[0]
    none = heads.pooling_errors(0.0)
    assert none.flat == (0, 0) and none.spike == pytest.approx((1 - 1 / 49, 0))
