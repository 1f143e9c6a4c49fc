"""Starting Gradio: without the editor stubs it writes at each import, without a proxy between it and itself.

While a component class is defined, gradio parses its source and compares it with a `.pyi` file for editors:
nearly half of the processor time of `import gradio` (measured: 4.0 of it 1.9 seconds on a slow core, gradio
6.31). Nothing reads those files at run time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder

LOOPBACK = ("localhost", "127.0.0.1", "::1")
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


@contextmanager
def without_proxy(everywhere: bool) -> Iterator[None]:
    """Keep loopback out of the environment's proxy for good, and inside the block every address.

    Gradio asks its own server whether it is there, and a client fails to be made where the proxy's scheme
    (socks5://) needs a package that is not installed, whatever the address.

    Args:
        everywhere: False inside the block too, where a tunnel is opened through the proxy.
    """
    for name in ("NO_PROXY", "no_proxy"):
        given = os.environ.get(name) or os.environ.get(name.swapcase(), "")
        hosts = [host for host in given.split(",") if host]
        os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
    after = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy")}
    if everywhere:
        os.environ.update(dict.fromkeys(after, "*"))
    try:
        yield
    finally:
        os.environ.update(after)
