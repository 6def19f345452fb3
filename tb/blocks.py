"""Blocks that have a bench of their own side by side, so that few builds serve."""

from collections.abc import Callable
from functools import partial

from amaranth.hdl import Elaboratable, Module, Value
from amaranth.lib.wiring import Component, In, Out

from hw.board.line import Line
from hw.board.reset import ResetUnit
from hw.board.serial_host import SerialHost
from hw.board.uart import UartReceiver, UartTransmitter
from hw.bridge import Bridge
from hw.generate import States, convert_with_states, ports
from hw.mars.core import Core
from hw.mars.drain import Drain
from hw.mars.exit_unit import ExitUnit
from hw.mars.index_decoder import IndexDecoder
from hw.mars.lane import RESIDUAL_WORDS, SUMS
from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR, ROW_WIDTH, header_bits
from hw.mars.lif import LifChain
from hw.mars.line_reader import LineReader
from hw.mars.macro import CIMMacro
from hw.mars.map_loader import MapLoader, MapRows
from hw.mars.map_writer import MapWriter
from hw.mars.membranes import MEMBRANES, MembraneStore
from hw.mars.post_processing import TABLE_WORDS, PostProcessing
from hw.mars.requantiser import Requantiser
from hw.mars.row_unit import RowUnit
from hw.mars.rows import Rows
from hw.mars.turns import Turns
from hw.mars.walker import ROUND
from hw.mars.weight_sram import Copier, WeightSram
from hw.memory import TwoPortMemory
from hw.npu.noise import NoiseGenerator
from hw.npu.population import Population
from hw.npu.post_synaptic import PostSynapticUnit
from hw.npu.row_walker import RowWalker
from hw.npu.soma import Soma
from hw.npu.weight_memory import WeightMemory
from model.config import CHIPS
from model.mars.clocks import WITHOUT_SRAM
from model.mars.config import (
    ADDRESSES,
    KERNELS,
    LINE_BITS,
    ROWS_PER_COPY,
    WORD_BITS,
    WORD_LINES,
    WORDS_PER_WRITE,
    MarsConfig,
)
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.npu.config import CONFIGS

TOP = "blocks"
CONFIG = CONFIGS["tiny"]
POPULATION = 1
"""The population with a link."""
N_WALKER_ROWS, N_WALKER_PASSES = 40, 4
"""Three words, the last one half filled."""
N_BLOCK_ROWS, N_BLOCK_GROUPS, N_BLOCK_LANES = 21, 3, 8
"""No powers of two, so that words exist behind the last one; two columns."""
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
MAP_WRITERS = (64, 128, 512)
"""Widths of the bus."""
PROCESSING = (1, 8)
FEW_LANES = 4
"""Of post-processing, instead of 16."""
N_HEADERS = WITHOUT_SRAM.headers
SRAM_SETS, SRAM_HEADERS = 128, 8
LIF_TEAMS = 8
ROW_MACROS = 8
STORE_MACROS = 8
"""Numbers of macros whose rounds are drained."""
FILLED_ROWS = (1, ROWS_PER_COPY)
"""Rows that macros take at once which are filled with a map."""
UART_DIVIDERS = (4, 25)
"""The smallest, and that of a board."""
LINE_DEPTH = 16
BREAK_CLOCKS = 96
CORE_FIRST, CORE_MACROS, CORE_WORDS = 5, 2, 256
"""An odd number, so that the lanes are of different teams also with two macros in a team."""


