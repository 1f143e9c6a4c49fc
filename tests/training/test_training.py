"""The promises of `training`: honest splits, augmentation that depends only on seed, epoch and image, a run
that can be stopped and repeated bit by bit, and figures that can be measured again. Oracles: numpy, and
values worked out by hand. The data are small images of coloured shapes made here."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import image_folders, noise_set
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from safetensors.torch import load_file

from resnet_hub import create_model, from_pretrained, predict
from resnet_hub.preprocess import Preprocess
from training import cifar, evaluate
from training import command as run_command
from training.augment import Feed, Views, epoch_order
from training.calibrate import calibration_error, fit_temperature
from training.data import (
    DataError,
    ImageSet,
    check_parts,
    find_data,
    find_images,
    in_memory,
    load_data,
    measured_preprocess,
    normalise,
    split_held_out,
    whole_image,
)
from training.engine import Trainer, TrainingError, training_flops
from training.label_table import read_table
from training.optim import Muon, build_optimizers, one_cycle, orthogonalise, set_lr_factor
from training.recipes import RECIPES, Recipe

TINY = Recipe(
    epochs=3,
    batch_size=16,
    optimizer="muon",
    lr=0.05,
    bias_lr=0.2,
    muon_lr=0.03,
    label_smoothing=0.1,
    low_res=24,
    low_res_until=0.4,
    ema=0.99,
    keep="best",
)
SHAPES = {"circle": "ellipse", "square": "rectangle", "stripe": "line"}
HISTORY_KEYS = {
    "epoch", "train_loss", "train_acc", "val_loss", "val_acc", "val_balanced_acc", "val_macro_f1", "lr",
    "seconds", "images_per_second", "pflops"
}  # fmt: skip
RUN_FILES = {
    "config.json", "model.safetensors", "README.md", "run.json", "history.jsonl",
    "curves.png", "confusion.png", "predictions.png", "predictions.csv", "top_losses.png",
}  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def tiny_recipe():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "tiny", TINY)
        yield


def shape_image(kind: str, draw: np.random.Generator) -> Image.Image:
    colours = [tuple(map(int, draw.integers(0, 256, 3))) for _ in range(2)]
    image = Image.new("RGB", (32, 32), colours[0])
    left, top = map(int, draw.integers(2, 12, 2))
    getattr(ImageDraw.Draw(image), SHAPES[kind])((left, top, left + 16, top + 16), fill=colours[1])
    return image


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """train/ with 24 images a class and one broken file, test/ with 8 a class."""
    classes = {kind: partial(shape_image, kind) for kind in SHAPES}
    root = image_folders(tmp_path_factory.mktemp("shapes"), {"train": 24, "test": 8}, classes)
    (root / "train" / "circle" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return root


def command(data: Path, run: Path, *more: str) -> int:
    """The trainer's exit status, on the CPU in float32, where it is deterministic."""
    fixed = ["--recipe", "tiny", "--held-out", "21", "--device", "cpu", "--precision", "fp32"]
    return cifar.main(["resnet20_cifar", "--data", str(data), "--out", str(run), *fixed, *more])


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory) -> Path:
    """A finished run; tests only read it."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    assert command(shapes, directory) == 0
    return directory


def stop_after_the_first_epoch(data: Path, run: Path) -> int:
    """The exit status of a run that is interrupted there."""
    save = Trainer.save

    def save_and_stop(trainer, directory):
        save(trainer, directory)
        if trainer.step == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_stop)
        return command(data, run)


@pytest.fixture
def stopped(shapes, tmp_path) -> Path:
    stop_after_the_first_epoch(shapes, tmp_path / "stopped")
    return tmp_path / "stopped"


def outcome(run: Path) -> tuple[bytes, list[list[float]]]:
    """The kept weights, and every epoch's exact figures except times."""
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    figures = sorted(HISTORY_KEYS - {"seconds", "images_per_second"})
    return (run / "model.safetensors").read_bytes(), [[line[name] for name in figures] for line in lines]


# The validation split


@pytest.fixture
def uneven_labels() -> torch.Tensor:
    return torch.tensor([0] * 600 + [1] * 300 + [2] * 100)[torch.randperm(1000)]


def test_split_puts_every_image_in_exactly_one_part(uneven_labels):
    parts = split_held_out(uneven_labels, 137, seed=0)
    assert len(parts[1]) == 137
    assert sorted(torch.cat(parts).tolist()) == list(range(1000))


def test_validation_set_has_each_class_in_proportion(uneven_labels):
    _, held_out = split_held_out(uneven_labels, 100, seed=0)
    counts = torch.bincount(uneven_labels[held_out], minlength=3).tolist()
    assert counts == [pytest.approx(expected, abs=1) for expected in (60, 30, 10)]


