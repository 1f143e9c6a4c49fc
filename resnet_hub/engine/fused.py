"""A network as a graph with less to do: batch norm folded, activations and shortcuts inside the convolutions.

It computes what the network computes in eval mode. On a CPU its convolutions are oneDNN's: weights laid out
for this processor, ReLU and the shortcut's addition done while a value is still in a register.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnet_hub.models.base import Network

RELUS = (F.relu, torch.relu)
ADDS = (operator.add, torch.add, operator.iadd)

_TRACING = threading.Lock()


def fused(
    net: nn.Module, dtype: torch.dtype = torch.float32, *, size: tuple[int, ...] | None = None
) -> nn.Module:
    """An equivalent of `net` in eval mode that owns copies of all its weights.

    Args:
        net: left as it is; one whose forward cannot be traced is only copied.
        dtype: of the body; a last linear layer stays in float32, because probabilities follow from it.
        size: (N, C, H, W) of the batches, for which oneDNN's fused convolutions are laid out where they take
            a layer; None, or a device that is no CPU, keeps torch's own. What is laid out for one image is
            slow for several, and the other way round.

    Returns:
        A module in eval mode: (N, C, H, W) float32 -> (N, classes) float32.
    """
    own = copy.deepcopy(net).eval().requires_grad_(False)
    try:
        # A network's own forward may look at its input's shape first, which cannot be traced.
        graph = traced(Stages(own) if isinstance(own, Network) else own)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return Cast(own.to(dtype).to(memory_format=torch.channels_last), dtype)
    fold_batch_norms(graph)
    last = widen_last_linear(graph, dtype)
    graph.to(dtype)
    if last is not None:
        graph.get_submodule(last).float()
    graph.to(memory_format=torch.channels_last)
    if size is not None and next(graph.parameters()).device.type == "cpu":
        Sizes(graph).run(torch.zeros(size, dtype=dtype))
        use_one_dnn(graph)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return Cast(graph, dtype)


def traced(net: nn.Module) -> fx.GraphModule:
    """The graph of a network, while other threads may run any."""
    with _TRACING:
        tracer = OwnThreadTracer()
        return fx.GraphModule(net, tracer.trace(net))


class OwnThreadTracer(fx.Tracer):
    """Records what its own thread calls: torch replaces `nn.Module.__call__` for all of them meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """A layer's call, recorded where it is this thread's."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A layer's attribute, replaced by its record where it is this thread's."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class Sizes(fx.Interpreter):
    """Runs a graph and notes each tensor's size (torch's ShapeProp spends seconds on importing sympy)."""

    def run_node(self, n: fx.Node) -> Any:
        """The node's result, whose size stands in its `meta`."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["size"] = result.shape
        return result


class Stages(nn.Module):
    """What every `Network` computes: (N, C, H, W) -> (N, classes)."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        """The head on the last stage's feature map."""
        return self.net.head(self.net.features(pixels)[-1])


class Cast(nn.Module):
    """Float32 pixels in, float32 logits out, whatever the network between them computes in."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        pixels = pixels.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.net(pixels).float()


def fold_batch_norms(graph: fx.GraphModule) -> None:
    """Put every batch norm that follows a convolution, and nothing else does, into its weights."""
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        if type(conv) is not nn.Conv2d or len(before.users) > 1 or uses(graph, before.target) > 1:
            continue
        folded = fuse_conv_bn_eval(conv, norm)
        graph.set_submodule(before.target, folded)
        modules[before.target] = folded
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)


def uses(graph: fx.GraphModule, target: Any) -> int:
    """How often the graph calls a module."""
    return sum(node.op == "call_module" and node.target == target for node in graph.graph.nodes)


def widen_last_linear(graph: fx.GraphModule, dtype: torch.dtype) -> str | None:
    """Give a linear layer at the graph's end float32 input; its name, None where there is none."""
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    last = end.args[0]
    if not isinstance(last, fx.Node) or last.op != "call_module":
        return None
    if not isinstance(graph.get_submodule(str(last.target)), nn.Linear):
        return None
    if dtype != torch.float32:
        (before,) = last.all_input_nodes
        with graph.graph.inserting_before(last):
            last.replace_input_with(before, graph.graph.call_method("float", (before,)))
    return str(last.target)


