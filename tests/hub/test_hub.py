"""Checkpoints: what is saved comes back, here and in timm, and an unusable one is refused with where and why.

Oracles: safetensors and timm.
"""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from helpers.checkpoints import Bomb, images, lively, logits, photo, refusal, tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from resnet_hub import create_model, from_pretrained, list_models, model_config
from resnet_hub.errors import Refusal
from resnet_hub.hub.bounds import VISITORS
from resnet_hub.hub.fetch import SHIPPED, CheckpointError, fetch_checkpoint
from resnet_hub.hub.load import disambiguate, load_checkpoint, read_preprocess
from resnet_hub.interop.onnx import input_shape
from resnet_hub.models.base import default_preprocess
from resnet_hub.models.build import network_class
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import Preprocess


@pytest.fixture
def saved(tmp_path) -> Path:
    tiny().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def edit_weights(directory: Path, change) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def edit_config(directory: Path, change) -> None:
    file = directory / "config.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


# What is saved comes back


@pytest.mark.parametrize("name", list_models())
def test_every_network_comes_back_bit_equal(name):
    model = lively(create_model(name))
    with TemporaryDirectory() as folder:  # pytest would keep its own, and these hold up to 554 MB
        model.save_pretrained(folder)
        back = from_pretrained(folder)
        assert type(back) is type(model) and back.config == model.config
        x = images(model, count=1)
        assert torch.equal(logits(back, x), logits(model, x))


def test_batch_norm_counts_come_back(saved):
    assert from_pretrained(saved).bn1.num_batches_tracked.item() == 7


def test_labels_preprocessing_and_calibration_come_back(tmp_path):
    model = tiny(num_classes=3)
    model.labels = ("tabby, tabby cat", "ねこ", 'a "quoted" one')
    model.preprocess = Preprocess(
        input_size=(3, 32, 32),
        interpolation="bilinear",
        crop_pct=0.9,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
    )
    model.calibration = Calibration(1.25, 2.5, 0.05, (("ants and bees", 244, 0.4),))
    model.save_pretrained(tmp_path)
    back = from_pretrained(tmp_path)
    assert (back.labels, back.preprocess, back.calibration) == (
        model.labels, model.preprocess, model.calibration
    )  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [{"num_classes": 0}, {"in_chans": 1}, {"in_chans": 4}, {"stem": "deep"}, {"shortcut": "none"}],
)
def test_overridden_networks_come_back(overrides, tmp_path):
    model = tiny(**overrides)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(from_pretrained(tmp_path), images(model)), logits(model, images(model)))


def test_weights_file_holds_bare_torchvision_keys_and_says_format_pt(tmp_path):
    from torchvision.models import resnet18

    create_model("resnet18").save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(resnet18().state_dict())


