"""The networks against torchvision, timm and the papers' numbers.

Networks are built on the meta device where only shapes and counts matter. Weights for a comparison are drawn
here, not by either library: timm starts the last batch norm of every block at zero, so a fresh timm network
never uses its residual branches.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from resnet_hub import create_model, list_models
from resnet_hub.models.initialise import seeded
from resnet_hub.models.plans import block_plan
from resnet_hub.models.registry import model_config
from resnet_hub.models.resnet import BasicBlock, ResNet, ZeroPadShortcut, shortcut
from resnet_hub.models.wide_resnet import PreActBlock, WideResNet

META = torch.device("meta")


# Many tiny operations: on a busy machine more threads wait for each other.
pytestmark = pytest.mark.usefixtures("one_thread")


def on_meta(build, *args, **kwargs) -> nn.Module:
    with META:
        return build(*args, **kwargs)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def drawn_state(model: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights and statistics of ordinary size for every entry of the network's state dict."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, like in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        elif like.ndim > 1:  # He's scale keeps the signal through the depth
            scale = math.sqrt(2 / like[0].numel())
            state[key] = torch.randn(like.shape, generator=generator) * scale
        elif key.endswith(("running_var", "weight")):
            state[key] = torch.rand(like.shape, generator=generator) + 0.5
        else:
            state[key] = torch.randn(like.shape, generator=generator) * 0.1
    return state


def filled(model: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """A network built on meta, given `state`, in eval mode. Keys must agree both ways."""
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def built(name: str, **overrides) -> nn.Module:
    """One of our networks with drawn weights, in eval mode."""
    model = on_meta(create_model, name, **overrides)
    return filled(model, drawn_state(model))


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def assert_same_logits(ours: nn.Module, theirs: nn.Module, x: torch.Tensor) -> None:
    """Both on meta; equal keys, and equal logits under the same weights."""
    assert list(ours.state_dict()) == list(theirs.state_dict())
    state = drawn_state(theirs)
    expected = filled(theirs, state)(x)
    assert expected.std() > 0 and expected.isfinite().all()
    error = (filled(ours, state)(x) - expected).abs().max() / expected.abs().max()
    assert error <= 1e-5


# Sizes


@pytest.mark.parametrize(
    ("name", "overrides", "parameters"),
    [
        ("resnet18", {}, 11_689_512),
        ("resnet34", {}, 21_797_672),
        ("resnet50", {}, 25_557_032),
        ("resnet50", {"stem": "deep"}, 25_576_264),
        ("resnet50", {"num_classes": 2}, 23_512_130),
        ("resnet101", {}, 44_549_160),
        ("resnet152", {}, 60_192_808),
        ("wide_resnet50_2", {}, 68_883_240),
        ("plain18", {}, 11_515_688),
        ("resnet18_cifar", {}, 11_173_962),
        ("resnet34_cifar", {}, 21_282_122),
        ("resnet50_cifar", {}, 23_520_842),
        ("resnet101_cifar", {}, 42_512_970),
        ("resnet20_cifar", {}, 269_722),
        ("resnet20_cifar", {"shortcut": "projection"}, 272_474),
        ("plain20_cifar", {}, 269_722),
        ("wrn16_4_cifar", {}, 2_748_890),
        ("wrn28_10_cifar", {}, 36_479_194),
        ("lenet5", {}, 44_426),
        ("lenet5", {"in_chans": 3, "input_size": 32}, 62_006),
        ("alexnet", {}, 62_378_344),
        ("vgg16", {}, 138_357_544),
        ("resnet8_cifar", {}, 1_973_186),
        ("resnet8_wide_cifar", {}, 3_742_530),
        ("resnet18_64px", {}, 7_774_058),
        ("simple_resnet", {}, 2_777_674),
        ("cifar10net", {}, 4_507_722),
    ],
)
def test_parameter_count(name, overrides, parameters):
    assert count(on_meta(create_model, name, **overrides)) == parameters


def test_vgg_cifar_is_torchvisions_vgg16_bn_with_one_linear_layer():
    theirs = on_meta(torchvision.models.vgg16_bn).features
    biases = sum(m.bias.numel() for m in theirs if isinstance(m, nn.Conv2d))
    assert count(on_meta(create_model, "vgg_cifar")) == count(theirs) - biases + 512 * 10 + 10


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 1_179_648), ("resnet50", 69_632)])
def test_convolution_weights_of_a_block_with_256_channels(name, parameters):
    """The basic block at 256 channels is in layer3, the bottleneck with 256 outer ones in layer1."""
    block = getattr(on_meta(create_model, name), "layer3" if name == "resnet18" else "layer1")[1]
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.weight.numel() for m in convs) == parameters
    assert all(m.bias is None for m in convs)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet20_cifar", 20),
        ("resnet32_cifar", 32),
        ("resnet44_cifar", 44),
        ("resnet56_cifar", 56),
        ("resnet110_cifar", 110),
        ("plain20_cifar", 20),
        ("plain56_cifar", 56),
        ("resnet18", 18),
        ("resnet34", 34),
        ("resnet50", 50),
        ("resnet101", 101),
        ("resnet152", 152),
        ("plain18", 18),
        ("plain34", 34),
        ("wrn16_4_cifar", 16),
        ("wrn28_10_cifar", 28),
        ("vgg16", 16),
        ("alexnet", 8),
        ("lenet5", 5),
    ],
)
def test_the_number_in_a_name_is_its_weighted_layers(name, layers):
    """Projections do not count (arXiv 1512.03385); WRN's 6n+4 counts its three, and not fc (1605.07146)."""
    modules = on_meta(create_model, name).named_modules()
    weighted = [n for n, m in modules if isinstance(m, (nn.Conv2d, nn.Linear)) and "downsample" not in n]
    assert len(weighted) + (3 - 1 if name.startswith("wrn") else 0) == layers


