"""A device: what its cells, wires and converters are like."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

PRESETS = Path(__file__).with_name("presets.toml")
MACRO_CELLS = 1 << 16
"""Cells of a macro, 64 Kb (stated); no array may be larger."""
ADC_BITS_MAX = 32
Wires = Literal["exact", "fast"]
Fit = tuple[float, ...]

Limits = tuple[float, float]
LIMITS: dict[str, Limits] = {
    "g_max": (1e-3, 1e4),
    "on_off": (1.5, math.inf),
    "cell_bits": (1, 8),
    "program_noise": (0, 2),
    "read_noise": (0, 2),
    "flicker": (0, 2),
    "drift": (0, 5),
    "drift_start": (1e-6, 1e6),
    "retention": (1, math.inf),
    "stuck_on": (0, 1),
    "stuck_off": (0, 1),
    "age": (0, 1e10),
    "rows": (1, 1024),
    "columns": (2, 1024),
    "driver": (0, 1e5),
    "wire": (0, 1e3),
    "sense": (0, 1e5),
    "dac_bits": (1, 8),
    "adc_bits": (2, ADC_BITS_MAX),
    "adc_range": (1e-3, 1),
    "adc_offset": (0, 100),
}
LENGTHS = {"program_fit": 8, "read_fit": 8, "drift_mean": 4, "drift_spread": 4}
"""Numbers of a fit, at most; drift's are always four."""
COSTS = ("area", "read_volts", "read_time", "write_energy", "write_time", "pulses")
"""Of a cell: F^2, V, ns, pJ and ns of a pulse, and pulses until it holds, which may be left out."""
OHM_MIN = 0.01
NON_IDEAL = (
    "program_noise",
    "read_noise",
    "flicker",
    "drift",
    "stuck_on",
    "stuck_off",
    "driver",
    "wire",
    "sense",
    "adc_offset",
)
"""What is 0 of a device that is ideal."""


class DeviceError(ValueError):
    """A device is not what it must be; the text says what would be right."""


@dataclass(frozen=True)
class Known:
    """Where a value of a preset is from, and between which ends it may be changed."""

    source: str
    valid: Limits | None = None


