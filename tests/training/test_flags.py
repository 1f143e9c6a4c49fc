"""The promises of flags: each does what its help says or is refused with what it needs, and help shows what a
recipe is. Oracles: torchvision's stochastic depth, a registered network, and updates one by one."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import image_folders, noise_image, noise_set
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from resnet_hub import create_model, device, from_pretrained
from resnet_hub.errors import Refusal
from resnet_hub.geometry.__main__ import main as geometry
from resnet_hub.models.base import Network
from resnet_hub.models.flags import own_design
from resnet_hub.models.registry import model_config
from resnet_hub.preprocess import Preprocess, load_image
from training import cifar, evaluate, features, transfer
from training import data as data_module
from training.augment import Feed, Views
from training.cifar import parse_arguments
from training.command import load_images_to_train, new_trainer, sized
from training.data import FolderSet, PhotoSet, find_data, find_images, in_memory, whole_image
from training.optim import Muon, drop_paths, layer_shares, orthogonalise
from training.plots import curves
from training.recipes import RECIPES, Recipe, as_flags, recipe_from
from training.transfer import chosen_rates, keeps_head, with_new_head

CPU = torch.device("cpu")
QUICK = ["--epochs", "1", "--batch-size", "8", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    return image_folders(tmp_path_factory.mktemp("photos"), {"train": 20, "test": 6}, classes)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A ResNet-20 that knows dark and bright, in this order, and grey."""
    torch.manual_seed(3)
    model = create_model("resnet20_cifar", num_classes=3)
    model.labels = ("dark", "bright", "grey")
    directory = tmp_path_factory.mktemp("start")
    model.save_pretrained(directory)
    return directory


def given(*words: str):
    return parse_arguments(["resnet20_cifar", "--data", "d", "--out", "o", *words])


