"""Is this the same network? Ours against timm's or torchvision's, the same weights in both.

    python -m resnet_hub.parity resnet50 resnet18_cifar --reference timm
    python -m resnet_hub.parity --grid

Parameters, cost, keys, and on the same images logits, stages, gradients and statistics. Knows nothing of
checkpoints or of the page; how a counterpart is built is `counterpart.py`'s.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import ImageOps
from torch import Tensor, nn

from resnet_hub.config import ModelConfig
from resnet_hub.geometry import counted_macs, totals, trace
from resnet_hub.interop.counterpart import LIBRARIES, counterpart, has_counterpart, none_in, provenance
from resnet_hub.models.base import default_preprocess
from resnet_hub.models.build import build_network
from resnet_hub.models.initialise import SkipRandomFill
from resnet_hub.models.registry import list_models, model_config
from resnet_hub.preprocess import load_image

# Of the largest value compared. The operations are the same, so fp32 differs by their order at most.
TOLERANCES = {"fp32": {"forward": 1e-5, "gradient": 1e-4}, "bf16": {"forward": 2e-2, "gradient": 2e-2}}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
VARIANTS: list[tuple[str, dict[str, Any]]] = [  # what no name stands for, and a counterpart exists
    ("resnet18", {"stem": "deep"}),
    ("resnet50", {"stem": "deep"}),
    ("resnet50", {"stride_in": "1x1"}),
    ("resnet18", {"strides": (1, 2, 2, 1), "maxpool": False}),
    ("resnet20_cifar", {"shortcut": "projection"}),
]
MOST_SIDE = 64  # of the command's images, so that every network of the table takes seconds
SIZES, COUNTS = (32, 64, 75, 224), (1, 7)  # of the grid's images
PHOTOS = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Difference:
    """How far one thing differs.

    Args:
        mode: "eval" or "train".
        precision: "fp32" or "bf16", of weights and images.
        what: "logits", a stage's module name, "gradients" or "statistics" (running means and variances).
        where: the tensor of gradients or statistics that differs most; "" for a single tensor.
        max_abs: largest absolute difference.
        relative: the same divided by the largest absolute value of the reference's tensor.
        tolerance: the most that `relative` may be.
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
        return self.relative <= self.tolerance  # False for NaN


@dataclass(frozen=True)
class Report:
    """One of our networks beside its counterpart.

    Args:
        model: name, with overrides.
        reference: library and how its network was come by.
        input_size: (N, C, H, W) of the images.
        parameters, macs, keys: (ours, theirs); MACs for one image, theirs counted by torch's FLOP counter.
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
        counts = (self.parameters, self.macs, self.keys)
        return (
            all(a == b for a, b in counts)
            and not self.missing + self.unexpected
            and all(each.is_equal for each in self.differences)
        )


def label(config: ModelConfig) -> str:
    """The network's name and what differs from what the name says, e.g. "resnet50 stem=deep"."""
    usual = model_config(config.name).to_dict() if config.name in list_models() else {}
    usual |= {"drop_rate": config.drop_rate}  # a comparison runs without dropout
    changed = [f"{k}={_plain(v)}" for k, v in config.to_dict().items() if usual.get(k, v) != v]
    return " ".join([config.name, *changed])


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def drawn_weights(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Random values for every entry of a state dict, batch-norm weights, biases and statistics included.

    timm starts the last batch norm of each block at zero: compared fresh, no residual branch would count.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, like in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        elif like.ndim > 1:  # He's scale keeps the signal through the depth
            state[key] = torch.randn(like.shape, generator=generator) * math.sqrt(2 / like[0].numel())
        elif key.endswith(("running_var", "weight")):
            state[key] = torch.rand(like.shape, generator=generator) + 0.5
        else:
            state[key] = torch.randn(like.shape, generator=generator) * 0.1
    return state


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """(largest absolute difference, the same over the largest absolute value of `theirs`)."""
    if ours.shape != theirs.shape:
        return math.inf, math.inf
    apart = (ours.double() - theirs.double()).abs().max().item()
    largest = theirs.double().abs().max().item()
    return apart, apart / largest if largest else apart


def outputs(net: nn.Module, stages: list[str], pixels: Tensor, *, gradients: bool) -> dict[str, dict]:
    """What leaves a network in its current mode, by what it is: logits, stages and, with `gradients`, the
    gradients of a fixed weighting of the logits and the running statistics after the pass.
    """
    maps: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda module, inputs, out: maps.__setitem__(name, out.detach().clone())

    hooks = [net.get_submodule(name).register_forward_hook(keep(name)) for name in stages]
    try:
        with torch.set_grad_enabled(gradients):
            logits = net(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    found = {"logits": {"": logits.detach()}} | {name: {"": maps[name]} for name in stages}
    if gradients:
        net.zero_grad()
        weighting = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2)).to(logits)
        (logits * weighting).sum().backward()
        found["gradients"] = {name: p.grad for name, p in net.named_parameters()}
        statistics = {name: b for name, b in net.named_buffers() if b.is_floating_point()}
        if net.training and statistics:  # VGG-16 has no batch norm
            found["statistics"] = statistics
    return found


