"""The promises of training on a GPU that a CPU can prove: flags set in time, figures printed as they come,
nothing for which a step would wait."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from helpers.training import image_folders, noise_image, noise_set
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from resnet_hub.errors import Refusal
from resnet_hub.preprocess import Preprocess
from training import bench, data, engine, evaluate, gpu, scale, transfer
from training.augment import Feed
from training.command import choose_kernels
from training.distributed import process_group
from training.engine import Trainer
from training.optim import Muon
from training.recipes import Recipe

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
VIEW = Preprocess((3, 12, 12), mean=(0.5,) * 3, std=(0.25,) * 3)
QUICK = ["--device", "cpu", "--images", "16", "--batch", "8", "--seconds", "0"]


def small_trainer(
    dtype: torch.dtype | None = None, device: torch.device = CPU, compiled: bool = False, **recipe
) -> Trainer:
    """A trainer of two convolutions and a layer on 8 images of noise."""
    torch.manual_seed(0)
    convolutions = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    net = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))
    own = Recipe(epochs=1, **({"batch_size": 4} | recipe))
    feed = Feed(noise_set(8), VIEW, own, 0, device)
    return Trainer(net, own, feed, seed=0, device=device, amp_dtype=dtype, compiled=compiled)


class Waits(TorchDispatchMode):
    """Notes the operations on tensors of the CPU and of a GPU together that wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kinds = {x.device.type for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)}
        if len(kinds) > 1 and not kwargs.get("non_blocking"):
            self.seen.append(str(func))
        return out