# Flags without effect


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--recipe plain --muon-lr 0.1", "--muon-lr 0.1 has no effect here: it needs --optimizer muon"),
        (
            "--recipe plain --muon-momentum 0.8",
            "--muon-momentum 0.8 has no effect here: it needs --optimizer",
        ),
        ("--recipe plain --low-res 16", "--low-res 16 has no effect here: it needs --low-res-until"),
        ("--recipe plain --low-res-until 0.5", "--low-res-until 0.5 has no effect here: it needs --low-res"),
        (
            "--augment flip --crop-padding 2",
            "--crop-padding 2 has no effect here: it needs crop in --augment",
        ),
        ("--recipe paper --ema-warmup", "--ema-warmup has no effect here: it needs --ema or --keep ema"),
        (
            "--recipe plain --low-res 16 --low-res-until 0.01",
            "--low-res 16 has no effect here: it needs more than half an epoch",
        ),
        ("--recipe short --low-res 16 --epochs 1", "--low-res 16 has no effect here: it needs more than"),
        ("--keep last --metric loss", "--metric loss has no effect here: it needs --keep best or --patience"),
        ("--keep ema --metric loss", "--metric loss has no effect here: it needs --keep best or --patience"),
        ("--lr 0", "nothing is learned at --lr 0"),
    ],
)
def test_a_flag_without_effect_is_refused_with_what_it_needs(words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe_from(given(*words.split()))


def test_switching_off_what_is_off_is_no_error():
    recipe_from(
        given(
            *["--recipe", "plain", "--low-res", "0", "--muon-lr", "0", "--no-ema-warmup", "--augment", "none"]
        )
    )
    recipe_from(given("--keep", "last", "--metric", "auto"))
    recipe_from(given("--keep", "last", "--metric", "loss", "--patience", "3"))


@pytest.mark.parametrize(
    "words",
    [
        "--augment flip", "--mixup 0.2", "--cutmix 1", "--drop-path 0.1", "--layer-decay 0.8",
        "--hard-share 0.5", "--bias-lr 0.1", "--optimizer muon --muon-lr 0.1", "--outliers .",
        "--sync-batch-norm",
    ],
)  # fmt: skip
def test_mode_feature_refuses_what_works_on_images_or_layers(words, photos, start, tmp_path, capsys):
    flags = ["--weights", str(start), "--data", str(photos), "--out", str(tmp_path / "run")]
    assert transfer.main([*flags, "--mode", "feature", *QUICK, *words.split()]) == 2
    *_, refused = re.findall("--[a-z-]+", words)
    assert f"{refused} " in (said := capsys.readouterr().err) and "--mode partial" in said


def test_batch_norms_are_not_synchronised_in_one_process():
    options = given("--sync-batch-norm")
    for kind, why in (("cuda", "has no effect in one process"), ("cpu", "works on GPUs only")):
        with pytest.raises(ValueError, match=why):
            new_trainer(nn.Identity(), RECIPES["plain"], None, None, options, torch.device(kind), identity={})


def test_a_rate_of_batch_norms_of_which_none_learns_is_refused(photos, start, tmp_path, capsys):
    flags = ["--weights", str(start), "--data", str(photos), "--out", str(tmp_path / "run"), *QUICK]
    assert (
        transfer.main([*flags, "--rate", "conv1=1", "--rate", "fc=1", "--rate", "=0", "--bias-lr", "1"]) == 2
    )
    assert "--bias-lr 1.0 has no effect here: it acts on batch norms that learn" in capsys.readouterr().err


@pytest.mark.parametrize(("side", "border"), [(8, 1), (16, 1), (32, 1), (64, 2)])
def test_a_border_that_is_asked_for_has_at_least_one_pixel(side, border):
    recipe = Recipe(epochs=1, augment=("crop",), crop_padding=1)
    assert Views(4, recipe, (side, side), 0, 0).pad == border
    assert Views(4, replace(recipe, crop_padding=0), (side, side), 0, 0).pad == 0


def rates(*words: str, decay: float = 1.0, images: int = 100):
    options = transfer.parse_arguments(["--weights", "w", "--data", "d", "--out", "o", *words])
    return chosen_rates(options, create_model("resnet20_cifar"), images, decay)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("lenet5 --bias-lr 0.1", "--bias-lr 0.1 has no effect here: it acts on batch norms"),
        (
            "resnet20_cifar --low-res 32 --low-res-until 1",
            "--low-res 32 has no effect here: it needs a size below the 32 pixels",
        ),
        (
            "lenet5 --low-res 16 --low-res-until 1",
            "--low-res 16 has no effect here: it needs a network of any",
        ),
        ("lenet5 --keep best --held-out 0", "--keep best looks at held-out images"),
    ],
)
def test_what_has_no_effect_on_this_network_or_these_images_is_refused(words, why, photos, tmp_path, capsys):
    model, *flags = words.split()
    run = ["--recipe", "plain", "--data", str(photos), "--out", str(tmp_path / "run"), *QUICK]
    assert cifar.main([model, *run, *flags]) == 2
    assert why in capsys.readouterr().err


def test_a_recipe_s_small_images_are_left_out_where_all_are_as_small():
    small = create_model("resnet20_cifar", input_size=16)
    assert sized(RECIPES["fast"], small, given()).low_res == 0
    assert sized(RECIPES["fast"], create_model("resnet20_cifar"), given()) == RECIPES["fast"]
    assert sized(RECIPES["fast"], small, given("--input", "32")) == RECIPES["fast"]


def test_features_for_a_head_are_computed_by_the_engine_in_the_precision_that_are_asked_for(
    photos, start, tmp_path, monkeypatch
):
    made, heads, engine_of = [], [], transfer.feature_engine

    def noted(*how):
        made.append(str(engine := engine_of(*how)))
        return engine

    monkeypatch.setattr(transfer, "feature_engine", noted)
    words = ["--weights", str(start), "--data", str(photos), "--mode", "feature", *QUICK]
    for i, asked in enumerate((["--engine", "eager"], ["--engine", "fused"], ["--precision", "bf16"])):
        assert transfer.main([*words, *asked, "--out", str(tmp_path / str(i))]) == 0
        heads.append(from_pretrained(tmp_path / str(i)).fc.weight)
    assert list(dict.fromkeys(made)) == ["eager fp32", "fused fp32", "eager bf16"]
    torch.testing.assert_close(*heads[:2], rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "2" / "run.json").read_text())["precision"] == "bfloat16"