def test_a_checkpoint_directory_holds_three_files(saved):
    assert sorted(file.name for file in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_loaded_network_is_in_eval_mode_and_as_trainable_as_a_fresh_one(saved):
    model, fresh = from_pretrained(saved), create_model("resnet20_cifar")
    assert not any(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in fresh.parameters()]
    model.train()(images(model)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_loading_draws_no_random_numbers(saved):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    from_pretrained(saved)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_two_bytes_load_as_float32(saved, dtype):
    """All of them, as other programs write: the smallest file that holds every parameter."""
    before = load_file(saved / "model.safetensors")
    narrow = {k: v.to(dtype) if v.is_floating_point() else v for k, v in before.items()}
    edit_weights(saved, lambda tensors: tensors.update(narrow))
    for key, value in from_pretrained(saved).state_dict().items():
        assert value.dtype == before[key].dtype and torch.equal(value, narrow[key].to(value.dtype))


@pytest.mark.parametrize("name", ["resnet18", "wrn16_4_cifar", "lenet5", "vgg_cifar"])
def test_a_half_checkpoint_answers_as_the_rounded_network(name, tmp_path):
    model = lively(create_model(name))
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", half=True)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half() if p.dim() > 1 else p)
    back, x = from_pretrained(tmp_path / "half"), images(model)
    assert torch.equal(logits(back, x), logits(model, x))
    back.save_pretrained(tmp_path / "again")
    stored = {d: load_file(tmp_path / d / "model.safetensors") for d in ("whole", "half", "again")}
    for key, value in stored["half"].items():
        small = value.dim() < 2
        assert value.dtype == (stored["whole"][key].dtype if small else torch.float16)
        assert torch.equal(value, stored["whole"][key]) or not small
        assert stored["again"][key].dtype == stored["whole"][key].dtype
        assert torch.equal(stored["again"][key], value.to(stored["again"][key].dtype))
    configs = [(tmp_path / d / "config.json").read_text() for d in stored]
    assert configs[0] == configs[1] == configs[2]
    line = "Weights are stored as float16 and converted to float32 on loading.\n"
    assert [line in (tmp_path / d / "README.md").read_text() for d in stored] == [False, True, False]


def test_weights_beyond_float16_are_not_written_as_half(tmp_path):
    model = tiny()
    model.bn1.running_var.fill_(1e9)  # statistics stay float32
    model.save_pretrained(tmp_path / "fine", half=True)
    model.layer1[0].conv2.weight.data[0, 0, 0, 0] = -65520
    with pytest.raises(Refusal, match=r"^layer1.0.conv2.weight reaches 65520 and float16 65,504; save it.*$"):
        model.save_pretrained(tmp_path / "net", half=True)
    assert not (tmp_path / "net").exists()


def test_class_method_refuses_a_checkpoint_of_another_class(saved):
    with pytest.raises(CheckpointError, match="holds a ResNet, not a WideResNet"):
        network_class(model_config("wrn16_4_cifar")).from_pretrained(saved)


def test_local_checkpoint_reports_where_it_is_from(saved):
    model = from_pretrained(saved)
    assert (model.source, model.revision) == (str(saved), "local")


def test_fresh_network_has_no_revision():
    assert create_model("lenet5").revision is None


# timm reads what we write, and we read what timm writes


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("name", "overrides"), [("resnet18", {}), ("resnet50", {"num_classes": 7}), ("resnet18", {"in_chans": 4})]
)
def test_timm_loads_an_imagenet_stem_checkpoint(name, overrides, half, tmp_path):
    timm = pytest.importorskip("timm")
    model = lively(create_model(name, **overrides))
    model.save_pretrained(tmp_path, half=half)
    model = from_pretrained(tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = images(model)
    torch.testing.assert_close(logits(theirs, x), logits(model, x), rtol=1e-5, atol=1e-5)


def test_timm_takes_our_preprocessing(tmp_path):
    timm = pytest.importorskip("timm")
    model = create_model("resnet18", num_classes=2)
    model.preprocess = Preprocess(
        input_size=(3, 96, 96), crop_pct=0.9, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3)
    )
    model.save_pretrained(tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    image = photo(150, 120)
    assert torch.equal(transform(image), model.preprocess.tensor(image))


def test_config_root_is_timms(saved):
    values = json.loads((saved / "config.json").read_text())
    assert values["num_classes"] == values["pretrained_cfg"]["num_classes"] == 10
    assert len(values["label_names"]) == 10
    assert "num_classes" not in values.get("model_args", {})  # transformers' timm wrapper would fail on it


def test_network_that_timms_name_does_not_imply_is_not_saved_under_it(tmp_path):
    create_model("resnet18", num_classes=2, strides=(1, 1, 2, 2)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] != "resnet18"


def timm_directory(directory: Path, name: str = "resnet18", **options):
    timm = pytest.importorskip("timm")
    from timm.models import save_for_hf

    model = timm.create_model(name, zero_init_last=False, **options).eval()
    save_for_hf(model, str(directory), safe_serialization=True)
    return model


@pytest.mark.parametrize(
    "options", [{"num_classes": 5}, {"num_classes": 5, "in_chans": 1, "global_pool": "max"}]
)
def test_we_load_a_directory_timm_wrote(options, tmp_path):
    theirs = timm_directory(tmp_path, **options)
    ours = from_pretrained(tmp_path)
    x = images(ours)
    torch.testing.assert_close(logits(ours, x), logits(theirs, x), rtol=1e-5, atol=1e-5)


def test_we_take_timms_preprocessing(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm_directory(tmp_path, num_classes=5)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    image = photo(300, 260)
    assert torch.equal(from_pretrained(tmp_path).preprocess.tensor(image), transform(image))


def test_a_timm_network_with_other_strides_is_refused_not_loaded_wrong(tmp_path):
    timm_directory(tmp_path, num_classes=5, output_stride=8)  # the same weights, other strides
    assert "output_stride" in refusal(tmp_path)


def test_a_thousand_classes_without_names_get_imagenets(tmp_path):
    timm_directory(tmp_path)
    labels = from_pretrained(tmp_path).labels
    assert labels[207].startswith("golden retriever") and len(set(labels)) == 1000


def test_a_loaded_network_does_not_change_with_its_file(saved):
    model = from_pretrained(saved)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with (saved / "model.safetensors").open("r+b") as file:  # as cp does
        file.seek(20_000)
        file.write(bytes(100_000))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_timm_checkpoint_of_another_size_is_traced_and_exported_at_it(tmp_path):
    timm_directory(tmp_path, num_classes=5)
    edit_config(tmp_path, lambda values: values["pretrained_cfg"].update(input_size=[3, 160, 160]))
    model = from_pretrained(tmp_path)
    assert model.config.input_size == (160, 160) and input_shape(model) == (3, 160, 160)


def test_timms_label_names_by_class_are_read(saved):
    names = {str(i): f"thing {i}" for i in range(10)}
    edit_config(saved, lambda values: values.update(label_names=names))
    assert from_pretrained(saved).labels == tuple(names.values())


# Weights that do not fit


def test_missing_unexpected_and_misshapen_weights_are_all_named(saved):
    def change(tensors):
        tensors["fc.bais"] = tensors.pop("fc.bias")
        tensors["conv1.weight"] = tensors["conv1.weight"][:, :1].contiguous()

    edit_weights(saved, change)
    message = refusal(saved)
    assert message.startswith(f"{saved}: model.safetensors: ")
    for part in (
        "missing fc.bias",
        "unexpected fc.bais",
        "conv1.weight is (16, 1, 3, 3), expected (16, 3, 3, 3)",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: setattr(m, "fc", nn.Linear(64, 3)), r"fc\.bias is \(3,\), expected \(10,\).*fc\.weight"),
        (lambda m: setattr(m, "labels", ("a", "b")), "2 labels, 2 of them distinct, for 10 classes"),
        (lambda m: setattr(m, "labels", ("a",) * 10), "10 labels, 1 of them distinct"),
        (lambda m: m.double(), r"is torch\.float64.*call model\.float"),
        (
            lambda m: setattr(
                m, "preprocess", replace(m.preprocess, input_size=(1, 32, 32), mean=(0.5,), std=(1,))
            ),
            "does not have 3 channels",
        ),
        (lambda m: setattr(m, "calibration", Calibration(class_thresholds=(0.5,))), "1 thresholds for 10"),
        (lambda m: setattr(m, "calibration", Calibration(temperature=0.0)), "temperature"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, change, said):
    model = create_model("resnet20_cifar")
    change(model)
    with pytest.raises(ValueError, match=said):
        model.save_pretrained(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_calibration_that_transformers_kept_beside_other_weights_is_not_read(tmp_path):
    tiny_model = tiny()
    tiny_model.calibration = Calibration(2.0, 1.0)
    tiny_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert from_pretrained(tmp_path).calibration == Calibration(2.0, 1.0)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "timm_wrapper"}))
    weights = {f"timm_model.{key}": value for key, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert from_pretrained(tmp_path).calibration == Calibration()


def test_a_card_beside_a_shipped_checkpoint_s_name_loads_what_lies_there(tmp_path, monkeypatch):
    tiny().save_pretrained(tmp_path / "resnet20_cifar10")
    assert 'from_pretrained("./resnet20_cifar10")' in (tmp_path / "resnet20_cifar10/README.md").read_text()
    monkeypatch.chdir(tmp_path)
    assert from_pretrained("./resnet20_cifar10").config == tiny().config


def test_labels_that_make_a_configuration_too_large_to_load_are_refused(tmp_path):
    model = tiny()
    model.labels = tuple(str(i) + "x" * 600_000 for i in range(model.config.num_classes))
    with pytest.raises(Refusal, match=r"more than 5,242,880; shorten model\.labels"):
        model.save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("label", ["x" * 300, "a\x07b", 99])
def test_labels_that_would_come_back_as_others_are_refused(tmp_path, label):
    model = tiny()
    model.labels = (label, *model.labels[1:])
    with pytest.raises(Refusal, match="read back as it is; give printable text of at most 256"):
        model.save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.onnx"])
def test_a_file_in_a_checkpoint_s_place_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file, and a checkpoint is a directory") as error:
        from_pretrained(name)
    command = "`python -m resnet_hub.convert w.pth DIR --to resnet_hub --model NAME`"
    assert (command in str(error.value)) == (name == "w.pth")


def test_many_names_are_told_apart_at_once():
    names = [str(i) for i in range(100_000)] + ["crane", "crane"]
    assert disambiguate(names)[-3:] == ["99999", "crane (100000)", "crane (100001)"]


def test_a_new_head_is_saved_with_a_configuration_and_labels_that_fit(tmp_path):
    model = create_model("resnet20_cifar")
    model.fc, model.labels = nn.Linear(64, 3), ("a", "b", "c")
    model.config = replace(model.config, num_classes=3)
    model.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path).fc.weight, model.fc.weight)


