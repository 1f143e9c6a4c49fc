"""Is this the same network? Ours against timm's or torchvision's, with the same weights in both.

    python -m resnet_hub.parity resnet50 resnet18_cifar --reference timm
    python -m resnet_hub.parity --grid

Compares parameters, multiply-adds and keys, and on the same images logits, stages, gradients and running
statistics. `counterpart.py` builds the other network.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import ImageOps
from torch import Tensor, nn

from resnet_hub.command import program_name, run_command
from resnet_hub.config import ModelConfig
from resnet_hub.errors import listed
from resnet_hub.geometry import counted_macs, totals, trace
from resnet_hub.interop.counterpart import (
    LIBRARIES,
    counterpart,
    has_counterpart,
    no_counterpart,
    provenance,
)
from resnet_hub.models.base import default_preprocess
from resnet_hub.models.build import build_network
from resnet_hub.models.initialise import SkipRandomFill
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.preprocess import load_image

# Relative to the largest value compared. The operations are the same, so fp32 differs by their order at most.
TOLERANCES = {"fp32": {"forward": 1e-5, "gradient": 1e-4}, "bf16": {"forward": 2e-2, "gradient": 2e-2}}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
VARIANTS: list[tuple[str, dict[str, Any]]] = [  # networks with a counterpart but without a name of their own
    ("resnet18", {"stem": "deep"}),
    ("resnet50", {"stem": "deep"}),
    ("resnet50", {"stride_in": "1x1"}),
    ("resnet18", {"strides": (1, 2, 2, 1), "maxpool": False}),
    ("resnet20_cifar", {"shortcut": "projection"}),
]
MAX_SIDE = 64  # of the command's images, so that each network takes seconds
GRID_SIZES, GRID_COUNTS = (32, 64, 75, 224), (1, 7)
PHOTOS = Path(__file__).parents[1] / "examples"
VERDICT = {True: "the same", False: "DIFFERENT"}


@dataclass(frozen=True)
class Difference:
    """How far one thing differs.

    Args:
        mode: "eval" or "train".
        precision: "fp32" or "bf16", of weights and images.
        what: "logits", a stage's module name, "gradients" or "statistics" (running means and variances).
        where: among gradients or statistics the tensor that differs most; otherwise "".
        max_abs: largest absolute difference.
        relative: `max_abs` divided by the largest absolute value of the reference's tensor.
        tolerance: the largest `relative` that counts as equal.
    """

    mode: str
    precision: str
    what: str
    where: str
    max_abs: float
    relative: float
    tolerance: float

    @property
    def is_equal(self) -> bool:
        """Whether the difference is within the tolerance; never for NaN."""
        return self.relative <= self.tolerance


@dataclass(frozen=True)
class Report:
    """One of our networks compared with its counterpart.

    Args:
        model: name, with overrides.
        reference: the counterpart's library and name, and which of its parts were replaced.
        input_size: (N, C, H, W) of the images.
        parameters, macs, keys: counts, (ours, theirs); multiply-adds are of one image.
        missing, unexpected: state-dict keys that only ours, only theirs have.
        differences: everything that was compared.
    """

    model: str
    reference: str
    input_size: tuple[int, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    keys: tuple[int, int]
    missing: list[str]
    unexpected: list[str]
    differences: list[Difference]

    @property
    def is_equal(self) -> bool:
        """Whether all counts and keys are the same and every difference is within its tolerance."""
        counts = (self.parameters, self.macs, self.keys)
        same_shape = all(ours == theirs for ours, theirs in counts) and not self.missing + self.unexpected
        return same_shape and all(each.is_equal for each in self.differences)


# Building a pair


def label(config: ModelConfig) -> str:
    """The network's name and the fields that differ from its usual ones, e.g. "resnet50 stem=deep"."""
    usual = model_config(config.name).to_dict() if config.name in list_models() else {}
    usual |= {"drop_rate": config.drop_rate}  # a comparison runs without dropout
    changed = {name: value for name, value in config.to_dict().items() if usual.get(name, value) != value}
    return " ".join([config.name, *(f"{name}={_plain(value)}" for name, value in changed.items())])


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def random_weights(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random values for every entry of a state dict, batch-norm weights, biases and statistics included.

    timm initialises the last batch norm of each block to zero, so a comparison of fresh networks would never
    exercise the residual branches.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, like in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        elif like.ndim > 1:  # He's scale, which keeps the signal's size at any depth
            state[key] = torch.randn(like.shape, generator=generator) * math.sqrt(2 / like[0].numel())
        elif key.endswith(("running_var", "weight")):
            state[key] = torch.rand(like.shape, generator=generator) + 0.5
        else:
            state[key] = torch.randn(like.shape, generator=generator) * 0.1
    return state


def pair(config: ModelConfig, library: str) -> tuple[nn.Module, nn.Module]:
    """Our network and its counterpart, both without weights yet."""
    with SkipRandomFill():
        return build_network(config), counterpart(config, library)


# Comparing


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """(largest absolute difference, the same over the largest absolute value of `theirs`)."""
    if ours.shape != theirs.shape:
        return math.inf, math.inf
    ours, theirs = ours.cpu().double(), theirs.cpu().double()  # MPS has no float64
    absolute = (ours - theirs).abs().max().item()
    scale = theirs.abs().max().item()
    return absolute, absolute / scale if scale else absolute


def outputs(net: nn.Module, stages: list[str], pixels: Tensor) -> dict[str, dict[str, Tensor]]:
    """What one pass in the network's current mode leaves: logits, the map of each stage, the gradients of a
    fixed weighting of the logits and, in train mode, the running statistics.

    Returns:
        For each of these, tensors by name; a single tensor has the name "".
    """
    maps: dict[str, dict[str, Tensor]] = {}
    hooks = [
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: maps.update({name: {"": out.detach().clone()}})
        )
        for name in stages
    ]
    try:
        logits = net(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    net.zero_grad()
    weighting = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).to(logits)
    (logits * weighting).sum().backward()
    found = {"logits": {"": logits.detach()}} | maps
    found["gradients"] = {name: parameter.grad for name, parameter in net.named_parameters()}
    statistics = {name: buffer for name, buffer in net.named_buffers() if buffer.is_floating_point()}
    return found | ({"statistics": statistics} if net.training and statistics else {})