def test_a_layer_decay_below_1_is_the_whole_profile_of_mode_full():
    assert rates("--mode", "full", decay=0.8) == ("full", (("", 1.0),))
    assert rates("--mode", "full", "--layer-decay", "1") == rates("--mode", "full")
    with pytest.raises(ValueError, match="--far and --layer-decay both say"):
        rates("--mode", "full", "--far", decay=0.8)
    with pytest.raises(ValueError, match="--far and --layer-decay both say"):
        rates("--far", decay=0.8, images=20_000)  # full by itself
    for mode in ((), ("--mode", "auto")):
        with pytest.raises(ValueError, match="--far and --layer-decay both say"):
            rates("--far", *mode, decay=0.8, images=2_000)


def test_an_engine_where_no_features_are_computed_is_refused(photos, start, tmp_path, capsys):
    flags = ["--weights", str(start), "--data", str(photos), "--out", str(tmp_path / "run"), *QUICK]
    assert transfer.main([*flags, "--mode", "full", "--engine", "fused"]) == 2
    assert "--engine fused has no effect here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("resnet20_cifar10 --half", "--half says how --write stores the weights"),
        ("resnet20_cifar10 --write --tta --json", "--tta, --json has no effect beside --write"),
        ("photo.onnx --csv all.csv", "--csv has no effect on an ONNX file"),
        ("photo.onnx --device cuda", "--device cuda has no effect on an ONNX file, which runs on the CPU"),
    ],
)
def test_evaluate_refuses_what_it_would_not_do(words, message, capsys):
    assert evaluate.main([*words.split(), "--data", "no/such/folder"]) == 2
    assert message in capsys.readouterr().err


def test_rate_and_mode_together_are_refused(photos, start, tmp_path, capsys):
    flags = ["--weights", str(start), "--data", str(photos), "--out", str(tmp_path / "run"), *QUICK]
    assert transfer.main([*flags, "--mode", "full", "--rate", "=1"]) == 2
    assert "--rate and --mode full both say what learns" in capsys.readouterr().err


def test_a_folder_named_cifar10_comes_first_and_that_is_said(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "cifar10").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    assert find_data("cifar10", "train", whole_image((32, 32))).classes == ("bright", "dark")
    said = capsys.readouterr()
    assert "is the folder" in said.err and not said.out  # where --json prints its document


# Help


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_flags_that_help_shows_for_it(name, monkeypatch):
    recipe = RECIPES[name]
    shown = re.sub(r"--outliers-except \(.*?\)", "", as_flags(recipe))
    blank = replace(Recipe(epochs=1), outliers_except=recipe.outliers_except)
    monkeypatch.setitem(RECIPES, "fast", blank)
    made = vars(recipe_from(given(*shown.split())))
    for field, value in vars(recipe).items():
        expected = pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
        assert field == "expects" or made[field] == expected


# Networks of one's own


def test_set_makes_the_registered_network_of_the_same_structure():
    ours = own_design(model_config("resnet8_cifar"), [("widths", (96, 320, 384))])
    assert replace(ours, name="resnet8_wide_cifar") == model_config("resnet8_wide_cifar")
    assert ours.name == "resnet8_cifar_own"


def test_set_to_what_is_there_already_is_the_network_itself():
    config = model_config("resnet18")
    assert own_design(config, [("widths", (64, 128, 256, 512)), ("stem_width", 64)]) is config


def test_set_of_what_no_layer_reads_is_refused():
    with pytest.raises(Refusal, match="--set base_width=128 changes nothing in resnet18"):
        own_design(model_config("resnet18"), [("base_width", 128)])
    assert own_design(model_config("resnet50"), [("base_width", 128)]).base_width == 128


