"""The directed benches, by name."""

from dataclasses import dataclass, replace
from pathlib import Path

from model.config import CHIPS, ChipConfig
from model.mars.config import CONFIGS, MarsConfig
from tb import simulator
from tb import waves as views
from tb.cosim import chip
from tb.simulator import Design, Waves

BENCH_CHIPS = CHIPS | {
    chip.name: chip
    for chip in (
        ChipConfig.alone(replace(CONFIGS["mars-tiny"], name="mars-tiny-sram", weight_sram=64)),
    )
}
"""The named chips, and one whose weight SRAM is so small that it is full at times."""


@dataclass(frozen=True)
class Bench:
    """Modules of cocotb benches, joined by commas; they run on a chip if nothing else is said."""

    name: str
    modules: str
    blocks: str = ""
    """Instead on this group of `tb.blocks.GROUPS`."""
    line_reader: str = ""
    """Instead on the line reader of this configuration with the memory for whole frames."""
    plusargs: tuple[str, ...] = ()

    @property
    def on_chip(self) -> bool:
        """Whether it runs on chips."""
        return not self.blocks and not self.line_reader


MEMORY_FILES = (
    "+input=input.bin",
    "+input_base=4000",
    "+program=program.bin",
    "+program_base=80000000",
    "+arrivals=arrivals.bin",
)
FEW_LANES = ("+lanes=4",)
"""Of post-processing."""
NPU_MODULES = (
    "tb.bus.tb_axi_lite",
    "tb.bus.tb_host_bus",
    "tb.bus.tb_registers",
    "tb.npu.tb_event_input",
    "tb.npu.tb_spike_output",
    "tb.npu.tb_scheduler",
    "tb.npu.tb_processor",
)
"""What a chip with NPU does at its ports, by the block that is meant."""
BENCHES = {
    bench.name: bench
    for bench in (
        Bench("soma", "tb.npu.tb_soma", blocks="npu"),
        Bench("post_synaptic", "tb.npu.tb_post_synaptic", blocks="npu"),
        Bench("noise", "tb.npu.tb_noise", blocks="npu"),
        Bench("weight_memory", "tb.npu.tb_weight_memory", blocks="npu"),
        Bench("row_walker", "tb.npu.tb_row_walker", blocks="npu"),
        Bench("population", "tb.npu.tb_population", blocks="npu"),
        Bench("bridge", "tb.tb_bridge", blocks="npu"),
        Bench("uart", "tb.board.tb_uart", blocks="board"),
        Bench("reset_unit", "tb.board.tb_reset_unit", blocks="board"),
        Bench("serial_host", "tb.board.tb_serial_host", blocks="board"),
        Bench("macro", "tb.mars.tb_macro", blocks="mars"),
        Bench("requantiser", "tb.mars.tb_requantiser", blocks="mars"),
        Bench("index_decoder", "tb.mars.tb_index_decoder", blocks="mars"),
        Bench("core", "tb.mars.tb_core", blocks="core"),
        Bench("post_processing", "tb.mars.tb_post_processing", blocks="processing"),
        Bench("post_processing_wide", "tb.mars.tb_post_processing_wide", blocks="processing_wide"),
        Bench(
            "post_processing_in_turns",
            "tb.mars.tb_post_processing",
            blocks="processing_in_turns",
            plusargs=FEW_LANES,
        ),
        Bench("lif", "tb.mars.tb_lif", blocks="lif"),
        Bench("lif_in_turns", "tb.mars.tb_lif", blocks="lif", plusargs=FEW_LANES),
        Bench("row_unit", "tb.mars.tb_row_unit", blocks="rows"),
        Bench("row_unit_in_turns", "tb.mars.tb_row_unit", blocks="rows", plusargs=FEW_LANES),
        Bench("rows", "tb.mars.tb_rows", blocks="rows"),
        Bench("rows_in_turns", "tb.mars.tb_rows", blocks="rows", plusargs=FEW_LANES),
        Bench("membrane_store", "tb.mars.tb_membrane_store", blocks="mars"),
        Bench(
            "membrane_store_in_turns",
            "tb.mars.tb_membrane_store",
            blocks="mars",
            plusargs=FEW_LANES,
        ),
        Bench("exit_unit", "tb.mars.tb_exit_unit", blocks="mars"),
        Bench("weight_sram", "tb.mars.tb_weight_sram", blocks="mars"),
        Bench("map_loader", "tb.mars.tb_map_loader", blocks="map_loader"),
        Bench("line_reader", "tb.mars.tb_line_reader", blocks="mars"),
        Bench("map_writer", "tb.mars.tb_map_writer", blocks="mars"),
        Bench(
            "axi_memory",
            "tb.mars.tb_axi_memory",
            line_reader="mars",
            plusargs=(*MEMORY_FILES, "+latency=20"),
        ),
        Bench(
            "axi_memory_slow",
            "tb.mars.tb_axi_memory",
            line_reader="mars-tiny",
            plusargs=(*MEMORY_FILES, "+latency=3", "+pause=40", "+error_addr=80007d1b"),
        ),
        Bench("chip", ",".join(NPU_MODULES)),
    )
}
"""Those of the blocks, and of chips with NPU."""
MARS_BENCHES = {
    bench.name: bench
    for bench in (
        Bench("mars_registers", "tb.mars.tb_registers"),
        Bench("mars_accelerator", "tb.mars.tb_accelerator"),
        Bench("mars_time", "tb.mars.tb_time"),
        Bench("mars_segments", "tb.mars.tb_segments"),
    )
}
"""Those of chips with MARS."""