def differences(
    ours: Any, theirs: nn.Module, pixels: Tensor, *, mode: str, precision: str
) -> list[Difference]:
    """Everything compared in one mode and one precision, for two networks with the same weights.

    Args:
        ours: a `Network`.
        theirs: its counterpart; both are left in `mode` and in `precision`.
        pixels: normalised images (N, C, H, W).
        mode: "eval" or "train"; "train" also moves the running statistics, as training does.
    """
    modules = dict(theirs.named_modules())
    stages = [info["module"] for info in ours.feature_info if info["module"] in modules]
    pixels = pixels.to(DTYPES[precision])
    nets = [net.train(mode == "train").to(DTYPES[precision]) for net in (ours, theirs)]
    mine, yours = (outputs(net, stages, pixels) for net in nets)
    return [_worst(mode, precision, what, mine[what], yours[what]) for what in mine]


def _worst(mode: str, precision: str, what: str, ours: dict, theirs: dict) -> Difference:
    tolerance = TOLERANCES[precision]["gradient" if what == "gradients" else "forward"]
    by_name = {name: difference(ours[name], theirs[name]) for name in theirs}
    where = max(by_name, key=lambda name: _nan_as_inf(by_name[name][1]))
    return Difference(mode, precision, what, where, *by_name[where], tolerance)


def train_mode_fits(config: ModelConfig, images: int) -> bool:
    """Whether every batch norm gets more than one value a channel, without which it cannot train."""
    rows = [row for row in trace(config) if row.op == "batch_norm"]
    return all(images * math.prod(row.out_size) > 1 for row in rows)


