"""The networks: `registry.py` is the table of their names, `plans.py` their layers, `build.py` makes one."""