# oneDNN


class Convolution(nn.Module):
    """One convolution of oneDNN's, with what comes right after it.

    (N, in_channels, H, W) and, with `adds`, a tensor of the output's shape -> (N, out_channels, H', W')

    Args:
        size: (N, in_channels, H, W) that the weights are laid out for; others are taken too, and may have
            them rearranged each time.
    """

    def __init__(self, conv: nn.Conv2d, size: Sequence[int], *, relu: bool, adds: bool) -> None:
        super().__init__()
        where = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups
        self.where, self.relu, self.adds = where, relu, adds
        self.bias = conv.bias
        # Without the input's size, oneDNN may choose a layout for which it has only its slow reference code.
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *where, list(size))

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The convolution, plus `other`, then ReLU where it has one."""
        ops = torch.ops.mkldnn._convolution_pointwise
        relu = "relu" if self.relu else None
        if self.adds:
            return ops.binary(x, other, self.packed, self.bias, *self.where, "add", 1.0, relu, [], None)
        return ops.default(x, self.packed, self.bias, *self.where, relu or "none", [], None)


def use_one_dnn(graph: fx.GraphModule) -> None:
    """Replace convolutions by oneDNN's, together with an addition and a ReLU that alone use their output."""
    for node in list(graph.graph.nodes):
        if not is_plain_conv(graph, node):
            continue
        conv: Any = graph.get_submodule(str(node.target))
        end, other, add = node, None, only_user(node)
        if add is not None and is_add(add, node):
            end, other = add, next(each for each in add.all_input_nodes if each is not node)
        relu = only_user(end)
        has_relu = relu is not None and is_relu(graph, relu)
        size = node.all_input_nodes[0].meta["size"]
        module = Convolution(conv, size, relu=has_relu, adds=other is not None)
        replace(graph, node, relu if relu is not None and has_relu else end, module, other)


def replace(
    graph: fx.GraphModule, node: fx.Node, end: fx.Node, module: Convolution, other: fx.Node | None
) -> None:
    """Put `module` at `end`'s place, computing everything from `node` to there."""
    name = str(node.target).replace(".", "_") + "_one_dnn"
    graph.add_submodule(name, module)
    with graph.graph.inserting_before(end):
        args = (node.args[0],) if other is None else (node.args[0], other)
        made = graph.graph.call_module(name, args)
        made.meta = end.meta
        end.replace_all_uses_with(made)
    for each in dict.fromkeys(chain_to(node, end)):
        graph.graph.erase_node(each)


def chain_to(node: fx.Node, end: fx.Node) -> Iterable[fx.Node]:
    """The nodes from `end` back to `node`, users first."""
    chain = [node]
    while chain[-1] is not end:
        chain.append(next(iter(chain[-1].users)))
    return reversed(chain)


def only_user(node: fx.Node | None) -> fx.Node | None:
    """The one node that uses another's output; None where there are several."""
    return next(iter(node.users)) if node is not None and len(node.users) == 1 else None


def is_plain_conv(graph: fx.GraphModule, node: Any) -> bool:
    """Whether oneDNN's operator takes this layer."""
    if not isinstance(node, fx.Node) or node.op != "call_module" or uses(graph, node.target) != 1:
        return False
    conv = graph.get_submodule(str(node.target))
    if type(conv) is not nn.Conv2d or isinstance(conv.padding, str):
        return False
    return conv.padding_mode == "zeros" and conv.weight.dtype in (torch.float32, torch.bfloat16)


def is_add(node: fx.Node, conv: fx.Node) -> bool:
    """Whether a node adds another tensor to `conv`'s output, and changes no third one by doing so."""
    if node.op != "call_function" or node.target not in ADDS or node.kwargs:
        return False
    is_two = len(node.args) == 2 and all(isinstance(each, fx.Node) for each in node.args)
    is_ours = node.args[0] is conv or node.target is not operator.iadd
    return is_two and is_ours and node.args[0] is not node.args[1]


def is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a ReLU, as a function or a module."""
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), nn.ReLU)
    return node.op == "call_function" and node.target in RELUS
