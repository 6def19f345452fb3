"""All blocks that have a bench of their own side by side, so that one build serves."""

from amaranth.hdl import Elaboratable, Module, Value
from amaranth.lib.wiring import Component

from hw.generate import ports
from hw.mars.line_reader import LineReader
from hw.mars.macro import CIMMacro
from hw.mars.requantiser import Requantiser
from hw.npu.noise import NoiseGenerator
from hw.npu.population import Population
from hw.npu.post_synaptic import PostSynapticUnit
from hw.npu.row_walker import RowWalker
from hw.npu.soma import Soma
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.mars.config import MarsConfig
from model.npu.config import CONFIGS

TOP = "blocks"
CONFIG = CONFIGS["tiny"]
POPULATION = 1
"""The population with a link."""
N_WALKER_ROWS, N_WALKER_PASSES = 40, 4
"""Three words, the last one half filled."""
N_SUM_ROWS = 300
LINE_READERS = {
    f"line_reader_{config.weight_bus}": config
    for config in (
        MARS_CONFIGS["mars-tiny"],
        MarsConfig(name="mars-128", weight_bus=128, line_buffer=32),
        MarsConfig(name="mars-256", weight_bus=256, line_buffer=16),
        MARS_CONFIGS["mars"],
    )
}
"""One for every width of the bus."""


class Blocks(Elaboratable):
    """Ports are those of the blocks behind the name of the block."""

    def __init__(self) -> None:
        self.blocks: dict[str, Component] = {
            "soma": Soma(),
            "post_synaptic": PostSynapticUnit(N_SUM_ROWS),
            "noise": NoiseGenerator(CONFIG.n_lanes),
            "row_walker": RowWalker(N_WALKER_ROWS, N_WALKER_PASSES),
            "population": Population(CONFIG, POPULATION, trace=True),
            "macro": CIMMacro(),
            "requantiser": Requantiser(),
            **{name: LineReader(config) for name, config in LINE_READERS.items()},
        }

    def ports(self) -> dict[str, tuple[Value, None]]:
        """Ports of all blocks."""
        return {
            f"{block}_{name}": port
            for block, component in self.blocks.items()
            for name, port in ports(component).items()
        }

    def elaborate(self, platform):
        m = Module()
        for name, component in self.blocks.items():
            m.submodules[name] = component
        return m


def verilog() -> str:
    """Verilog of the module `blocks`."""
    from amaranth.back import verilog as backend

    blocks = Blocks()
    return backend.convert(blocks, name=TOP, ports=blocks.ports(), emit_src=False)
