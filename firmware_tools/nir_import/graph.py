"""Reads a NIR file: nodes in an order in which each follows those that it reads."""

import importlib
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError

MAGIC = b"\x89HDF\r\n\x1a\n"
"""What an HDF5 file, and so a NIR one, begins with."""
MAX_BYTES = 1 << 28
"""Of all arrays of a file, unpacked."""
MAX_NODES = 10_000
SUPPORTED = (
    "Input",
    "Output",
    "Affine",
    "Linear",
    "Conv1d",
    "Conv2d",
    "IF",
    "LIF",
    "Threshold",
    "SumPool2d",
    "AvgPool2d",
    "Flatten",
    "Scale",
)
REFUSED = {
    "CubaLIF": "its synaptic current is a second state, and a neuron here has its membrane alone: "
    "LIF without the current would fit",
    "CubaLI": "a second state without spikes: Affine as the last node sums up its results",
    "LI": "a membrane that never fires: Affine as the last node sums up its results",
    "I": "a membrane that never fires: Affine as the last node sums up its results",
    "Delay": "spikes arrive in the step in which they are fired: the graph must have no delays",
    "NIRGraph": "a graph within the graph: its nodes must stand in the graph itself",
}
DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged file may raise."""


class NirError(UserError):
    """The file cannot be imported; the text names it and the node."""


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Parameters
    ----------
    name, kind : str
        Its key in the file and its type.
    fields : {str: value}
        Its parameters; arrays of numbers are float64.
    metadata : {str: value}
    sources : tuple of str
        The nodes whose results it adds up.
    """

    name: str
    kind: str
    fields: Mapping[str, Any]
    metadata: Mapping[str, Any]
    sources: tuple[str, ...]

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.kind})"

    def array(self, name: str, n_axes: int | None = None) -> NDArray[np.float64]:
        """A parameter as finite numbers, perhaps of so many axes.

        Raises
        ------
        NirError
        """
        if name not in self.fields:
            raise NirError(f"{self}: {name} must be given")
        value = np.asarray(self.fields[name])
        if value.dtype.kind not in "biuf":
            raise NirError(f"{self}: {name} must be numbers, not {value.dtype}")
        if n_axes is not None and value.ndim != n_axes:
            raise NirError(f"{self}: {name} must have {n_axes} axes, not the shape {value.shape}")
        real = value.astype(np.float64)
        if not np.isfinite(real).all():
            raise NirError(f"{self}: {name} must be finite, not {real[~np.isfinite(real)][0]}")
        return real

    def numbers(self, name: str, n: int) -> tuple[int, ...]:
        """A parameter that is so many integers, or one that stands for all.

        Raises
        ------
        NirError
        """
        values = self.array(name).ravel()
        if values.size not in {1, n} or (values != np.rint(values)).any():
            raise NirError(f"{self}: {name} must be {n} integers, not {values.tolist()}")
        if np.abs(values).max() > MAX_BYTES:
            raise NirError(f"{self}: {name} must be at most {MAX_BYTES}, not {values.tolist()}")
        return tuple(int(value) for value in np.broadcast_to(values, n))


@dataclass(frozen=True)
class Graph:
    """The graph of a file.

    Parameters
    ----------
    name : str
        The file's name without its ending.
    nodes : tuple of Node
        In topological order; those of the file are in the order of their names.
    metadata : {str: value}
    """

    name: str
    nodes: tuple[Node, ...]
    metadata: Mapping[str, Any]


def load(path: Path) -> Graph:
    """Read a file.

    Raises
    ------
    NirError
        It is no NIR file, cut or damaged, or its graph is not one of `SUPPORTED` nodes without
        cycles.
    OSError
        It cannot be read.
    """
    nir = package()
    if path.is_dir():
        raise NirError("must be a file, not a folder")
    with path.open("rb") as file:
        begin = file.read(len(MAGIC))
    if begin != MAGIC:
        raise NirError(
            f"must be a NIR file, HDF5, which begins with {MAGIC[:4]!r}, not {begin[:4]!r}"
        )
    try:
        _check_file(path)
        graph = nir.read(path, type_check=False)
        return Graph(path.stem, _ordered(graph), _plain(graph.metadata))
    except DAMAGED as error:
        raise NirError(_reason(nir, path, error)) from None