def test_split_depends_on_the_seed(uneven_labels):
    first, again, other = (set(split_held_out(uneven_labels, 100, seed)[1].tolist()) for seed in (0, 0, 1))
    assert first == again and len(first & other) < 30


@pytest.mark.parametrize(("count", "held_out"), [(45_000, 44_960), (50_000, 49_999), (50_000, 1), (9, 5)])
def test_split_holds_out_as_many_as_asked(count, held_out):
    train, held = split_held_out(torch.arange(count) % 10, held_out, seed=0)
    assert (len(train), len(held)) == (count - held_out, held_out)


@pytest.mark.parametrize("held_out", [-5, 1000, 5000])
def test_impossible_split_is_refused_with_the_range(uneven_labels, held_out):
    with pytest.raises(DataError, match="give 0 to 999"):
        split_held_out(uneven_labels, held_out, seed=0)


# Augmentation


def shown(
    data: ImageSet, batch_size: int, seed: int = 0, epoch: int = 0, pad: int | None = None
) -> dict[int, torch.Tensor]:
    """What an epoch shows, by the image's position. `pad` is in pixels of the 12x12 images."""
    recipe = Recipe(epochs=9, crop_padding=11 if pad is None else round(pad * 32 / 12))
    views = Views(len(data), recipe, (12, 12), seed, epoch)
    batches = epoch_order(len(data), batch_size, seed, epoch)
    return {i: view for b in batches for i, view in zip(b.tolist(), views(data.images[b], b), strict=True)}


def same(a: dict[int, torch.Tensor], b: dict[int, torch.Tensor]) -> bool:
    return all(torch.equal(a[i], b[i]) for i in a.keys() & b.keys())


def test_epoch_shows_each_image_once_and_leaves_out_the_short_batch():
    batches = epoch_order(50, 8, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [8] * 6
    assert len(torch.cat(batches).unique()) == 48


def test_batch_larger_than_the_data_is_all_of_it():
    assert sorted(shown(noise_set(5), batch_size=64)) == list(range(5))


def test_each_epoch_has_an_order_of_its_own():
    orders = [epoch_order(50, 50, 0, epoch)[0].tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_crops_and_flips_do_not_depend_on_the_batch_size():
    data = noise_set(40)
    assert same(shown(data, batch_size=40, epoch=3), shown(data, batch_size=7, epoch=3))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}])
def test_another_seed_or_epoch_shows_other_crops(other):
    data = noise_set(40)
    assert not same(shown(data, 40), shown(data, 40, **other))


def test_two_epochs_in_a_row_show_every_image_flipped_once():
    data = noise_set(40)
    first, second = shown(data, 40, epoch=4, pad=0), shown(data, 40, epoch=5, pad=0)
    for i, image in enumerate(data.images):
        left, right = sorted([first[i], second[i]], key=lambda side: not torch.equal(side, image))
        assert torch.equal(left, image) and torch.equal(right, image.flip(2))


def test_flips_are_mixed():
    data = noise_set(200)
    upright = sum(torch.equal(seen, data.images[i]) for i, seen in shown(data, 200, pad=0).items())
    assert 60 < upright < 140