class Processing(Component):
    """Drain, headers and post-processing, connected as in `hw.mars.engine.Engine`.

    Parameters
    ----------
    n_macros : int
    wide_multiplier : bool
    n_lanes : int

    Members
    -------
    header_write, header_slot, header_data : In
        Writes the header of a kernel block.
    The others as those of `hw.mars.drain.Drain` and `hw.mars.post_processing.PostProcessing`.
    """

    def __init__(
        self, n_macros: int, *, wide_multiplier: bool = False, n_lanes: int = KERNELS
    ) -> None:
        self.turns = Turns(n_lanes)
        self.n_macros = n_macros
        self.wide_multiplier = wide_multiplier
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR),
                "round_done": In(1),
                "round": In(ROUND),
                "sums": In(SUMS).array(n_macros),
                "highs": In(SUMS).array(n_macros),
                "residuals": In(RESIDUAL_WORDS * WORD_BITS).array(n_macros),
                "header_write": In(1),
                "header_slot": In(range(N_HEADERS)),
                "header_data": In(header_bits(wide_multiplier)),
                "pass_begins": In(1),
                "feature_valid": In(1),
                "feature_words": In(WORDS_PER_WRITE * WORD_BITS),
                "table_enable": In(1),
                "table_addr": In(range(TABLE_WORDS)),
                "header_freed": Out(1),
                "last_word": Out(1),
                "value_valid": Out(1),
                "values": Out(SUMS),
                "membranes": Out(MEMBRANES),
                "write": Out(1),
                "write_row": Out(ROW_WIDTH),
                "write_offset": Out(ADDR_WIDTH),
                "write_halves": Out(2 * WORDS_PER_WRITE),
                "write_data": Out(WORDS_PER_WRITE * WORD_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.drain = drain = Drain(self.n_macros, self.turns.n)
        width = header_bits(self.wide_multiplier)
        m.submodules.post_processing = post = PostProcessing(
            wide_multiplier=self.wide_multiplier,
            n_teams=self.n_macros,
            n_lanes=self.turns.n_lanes,
        )
        value_valid, values = self.turns.whole(m, post.value_valid, post.values.as_value())
        m.submodules.headers = headers = TwoPortMemory(
            depth=N_HEADERS, width=width, granularity=LINE_BITS
        )
        m.d.comb += [
            headers.w_mask.eq(self.header_write.replicate(width // LINE_BITS)),
            headers.w_addr.eq(self.header_slot),
            headers.w_data.eq(self.header_data),
            headers.r_enable.eq(1),
            headers.r_addr.eq(drain.header_slot),
            post.header.eq(headers.r_data),
            drain.descriptor.eq(self.descriptor),
            drain.round_done.eq(self.round_done),
            drain.round.eq(self.round),
            *(to.eq(sums) for to, sums in zip(drain.sums, self.sums, strict=True)),
            *(to.eq(highs) for to, highs in zip(drain.highs, self.highs, strict=True)),
            *(to.eq(words) for to, words in zip(drain.residuals, self.residuals, strict=True)),
            post.descriptor.eq(self.descriptor),
            post.pixel.eq(drain.pixel),
            post.acc.eq(drain.acc),
            post.residual.eq(drain.residual),
            post.pass_begins.eq(self.pass_begins),
            post.feature_valid.eq(self.feature_valid),
            post.feature_words.eq(self.feature_words),
            post.table_enable.eq(self.table_enable),
            post.table_addr.eq(self.table_addr),
            self.header_freed.eq(drain.header_freed),
            self.last_word.eq(drain.last_word),
            self.value_valid.eq(value_valid),
            self.values.eq(values),
            self.membranes.eq(self.turns.until_last(m, post.membranes)),
            self.write.eq(post.write),
            self.write_row.eq(post.write_row),
            self.write_offset.eq(post.write_offset),
            self.write_halves.eq(post.write_halves),
            self.write_data.eq(post.write_data),
        ]
        return m


class Filling(Component):
    """The map loader and macros of its team, connected as in `hw.mars.lane.Lane`.

    Members
    -------
    read, write_addr, write_word_line : Out
        Of the step.
    The others as those of `hw.mars.map_loader.MapLoader` and, of each macro, of `MapRows`.
    """

    def __init__(self) -> None:
        self.parts: list[tuple[Component, str]] = [(MapLoader(), "")]
        self.parts += [(MapRows(n), f"_{number}") for number, n in enumerate(FILLED_ROWS)]
        members = {
            name + ending * (name != "descriptor"): member
            for part, ending in self.parts
            for name, member in part.signature.members.items()
            if name != "step"
        }
        of_step = {"read": 1, "write_addr": range(ADDRESSES), "write_word_line": range(WORD_LINES)}
        super().__init__(members | {name: Out(shape) for name, shape in of_step.items()})

    def elaborate(self, platform):
        m = Module()
        step = self.parts[0][0].step
        for number, (part, ending) in enumerate(self.parts):
            m.submodules[f"part_{number}"] = part
            for name, member in part.signature.members.items():
                if name == "step":
                    continue
                inner = getattr(part, name)
                outer = getattr(self, name + ending * (name != "descriptor"))
                m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
            if number:
                m.d.comb += part.step.eq(step)
        m.d.comb += [
            self.read.eq(step.read),
            self.write_addr.eq(step.addr),
            self.write_word_line.eq(step.word_line),
        ]
        return m


GROUPS: dict[str, dict[str, Callable[[], Component]]] = {
    "npu": {
        "soma": Soma,
        "post_synaptic": lambda: PostSynapticUnit(N_SUM_ROWS),
        "noise": lambda: NoiseGenerator(CONFIG.n_lanes),
        "weight_memory": lambda: WeightMemory(N_BLOCK_ROWS, N_BLOCK_GROUPS, N_BLOCK_LANES),
        "row_walker": lambda: RowWalker(N_WALKER_ROWS, N_WALKER_PASSES),
        "population": lambda: Population(CONFIG, POPULATION, trace=True),
        "bridge": lambda: Bridge(CHIPS["kenyon-tiny"]),
    },
    "mars": {
        "macro": CIMMacro,
        "macro_of_sram": lambda: CIMMacro(ROWS_PER_COPY),
        "requantiser": Requantiser,
        "requantiser_wide": lambda: Requantiser(wide=True),
        **{name: partial(LineReader, config) for name, config in LINE_READERS.items()},
        **{f"map_writer_{bus}": partial(MapWriter, bus) for bus in MAP_WRITERS},
        "index_decoder": IndexDecoder,
        "weight_sram": lambda: WeightSram(SRAM_SETS),
        "copier": lambda: Copier(SRAM_SETS, SRAM_HEADERS),
        "membrane_store": lambda: MembraneStore(STORE_MACROS),
        "membrane_store_in_turns": lambda: MembraneStore(STORE_MACROS, KERNELS // FEW_LANES),
        "exit_unit": ExitUnit,
    },
    "rows": {
        "row_unit": RowUnit,
        "rows": lambda: Rows(ROW_MACROS),
        "row_unit_in_turns": lambda: RowUnit(FEW_LANES),
        "rows_in_turns": lambda: Rows(ROW_MACROS, FEW_LANES),
    },
    "map_loader": {"filling": Filling},
    "board": {
        **{f"uart_receiver_{n}": partial(UartReceiver, n) for n in UART_DIVIDERS},
        **{f"uart_transmitter_{n}": partial(UartTransmitter, n) for n in UART_DIVIDERS},
        "line": lambda: Line(UART_DIVIDERS[0], LINE_DEPTH),
        "reset_unit": lambda: ResetUnit(BREAK_CLOCKS),
        "serial_host": SerialHost,
    },
    "lif": {
        "lif": lambda: LifChain(LIF_TEAMS),
        "lif_in_turns": lambda: LifChain(LIF_TEAMS, FEW_LANES),
    },
    "core": {"core": lambda: Core(CORE_FIRST, CORE_MACROS, CORE_WORDS)},
    "processing": {f"processing_{n}": partial(Processing, n) for n in PROCESSING},
    "processing_in_turns": {
        f"processing_in_turns_{n}": partial(Processing, n, n_lanes=FEW_LANES) for n in PROCESSING
    },
    "processing_wide": {"processing_wide": lambda: Processing(1, wide_multiplier=True)},
}
"""Blocks by the simulator that they share: small ones together, so that all are built soon."""


class Blocks(Elaboratable):
    """Ports are those of the blocks behind the name of the block.

    Parameters
    ----------
    group : str
        Of `GROUPS`; all of them if it is empty.
    """

    def __init__(self, group: str = "") -> None:
        groups = [GROUPS[group]] if group else GROUPS.values()
        self.blocks = {name: make() for of_group in groups for name, make in of_group.items()}

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


def verilog(group: str = "") -> tuple[str, States]:
    """Verilog of the module `blocks`, and what its states are called."""
    return convert_with_states(Blocks(group), TOP, Blocks.ports)