def differences(
    ours: nn.Module, theirs: nn.Module, pixels: Tensor, *, mode: str, precision: str, gradients: bool = True
) -> list[Difference]:
    """Everything compared in one mode and one precision, for two networks with the same weights.

    Args:
        ours: a `Network`.
        theirs: its counterpart; both are left in `mode` and in `precision`.
        pixels: normalised images (N, C, H, W).
        mode: "eval" or "train"; "train" also moves the running statistics, as training does.
        gradients: compare these too.
    """
    stages = [info["module"] for info in ours.feature_info if not _is_empty(theirs, info["module"])]
    for net in (ours, theirs):
        net.train(mode == "train").to(DTYPES[precision])
    mine, yours = (
        outputs(net, stages, pixels.to(DTYPES[precision]), gradients=gradients) for net in (ours, theirs)
    )
    return [_worst(mode, precision, what, mine[what], yours[what]) for what in mine]


def _is_empty(net: nn.Module, name: str) -> bool:
    try:
        net.get_submodule(name)
    except AttributeError:
        return True
    return False


def _worst(mode: str, precision: str, what: str, ours: dict, theirs: dict) -> Difference:
    tolerance = TOLERANCES[precision]["gradient" if what == "gradients" else "forward"]
    apart = {key: difference(ours[key], theirs[key]) for key in theirs}
    where = max(apart, key=lambda key: apart[key][1] if apart[key][1] == apart[key][1] else math.inf)
    return Difference(mode, precision, what, where, *apart[where], tolerance)


def train_mode_fits(config: ModelConfig, images: int) -> bool:
    """Whether every batch norm would see more than one value a channel, without which it cannot train."""
    rows = [row for row in trace(config) if row.op == "batch_norm"]
    return all(images * math.prod(row.out_size) > 1 for row in rows)


def pair(config: ModelConfig, library: str) -> tuple[nn.Module, nn.Module]:
    """Our network and its counterpart, their weights still to be drawn."""
    with SkipRandomFill():
        return build_network(config), counterpart(config, library)


def compare(config: ModelConfig, library: str, pixels: Tensor, *, seed: int = 0) -> Report:
    """Build one of our networks and its counterpart, give both the same random weights, compare everything.

    Args:
        config: the network, at the size of `pixels`.
        pixels: normalised images (N, C, H, W).

    Raises:
        ParityError: when there is no counterpart.
    """
    config = replace(config, input_size=tuple(pixels.shape[2:]), drop_rate=0.0)
    ours, theirs = pair(config, library)
    keys = [list(net.state_dict()) for net in (ours, theirs)]
    missing, unexpected = ([k for k in a if k not in b] for a, b in (keys, reversed(keys)))
    return Report(
        model=label(replace(config, input_size=model_config(config.name).input_size)),
        reference=provenance(config, library),
        input_size=tuple(pixels.shape),
        parameters=tuple(sum(p.numel() for p in net.parameters()) for net in (ours, theirs)),
        macs=(totals(trace(config)).macs, counted_macs(theirs, tuple(pixels.shape[1:]))),
        keys=tuple(map(len, keys)),
        missing=missing,
        unexpected=unexpected,
        differences=[] if missing + unexpected else list(_everything(ours, theirs, pixels, seed)),
    )


def _everything(ours: nn.Module, theirs: nn.Module, pixels: Tensor, seed: int) -> Iterator[Difference]:
    weights = drawn_weights(theirs, seed)
    modes = ["eval", "train"] if train_mode_fits(ours.config, len(pixels)) else ["eval"]
    for precision in DTYPES:
        for mode in modes:
            for net in (ours, theirs):  # training moved the statistics, bf16 rounded the weights
                net.float().load_state_dict(weights)
            yield from differences(ours, theirs, pixels, mode=mode, precision=precision)


@torch.inference_mode()
def grid(config: ModelConfig, library: str) -> dict[str, float]:
    """Relative difference of the fp32 logits in eval mode, of 1 and 7 photos and images of noise, each at
    every one of SIZES; by what went in, e.g. "224x224 7 photos".
    """
    found = {}
    for size in SIZES:  # built for each: VGG-16's head is made for one size
        sized = replace(config, input_size=(size, size), drop_rate=0.0)
        nets = pair(sized, library)
        weights = drawn_weights(nets[1])
        for net in nets:
            net.eval().load_state_dict(weights)
        for kind, images in (("photos", photos(sized)), ("noise", noise(sized, max(COUNTS)))):
            for count in COUNTS:
                ours, theirs = (net(images[:count]) for net in nets)
                found[f"{size}x{size} {count} {kind}"] = difference(ours, theirs)[1]
    return found


# The command


