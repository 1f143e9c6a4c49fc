"""The networks: `resnet.py`, `wide_resnet.py`, the course's `baselines.py`, and `registry.py`, their names."""
