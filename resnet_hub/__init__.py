"""ResNets to read, to train, to load and to look at.

Importing this package costs a few milliseconds: names are resolved on first use, so that a command
line's `--help`, the web page and a Space's start-up do not wait for torch.
"""

from importlib import import_module

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
    "model_config": "models.registry",
    "from_pretrained": "hub.load",
    "register_timm": "interop.register_timm",
}
__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'resnet_hub' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"resnet_hub.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
