"""What is mutated: three designs, the RTL files that each one answers for, and their benches."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from firmware_tools import regression
from firmware_tools.regression import MARS, QUANTISED_RTL, RANDOM, SPIKING_RTL
from hw import yosys
from hw.cache import cached, key
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.npu.config import CONFIGS as NPU_CONFIGS
from tb.benches import blocks
from tb.simulator import ROOT, Design

BLOCKS = "blocks"
CONTROL = "mutant"
"""The wire that carries the number of the mutant that is alive, zero if none is."""
CONTROL_WIDTH = 16
READY = "ready.il"
NUMBERED = "rename -enumerate -pattern proc_% c:$*$*"
"""Cells that `proc` has made count from 0 in each module, not through the whole design."""
PREPARE = ("proc", "opt_expr", "opt_clean", "wreduce", "opt_expr", "opt_clean", NUMBERED)
"""Logic that nothing reads, and bits that nothing uses, are not worth breaking."""
SEEN_ON_CHIP = (
    "hw/bus/registers.py",
    "hw/memory.py",
    "hw/npu/neuron_memory.py",
    "hw/npu/weight_memory.py",
)
"""Parts of blocks whose host accesses only the chip's bench makes."""
BENCH_OF_BLOCK = {
    "processing": "post_processing",
    "processing_in_turns": "post_processing_in_turns",
    "processing_wide": "post_processing_wide",
    "requantiser_wide": "requantiser",
    "copier": "weight_sram",
    "filling": "map_loader",
    "macro_of_sram": "macro",
    "uart_receiver": "uart",
    "uart_transmitter": "uart",
    "line": "uart",
}
"""Blocks whose bench is not called like them."""
MODULE = re.compile(r"^((?:attribute [^\n]*\n)+)module \\(\S+)\n(.*?)^end$", re.M | re.S)
NUMBER = re.compile(r"\$\d+")
SOURCE = re.compile(r'attribute \\src "([^"]+)"')
LINT = "".join(f"// verilator lint_off {code}\n" for code in ("CASEOVERLAP", "UNOPTFLAT"))
"""Yosys' cases have priorities; a bit that disturbs its neighbours looks like a loop."""


@dataclass(frozen=True)
class Bench:
    """A bench that can see mutants.

    Attributes
    ----------
    name : str
        As `kenyon regress --only` knows it.
    """

    name: str

    @property
    def config(self) -> str:
        """The chip on which it runs, or whose accelerator the block belongs to."""
        return "mars-tiny" if self.name in regression.names()[MARS] else "tiny"

    @property
    def design(self) -> Design:
        """What it runs on if nothing is mutated."""
        config = (NPU_CONFIGS | MARS_CONFIGS)[self.config]
        (case, *_) = regression.cases([config], [self.name], 1, 1)
        design = regression.design(case)
        assert design is not None
        return design


@dataclass(frozen=True)
class Module:
    """A module of the RTL.

    Attributes
    ----------
    name : str
        Its path in the design.
    source : str
        File and line of its class's `elaborate`.
    text : str
        All that it consists of, without places in source files, and with numbers of its own
        where Amaranth counts through the whole design.
    """

    name: str
    source: str
    text: str

    @property
    def file(self) -> str:
        """RTL file."""
        return self.source.split(":")[0]