class Ops(TorchDispatchMode):
    """Notes (name, types of the tensors it takes, devices of those it takes and gives) of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, set[torch.dtype], set[str]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        taken = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        given = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        name, kinds = func.overloadpacket.__name__, {x.dtype for x in taken}
        self.seen.append((name, kinds, {x.device.type for x in taken + given}))
        return out


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Tensors with sizes and no values, which may be on CUDA."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    data._of_channels.cache_clear()


def test_what_cublas_needs_for_the_same_bits_is_set_before_the_first_product(usual_kernels):
    choose_kernels(CUDA, deterministic=False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_bench_measures_with_the_trainers_kernels(usual_kernels, monkeypatch):
    monkeypatch.setattr(bench, "Feed", lambda *_: None)
    monkeypatch.setattr(bench, "Trainer", lambda *_, **more: None)
    bench._trainer("resnet8_cifar", CUDA, compiled=False)
    assert torch.backends.cudnn.benchmark and torch.get_float32_matmul_precision() == "high"


def test_the_estimate_is_measured_with_the_trainers_kernels(usual_kernels, monkeypatch, capsys):
    def speed(*_) -> float:
        assert torch.backends.cudnn.benchmark and torch.get_float32_matmul_precision() == "high"
        return 1.0

    monkeypatch.setattr(scale, "trained_per_second", speed)
    monkeypatch.setattr(scale, "pick_device", lambda name: CUDA)
    monkeypatch.setattr(scale, "decodes_per_second", lambda: 1.0)
    monkeypatch.setattr(scale, "hardware", lambda device: "a GPU")
    assert scale.main(["resnet8_cifar", "--precision", "fp32"]) == 0
    assert "a GPU" in capsys.readouterr().out


def test_a_checkpoint_is_evaluated_with_the_trainers_kernels(usual_kernels, monkeypatch):
    def asked(source):
        assert torch.backends.cudnn.benchmark and torch.get_float32_matmul_precision() == "high"
        raise Refusal("far enough")

    monkeypatch.setattr(evaluate, "pick_device", lambda name: CUDA)
    monkeypatch.setattr(evaluate, "from_pretrained", asked)
    assert evaluate.main(["net", "--data", "photos"]) == 2


def test_figures_are_printed_although_a_later_one_fails(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "pick_precision", lambda name, device: None)

    def failing(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu, "same_bits", failing)
    with pytest.raises(RuntimeError, match="no such kernel"):
        gpu.main(["resnet8_cifar", *QUICK])
    printed = capsys.readouterr().out
    assert "training float32" in printed
    assert "evaluation float32" in printed


def test_the_ideal_takes_as_many_steps_between_two_waits_as_training(monkeypatch):
    steps: list[int] = []

    def counted(device, work, seconds):
        before = len(steps)
        work()
        return len(steps) - before

    monkeypatch.setattr(Trainer, "train_step", lambda *_: steps.append(1))
    monkeypatch.setattr(gpu, "a_second", counted)
    monkeypatch.setattr(gpu, "pick_precision", lambda name, device: None)
    options = argparse.Namespace(images=16, side=12, batch=4, seconds=0, compile=False)
    assert dict(gpu.training_speeds("resnet8_cifar", options, CPU)) == {
        "training float32": 4,
        "ideal float32": 4,
    }


@pytest.mark.parametrize(("then", "today"), [("float16", "bfloat16"), ("bfloat16", "float16")])
def test_the_gradients_scale_follows_the_precision_of_a_resumed_run(then, today, tmp_path):
    first, second = (small_trainer(getattr(torch, name)) for name in (then, today))
    first.scaler.scale(torch.ones(()))
    first.scaler.update(1024.0)
    first.save(tmp_path)
    second.load(tmp_path)
    assert second.amp_dtype is getattr(torch, then)
    assert second.scaler.is_enabled() == (then == "float16")
    assert second.scaler.state_dict() == first.scaler.state_dict()


@pytest.mark.parametrize(
    "changes", [("crop", "flip"), ("zoom", "cutout"), ("rotate", "affine"), ("blur", "erase")]
)
def test_making_a_batch_does_not_wait_for_the_gpu(pretended_gpu, changes):
    recipe = Recipe(epochs=1, batch_size=4, augment=changes)
    feed = Feed(noise_set(8), VIEW, recipe, 0, CUDA)
    batches = feed.batches(0, [(i, torch.arange(4)) for i in range(2)], 12)
    next(batches)  # the first of an epoch may wait
    with Waits() as waits:
        tensors = next(batches)
    assert {x.device.type for x in tensors} == {"cuda"} and not waits.seen


def test_pinned_bytes_travel_to_the_gpu_and_are_widened_there(pretended_gpu, monkeypatch):
    pinned: list[torch.dtype] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.dtype) or tensor)
    pixels = torch.zeros(4, 3, 12, 12, dtype=torch.uint8)
    data.normalise(pixels, VIEW, CUDA)  # which makes the constants there
    pinned.clear()
    with Ops() as ops:
        x = data.normalise(pixels, VIEW, CUDA)
    assert (x.dtype, x.device.type) == (torch.float32, "cuda")
    assert [kinds for _, kinds, devices in ops.seen if len(devices) > 1] == [{torch.uint8}]
    assert pinned == [torch.uint8]


@pytest.mark.parametrize(("device", "products"), [("cuda", torch.bfloat16), ("cpu", torch.float32)])
def test_a_gpu_turns_filters_by_nine_products_in_bfloat16(pretended_gpu, device, products):
    """Three Newton-Schulz iterations of three products each, for all filter banks of one shape at once."""
    weights = [nn.Parameter(torch.zeros(4, 3, 3, 3, device=device)) for _ in range(5)]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = Muon(weights, lr=0.1)
    with Ops() as ops:
        optimizer.step()
    assert [kinds for name, kinds, _ in ops.seen if name == "bmm"] == [{products}] * 9
    assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize(("device", "computed_in"), [("cuda", torch.bfloat16), ("cpu", None)])
def test_a_gpu_measures_held_out_images_in_the_precision_of_training(monkeypatch, device, computed_in):
    asked: dict[str, torch.dtype | None] = {}

    def answered(net, held_out, preprocess, **how):
        asked.update(how)
        return torch.zeros(len(held_out), 8), held_out.labels

    trainer = small_trainer(torch.bfloat16)
    trainer.device = torch.device(device)
    monkeypatch.setattr(engine, "predict_logits", answered)
    trainer._measured(noise_set(8))
    assert asked["dtype"] is computed_in


@pytest.mark.parametrize(("device", "computed_in"), [(CUDA, torch.bfloat16), (CPU, None)])
def test_a_gpu_computes_features_in_its_precision_unasked(monkeypatch, device, computed_in):
    """On a CPU the engines choose."""
    asked: list[torch.dtype | None] = []

    def computed(model, part, where, engine, dtype, batch_size):
        asked.append(dtype)
        raise Refusal("far enough")

    monkeypatch.setattr(transfer, "feature_set", computed)
    monkeypatch.setattr(transfer, "precision", lambda options, where: torch.bfloat16)
    there = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=device)]))
    options = argparse.Namespace(precision="auto", engine="auto", eval_batch=None)
    with pytest.raises(Refusal, match="far enough"):
        transfer.head_trainer(options, Recipe(epochs=1), there, (noise_set(4),) * 2, {}, {})
    assert asked == [computed_in]


def test_answers_in_half_precision_are_those_of_autocast():
    net, images = small_trainer().net.eval(), noise_set(8)
    logits, _ = engine.predict_logits(net, images, VIEW, dtype=torch.bfloat16)
    x = data.normalise(images.images, VIEW, CPU)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = net(x)
    assert expected.dtype is torch.bfloat16 and torch.equal(logits, expected.float())
    assert not torch.equal(logits, engine.predict_logits(net, images, VIEW)[0])


def test_reading_pins_no_memory(tmp_path, monkeypatch):
    """Pinning starts CUDA, with --device cpu too, and all images that are read would be pinned at once."""
    root = image_folders(tmp_path, {"train": 2}, {"a": noise_image(0, 256, (12, 12))})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = replace(data.find_images(root / "train", VIEW), workers=0)
    ((images, _),) = found.fetch([torch.arange(2)])
    assert images.shape == (2, 3, 12, 12) and not images.is_pinned()


def test_crops_of_whole_photos_are_cut_where_the_photos_are(monkeypatch):
    def cut(photo: torch.Tensor) -> torch.Tensor:
        cut_on.append(photo.device.type)
        return photo[:, :12, :12]

    cut_on: list[str] = []
    monkeypatch.setattr(data, "random_part", lambda size: cut)
    photos = tuple(torch.zeros(3, 12 + i, 20, dtype=torch.uint8) for i in range(4))
    held = data.PhotoSet(photos, torch.arange(4), tuple("abcd"), "noise", VIEW)
    recipe = Recipe(epochs=1, batch_size=4, augment=("resized_crop", "flip"))
    ((x, _, _),) = Feed(held, VIEW, recipe, 0, torch.device("meta")).batches(0, [(0, torch.arange(4))], 12)
    assert x.device.type == "meta" and cut_on == ["cpu"] * 4


def test_averaged_weights_are_torchs_and_their_count_of_steps_stays_on_the_cpu():
    recipe = Recipe(epochs=1, batch_size=4, keep="ema", ema=0.9, ema_warmup=True)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ours = engine._averaged(net, recipe, 10)
    theirs = AveragedModel(net, multi_avg_fn=ours.multi_avg_fn, use_buffers=True)
    for _ in range(3):
        net(torch.randn(4, 3)).sum().backward()
        with torch.no_grad():
            net[0].weight += net[0].weight.grad
        ours.update_parameters(net)
        theirs.update_parameters(net)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    elsewhere = nn.Linear(3, 3, device="meta")  # where a count would have no value to be read
    averaged = engine._averaged(elsewhere, recipe, 10)
    for _ in range(2):
        averaged.update_parameters(elsewhere)
    assert averaged.n_averaged == 2


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_a_resumed_runs_counts_of_steps_stay_on_the_cpu(tmp_path):
    """An optimizer would wait for a GPU for each of its parameters."""
    first, second = (small_trainer(device=torch.device(d), optimizer="adamw") for d in ("cpu", "meta"))
    first.train_step(first.feed.batches(0, [(0, torch.arange(4))], 12))
    first.save(tmp_path)
    second.load(tmp_path)
    states = second.optimizers[0].state.values()
    assert {(s["step"].device.type, s["exp_avg"].device.type) for s in states} == {("cpu", "meta")}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_processes_wait_for_one_that_reads_for_two_hours(device, monkeypatch):
    store, joined = dist.HashStore(), {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(store, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **more: joined.update(more))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with process_group(torch.device(device)):
        assert joined["timeout"] == store.timeout == timedelta(hours=2)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_gradient_that_overflowed_changes_the_weights_of_no_optimizer(clip_norm):
    trainer = small_trainer(torch.float16, optimizer="muon", muon_lr=0.1, clip_norm=clip_norm)
    before = [parameter.clone() for parameter in trainer.net.parameters()]
    trainer.scaler.scale(torch.ones(()))
    for parameter in trainer.net.parameters():
        parameter.grad = torch.ones_like(parameter)
    (turned,) = trainer.optimizers[0].param_groups[0]["params"]
    turned.grad.fill_(torch.inf)
    trainer._update()
    assert len(trainer.optimizers) == 2
    assert all(map(torch.equal, trainer.net.parameters(), before))
    assert trainer.scaler.get_scale() == 2.0**15  # half of the first


def test_muon_makes_its_momentum_once(monkeypatch):
    made, zeros_like = [], torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda x: made.append(1) or zeros_like(x))
    weight = nn.Parameter(torch.ones(4, 3, 3, 3))
    optimizer = Muon([weight], lr=0.1)
    for _ in range(3):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert made == [1]


@pytest.mark.parametrize(
    ("cores", "processes", "batch", "workers", "ahead"),
    [(16, 1, 64, 15, 4), (16, 4, 64, 3, 4), (2, 8, 64, 1, 4), (16, 1, 256, 15, 1), (5, 1, 800, 4, 2)],
)
def test_reading_takes_its_share_of_the_cores_and_little_memory(
    cores, processes, batch, workers, ahead, monkeypatch
):
    asked: dict[str, int] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda *_, **more: asked.update(more) or [])
    view = Preprocess((3, 224, 224))
    found = data.FolderSet((Path("a.png"),) * 1600, torch.zeros(1600), ("a",), "noise", view)
    list(found.fetch(torch.arange(1600).split(batch)))
    assert (asked["num_workers"], asked["prefetch_factor"]) == (workers, ahead)


def test_a_process_that_reads_for_all_of_a_machine_takes_all_its_cores(monkeypatch):
    asked: dict[str, int] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr(torch.utils.data, "DataLoader", lambda *_, **more: asked.update(more) or [])
    found = data.FolderSet((Path("a.png"),), torch.zeros(1), ("a",), "noise", VIEW, whole=True)
    with pytest.raises(data.DataError, match="no readable image"):
        data.in_memory(found)
    assert asked["num_workers"] == 15


def test_a_compiled_network_has_a_graph_for_each_size(monkeypatch):
    graphs, compile_ = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda net, **how: compile_(net, backend=lambda g, _: graphs.append(g) or g, **how)
    )
    forward = small_trainer(compiled=True).forward
    for side in (12, 10, 8, 12):
        forward(torch.zeros(2, 3, side, side))
    assert len(graphs) == 3
