"""Promises that a flag reaches what it is for: each test fails where the line that passes it on is gone."""

from __future__ import annotations

import pytest
import torch
from helpers.training import image_folders, noise_image, noise_set
from torch import nn

from resnet_hub import create_model
from resnet_hub.errors import Refusal
from resnet_hub.lab.fine_tuning import FAR_SHARE
from resnet_hub.preprocess import Preprocess
from training import cifar, transfer
from training.cifar import parse_arguments
from training.command import choose_kernels, find_to_train, launcher, new_trainer, read_by
from training.data import whole_image
from training.distributed import process_group
from training.engine import Trainer, predict_each
from training.inference import feature_engine
from training.optim import layer_shares
from training.recipes import recipe_from

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
VIEW = Preprocess((3, 12, 12), mean=(0.5,) * 3, std=(0.25,) * 3)


def given(*words: str, data: str = "d"):
    usual = ["--recipe", "plain", "--precision", "fp32", "--device", "cpu"]
    return parse_arguments(["resnet8_cifar", "--data", data, "--out", "o", *usual, *words])


def made(*words: str, shares: dict[str, float] | None = None) -> Trainer:
    """A trainer of a small network as the command line asks for it."""
    options = given(*words)
    net = create_model("resnet8_cifar", input_size=12, num_classes=4)
    recipe, data = recipe_from(options), noise_set(8, classes=4)
    return new_trainer(net, recipe, data, VIEW, options, CPU, identity={}, shares=shares)


def rates(one: Trainer) -> dict[str, float]:
    """The share of --lr that each parameter learns with."""
    names = {id(parameter): name for name, parameter in one.net.named_parameters()}
    groups = [group for optimizer in one.optimizers for group in optimizer.param_groups]
    return {names[id(p)]: group["lr"] / one.recipe.lr for group in groups for p in group["params"]}


@pytest.mark.parametrize(("words", "blocks"), [(["--drop-path", "0.5"], 3), ([], 0)])
def test_drop_path_reaches_the_network(words, blocks):
    assert sum(bool(m._forward_hooks) for m in made(*words).net.modules()) == blocks


def test_layer_decay_reaches_the_optimizer_on_top_of_given_shares():
    names = [name for name, _ in create_model("resnet8_cifar").named_parameters()]
    decayed = layer_shares(names, 0.5)
    assert decayed["conv1.weight"] < decayed["fc.weight"] == 1
    assert rates(made("--layer-decay", "0.5")) == pytest.approx(decayed)
    shares = dict.fromkeys(names, 0.1)
    halves = {name: share / 10 for name, share in decayed.items()}
    assert rates(made("--layer-decay", "0.5", shares=shares)) == pytest.approx(halves)
    assert rates(made(shares=shares)) == pytest.approx(shares)


def test_compile_compiles_what_is_trained(monkeypatch):
    seen: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda net, **how: seen.append(net) or net)
    assert made("--compile").net is seen[0] and len(seen) == 1
    made()
    assert len(seen) == 1


def test_workers_read_the_training_and_the_held_out_images(tmp_path):
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    root = image_folders(tmp_path, {"train": 6, "test": 2}, classes)
    for words, workers in ((["--workers", "0"], 0), (["--workers", "3"], 3), ([], None)):
        options = given(*words, data=str(root))
        *parts, _ = find_to_train(options, recipe_from(options), whole_image((16, 16)))
        assert [part.workers for part in parts] == [workers] * 2