@dataclass(frozen=True)
class Target:
    """A design that is mutated.

    Attributes
    ----------
    name : str
        `blocks`, or a chip.
    top : str
        Its outermost module.
    benches : tuple of str
        Those that see all of it, cheap ones first; for `blocks` none does.
    """

    name: str
    top: str
    benches: tuple[str, ...] = ()

    @cached_property
    def rtlil(self) -> str:
        """The design as Yosys' text, with the places of everything in source files."""
        from amaranth.back import rtlil

        from hw import generate
        from hw.top import Kenyon
        from model.config import CHIPS
        from tb.blocks import Blocks

        if self.name == BLOCKS:
            everything = Blocks()
            ports = everything.ports()
            return str(rtlil.convert(everything, name=self.top, ports=ports, emit_src=True))
        chip = Kenyon(CHIPS[self.name], trace=True)
        return str(rtlil.convert(chip, name=self.top, ports=generate.ports(chip), emit_src=True))

    @cached_property
    def modules(self) -> list[Module]:
        """All modules of the RTL."""
        found = []
        for attributes, name, body in MODULE.findall(self.rtlil):
            source = SOURCE.search(attributes)
            if source and relative(source[1]).startswith("hw/"):
                text = "\n".join(line for line in body.splitlines() if r"\src" not in line)
                found.append(Module(name, relative(source[1]), _renumbered(text)))
        return found

    def prepared(self, folder: Path) -> Path:
        """The folder, named by content, of `ready.il`, from which mutants are drawn and made."""
        rtlil = self.rtlil
        script = ["read_rtlil design.il", *PREPARE, f"write_rtlil {READY}", "tee -o stat.json stat"]
        script[-1] += " -json"

        def work(made: Path) -> None:
            (made / "design.il").write_text(rtlil)
            yosys.run("\n".join(script), made, "prepare")

        return cached(folder.absolute() / f"{self.name}-{key(rtlil, *script)}", work)

    def bench_names(self, module: str) -> tuple[str, ...]:
        """The benches that see a module, the quickest first."""
        if self.benches:
            return self.benches
        block = re.sub(r"[_$]\d+$", "", module.split(".")[1])
        return (BENCH_OF_BLOCK.get(block, block),)

    def design_of(self, bench: Bench) -> Design:
        """What a bench runs on if nothing is mutated: all blocks at once, or as ever."""
        return blocks() if self.name == BLOCKS else bench.design

    def simulator(self, bench: Bench, mutated: str, name: str) -> Design:
        """What a bench runs on, with mutated Verilog in place of the RTL's."""
        design = self.design_of(bench)
        control = (Path(__file__).parent / "mutants.sv").read_text()
        bind = f"bind {self.top} mutant_control mutant_control (.clk(clk), .number({CONTROL}));\n"

        def sources() -> dict[str, str]:
            texts = design.sources()
            return {**texts, f"{self.top}.v": LINT + mutated, "mutants.sv": control + bind}

        return replace(design, name=f"{design.name}-mutants-{name}", sources=sources)


TARGETS = {
    target.name: target
    for target in (
        Target(BLOCKS, BLOCKS),
        Target("tiny", "kenyon", ("chip", RANDOM)),
        Target(
            "mars-tiny",
            "kenyon",
            (
                "mars_registers",
                "mars_time",
                "mars_segments",
                "mars_accelerator",
                QUANTISED_RTL,
                SPIKING_RTL,
            ),
        ),
    )
}


def modules_by_file(targets: list[Target]) -> dict[tuple[str, str], list[Module]]:
    """By target and RTL file, the modules to mutate.

    Each file is mutated in the first design that has it, and of several instances of a class in
    those nearest to the ports.
    """
    result: dict[tuple[str, str], list[Module]] = {}
    done: set[str] = set()
    for target in targets:
        own = [module for module in target.modules if module.file not in done]
        if target.name == BLOCKS:
            own = [module for module in own if module.file not in SEEN_ON_CHIP]
        for source in dict.fromkeys(module.source for module in own):
            instances = [module for module in own if module.source == source]
            depth = min(module.name.count(".") for module in instances)
            nearest = [module for module in instances if module.name.count(".") == depth]
            result.setdefault((target.name, instances[0].file), []).extend(nearest)
        done |= {module.file for module in own}
    return result


def _renumbered(text: str) -> str:
    """Numbers behind `$` as they come first."""
    numbers: dict[str, str] = {}
    return NUMBER.sub(lambda found: numbers.setdefault(found[0], f"${len(numbers)}"), text)


def relative(source: str) -> str:
    """A place in a source file, seen from the project's folder."""
    path, _, line = source.partition(":")
    found = Path(path)
    inside = found.relative_to(ROOT).as_posix() if found.is_relative_to(ROOT) else found.name
    return f"{inside}:{line}"


def cells(stat: Path) -> dict[str, int]:
    """Cells by module, out of what Yosys' `stat -json` wrote."""
    import json

    modules = json.loads(stat.read_text())["modules"]
    return {name.lstrip("\\"): int(module["num_cells"]) for name, module in modules.items()}