def test_a_network_whose_maps_vanish_in_small_images_is_loaded(tmp_path):
    create_model("resnet8_cifar", strides=(8, 8, 2), input_size=128).save_pretrained(tmp_path)
    assert from_pretrained(tmp_path).config.strides == (8, 8, 2)


def test_a_card_saved_here_is_named_after_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create_model("resnet20_cifar").save_pretrained(".")
    assert f'from_pretrained("{tmp_path.name}")' in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nan_and_infinite_weights_are_refused(saved, poison):
    edit_weights(saved, lambda tensors: tensors["layer2.0.conv1.weight"].view(-1)[5:6].fill_(poison))
    assert refusal(saved) == f"{saved}: model.safetensors: layer2.0.conv1.weight holds NaN or infinity"


@pytest.mark.parametrize("dtype", [torch.long, torch.double, torch.int8, torch.float8_e4m3fn, torch.bool])
def test_weights_of_another_type_are_refused(saved, dtype):
    edit_weights(saved, lambda tensors: tensors.update({"bn1.running_mean": torch.zeros(16).to(dtype)}))
    assert f"bn1.running_mean is of type {dtype}; float32, float16 and bfloat16 are read" in refusal(saved)


def test_a_file_of_int8_is_refused_for_its_type_not_its_size(saved):
    edit_weights(saved, lambda tensors: tensors.update({k: v.to(torch.int8) for k, v in tensors.items()}))
    assert "is of type torch.int8" in refusal(saved)


