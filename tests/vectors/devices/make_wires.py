"""Writes wires.npz: currents of arrays with wires, as ngspice computes them.

Needs Debian's `ngspice` (39.3 was used): ``python make_wires.py``. Each array is one operating
point: a voltage source and a driver at the first column of each row, wires between neighbours in
both directions, a resistor at the last row of each column. The file has conductances (uS),
voltages, the three resistances (Ohm) and the currents of the columns (uA).
"""

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

CASES = (
    (4, 6, 1000.0, 5.0, 1000.0, 40.0),
    (16, 16, 1000.0, 10.0, 1000.0, 167.0),
    (32, 32, 500.0, 5.0, 200.0, 40.0),
    (64, 64, 1000.0, 5.0, 1000.0, 40.0),
)
"""Rows, columns, driver, wire, sense, largest conductance."""


def netlist(g: np.ndarray, v: np.ndarray, driver: float, wire: float, sense: float) -> str:
    """The circuit; g in uS, all numbers in full."""
    n_rows, n_cols = g.shape
    lines = ["crossbar", ".options reltol=1e-12 abstol=1e-18 vntol=1e-15 gmin=1e-30"]
    for i in range(n_rows):
        lines += [f"Vin{i} s{i} 0 {v[i]!r}", f"Rd{i} s{i} r{i}_0 {driver!r}"]
        for j in range(n_cols):
            lines.append(f"Rc{i}_{j} r{i}_{j} c{i}_{j} {1e6 / g[i, j]!r}")
            if j + 1 < n_cols:
                lines.append(f"Rr{i}_{j} r{i}_{j} r{i}_{j + 1} {wire!r}")
            if i + 1 < n_rows:
                lines.append(f"Rw{i}_{j} c{i}_{j} c{i + 1}_{j} {wire!r}")
    last = n_rows - 1
    lines += [f"Rs{j} c{last}_{j} 0 {sense!r}" for j in range(n_cols)]
    names = " ".join(f"v(c{last}_{j})" for j in range(n_cols))
    # A batch run without `quit` ends with code 1.
    return "\n".join(
        [*lines, ".control", "set numdgt=16", "op", f"print {names}", "quit 0", ".endc", ".end", ""]
    )


def currents(g: np.ndarray, v: np.ndarray, driver: float, wire: float, sense: float) -> np.ndarray:
    """Of the columns, uA."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "array.cir"
        path.write_text(netlist(g.astype(object), v.astype(object), driver, wire, sense))
        done = subprocess.run(
            ["ngspice", "-b", str(path)], capture_output=True, text=True, check=True
        )
    found = re.findall(r"v\(c\d+_(\d+)\) = (\S+)", done.stdout)
    volts = {int(column): float(value) for column, value in found}
    return np.array([volts[j] for j in range(g.shape[1])]) / sense * 1e6


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(7)
    arrays: dict[str, np.ndarray] = {}
    for k, (n_rows, n_cols, driver, wire, sense, g_max) in enumerate(CASES):
        g = np.maximum(rng.integers(0, 9, (n_rows, n_cols)) / 8 * g_max, g_max / 40)
        v = rng.integers(0, 16, n_rows) / 15.0
        arrays[f"g{k}"], arrays[f"v{k}"] = g, v
        arrays[f"ohm{k}"] = np.array([driver, wire, sense])
        arrays[f"i{k}"] = currents(g, v, driver, wire, sense)
    np.savez_compressed(Path(__file__).with_name("wires.npz"), **arrays)


if __name__ == "__main__":
    main()
