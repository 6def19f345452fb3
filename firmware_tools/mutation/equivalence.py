"""Proves that a mutant changes nothing, with Yosys' SAT solver."""

from pathlib import Path

from firmware_tools.mutation.mutants import Mutant
from hw import yosys

TIMEOUT_S = 30


def is_equivalent(mutant: Mutant, folder: Path) -> bool:
    """Whether the module's outputs and next states are the same with and without the mutant.

    They are compared in every state, reached or not, and for all that its submodules may answer.
    So `True` is a proof, and `False` says nothing.

    Parameters
    ----------
    mutant : Mutant
    folder : Path
        Where `Target.prepare` left the design.
    """
    script = [
        *_opened(mutant, "gold"),
        *_opened(mutant, "gate", mutant.command()),
        "design -reset",
        f"design -copy-from gold -as gold {mutant.module}",
        f"design -copy-from gate -as gate {mutant.module}",
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


def _opened(mutant: Mutant, name: str, *commands: str) -> list[str]:
    """The module with its registers and submodules turned into ports, kept as a design `name`."""
    return [
        "design -reset",
        "read_rtlil ready.il",
        *commands,
        f"cd {mutant.module}",
        "expose -evert -evert-dff c:*",
        "cd",
        f"design -stash {name}",
    ]