def compare(config: ModelConfig, library: str, pixels: Tensor, *, seed: int = 0) -> Report:
    """Build one of our networks and its counterpart, give both the same random weights, compare everything.

    Args:
        config: the network; it is built for the size of `pixels`.
        pixels: normalised images (N, C, H, W).

    Raises:
        Refusal: where the library cannot build the network.
    """
    _, channels, height, width = pixels.shape
    config = replace(config, input_size=(height, width), drop_rate=0.0)
    ours, theirs = pair(config, library)
    our_keys, their_keys = list(ours.state_dict()), list(theirs.state_dict())
    missing = [key for key in our_keys if key not in their_keys]
    unexpected = [key for key in their_keys if key not in our_keys]
    is_known = config.name in list_models()
    usual = model_config(config.name).input_size if is_known else config.input_size
    return Report(
        model=label(replace(config, input_size=usual)),
        reference=provenance(config, library),
        input_size=tuple(pixels.shape),
        parameters=(_parameters(ours), _parameters(theirs)),
        macs=(totals(trace(config)).macs, counted_macs(theirs, (channels, height, width))),
        keys=(len(our_keys), len(their_keys)),
        missing=missing,
        unexpected=unexpected,
        differences=[] if missing + unexpected else list(_all_differences(ours, theirs, pixels, seed)),
    )


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _all_differences(ours: Any, theirs: nn.Module, pixels: Tensor, seed: int) -> Iterator[Difference]:
    weights = random_weights(theirs, seed)
    modes = ["eval", "train"] if train_mode_fits(ours.config, len(pixels)) else ["eval"]
    for precision in DTYPES:
        for mode in modes:
            for net in (ours, theirs):  # train mode moved the statistics, bf16 rounded the weights
                net.float().load_state_dict(weights)
            yield from differences(ours, theirs, pixels, mode=mode, precision=precision)


@torch.inference_mode()
def compare_grid(config: ModelConfig, library: str) -> dict[str, float]:
    """Relative difference of the fp32 logits in eval mode for every size, count and kind of image, by what
    went in, e.g. "224x224 7 photos".
    """
    found = {}
    for size in GRID_SIZES:  # built anew for each: VGG-16's head fits one size only
        sized = replace(config, input_size=(size, size), drop_rate=0.0)
        nets = pair(sized, library)
        weights = random_weights(nets[1])
        for net in nets:
            net.eval().load_state_dict(weights)
        for kind, images in (("photos", photos(sized)), ("noise", noise(sized, max(GRID_COUNTS)))):
            for count in GRID_COUNTS:
                ours, theirs = (net(images[:count]) for net in nets)
                found[f"{size}x{size} {count} {kind}"] = difference(ours, theirs)[1]
    return found


def _nan_as_inf(value: float) -> float:
    return math.inf if math.isnan(value) else value


def largest(values: Iterable[float]) -> float:
    """The largest value; NaN counts as infinite."""
    return max(map(_nan_as_inf, values))


# Images