def test_crops_are_cut_from_a_reflected_border_of_four_pixels():
    data = noise_set(300)
    places = set()
    for i, seen in shown(data, 300).items():
        padded = np.pad(data.images[i].numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
        crops = {(y, x): padded[:, y : y + 12, x : x + 12] for y in range(9) for x in range(9)}
        sides = (seen.numpy(), seen.flip(2).numpy())
        found = [at for at, crop in crops.items() for side in sides if (crop == side).all()]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 70  # of 81, in 300 draws


def test_training_normalises_as_the_library_does():
    preprocess = Preprocess(input_size=(3, 12, 12), crop_pct=1.0, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    images = noise_set(4).images
    expected = [preprocess.normalise(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
    torch.testing.assert_close(
        normalise(images, preprocess, CPU), torch.stack(expected), rtol=1e-6, atol=1e-6
    )


# Data


def test_folders_are_classes_in_alphabetical_order(shapes):
    data = in_memory(find_images(shapes / "test", whole_image((32, 32))))
    assert data.classes == ("circle", "square", "stripe")
    assert torch.bincount(data.labels).tolist() == [8, 8, 8]
    with Image.open(shapes / "test" / "square" / "03.png") as image:
        assert np.array_equal(data.images[11].permute(1, 2, 0).numpy(), np.asarray(image))


def test_broken_image_is_listed_and_left_out(shapes, capsys):
    data = load_data(str(shapes), "train", whole_image((32, 32)))
    assert torch.bincount(data.labels).tolist() == [24, 24, 24]
    listed = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(listed) == 1 and "circle/broken.png" in listed[0]


VIEWS = {mode: Preprocess((3, 32, 32), "bilinear", 0.5, mode) for mode in ("center", "squash", "border")}


@pytest.mark.parametrize("view", [*VIEWS.values(), Preprocess((1, 32, 32), mean=(0.5,), std=(0.2,))])
def test_a_network_is_evaluated_with_its_own_preprocessing(shapes, tmp_path, capsys, view):
    """Also one from another library that crops the middle, or takes grey images."""
    for file in (shapes / "test").glob("*/*.png"):
        wide = tmp_path / file.relative_to(shapes)
        wide.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            image.resize((48, 32)).save(wide)
    model = create_model("resnet20_cifar", num_classes=3, in_chans=view.input_size[0]).eval()
    model.labels, model.preprocess = ("circle", "square", "stripe"), view
    model.save_pretrained(tmp_path / "foreign")
    words = [str(tmp_path / "foreign"), "--data", str(tmp_path), "--device", "cpu", "--json"]
    assert evaluate.main(words) == 0
    measured = json.loads(capsys.readouterr().out)
    assert evaluate.main([*words, "--unfamiliar", str(shapes / "test")]) == 2
    assert "has no threshold" in capsys.readouterr().err
    files = sorted((tmp_path / "test").rglob("*.png"))
    answers = zip(files, model.predict(files, top_k=3), strict=True)
    assert measured["loss"] == pytest.approx(
        -np.mean([np.log(dict(shares)[file.parent.name]) for file, shares in answers])
    )


def test_images_are_not_distorted(tmp_path):
    """A disc in the middle of a wide image stays as wide as it is high."""
    (tmp_path / "disc").mkdir()
    image = Image.new("L", (200, 100))
    ImageDraw.Draw(image).ellipse((75, 25, 125, 75), fill=255)
    image.save(tmp_path / "disc" / "1.png")
    disc = in_memory(find_images(tmp_path, whole_image((32, 32)))).images[0, 0] > 127
    assert disc.any(0).sum() == disc.any(1).sum() == 16


def test_statistics_are_those_of_the_pixels():
    data = noise_set(20)
    pixels = data.images.numpy().astype(np.float64) / 255
    preprocess = measured_preprocess(data)
    assert preprocess.mean == tuple(pixels.mean((0, 2, 3)).round(4))
    assert preprocess.std == tuple(pixels.std((0, 2, 3)).round(4))


def folder_of(root: Path, **parts: str) -> Path:
    """A data set of one small image a class, e.g. train="ant bee"."""
    for part, classes in parts.items():
        for name in classes.split():
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / part / name / "1.png")
    return root


def test_other_classes_in_the_validation_set_are_noticed_before_training(tmp_path):
    data = folder_of(tmp_path, train="ant bee wasp", val="ant wasp", test="ant bee wasp")
    with pytest.raises(DataError, match=r"has classes .*'bee'.*val"):
        check_parts(str(data))


def test_every_image_outside_the_validation_set_can_be_trained_on(shapes, tmp_path, capsys):
    assert command(shapes, tmp_path / "all", "--train-images", "51", "--epochs", "1") == 0
    assert command(shapes, tmp_path / "none", "--train-images", "0") == 2
    assert command(shapes, tmp_path / "many", "--train-images", "53") == 2
    assert "--train-images 53: give 1 to 52" in capsys.readouterr().err.splitlines()[-1]


def test_run_that_is_a_file_is_one_line(shapes, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert command(shapes, tmp_path / "run") == 2
    assert "run" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "size", "channels", "message"),
    [
        ("cifar10", 64, 3, "cifar10 has images of 3x32x32, not 3x64x64; give --in-chans 3 and --input 32x32"),
        ("cifar10", 32, 1, "cifar10 has images of 3x32x32, not 1x32x32"),
        ("mnist", 28, 3, "mnist has images of 1x28x28, not 3x28x28; give --in-chans 1 and --input 28x28"),
    ],
)
def test_a_data_set_of_torchvisions_has_one_shape(name, size, channels, message):
    with pytest.raises(DataError, match=message):
        load_data(name, "train", whole_image((size, size), channels))


def test_cifar10_offline_says_what_to_do(monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")

    def offline(*args, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr(datasets, "CIFAR10", offline)
    with pytest.raises(DataError, match=r"could not be downloaded .*give --data an image folder"):
        load_data("cifar10", "train", whole_image((32, 32)))


def test_cifar10_is_torchvisions(monkeypatch):
    from torchvision import datasets

    class Ten:
        classes = ("airplane", "automobile")

        def __init__(self, root, train, download):
            assert download
            draw = np.random.default_rng(train)
            self.data, self.targets = draw.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), [0, 1] * 3

    monkeypatch.setattr(datasets, "CIFAR10", Ten)
    for part, is_train in (("train", True), ("test", False)):
        found = load_data("cifar10", part, whole_image((32, 32)))
        assert found.images.shape == (6, 3, 32, 32) and found.labels.tolist() == [0, 1] * 3
        assert np.array_equal(found.images[4, :, 7, 9], Ten(None, is_train, True).data[4, 7, 9])
        assert found.classes == ("airplane", "automobile")


# Optimizers and schedules


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 0), (0.05, 0.25), (0.1, 0.5), (0.2, 1), (0.6, 0.5), (0.9, 0.125), (1, 0)]
)
def test_rate_rises_and_falls_in_straight_lines(progress, factor):
    assert one_cycle(progress, warmup=0.2) == pytest.approx(factor)


