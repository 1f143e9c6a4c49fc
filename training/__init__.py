"""The commands that make checkpoints: `python -m training.cifar`, `training.evaluate`. They import
`resnet_hub`, never the other way round."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m training.NAME` imports this first, then torch
    from resnet_hub.command import end_while_importing

    end_while_importing()