def test_batch_norm_counts_are_whole_numbers(saved):
    edit_weights(saved, lambda tensors: tensors.update({"bn1.num_batches_tracked": torch.tensor(7.0)}))
    assert "bn1.num_batches_tracked is of type torch.float32" in refusal(saved)


@pytest.mark.parametrize(
    ("key", "value"), [("conv1.weight", 1e38), ("layer1.0.bn1.running_var", -1.0), ("fc.weight", 3e38)]
)
def test_weights_that_answer_nan_are_refused(saved, key, value):
    edit_weights(saved, lambda tensors: tensors[key].fill_(value))
    assert "model.safetensors: the network answers a grey image with NaN or infinity" in refusal(saved)


def test_a_std_that_no_float_divides_by_is_refused(saved):
    edit_config(saved, lambda values: values["pretrained_cfg"].update(std=[1e-320] * 3))
    assert "answers a grey image with NaN or infinity" in refusal(saved)


def padded_header(data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    more = 90_000_000
    return (length + more).to_bytes(8, "little") + data[8 : 8 + length] + b" " * more + data[8 + length :]


def test_a_long_header_is_not_parsed(saved):
    file = saved / "model.safetensors"
    file.write_bytes(padded_header(file.read_bytes()))
    started = time.perf_counter()
    assert "its header has 90," in refusal(saved)
    assert time.perf_counter() - started < 5


def test_many_tensors_are_counted_before_one_is_read(saved):
    empty = torch.zeros(0)
    edit_weights(saved, lambda tensors: tensors.update({f"{i}": empty.clone() for i in range(20_000)}))
    assert re.search(r"it holds 20,\d+ tensors, and the network has \d+$", refusal(saved))


@pytest.mark.parametrize("field", ["architecture", "detections", "label"])
def test_a_refusal_quotes_no_megabytes(saved, field):
    def change(values):
        if field == "architecture":
            del values["resnet_hub"]
            values["architecture"] = "x" * 4_000_000
        elif field == "detections":
            values["resnet_hub"]["calibration"]["detections"] = [["ants", 1, 0.5]] * 150_000
        else:
            values["resnet_hub"]["calibration"]["detections"] = [["x" * 4_000_000, 1, float("nan")]]

    edit_config(saved, change)
    assert len(refusal(saved)) < 25_000


def test_what_a_visitor_types_may_cost_less(saved):
    edit_config(saved, lambda values: values["pretrained_cfg"].update(input_size=[3, 1024, 1024]))
    from_pretrained(saved)
    with pytest.raises(CheckpointError, match="is the most that is loaded"):
        load_checkpoint(fetch_checkpoint(saved), VISITORS)
    edit_config(saved, lambda values: values["pretrained_cfg"].update(input_size=[3, 32, 32]))
    with pytest.raises(CheckpointError, match="one image takes"):
        load_checkpoint(fetch_checkpoint(saved), replace(VISITORS, seconds=0.0))


def cut(data: bytes) -> bytes:
    return data[:-1000]


def header_of_garbage(data: bytes) -> bytes:
    return data[:8] + b"\xff" * 40 + data[48:]


def header_too_long(data: bytes) -> bytes:
    return (2**62).to_bytes(8, "little") + data[8:]


@pytest.mark.parametrize("damage", [cut, header_of_garbage, header_too_long, lambda data: b""])
def test_damaged_weights_file_is_refused(saved, damage):
    file = saved / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert refusal(saved).startswith(f"{saved}: model.safetensors: ")


def test_pickled_weights_alone_are_refused_unopened(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert f"{saved}: model.safetensors is missing" in refusal(saved)
    assert not (tmp_path / "exploded").exists()


def test_pickle_called_model_safetensors_is_not_run(saved, tmp_path):
    (saved / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert refusal(saved).startswith(f"{saved}: model.safetensors: ")
    assert not (tmp_path / "exploded").exists()


# Configurations that do not make sense


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("not json", "Expecting value"),
        ("", "Expecting value"),
        ("[1, 2]", "list"),
        ("null", "NoneType"),
        ("[" * 100_000, "recursion"),
        ("{}", "architecture 'None' is not one of"),
        ('{"resnet_hub": {}}', "resnet_hub.config is not there"),
        ('{"resnet_hub": []}', "'list'"),
        ('{"architecture": "vit_base_patch16_224"}', "'vit_base_patch16_224' is not one of"),
        ('{"architecture": "resnet18", "pretrained_cfg": null}', "NoneType"),
    ],
)
def test_unusable_config_file_is_refused(saved, text, cause):
    (saved / "config.json").write_text(text)
    message = refusal(saved)
    assert message.startswith(f"{saved}: config.json: ") and cause in message


def test_config_that_is_not_utf8_is_refused(saved):
    (saved / "config.json").write_bytes(b'{"a": "\xff"}')
    assert refusal(saved).startswith(f"{saved}: config.json: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", -1),
        ("num_classes", 10**9),
        ("num_classes", "10"),
        ("num_classes", True),
        ("depths", [3, 3, 10**6]),
        ("depths", [3, 3]),
        ("widths", [16, 32, 1.5]),
        ("input_size", [32, 10**9]),
        ("stem", "../../etc/passwd"),
        ("drop_rate", float("nan")),
        ("name", "x" * 10_000),
        ("strides", {"a": 1}),
        ("surprise", 1),
    ],
)
def test_absurd_configuration_is_refused_with_the_field_named(saved, field, value):
    edit_config(saved, lambda values: values["resnet_hub"]["config"].update({field: value}))
    message = refusal(saved)
    assert message.startswith(f"{saved}: config.json: ")
    assert ("stages" if field == "depths" and value == [3, 3] else field) in message