JOINT_BENCHES = {"joint_chip": Bench("joint_chip", "tb.joint.tb_joint")}
"""Those of chips with both halves."""


def blocks(group: str = "") -> Design:
    """The blocks of a group, or all that have a bench of their own."""

    def sources() -> dict[str, str]:
        from tb.blocks import TOP, verilog

        text, states = verilog(group)
        return {"blocks.v": text, views.SCENE: views.scene(text, TOP, states)}

    return Design(f"blocks-{group}" if group else "blocks", "blocks", sources, effort="-O1")


def line_system(config: MarsConfig) -> Design:
    """The line reader of a configuration with the memory for whole frames."""

    def sources() -> dict[str, str]:
        from hw.generate import convert_with_states
        from hw.mars.line_reader import LineReader

        folder = Path(__file__).parent
        system = (folder / "mars" / "line_system.sv").read_text()
        text, states = convert_with_states(LineReader(config), "line_reader")
        return {
            "line_reader.v": text,
            views.SCENE: views.scene(text, "line_reader", states, "line_system.reader"),
            "axi_memory.sv": (folder / "axi_memory.sv").read_text(),
            "line_system.sv": f"`define DATA_WIDTH {config.weight_bus}\n{system}",
        }

    return Design(f"line_system-{config.name}", "line_system", sources, effort="-O1")


def design(bench: Bench, config: ChipConfig) -> Design:
    """The RTL of a bench."""
    if bench.line_reader:
        return line_system(CONFIGS[bench.line_reader])
    return blocks(bench.blocks) if bench.blocks else chip(config)


def run(name: str, config: ChipConfig, results: Path, *, seed: int = 0, waves: Waves = "") -> int:
    """Run a directed bench; returns how many cocotb tests passed.

    Raises
    ------
    BenchFailure
        A test failed; the text holds the end of its log.
    """
    bench = (BENCHES | MARS_BENCHES | JOINT_BENCHES)[name]
    return simulator.run(
        design(bench, config),
        bench.modules,
        results,
        seed=seed,
        waves=waves,
        plusargs=bench.plusargs,
        environment={"KENYON_CONFIG": config.name, "KENYON_MARS_CONFIG": bench.line_reader},
    )
