"""What `python -m resnet_hub.bench` measures, and `training/results/speed.md` records."""
