"""The course's networks before and beside ResNet as one literal table: `baselines.py` builds them from it.

Apart from the classes so that `geometry.py` reads the same table without torch. Knows nothing of tensors,
files or images.
"""

from typing import NamedTuple

from resnet_hub.config import BaselineConfig


class Conv(NamedTuple):
    """One convolution; the defaults are VGG's, which keep the size."""

    out: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


class Plan(NamedTuple):
    """What one network is.

    Args:
        stages: the convolutions of each stage; a pooling with stride 2 follows it.
        hidden: widths of the fully connected layers before the classifier.
        pool: kernel of the pooling.
        batch_norm: batch norm after each convolution, which then has no bias.
        average_tanh: LeNet's average pooling and tanh instead of max pooling and ReLU.
        global_pool: average the last stage's map instead of pooling it, so that any image size fits.
    """

    stages: tuple[tuple[Conv, ...], ...]
    hidden: tuple[int, ...] = ()
    pool: int = 2
    batch_norm: bool = False
    average_tanh: bool = False
    global_pool: bool = False


def convs_3x3(*stages: tuple[int, ...]) -> tuple[tuple[Conv, ...], ...]:
    """Stages of VGG's convolutions, from their channels."""
    return tuple(tuple(Conv(out) for out in stage) for stage in stages)


VGG16 = convs_3x3((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

PLANS = {
    # LeCun et al. 1998, without its trained poolings, partly connected maps and RBF outputs.
    "lenet5": Plan(
        stages=((Conv(6, 5, padding=0),), (Conv(16, 5, padding=0),)), hidden=(120, 84), average_tanh=True
    ),
    # Krizhevsky et al. 2012 as if on one GPU: no groups, and no local response normalisation, which later
    # networks dropped. torchvision's and timm's nets starting with 64 channels are arXiv 1404.5997's.
    "alexnet": Plan(
        stages=(
            (Conv(96, 11, stride=4, padding=2),),
            (Conv(256, 5, padding=2),),
            (Conv(384), Conv(384), Conv(256)),
        ),
        hidden=(4096, 4096),
        pool=3,
    ),
    # Simonyan and Zisserman, arXiv 1409.1556, configuration D; keys are torchvision's.
    "vgg16": Plan(stages=VGG16, hidden=(4096, 4096)),
    "vgg_cifar": Plan(stages=VGG16, batch_norm=True),
    "cifar10net": Plan(
        stages=convs_3x3((64, 128), (256, 256), (512, 512)), batch_norm=True, global_pool=True
    ),
}


def plan_of(config: BaselineConfig) -> Plan:
    """The layers of a configuration: its network's, with batch norm where that is asked for or not."""
    plan = PLANS[config.kind]
    return plan if config.batch_norm is None else plan._replace(batch_norm=config.batch_norm)
