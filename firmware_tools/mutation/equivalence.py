"""Proves that a mutant changes nothing, with Yosys' SAT solver."""

from pathlib import Path

from firmware_tools.mutation.mutants import Mutant
from firmware_tools.mutation.targets import BLOCKS
from hw import yosys

TIMEOUT_S = 30
FLATTENED = (
    "setattr -mod -set keep_hierarchy 1 t:$mem* %m",
    "flatten",
    "opt -nodffe -nosdff",
)
"""All but memories in one module; constants from one part, and registers that never leave their
reset value, reach the others."""


def is_equivalent(mutant: Mutant, folder: Path) -> bool:
    """Whether outputs and next states are the same with and without the mutant.

    They are compared in every state, reached or not, and for all that memories may answer: first
    those of the mutant's module, for all that its submodules may answer, then those of its block
    or chip. So `True` is a proof, and `False` says nothing.

    Parameters
    ----------
    mutant : Mutant
    folder : Path
        Where `Target.prepare` left the design.
    """
    parts = mutant.module.split(".")
    around = ".".join(parts[: 2 if mutant.design == BLOCKS else 1])
    return _holds(mutant, folder, mutant.module, ()) or _holds(mutant, folder, around, FLATTENED)


def _holds(mutant: Mutant, folder: Path, top: str, inside: tuple[str, ...]) -> bool:
    """Whether a module is the same; `inside` is done to it before."""
    script = [
        *_opened("gold", top, *inside),
        *_opened("gate", top, mutant.command(), *inside),
        "design -reset",
        f"design -copy-from gold -as gold {top}",
        f"design -copy-from gate -as gate {top}",
        "miter -equiv -flatten gold gate miter",
        "hierarchy -top miter",
        "opt_merge",  # what both have in common need not be solved
        "opt_clean",
        f"sat -timeout {TIMEOUT_S} -verify -prove trigger 0 miter",
    ]
    try:
        yosys.run("\n".join(script), folder, f"prove-{mutant.number}")
    except yosys.YosysError:
        return False
    return True


def _opened(name: str, top: str, *commands: str) -> list[str]:
    """A module with its registers and submodules turned into ports, kept as a design `name`."""
    return [
        "design -reset",
        "read_rtlil ready.il",
        f"hierarchy -top {top}",
        *commands,
        f"cd {top}",
        "splitnets -driver",  # registers that drive a part of a wire
        "expose -evert -evert-dff c:*",
        "cd",
        f"design -stash {name}",
    ]
