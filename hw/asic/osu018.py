"""The 180 nm standard-cell library of Oklahoma State University, as Debian packages it."""

from pathlib import Path

PACKAGES = ("qflow-tech-osu018", "opensta")
"""Debian packages of the library and of the timing and power analyser."""
LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
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
    if not LIBERTY.exists():
        raise MissingLibrary(
            f"the 180 nm library is missing; on Debian: apt-get install {' '.join(PACKAGES)}"
        )
    return LIBERTY
