"""From a user's module to the steps of the accelerator, by tracing it with torch.fx."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from firmware_tools.quantize.errors import UnsupportedError
from model.mars.network import INPUT

SUPPORTED = (
    "Conv2d, BatchNorm2d, ReLU, Linear, MaxPool2d(2), AdaptiveAvgPool2d(1), Flatten, Dropout, "
    "Identity and the addition of two maps"
)
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_RECTIFIERS = {functional.relu, torch.relu, "relu", "relu_"}
SPIKING_SUPPORTED = SUPPORTED.replace("MaxPool2d(2),", "MaxPool2d(2), AvgPool2d,")
_MAX_POOLS = {functional.max_pool2d, torch.max_pool2d}
_MEAN_POOLS = {functional.avg_pool2d}
_AVERAGES = {functional.adaptive_avg_pool2d}
SUM_POOL_MAX = 15
"""Rows and columns of a window whose spikes 8 bits count."""
_FLATTENERS = {torch.flatten, "flatten"}
Product = nn.Conv2d | nn.Linear


@dataclass(eq=False)
class Step:
    """A layer of the accelerator: a convolution or dense layer with all that is fused into it.

    Parameters
    ----------
    name : str
        The module's path, or what fx calls the function.
    source : str
        The step, or "input", that it reads.
    op : str
        conv, dense, maxpool2, avgpool or, of a spiking network, sumpool.
    module : Conv2d, Linear or None
    norm : BatchNorm2d or None
    skip : str or None
        The step that is added.
    relu : bool
    node : str
        The fx node whose value is the step's result.
    kernel : int
        Rows and columns of a sumpool's windows; 0 is the whole map.
    spikes : bool
        Whether spikes stand in place of its ReLU already.
    """

    name: str
    source: str
    op: str
    node: str
    module: Product | None = None
    norm: nn.BatchNorm2d | None = None
    skip: str | None = None
    relu: bool = False
    kernel: int = 0
    spikes: bool = False


def trace(model: nn.Module, *, spiking: bool = False) -> tuple[list[Step], bool]:
    """The steps in an order in which each follows those that it reads; whether the end is flat.

    Parameters
    ----------
    model : nn.Module
    spiking : bool
        Whether neurons will take the place of ReLU: averages are sums of spikes then.

    Raises
    ------
    UnsupportedError
        The module cannot be traced, or has a part that the accelerator does not have.
    """
    return _Tracer(model, spiking=spiking).run()


class SpikeModule(nn.Module):
    """What stands in place of ReLU in a network that is to spike."""


class _LeafTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SpikeModule) or super().is_leaf_module(m, module_qualified_name)


def graph_of(model: nn.Module) -> fx.GraphModule:
    """The module as a graph; `Step.node` names its nodes."""
    try:
        tracer = _LeafTracer()
        traced = fx.GraphModule(model, tracer.trace(model), type(model).__name__)
    except Exception as error:
        raise UnsupportedError(
            f"{type(model).__name__}: must be traceable by torch.fx, but {error}"
        ) from error
    traced.graph.eliminate_dead_code()
    return traced


def rectifiers(graph: fx.GraphModule) -> list[fx.Node]:
    """The nodes that are a ReLU."""
    modules = dict(graph.named_modules())
    return [
        node
        for node in graph.graph.nodes
        if (node.op == "call_module" and type(modules[str(node.target)]) is nn.ReLU)
        or (node.op in {"call_function", "call_method"} and node.target in _RECTIFIERS)
    ]


class _Tracer:
    def __init__(self, model: nn.Module, *, spiking: bool) -> None:
        self._spiking = spiking
        self._graph = graph_of(model)
        self._modules = dict(self._graph.named_modules())
        self._steps: list[Step] = []
        self._of: dict[fx.Node, Step | None] = {}
        """The step whose value a node is; None is the input."""
        self._flat: set[fx.Node] = set()

    def run(self) -> tuple[list[Step], bool]:
        for node in self._graph.graph.nodes:
            if node.op == "output":
                return self._finish(node)
            self._visit(node)
        raise UnsupportedError("the module must return its result")

    def _finish(self, node: fx.Node) -> tuple[list[Step], bool]:
        result = node.args[0]
        if not isinstance(result, fx.Node) or self._of.get(result) is None:
            raise UnsupportedError("the module must return one tensor, the result of a layer")
        if self._of[result] is not self._steps[-1]:
            raise UnsupportedError("the module's result must be that of its last layer")
        return self._steps, result in self._flat

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if self._of:
                raise _refusal(node, "a second input", "one tensor, the images")
            self._of[node] = None
            return
        for test, visit in self._handlers().items():
            if test(self, node):
                visit(node)
                return
        what = self._module(node) if node.op == "call_module" else node.target
        raise _refusal(node, _describe(what), SPIKING_SUPPORTED if self._spiking else SUPPORTED)

    def _handlers(self) -> "dict[Callable[[_Tracer, fx.Node], bool], Callable[[fx.Node], None]]":
        spiking = {
            _is_module(nn.AvgPool2d, calls=_MEAN_POOLS): self._sum_pool,
            self._is_spike: self._spike,
        }
        return {
            **(spiking if self._spiking else {}),
            _is_module(nn.Conv2d): self._conv,
            _is_module(nn.Linear): self._linear,
            _is_module(nn.BatchNorm2d): self._norm,
            _is_module(nn.ReLU, calls=_RECTIFIERS): self._relu,
            _is_module(nn.MaxPool2d, calls=_MAX_POOLS): self._max_pool,
            _is_module(nn.AdaptiveAvgPool2d, calls=_AVERAGES): self._average,
            _is_module(nn.Flatten, calls=_FLATTENERS): self._flatten,
            _is_module(nn.Identity, nn.Dropout, nn.Dropout2d): self._pass,
            _is_module(calls=_ADDITIONS): self._add,
        }

    def _module(self, node: fx.Node) -> Any:
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def _source(self, node: fx.Node) -> fx.Node:
        source = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(source, fx.Node):
            raise _refusal(node, "a constant as input", "the result of a layer")
        return source

    def _name(self, node: fx.Node) -> str:
        name = str(node.target) if node.op == "call_module" else node.name
        if name == INPUT or any(step.name == name for step in self._steps):
            raise _refusal(node, f"the name {name!r} again", "another module for every use")
        return name

    def _new(self, node: fx.Node, op: str, module: Product | None = None) -> Step:
        source = self._of[self._source(node)]
        step = Step(
            self._name(node), INPUT if source is None else source.name, op, node.name, module
        )
        self._steps.append(step)
        self._of[node] = step
        return step

    def _conv(self, node: fx.Node) -> None:
        _check_conv(node, self._module(node))
        if self._source(node) in self._flat:
            raise _refusal(node, "a convolution after Flatten", "Linear there")
        self._new(node, "conv", self._module(node))

    def _linear(self, node: fx.Node) -> None:
        if self._source(node) not in self._flat:
            raise _refusal(node, "Linear on a map", "Flatten before it")
        self._new(node, "dense", self._module(node))
        self._flat.add(node)

    def _fused(self, node: fx.Node, what: str) -> Step:
        """The step before, if nothing else uses its value and so it can take in the node."""
        source = self._source(node)
        step = self._of[source]
        if step is None or step.module is None:
            raise _refusal(node, f"{what} after {source.name}", "a convolution or Linear before it")
        if len(source.users) > 1:
            users = ", ".join(user.name for user in source.users)
            raise _refusal(node, f"{source.name}, used by {users}", f"{what} as its only user")
        return step

    def _norm(self, node: fx.Node) -> None:
        norm = self._module(node)
        step = self._fused(node, "BatchNorm2d")
        if step.op != "conv" or step.norm is not None or step.relu or step.skip is not None:
            raise _refusal(node, f"BatchNorm2d after {step.node}", "a convolution right before it")
        if norm.running_mean is None:
            raise _refusal(node, "no running statistics", "track_running_stats=True")
        step.norm = norm
        self._take_in(node, step)

    def _relu(self, node: fx.Node) -> None:
        step = self._of[self._source(node)]
        if step is not None and step.relu:
            self._pass(node)  # a second one, or one after pooling, changes nothing
            return
        step = self._fused(node, "ReLU")
        step.relu = True
        self._take_in(node, step)

    @staticmethod
    def _is_spike(tracer: "_Tracer", node: fx.Node) -> bool:
        return isinstance(tracer._module(node), SpikeModule)  # noqa: SLF001  (its own)

    def _spike(self, node: fx.Node) -> None:
        self._relu(node)
        step = self._of[node]
        assert step is not None
        step.spikes = True

    def _take_in(self, node: fx.Node, step: Step) -> None:
        if self._source(node) in self._flat:
            self._flat.add(node)
        self._of[node] = step
        step.node = node.name

    def _add(self, node: fx.Node) -> None:
        operands = [part for part in node.args if isinstance(part, fx.Node)]
        if len(operands) != 2 or len(node.args) != 2 or node.kwargs.get("alpha", 1) != 1:
            raise _refusal(node, "an addition of something else", "two maps")
        able = [part for part in operands if self._can_add(part)]
        if not able or operands[0] is operands[1]:
            names = " and ".join(part.name for part in operands)
            raise _refusal(
                node, f"{names}", "a convolution without ReLU, used here only, as one of the two"
            )
        own = max(able, key=lambda part: _taps(self._of[part]))
        other = self._of[operands[0] if own is operands[1] else operands[1]]
        step = self._of[own]
        assert step is not None
        step.skip = INPUT if other is None else other.name
        self._steps.remove(step)  # nobody has read it yet: it may follow its residual
        self._steps.append(step)
        self._of[node] = step
        step.node = node.name

    def _can_add(self, node: fx.Node) -> bool:
        step = self._of[node]
        plain = step is not None and step.op == "conv" and not step.relu and step.skip is None
        return plain and len(node.users) == 1

    def _max_pool(self, node: fx.Node) -> None:
        kernel, stride, rest = _pool_arguments(node, self._module(node))
        if kernel != (2, 2) or stride != (2, 2) or rest:
            raise _refusal(node, f"a pool of {kernel}, stride {stride}{rest}", "MaxPool2d(2)")
        self._new(node, "maxpool2")

    def _average(self, node: fx.Node) -> None:
        module = self._module(node)
        size = node.args[1] if module is None else module.output_size
        if _pair(size) != (1, 1):
            raise _refusal(node, f"averages of size {size}", "AdaptiveAvgPool2d(1)")
        self._new(node, "sumpool" if self._spiking else "avgpool")

    def _sum_pool(self, node: fx.Node) -> None:
        kernel, stride, rest = _pool_arguments(node, self._module(node))
        rows, columns = kernel
        if rows != columns or not 1 < rows <= SUM_POOL_MAX or stride != kernel or rest:
            raise _refusal(
                node,
                f"a pool of {kernel}, stride {stride}{rest}",
                f"AvgPool2d(2) to AvgPool2d({SUM_POOL_MAX})",
            )
        self._new(node, "sumpool").kernel = rows

    def _flatten(self, node: fx.Node) -> None:
        module = self._module(node)
        given = [*node.args[1:], *node.kwargs.values()]
        span = (module.start_dim, module.end_dim) if module is not None else tuple(given)
        if span not in {(1, -1), (1,)}:
            raise _refusal(node, f"Flatten of {span}", "Flatten(1)")
        self._pass(node)
        self._flat.add(node)

    def _pass(self, node: fx.Node) -> None:
        source = self._source(node)
        self._of[node] = self._of[source]
        if source in self._flat:
            self._flat.add(node)


def _is_module(
    *kinds: type[nn.Module], calls: set[Any] | None = None
) -> "Callable[[_Tracer, fx.Node], bool]":
    def test(tracer: _Tracer, node: fx.Node) -> bool:
        if node.op == "call_module":
            return type(tracer._module(node)) in kinds  # noqa: SLF001  (of the same module)
        return node.op in {"call_function", "call_method"} and node.target in (calls or set())

    return test


def _refusal(node: fx.Node, what: str, wanted: str) -> UnsupportedError:
    name = node.target if node.op == "call_module" else node.name
    return UnsupportedError(f"{name}: {what} is not supported; the accelerator takes {wanted}")


def _describe(target: object) -> str:
    if isinstance(target, nn.Module):
        return type(target).__name__
    return getattr(target, "__name__", str(target))


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else tuple(value)


def _taps(step: Step | None) -> int:
    assert step is not None
    assert step.module is not None
    return step.module.weight.numel()


def _check_conv(node: fx.Node, conv: nn.Conv2d) -> None:
    kernel, padding = _pair(conv.kernel_size), conv.padding
    if kernel not in {(3, 3), (1, 1)}:
        raise _refusal(node, f"a kernel of {kernel}", "3x3 and 1x1")
    if _pair(conv.stride) not in {(1, 1), (2, 2)}:
        raise _refusal(node, f"stride {conv.stride}", "1 and 2")
    if isinstance(padding, str) or _pair(padding) not in {(0, 0), (1, 1)}:
        raise _refusal(node, f"padding {padding!r}", "0 and 1")
    if kernel == (1, 1) and _pair(padding) != (0, 0):
        raise _refusal(node, "padding 1 around 1x1 kernels", "0")
    if conv.padding_mode != "zeros":
        raise _refusal(node, f"padding mode {conv.padding_mode!r}", "zeros")
    if _pair(conv.dilation) != (1, 1):
        raise _refusal(node, f"dilation {conv.dilation}", "1")
    if conv.groups != 1:
        raise _refusal(node, f"a convolution in {conv.groups} groups", "1")


def _pool_arguments(node: fx.Node, pool: Any) -> tuple[Any, Any, str]:
    """Kernel, stride, and in words whatever else is not as usual."""
    if pool is None:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
    else:
        given = {name: getattr(pool, name) for name in ("kernel_size", "stride", "padding")}
        given |= {"ceil_mode": pool.ceil_mode, "dilation": getattr(pool, "dilation", 1)}
    kernel = _pair(given["kernel_size"])
    stride = given.get("stride")
    usual = {"padding": (0, 0), "dilation": (1, 1)}
    rest = "".join(
        f", {name} {given[name]}"
        for name, value in usual.items()
        if _pair(given.get(name, value)) != value
    )
    if given.get("ceil_mode"):
        rest += ", ceil_mode"
    return kernel, kernel if not stride else _pair(stride), rest