# Against the libraries


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2"]
)
def test_equals_torchvision(name):
    theirs = on_meta(torchvision.models.get_model, name, weights=None)
    assert_same_logits(on_meta(create_model, name), theirs, image(2, 3, 64, 64))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "wide_resnet50_2"])
def test_equals_timm(name):
    theirs = on_meta(timm.create_model, name)
    assert_same_logits(on_meta(create_model, name), theirs, image(2, 3, 64, 64))


def test_deep_stem_equals_timms_resnet50c():
    theirs = on_meta(timm.create_model, "resnet50c")
    assert_same_logits(on_meta(create_model, "resnet50", stem="deep"), theirs, image(2, 3, 64, 64))


def test_cifar_stem_equals_timm_with_its_stem_replaced():
    theirs = on_meta(timm.create_model, "resnet18", num_classes=10)
    theirs.conv1 = on_meta(nn.Conv2d, 3, 64, 3, stride=1, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    assert_same_logits(on_meta(create_model, "resnet18_cifar"), theirs, image(2, 3, 32, 32))


def test_stride_in_1x1_equals_torchvision_with_its_strides_moved():
    theirs = on_meta(torchvision.models.resnet50)
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert_same_logits(on_meta(create_model, "resnet50", stride_in="1x1"), theirs, image(2, 3, 64, 64))


def test_strides_equal_torchvision_with_its_strides_changed():
    theirs = on_meta(torchvision.models.resnet18)
    for stage, stride in [(theirs.layer2, 3), (theirs.layer4, 1)]:
        stage[0].conv1.stride = stage[0].downsample[0].stride = (stride, stride)
    ours = on_meta(create_model, "resnet18", strides=(1, 3, 2, 1))
    assert_same_logits(ours, theirs, image(2, 3, 64, 64))


def test_no_maxpool_equals_torchvision_without_it():
    theirs = on_meta(torchvision.models.resnet18)
    theirs.maxpool = nn.Identity()
    assert_same_logits(on_meta(create_model, "resnet18", maxpool=False), theirs, image(2, 3, 48, 48))


def test_vgg16_equals_torchvision():
    """The head is at 32x32 for speed, where torchvision's adaptive pooling is told 1x1 instead of 7x7."""
    theirs = on_meta(torchvision.models.vgg16, num_classes=10)
    theirs.avgpool = nn.AdaptiveAvgPool2d(1)
    theirs.classifier[0] = on_meta(nn.Linear, 512, 4096)
    ours = on_meta(create_model, "vgg16", input_size=32, num_classes=10)
    assert_same_logits(ours, theirs, image(2, 3, 32, 32))


def test_vgg16_at_224_has_torchvisions_keys_and_shapes():
    ours, theirs = on_meta(create_model, "vgg16"), on_meta(torchvision.models.vgg16)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


# Blocks


def test_a_basic_block_halves_the_size_and_doubles_the_channels():
    block = on_meta(create_model, "resnet18").layer2[0]
    assert isinstance(block, BasicBlock)
    assert block(torch.empty(2, 64, 56, 56, device=META)).shape == (2, 128, 28, 28)


@pytest.mark.parametrize(
    ("channels", "out", "stride", "size"), [(16, 32, 2, 8), (16, 32, 2, 7), (3, 8, 1, 5), (4, 4, 2, 6)]
)
def test_zeropad_shortcut_takes_every_sth_pixel_and_pads_channels_on_both_sides(channels, out, stride, size):
    x = image(2, channels, size, size)
    y = ZeroPadShortcut(channels, out, stride)(x)
    rows = range(0, size, stride)
    expected = torch.zeros(2, out, len(rows), len(rows))
    for channel in range(channels):
        for i, row in enumerate(rows):
            for j, column in enumerate(rows):
                expected[:, channel + (out - channels) // 2, i, j] = x[:, channel, row, column]
    assert torch.equal(y, expected)


@pytest.mark.parametrize("kind", ["projection", "zeropad", "none"])
def test_equal_shapes_need_no_shortcut_module(kind):
    plan = block_plan(model_config("resnet18", shortcut=kind), 16, 16, stride=1)
    assert shortcut(plan, 16) is None


@torch.no_grad()
def test_a_plain_net_adds_nothing():
    """Stage by stage against conv-BN-ReLU written out; with shortcuts the result is another one."""
    net, residual = built("plain20_cifar"), built("resnet20_cifar")
    x = image(2, 3, 32, 32)
    logits = net(x)
    x = net.bn1(net.conv1(x)).relu()
    for stage in (net.layer1, net.layer2, net.layer3):
        for block in stage:
            x = block.bn1(block.conv1(x)).relu()
            x = block.bn2(block.conv2(x)).relu()
    torch.testing.assert_close(net.fc(x.mean((2, 3))), logits)
    residual.load_state_dict(net.state_dict())
    assert not torch.allclose(residual(image(2, 3, 32, 32)), logits, rtol=0.1)


def test_zero_init_starts_every_block_as_its_shortcut():
    net = create_model("resnet20_cifar", zero_init_residual=True).eval()
    x = image(1, 16, 8, 8).relu()
    torch.testing.assert_close(net.layer1[0](x), x)
    torch.testing.assert_close(net.layer2[0](x), net.layer2[0].downsample(x))


@pytest.mark.parametrize(
    ("name", "last"), [("resnet20_cifar", "bn2"), ("resnet50_cifar", "bn3"), ("resnet8_cifar", "bn2")]
)
def test_zero_init_zeroes_the_last_batch_norm_of_every_block(name, last):
    net = create_model(name, zero_init_residual=True)
    assert not any(getattr(block, last).weight.any() for stage in net.stages for block in stage)
    assert all(block.bn1.weight.all() for stage in net.stages for block in stage)


def wide_resnet_by_hand(state: dict, x: torch.Tensor, blocks: int) -> torch.Tensor:
    """A wide residual network in eval mode, from arXiv 1605.07146 and the state dict alone."""

    def normed(x, key):
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        scale = state[f"{key}.weight"] / (var + 1e-5).sqrt()
        shift = state[f"{key}.bias"] - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).clamp(min=0)

    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for i in range(blocks):
            key, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            active = normed(x, f"{key}.bn1")
            branch = F.conv2d(active, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            branch = F.conv2d(normed(branch, f"{key}.bn2"), state[f"{key}.conv2.weight"], padding=1)
            projection = state.get(f"{key}.downsample.0.weight")
            x = branch + (x if projection is None else F.conv2d(active, projection, stride=stride))
    x = normed(x, "bn").mean((2, 3))
    return x @ state["fc.weight"].T + state["fc.bias"]


@torch.no_grad()
def test_wide_resnet_equals_one_written_by_hand():
    net = built("wrn16_4_cifar")
    x = image(2, 3, 32, 32)
    torch.testing.assert_close(
        net(x), wide_resnet_by_hand(net.state_dict(), x, blocks=2), rtol=1e-4, atol=1e-4
    )


def pooled_resnet_by_hand(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`resnet8_cifar` in eval mode: the residual unit begins after the pooling."""
    x = F.gelu(net.bn1(net.conv1(x)))
    for (block,) in (net.layer1, net.layer2, net.layer3):
        x = F.gelu(block.bn1(F.max_pool2d(F.conv2d(x, block.conv1.weight, padding=1), 2)))
        x = F.gelu(block.bn2(F.conv2d(x, block.conv2.weight, padding=1)) + x)
    return net.fc(x.amax((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("size", [32, 33, 24])
def test_pooled_resnet_equals_one_written_by_hand(size):
    net, x = built("resnet8_cifar"), image(2, 3, size, size)
    torch.testing.assert_close(net(x), pooled_resnet_by_hand(net, x))
    assert net.features(x)[-1].shape == (2, 256, size // 8, size // 8)


@torch.no_grad()
def test_pooled_filters_start_by_passing_the_input_through():
    net, x = create_model("resnet8_cifar"), image(1, 64, 8, 8)
    torch.testing.assert_close(net.layer2[0].conv1(x)[:, :64], x)
    assert net.layer2[0].conv1.weight[64:].std() > 0


@torch.no_grad()
def test_a_plain_pooled_block_adds_nothing():
    (block,) = built("resnet8_cifar", shortcut="none").layer3
    x = image(1, 256, 8, 8)
    first = F.gelu(block.bn1(block.pool(block.conv1(x))))
    torch.testing.assert_close(block(x), F.gelu(block.bn2(block.conv2(first))))


def test_wide_resnet_drops_inside_the_block_and_only_while_training():
    net = built("wrn16_4_cifar", drop_rate=0.5)
    block, x = net.layer1[1], image(2, 64, 8, 8)
    assert isinstance(block, PreActBlock)
    same = built("wrn16_4_cifar").layer1[1]
    torch.testing.assert_close(block(x), same(x))
    seen = []
    block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block.train()(x)
    same.train().conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    same(x)
    dropped, whole = seen
    kept = dropped != 0
    assert 0.45 < kept[whole != 0].float().mean() < 0.55
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])  # scaled while training, not in eval mode


@pytest.mark.parametrize("name", ["resnet20_cifar", "cifar10net", "alexnet", "vgg16"])
def test_drop_rate_acts_while_training_only(name):
    size = 63 if name == "alexnet" else 32
    net = built(name, num_classes=10, drop_rate=0.5, input_size=size)
    x = image(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))
        for module in net.modules():  # batch norm would differ too, so only the dropout trains
            module.training = isinstance(module, nn.Dropout) or module is net
        assert not torch.equal(net(x), net(x))


# Every network of the zoo


@pytest.mark.parametrize("name", list_models())
def test_logits_have_one_row_an_image_and_gradients_reach_every_parameter(name):
    net = on_meta(create_model, name).train()
    logits = net(torch.empty(2, net.config.in_chans, *net.config.input_size, device=META))
    assert logits.shape == (2, net.config.num_classes)
    logits.mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


SMALL = [
    "resnet20_cifar", "plain20_cifar", "wrn16_4_cifar", "simple_resnet", "lenet5", "vgg_cifar", "cifar10net"
]  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_fresh_weights_give_finite_logits_and_a_gradient_everywhere(name):
    torch.manual_seed(0)
    net = create_model(name)
    loss = F.cross_entropy(net(image(4, net.config.in_chans, *net.config.input_size)), torch.arange(4))
    loss.backward()
    assert loss < 10 * math.log(net.config.num_classes)
    dead = [n for n, p in net.named_parameters() if not p.grad.isfinite().all() or not p.grad.any()]
    assert dead == []


PADDED = [n for n in list_models() if n not in ("lenet5", "alexnet")]


@pytest.mark.parametrize("name", PADDED)
def test_feature_info_has_channels_and_strides(name):
    net = on_meta(create_model, name)
    for height, width in [net.config.input_size, (96, 160)]:
        maps = net.features(torch.empty(1, net.config.in_chans, height, width, device=META))
        assert len(maps) == len(net.feature_info)
        for got, info in zip(maps, net.feature_info, strict=True):
            stride = info["reduction"]
            size = math.ceil(height / stride), math.ceil(width / stride)
            assert got.shape == (1, info["num_chs"], *size)


STRIDED = [n for n in PADDED if getattr(model_config(n), "block", "pooled") != "pooled"]


@pytest.mark.parametrize("name", STRIDED)
def test_feature_maps_of_odd_sizes_are_rounded_up(name):
    net = on_meta(create_model, name)
    maps = net.features(torch.empty(1, 3, 75, 97, device=META))
    sizes = [(math.ceil(75 / i["reduction"]), math.ceil(97 / i["reduction"])) for i in net.feature_info]
    assert [tuple(m.shape[2:]) for m in maps] == sizes


@pytest.mark.parametrize(("name", "margin"), [("lenet5", 0), ("alexnet", 3)])
@torch.no_grad()
def test_reduction_is_the_image_shift_that_shifts_the_map_by_one(name, margin):
    """These two lose their borders, so that sizes do not tell the stride. Rows near an edge see padding."""
    net = built(name, input_size=63 if name == "alexnet" else 28)
    x = image(1, net.config.in_chans, 351, 95)
    for i, info in enumerate(net.feature_info):
        whole, shifted = net.features(x)[i], net.features(x[:, :, info["reduction"] :])[i]
        assert whole.shape[1] == info["num_chs"]
        rows = slice(margin, shifted.shape[2] - margin)
        torch.testing.assert_close(whole[:, :, 1:][:, :, rows], shifted[:, :, rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list_models())
def test_feature_info_names_the_module_each_map_leaves(name):
    net, seen = on_meta(create_model, name), {}
    for info in net.feature_info:
        module = net.get_submodule(info["module"])
        module.register_forward_hook(lambda _, __, out, name=info["module"]: seen.update({name: out}))
    maps = net.features(torch.empty(1, net.config.in_chans, *net.config.input_size, device=META))
    assert [seen[info["module"]].shape for info in net.feature_info] == [m.shape for m in maps]


def test_a_backbone_at_224_reports_strides_4_8_16_32():
    info = on_meta(create_model, "resnet50", num_classes=0).feature_info
    assert [i["reduction"] for i in info] == [4, 8, 16, 32]
    assert [i["num_chs"] for i in info] == timm.create_model(
        "resnet50", features_only=True
    ).feature_info.channels()[1:]


@pytest.mark.parametrize("name", [*SMALL, "resnet18", "vgg16"])
@torch.no_grad()
def test_a_headless_network_returns_what_enters_the_last_layer(name):
    size = min(64, *on_meta(create_model, name).config.input_size)
    whole, headless = (on_meta(create_model, name, input_size=size, num_classes=n) for n in (10, 0))
    state = drawn_state(whole)
    filled(whole, state)
    filled(headless, {k: v for k, v in state.items() if k in headless.state_dict()})
    assert len(headless.state_dict()) == len(state) - 2
    last = whole.fc if hasattr(whole, "fc") else whole.classifier[-1]
    x = image(2, whole.config.in_chans, size, size)
    assert isinstance(last, nn.Linear)
    torch.testing.assert_close(last(headless(x)), whole(x))


@pytest.mark.parametrize("name", ["resnet20_cifar", "wrn16_4_cifar"])
@torch.no_grad()
def test_global_pool_is_the_mean_or_the_maximum(name):
    average, maximum = built(name), built(name, global_pool="max")
    x = image(2, 3, 32, 32)
    last = average.features(x)[-1]
    torch.testing.assert_close(average(x), average.fc(last.mean((2, 3))))
    torch.testing.assert_close(maximum(x), maximum.fc(last.amax((2, 3))))


def test_global_max_pooling_is_torchs_without_its_gradient_that_cuda_cannot_repeat():
    ours, theirs = (image(3, 5, 4, 6).requires_grad_() for _ in range(2))
    pooled, expected = create_model("resnet8_cifar").global_pool(ours), F.adaptive_max_pool2d(theirs, 1)
    pooled.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(pooled, expected) and torch.equal(ours.grad, theirs.grad)
    assert "AdaptiveMaxPool" not in type(pooled.grad_fn).__name__


@pytest.mark.parametrize("name", ["resnet18", "wrn16_4_cifar", "resnet20_cifar"])
@pytest.mark.parametrize("shortcut", ["projection", "zeropad", "none"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar", "deep"])
def test_every_stem_goes_with_every_shortcut(name, stem, shortcut):
    net = on_meta(create_model, name, stem=stem, shortcut=shortcut)
    assert net(torch.empty(2, 3, 64, 64, device=META)).shape == (2, net.config.num_classes)
    assert [m.shape[1] for m in net.features(torch.empty(2, 3, 64, 64, device=META))] == list(
        net.config.widths
    )
    assert isinstance(net, WideResNet if name.startswith("wrn") else ResNet)


@pytest.mark.parametrize(
    ("name", "first", "pooled", "last"), [("resnet50", 16, 8, 1), ("resnet50_cifar", 32, 32, 4)]
)
def test_map_sizes_of_a_32x32_image(name, first, pooled, last):
    net = on_meta(create_model, name).eval()
    x = torch.empty(1, 3, 32, 32, device=META)
    sizes = net.conv1(x).shape[-1], net.stem(x).shape[-1], net.features(x)[-1].shape[-1]
    assert sizes == (first, pooled, last)


# Baselines


def test_lenet5_averages_and_squashes():
    kinds = [type(m).__name__ for m in on_meta(create_model, "lenet5").features]
    assert kinds == ["Conv2d", "Tanh", "AvgPool2d"] * 2


def test_cifar10net_and_vgg_cifar_have_no_bias_before_a_batch_norm():
    for name in ("cifar10net", "vgg_cifar"):
        convs = [m for m in on_meta(create_model, name).features if isinstance(m, nn.Conv2d)]
        assert all(m.bias is None for m in convs)


def test_batch_norm_can_be_added_to_and_removed_from_a_baseline():
    """Oracle: torchvision's VGG-16 with batch norm and without; ours drops the biases before a batch norm."""
    theirs = on_meta(torchvision.models.vgg16_bn).state_dict()
    ours = on_meta(create_model, "vgg16", batch_norm=True).state_dict()
    convs = {key[: -len("weight")] for key, value in theirs.items() if value.dim() == 4}
    assert set(ours) == set(theirs) - {conv + "bias" for conv in convs}
    plain = on_meta(create_model, "vgg_cifar", batch_norm=False).features.state_dict()
    features = on_meta(torchvision.models.vgg16).features.state_dict()
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in features.items()}


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg16", "vgg_cifar"])
def test_another_image_size_is_refused_and_the_error_says_what_to_do(name):
    net = on_meta(create_model, name)
    chans, (height, width) = net.config.in_chans, net.config.input_size
    with pytest.raises(ValueError, match="input_size") as caught:
        net(torch.empty(2, chans, height + 8, width, device=META))
    text = str(caught.value)
    assert name in text and str((2, chans, height + 8, width)) in text and f"{chans}x{height}x{width}" in text
    assert "create_model" in text and "input_size" in text and "\n" not in text


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg16", "vgg_cifar", "cifar10net"])
def test_other_channels_are_refused_and_the_error_says_what_to_do(name):
    net = on_meta(create_model, name)
    with pytest.raises(ValueError, match="in_chans"):
        net(torch.empty(2, net.config.in_chans + 1, *net.config.input_size, device=META))


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg16", "vgg_cifar", "cifar10net"])
def test_an_image_smaller_than_the_poolings_is_refused_and_the_smallest_works(name):
    with pytest.raises(ValueError, match="pooled down to nothing") as caught:
        on_meta(create_model, name, input_size=2)
    least = int(str(caught.value).rsplit("input_size=", 1)[1].rstrip(")"))
    net = on_meta(create_model, name, input_size=least)
    assert net(torch.empty(2, net.config.in_chans, least, least, device=META)).shape[0] == 2
    with pytest.raises(ValueError, match="pooled down to nothing"):
        on_meta(create_model, name, input_size=(least, least - 1))


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg16", "vgg_cifar", "cifar10net"])
def test_baselines_build_for_another_size_and_other_channels(name):
    net = on_meta(create_model, name, input_size=(96, 128), in_chans=2, num_classes=5)
    assert net(torch.empty(2, 2, 96, 128, device=META)).shape == (2, 5)


def test_cifar10net_takes_any_size():
    assert on_meta(create_model, "cifar10net")(torch.empty(1, 3, 47, 64, device=META)).shape == (1, 10)


@pytest.mark.parametrize("name", ["lenet5", "vgg_cifar", "cifar10net"])
@torch.no_grad()
def test_every_step_of_a_baseline_is_a_module(name):
    """Replaying only the leaf modules in order gives the same logits: a forward hook misses nothing."""
    net = built(name)
    x = net_input = image(2, net.config.in_chans, *net.config.input_size)
    for module in net.modules():
        if not list(module.children()):
            x = module(x.flatten(1) if isinstance(module, nn.Linear) else x)
    torch.testing.assert_close(x, net(net_input))


def test_what_is_drawn_from_a_seed_is_the_same_in_any_thread_and_leaves_the_generator_alone():
    def draw(_: int) -> torch.Tensor:
        with seeded(0):
            return torch.cat([torch.rand(1000) for _ in range(50)])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, range(40)))
    assert all(torch.equal(each, drawn[0]) for each in drawn)
    assert torch.equal(drawn[0][:1000], first)
    assert torch.equal(torch.get_rng_state(), before)
