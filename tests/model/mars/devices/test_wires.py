"""Wires: against ngspice, against a sparse solver written apart, and by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from model.mars.devices import wires

VECTORS = np.load(Path(__file__).parents[3] / "vectors" / "devices" / "wires.npz")
"""Written by make_wires.py beside it."""
N_CIRCUITS = 4


@pytest.mark.parametrize("k", range(N_CIRCUITS))
def test_circuit_simulator(k: int) -> None:
    """Currents of columns to 1e-9, of arrays to 64x64."""
    g, v, ohms, currents = (VECTORS[f"{what}{k}"] for what in ("g", "v", "ohm", "i"))
    seen = wires.exact(g[np.newaxis], *ohms)[0]
    np.testing.assert_allclose(v @ seen, currents, rtol=1e-9)


def nodal(g: np.ndarray, driver: float, wire: float, sense: float) -> np.ndarray:
    """Effective conductances from the whole matrix of all nodes, in siemens."""
    n_rows, n_cols = g.shape
    node = np.arange(2 * n_rows * n_cols).reshape(2, n_rows, n_cols)
    edges = [(node[0], node[1], g * 1e-6)]
    edges += [(node[0][:, :-1], node[0][:, 1:], 1 / wire), (node[1][:-1], node[1][1:], 1 / wire)]
    rows, cols, values = [], [], []
    for one, other, siemens in edges:
        a, b = one.ravel(), other.ravel()
        y = np.broadcast_to(siemens, one.shape).ravel()
        rows += [a, b, a, b]
        cols += [a, b, b, a]
        values += [y, y, -y, -y]
    ends = (node[0][:, 0], 1 / driver), (node[1][-1], 1 / sense)
    for at, y in ends:
        rows.append(at)
        cols.append(at)
        values.append(np.full(len(at), y))
    coordinates = np.concatenate(rows), np.concatenate(cols)
    matrix = sparse.csc_matrix((np.concatenate(values), coordinates), (node.size, node.size))
    into = np.zeros((node.size, n_rows))
    into[node[0][:, 0], np.arange(n_rows)] = 1 / driver
    volts = splu(matrix).solve(into)
    return volts[node[1][-1]].T / sense * 1e6


@pytest.mark.parametrize(
    ("shape", "ohms"),
    [
        ((1, 1), (1000.0, 5.0, 1000.0)),
        ((1, 7), (1000.0, 5.0, 1000.0)),
        ((9, 1), (10.0, 1.0, 20.0)),
        ((16, 24), (1000.0, 10.0, 100.0)),
        ((64, 64), (1000.0, 5.0, 1000.0)),
    ],
)
def test_sparse_solver(shape: tuple[int, int], ohms: tuple[float, float, float]) -> None:
    """Every effective conductance, several arrays at once, cells that are missing included."""
    rng = np.random.default_rng(3)
    g = rng.uniform(1, 160, (2, *shape))
    g[1][rng.random(shape) < 0.2] = 0.0
    g[1, 0, 0] = 1.0
    seen = wires.exact(g, *ohms)
    for one, effective in zip(g, seen, strict=True):
        expected = nodal(one, *ohms)
        np.testing.assert_allclose(effective, expected, rtol=1e-6, atol=1e-12 * expected.max())


def test_one_cell() -> None:
    """Driver, cell and sense in series: 1 / (1000 + 10000 + 500) Ohm."""
    seen = wires.exact(np.full((1, 1, 1), 100.0), 1000.0, 5.0, 500.0)
    np.testing.assert_allclose(seen, 1e6 / 11500, rtol=1e-12)


@pytest.mark.parametrize(
    ("size", "g_max", "most"),
    [(16, 40.0, 0.0005), (64, 40.0, 0.004), (128, 40.0, 0.01), (128, 167.0, 0.025)],
)
def test_fast_form(size: int, g_max: float, most: float) -> None:
    """The error of currents that docs/devices.md states, against nodal analysis."""
    rng = np.random.default_rng(size)
    digits = rng.integers(0, 9, (1, size, size)) * (rng.random((1, size, size)) < 0.5)
    g = np.maximum(digits / 8, 1 / 40) * g_max
    v = rng.integers(0, 16, size) * (rng.random(size) < 0.6)
    exact, fast = (form(g, 1000.0, 5.0, 1000.0)[0] for form in (wires.exact, wires.fast))
    error = np.linalg.norm(v @ fast - v @ exact) / np.linalg.norm(v @ exact)
    assert error < most


def test_fast_form_of_one_cell() -> None:
    """Without neighbours only the third of a wire is too much."""
    seen = wires.fast(np.full((1, 1, 1), 100.0), 1000.0, 5.0, 500.0)
    np.testing.assert_allclose(seen, 1e6 / 11500, rtol=1e-3)
