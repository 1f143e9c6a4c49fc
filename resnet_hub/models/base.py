"""The base class of every network: a module that knows its configuration, labels, preprocessing, calibration.

Its methods that load, save, upload or predict import `hub` and `predict` when they are called. Those imports
are the only ones that point up, so a network can be built without either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from resnet_hub.config import ModelConfig
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import Preprocess

SMALL = 64  # pixels a side, up to which the whole image is shown, with CIFAR-10's statistics
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def default_preprocess(config: ModelConfig) -> Preprocess:
    """ImageNet's evaluation pipeline; up to 64 pixels the whole image, with CIFAR-10's statistics."""
    size = (config.in_chans, *config.input_size)
    if config.in_chans != 3:
        half = (0.5,) * config.in_chans
        return Preprocess(input_size=size, crop_pct=1.0, mean=half, std=half)
    if max(config.input_size) <= SMALL:
        return Preprocess(input_size=size, crop_pct=1.0, mean=CIFAR_MEAN, std=CIFAR_STD)
    return Preprocess(input_size=size)


class Network(nn.Module):
    """A network with all that is needed to use it: (N, in_chans, H, W) -> logits (N, num_classes).

    Attributes:
        config: the `ModelConfig` it was built from.
        labels: class names, `num_classes` of them ("0", "1", ... until others are given).
        preprocess: how an image becomes its input.
        calibration: temperature and threshold fitted on the validation set.
        revision: commit of the weights, "shipped" or "local"; None for fresh random weights.
        source: repository id or directory it was loaded from; None for a fresh network.
    """

    config: ModelConfig
    features: Callable[[Tensor], list[Tensor]]  # images (N, in_chans, H, W) -> the map leaving each stage

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.labels: tuple[str, ...] = tuple(str(i) for i in range(config.num_classes))
        self.preprocess = default_preprocess(config)
        self.calibration = Calibration()
        self.revision: str | None = None
        self.source: str | None = None

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier, as timm calls it."""
        return self.config.num_classes

    @property
    def first_conv(self) -> str:
        """Name of the convolution that reads the image."""
        return next(name for name, module in self.named_modules() if isinstance(module, nn.Conv2d))

    @property
    def classifier_name(self) -> str | None:
        """Name of the last layer; None on a headless network."""
        linears = [name for name, module in self.named_modules() if isinstance(module, nn.Linear)]
        return linears[-1] if self.config.num_classes else None

    @property
    def fixed_input_size(self) -> bool:
        """Whether images must have the configuration's size."""
        return False

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """For each map of `features`: `module` it leaves, its channels `num_chs`, its stride `reduction`."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last feature map (N, C, h, w) -> logits (N, num_classes), or with `pre_logits` what enters the
        classifier, as in timm."""
        raise NotImplementedError

    def head(self, x: Tensor) -> Tensor:
        """Last feature map (N, C, h, w) -> logits (N, num_classes)."""
        return self.forward_head(x)

    # What else timm and transformers ask of a network.

    @property
    def num_features(self) -> int:
        """Channels of the last feature map."""
        return self.feature_info[-1]["num_chs"]

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the last feature map (N, num_features, h, w)."""
        return self.features(x)[-1]

    def get_classifier(self) -> nn.Module:
        """The last layer; the identity on a headless network."""
        return self.get_submodule(self.classifier_name) if self.classifier_name else nn.Identity()

    # From here on, methods reach up: `predict` and `hub` are imported when they are called.

    def predict(self, images: Any, top_k: int = 5) -> list[list[tuple[str, float]]]:
        """Class probabilities of images.

        Args:
            images: a path, PIL image, bytes or open file, or a list of them.
            top_k: how many classes to return for each, most probable first.

        Returns:
            One list of (label, calibrated probability) for each image, also for a single image.

        Raises:
            ImageError: for an image that cannot be read.
            ValueError: for a network without classes, or one that does not take an image's channels.
        """
        from resnet_hub.predict import check_labels_images, classify

        check_labels_images(self)
        images = images if isinstance(images, (list, tuple)) else [images]
        return [prediction.top for prediction in classify(self, images, top_k=top_k)]

    def save_pretrained(
        self, save_directory: str | Path, *, card: str | None = None, half: bool = False
    ) -> None:
        """Write `config.json`, `model.safetensors` and `README.md` (`card`, or one made of what is known).

        Args:
            half: store the weights of convolutions and linear layers as float16, in half the bytes; they are
                widened to float32 on loading.

        Raises:
            Refusal: for what `from_pretrained` would refuse, a head that does not fit `config` for instance;
                with `half`, for weights that float16 cannot hold.
        """
        from resnet_hub.hub.save import save_checkpoint

        save_checkpoint(self, Path(save_directory), card=card, half=half)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        half: bool = False,
    ) -> str:
        """Upload the checkpoint to `repo_id` in one commit, creating the repository; returns its address.

        A model card that is already there is merged with the new one (see `hub/card_merge.py`), and what a
        training run recorded there of other weights is deleted; `half` is that of `save_pretrained`.

        Raises:
            CheckpointError: when the upload fails.
            Refusal: as `save_pretrained`.
        """
        from resnet_hub.hub.save import push_checkpoint

        return push_checkpoint(self, repo_id, private=private, token=token, half=half)

    @classmethod
    def from_pretrained(cls, repo_id_or_dir: str | Path, **options: Any) -> Self:
        """`resnet_hub.from_pretrained`, refusing a checkpoint of another class.

        Raises:
            CheckpointError: for a checkpoint that cannot be used, or holds another kind of network.
        """
        from resnet_hub.hub.fetch import CheckpointError
        from resnet_hub.hub.load import from_pretrained

        model = from_pretrained(str(repo_id_or_dir), **options)
        if not isinstance(model, cls):
            raise CheckpointError(f"{repo_id_or_dir} holds a {type(model).__name__}, not a {cls.__name__}")
        return model


HubModel = Network  # the name that code outside this repository imports