def test_largest_allowed_configuration_costs_little_memory_to_refuse(saved):
    """400 blocks of 4,096 channels would be half a terabyte of weights; the file holds one megabyte."""
    huge = {"depths": [50] * 8, "widths": [4096] * 8, "strides": [1] * 8}
    edit_config(saved, lambda values: values["resnet_hub"]["config"].update(huge))
    script = (
        "import re, sys, resnet_hub\n"
        # This process's own: ru_maxrss begins with what the parent had.
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "resnet_hub.create_model('lenet5'); before = peak()\n"
        "try: resnet_hub.from_pretrained(sys.argv[1])\n"
        "except ValueError as error: print(peak() - before, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, saved], capture_output=True, text=True, timeout=300)
    kilobytes, message = ran.stdout.split(maxsplit=1)
    assert int(kilobytes) < 500_000 and message.startswith(f"{saved}: ")


@pytest.mark.parametrize("block", ["basic", "pooled"])
def test_a_small_file_cannot_ask_for_much_memory(saved, block):
    """Some initialisations write to every weight before the file's shapes are compared."""
    huge = {"block": block, "depths": [4] * 3, "widths": [2048] * 3, "strides": [1] * 3}
    huge |= {"stem": "cifar", "shortcut": "projection"}

    def enlarge(values):
        values["resnet_hub"]["config"].update(huge)
        values["pretrained_cfg"].update(input_size=[3, 8, 8])

    edit_config(saved, enlarge)
    assert "bytes cannot hold the network's" in refusal(saved)


def test_a_network_that_takes_minutes_for_an_image_is_refused(saved):
    def enlarge(values):
        values["resnet_hub"]["config"].update(depths=[200] * 3, strides=[1] * 3, widths=[16] * 3)
        values["pretrained_cfg"].update(input_size=[3, 1024, 1024])

    edit_config(saved, enlarge)
    assert "multiply-adds an image; 100,000,000,000 is the most" in refusal(saved)


def test_an_image_size_that_would_fill_the_memory_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"input_size=.* 1,000,000,000 is the most"):
        create_model("vgg16", input_size=4096)  # 34 thousand million weights
    create_model("vgg16", input_size=32).save_pretrained(tmp_path)

    def enlarge(values):
        values["resnet_hub"]["config"].update(input_size=[4096, 4096])
        values["pretrained_cfg"].update(input_size=[3, 4096, 4096])

    edit_config(tmp_path, enlarge)
    assert "is the most that is loaded" in refusal(tmp_path)