def cases(names: list[str], libraries: tuple[str, ...]) -> list[tuple[ModelConfig, str]]:
    """(configuration, library) of every pair the command compares.

    Raises:
        ParityError, ValueError: for a name that is unknown or has no counterpart in any of the libraries.
    """
    asked = [(name, {}) for name in list_models()] + VARIANTS
    configs = [model_config(name, **more) for name, more in asked if not names or name in names]
    found = [(c, library) for c in configs for library in libraries if has_counterpart(c, library)]
    for name in names:
        if name not in {config.name for config, _ in found}:
            model_config(name)
            raise none_in(name, *libraries)
    return found


def photos(config: ModelConfig) -> Tensor:
    """The page's example photos and their mirror images as the network's input, normalised: (8, C, H, W)."""
    found = [load_image(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    return default_preprocess(config).batch([*found, *map(ImageOps.mirror, found)])


def noise(config: ModelConfig, count: int) -> Tensor:
    """Standard normal images of the network's input size: (count, C, H, W)."""
    shape = (count, config.in_chans, *config.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def sample(config: ModelConfig) -> Tensor:
    """Two photos and one image of noise, at the network's size or MOST_SIDE: (3, C, H, W)."""
    config = replace(config, input_size=tuple(min(side, MOST_SIDE) for side in config.input_size))
    return torch.cat([photos(config)[:2], noise(config, 1)])


def lines(report: Report) -> Iterator[str]:
    """A report as text: what was counted, then a line for each mode and precision."""
    sign = {True: "the same", False: "DIFFERENT"}
    counted = [
        f"{name} {a:,}" if a == b else f"{name} {a:,} AGAINST {b:,}"
        for name, (a, b) in (
            ("parameters", report.parameters),
            ("MACs", report.macs),
            ("keys", report.keys),
        )
    ]
    shape = "x".join(map(str, report.input_size))
    yield f"{report.model} = {report.reference}: {sign[report.is_equal]}"
    yield f"  {', '.join(counted)}; input {shape}"
    for key in (*report.missing, *report.unexpected):
        yield f"  only in {'ours' if key in report.missing else 'theirs'}: {key}"
    settings = list(dict.fromkeys((each.mode, each.precision) for each in report.differences))
    for mode, precision in settings:
        row = [each for each in report.differences if (each.mode, each.precision) == (mode, precision)]
        yield f"  {mode:5} {precision}  " + "  ".join(
            f"{each.what} {_short(each)}" + ("" if each.is_equal else f" > {each.tolerance:.0e}")
            for each in row
        )


def _short(each: Difference) -> str:
    """The relative difference, the logits' with the absolute one; 0 where every bit is the same."""
    if each.max_abs == 0:
        return "0"
    absolute = f" (absolute {each.max_abs:.1e})" if each.what == "logits" else ""
    return f"{each.relative:.1e}{absolute}"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m resnet_hub.parity",
        description="Ours against timm's and torchvision's networks, the same weights in both; "
        "1 when any differs.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks (default: all with a counterpart)")
    parser.add_argument("--reference", choices=LIBRARIES, help="one library only (default: both)")
    grid_help = f"only fp32 logits, at {SIZES} pixels, of {COUNTS} photos and images of noise; takes minutes"
    parser.add_argument("--grid", action="store_true", help=grid_help)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when all are the same, 1 when one differs, 2 with one line when none can be compared."""
    options = parse_arguments(arguments)
    libraries = (options.reference,) if options.reference else LIBRARIES
    documents = []
    try:
        for config, library in cases(options.names, libraries):
            document, text = (gridded if options.grid else reported)(config, library)
            documents.append(document)
            if not options.json:
                print(text, flush=True)
    except (ValueError, ImportError) as error:
        print(f"resnet_hub.parity: {error}", file=sys.stderr)
        return 2
    different = [document["model"] for document in documents if not document["equal"]]
    if options.json:
        print(json.dumps({"equal": not different, "reports": documents}, indent=2))
        return 1 if different else 0
    for images in documents[0]["logits"] if options.grid else []:
        print(f"worst of {images}: {largest(document['logits'][images] for document in documents):.1e}")
    print(f"{len(documents)} pairs, {len(different)} different {'; '.join(different)}".rstrip())
    return 1 if different else 0


def reported(config: ModelConfig, library: str) -> tuple[dict[str, Any], str]:
    """Everything compared on `sample`, for a program and for a person."""
    report = compare(config, library, sample(config))
    return asdict(report) | {"equal": report.is_equal}, "\n".join(lines(report))


def gridded(config: ModelConfig, library: str) -> tuple[dict[str, Any], str]:
    """The grid, for a program and for a person."""
    found = grid(config, library)
    worst = largest(found.values())
    document = {
        "model": label(config),
        "reference": provenance(config, library),
        "logits": found,
        "equal": worst <= TOLERANCES["fp32"]["forward"],
    }
    sign = "the same" if document["equal"] else "DIFFERENT"
    return document, f"{document['model']} = {document['reference']}: {sign}, fp32 logits {worst:.1e} at most"


def largest(values: Iterable[float]) -> float:
    """The largest, where NaN is larger than everything."""
    return max(math.inf if math.isnan(value) else value for value in values)
