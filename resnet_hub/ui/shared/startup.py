"""A faster start: gradio without the editor stubs it writes each time it is imported.

While a component class is defined, gradio parses its source and compares it with a `.pyi` file for editors:
nearly half of the processor time of `import gradio` (measured: 4.0 of it 1.9 seconds on a slow core, gradio
6.31). Nothing reads those files at run time.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder

MODULE, WRITER = "gradio.component_meta", "create_or_modify_pyi"


class WithoutStubs(MetaPathFinder):
    """Finds gradio's module of component classes and, once it is loaded, turns off what writes the stubs."""

    def find_spec(self, name: str, path, target=None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_without_writer(module) -> None:
            load(module)
            if hasattr(module, WRITER):  # renamed in another version: then the start is only slower
                setattr(module, WRITER, lambda *_: None)

        spec.loader.exec_module = load_without_writer  # type: ignore[method-assign]
        return spec


def import_gradio_without_stubs() -> None:
    """Call before anything imports gradio; later it changes nothing."""
    if MODULE not in sys.modules:
        sys.meta_path.insert(0, WithoutStubs())
