"""Bridge files: a `Bridge` as JSON (docs/bridge.md).

```
{"steps": 50, "population": 1,
 "entries": [{"output": 0, "population": 0, "neuron": 3, "scale": 12.5},
             {"output": 1, "population": 0, "axon": 2, "scale": 0.25}]}
```
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import ErrorDetails

from model import json_text
from model.bridge import Bridge, BridgeError, Entry, factor
from model.npu.network_file import NetworkFileError, read_text


class BridgeFileError(BridgeError):
    """The file does not hold a bridge; the text names the file, the place and what is right."""


_Integer = Annotated[int, Field(strict=True)]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EntryFields(_Object):
    """One number of the result and its target, a neuron or an axon of a population."""

    output: _Integer
    population: _Integer
    neuron: _Integer | None = None
    axon: _Integer | None = None
    scale: Annotated[float, Field(strict=True, allow_inf_nan=False)]


class BridgeFields(_Object):
    """The whole file."""

    steps: _Integer
    population: _Integer
    entries: Annotated[list[EntryFields], FailFast()]


_WANTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "model_type": "an object",
}
"""What a pydantic error type asks for."""


def load(path: Path) -> Bridge:
    """Read a bridge file.

    Raises
    ------
    BridgeFileError
        The file cannot be read or does not hold a bridge.
    """
    try:
        return loads(read_text(path), str(path))
    except NetworkFileError as error:
        raise BridgeFileError(str(error)) from None


def loads(text: str, where: str) -> Bridge:
    """The bridge in a file's text; `where` is the file's name in error texts."""
    try:
        fields = _validated(json_text.parse(text))
        entries = tuple(_entry(k, entry) for k, entry in enumerate(fields.entries))
        return Bridge(entries, fields.steps, fields.population)
    except (BridgeError, json_text.JSONTextError) as error:
        raise BridgeFileError(f"{where}: {error}") from None


def dumps(bridge: Bridge) -> str:
    """The text of a bridge file that loads as a bridge that does the same."""
    lines = [
        json.dumps(
            {
                "output": entry.output,
                "population": entry.population,
                "axon" if entry.is_axon else "neuron": entry.index,
                "scale": entry.mult / (1 << entry.shift),
            }
        )
        for entry in bridge.entries
    ]
    head = f'{{"steps": {bridge.steps}, "population": {bridge.population}, "entries": [\n  '
    return head + ",\n  ".join(lines) + "\n]}\n"


def _validated(data: object) -> BridgeFields:
    try:
        return BridgeFields.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    unknown = [detail for detail in errors if detail["type"] == "extra_forbidden"]
    raise BridgeError(_explain((unknown or errors)[0]))


def _explain(detail: ErrorDetails) -> str:
    """A pydantic error in the words of the house."""
    kind, loc = detail["type"], detail["loc"]
    fields = (EntryFields if len(loc) > 1 else BridgeFields).model_fields
    owner = _place(loc[:-1])
    if kind == "extra_forbidden":
        return f"unknown field {loc[-1]!r} in {owner}; fields are {', '.join(fields)}"
    if kind == "missing":
        return f"missing field {loc[-1]!r} in {owner}; fields are {', '.join(fields)}"
    return f"{_place(loc)} must be {_WANTED[kind]}, not {json_text.shown(detail['input'])}"


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the file: `entries[3].scale`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.lstrip(".") or "the bridge"


def _entry(number: int, fields: EntryFields) -> Entry:
    place = f"entries[{number}]"
    if (fields.neuron is None) == (fields.axon is None):
        raise BridgeError(f"{place} must have either a neuron or an axon")
    try:
        mult, shift = factor(fields.scale)
    except BridgeError as error:
        raise BridgeError(f"{place}.{error}") from None
    index = fields.neuron if fields.axon is None else fields.axon
    assert index is not None
    return Entry(fields.output, fields.population, index, mult, shift, fields.axon is not None)