@dataclass(frozen=True, kw_only=True)
class Device:
    """Cells, wires and converters of an array; the defaults are exact.

    A weight is a pair of cells, one for each sign, for every slice of `cell_bits` of its
    magnitude; a digit of 0 is the conductance g_max/on_off, the largest one g_max.

    Parameters
    ----------
    name : str
    g_max : float
        Largest conductance, uS.
    on_off : float
        It divided by the smallest one; may be infinite.
    cell_bits : int
        Bits of a weight's magnitude in a cell, 1..8: 2^n levels.
    program_noise, program_fit : float, tuple of float
        A cell that is programmed to g is off by a gaussian of standard deviation
        ``program_noise * g_max * max(0, sum of fit[k]*(g/g_max)^k)``; less than 0 is 0.
    read_noise, read_fit : float, tuple of float
        The same of each access, on top of what the cell has at that time.
    flicker : float
        Share of the 1/f noise of phase-change cells, one draw for all accesses
        (`model.mars.devices.cells.flicker`).
    drift, drift_start, drift_mean, drift_spread : float, float, tuple of four, tuple of four
        ``g*(t/drift_start)^(-drift*nu)``; mean and standard deviation of nu, whose sign is dropped,
        are ``clip(a*ln(target/g_max) + b, low, high)`` of (a, b, low, high).
    retention : float
        Seconds after which a cell is 1/e of the way to the smallest conductance; may be infinite.
    stuck_on, stuck_off : float
        Shares of cells that stay at g_max and at the smallest conductance.
    age : float
        Seconds from the end of `drift_start` to the accesses.
    rows, columns : int
        Word lines and bit lines of an array, two bit lines for each slice of a weight.
    driver, wire, sense : float
        Ohm of a row's driver, of the wires between neighbouring cells, of a column's end: none is
        0, or all are.
    wires : "exact" or "fast"
        Nodal analysis, or what `model.mars.devices.wires.fast` says.
    dac_bits : int
        Bits of an activation that an access takes; more are shifted and added.
    adc_bits, adc_range, adc_offset : int, float, float
        Bits of a converter with sign; its full range as a share of the largest sum that the
        array's weights allow, beyond which it clips; standard deviation of its offset in steps.
        Its step is a power of two and at least 1, so a converter of enough bits is exact.
    known : {str: Known}
        Of a preset.
    costs : {str: float}
        Of a cell, by `COSTS`, out of a file; presets have theirs in firmware_tools/costs.

    Raises
    ------
    DeviceError
        A value is not as above.
    """

    name: str = "exact"
    g_max: float = 25.0
    on_off: float = math.inf
    cell_bits: int = 8
    program_noise: float = 0.0
    program_fit: Fit = (1.0,)
    read_noise: float = 0.0
    read_fit: Fit = (1.0,)
    flicker: float = 0.0
    drift: float = 0.0
    drift_start: float = 1.0
    drift_mean: Fit = (0.0, 0.0, 0.0, 1.0)
    drift_spread: Fit = (0.0, 0.0, 0.0, 1.0)
    retention: float = math.inf
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    age: float = 0.0
    rows: int = 16
    columns: int = 64
    driver: float = 0.0
    wire: float = 0.0
    sense: float = 0.0
    wires: Wires = "exact"
    dac_bits: int = 8
    adc_bits: int = ADC_BITS_MAX
    adc_range: float = 1.0
    adc_offset: float = 0.0
    known: Mapping[str, Known] = field(default_factory=dict, compare=False, repr=False)
    costs: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for key in LIMITS:
            self._check_number(key)
        for key, length in LENGTHS.items():
            values = getattr(self, key)
            is_drift = key.startswith("drift")
            if not (1 <= len(values) <= length) or (is_drift and len(values) != length):
                wanted = str(length) if is_drift else f"1..{length}"
                raise DeviceError(f"{self._of(key)} must have {wanted} numbers, not {len(values)}")
        if self.wires not in get_args(Wires):
            raise DeviceError(f"{self._of('wires')} must be exact or fast, not {self.wires!r}")
        if self.rows * self.columns > MACRO_CELLS:
            raise DeviceError(
                f"{self._of('rows')} times columns must be at most {MACRO_CELLS}, the cells of a "
                f"macro, not {self.rows}*{self.columns} = {self.rows * self.columns}"
            )
        if self.stuck_on + self.stuck_off > 1:
            raise DeviceError(
                f"{self._of('stuck_on')} and stuck_off must be at most 1 together, "
                f"not {self.stuck_on + self.stuck_off:g}"
            )
        ohms = (self.driver, self.wire, self.sense)
        if any(ohms) and min(ohms) < OHM_MIN:
            raise DeviceError(
                f"{self._of('driver')}, wire and sense must all be 0 or all at least {OHM_MIN} Ohm,"
                f" not {self.driver:g}, {self.wire:g} and {self.sense:g}"
            )

    def _of(self, key: str) -> str:
        return f"device {self.name}: {key}"

    def _check_number(self, key: str) -> None:
        value, (low, high) = getattr(self, key), LIMITS[key]
        kind = int if key in INTEGERS else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            what = "an integer" if kind is int else "a number"
            raise DeviceError(f"{self._of(key)} must be {what}, not {value!r}")
        known = self.known.get(key)
        if known is not None and known.valid is not None:
            low, high = known.valid
        if not low <= value <= high:
            raise DeviceError(f"{self._of(key)} must be {low:g}..{high:g}, not {value:g}")

    @property
    def g_min(self) -> float:
        """Smallest conductance, uS."""
        return self.g_max / self.on_off

    @property
    def has_wires(self) -> bool:
        """Whether wires have a resistance."""
        return self.wire > 0

    def without_faults(self) -> "Device":
        """The same cells, slices and arrays with nothing that is not ideal."""
        changes: dict[str, Any] = dict.fromkeys(NON_IDEAL, 0.0)
        changes |= {"adc_bits": ADC_BITS_MAX, "adc_range": 1.0, "retention": math.inf, "known": {}}
        return replace(self, **changes)


