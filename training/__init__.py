"""The commands that make checkpoints: `python -m training.cifar`, `training.evaluate`. They import
`resnet_hub`, never the other way round."""
