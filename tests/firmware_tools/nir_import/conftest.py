"""NIR graphs to import, and what their formulas say, in float64, independent of the importer.

A LIF takes Euler steps, v' = v + dt/tau * ((v_leak - v) + r*I), an IF adds r*I in each step. Both
fire above the threshold, and are reset in the same step.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from numpy.typing import NDArray

Reals = NDArray[np.float64]
VECTORS = Path(__file__).parents[2] / "vectors" / "nir"
Write = Callable[..., Path]


def real(values: Any) -> Reals:
    return np.asarray(values, np.float64)


def windows(x: Reals, kernel: Any, stride: Any, dilation: Any = (1, 1)) -> Reals:
    """(N, C, H, W, Kh, Kw)."""
    reach = [(int(k) - 1) * int(d) + 1 for k, d in zip(kernel, dilation, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    found = found[:, :, :: int(stride[0]), :: int(stride[1])]
    return found[..., :: int(dilation[0]), :: int(dilation[1])]


def conv(node: Any, x: Reals) -> Reals:
    weight = real(node.weight)
    (rows, columns), groups = node.padding, int(node.groups)
    x = np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    parts = []
    for maps, w in zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True):
        taps = windows(maps, w.shape[2:], node.stride, node.dilation)
        parts.append(np.tensordot(taps, w, ((1, 4, 5), (1, 2, 3))))
    return np.moveaxis(np.concatenate(parts, axis=-1), -1, 1) + real(node.bias)[:, None, None]


class Neurons:
    """The neurons of one node."""

    def __init__(self, node: Any, dt: float | None, reset: str) -> None:
        self.node = node
        self.reset = node.metadata.get("reset", reset)
        self.part = None if isinstance(node, nir.IF) else dt / real(node.tau)  # type: ignore[operator]
        self.v: Any = 0.0

    def step(self, current: Reals) -> Reals:
        node = self.node
        charge = real(node.r) * current
        if self.part is None:
            self.v = self.v + charge
        else:
            self.v = self.v + self.part * (real(node.v_leak) - self.v + charge)
        threshold = real(node.v_threshold)
        fires = self.v > threshold
        after = self.v - threshold if self.reset == "soft" else real(node.v_reset)
        self.v = np.where(fires, after, self.v)
        return fires.astype(np.float64)


def simulated(
    graph: Any, inputs: NDArray[Any], dt: float | None = None, reset: str = "hard"
) -> dict[str, Reals]:
    """What each node gives, (N, steps, ...), for inputs (N, steps, ...)."""
    neurons = {
        name: Neurons(node, dt, reset)
        for name, node in graph.nodes.items()
        if isinstance(node, nir.IF | nir.LIF)
    }
    results: dict[str, list[Reals]] = {name: [] for name in graph.nodes}
    for now in range(inputs.shape[1]):
        done: dict[str, Reals] = {}

        def result(name: str, now: int = now, done: dict[str, Reals] = done) -> Reals:
            if name not in done:
                before = [source for source, sink in graph.edges if sink == name]
                x = sum((result(source) for source in before), np.zeros(1))
                done[name] = (
                    real(inputs[:, now])
                    if not before
                    else neurons[name].step(x)
                    if name in neurons
                    else node_result(graph.nodes[name], x)
                )
            return done[name]

        for name in graph.nodes:
            results[name].append(result(name))
    return {name: np.stack(steps, axis=1) for name, steps in results.items()}


def node_result(node: Any, x: Reals) -> Reals:
    by_kind: dict[str, Callable[[], Reals]] = {
        "Conv2d": lambda: conv(node, x),
        "Affine": lambda: x @ real(node.weight).T + real(node.bias),
        "Linear": lambda: x @ real(node.weight).T,
        "SumPool2d": lambda: windows(x, node.kernel_size, node.stride).sum(axis=(4, 5)),
        "AvgPool2d": lambda: windows(x, node.kernel_size, node.stride).mean(axis=(4, 5)),
        "Flatten": lambda: x.reshape(len(x), -1),
        "Scale": lambda: x * real(node.scale),
        "Threshold": lambda: (x > real(node.threshold)).astype(np.float64),
        "Output": lambda: x,
    }
    return by_kind[type(node).__name__]()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Save a chain of nodes behind an Input of a shape, or nodes with edges."""

    def save(
        shape: tuple[int, ...],
        *chain: Any,
        edges: list[tuple[str, str]] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str = "net",
        **nodes: Any,
    ) -> Path:
        all_nodes = {"input": nir.Input({"input": np.array(shape)})}
        all_nodes |= {f"{type(node).__name__}_{k}": node for k, node in enumerate(chain)} | nodes
        all_nodes["output"] = nir.Output({"output": np.array([1])})
        names = list(all_nodes)
        if edges is None:
            edges = list(pairwise(names))
        # In the order of names, as files have them.
        ordered = {key: all_nodes[key] for key in sorted(all_nodes)}
        graph = nir.NIRGraph(ordered, sorted(edges), metadata=metadata or {}, type_check=False)
        path = tmp_path / f"{name}.nir"
        nir.write(path, graph)
        return path

    return save


@pytest.fixture
def sinabs() -> Path:
    return VECTORS / "cnn_sinabs.nir"


@pytest.fixture
def norse() -> Path:
    return VECTORS / "lif_norse.nir"


@pytest.fixture
def simulate() -> Callable[..., dict[str, Reals]]:
    return simulated
