"""The constants of `constants.toml`, by name, and how published figures come to our process."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from firmware_tools.costs.errors import CostError

FILE = Path(__file__).with_name("constants.toml")
Values = tuple[float, ...]


@dataclass(frozen=True)
class Constant:
    """A number or a list, where it is from, and between which ends it may be.

    Attributes
    ----------
    values : tuple of float
    source : str
    valid : (float, float) or None
    """

    values: Values
    source: str
    valid: tuple[float, float] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether no publication gave it to us."""
        return self.source.startswith("ours")


@dataclass(frozen=True)
class Constants:
    """All of them.

    Attributes
    ----------
    by_name : {str: Constant}
        ``section.key``, or ``cells.DEVICE.key``.
    """

    by_name: Mapping[str, Constant]

    def __getitem__(self, name: str) -> float:
        return self.by_name[name].values[0]

    def values(self, name: str) -> Values:
        """Of a list."""
        return self.by_name[name].values

    def having(self, name: str, value: float) -> "Constants":
        """The same, but for one."""
        changed = replace(self.by_name[name], values=(value,))
        return Constants({**self.by_name, name: changed})

    def cell(self, device: str) -> dict[str, float]:
        """Figures of a device's cells; empty if there are none."""
        prefix = f"cells.{device}."
        return {
            name.removeprefix(prefix): one.values[0]
            for name, one in self.by_name.items()
            if name.startswith(prefix)
        }

    @property
    def devices(self) -> list[str]:
        """Devices whose cells have figures."""
        return [
            n.split(".")[1]
            for n in self.by_name
            if n.startswith("cells.") and n.count(".") > 1 and n.endswith(".area")
        ]

    def area_scale(self, section: str) -> float:
        """From a section's process to ours."""
        return (self["process.node"] / self[f"{section}.node"]) ** 2

    def delay_scale(self, section: str) -> float:
        """From a section's process to ours."""
        return self["process.node"] / self[f"{section}.node"]

    def energy_scale(self, section: str) -> float:
        """From a section's process to ours."""
        volts = self["process.supply"] / self[f"{section}.supply"]
        return self.delay_scale(section) * volts**2


@cache
def constants() -> Constants:
    """Those of the file."""
    found: dict[str, Constant] = {}
    _collect("", tomllib.loads(FILE.read_text(encoding="utf-8")), found)
    return Constants(found)


def _collect(prefix: str, table: Mapping[str, Any], found: dict[str, Constant]) -> None:
    for key, entry in table.items():
        name = f"{prefix}{key}"
        if "value" not in entry:
            _collect(f"{name}.", entry, found)
            continue
        value, valid = entry["value"], entry.get("valid")
        values = tuple(map(float, value if isinstance(value, list) else [value]))
        ends = None if valid is None else (float(valid[0]), float(valid[1]))
        if ends is not None and not ends[0] <= values[0] <= ends[1]:
            raise CostError(f"{FILE.name}: {name} must be {ends[0]:g}..{ends[1]:g}, not {value}")
        found[name] = Constant(values, entry["source"], ends)