def test_rate_factors_do_not_accumulate():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.4)
    for factor in (0.5, 0.1, 0.5):
        set_lr_factor([optimizer], factor)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 64)])
def test_orthogonalised_matrix_keeps_its_singular_vectors_with_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalise(matrix, steps=5) @ vt.T  # diagonal where the singular vectors are kept
    values = inside.diagonal()
    assert values.min() > 0.65 and values.max() < 1.3
    torch.testing.assert_close(inside, values.diag(), rtol=0, atol=1e-4)


def muon_step(weight: torch.Tensor, gradient: torch.Tensor, lr: float) -> torch.Tensor:
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    Muon([parameter], lr=lr).step()
    return parameter.detach()


def test_muon_keeps_a_filter_banks_norm():
    weight, gradient = torch.randn(2, 16, 8, 3, 3)
    assert muon_step(weight, gradient, lr=0).norm().item() == pytest.approx(4, rel=1e-5)  # sqrt(16 filters)
    assert muon_step(weight * 50, gradient, lr=0.04).norm().item() == pytest.approx(4, rel=0.05)


def test_muons_step_depends_on_neither_the_gradients_nor_the_weights_scale():
    weight, gradient = torch.randn(2, 16, 8, 3, 3)
    step = muon_step(weight, gradient, lr=0.1)
    torch.testing.assert_close(muon_step(7 * weight, 1000 * gradient, lr=0.1), step, rtol=1e-3, atol=1e-4)


def test_muon_goes_downhill():
    target = torch.randn(8, 4, 3, 3)
    target *= 8**0.5 / target.norm()
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    optimizer = Muon([weight], lr=0.05)
    distances = []
    for _ in range(60):
        loss = (weight - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        distances.append(loss.item())
    assert distances[-1] < 0.05 * distances[1]


@pytest.mark.parametrize("kind", ["sgd", "muon"])
def test_every_parameter_has_one_optimizer_and_norms_and_biases_do_not_decay(kind):
    model = create_model("resnet20_cifar")
    optimizers = build_optimizers(model, Recipe(epochs=1, optimizer=kind, muon_lr=0.1, weight_decay=0.5))
    decay = {id(p): g.get("weight_decay", 0) for o in optimizers for g in o.param_groups for p in g["params"]}
    assert sum(len(g["params"]) for o in optimizers for g in o.param_groups) == len(list(model.parameters()))
    assert decay.keys() == {id(p) for p in model.parameters()}
    assert all(decay[id(p)] == 0 for n, p in model.named_parameters() if "bn" in n or n.endswith("bias"))
    assert decay[id(model.fc.weight)] == decay[id(model.conv1.weight)] == 0.5


def test_muon_trains_every_convolution_but_the_first():
    model = create_model("resnet20_cifar")
    muon, _ = build_optimizers(model, RECIPES["fast"])
    turned = {id(p) for p in muon.param_groups[0]["params"]}
    convs = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert turned == {id(w) for w in convs[1:]}


def test_batch_norm_biases_can_have_a_rate_of_their_own():
    model = create_model("resnet18_cifar")
    recipe = replace(RECIPES["fast"], lr=0.02, bias_lr=5.0, muon_momentum=0.6)
    muon, rest = build_optimizers(model, recipe, {"bn1.bias": 0.5})
    rates = {id(p): group["lr"] for group in rest.param_groups for p in group["params"]}
    norms = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    shifts = {name: rates[id(norm.bias)] for name, norm in norms.items()}
    assert shifts == dict.fromkeys(norms, 5) | {"bn1": 2.5}
    others = [model.conv1.weight, model.fc.weight, model.fc.bias, *(norm.weight for norm in norms.values())]
    assert {rates[id(p)] for p in others} == {0.02}
    assert {group["momentum"] for group in muon.param_groups} == {0.6}


# Measures


def numpy_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    logits = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 4.0])
def test_temperature_is_the_best_of_a_fine_grid(sharpness):
    draw = np.random.default_rng(0)
    true = draw.normal(size=(2000, 5)) * 2
    labels = (true + draw.gumbel(size=true.shape)).argmax(1)  # drawn from softmax(true)
    logits = (true * sharpness).astype(np.float32)
    grid = np.exp(np.linspace(math.log(0.1), math.log(10), 400))
    best = grid[np.argmin([numpy_cross_entropy(logits / t, labels) for t in grid])]
    fitted = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert fitted.value == pytest.approx(best, rel=0.015)
    assert fitted.interval[0] < fitted.value < fitted.interval[1]


