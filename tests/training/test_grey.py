"""LeNet-5 as published reads one channel: grey folders train in one channel, and so does what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import image_folders, noise_image
from PIL import Image
from safetensors.torch import load_file

from resnet_hub import from_pretrained
from training import cifar, evaluate
from training.data import load_data, whole_image

QUICK = ["--epochs", "1", "--batch-size", "8", "--held-out", "4", "--device", "cpu", "--precision", "fp32"]


def test_lenet_trains_on_grey_images_as_published(tmp_path):
    classes = {"dark": noise_image(0, 120, (28, 28)), "light": noise_image(130, 255, (28, 28))}
    data = image_folders(tmp_path / "data", {"train": 12, "test": 4}, classes)
    for file in (data / "test").glob("*/*.png"):
        Image.new("RGB", (28, 28), "white").save(file)
    given = ["lenet5", "--data", str(data), "--in-chans", "1", "--input", "28", "--augment", "none"]
    assert cifar.main([*given, "--out", str(tmp_path / "run"), *QUICK]) == 0
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert weights["features.0.weight"].shape == (6, 1, 5, 5)
    model = from_pretrained(tmp_path / "run")
    assert model.config.in_chans == 1 and len(model.preprocess.mean) == 1
    grey = [
        np.asarray(Image.open(file).convert("L")) / 255 for file in sorted((data / "train").glob("*/*.png"))
    ]
    assert abs(model.preprocess.mean[0] - np.mean(grey)) < 0.02  # of the training part alone
    assert sum(p.numel() for p in model.parameters()) == 44_426 - 8 * 85  # two classes instead of ten


def write_idx(file: Path, array: np.ndarray) -> None:
    """An array of bytes in the format of http://yann.lecun.com/exdb/mnist/."""
    sides = b"".join(side.to_bytes(4, "big") for side in array.shape)
    file.write_bytes(bytes([0, 0, 8, array.ndim]) + sides + array.tobytes())


@pytest.fixture(params=[("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")], ids=lambda names: names[0])
def digits(request, tmp_path, monkeypatch) -> tuple[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """(--data, {part: (images, labels)}) of a data set where torchvision keeps what it has downloaded."""
    data, folder = request.param
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    raw = tmp_path / "torch" / "data" / folder / "raw"
    raw.mkdir(parents=True)
    draw, parts = np.random.default_rng(0), {}
    for part, prefix, count in (("train", "train", 50), ("test", "t10k", 20)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(raw / f"{prefix}-images-idx3-ubyte", images)
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels)
        parts[part] = images, labels
    return data, parts


def test_mnist_is_what_its_files_hold(digits):
    data, parts = digits
    for part, (images, labels) in parts.items():
        found = load_data(data, part, whole_image((28, 28), 1))
        assert np.array_equal(found.images[:, 0], images) and np.array_equal(found.labels, labels)
        assert found.images.shape[1] == 1 and len(found.classes) == 10


@pytest.mark.parametrize("digits", [("mnist", "MNIST")], indirect=True)
def test_lenet_trains_on_mnist_without_being_told_its_shape(digits, tmp_path, capsys):
    data, _ = digits
    given = ["lenet5", "--data", data, "--augment", "none", "--out", str(tmp_path / "run")]
    assert cifar.main([*given, *QUICK]) == 0
    model = from_pretrained(tmp_path / "run")
    assert model.config.in_chans == 1 and model.config.input_size == (28, 28)
    assert sum(p.numel() for p in model.parameters()) == 44_426
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "run"), "--data", data, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20


def test_the_lab_s_film_is_what_the_networks_were(tmp_path, monkeypatch):
    """Oracle: hooks on the networks themselves, at the same moments."""
    from resnet_hub.lab import film as read
    from training import film

    classes = {"dark": noise_image(0, 130, (32, 32)), "light": noise_image(120, 250, (32, 32))}
    data = image_folders(tmp_path / "data", {"train": 40, "test": 4}, classes)
    seen, real = [], film.frame

    def watched(model, image):
        kept = {}
        hook = model.layer2.register_forward_hook(lambda module, inputs, out: kept.update(map=out[0, :4]))
        found = real(model, image)
        hook.remove()
        seen.append((kept["map"].numpy(), model.conv1.weight.detach().clone().numpy()))
        return found

    monkeypatch.setattr(film, "frame", watched)
    monkeypatch.setattr(film, "FEW", ("--held-out", "8", "--batch-size", "8"))
    given = ["--data", str(data), "--train-images", "24", "--epochs", "2", "--results", str(tmp_path)]
    assert film.main(given) == 0
    document = json.loads((tmp_path / "film.json").read_text(encoding="utf-8"))
    for n, network in enumerate(film.NETWORKS):
        for epoch in range(3):
            found, (maps, weights) = read.frame(document, network, epoch), seen[3 * n + epoch]
            for shown, own in zip(found.maps[1], maps, strict=True):
                assert np.corrcoef(shown.ravel(), own.ravel())[0, 1] > 0.999
            for shown, own in zip(found.filters, weights, strict=True):
                assert np.corrcoef(shown.ravel(), own.ravel())[0, 1] > 0.999
    assert document["image"] == "cat" and document["networks"]["plain20_cifar"]["train_images"] == 24


def test_networks_of_other_blocks_are_refused_before_anything_is_measured(tmp_path, capsys):
    from training import ablation

    given = ["resnet20_cifar10", "resnet18_tiny_imagenet", "--data", "/no/such/folder"]
    assert ablation.main([*given, "--results", str(tmp_path)]) == 2
    assert "give networks with the same blocks" in capsys.readouterr().err


def test_networks_of_one_name_are_refused_before_anything_is_measured(tmp_path, capsys):
    from training import ablation

    given = ["resnet20_cifar10", str(tmp_path / "resnet20_cifar10"), "--data", "/no/such/folder"]
    assert ablation.main([*given, "--results", str(tmp_path)]) == 2
    assert "two checkpoints are called resnet20_cifar10" in capsys.readouterr().err


def test_accuracy_without_a_block_is_counted_by_hand(tmp_path):
    from resnet_hub.lab.ablation import without
    from training import ablation

    model = from_pretrained("resnet20_cifar10")
    shown = {name: noise_image(0, 255, (32, 32)) for name in model.labels}
    data = image_folders(tmp_path / "data", {"test": 3}, shown)
    given = ["resnet20_cifar10", "--data", str(data), "--images", "30", "--results", str(tmp_path)]
    assert ablation.main(given) == 0
    found = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))["accuracies"]
    files = sorted((data / "test").glob("*/*.png"))
    pixels = torch.stack([model.preprocess.tensor(Image.open(file)) for file in files])
    for block, share in found["resnet20_cifar10"].items():
        with torch.no_grad(), without(model, block):
            right = model(pixels).argmax(1) == torch.arange(10).repeat_interleave(3)
        assert share == right.float().mean().item()
    assert "| layer3.2 |" in (tmp_path / "ablation.md").read_text(encoding="utf-8")