INTEGERS = tuple(one.name for one in fields(Device) if type(one.default) is int)
KEYS = tuple(key for key in (one.name for one in fields(Device)) if key in {*LIMITS, "wires"})
"""What may be given on a command line."""


@cache
def presets() -> dict[str, Device]:
    """The devices of `presets.toml`, by name."""
    return {name: device(name, entry) for name, entry in _read(PRESETS).items()}


def device(name: str, entry: Mapping[str, Any]) -> Device:
    """A device out of a table: key = value, or {value, source, valid = [low, high]}.

    A table [costs] has what a cell costs.
    """
    entry = dict(entry)
    values: dict[str, Any] = {}
    if "costs" in entry:
        values["costs"] = _costs(name, entry.pop("costs"))
    known: dict[str, Known] = {}
    allowed = {*LIMITS, *LENGTHS, "wires"}
    for key, given in entry.items():
        if key not in allowed:
            raise DeviceError(
                f"device {name}: key must be one of {', '.join(sorted(allowed))}, not {key}"
            )
        table = given if isinstance(given, dict) else {"value": given}
        if "value" not in table or set(table) - {"value", "source", "valid"}:
            raise DeviceError(
                f"device {name}: {key} must be a value or have value, source and valid, "
                f"not {', '.join(table)}"
            )
        value, valid = table["value"], table.get("valid")
        if valid is not None and (
            key not in LIMITS or not isinstance(valid, list) or len(valid) != 2
        ):
            raise DeviceError(f"device {name}: {key}.valid must be [low, high], not {valid}")
        values[key] = _as_field(name, key, value)
        known[key] = Known(str(table.get("source", "")), tuple(valid) if valid else None)
    return Device(name=name, known=known, **values)


def _costs(name: str, table: Any) -> dict[str, float]:
    wanted = {*COSTS} - {"pulses"}
    if not isinstance(table, dict) or not wanted <= set(table) <= set(COSTS):
        found = ", ".join(table) if isinstance(table, dict) else repr(table)
        raise DeviceError(
            f"device {name}: costs must have {', '.join(COSTS[:-1])}, perhaps pulses, not {found}"
        )
    found_costs = {}
    for key, given in table.items():
        value: Any = given.get("value") if isinstance(given, dict) else given
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise DeviceError(f"device {name}: costs.{key} must be above 0, not {value!r}")
        found_costs[key] = float(value)
    return found_costs


def _as_field(name: str, key: str, value: Any) -> Any:
    if key not in LENGTHS:
        return value
    if not isinstance(value, list) or not all(type(one) in (int, float) for one in value):
        raise DeviceError(f"device {name}: {key} must be a list of numbers, not {value!r}")
    return tuple(float(one) for one in value)


def parse(text: str) -> Device:
    """A device as it is named on a command line: ``NAME[:key=value,...]``.

    Parameters
    ----------
    text : str
        NAME is a preset or a file that ends in .toml, with one device.

    Raises
    ------
    DeviceError
        There is no such device or key, or a value is out of range.
    """
    name, _, changes = text.partition(":")
    if name.endswith(".toml"):
        base = device(Path(name).stem, _read(Path(name)))
    elif name in presets():
        base = presets()[name]
    else:
        raise DeviceError(
            f"device must be one of {', '.join(presets())}, bits, or a file .toml, not {name!r}"
        )
    values: dict[str, Any] = {key: _value(name, key, v) for key, v in settings(name, changes)}
    return replace(base, **values)


def settings(name: str, changes: str) -> list[tuple[str, str]]:
    """``key=value,...`` as pairs."""
    result = []
    for part in changes.split(",") if changes else ():
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise DeviceError(f"device {name}: settings must be key=value,..., not {part!r}")
        result.append((key.strip(), value.strip()))
    return result


def _value(name: str, key: str, text: str) -> int | float | str:
    if key not in KEYS:
        raise DeviceError(f"device {name}: key must be one of {', '.join(KEYS)}, not {key!r}")
    if key == "wires":
        return text
    kind = int if key in INTEGERS else float
    try:
        return kind(text)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise DeviceError(f"device {name}: {key} must be {what}, not {text!r}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path}: device must be TOML: {error}") from None
