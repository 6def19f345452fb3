"""The 180 nm standard-cell library of Oklahoma State University, as Debian packages it."""

from pathlib import Path

PACKAGES = ("qflow-tech-osu018", "opensta")
"""Debian packages of the library and of the timing and power analyser."""
FOLDER = Path("/usr/share/qflow/tech/osu018")
LAYOUT_PACKAGES = ("qflow-tech-osu018", "graywolf", "qrouter", "magic", "netgen-lvs")
"""Those of the layout, and what they call their programs."""
LAYOUT_TOOLS = ("graywolf", "qrouter", "magic", "netgen-lvs")
LIBERTY = FOLDER / "osu018_stdcells.lib"
VERILOG = FOLDER / "osu018_stdcells.v"
VDD = 1.8
"""Volts, at the typical corner and 25 degrees Celsius: the only corner that the library has."""
GATE_EQUIVALENT = 24.0
"""um2 of NAND2X1."""
CLOCK_GATE = Path(__file__).with_name("clock_gate.v")
"""The library has no clock-gating cell: ours is made of its latch, inverter and AND."""


class MissingLibrary(RuntimeError):
    """The library is not installed; the text says how to get it."""


def liberty() -> Path:
    """The library's timing, power and area.

    Raises
    ------
    MissingLibrary
    """
    return _there(LIBERTY)


def verilog() -> Path:
    """The library's cells for simulation, with a delay for every path through them.

    Raises
    ------
    MissingLibrary
    """
    return _there(VERILOG)


def lef() -> Path:
    """Outlines and pins of the library's cells, and the layers of wires; as `verilog`."""
    return _there(FOLDER / "osu018_stdcells.lef")


def placement_parameters() -> Path:
    """What graywolf is to know of the process; as `verilog`."""
    return _there(FOLDER / "osu018.par")


def magic_technology() -> Path:
    """Layers, rules and capacitances for Magic; as `verilog`."""
    return _there(FOLDER / "SCN6M_SUBM.10.tech")


def comparison_setup() -> Path:
    """What netgen is to know of the cells; as `verilog`."""
    return _there(FOLDER / "osu018_setup.tcl")


def _there(path: Path) -> Path:
    if not path.exists():
        raise MissingLibrary(
            f"the 180 nm library is missing; on Debian: apt-get install {' '.join(PACKAGES)}"
        )
    return path
