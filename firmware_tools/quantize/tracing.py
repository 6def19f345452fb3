"""From a user's module to the steps of the accelerator, by tracing it with torch.fx."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from firmware_tools.quantize.errors import UnsupportedError
from firmware_tools.quantize.transformers import (
    Attended,
    Probabilities,
    Scores,
    TokenModule,
    unrolled,
)
from model.mars.network import INPUT, STRIDE_MAX

_MAPS = (
    "Conv2d, BatchNorm2d, ReLU, Linear, MaxPool2d(2), AdaptiveAvgPool2d(1), Flatten, Dropout, "
    "Identity and the addition of two maps"
)
SUPPORTED = f"{_MAPS}; of tokens LayerNorm, MultiheadAttention, TransformerEncoderLayer and GELU"
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_RECTIFIERS = {functional.relu, torch.relu, "relu", "relu_"}
SPIKING_SUPPORTED = _MAPS.replace("MaxPool2d(2),", "MaxPool2d(2), AvgPool2d,")
_MAX_POOLS = {functional.max_pool2d, torch.max_pool2d}
_MEAN_POOLS = {functional.avg_pool2d}
_AVERAGES = {functional.adaptive_avg_pool2d}
SUM_POOL_MAX = 15
"""Rows and columns of a window whose spikes 8 bits count."""
_FLATTENERS = {torch.flatten, "flatten"}
_GELUS = {functional.gelu}
_TRANSPOSERS = {torch.transpose, "transpose", torch.permute, "permute"}
_EXPANDERS = {"expand", "repeat"}
_JOINERS = {torch.cat, torch.concat}
_MEANS = {torch.mean, "mean"}
_SIZES = {"size", getattr}
Form = Literal["map", "flat", "columns", "tokens"]
"""What a node's value is: (N, C, H, W), (N, C), (N, C, T) or (N, T, C)."""
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
        conv, dense, maxpool2, avgpool or, of a spiking network, sumpool; of tokens layernorm,
        scores, softmax, attended, gelu, tokens (constant ones before those of a map) and positions.
    module : Conv2d, Linear, LayerNorm, GELU, TokenModule or None
    norm : BatchNorm2d, LayerNorm or None
        Whose factors and summands are the step's: those of channels behind it or before it.
    skip : str or None
        The step that is added; the second factor of products of two maps.
    relu : bool
    node : str
        The fx node whose value is the step's result.
    kernel : int
        Rows and columns of a sumpool's windows; 0 is the whole map.
    spikes : bool
        Whether spikes stand in place of its ReLU already.
    token : int or None
        The only pixel of the source that a dense layer reads.
    first : int
        The first token of the source behind constant ones.
    constant : (n, C) float or None
        Constant tokens, or positions.
    """

    name: str
    source: str
    op: str
    node: str
    module: nn.Module | None = None
    norm: nn.BatchNorm2d | nn.LayerNorm | None = None
    skip: str | None = None
    relu: bool = False
    kernel: int = 0
    spikes: bool = False
    token: int | None = None
    first: int = 0
    constant: Tensor | None = None

    @property
    def product(self) -> Product | None:
        """The module if it has weights."""
        return self.module if isinstance(self.module, Product) else None


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
        return isinstance(m, SpikeModule | TokenModule) or super().is_leaf_module(
            m, module_qualified_name
        )


def graph_of(model: nn.Module) -> fx.GraphModule:
    """The module as a graph; `Step.node` names its nodes."""
    try:
        tracer = _LeafTracer()
        whole = unrolled(model)
        traced = fx.GraphModule(whole, tracer.trace(whole), type(model).__name__)
    except UnsupportedError:
        raise
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
        self._forms: dict[fx.Node, Form] = {}
        self._tokens: dict[fx.Node, int] = {}
        """The only token that is left in a flat node."""
        self._firsts: dict[fx.Node, int] = {}
        """The first token of its source that a node has."""
        self._constants: dict[fx.Node, Tensor] = {}
        self._sizes: set[fx.Node] = set()
        """Numbers that say how large the input is."""

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
        self._check_norms()
        return self._steps, self._forms[result] == "flat"

    def _check_norms(self) -> None:
        """Whoever reads a normalisation takes in its factors and summands."""
        for norm in self._steps:
            if norm.op != "layernorm":
                continue
            for one in self._readers(norm.name) or [None]:
                if one is None or not isinstance(one.module, nn.Linear) or one.skip == norm.name:
                    by = "nothing" if one is None else one.name
                    raise UnsupportedError(
                        f"{norm.name}: LayerNorm, read by {by}, is not supported; the accelerator "
                        "takes Linear as its only reader"
                    )
                assert isinstance(norm.module, nn.LayerNorm)
                one.norm = norm.module

    def _readers(self, name: str) -> list[Step | None]:
        """Who reads a step, or its mean; None where nobody reads the mean."""
        found: list[Step | None] = []
        for one in self._steps:
            if name in {one.source, one.skip}:
                is_mean = one.op == "avgpool"
                found += (self._readers(one.name) or [None]) if is_mean else [one]
        return found

    def _visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if self._of:
                raise _refusal(node, "a second input", "one tensor, the images")
            self._of[node] = None
            self._forms[node] = "map"
            return
        for test, visit in self._handlers().items():
            if test(self, node):
                visit(node)
                return
        what = self._module(node) if node.op == "call_module" else node.target
        raise _refusal(node, _describe(what), SPIKING_SUPPORTED if self._spiking else SUPPORTED)

    def _handlers(self) -> "dict[Callable[[_Tracer, fx.Node], bool], Callable[[fx.Node], None]]":
        spiking: dict[Callable[[_Tracer, fx.Node], bool], Callable[[fx.Node], None]] = {
            _is_module(nn.AvgPool2d, calls=_MEAN_POOLS): self._sum_pool,
            self._is_spike: self._spike,
        }
        tokens: dict[Callable[[_Tracer, fx.Node], bool], Callable[[fx.Node], None]] = {
            _Tracer._is_constant: self._constant,
            _Tracer._is_size: self._sizes.add,
            _is_module(calls=_TRANSPOSERS): self._transpose,
            _is_module(calls=_JOINERS): self._join,
            _is_module(calls={operator.getitem}): self._token,
            _is_module(calls=_MEANS): self._mean,
            _is_module(nn.LayerNorm): self._layer_norm,
            _is_module(nn.GELU, calls=_GELUS): self._gelu,
            _is_module(Scores): lambda node: self._pair_of_maps(node, "scores"),
            _is_module(Probabilities): self._softmax,
            _is_module(Attended): lambda node: self._pair_of_maps(node, "attended"),
        }
        return {
            **(spiking if self._spiking else tokens),
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

    def _new(
        self,
        node: fx.Node,
        op: str,
        module: nn.Module | None = None,
        form: Form | None = None,
        own: fx.Node | None = None,
    ) -> Step:
        """A step whose value the node is; its source is another node's, `own`."""
        own = self._source(node) if own is None else own
        source = self._of[own]
        step = Step(
            self._name(node), INPUT if source is None else source.name, op, node.name, module
        )
        self._steps.append(step)
        self._of[node] = step
        self._forms[node] = form or self._forms[own]
        return step

    def _conv(self, node: fx.Node) -> None:
        _check_conv(node, self._module(node))
        if self._forms[self._source(node)] != "map":
            raise _refusal(node, "a convolution after Flatten", "Linear there")
        self._new(node, "conv", self._module(node))

    def _linear(self, node: fx.Node) -> None:
        source = self._source(node)
        form = self._forms[source]
        if form in {"map", "columns"}:
            raise _refusal(node, "Linear on a map", "Flatten before it, or tokens (N, T, C)")
        step = self._new(node, "conv" if form == "tokens" else "dense", self._module(node))
        step.token = self._tokens.get(source)

    def _fused(self, node: fx.Node, what: str) -> Step:
        """The step before, if nothing else uses its value and so it can take in the node."""
        source = self._source(node)
        step = self._of[source]
        if step is None or step.product is None:
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
        self._forms[node] = self._forms[self._source(node)]
        self._of[node] = step
        step.node = node.name

    def _add(self, node: fx.Node) -> None:
        if any(part in self._constants for part in node.args):
            self._positions(node)
            return
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
        self._forms[node] = self._forms[own]
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
        form = self._forms[self._source(node)]
        self._pass(node)
        if span in {(1, -1), (1,)} and form in {"map", "flat"}:
            self._forms[node] = "flat"
        elif span in {(2, -1), (2,)} and form == "map" and not self._spiking:
            self._forms[node] = "columns"
        else:
            raise _refusal(node, f"Flatten of {span}", "Flatten(1), or Flatten(2) for tokens")

    def _pass(self, node: fx.Node) -> None:
        source = self._source(node)
        self._of[node] = self._of[source]
        self._forms[node] = self._forms[source]
        if source in self._tokens:
            self._tokens[node] = self._tokens[source]

    # Tokens

    def _is_constant(self, node: fx.Node) -> bool:
        """A parameter, perhaps once for each image."""
        if node.op == "get_attr":
            return True
        is_first_axis = node.target is operator.getitem and node.args[1] is None
        is_spread = node.op == "call_method" and node.target in _EXPANDERS
        return (is_first_axis or is_spread) and node.args[0] in self._constants

    def _constant(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            found: Any = self._graph
            for part in str(node.target).split("."):
                found = getattr(found, part)
            self._constants[node] = found.detach()
            return
        value = self._constants[self._source(node)]
        if node.target is operator.getitem:
            self._constants[node] = value[None]
            return
        n_images, *rest = node.args[1:]
        usual = {1} if node.target == "repeat" else {-1, *value.shape[1:]}
        if n_images not in self._sizes or not set(rest) <= usual or value.shape[0] != 1:
            raise _refusal(node, f"{node.target} of {rest}", "constants once for each image")
        self._constants[node] = value

    def _is_size(self, node: fx.Node) -> bool:
        if node.op == "call_function" and node.target is operator.getitem:
            return node.args[0] in self._sizes
        if node.op not in {"call_function", "call_method"} or node.target not in _SIZES:
            return False
        return node.target == "size" or node.args[1] == "shape"

    def _constant_tokens(self, node: fx.Node, part: object) -> Tensor:
        """A constant as (n, C)."""
        value = self._constants[part]  # type: ignore[index]
        if value.dim() == 3 and len(value) == 1:
            value = value[0]
        if value.dim() != 2:
            shape = tuple(value.shape)
            raise _refusal(node, f"a constant of {shape}", "tokens (1, n, C)")
        return value

    def _on_tokens(self, node: fx.Node, op: str) -> Step:
        if self._forms[self._source(node)] != "tokens":
            raise _refusal(node, f"{op} of what is no token", "tokens (N, T, C)")
        return self._new(node, op, self._module(node))

    def _transpose(self, node: fx.Node) -> None:
        axes = node.args[1:] or tuple(node.kwargs.values())
        axes = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        form = self._forms[self._source(node)]
        if axes not in {(1, 2), (2, 1), (0, 2, 1), (-1, -2), (-2, -1)} or form != "columns":
            raise _refusal(node, f"{node.target} of {axes}", "(N, C, T) into (N, T, C)")
        self._pass(node)
        self._forms[node] = "tokens"

    def _join(self, node: fx.Node) -> None:
        """Constant tokens before those of a map."""
        parts = node.args[0]
        assert isinstance(parts, list | tuple)
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        *before, last = parts
        fits = (
            axis == 1
            and before
            and all(one in self._constants for one in before)
            and self._forms.get(last) == "tokens"  # type: ignore[arg-type]
        )
        if not fits:
            raise _refusal(
                node, f"cat along {axis}", "constant tokens before those of a map, dim=1"
            )
        constants = [self._constant_tokens(node, one) for one in before]
        assert isinstance(last, fx.Node)
        step = self._new(node, "tokens", own=last)
        step.constant = torch.cat(constants)
        step.first = self._firsts.get(last, 0)

    def _positions(self, node: fx.Node) -> None:
        """A constant for each token."""
        one, other = node.args[:2]
        map_, constant = (other, one) if one in self._constants else (one, other)
        if not isinstance(map_, fx.Node) or self._forms.get(map_) != "tokens":
            raise _refusal(node, "a constant summand", "one of tokens (N, T, C)")
        step = self._new(node, "positions", own=map_)
        step.constant = self._constant_tokens(node, constant)

    def _token(self, node: fx.Node) -> None:
        """One token of all; or all from one on, behind constant ones."""
        source, index = node.args
        which: Any = None
        of_tokens = self._forms.get(source) == "tokens"  # type: ignore[arg-type]
        if of_tokens and isinstance(index, tuple) and len(index) == 2 and index[0] == slice(None):
            which = index[1]
        self._pass(node)
        match which:
            case int() if which >= 0:
                self._forms[node] = "flat"
                self._tokens[node] = which
            case slice(start=int(first), stop=None, step=None) if first >= 0 and all(
                user.target in _JOINERS for user in node.users
            ):
                self._firsts[node] = first
            case _:
                raise _refusal(
                    node,
                    f"[{index}]",
                    "one token, [:, k], of (N, T, C), or all from one on, [:, k:], behind constant "
                    "ones",
                )

    def _mean(self, node: fx.Node) -> None:
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if axis not in {1, (1,)} or self._forms[self._source(node)] != "tokens":
            raise _refusal(node, f"a mean along {axis}", "that of tokens (N, T, C), dim=1")
        self._new(node, "avgpool", form="flat")

    def _layer_norm(self, node: fx.Node) -> None:
        norm = self._module(node)
        if len(norm.normalized_shape) != 1:
            raise _refusal(node, f"LayerNorm of {tuple(norm.normalized_shape)}", "that of channels")
        self._on_tokens(node, "layernorm")

    def _gelu(self, node: fx.Node) -> None:
        step = self._on_tokens(node, "gelu")
        if step.module is None:
            step.module = nn.GELU(str(node.kwargs.get("approximate", "none")))

    def _softmax(self, node: fx.Node) -> None:
        self._on_tokens(node, "softmax")

    def _pair_of_maps(self, node: fx.Node, op: str) -> None:
        step = self._on_tokens(node, op)
        other = node.args[1]
        assert isinstance(other, fx.Node)
        second = self._of[other]
        step.skip = INPUT if second is None else second.name


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
    assert step.product is not None
    return step.product.weight.numel()


def _check_conv(node: fx.Node, conv: nn.Conv2d) -> None:
    kernel, padding = _pair(conv.kernel_size), conv.padding
    side = kernel[0]
    is_patch = kernel == _pair(conv.stride) == (side, side) and 1 < side <= STRIDE_MAX
    if kernel not in {(3, 3), (1, 1)} and not is_patch:
        raise _refusal(node, f"a kernel of {kernel}", "3x3, 1x1 and patches side by side")
    if _pair(conv.stride) not in {(1, 1), (2, 2)} and not is_patch:
        raise _refusal(node, f"stride {conv.stride}", "1 and 2")
    if isinstance(padding, str) or _pair(padding) not in {(0, 0), (1, 1)}:
        raise _refusal(node, f"padding {padding!r}", "0 and 1")
    if kernel != (3, 3) and _pair(padding) != (0, 0):
        raise _refusal(node, f"padding 1 around {side}x{side} kernels", "0")
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