def test_workers_where_there_are_no_files_to_read_are_refused():
    data = noise_set(4)
    assert read_by(None, data) is data is read_by(0, data)
    with pytest.raises(ValueError, match="--workers 2 has no effect here"):
        read_by(2, data)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "python"),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "torchrun --nproc-per-node=2"),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, "torchrun --nnodes=2 --nproc-per-node=4"),
    ],
)
def test_the_recorded_launcher_is_what_started_the_processes(monkeypatch, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launcher() == words


def test_more_processes_than_gpus_are_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    said = "has 2 GPUs, too few for 3 processes; lower --nproc-per-node"
    with pytest.raises(Refusal, match=said), process_group(CUDA):
        pytest.fail("it joined")


def test_who_joined_no_group_does_all_of_the_work(monkeypatch):
    """As where a launcher of something else sets RANK."""
    data, net = noise_set(600, classes=4), create_model("resnet8_cifar", input_size=12, num_classes=4)
    monkeypatch.setenv("RANK", "1")
    assert len(predict_each(net, data, VIEW).labels) == 600


@pytest.mark.parametrize("name", ["resnet20_cifar", "vgg_cifar"])
def test_far_teaches_every_layer_early_ones_as_fast_as_late_ones(name):
    model = create_model(name)

    def chosen(*words: str):
        options = transfer.parse_arguments(["--weights", "w", "--data", "d", "--out", "o", *words])
        return transfer.chosen_rates(options, model, 100)

    assert chosen()[0] == "feature"
    assert chosen("--far") == chosen("--mode", "full", "--far") == ("full", (("", FAR_SHARE),))
    with pytest.raises(ValueError, match="--far has no effect on --mode feature"):
        chosen("--mode", "feature", "--far")


def test_features_are_computed_in_the_precision_that_is_asked_for():
    model, x, dtypes = create_model("resnet8_cifar").eval(), torch.randn(4, 3, 32, 32), []

    def note(module, inputs, out):
        if isinstance(module, nn.Conv2d):
            dtypes.append(out.dtype)

    hook = nn.modules.module.register_module_forward_hook(note)
    half = feature_engine(model, CPU, dtype=torch.bfloat16)
    features = half(x)
    hook.remove()
    assert str(half) == "eager bf16" and set(dtypes) == {torch.bfloat16}
    assert features.dtype is torch.float32 and features.shape == (4, model.fc.in_features)
    torch.testing.assert_close(features, feature_engine(model, CPU)(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(("framing", "are_whole"), [("crop", True), ("letterbox", False)])
def test_random_crops_are_cut_from_whole_photos(tmp_path, monkeypatch, framing, are_whole):
    classes = {"bright": noise_image(150, 250), "dark": noise_image(0, 100)}
    root, seen = image_folders(tmp_path / "data", {"train": 6, "test": 2}, classes), []

    def stop(model, recipe, data, *more, **options):
        seen.append(data.whole)
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "new_trainer", stop)
    words = ["--weights", "resnet20_cifar10", "--data", str(root), "--out", str(tmp_path / "run")]
    words += ["--mode", "full", "--augment", "resized_crop", "--framing", framing, "--device", "cpu"]
    assert transfer.main(words) == 130 and seen == [are_whole]


def test_a_teacher_of_the_same_classes_teaches_and_another_is_refused(tmp_path):
    teacher = create_model("resnet20_cifar", input_size=12, num_classes=4)
    teacher.labels = noise_set(8, classes=4).classes
    teacher.save_pretrained(tmp_path / "teacher")
    assert made("--teacher", str(tmp_path / "teacher")).teacher is not None
    assert made().teacher is None
    with pytest.raises(ValueError, match="--teacher resnet20_cifar10 answers with airplane"):
        made("--teacher", "resnet20_cifar10")


@pytest.mark.parametrize("words", [[], ["--deterministic"]])
def test_deterministic_is_asked_of_torch_before_training(tmp_path, monkeypatch, usual_kernels, words):
    seen = []
    train = lambda options, device: seen.append(torch.are_deterministic_algorithms_enabled())  # noqa: E731
    monkeypatch.setattr(cifar, "train", train)
    out = ["--data", "d", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert cifar.main(["resnet8_cifar", *out, *words]) == 0
    assert seen == [bool(words)]


@pytest.mark.parametrize("deterministic", [False, True])
def test_on_cuda_deterministic_alone_does_without_tf32_and_trials(usual_kernels, deterministic):
    choose_kernels(CUDA, deterministic)
    cudnn = torch.backends.cudnn
    assert (cudnn.allow_tf32, cudnn.benchmark) == (not deterministic, not deterministic)
    assert torch.get_float32_matmul_precision() == ("highest" if deterministic else "high")
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_on_a_processor_no_switch_of_cuda_is_touched(usual_kernels):
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision()
    choose_kernels(CPU, deterministic=False)
    assert (cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision()) == before
