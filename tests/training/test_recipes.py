"""The promises of recipes: every flag does what it says, images in memory and in files train alike, and
augmentation depends on the image alone. Oracles: torch's schedulers and optimizers, torchvision's
transforms, and updates worked out by hand."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import Head, noise_set, same_weights
from PIL import Image
from torch import nn

from resnet_hub import create_model, from_pretrained
from resnet_hub.geometry import totals, trace
from resnet_hub.hub import card
from resnet_hub.preprocess import Preprocess
from training import cifar, data, evaluate, recipes, transfer
from training.augment import ONE_BY_ONE, Feed, Views, epoch_order
from training.batched import BATCHED
from training.cifar import parse_arguments, whiten_stem
from training.command import load_teacher
from training.data import DataError, FolderSet, ImageSet, find_images, in_memory, normalise, whole_image
from training.engine import Trainer, predict_logits, training_flops
from training.optim import SCHEDULES, build_optimizers, whitening_filters
from training.recipes import RECIPES, Recipe, as_flags, options, recipe_from

CPU = torch.device("cpu")
SAME = Preprocess(input_size=(3, 16, 16), crop_pct=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)
STILL = Recipe(epochs=2, batch_size=8, lr=0.05, augment=(), schedule="constant", warmup=0.0)


def noise(count: int = 24, side: int = 16) -> ImageSet:
    return noise_set(count, side, classes=3)


def trainer(recipe: Recipe, images: ImageSet | None = None, net: nn.Module | None = None, **more) -> Trainer:
    torch.manual_seed(0)
    net = net or create_model("resnet20_cifar", num_classes=3, input_size=16)
    feed = Feed(images or noise(), SAME, recipe, 0, CPU)
    return Trainer(net, recipe, feed, seed=0, device=CPU, **more)


# Recipes and their flags


@pytest.mark.parametrize("command", [cifar, transfer])
def test_help_shows_the_expected_result_of_its_own_recipes(capsys, command):
    with pytest.raises(SystemExit):
        command.parse_arguments(["--help"])
    shown = "".join(capsys.readouterr().out.split())  # lines break at hyphens too
    for name, recipe in RECIPES.items():
        is_own = name.startswith("transfer") == (command is transfer)
        assert recipe.expects and ("".join(recipe.expects.split()) in shown) == is_own
        assert not is_own or f"{name}:{as_flags(recipe)}expected".replace(" ", "") in shown
    assert "whatarecipedoesnotname:--batch-size128--accumulate1--optimizersgd--lr0.1" in shown
    assert {"paper", "fast", "plain", "transfer"} <= RECIPES.keys()


def test_flags_override_single_values_of_a_recipe():
    words = "resnet20_cifar --data d --out o --recipe paper --lr 0.3 --augment flip,erase --no-whiten"
    assert recipe_from(parse_arguments(words.split())) == replace(
        RECIPES["paper"], lr=0.3, augment=("flip", "erase")
    )


@pytest.mark.parametrize("command", [cifar, transfer])
def test_every_field_has_a_flag_with_help(capsys, command):
    with pytest.raises(SystemExit):
        command.parse_arguments(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for each in options():
        assert re.search(rf" --{each.name.replace('_', '-')}[ ,]", said) and each.metadata["help"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs=0 is not allowed; give 1 or more"),
        ({"lr": -1.0}, "lr=-1.0 is not allowed; give 0 or more"),
        ({"lr": float("nan")}, "lr=nan is not allowed; give 0 or more"),
        ({"warmup": 1.0}, "warmup=1.0 is not allowed; give 0 to less than 1"),
        ({"optimizer": "lion"}, "give muon, sgd, adam, adamw"),
        ({"augment": ("crop", "swirl")}, "give crop, flip, zoom, cutout, resized_crop"),
        ({"low_res_until": 55.0}, "low_res_until=55.0 is not allowed; give 0 to 1"),
        ({"crop_padding": 32}, "crop_padding=32 is not allowed; give 0 to 31"),
        ({"optimizer": "muon"}, "needs a muon_lr"),
        ({"hard_share": 0.0}, "hard_share=0.0 is not allowed; give 0.1 to 1"),
        ({"outlier_share": 0.0}, "outlier_share=0.0 is not allowed; give 0.01 or more"),
        ({"hard_share": 0.5, "cutmix": 1.0}, "give one or the other"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPES["plain"], **changes)


# Schedules and optimizers


def rates_of(scheduler_of, steps: int = 100) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = scheduler_of(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100)),
        ("step", lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [50, 75], 0.1)),
        ("constant", lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0, 1)),
        ("one_cycle", lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 1e-9, 100)),
    ],
)
def test_schedules_are_torchs(name, theirs):
    ours = [SCHEDULES[name](step / 100, 0.0) for step in range(100)]
    assert ours == pytest.approx(rates_of(theirs), abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_rise_in_a_straight_line(name):
    assert [SCHEDULES[name](p, 0.2) for p in (0, 0.05, 0.1)] == pytest.approx([0, 0.25, 0.5])
    assert SCHEDULES[name](0.2, 0.2) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers_are_torchs(name, kind):
    (optimizer,) = build_optimizers(nn.Linear(2, 2), Recipe(epochs=1, optimizer=name, lr=0.3))
    assert type(optimizer) is kind
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.3, 5e-4), (0.3, 0.0)]


def test_shares_scale_the_rate():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    (optimizer,) = build_optimizers(net, Recipe(epochs=1, lr=0.5), {"0.weight": 0.01, "1.weight": 1.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.5]


# One step, by hand


@pytest.fixture
def stepped():
    """stepped(recipe, **more) -> (the head's weights before and after one step, x, one-hot targets)."""

    def run(recipe: Recipe, **more):
        data = noise(8)
        torch.manual_seed(0)
        one = trainer(recipe, data, net=Head(16), **more)
        before = one.net.fc.weight.detach().clone()
        index = torch.arange(8)
        parts = index.tensor_split(recipe.accumulate)
        one.train_step(one.feed.batches(0, list(enumerate(parts)), 16))
        x = normalise(data.images, SAME, CPU).flatten(1)
        return before, one.net.fc, x, nn.functional.one_hot(data.labels, 3).float()

    return run


def gradient(weight, fc, x, targets):
    """Of the mean cross entropy, dL/dW = (softmax - target)^T x / N."""
    torch.manual_seed(0)
    bias = Head(16).fc.bias.detach()
    return ((x @ weight.T + bias).softmax(1) - targets).T @ x / len(x)


def test_a_step_goes_down_the_gradient(stepped):
    before, fc, x, targets = stepped(replace(STILL, batch_size=8, weight_decay=0.0))
    expected = before - 0.05 * 1.9 * gradient(before, fc, x, targets)  # Nesterov's first step is 1 + momentum
    torch.testing.assert_close(fc.weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_accumulated_micro_batches_are_one_batch(stepped):
    whole, split = (stepped(replace(STILL, accumulate=parts))[1].weight for parts in (1, 4))
    torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_gradient(stepped):
    before, fc, *_ = stepped(replace(STILL, clip_norm=0.1, weight_decay=0.0))
    assert (fc.weight.detach() - before).norm() <= 0.05 * 1.9 * 0.1 * 1.001


def test_label_smoothing_moves_the_targets(stepped):
    recipe = replace(STILL, label_smoothing=0.3, weight_decay=0.0)
    before, fc, x, targets = stepped(recipe)
    expected = before - 0.05 * 1.9 * gradient(before, fc, x, 0.7 * targets + 0.1)
    torch.testing.assert_close(fc.weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_a_teacher_is_half_of_the_loss(stepped):
    """Gradient of the distilled half: T^2 * (1/T) * (softmax(z/T) - softmax(teacher/T))."""
    torch.manual_seed(9)
    teacher = Head(16).eval()
    before, fc, x, targets = stepped(replace(STILL, weight_decay=0.0), teacher=teacher)
    torch.manual_seed(0)
    logits = x @ before.T + Head(16).fc.bias.detach()
    with torch.no_grad():
        soft = (logits / 4).softmax(1) - (teacher.fc(x) / 4).softmax(1)
    expected = before - 0.05 * 1.9 * (0.5 * gradient(before, fc, x, targets) + 0.5 * 4 * soft.T @ x / len(x))
    torch.testing.assert_close(fc.weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_a_teacher_gets_images_normalised_as_its_own(tmp_path):
    torch.manual_seed(9)
    teacher = create_model("resnet20_cifar").eval()
    teacher.labels = tuple(map(str, range(10)))
    teacher.preprocess = replace(teacher.preprocess, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
    teacher.save_pretrained(tmp_path)
    ours = replace(teacher.preprocess, mean=(0.4, 0.4, 0.4), std=(0.2, 0.2, 0.25))
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    options = argparse.Namespace(teacher=str(tmp_path))
    answer = load_teacher(options, teacher.labels, ours, torch.device("cpu"))
    with torch.no_grad():
        taught = answer(normalise(pixels, ours, torch.device("cpu")))
        expected = teacher(normalise(pixels, teacher.preprocess, torch.device("cpu")))
    torch.testing.assert_close(taught, expected, rtol=1e-4, atol=1e-4)


def test_cost_counts_what_the_teacher_computes():
    net, teacher = create_model("resnet20_cifar"), create_model("resnet56_cifar")
    shape, cpu = (3, 32, 32), torch.device("cpu")
    more = training_flops(net, shape, cpu, teacher) - training_flops(net, shape, cpu)
    assert more == 2 * totals(trace("resnet56_cifar")).macs


def test_the_teacher_looks_at_the_training_images_alone_not_at_outliers():
    teacher, shape = create_model("resnet56_cifar", num_classes=3, input_size=16).eval(), (3, 16, 16)
    recipe = replace(STILL, outlier_share=0.5)
    one = trainer(recipe, teacher=teacher, outliers=noise())
    own = training_flops(one.net, shape, CPU)
    seen = 2 * totals(trace("resnet56_cifar", input_size=16, num_classes=3)).macs
    assert one._flops_an_image(16) == pytest.approx(1.5 * own + seen)


def test_the_averaged_weights_are_the_ones_kept(tmp_path):
    """Against torch's own recursion: averaged = decay * averaged + (1 - decay) * weights."""
    one = trainer(replace(STILL, ema=0.9), net=Head(16))
    seen = []
    update = one.averaged.update_parameters
    one.averaged.update_parameters = lambda net: (seen.append(net.fc.weight.detach().clone()), update(net))
    one.fit(noise(9), tmp_path)
    expected = seen[0]
    for weight in seen[1:]:
        expected = 0.9 * expected + 0.1 * weight
    torch.testing.assert_close(one.kept.fc.weight.detach(), expected)


def test_patience_stops_a_run_that_no_longer_improves(tmp_path):
    one = trainer(replace(STILL, epochs=30, lr=0.0, patience=2), net=Head(16))
    one.fit(noise(9), tmp_path)
    assert len(one.history) == 3 and one.best["epoch"] == 1


# Bits


def dropout_net() -> nn.Module:
    torch.manual_seed(5)
    return create_model("resnet20_cifar", num_classes=3, input_size=16, drop_rate=0.5)


def test_a_run_stopped_mid_epoch_resumes_to_the_same_bits_with_everything_random_switched_on(tmp_path):
    augment = ("crop", "flip", "trivial", "erase", "jitter")
    recipe = replace(STILL, augment=augment, mixup=0.4, cutmix=1.0, optimizer="adamw", lr=1e-3, ema=0.9)
    (tmp_path / "a").mkdir()
    through = trainer(recipe, net=dropout_net())
    through.fit(noise(9), tmp_path / "a")
    half = trainer(recipe, net=dropout_net())
    batches = half.feed.batches(0, [(i, index) for i, index in enumerate(order_of(half))], 16)
    half.net.train()
    for _ in range(2):
        half.train_step(batches)
        half.step += 1
    (tmp_path / "b").mkdir()
    half.save(tmp_path / "b")
    rest = trainer(recipe, net=dropout_net())
    torch.manual_seed(99)  # nothing may depend on the state outside
    np.random.seed(99)
    rest.load(tmp_path / "b")
    rest.fit(noise(9), tmp_path / "b")
    assert rest.step == 0 and same_weights(through.net.state_dict(), rest.net.state_dict())


def order_of(one: Trainer) -> list[torch.Tensor]:
    return epoch_order(len(one.feed.data), one.recipe.shown, one.seed, 0)


# Augmentation


@pytest.mark.parametrize("name", [*ONE_BY_ONE, *BATCHED])
def test_augmentation_of_an_image_does_not_depend_on_its_batch(name):
    data = noise(20, side=32)
    views = Views(20, Recipe(epochs=1, augment=(name,)), (32, 32), seed=3, epoch=1)
    whole = views(data.images, torch.arange(20))
    assert whole.dtype == torch.uint8 and whole.shape == data.images.shape
    for index in (torch.tensor([7]), torch.tensor([19, 2, 7])):
        assert torch.equal(views(data.images[index], index), whole[index])
    assert not torch.equal(whole, data.images)


def test_none_leaves_images_alone():
    data = noise(5)
    views = Views(5, replace(STILL), (16, 16), seed=0, epoch=0)
    assert torch.equal(views(data.images, torch.arange(5)), data.images)


def test_mixup_mixes_images_as_it_mixes_labels():
    """Images whose pixels all equal their label: the mixed pixels are the mean of the targets."""
    labels = torch.arange(24) % 3
    images = (labels * 100).to(torch.uint8).view(-1, 1, 1, 1).expand(24, 3, 16, 16).contiguous()
    data = ImageSet(images, labels, ("a", "b", "c"), "made")
    feed = Feed(data, SAME, replace(STILL, mixup=1.0), 0, CPU)
    ((x, targets, kept),) = feed.batches(0, [(0, torch.arange(24))], 16)
    seen = (x.mean((1, 2, 3)) * 0.25 + 0.5) * 255 / 100
    torch.testing.assert_close(seen, targets @ torch.tensor([0.0, 1.0, 2.0]), rtol=1e-4, atol=1e-4)
    assert torch.allclose(targets.sum(1), torch.ones(24)) and torch.equal(kept, labels)
    assert (targets.max(1).values < 0.999).any()


def test_cutmix_shares_are_those_of_the_area():
    labels = torch.arange(24) % 2
    images = (labels * 255).to(torch.uint8).view(-1, 1, 1, 1).expand(24, 3, 16, 16).contiguous()
    feed = Feed(ImageSet(images, labels, ("a", "b"), "made"), SAME, replace(STILL, cutmix=1.0), 0, CPU)
    ((x, targets, _),) = feed.batches(0, [(5, torch.arange(24))], 16)
    torch.testing.assert_close(x.mean((1, 2, 3)) * 0.25 + 0.5, targets[:, 1], rtol=1e-4, atol=1e-4)


def test_low_resolution_shrinks_the_batch():
    feed = Feed(noise(8), SAME, STILL, 0, CPU)
    ((x, _, _),) = feed.batches(0, [(0, torch.arange(8))], 12)
    assert x.shape == (8, 3, 12, 12)


# Whitening


def test_whitening_filters_make_patches_white():
    draw = torch.Generator().manual_seed(0)
    mix = torch.randn(27, 27, generator=draw)
    patches = (torch.randn(20_000, 27, generator=draw) @ mix).unflatten(1, (3, 3, 3))
    filters = whitening_filters(patches, 54, floor=0.0)
    answers = patches.flatten(1) @ filters[::2].flatten(1).T
    torch.testing.assert_close(answers.T @ answers / len(answers), torch.eye(27), rtol=0, atol=1e-2)
    assert torch.equal(filters[1::2], -filters[::2])


def test_whitening_keeps_the_filters_beyond_the_number_of_directions():
    model = create_model("simple_resnet", num_classes=3, input_size=16)
    before = model.conv1.weight.detach().clone()
    whiten_stem(model.conv1, Feed(noise(50), SAME, STILL, 0, CPU))
    assert not torch.equal(model.conv1.weight[:54], before[:54])
    assert torch.equal(model.conv1.weight[54:], before[54:])


@pytest.mark.parametrize(("side", "images"), [(16, 40), (32, 10), (128, 1)])
def test_whitening_reads_as_many_pixels_of_large_images_as_of_small_ones(side, images, monkeypatch):
    feed, conv, read = Feed(noise(40, side), SAME, STILL, 0, CPU), nn.Conv2d(3, 8, 3), []
    fetch = ImageSet.fetch
    monkeypatch.setattr(
        ImageSet, "fetch", lambda data, wanted, seeds: read.extend(*wanted) or fetch(data, wanted)
    )
    whiten_stem(conv, feed, pixels=10 * 32 * 32)
    assert len(read) == images


# Images that stay in their files


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in range(24):
        place = tmp_path / "train" / "abc"[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i:02}.png")
    return tmp_path / "train"


def test_a_folder_too_large_for_memory_is_streamed_and_trains_to_the_same_bits(folder, tmp_path, monkeypatch):
    found = find_images(folder, whole_image((16, 16)))
    held = in_memory(found)
    monkeypatch.setattr(data, "IN_MEMORY_BYTES", 1000)
    streamed = in_memory(found)
    assert isinstance(held, ImageSet) and isinstance(streamed, FolderSet)
    recipe = replace(STILL, augment=("crop", "flip"))
    ends = []
    for name, images in (("held", held), ("streamed", streamed)):
        (tmp_path / name).mkdir()
        one = trainer(recipe, images)
        one.fit(images.subset(torch.arange(6)), tmp_path / name)
        ends.append(one.net.state_dict())
        assert len(one.history) == 2
    assert same_weights(*ends)


def test_a_broken_file_in_a_stream_is_named_and_left_out(folder, monkeypatch, capfd):
    (folder / "a" / "99.png").write_bytes(b"\x89PNG no more")
    streamed = find_images(folder, whole_image((16, 16)))
    ((pixels, index),) = streamed.fetch([torch.arange(len(streamed))])
    assert len(streamed) == 25 and len(pixels) == len(index) == 24
    assert "left out" in capfd.readouterr().err
    model = create_model("resnet20_cifar", num_classes=3, input_size=16).eval()
    assert evaluate.measure(model, streamed) == evaluate.measure(model, in_memory(streamed))


def test_broken_files_in_a_stream_are_left_out_and_a_batch_of_them_alone_is_an_error(folder):
    for i in range(4):
        (folder / "c" / f"{95 + i}.png").write_bytes(b"\x89PNG no more")
    streamed = find_images(folder, whole_image((16, 16)))
    model = create_model("resnet20_cifar", num_classes=3, input_size=16).eval()
    logits, _ = predict_logits(model, streamed, SAME, batch_size=4)
    assert len(streamed) == 28 and len(logits) == 24
    broken = streamed.subset(torch.arange(24, 28))
    with pytest.raises(DataError, match="holds no readable image"):
        predict_logits(model, broken, SAME)
    feed = Feed(streamed, SAME, STILL, 0, CPU)
    with pytest.raises(DataError, match=r"no image of a micro-batch of .* can be read"):
        next(feed.batches(0, [(0, torch.arange(24, 28))], 16))


# Every kind of network


@pytest.mark.parametrize(
    "model", ["lenet5", "vgg_cifar", "cifar10net", "wrn16_4_cifar", "resnet18", "plain20_cifar"]
)
def test_every_kind_of_network_trains_from_one_command(model, folder, tmp_path):
    """At 32x32 in colour; heads of a fixed size skip the smaller images of `fast`."""
    few = ["--epochs", "1", "--batch-size", "8", "--held-out", "3", "--precision", "fp32", "--device", "cpu"]
    (folder.parent / "test").symlink_to(folder)
    if model != "plain20_cifar":  # Muon takes minutes on the large filter banks of the others
        few += ["--optimizer", "sgd"]
    words = [model, "--data", str(folder.parent), "--out", str(tmp_path / "run"), *few]
    assert cifar.main(words) == 0
    assert from_pretrained(tmp_path / "run").config.input_size == (32, 32)


def test_overrides_and_other_sizes_train(folder, tmp_path):
    (folder.parent / "test").symlink_to(folder)
    flags = "--epochs 1 --batch-size 8 --held-out 3 --precision fp32 --device cpu --input 24x40 --stem cifar "
    flags += "--maxpool --strides 1,2,2,1 --drop-rate 0.1 --tensorboard --accumulate 2 --optimizer sgd"
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -e .[dev]")
    run = tmp_path / "run"
    assert cifar.main(["resnet18", "--data", str(folder.parent), "--out", str(run), *flags.split()]) == 0
    config = from_pretrained(run).config
    assert (config.stem, config.has_maxpool, config.strides) == ("cifar", True, (1, 2, 2, 1))
    assert (config.input_size, config.drop_rate) == ((24, 40), 0.1)
    assert list((run / "tensorboard").iterdir())
    assert json.loads((run / "run.json").read_text())["recipe"]["accumulate"] == 2


def test_every_augmentation_and_schedule_is_made_and_named_on_the_card():
    batched = {"crop", "flip", *BATCHED}
    assert {*recipes.AUGMENTATIONS} == {*ONE_BY_ONE} | batched == {*card.AUGMENTATIONS}
    assert {*recipes.SCHEDULES} == {*SCHEDULES} == {*card.SCHEDULES}
