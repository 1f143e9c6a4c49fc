"""The networks: `resnet.py`, `wide_resnet.py`, `baselines.py`; `registry.py` is the table of their names."""
