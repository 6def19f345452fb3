"""Arrays whose wires have a resistance: the current of each column, by nodal analysis.

Row i is driven at its first column through `driver`, column j ends behind its last row in `sense`,
and cells that are neighbours are `wire` apart in both directions. Currents are linear in the
voltages of the rows, so an array has an effective conductance for each cell: the current of its
column for one volt at its row and none at the others.
"""

import numpy as np

from model.mars.devices.draws import Floats

MICRO = 1e-6
LUMPED = 1 / 3
"""Mean drop along a wire whose load is spread evenly, as a share of that of all load at its end."""
SWEEPS = 2


def exact(g: Floats, driver: float, wire: float, sense: float) -> Floats:
    """Effective conductances by eliminating the nodes of one row after the other.

    With T the row's tridiagonal matrix of its upper nodes, G its cells and c its lower nodes,
    ``(diag - G T^-1 G) c_i - (c_{i-1} + c_{i+1})/wire = v_i G T^-1 e_0/driver``: block Thomas.

    Parameters
    ----------
    g : (arrays, rows, columns) float64
        uS; 0 is no cell.
    driver, wire, sense : float
        Ohm, more than 0.

    Returns
    -------
    (arrays, rows, columns) float64
        uS.
    """
    n_arrays, n_rows, n_cols = g.shape
    # In uS, so that numbers are near those of the cells.
    g_driver, g_wire, g_sense = (1 / (MICRO * ohm) for ohm in (driver, wire, sense))
    beside = _neighbours(n_cols) * g_wire
    above = _neighbours(n_rows) * g_wire
    band = (np.eye(n_cols, k=1) + np.eye(n_cols, k=-1)) * g_wire
    beside[0] += g_driver
    above[-1] += g_sense
    inverse: Floats = np.zeros((n_arrays, n_cols, n_cols))
    reached = np.zeros((n_arrays, n_cols, n_rows))
    diagonal = np.arange(n_cols)
    for row in range(n_rows):
        cells = g[:, row]
        upper = np.repeat(-band[np.newaxis], n_arrays, axis=0)
        upper[:, diagonal, diagonal] += cells + beside
        through = np.linalg.inv(upper) * cells[:, :, np.newaxis]
        matrix = -through * cells[:, np.newaxis, :]
        matrix[:, diagonal, diagonal] += cells + above[row]
        if row:
            matrix -= g_wire**2 * inverse
            reached[:, :, :row] = g_wire * (inverse @ reached[:, :, :row])
        reached[:, :, row] = g_driver * through[:, :, 0]
        inverse = np.asarray(np.linalg.inv(matrix), np.float64)
    return np.asarray(g_sense * (inverse @ reached).swapaxes(1, 2))


def _neighbours(n: int) -> Floats:
    counts = np.full(n, 2.0)
    counts[0] -= 1
    counts[-1] -= 1
    return counts


def fast(g: Floats, driver: float, wire: float, sense: float) -> Floats:
    """Effective conductances of an array whose wires are moved to its ends, and then corrected.

    A third of each wire counts as part of driver or sense, which is what a load that is spread
    evenly drops in the mean; then there is one node for each row and column. Cells are corrected
    by what two sweeps along all rows and columns say of their currents with all rows at one volt.
    Parameters as of `exact`; docs/devices.md has the error.
    """
    n_rows, n_cols = g.shape[1:]
    at_row = 1 / (MICRO * (driver + wire * n_cols * LUMPED))
    at_col = 1 / (MICRO * (sense + wire * n_rows * LUMPED))
    from_rows = at_row + g.sum(axis=2, keepdims=True)
    matrix = -g.swapaxes(1, 2) @ (g / from_rows)
    diagonal = np.arange(n_cols)
    matrix[:, diagonal, diagonal] += at_col + g.sum(axis=1)
    lower = np.linalg.solve(matrix, at_row * (g / from_rows).swapaxes(1, 2))
    effective = np.asarray(at_col * lower.swapaxes(1, 2))
    low = lower.sum(axis=2)[:, np.newaxis, :]
    high = (at_row + (g * low).sum(axis=2, keepdims=True)) / from_rows
    start = np.broadcast_to(low, g.shape)
    drops = _drops(g, start, driver, wire, sense)
    return np.asarray(effective * drops / np.maximum(high - low, 1e-9))


def _drops(g: Floats, low: Floats, driver: float, wire: float, sense: float) -> Floats:
    """Voltages across cells with all rows at one volt, after two sweeps from those of columns."""
    g_driver, g_wire, g_sense = (1 / (MICRO * ohm) for ohm in (driver, wire, sense))
    n_rows, n_cols = g.shape[1:]
    beside, above = _neighbours(n_cols) * g_wire, _neighbours(n_rows) * g_wire
    beside[0] += g_driver
    above[-1] += g_sense
    down = g.swapaxes(1, 2)
    for _ in range(SWEEPS):
        into = g * low
        into[:, :, 0] += g_driver
        high = _along(g + beside, into, g_wire)
        low = _along(down + above, (g * high).swapaxes(1, 2), g_wire).swapaxes(1, 2)
    return high - low


def _along(diagonal: Floats, into: Floats, g_wire: float) -> Floats:
    """Voltages along wires (..., nodes), tridiagonal: Thomas' algorithm."""
    n = diagonal.shape[-1]
    ratio, volts = np.empty_like(diagonal), np.empty_like(diagonal)
    ratio[..., 0] = g_wire / diagonal[..., 0]
    volts[..., 0] = into[..., 0] / diagonal[..., 0]
    for k in range(1, n):
        pivot = diagonal[..., k] - g_wire * ratio[..., k - 1]
        ratio[..., k] = g_wire / pivot
        volts[..., k] = (into[..., k] + g_wire * volts[..., k - 1]) / pivot
    for k in range(n - 2, -1, -1):
        volts[..., k] += ratio[..., k] * volts[..., k + 1]
    return volts
