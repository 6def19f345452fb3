"""Energy of a sample, from what `kenyon ppa` measured of the same configuration."""

import json
from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.neurobench.figures import Chip

PER_OPERATION = {"pj_per_sop": "synaptic_operations", "pj_per_mac": "macro_macs"}
"""Figure of `kenyon ppa`, everything included: counter of the operations that it is of."""


@dataclass(frozen=True)
class Energy:
    """An estimate: operations of a sample times the energy of one.

    Parameters
    ----------
    process, operation : str
        Where it was measured; which counter was multiplied.
    pj_each, nj : float
        Of an operation, of a sample.
    """

    process: str
    operation: str
    pj_each: float
    nj: float


def of(path: Path, chip: Chip | None) -> Energy:
    """Energy of a sample.

    Parameters
    ----------
    path : Path
        What `kenyon ppa --json` wrote.
    chip : Chip or None

    Raises
    ------
    UserError
        The file is not of the chip's configuration, or there is no chip.
    """
    what = f"{path}: must be what `kenyon ppa --json` wrote"
    try:
        report: object = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{what} ({error})") from None
    if not isinstance(report, dict) or "configuration" not in report:
        raise UserError(f"{what}; it has no 'configuration'")
    if chip is None:
        raise UserError(f"{path}: must be left out: the network has no clocks on any chip")
    if report["configuration"] != chip.configuration:
        raise UserError(
            f"{path}: configuration must be {chip.configuration}, that of the network, "
            f"not {report['configuration']}"
        )
    for name, counter in PER_OPERATION.items():
        if name in report and counter in chip.counters:
            each = float(report[name])
            nj = each * chip.counters[counter] / 1000
            return Energy(str(report.get("process", "")), counter, each, nj)
    raise UserError(f"{what}; it has neither of {', '.join(PER_OPERATION)}")
