"""Proves that a mutant changes nothing, with ABC's sequential equivalence checker in Yosys."""

from pathlib import Path

from firmware_tools.mutation.mutants import Mutant
from firmware_tools.mutation.targets import BLOCKS
from hw import yosys

PDR_S = 60
"""For the last of ABC's methods; the others are limited by conflicts."""
SAT_S = 30
"""For logic without registers, in which ABC has nothing to do if it vanishes."""
TIMEOUT_S = 1200
"""For all of a proof."""
PROVED = "snl_UNSAT"
"""ABC's word for an output that is always 0."""
ABC_RUN = "Running ABC script"
PORTS, MAP = "memory_ports.v", "memories.v"
GATES = ("opt_expr", "opt_merge", "opt_clean", "dffunmap", "techmap", "opt_expr", "opt_clean")


def is_equivalent(mutant: Mutant, folder: Path) -> bool:
    """Whether all outputs are the same in every clock with and without the mutant.

    Both begin with the reset values of their registers and get the same inputs in every clock, any
    inputs; memories answer both alike, anything, as long as their accesses have been the same.
    First the mutant's module is compared, then what is around it, up to its block or chip. So
    `True` is a proof, and `False` says nothing.

    Parameters
    ----------
    mutant : Mutant
    folder : Path
        Where `Target.prepare` left the design.
    """
    parts = mutant.module.split(".")
    outermost = 2 if mutant.design == BLOCKS else 1
    around = [".".join(parts[:n]) for n in range(len(parts), outermost - 1, -1)]
    return any(_holds(mutant, folder, top) for top in around)


def _holds(mutant: Mutant, folder: Path, top: str) -> bool:
    """Whether a module is the same."""
    outcome = f"outcome-{mutant.number}"
    (folder / outcome).unlink(missing_ok=True)
    own = {name: f"{mutant.number}-{name}" for name in (PORTS, MAP)}  # Yosys sees its folder only
    for name, copy in own.items():
        (folder / copy).write_text((Path(__file__).parent / name).read_text())
    script = [
        f"read_verilog {own[PORTS]}",
        "read_rtlil ready.il",
        f"hierarchy -top {top}",
        "design -save ready",
        *_opened("gold", top, own[MAP]),
        *_opened("gate", top, own[MAP], mutant.command()),
        "design -reset",
        f"design -copy-from gold -as gold {top}",
        f"design -copy-from gate -as gate {top}",
        "miter -equiv -flatten gold gate miter",
        "hierarchy -top miter",
        *GATES,
        f"abc -dff -script +strash;dprove,-T,{PDR_S};write_status,{outcome};map",
        f"sat -timeout {SAT_S} -verify -prove trigger 0 miter",  # an error if there are registers
    ]
    name = f"prove-{mutant.number}"
    try:
        yosys.run("\n".join(script), folder, name, TIMEOUT_S)
    except yosys.YosysError:
        return _proved(folder / outcome, (folder / f"{name}.log").read_text())
    return True


def _proved(answer: Path, log: str) -> bool:
    """Whether ABC has proved it, in its only run: it has one for each clock."""
    if not answer.exists() or log.count(ABC_RUN) != 1:
        return False
    return answer.read_text().startswith(PROVED)


def _opened(name: str, top: str, memories: str, *commands: str) -> list[str]:
    """A module with the ports of its memories as its own, kept as a design `name`."""
    return [
        "design -load ready",
        *commands,
        "rename -enumerate -pattern port_% t:$mem*",  # only what has a name becomes a port
        "flatten",
        f"techmap -map {memories}",
        "delete t:$meminit*",
        f"hierarchy -top {top}",
        "opt_expr",
        "opt_clean",
        f"cd {top}",
        "splitnets -driver",  # registers that drive a part of a wire
        "expose -evert t:*memory_read t:*memory_write %u",
        "cd",
        f"design -stash {name}",
    ]