def photos(config: ModelConfig) -> Tensor:
    """The page's example photos and their mirror images as normalised network input: (8, C, H, W)."""
    found = [load_image(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    return default_preprocess(config).batch([*found, *map(ImageOps.mirror, found)])


def noise(config: ModelConfig, count: int) -> Tensor:
    """Standard normal images of the network's input size: (count, C, H, W)."""
    shape = (count, config.in_chans, *config.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def sample(config: ModelConfig) -> Tensor:
    """Two photos and one image of noise, at the network's size but at most MAX_SIDE: (3, C, H, W)."""
    height, width = (min(side, MAX_SIDE) for side in config.input_size)
    small = replace(config, input_size=(height, width))
    return torch.cat([photos(small)[:2], noise(small, 1)])


# The command


def cases(names: list[str], libraries: tuple[str, ...]) -> list[tuple[ModelConfig, str]]:
    """(configuration, library) of every pair the command compares.

    Raises:
        ValueError: for an unknown name, or one without a counterpart in any of the libraries.
    """
    networks: list[tuple[str, dict[str, Any]]] = [*((name, {}) for name in list_models()), *VARIANTS]
    configs = [model_config(name, **more) for name, more in networks if not names or name in names]
    found = [(c, library) for c in configs for library in libraries if has_counterpart(c, library)]
    for name in names:
        if name not in {config.name for config, _ in found}:
            model_config(name)
            raise no_counterpart(name, *libraries)
    return found


def lines(report: Report) -> Iterator[str]:
    """A report as text: the counts, then a line for each mode and precision."""
    counts = {"parameters": report.parameters, "MACs": report.macs, "keys": report.keys}
    counted = [
        f"{name} {ours:,}" if ours == theirs else f"{name} {ours:,} AGAINST {theirs:,}"
        for name, (ours, theirs) in counts.items()
    ]
    yield f"{report.model} = {report.reference}: {VERDICT[report.is_equal]}"
    yield f"  {', '.join(counted)}; input {_plain(report.input_size)}"
    for key in report.missing:
        yield f"  only in ours: {key}"
    for key in report.unexpected:
        yield f"  only in theirs: {key}"
    for mode, precision in dict.fromkeys((each.mode, each.precision) for each in report.differences):
        row = [each for each in report.differences if (each.mode, each.precision) == (mode, precision)]
        yield f"  {mode:5} {precision}  " + "  ".join(map(_cell, row))


def _cell(each: Difference) -> str:
    """The relative difference, for logits with the absolute one; 0 where every bit is the same."""
    absolute = f" (absolute {each.max_abs:.1e})" if each.what == "logits" and each.max_abs else ""
    relative = f"{each.relative:.1e}" if each.max_abs else "0"
    return f"{each.what} {relative}{absolute}" + ("" if each.is_equal else f" > {each.tolerance:.0e}")


def full_result(config: ModelConfig, library: str) -> tuple[dict[str, Any], str]:
    """Everything compared on `sample`, as a JSON document and as text."""
    report = compare(config, library, sample(config))
    return asdict(report) | {"equal": report.is_equal}, "\n".join(lines(report))


def grid_result(config: ModelConfig, library: str) -> tuple[dict[str, Any], str]:
    """The grid, as a JSON document and as text."""
    logits = compare_grid(config, library)
    worst = largest(logits.values())
    is_equal = worst <= TOLERANCES["fp32"]["forward"]
    names = {"model": label(config), "reference": provenance(config, library)}
    text = f"{' = '.join(names.values())}: {VERDICT[is_equal]}, fp32 logits {worst:.1e} at most"
    return names | {"logits": logits, "equal": is_equal}, text


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        program_name("resnet_hub.parity"),
        description="Compare our networks with timm's and torchvision's, the same weights in both. "
        "Exits with 1 when any pair differs.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all with a counterpart)")
    parser.add_argument("--reference", choices=LIBRARIES, help="one library only (default: both)")
    sizes = f"inputs of {listed(GRID_SIZES)} pixels, batches of {listed(GRID_COUNTS)}, photos and noise"
    parser.add_argument("--grid", action="store_true", help=f"fp32 logits only, {sizes}; takes minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when all pairs are the same, 1 when one differs, 2 when one cannot be compared."""
    options = parse_arguments(arguments)
    return run_command("resnet_hub.parity", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    result = grid_result if options.grid else full_result
    libraries = (options.reference,) if options.reference else LIBRARIES
    documents = []
    for config, library in cases(options.names, libraries):
        document, text = result(config, library)
        documents.append(document)
        if not options.json:
            print(text, flush=True)
    different = [document["model"] for document in documents if not document["equal"]]
    if options.json:
        print(json.dumps({"equal": not different, "reports": documents}, indent=2))
        return 1 if different else 0
    for images in documents[0]["logits"] if options.grid else []:
        print(f"worst of {images}: {largest(document['logits'][images] for document in documents):.1e}")
    print(f"{len(documents)} pairs, {len(different)} different {'; '.join(different)}".rstrip())
    return 1 if different else 0
