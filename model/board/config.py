"""Boards that carry a chip."""

from dataclasses import dataclass

from model.config import ChipConfig

MIN_DIVIDER = 4
"""Clocks of a bit, at least: a receiver looks at the middle of bits."""


@dataclass(frozen=True)
class Pin:
    """Where a port is.

    Parameters
    ----------
    site : str
        Ball of the package.
    pull : str
        "UP", "DOWN" or "NONE".
    """

    site: str
    pull: str = "NONE"


@dataclass(frozen=True, kw_only=True)
class BoardConfig:
    """A board with an FPGA, a clock and a serial line.

    Parameters
    ----------
    name : str
    package : str
        Of the FPGA, the ECP5 with 85k LUTs, as nextpnr calls it.
    clock_hz : int
        Of the oscillator, which is the chip's clock.
    baud : int
        Bits per second on the line.
    pins : dict
        By the top's port; bits of a vector as `led[0]`.
    """

    name: str
    package: str
    clock_hz: int
    baud: int
    pins: dict[str, Pin]

    def __post_init__(self) -> None:
        if self.divider < MIN_DIVIDER:
            most = self.clock_hz // MIN_DIVIDER
            raise ValueError(f"baud must be at most {most}, a bit of 4 clocks, not {self.baud}")

    @property
    def divider(self) -> int:
        """Clocks of a bit."""
        return round(self.clock_hz / self.baud)


BOARDS: dict[str, BoardConfig] = {
    board.name: board
    for board in (
        BoardConfig(
            name="ulx3s",
            package="CABGA381",
            clock_hz=25_000_000,
            baud=1_000_000,
            pins={
                "clk": Pin("G2"),
                "rx": Pin("M1", "UP"),
                "tx": Pin("L4", "UP"),
                "button": Pin("R1", "DOWN"),
                "led[0]": Pin("B2"),
                "led[1]": Pin("C2"),
                "led[2]": Pin("C1"),
                "wifi_gpio0": Pin("L2"),
            },
        ),
    )
}
"""By name."""


def check_chip(chip: ChipConfig, board: str) -> None:
    """Refuse a chip that needs more than a serial line.

    Raises
    ------
    ValueError
    """
    if chip.npu is None or chip.mars is not None:
        raise ValueError(
            f"configuration must be one with populations alone on {board}, not {chip.name}: "
            "MARS needs a memory behind its AXI4 master"
        )
