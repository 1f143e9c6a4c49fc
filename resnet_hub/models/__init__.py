"""The networks: `resnet.py` and `wide_resnet.py`, the course's `baselines.py`, and `registry.py`, their names."""