def test_set_reaches_the_commands(photos, tmp_path):
    assert geometry(["resnet8_cifar", "--set", "widths=8,16,16", "--set", "stem_width=8", "--json"]) == 0
    run = tmp_path / "run"
    words = ["resnet20_cifar", "--recipe", "plain", "--data", str(photos), "--out", str(run), *QUICK]
    assert cifar.main([*words, "--set", "widths=4,8,8", "--set", "stem_width=4"]) == 0
    model = from_pretrained(run)
    assert model.config.widths == (4, 8, 8) and model.layer3[2].conv2.weight.shape == (8, 8, 3, 3)
    assert "(a design of its own)" in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("breadth=3", "resnet8_cifar has base_width, block"),
        ("widths=1,2", "has 2 entries"),
        ("widths=x", "widths"),
        ("stride_in=1x1", "stride_in=1x1 changes nothing in resnet8_cifar"),
    ],
)
def test_set_refuses_what_is_no_structure(words, message, capsys):
    assert geometry(["resnet8_cifar", "--set", words]) == 2
    assert message in capsys.readouterr().err


# Heads


def test_a_head_is_kept_where_it_knows_every_class(start):
    pretrained = from_pretrained(start)
    assert keeps_head(None, pretrained, ("bright", "dark"))
    assert not keeps_head(None, pretrained, ("dark", "red"))
    assert not keeps_head(False, pretrained, ("bright", "dark"))
    with pytest.raises(ValueError, match="does not know red"):
        keeps_head(True, pretrained, ("dark", "red"))
    made = with_new_head(pretrained, ("bright", "dark"), {}, keep=True)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(made.eval()(x), pretrained(x)[:, [1, 0]])


# Depth, layers, Muon


def test_dropped_paths_are_torchvisions_stochastic_depth_on_the_branch():
    from torchvision.ops import StochasticDepth

    net = create_model("resnet20_cifar").eval()
    block, x = net.layer2[1], torch.randn(16, 32, 8, 8).relu()
    with torch.no_grad():
        branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
        drop_paths(net, 0.9)
        torch.testing.assert_close(block(x), (branch + x).relu())  # nothing is dropped in eval mode
        block.bn2.training = True
        norm = (block.bn2.weight, block.bn2.bias, True)
        batch = nn.functional.batch_norm(block.conv2(block.bn1(block.conv1(x)).relu()), None, None, *norm)
        torch.manual_seed(7)
        seen = block(x)
        torch.manual_seed(7)
        expected = (StochasticDepth(0.9 * 5 / 9, "row")(batch) + x).relu()  # the fifth of nine blocks
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet50", 16), ("wrn16_4_cifar", 6), ("resnet8_cifar", 3), ("resnet110_cifar", 54)],
)
def test_every_kind_of_block_can_be_dropped(name, blocks):
    net = create_model(name)
    drop_paths(net, 0.5)
    assert sum(bool(m._forward_hooks) for m in net.modules()) == blocks


@pytest.mark.parametrize("name", ["plain20_cifar", "vgg_cifar"])
def test_networks_without_branches_have_none_to_drop(name):
    with pytest.raises(ValueError, match="has none"):
        drop_paths(create_model(name), 0.5)


def test_layer_decay_lowers_the_rate_block_by_block():
    names = [name for name, _ in create_model("resnet20_cifar").named_parameters()]
    shares = layer_shares(names, 0.5)
    assert shares["fc.weight"] == shares["fc.bias"] == 1
    assert shares["layer3.2.bn2.bias"] == shares["layer3.2.conv1.weight"] == 0.5
    assert shares["layer1.0.conv1.weight"] == 0.5**9 and shares["conv1.weight"] == 0.5**11


def test_muon_turns_banks_of_one_shape_together_as_one_by_one():
    weights, gradients = torch.randn(2, 5, 8, 4, 3, 3)
    together, alone = ([nn.Parameter(w.clone()) for w in weights] for _ in range(2))
    for several in (together, alone):
        for parameter, gradient in zip(several, gradients, strict=True):
            parameter.grad = gradient.clone()
    Muon(together, lr=0.1).step()
    for parameter in alone:
        Muon([parameter], lr=0.1).step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_three_steps_bring_equal_singular_values_near_1():
    u, _, vt = torch.linalg.svd(torch.randn(16, 40), full_matrices=False)
    values = torch.linalg.svdvals(orthogonalise(7 * u @ vt))
    assert values.min() > 0.6 and values.max() < 1.3