@pytest.mark.parametrize(
    "labels",
    [
        ["a"] * 9,
        ["a"] * 10,
        [*"abcdefghi", "a"],
        [*"abcdefghijk"],
        [],
        ["x" * 300 + c for c in "0123456789"],
        "0123456789",
    ],
)
def test_labels_are_one_distinct_name_a_class(saved, labels):
    edit_config(saved, lambda values: values.update(label_names=labels))
    message = refusal(saved)
    assert message.startswith(f"{saved}: config.json: ") and "label_names" in message


@pytest.mark.parametrize(
    "calibration",
    [
        {"temperature": 0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"temperature": None},
        {"energy_threshold": float("nan")},
        {"energy_threshold": "low"},
        {"detections": [["ants", 1]]},
        {"detections": [["ants", 1, "many"]]},
    ],
)
def test_calibration_is_finite_numbers(saved, calibration):
    edit_config(saved, lambda values: values["resnet_hub"]["calibration"].update(calibration))
    assert refusal(saved).startswith(f"{saved}: config.json: ")


def test_preprocessing_fits_the_network(saved):
    grey = {"input_size": [1, 32, 32], "mean": [0.5], "std": [0.5]}
    edit_config(saved, lambda values: values["pretrained_cfg"].update(grey))
    assert "does not have 3 channels" in refusal(saved)


@pytest.mark.parametrize(
    ("name", "side", "cause"),
    [
        ("resnet18_cifar", 4096, "input_size 4096x4096 makes conv1 a map of 4,294,967,296 bytes"),
        ("lenet5", 32, "built for a 28x28 image"),
        ("resnet8_cifar", 4, "nothing left"),
        ("resnet50_cifar", 224, None),
        ("resnet152", 640, None),
        ("resnet152", 1024, "multiply-adds an image"),
    ],
)
def test_a_checkpoints_input_size_fits_the_network_and_memory(name, side, cause):
    config = model_config(name)
    values = {"pretrained_cfg": default_preprocess(config).to_pretrained_cfg()}
    values["pretrained_cfg"]["input_size"][1:] = side, side
    if cause is None:
        assert read_preprocess(values, config).input_size[1:] == (side, side)
    else:
        with pytest.raises(ValueError, match=cause):
            read_preprocess(values, config)


@pytest.mark.parametrize("field", ["crop_pct", "mean", "temperature"])
def test_a_number_beyond_any_float_is_refused(saved, field):
    def change(values):
        place = values["resnet_hub"]["calibration"] if field == "temperature" else values["pretrained_cfg"]
        place[field] = [10**400] * 3 if field == "mean" else 10**400

    edit_config(saved, change)
    assert refusal(saved).startswith(f"{saved}: config.json: ")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_directory_without_a_file_says_which(saved, name):
    (saved / name).unlink()
    assert refusal(saved) == f"{saved}: {name} is missing; a checkpoint directory holds it"


@pytest.mark.parametrize("name", ["resnet21_cifar10", "a" * 300])
def test_unknown_short_name_lists_the_shipped_checkpoints(name):
    message = refusal(name)
    assert repr(name) in message
    assert all(d.name in message for d in SHIPPED.glob("*") if d.is_dir())