def _reason(nir: Any, path: Path, error: Exception) -> str:
    """Which node cannot be made, if it is one."""
    h5py: Any = importlib.import_module("h5py")
    with suppress(*DAMAGED), h5py.File(path, "r") as file:
        for name, node in file["node"]["nodes"].items():
            try:
                nir.dict2NIRNode(nir.serialization.hdf2dict(node))
            except DAMAGED as own:
                kind = _text(node["type"][()])
                return f"node {name!r} ({kind}): must be as NIR defines it: {_detail(own)}"
    return f"must be a whole NIR file: cut or damaged? ({_detail(error)})"


def _detail(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def package() -> Any:
    """The package nir.

    Raises
    ------
    NirError
        It is not installed.
    """
    try:
        return importlib.import_module("nir")
    except ImportError:
        raise NirError("the package nir must be installed: pip install 'kenyon[nir]'") from None


def _check_file(path: Path) -> None:
    """Sizes before memory is taken, and what the nodes are before they are made."""
    h5py: Any = importlib.import_module("h5py")
    with h5py.File(path, "r") as file:
        sizes: list[int] = []

        def measure(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                sizes.append(math.prod(item.shape or (1,)) * item.dtype.itemsize)

        file.visititems(measure)
        if sum(sizes) > MAX_BYTES:
            raise NirError(f"arrays must take at most {MAX_BYTES:,} bytes, not {sum(sizes):,}")
        if "node" not in file:
            raise NirError("must be a NIR file: HDF5 with a group 'node'")
        kind = _text(file["node"]["type"][()])
        if kind != "NIRGraph":
            raise NirError(f"must hold a graph, not a single {kind}")
        nodes = file["node"]["nodes"]
        if len(nodes) > MAX_NODES:
            raise NirError(f"nodes must be at most {MAX_NODES:,}, not {len(nodes):,}")
        for name, node in nodes.items():
            kind = _text(node["type"][()])
            if kind in REFUSED:
                raise NirError(f"node {name!r} ({kind}) is not supported: {REFUSED[kind]}")
            if kind not in SUPPORTED:
                known = ", ".join(SUPPORTED)
                raise NirError(f"node {name!r} ({kind}) is not supported: must be among {known}")


def _ordered(graph: Any) -> tuple[Node, ...]:
    """Its nodes, each behind those that it reads."""
    sources: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, sink in graph.edges:
        for name in (source, sink):
            if name not in sources:
                raise NirError(f"edge {source!r} -> {sink!r}: there is no node {name!r}")
        if source in sources[sink]:
            raise NirError(f"edge {source!r} -> {sink!r} must be there once, not twice")
        sources[sink].append(source)
    nodes = {
        name: Node(name, type(node).__name__, vars(node), _plain(node.metadata), tuple(before))
        for (name, node), before in zip(graph.nodes.items(), sources.values(), strict=True)
    }
    try:
        return tuple(nodes[name] for name in TopologicalSorter(sources).static_order())
    except CycleError as error:
        chain = " -> ".join(repr(name) for name in error.args[1])
        raise NirError(
            f"nodes {chain} make a cycle: MARS computes layer after layer, and the populations, "
            "which have recurrent synapses, have IQIF neurons, no IF or LIF"
        ) from None


def _plain(metadata: Any) -> dict[str, Any]:
    return {name: _text(value) for name, value in _items(metadata)}


def _items(metadata: Any) -> Iterator[tuple[str, Any]]:
    return iter(metadata.items() if isinstance(metadata, dict) else ())


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