@settings(derandomize=True, max_examples=60)
@given(
    st.lists(st.lists(st.floats(-0.125, 0.125, width=32), min_size=2, max_size=2), min_size=2, max_size=20)
)
def test_temperature_of_a_few_images_that_are_all_correct_is_within_its_bounds(rows):
    logits = torch.tensor(rows)
    assert 1 / 20 <= fit_temperature(logits, logits.argmax(1)).value <= 20


def test_calibration_error_is_the_gap_in_fifteen_bins():
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet([0.3] * 4, 500)
    # Correct six times in ten whatever the confidence: over- and underconfident bins.
    labels = np.where(draw.random(500) < 0.6, probabilities.argmax(1), draw.integers(0, 4, 500))
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    measured = calibration_error(torch.from_numpy(probabilities).float(), torch.from_numpy(labels))
    assert expected > 0.05 and measured == pytest.approx(expected, abs=1e-5)


def test_flip_tta_adds_the_logits_of_the_mirrored_image():
    torch.manual_seed(3)
    model = create_model("lenet5", in_chans=3, input_size=16).eval()
    data = noise_set(200, side=16, classes=10)
    photos = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in data.images]
    with torch.no_grad():
        plain = model(model.preprocess.batch(photos))
        both = plain + model(model.preprocess.batch([ImageOps.mirror(photo) for photo in photos]))
    data = replace(data, labels=plain.argmax(1))  # all correct without the mirrored image, not with it
    shares = [(logits.argmax(1) == data.labels).float().mean().item() for logits in (plain, both)]
    results = evaluate.measure(model, data)
    assert shares[0] == 1 and shares[1] < 0.9
    assert [results["top1"], results["top1_flip_tta"]] == pytest.approx(shares)


def test_shift_tta_weighs_the_image_as_much_as_all_its_shifts():
    torch.manual_seed(0)
    model = create_model("lenet5", in_chans=3, input_size=16).eval()
    data = noise_set(200, side=16, classes=10)
    pixels = data.images.numpy()
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), "reflect")
    answers = []
    for views in ([pixels], [padded[..., :16, :16], padded[..., 2:, 2:]]):
        views = [turned for view in views for turned in (view, view[..., ::-1])]
        batches = [
            model.preprocess.batch([Image.fromarray(x.transpose(1, 2, 0)) for x in view]) for view in views
        ]
        with torch.no_grad():
            answers.append(torch.stack([model(batch) for batch in batches]).mean(0))
    expected = ((answers[0] + answers[1]).argmax(1) == data.labels).float().mean().item()
    results = evaluate.measure(model, data, shifts=True)
    assert expected != results["top1_flip_tta"]
    assert results["top1_shift_tta"] == pytest.approx(expected)


def test_certain_and_right_is_calibrated():
    assert calibration_error(torch.eye(4), torch.arange(4)) == 0


