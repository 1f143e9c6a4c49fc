"""The promises of `resnet_hub.engine`: every engine gives the network's own answers, whatever the batch; it
follows whoever changes the network; one that cannot be used is one clear line. The oracle is the eager
network."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys
import threading
import weakref
from dataclasses import replace

import pytest
import torch
from helpers import ROOT
from torch import nn

import resnet_hub
from resnet_hub import create_model, engine
from resnet_hub.engine import ENGINES, FEW, TOLERANCE, Engine, backends, choose, engine_for, prepare, shape_of
from resnet_hub.engine.fused import Convolution, fused, traced
from resnet_hub.engine.race import agrees, answers, difference, fastest, probes
from resnet_hub.errors import Refusal
from resnet_hub.predict import classify, evaluation

NETWORKS = (  # one of each kind of block, shortcut and stem
    "resnet18", "resnet50_cifar", "resnet20_cifar", "plain20_cifar", "wrn16_4_cifar", "resnet8_cifar",
    "resnet18_64px", "vgg_cifar", "lenet5", "cifar10net", "simple_resnet",
)  # fmt: skip
LARGEST = 64  # pixels a side; the networks for 224 pixels take fewer

pytestmark = pytest.mark.usefixtures("one_thread")


def network(name: str = "resnet20_cifar", **overrides):
    """A network in eval mode whose batch norms do something."""
    torch.manual_seed(0)
    model = create_model(name, **overrides).eval()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(-1.5, 1.5)
                layer.bias.normal_()
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return model


def pixels_of(model, count: int = 3) -> torch.Tensor:
    channels, height, width = shape_of(model)
    if not model.fixed_input_size:
        height, width = min(height, LARGEST), min(width, LARGEST)
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))


# The same answers


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_folded_networks_answer_as_the_networks_do(name):
    model = network(name)
    pixels = pixels_of(model)
    wanted = model(pixels)
    for size in (None, pixels[:1].shape, pixels.shape):  # torch's convolutions, and oneDNN's
        made = fused(model, size=size)
        assert difference(wanted, made(pixels)) < TOLERANCE
        assert difference(wanted[:1], made(pixels[:1])) < TOLERANCE


@pytest.mark.parametrize("size", [None, (2, 3, 32, 32)])
def test_no_batch_norm_after_a_convolution_is_left(size):
    folded = fused(network("resnet20_cifar"), size=size)
    assert not [each for each in folded.modules() if isinstance(each, nn.BatchNorm2d)]
    assert any(isinstance(each, Convolution) for each in folded.modules()) == (size is not None)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def test_no_weights_are_slowly_rearranged_while_it_answers(two_threads, monkeypatch, capfd):
    """On one thread, a single image and several have one layout."""
    monkeypatch.setattr(backends, "seconds", lambda runs, pixels: [0.0, 1.0])  # oneDNN's are the faster ones
    model = resnet_hub.from_pretrained("resnet18_tiny_imagenet")
    run = backends.build("fused", model, shape_of(model), "fp32")
    for count in (1, 2):
        pixels = pixels_of(model, count)
        run(pixels)
        capfd.readouterr()
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            run(pixels)
        said = capfd.readouterr().out.splitlines()
        assert [line for line in said if ",convolution," in line]
        assert not [line for line in said if ",reorder,simple" in line]  # oneDNN's slow reference code


@torch.no_grad()
def test_a_shortcut_that_reads_a_convolution_before_its_batch_norm_is_kept():
    model = network("wrn16_4_cifar")  # its stem goes both into a batch norm and around it
    pixels = pixels_of(model)
    assert difference(model(pixels), fused(model, size=pixels.shape)(pixels)) < TOLERANCE


@torch.no_grad()
def test_a_network_that_cannot_be_traced_still_runs():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x).mean((2, 3)) if x.sum() > 0 else x.mean((2, 3)) @ torch.ones(3, 4)

    net = Branching().eval()
    for pixels in (torch.ones(2, 3, 8, 8), -torch.ones(2, 3, 8, 8)):
        assert difference(net(pixels), fused(net)(pixels)) < 1e-6


@pytest.mark.parametrize("name", ["fused", "openvino", "onnxruntime"])
@torch.no_grad()
def test_every_engine_answers_as_the_network_does_in_batches_of_any_size(name):
    if name in engine.OPTIONAL:
        pytest.importorskip(name)
    model = resnet_hub.from_pretrained("resnet8_cifar10")
    made, pixels = prepare(model, shape_of(model), name), pixels_of(model, 7)
    wanted = model(pixels)
    whole = made(pixels)
    one_by_one = torch.cat([made(each[None]) for each in pixels])
    assert (made.name, made.precision) == (name, "fp32")
    assert difference(wanted, whole) < TOLERANCE
    assert difference(whole, one_by_one) < TOLERANCE


@torch.no_grad()
def test_half_precision_gives_nearly_the_same_shares():
    model = resnet_hub.from_pretrained("resnet8_cifar10")
    pixels = pixels_of(model, 8)
    for name in ("eager", "fused"):
        made = prepare(model, shape_of(model), name, "bf16")
        assert made.precision == "bf16" and made(pixels).dtype == torch.float32
        assert difference(model(pixels), made(pixels)) < 0.05


@pytest.mark.parametrize("wrong", [lambda pixels: True, lambda pixels: len(pixels) == 1])
def test_an_engine_that_answers_otherwise_is_not_chosen(monkeypatch, wrong):
    def build(net, shape, precision):
        return lambda pixels: (1.01 if wrong(pixels) else 1) * net(pixels)

    monkeypatch.setitem(backends.BUILDERS, "fused", build)
    model = network()
    with torch.no_grad():
        assert fastest(model, shape_of(model), "fp32", ("eager", "fused"), 2).name == "eager"
    with pytest.raises(Refusal, match=r"--engine fused gives other answers .* give --engine eager"):
        prepare(model, shape_of(model), "fused")


def test_engines_are_compared_on_batches_that_fit_the_memory(monkeypatch):
    net, seen = network(), []
    monkeypatch.setattr(engine, "MOST_PIXELS", 3 * 32 * 32)
    net.conv1.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    assert answers(net, probes(shape_of(net), torch.device("cpu"))).shape == (9, 10)
    assert seen == [1, 3, 3, 2]


def test_half_precision_that_moves_a_share_does_not_agree():
    wanted = torch.tensor([[2.0, 0.0]])
    assert agrees(wanted, torch.tensor([[2.1, 0.0]]), "bf16")
    assert not agrees(wanted, torch.tensor([[2.5, 0.0]]), "bf16")
    assert not agrees(wanted, torch.tensor([[float("nan"), 0.0]]), "bf16")
    assert not agrees(wanted, torch.tensor([[float("nan"), 0.0]]), "fp32")


# Whoever changes the network


def other_head(model):
    model.fc = nn.Linear(model.fc.in_features, model.fc.out_features)


def by_data(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.1)


def by_training(model):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(pixels_of(model)).square().mean().backward()
    optimizer.step()
    model.eval()


def by_statistics(model):
    with torch.no_grad():
        model.train()(pixels_of(model, 8))
    model.eval()


def by_loading(model):
    model.load_state_dict({name: value * 1.1 for name, value in model.state_dict().items()})


@pytest.mark.parametrize("change", [other_head, by_data, by_training, by_statistics, by_loading])
@torch.no_grad()
def test_a_changed_network_gives_its_new_answers(change):
    model = network()
    before, pixels = engine_for(model, 2 * FEW)(pixels_of(model)), pixels_of(model)
    with torch.enable_grad():
        change(model)
    for _ in range(3):
        now = engine_for(model, 2 * FEW)(pixels)
        assert difference(model(pixels), now) < TOLERANCE
        assert difference(before, now) > 100 * TOLERANCE


def test_images_of_another_size_are_prepared_for_anew(monkeypatch, photo):
    """OpenVINO and ONNX Runtime fix the size, and what is fastest depends on it."""
    made = []
    monkeypatch.setattr(
        engine, "prepare", lambda net, shape, *_: made.append(shape) or Engine("fused", "fp32", net)
    )
    model = network()
    classify(model, [photo] * FEW)
    model.preprocess = replace(model.preprocess, input_size=(3, 48, 48))
    classify(model, [photo] * FEW)
    classify(model, [photo] * FEW)
    assert made == [(3, 32, 32), (3, 48, 48)]


def test_whoever_listens_to_a_layer_hears_it(photo):
    model, heard = network(), []
    classify(model, [photo] * FEW)
    handle = model.layer3.register_forward_hook(lambda *_: heard.append(1))
    classify(model, [photo] * FEW)
    assert heard == [1]
    handle.remove()
    classify(model, [photo] * FEW)
    assert heard == [1]


def test_a_prepared_network_is_forgotten_with_its_model():
    model = network()
    engine_for(model, 2 * FEW)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_network_itself_is_left_as_it_was():
    model = network()
    before = copy.deepcopy(model.state_dict())
    choose(model, "fused")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


# When and what


def test_nothing_is_prepared_for_the_first_image(monkeypatch, photo):
    made = []
    monkeypatch.setattr(
        engine, "prepare", lambda *given: made.append(given) or Engine("fused", "fp32", given[0])
    )
    model = network()
    classify(model, [photo])
    assert made == []
    assert classify(model, [photo])[0].engine == "fused fp32"
    assert len(made) == 1


def test_optional_back_ends_are_tried_where_enough_images_come():
    slow = Engine("fused", "fp32", nn.Identity(), image_seconds=0.1)
    assert engine.worth_trying(slow, 10) == []
    assert engine.worth_trying(slow, 600) == [name for name in ["openvino"] if engine.is_installed(name)]
    assert engine.worth_trying(slow, 5000) == [name for name in engine.OPTIONAL if engine.is_installed(name)]


def test_an_answer_names_its_engine(photo):
    model = network()
    choose(model, "fused")
    assert classify(model, [photo])[0].engine == "fused fp32"
    choose(model, "eager")
    assert classify(model, [photo])[0].engine == "eager fp32"


@torch.no_grad()
def test_many_threads_get_the_same_answers():
    model = network()
    pixels = pixels_of(model)
    wanted, found = model(pixels), []

    def ask():
        with evaluation(model):
            found.extend(difference(wanted, engine_for(model, FEW)(pixels)) for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and max(found) < TOLERANCE


# What cannot be used


def test_a_back_end_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(engine, "is_installed", lambda name: name != "openvino")
    with pytest.raises(Refusal, match=r"--engine openvino needs a package .* pip install '.\[fast\]'"):
        choose(network(), "openvino")


def test_onnx_runtime_computes_in_fp32_only():
    pytest.importorskip("onnxruntime")
    with pytest.raises(Refusal, match="onnxruntime computes in fp32"):
        choose(network(), "onnxruntime", "bf16")


def test_the_engines_are_the_flags_of_the_commands():
    assert list(ENGINES[1:]) == list(backends.BUILDERS)


def test_racing_engines_take_turns():
    ran = []
    first, second = (lambda pixels, name=name: ran.append(name) or pixels for name in "ab")
    assert len(backends.seconds([first, second], torch.zeros(1))) == 2
    assert ran == ["a", "b"] * (1 + backends.ROUNDS)


def test_classifying_loads_neither_an_optional_back_end_nor_sympy(photo):
    script = (  # the second answer prepares an engine
        "import sys, resnet_hub\nmodel = resnet_hub.from_pretrained('resnet8_cifar10')\n"
        f"for _ in range(2): model.predict({str(photo)!r})\n"
        "print(sorted({'openvino', 'onnxruntime', 'onnx', 'gradio', 'sympy'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_command_says_in_one_line_what_is_missing(monkeypatch, photo, capsys):
    from resnet_hub.predict import main

    monkeypatch.setattr(engine, "is_installed", lambda name: name != "openvino")
    assert main([str(photo), "--model", "resnet8_cifar10", "--engine", "openvino"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("resnet_hub.predict: --engine openvino needs a package that is not installed")


def test_training_measures_on_the_folded_network_and_a_command_on_what_it_was_told():
    from training.inference import LEAST, runner

    model = network()
    shape = shape_of(model)
    assert runner(model, LEAST - 1, shape) is model
    assert str(runner(model, LEAST, shape)) == "fused fp32"
    choose(model, "eager")
    assert str(runner(model, LEAST, shape)) == "eager fp32"
    assert runner(nn.Linear(3, 2), LEAST, (3,)).__class__ is nn.Linear


def test_a_network_in_training_mode_is_not_tried():
    model = network().train()
    with pytest.raises(ValueError, match="in eval mode"):
        prepare(model, shape_of(model))
    for _ in range(3):
        assert engine_for(model, 2 * FEW).run is model  # as its batch statistics and dropout are asked for


def test_other_threads_run_their_networks_while_one_is_traced():
    other, answers = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), []

    class Interrupted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            thread = threading.Thread(target=lambda: answers.append(other(torch.ones(1, 3))))
            thread.start()
            thread.join()
            return self.layer(x)

    assert [node.op for node in traced(Interrupted()).graph.nodes] == ["placeholder", "call_module", "output"]
    assert torch.equal(answers[0], other(torch.ones(1, 3)))
