"""What a network is, as data: frozen, validated dataclasses.

One description builds the network, is written into `config.json` and feeds every formula about it. It is
checked without torch, so a hostile configuration is refused before a single tensor is made.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, Self, get_args, get_type_hints

from resnet_hub.errors import Refusal

# (least, most) of each number; hub/load.py also holds a network against the size of its weights file
BOUNDS: dict[str, tuple[float, float]] = {
    "num_classes": (0, 100_000),
    "in_chans": (1, 64),
    "input_size": (1, 4096),
    "depths": (1, 200),
    "widths": (1, 4096),
    "strides": (1, 8),
    "stem_width": (1, 4096),
    "base_width": (1, 1024),
    "drop_rate": (0.0, 0.95),
}
MOST_CONV_WEIGHTS = 4_000_000_000


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Fields of every network.

    Args:
        name: the registry name this configuration started from.
        num_classes: outputs of the classifier; 0 builds a headless network that returns pooled features.
        in_chans: channels of the input image.
        input_size: (height, width) in pixels of the images it is meant for; an int means a square.
        drop_rate: probability of dropping an activation while training.

    Raises:
        ValueError: with the value seen and the values allowed.
    """

    name: str
    num_classes: int = 1000
    in_chans: int = 3
    input_size: tuple[int, int] = (224, 224)
    drop_rate: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.input_size, int):
            object.__setattr__(self, "input_size", (self.input_size, self.input_size))
        for name, kind in _kinds(type(self)).items():  # type: ignore[arg-type]  # it is the class that is hashed
            object.__setattr__(self, name, _checked(self.name, name, kind, getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Every field, JSON-ready."""
        return asdict(self)

    def override(self, **overrides: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            ValueError: for a field this network does not have, or one that would change nothing on it.
        """
        changeable = {field.name for field in fields(self)} - self.fixed_fields()
        # Idle fields depend on the other overrides: a plain net given a shortcut takes zero_init_residual.
        structure = {k: v for k, v in overrides.items() if k in changeable - {"zero_init_residual"}}
        allowed = changeable - replace(self, **structure).idle_fields()
        if "pretrained" in overrides:
            raise Refusal(
                "create_model makes fresh weights; resnet_hub.from_pretrained loads trained ones, those of "
                f"timm/{self.name}.a1_in1k for instance"
            )
        for name in overrides:
            if name in self.fixed_fields() - {"name"}:
                raise Refusal(
                    f"{self.name}: {name} is part of what the name stands for; "
                    f"build_network({type(self).__name__}(name=..., {name}=..., ...)) makes one of your own"
                )
            if name not in allowed:
                others = "".join(f", {k}={v!r}" for k, v in overrides.items() if k != name)
                raise Refusal(
                    f"{self.name}{others}: {name}={overrides[name]!r} has no effect on this network; "
                    f"it takes {', '.join(sorted(allowed))}"
                )
        return replace(self, **overrides)

    def fixed_fields(self) -> set[str]:
        """Fields that define the named network; to change one, choose another name."""
        return {"name"}

    def idle_fields(self) -> set[str]:
        """Fields that have no effect on this network."""
        return set()


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """A residual network; the defaults are ResNet-18 with the ImageNet stem (arXiv 1512.03385, table 1).

    Args:
        block: "basic" (two 3x3), "bottleneck" (1x1, 3x3, 1x1), "preact" (BN-ReLU-conv, arXiv 1605.07146) or
            "pooled" (3x3, max pooling by the stride, then a residual unit of one 3x3; GELU for ReLU).
        depths: blocks in each stage.
        widths: channels of each stage before the block's expansion (4 for the bottleneck, else 1).
        stem_width: channels leaving the stem.
        base_width: inner width of a bottleneck in 64ths of its stage's; 128 is `wide_resnet50_2`.
        stem: "imagenet" 7x7 stride 2, "cifar" 3x3 stride 1, "deep" three 3x3, the first with stride 2.
        maxpool: 3x3 stride 2 after the stem; None means yes, unless the stem is "cifar".
        strides: stride of each stage's first block.
        shortcut: "projection" (1x1 conv + BN where shapes change), "zeropad" (option A), "none" (plain net);
            the first two are the same for pooled blocks, which add after pooling, where shapes agree.
        stride_in: which convolution of a bottleneck halves the size: "3x3" (v1.5) or "1x1" (v1, the paper).
        zero_init_residual: start every block as the identity (last batch-norm weight 0).
        global_pool: "avg" or "max" over the last feature map.
    """

    block: Literal["basic", "bottleneck", "preact", "pooled"] = "basic"
    depths: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    base_width: int = 64
    stem: Literal["imagenet", "cifar", "deep"] = "imagenet"
    maxpool: bool | None = None
    strides: tuple[int, ...] = (1, 2, 2, 2)
    shortcut: Literal["projection", "zeropad", "none"] = "projection"
    stride_in: Literal["3x3", "1x1"] = "3x3"
    zero_init_residual: bool = False
    global_pool: Literal["avg", "max"] = "avg"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("widths", "strides"):
            if len(getattr(self, name)) != len(self.depths):
                raise Refusal(
                    f"{self.name}: {name}={getattr(self, name)} has {len(getattr(self, name))} entries, "
                    f"but the network has {len(self.depths)} stages; give one for each"
                )
        if self.block == "bottleneck" and min(self.widths) * self.base_width < 64:
            raise Refusal(
                f"{self.name}: base_width={self.base_width} leaves a bottleneck of width {min(self.widths)} "
                f"without channels; give {-(-64 // min(self.widths))} or more"
            )
        outputs = [self.stem_width, *(width * self.expansion for width in self.widths)]
        if self.shortcut == "zeropad" and outputs != sorted(outputs):
            raise Refusal(
                f"{self.name}: shortcut='zeropad' can only add channels, and they go {outputs}; "
                "use shortcut='projection'"
            )
        if self.conv_weights_bound > MOST_CONV_WEIGHTS:
            raise Refusal(
                f"{self.name}: depths={self.depths} at widths={self.widths} would have up to "
                f"{self.conv_weights_bound:,} weights; {MOST_CONV_WEIGHTS:,} is the most that is built"
            )
        if self.stem == "deep" and self.stem_width < 2:
            raise Refusal(f"{self.name}: stem='deep' halves stem_width={self.stem_width}; give 2 or more")
        if self.zero_init_residual and "zero_init_residual" in self.idle_fields():
            raise Refusal(
                f"{self.name}: zero_init_residual=True needs a shortcut and a batch norm at the end of each "
                f"block; this one has shortcut={self.shortcut!r} and block={self.block!r}"
            )

    @property
    def expansion(self) -> int:
        """Output channels of a block divided by its stage's width."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def conv_weights_bound(self) -> int:
        """Upper bound on the stages' convolution weights: three 3x3 of the widest channels a block."""
        widest = (max(width * self.expansion, width * self.base_width // 64) for width in self.widths)
        return sum(27 * depth * wide**2 for depth, wide in zip(self.depths, widest, strict=True))

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return self.widths[-1] * self.expansion

    @property
    def has_maxpool(self) -> bool:
        """Whether a 3x3 stride-2 max pooling follows the stem."""
        return self.stem != "cifar" if self.maxpool is None else self.maxpool

    def fixed_fields(self) -> set[str]:
        """As in `ModelConfig`, and the shape of the blocks."""
        return super().fixed_fields() | {"block", "depths", "widths", "stem_width", "base_width"}

    def idle_fields(self) -> set[str]:
        """What has no effect on these blocks."""
        idle: set[str] = set() if self.block == "bottleneck" else {"stride_in", "base_width"}
        if self.block == "preact" or self.shortcut == "none":
            idle.add("zero_init_residual")
        return idle


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(ModelConfig):
    """One of the networks before ResNet.

    Args:
        kind: which one; the layers are in `models/plans.py`.
        batch_norm: batch norm after each convolution, which then has no bias; None means as published.
    """

    kind: Literal["lenet5", "alexnet", "vgg16", "vgg_cifar", "cifar10net"]
    batch_norm: bool | None = None

    def fixed_fields(self) -> set[str]:
        """As in `ModelConfig`, and the kind."""
        return super().fixed_fields() | {"kind"}

    def idle_fields(self) -> set[str]:
        """Dropout, where the network has none."""
        return {"drop_rate"} if self.kind in ("lenet5", "vgg_cifar") else set()


def config_from_dict(values: dict[str, Any]) -> ModelConfig:
    """The inverse of `to_dict`, for unchecked values.

    Raises:
        ValueError: naming an unknown or missing field, or a value out of bounds.
    """
    kind: type[ModelConfig] = BaselineConfig if "kind" in values else ResNetConfig
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(values) - set(known))
    missing = sorted(n for n, f in known.items() if f.default is MISSING and n not in values)
    if unknown or missing:
        raise Refusal(f"network configuration: unknown fields {unknown}, missing fields {missing}")
    return kind(**values)


@cache  # reading annotations costs a millisecond, and Explore makes many configurations
def _kinds(config: Hashable) -> dict[str, Any]:
    return get_type_hints(config)


def _checked(net: str, name: str, kind: Any, value: Any) -> Any:
    """`value`, with lists turned into tuples; a Refusal says what is allowed."""
    choices = get_args(kind)
    if kind is str:
        ok, allowed = isinstance(value, str) and 0 < len(value) <= 96, "a short text"
    elif choices and all(isinstance(choice, str) for choice in choices):
        ok, allowed = isinstance(value, str) and value in choices, f"one of {', '.join(choices)}"
    elif kind is bool or bool in choices:
        ok = isinstance(value, bool) or (value is None and bool in choices)
        allowed = "True or False"
    else:
        return _checked_numbers(net, name, kind, value)
    if not ok:
        raise Refusal(f"{net}: {name}={value!r} is not allowed; give {allowed}")
    return value


def _checked_numbers(net: str, name: str, kind: Any, value: Any) -> Any:
    least, most = BOUNDS[name]
    many = bool(get_args(kind))
    number = (int, float) if kind is float else int
    entries = tuple(value) if many and isinstance(value, (list, tuple)) else (value,)
    lengths = (2,) if name == "input_size" else range(1, 9)
    shape_ok = not many or (isinstance(value, (list, tuple)) and len(entries) in lengths)
    numbers_ok = all(
        isinstance(entry, number) and not isinstance(entry, bool) and least <= entry <= most
        for entry in entries
    )
    if not (shape_ok and numbers_ok):
        what = "a number" if not many else "two numbers" if name == "input_size" else "a list of numbers"
        seen = repr(value) if len(repr(value)) < 60 else repr(value)[:60] + "..."
        raise Refusal(f"{net}: {name}={seen} is not allowed; give {what} from {least} to {most}")
    return entries if many else value
