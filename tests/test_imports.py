"""Who may import whom: the layers, the packages that only some rooms may use, and what must start light.

Read from the sources, so that imports inside functions count as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import ROOT

import resnet_hub

# From the bottom up. A room imports from layers below its own, and from itself.
LAYERS = (
    {"errors", "command", "stacks"},
    {"folders"},
    {"config", "preprocess", "device", "files", "statement", "cli"},
    {"decoding", "models", "per_image", "reading"},
    {"onnx_file"},
    {"geometry"},
    {"hub"},
    {"engine"},
    {"predict"},
    {"interop", "lab"},
    {"parity", "convert", "family", "bench"},  # commands
    {"web"},
    {"ui", "training"},
    {"app"},
)
LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
UPWARD = {  # (module, room above): why; allowed inside functions only
    ("resnet_hub.models.base", "hub"): "from_pretrained, save_pretrained and push_to_hub of a network",
    ("resnet_hub.models.base", "predict"): "predict of a network",
}
HEAVY = {"torch", "torchvision", "timm", "gradio", "matplotlib", "transformers", "onnxruntime", "openvino"}
LIGHT = [  # what starts without any of these: the page, the one command, and what they list
    "resnet_hub",
    "resnet_hub.cli",
    "resnet_hub.decoding",
    "resnet_hub.engine",
    "resnet_hub.geometry",
    "resnet_hub.models.registry",
    "resnet_hub.onnx_file",
    "resnet_hub.predict",
    "resnet_hub.preprocess",
]


class Import(NamedTuple):
    """One import of a module of ours or of another package; `is_lazy` inside a function."""

    module: str
    imported: str
    is_lazy: bool


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path
    for folder in ("resnet_hub", "training")
    for path in sorted((ROOT / folder).rglob("*.py"))
} | {"app": ROOT / "app.py"}


def names_in(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, "imports are absolute"
    for alias in node.names:
        full = f"{node.module}.{alias.name}"
        if node.module == "resnet_hub" and alias.name in resnet_hub._HOME_OF:  # resolved on first use
            yield f"resnet_hub.{resnet_hub._HOME_OF[alias.name]}"
        else:
            is_ours = node.module.partition(".")[0] in ("resnet_hub", "training", "app")
            yield node.module if is_ours and full not in MODULES else full


def imports_of(module: str) -> Iterator[Import]:
    """Every import in a file but those for type checkers alone."""

    def walk(node: ast.AST, is_lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from (Import(module, name, is_lazy) for name in names_in(child))
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            else:
                is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, is_lazy or is_function)

    return walk(ast.parse(MODULES[module].read_text(encoding="utf-8")), is_lazy=False)


GRAPH = {module: list(imports_of(module)) for module in MODULES}


def room_of(module: str) -> str:
    """The room of one of our modules: its first name inside `resnet_hub`; "" for `resnet_hub` itself."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "resnet_hub" else first


def is_allowed(found: Import) -> bool:
    if found.imported not in MODULES or found.imported == "resnet_hub":
        return True
    above, below = room_of(found.module), room_of(found.imported)
    is_upward_by_rule = found.is_lazy and (found.module, below) in UPWARD
    return above == below or LAYER_OF[below] < LAYER_OF[above] or is_upward_by_rule


def test_every_room_has_a_layer():
    assert {room_of(module) for module in MODULES} - {""} == LAYER_OF.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_one_way(module):
    assert [found for found in GRAPH[module] if not is_allowed(found)] == []


def test_every_exception_is_still_needed():
    used = {(found.module, room_of(found.imported)) for imports in GRAPH.values() for found in imports}
    assert set(UPWARD) <= used


def test_no_two_modules_need_each_other_to_be_imported():
    at_import = {
        module: {found.imported for found in imports if not found.is_lazy and found.imported in MODULES}
        - {module}
        for module, imports in GRAPH.items()
    }
    TopologicalSorter(at_import).prepare()  # raises CycleError, naming the circle


def test_only_the_page_imports_gradio_and_nothing_pyplot_s_global_state():
    imported = {(room_of(found.module), found.imported) for imports in GRAPH.values() for found in imports}
    assert {room for room, name in imported if name.partition(".")[0] == "gradio"} == {"ui", "app"}
    assert not [name for _, name in imported if name.startswith("matplotlib.pyplot")]


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_imports_no_heavy_package(module):
    script = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_the_page_s_modules_import_no_torch_at_their_top():
    """app.py answers its first visitor before torch is there."""
    waiting, seen = ["app"], set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            found = [each.imported for each in GRAPH.get(module, []) if not each.is_lazy]
            assert not {name.partition(".")[0] for name in found} & {"torch", "torchvision", "timm"}, module
            waiting += found
