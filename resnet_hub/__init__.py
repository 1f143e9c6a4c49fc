"""A ResNet library for PyTorch and the Hugging Face Hub.

Importing it takes a few milliseconds: names are resolved on first use, so that a command's `--help`, the page
and a Space's start-up do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_hub.config import BaselineConfig, ModelConfig, ResNetConfig
    from resnet_hub.errors import Refusal
    from resnet_hub.geometry import trace
    from resnet_hub.hub.fetch import CheckpointError
    from resnet_hub.hub.load import from_pretrained
    from resnet_hub.interop.register_timm import register_timm
    from resnet_hub.models.base import HubModel, Network
    from resnet_hub.models.build import build_network, create_model
    from resnet_hub.models.registry import list_models, model_config
    from resnet_hub.predict import Prediction
    from resnet_hub.preprocess import ImageError, Preprocess, load_image

__version__ = "0.1.0"

_HOME_OF = {
    "ModelConfig": "config",
    "ResNetConfig": "config",
    "BaselineConfig": "config",
    "Preprocess": "preprocess",
    "ImageError": "preprocess",
    "load_image": "preprocess",
    "trace": "geometry",
    "Prediction": "predict",
    "Network": "models.base",
    "HubModel": "models.base",
    "list_models": "models.registry",
    "create_model": "models.build",
    "build_network": "models.build",
    "model_config": "models.registry",
    "from_pretrained": "hub.load",
    "CheckpointError": "hub.fetch",
    "Refusal": "errors",
    "register_timm": "interop.register_timm",
}
__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'resnet_hub' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"resnet_hub.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