@pytest.mark.parametrize("side", [32, 24])
def test_training_cost_is_three_forward_passes_without_the_images_gradient(side):
    """ResNet-20's multiply-adds by hand; forward, weight and input gradient take two operations for each."""
    stages = [(16, 16, 1), (16, 32, 2), (32, 64, 4)]
    stem = 27 * 16 * side**2
    convs = sum(9 * out * (into + 5 * out) * (side // shrink) ** 2 for into, out, shrink in stages)
    expected = 2 * (3 * (stem + convs + 64 * 10) - stem)
    assert training_flops(create_model("resnet20_cifar"), (3, side, side), CPU) == pytest.approx(
        expected, rel=1e-9
    )


# A whole run


def test_run_directory_is_complete(run):
    assert {file.name for file in run.iterdir()} == RUN_FILES
    with Image.open(run / "curves.png") as image:
        assert image.format == "PNG" and min(image.size) > 200


def test_trained_network_loads_with_its_classes(run):
    model = from_pretrained(run)
    assert model.labels == ("circle", "square", "stripe") and model.config.num_classes == 3
    assert model.calibration.energy_threshold is not None


def test_history_has_a_complete_line_for_each_epoch(run):
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line.keys() == HISTORY_KEYS
        assert all(math.isfinite(value) for value in line.values())
        progress = (line["epoch"] - 1 / 3) / 3  # when the last of three steps began
        assert line["lr"] == pytest.approx(TINY.lr * (1 - progress) / (1 - TINY.warmup))


def test_low_resolution_epochs_cost_less(run):
    pflops = [json.loads(line)["pflops"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert pflops[0] == pytest.approx(pflops[1] * (24 / 32) ** 2, rel=1e-3) and pflops[1] == pflops[2]


def test_run_records_data_command_and_seed(run, shapes):
    facts = json.loads((run / "run.json").read_text())
    assert (facts["train_images"], facts["held_out_images"], facts["results"]["images"]) == (51, 21, 24)
    assert facts["command"].startswith(f"python -m training.cifar resnet20_cifar --data {shapes}")
    assert facts["seed"] == 0 and facts["recipe"]["epochs"] == 3


def test_kept_weights_are_those_of_the_epoch_with_the_best_validation_accuracy(run):
    facts = json.loads((run / "run.json").read_text())
    accuracies = [json.loads(line)["val_acc"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert facts["val_acc"] == max(accuracies) == accuracies[facts["best_epoch"] - 1]


def test_figures_agree_with_one_another(run):
    results = json.loads((run / "run.json").read_text())["results"]
    confusion = np.array(results["confusion"])
    assert confusion.sum(1).tolist() == [8, 8, 8]
    assert results["top1"] == pytest.approx(np.trace(confusion) / 24)
    assert results["per_class"] == pytest.approx((np.diag(confusion) / 8).tolist())
    assert "top5" not in results  # of three classes it is always right


def test_results_are_those_of_predicting_the_test_images(run, shapes):
    """The library's own path, from files, gives the card's accuracy."""
    files = sorted((shapes / "test").rglob("*.png"))
    answers = [answer[0][0] for answer in from_pretrained(run).predict(files, top_k=1)]
    right = np.mean([answer == file.parent.name for answer, file in zip(answers, files, strict=True)])
    assert json.loads((run / "run.json").read_text())["results"]["top1"] == pytest.approx(right)


def test_batch_larger_than_the_data_trains(shapes, tmp_path):
    assert command(shapes, tmp_path / "run", "--recipe", "fast", "--epochs", "2") == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["epochs_run"] == 2 and facts["recipe"]["batch_size"] > facts["train_images"]


def test_the_test_set_is_read_once_after_the_last_epoch(shapes, tmp_path, monkeypatch):
    read = []

    def noted(load):
        def note(data, part, *how):
            epochs = len((tmp_path / "history.jsonl").read_text().splitlines()) if part == "test" else 0
            read.append((part, epochs))
            return load(data, part, *how)

        return note

    monkeypatch.setattr(run_command, "find_data", noted(find_data))
    monkeypatch.setattr(evaluate, "load_data", noted(load_data))
    command(shapes, tmp_path, "--epochs", "1")
    assert read == [("train", 0), ("test", 1)]


def test_images_of_other_things_are_measured_and_named(shapes, tmp_path, capsys):
    strange = tmp_path / "strange"
    strange.mkdir()
    for i in range(4):
        Image.effect_noise((40, 40), 90 + i).save(strange / f"{i}.png")
    command(shapes, tmp_path / "run", "--epochs", "1", "--unknown", f"static={strange}")
    ((what, count, share),) = from_pretrained(tmp_path / "run").calibration.detections
    seen = predict.classify(from_pretrained(tmp_path / "run"), sorted(strange.iterdir()))
    assert (what, count, share) == ("static", 4, sum(each.unfamiliar for each in seen) / 4)
    words = [str(tmp_path / "run"), "--data", str(shapes), "--device", "cpu"]
    assert evaluate.main(words) == 0
    assert "not measured: images of static; give --unknown" in capsys.readouterr().err
    assert evaluate.main([*words, "--unfamiliar", f"static={strange}"]) == 0  # its earlier name
    assert f"static: {share:.2%} (" in capsys.readouterr().out
    card = tmp_path / "run" / "README.md"
    stated, other = (f"| static | 4 | {100 * value:.2f} % (" for value in (share, (share + 0.5) % 1))
    assert stated in card.read_text()
    card.write_text(card.read_text().replace(stated, other))
    assert evaluate.main([*words, "--unknown", f"static={strange}"]) == 1
    assert "the card says static called unfamiliar" in capsys.readouterr().err


# Stopping, resuming, repeating


def test_saving_in_the_middle_of_an_epoch_changes_no_figure(run, shapes, tmp_path):
    assert command(shapes, tmp_path / "run", "--save-every", "0") == 0
    assert outcome(tmp_path / "run") == outcome(run)


def test_stopped_before_anything_was_trained(shapes, tmp_path, monkeypatch, capsys):
    def interrupt(*anything):
        raise KeyboardInterrupt

    monkeypatch.setattr(cifar, "load_images_to_train", interrupt)
    assert command(shapes, tmp_path / "run") == 130
    assert "nothing was trained yet" in capsys.readouterr().err


def test_changed_images_are_noticed(shapes, tmp_path):
    copy = shutil.copytree(shapes / "train", tmp_path / "train")
    files = find_images(copy, whole_image((32, 32)))
    data = in_memory(files)
    other = data.images.clone()
    other[-2, 0, 5, 5] ^= 1
    assert replace(data, images=other).fingerprint() != data.fingerprint()
    again = files.fingerprint()
    last = files.files[-1]
    last.write_bytes(last.read_bytes() + b"\0")
    assert files.fingerprint() != again


def test_streamed_images_are_the_same_wherever_they_lie(shapes, tmp_path, monkeypatch):
    """A job's scratch folder is another one each time."""
    copy = shutil.copytree(shapes / "train", tmp_path / "train")
    monkeypatch.chdir(tmp_path)
    found = [find_images(root, whole_image((32, 32))).fingerprint() for root in (copy, Path("train"))]
    assert found == [find_images(shapes / "train", whole_image((32, 32))).fingerprint()] * 2


def test_streamed_images_of_a_table_are_the_same_wherever_they_lie(tmp_path, monkeypatch):
    """They lie in the data set's own folder."""
    found = []
    for name in ("photos", "scratch7"):
        (tmp_path / name).mkdir()
        for file in ("a.png", "b.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name / file)
        (tmp_path / name / "t.csv").write_text("file,labels\na,cat\nb,dog\n")
        for root in (tmp_path / name, Path()):
            monkeypatch.chdir(tmp_path / name)
            images = read_table(tmp_path / name / "t.csv", root).images("train", whole_image((8, 8)))
            found.append(images.fingerprint())
    assert len({*found}) == 1


def test_resumed_run_ends_in_the_same_bits(stopped, run, shapes):
    assert command(shapes, stopped, "--resume") == 0
    assert outcome(stopped) == outcome(run)


def test_resume_of_a_finished_run_changes_nothing(run, shapes, capsys):
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.iterdir()}
    assert command(shapes, run, "--resume") == 0
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in run.iterdir()} == before
    assert "finished" in capsys.readouterr().out


def test_resume_without_a_checkpoint_starts_afresh_and_says_so(shapes, tmp_path, capsys):
    assert command(shapes, tmp_path / "new", "--resume", "--epochs", "1") == 0
    assert "starting afresh" in capsys.readouterr().out


def test_another_seed_gives_other_weights(run, shapes, tmp_path):
    command(shapes, tmp_path / "other", "--seed", "1")
    assert not torch.equal(
        load_file(tmp_path / "other" / "model.safetensors")["conv1.weight"],
        load_file(run / "model.safetensors")["conv1.weight"],
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [(["--epochs", "4"], "recipe"), (["--seed", "1"], "seed"), (["--recipe", "plain"], "recipe")],
)
def test_resume_with_something_else_is_refused(stopped, shapes, capsys, change, what):
    before = (stopped / "last.ckpt").read_bytes()
    capsys.readouterr()
    assert command(shapes, stopped, "--resume", *change) == 2
    assert f"was made with another {what}" in capsys.readouterr().err
    assert (stopped / "last.ckpt").read_bytes() == before


def test_a_loss_of_nan_ends_the_run_and_keeps_the_last_good_state(shapes, tmp_path, monkeypatch, capsys):
    save = Trainer.save

    def save_and_blow_up(trainer, directory):
        save(trainer, directory)
        with torch.no_grad():
            trainer.net.fc.weight.fill_(float("inf"))

    monkeypatch.setattr(Trainer, "save", save_and_blow_up)
    assert command(shapes, tmp_path) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "the loss became nan in epoch 2" in message and "Lower --lr" in message
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in state["net"].values())


def test_a_broken_state_is_not_saved_after_the_last_step_of_an_epoch(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "wild", Recipe(epochs=2, batch_size=64, lr=1e38))  # one step an epoch
    assert command(shapes, tmp_path, "--recipe", "wild") == 2
    assert "the held-out loss became" in capsys.readouterr().err
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("broken", ["loss", "statistics"])
def test_a_state_with_nan_is_not_saved(tmp_path, broken):
    """With fp16 a step with a loss of nan is skipped, so the weights alone would look fine."""
    data, recipe = noise_set(8, side=32), replace(TINY, batch_size=4)
    preprocess = Preprocess((3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    net = create_model("resnet20_cifar", num_classes=8)
    trainer = Trainer(net, recipe, Feed(data, preprocess, recipe, 0, CPU), seed=0, device=CPU)
    trainer.save(tmp_path)
    before = (tmp_path / "last.ckpt").read_bytes()
    if broken == "loss":
        trainer.sums[0] = math.nan
    else:
        net.bn1.running_mean[0] = math.nan
    with pytest.raises(TrainingError, match="became nan in epoch 1; what was saved before it is kept"):
        trainer.save(tmp_path)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_too_large_a_validation_set_is_one_line(shapes, tmp_path, capsys):
    assert command(shapes, tmp_path / "run", "--held-out", "5000") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("training.cifar: ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--batch-size", "4", "--accumulate", "8"],
            "a step of 4 images cannot be cut into 8 micro-batches",
        ),
        (["--stem", "imagenet", "--low-res", "0", "--input", "8", "--crop-padding", "31"], None),
    ],
)
def test_odd_sizes_train_or_are_one_line(shapes, tmp_path, capsys, flags, message):
    status = command(shapes, tmp_path / "run", *flags)
    assert status == (2 if message else 0)
    assert message is None or message in capsys.readouterr().err.splitlines()[-1]


def test_images_too_small_for_the_network_are_one_line(shapes, tmp_path, capsys):
    words = ["resnet8_cifar", "--data", str(shapes), "--out", str(tmp_path / "run"), "--recipe", "short"]
    assert cifar.main([*words, "--low-res", "3", "--device", "cpu", "--precision", "fp32"]) == 2
    assert "training.cifar: " in capsys.readouterr().err.splitlines()[-1]


def test_missing_data_names_the_folder_it_looked_for(tmp_path, capsys):
    command(tmp_path / "absent", tmp_path / "run")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'absent' / 'train'} has no class folders" in line


# Measuring again


def test_evaluation_agrees_with_the_card(run, shapes, capsys):
    assert evaluate.main([str(run), "--data", str(shapes), "--device", "cpu"]) == 0
    stated = json.loads((run / "run.json").read_text())["results"]["top1"]
    assert f"{'top1':22} {stated:.4f}" in capsys.readouterr().out


def copy_with_another_figure(run: Path, directory: Path) -> None:
    directory.mkdir()
    for name in ("config.json", "model.safetensors"):
        (directory / name).write_bytes((run / name).read_bytes())
    card = ModelCard.load(run / "README.md")
    for result in card.data.eval_results:
        if result.metric_name == "Top-1 accuracy":
            result.metric_value -= 0.001
    card.save(directory / "README.md")


def test_evaluation_fails_where_the_card_says_something_else(run, shapes, tmp_path, capsys):
    copy_with_another_figure(run, tmp_path / "edited")
    assert evaluate.main([str(tmp_path / "edited"), "--data", str(shapes), "--device", "cpu"]) == 1
    assert "the card says top1 " in capsys.readouterr().err


@pytest.mark.parametrize("card", ["", "# My network\n\nIt is good.\n"])
def test_evaluation_says_where_no_card_states_figures(run, shapes, tmp_path, capsys, card):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "README.md").write_text(card) if card else (copy / "README.md").unlink()
    assert evaluate.main([str(copy), "--data", str(shapes), "--device", "cpu"]) == 0
    assert f"not compared: {copy} has no card that states figures" in capsys.readouterr().err
    assert evaluate.main([str(run), "--data", str(shapes), "--device", "cpu"]) == 0
    assert "not compared" not in capsys.readouterr().err


def test_evaluation_as_json_is_one_document_with_the_runs_figures(run, shapes, capsys):
    evaluate.main([str(run), "--data", str(shapes), "--device", "cpu", "--json"])
    measured = json.loads(capsys.readouterr().out)
    stated = json.loads((run / "run.json").read_text())["results"]
    assert (measured.pop("differs_from_card"), measured.pop("confusion")) == ({}, stated.pop("confusion"))
    assert measured.pop("engine").endswith(" fp32")
    assert measured == {name: pytest.approx(value, abs=1e-5) for name, value in stated.items()}


def test_data_of_other_classes_is_refused(run, tmp_path, capsys):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "test" / "cat" / "1.png")
    assert evaluate.main([str(run), "--data", str(tmp_path), "--device", "cpu"]) == 2
    assert "classes that the model does not have: 'cat'" in capsys.readouterr().err.splitlines()[-1]