# Curves


def test_curves_mark_whole_epochs():
    line = {"train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.1, "val_acc": 0.4}
    figure = curves([line | {"epoch": epoch} for epoch in (1, 2, 3)])
    figure.draw_without_rendering()
    assert all(tick == int(tick) for axes in figure.axes for tick in axes.get_xticks())


# Photos as they are


@pytest.fixture
def wide_photos(tmp_path) -> Path:
    """Photos three times as wide as high, blue in the middle and red at both ends."""
    for i in range(6):
        pixels = np.zeros((40, 120, 3), np.uint8)
        pixels[:, :, 2], pixels[:, :40, 0], pixels[:, 80:, 0] = 200, 250, 250
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("most", [1 << 30, 100])
def test_random_crops_see_the_ends_of_long_photos(wide_photos, most, monkeypatch):
    """From memory and, where that is too small, from the files; the middle alone shows no red."""
    monkeypatch.setattr("training.data.IN_MEMORY_BYTES", most)
    found = replace(find_images(wide_photos, whole_image((16, 16))), workers=0)
    view = Preprocess(input_size=(3, 16, 16), crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    recipe = Recipe(epochs=1, augment=("resized_crop", "flip"))
    red = {}
    for whole in (False, True):
        feed = Feed(in_memory(replace(found, whole=whole)), view, recipe, 0, CPU)
        shown = [next(feed.batches(epoch, [(0, torch.arange(6))], 16))[0] for epoch in range(8)]
        assert all(x.shape == (6, 3, 16, 16) for x in shown)
        red[whole] = torch.cat(shown)[:, 0].amax((1, 2)) > 0.5
    assert not red[False].any() and red[True].float().mean() > 0.5


def test_whole_photos_are_counted_by_the_size_they_are_kept_at(wide_photos):
    """Their short side is 1.5 times the network's long one."""
    data = replace(find_images(wide_photos, whole_image((8, 128))), whole=True, workers=0)
    held = in_memory(replace(data, view=whole_image((8, 24))))
    assert held.photos[0].shape == (3, 36, 108)  # 1.5 times 24 high
    assert data.bytes_of_each(are_whole=True) == 3 * 192 * 288
    assert data.bytes_of_each(are_whole=False) == 3 * 8 * 128


def test_long_photos_that_take_more_memory_than_estimated_are_streamed(wide_photos, monkeypatch):
    """The estimate is by the sizes of some, here of one that is small."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(wide_photos / "a" / "-.png")
    data = replace(find_images(wide_photos, whole_image((16, 16))), whole=True, workers=0)
    taken = 3 * (6 * 24 * 72 + 8 * 8)
    monkeypatch.setattr(data_module, "SAMPLED", 1)
    assert len(data) * data_module._whole_bytes(data) == 7 * 3 * 8 * 8
    for most, kind in ((taken, PhotoSet), (taken - 1, FolderSet)):
        monkeypatch.setattr(data_module, "IN_MEMORY_BYTES", most)
        assert isinstance(in_memory(data), kind)


def test_small_photos_are_counted_as_they_are_not_enlarged(wide_photos, monkeypatch):
    data = replace(find_images(wide_photos, whole_image((64, 64))), whole=True, workers=0)
    monkeypatch.setattr(data_module, "IN_MEMORY_BYTES", 6 * 3 * 40 * 120)
    assert len(data) * data.bytes_of_each(are_whole=True) > data_module.IN_MEMORY_BYTES
    assert isinstance(in_memory(data), PhotoSet)


@pytest.mark.parametrize("most", [1 << 30, 100])
def test_training_from_scratch_cuts_whole_photos_too(wide_photos, tmp_path_factory, monkeypatch, most):
    """And measures its normalisation on crops of them: the red ends are in it."""
    monkeypatch.setattr("training.data.IN_MEMORY_BYTES", most)
    run = tmp_path_factory.mktemp("beside") / "run"
    words = ["resnet8_cifar", "--data", str(wide_photos), "--out", str(run), "--epochs", "1", "--input", "16"]
    words += ["--batch-size", "2", "--workers", "0", "--held-out", "0", "--device", "cpu"]
    reds = {}
    for augment in ("flip", "resized_crop,flip"):
        options = parse_arguments([*words, "--augment", augment])
        view = whole_image((16, 16))
        train, _, _ = load_images_to_train(options, recipe_from(options), view)
        reds[augment] = cifar.build_model(options, train).preprocess.mean[0]
        assert train.whole == (augment != "flip")
    assert reds["resized_crop,flip"] > reds["flip"] + 0.1
    assert cifar.main([*words, "--augment", "resized_crop,flip", "--whiten"]) == 0


def test_outliers_are_read_whole_where_the_training_images_are(wide_photos, tmp_path_factory):
    """Random crops of what the network sees of them would be less sharp, and told apart by that."""
    others = image_folders(tmp_path_factory.mktemp("others"), {"x": 3}, {"y": noise_image(0, 256, (40, 60))})
    words = ["resnet8_cifar", "--data", str(wide_photos), "--out", "run", "--input", "16", "--workers", "0"]
    words += ["--held-out", "0", "--outliers", str(others)]

    def read(*more: str):
        options = parse_arguments([*words, *more])
        return load_images_to_train(options, recipe_from(options), whole_image((16, 16)))

    for augment, are_whole in (("flip", False), ("resized_crop,flip", True)):
        train, _, outliers = read("--augment", augment)
        assert train.whole == outliers.whole == are_whole
    with pytest.raises(Refusal, match="is read whole, for random crops; give --outlier-jpeg 0"):
        read("--augment", "resized_crop", "--outlier-jpeg", "75")


def test_a_crop_of_a_whole_photo_does_not_depend_on_its_batch(wide_photos):
    data = in_memory(replace(find_images(wide_photos, whole_image((16, 16))), whole=True, workers=0))
    feed = Feed(data, data.view, Recipe(epochs=1, augment=("resized_crop", "jitter")), 3, CPU)
    index = torch.tensor([4, 1])
    (everything, *_), (some, *_) = (next(feed.batches(1, [(0, i)], 16)) for i in (torch.arange(6), index))
    assert torch.equal(some, everything[index])
    assert data.photos[0].shape == (3, 24, 72)  # 1.5 times 16 high


def test_workers_cut_the_crops_of_whole_photos_and_cut_the_same_ones(wide_photos, monkeypatch):
    """Streamed by a worker, in its own process, and in memory; a broken photo is left out of the batch."""
    (next(wide_photos.rglob("*.png")).parent / "zz.png").write_bytes(b"no image")
    found = replace(find_images(wide_photos, whole_image((16, 16))), whole=True)
    held = in_memory(replace(found, workers=0))
    kept = torch.tensor([i for i, file in enumerate(found.files) if file.name != "zz.png"])
    seeds = [[10 + i for i in range(len(found))]]
    for workers in (0, 1):
        ((crops, index),) = replace(found, workers=workers).fetch([torch.arange(len(found))], seeds)
        assert index.tolist() == kept.tolist() and len(index) == len(found) - 1
        ((expected, _),) = held.fetch([torch.arange(len(held))], [(kept + 10).tolist()])
        assert crops.shape == (len(held), 3, 16, 16) and torch.equal(crops, expected)
    torch.manual_seed(10)
    theirs = v2.RandomResizedCrop((16, 16), scale=(0.35, 1.0), antialias=True)(held.photos[0])
    assert torch.equal(crops[0], theirs)


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="workers are told by a patch")
@pytest.mark.parametrize(("workers", "readers"), [(2, 2), (0, 1)])
def test_the_same_workers_read_every_epoch(wide_photos, tmp_path, monkeypatch, workers, readers):
    """Also after an epoch that was left half-way; a batch of another size may start others."""

    def noted(file, *how, **more):
        with (tmp_path / "readers").open("a") as notes:
            notes.write(f"{os.getpid()}\n")
        return read(file, *how, **more)

    read = data_module._read
    monkeypatch.setattr(data_module, "_read", noted)
    found = replace(find_images(wide_photos, whole_image((16, 16))), whole=True, workers=workers)
    feed = Feed(found, found.view, Recipe(epochs=3, augment=("resized_crop",)), 0, CPU)
    alone = Feed(in_memory(replace(found, workers=0)), found.view, feed.recipe, 0, CPU)
    (tmp_path / "readers").unlink()
    numbered = [(i, index) for i, index in enumerate(torch.arange(6).split(2))]
    next(feed.batches(0, numbered, 16))
    for epoch in range(3):
        pairs = zip(feed.batches(epoch, numbered, 16), alone.batches(epoch, numbered, 16), strict=True)
        assert all(torch.equal(x, y) for (x, *_), (y, *_) in pairs)
    seen = set((tmp_path / "readers").read_text().split())
    assert len(seen) == readers and (str(os.getpid()) in seen) == (not workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_two_epochs_read_at_once_do_not_mix(wide_photos, workers):
    found = replace(find_images(wide_photos, whole_image((16, 16))), workers=workers)
    feed = Feed(found, found.view, Recipe(epochs=3, augment=()), 0, CPU)
    orders = [torch.arange(6).split(2), torch.arange(5, -1, -1).split(2)]
    both = zip(*(feed.batches(i, list(enumerate(order)), 16) for i, order in enumerate(orders)), strict=True)
    for batches, places in zip(both, zip(*orders, strict=True), strict=True):
        assert all(
            torch.equal(batch[2], found.labels[index]) for batch, index in zip(batches, places, strict=True)
        )


def test_readers_end_with_the_training(wide_photos, tmp_path, monkeypatch):
    """What measures and writes afterwards has readers of its own."""
    monkeypatch.setattr("training.data.IN_MEMORY_BYTES", 100)
    standing: list[int] = []
    finish = cifar.finish_run

    def noted(*anything):
        standing.append(len(multiprocessing.active_children()))
        return finish(*anything)

    monkeypatch.setattr(cifar, "finish_run", noted)
    words = ["resnet8_cifar", "--data", str(wide_photos), "--out", str(tmp_path.parent / "run-readers")]
    words += ["--epochs", "2", "--input", "16", "--batch-size", "2", "--workers", "1", "--held-out", "0"]
    assert cifar.main([*words, "--device", "cpu"]) == 0 and standing == [0]


@pytest.mark.parametrize(
    ("name", "size", "decoded"),
    [
        ("photo.jpg", (1600, 1200), (200, 150)),  # an eighth still has twice 1.5 times 32 pixels
        ("tall.jpg", (300, 800), (150, 400)),
        ("small.jpg", (150, 190), (150, 190)),
        ("photo.png", (1600, 1200), (1600, 1200)),
    ],
)
def test_a_large_jpeg_is_decoded_smaller_for_random_crops_alone(tmp_path, monkeypatch, name, size, decoded):
    ramp = np.linspace(0, 255, size[0], dtype=np.float32)[None, :, None] * np.ones((size[1], 1, 3))
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / name)
    seen, whole = [], data_module._whole
    monkeypatch.setattr(
        data_module, "_whole", lambda image, view: (seen.append(image.size), whole(image, view))[1]
    )
    view = whole_image((32, 32))
    shown = data_module._read(tmp_path / name, view, whole=True)
    assert seen == [decoded]
    full = np.asarray(whole(Image.open(tmp_path / name), view))
    assert shown.shape == full.shape and np.abs(shown.astype(int) - full).max() <= 4
    assert load_image(tmp_path / name).size == size


# Features on the disk


def counted(model: Network, asked: list[int]):
    def compute(data, device):
        asked.append(len(data))
        return transfer.read_features(model, data, device)[0]

    return compute


def test_features_are_computed_once_for_every_image_and_network(start, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model, asked = from_pretrained(start), []
    data = noise_set(10, 32, classes=3)
    first, _, seconds = features.stored_features(model, data, CPU, counted(model, asked))
    torch.testing.assert_close(first, transfer.read_features(model, data, CPU)[0])
    two = data.subset(torch.tensor([7, 2]))
    again, _, same = features.stored_features(model, two, CPU, counted(model, asked))
    assert torch.equal(again, first[[7, 2]]) and asked == [10] and 0 < same < seconds
    other = replace(data, images=torch.cat([data.images[:9], 255 - data.images[9:]]))
    features.stored_features(model, other, CPU, counted(model, asked))
    assert asked == [10, 1]  # the one image that changed
    with torch.no_grad():
        model.conv1.weight.mul_(2)
    features.stored_features(model, data, CPU, counted(model, asked))
    features.stored_features(model, data, CPU, counted(model, asked), "eager None")
    assert asked == [10, 1, 10, 10]  # another network, another engine


@pytest.mark.parametrize("count", [7, 1])
def test_each_process_computes_a_part_of_the_features(start, tmp_path, monkeypatch, count):
    """Also where there are fewer images than processes; `summed` adds what is 0 on all others."""
    model, data, asked, parts = from_pretrained(start), noise_set(count, 32), [], []
    monkeypatch.setattr(features, "world_size", lambda: 2)
    monkeypatch.setattr(features, "summed", lambda value: value)
    for place in range(2):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / str(place)))
        monkeypatch.setattr(features, "place", lambda place=place: place)
        parts.append(features.stored_features(model, data, CPU, counted(model, asked))[0])
    whole, _ = transfer.read_features(model, data, CPU)
    for place, part in enumerate(parts):
        mine = torch.arange(count) % 2 == place
        torch.testing.assert_close(part[mine], whole[mine], rtol=1e-4, atol=1e-5)
        assert not part[~mine].any()
    assert max(asked) == (count + 1) // 2


def test_features_of_other_kernels_are_not_taken(start, tmp_path, monkeypatch, usual_kernels):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model, asked, data = from_pretrained(start), [], noise_set(5, 32, classes=3)
    for deterministic in (False, True, False):
        torch.use_deterministic_algorithms(deterministic)
        features.stored_features(model, data, CPU, counted(model, asked))
    assert asked == [5, 5]


def test_features_are_used_where_they_cannot_be_stored(start, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file" / "torch"))
    model, asked, data = from_pretrained(start), [], noise_set(5, 32, classes=3)
    found, *_ = features.stored_features(model, data, CPU, counted(model, asked))
    assert len(found) == 5 == sum(asked)


def test_a_damaged_store_of_features_is_made_anew(start, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model, asked = from_pretrained(start), []
    data = noise_set(5, 32, classes=3)
    for _ in range(2):
        features.stored_features(model, data, CPU, counted(model, asked))
        (file,) = features.folder().iterdir()
        file.write_bytes(file.read_bytes()[:100])
    assert asked == [5, 5]


def test_features_are_the_same_under_every_head(start):
    pretrained = from_pretrained(start)
    one = with_new_head(pretrained, ("a", "b"), {})
    other = with_new_head(pretrained, ("a", "b", "c"), {"drop_rate": 0.5})
    larger = with_new_head(pretrained, ("a", "b"), {"input_size": (48, 48)})
    keys = [features.network_key(model, CPU, "auto") for model in (one, other, larger)]
    assert keys[0] == keys[1] != keys[2]


def test_of_many_stores_of_features_those_used_last_are_kept(start, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model, asked, data = from_pretrained(start), [], noise_set(5, 32, classes=3)

    def ask(engine: str) -> list[int]:
        asked.clear()
        features.stored_features(model, data, CPU, counted(model, asked), engine)
        return asked

    ask("first")
    (one,) = features.folder().iterdir()
    monkeypatch.setattr(features, "MOST_IN_ALL", int(2.5 * one.stat().st_size))
    for engine in ("second", "first", "third"):
        ask(engine)
    assert len([*features.folder().iterdir()]) == 2
    assert ask("first") == ask("third") == [] and ask("second") == [5]


# Precision


@pytest.mark.parametrize(
    ("capability", "name"), [((6, 1), "fp32"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_precision_follows_what_a_gpu_has_units_for(capability, name):
    assert device._has_units_for(capability) == name
