"""The directed benches, by name."""

from dataclasses import dataclass
from pathlib import Path

from model.npu.config import NPUConfig
from tb import simulator
from tb.cosim import chip
from tb.simulator import Design


@dataclass(frozen=True)
class Bench:
    """A module of cocotb benches; it runs on the blocks, or on the chip of a configuration."""

    name: str
    module: str
    on_chip: bool


BENCHES = {
    bench.name: bench
    for bench in (
        Bench("soma", "tb.npu.tb_soma", False),
        Bench("post_synaptic", "tb.npu.tb_post_synaptic", False),
        Bench("noise", "tb.npu.tb_noise", False),
        Bench("row_walker", "tb.npu.tb_row_walker", False),
        Bench("population", "tb.npu.tb_population", False),
        Bench("macro", "tb.mars.tb_macro", False),
        Bench("requantiser", "tb.mars.tb_requantiser", False),
        Bench("line_reader", "tb.mars.tb_line_reader", False),
        Bench("chip", "tb.tb_chip", True),
    )
}


def blocks() -> Design:
    """All blocks that have a bench of their own."""

    def sources() -> dict[str, str]:
        from tb.blocks import verilog

        return {"blocks.v": verilog()}

    return Design("blocks", "blocks", sources)


def design(bench: Bench, config: NPUConfig) -> Design:
    """The RTL of a bench."""
    return chip(config) if bench.on_chip else blocks()


def run(name: str, config: NPUConfig, results: Path, *, seed: int = 0, waves: bool = False) -> int:
    """Run a directed bench; returns how many cocotb tests passed.

    Raises
    ------
    BenchFailure
        A test failed; the text holds the end of its log.
    """
    bench = BENCHES[name]
    return simulator.run(
        design(bench, config),
        bench.module,
        results,
        seed=seed,
        waves=waves,
        environment={"KENYON_CONFIG": config.name},
    )
