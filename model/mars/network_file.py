"""Files of quantised networks, `.npz`, and of their inputs, `.npy`.

The entry `spec` of a network file is JSON text (`NetworkEntry`); the others are the arrays that
it names: int8 weights, int32 biases, uint16 multipliers, uint8 shifts, int32 thresholds.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from model import json_text
from model.archive import Archive, ArchiveError, read_array
from model.mars.network import (
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Ints,
    Layer,
    LayerNorm,
    Lookup,
    MatMul,
    MaxPool,
    NetworkError,
    QuantizedNetwork,
    Select,
    Softmax,
    SumPool,
    Tokens,
    check_features,
)
from model.mars.neuron import TIME_STEPS_MAX, Exit, Metric, Mode, Neuron, Reset
from model.mars.rows import NORMAL_BITS

Array = NDArray[Any]

SPEC = "spec"
DTYPES: dict[str, tuple[type[np.integer[Any]], ...]] = {
    "weight": (np.int8,),
    "bias": (np.int32,),
    "mult": (np.uint16, np.uint32),
    "shift": (np.uint8,),
    "post_shift": (np.uint8,),
    "table": (np.int16,),
    "threshold": (np.int32,),
    "initial": (np.int16,),
    "values": (np.int16,),
}
"""What the arrays of a layer may be in the file; the first that holds the values is written."""
FRACTIONS = (10, NORMAL_BITS)
"""Fractional bits that normalised values had when a file was written."""
SHOWN_LENGTH = 40
"""Characters of a wrong value that an error shows."""
LARGEST = 1 << 28
"""Bytes of all arrays of a file; VGG16 has 138 million weights."""
LARGEST_SPEC = 1 << 24
"""Bytes of the JSON text."""

T = TypeVar("T")
_Text = Annotated[str, Field(min_length=0)]  # a length: has half surrogates refused
_Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InputEntry(_Object):
    """The network's input; `scale` is the real value of one step."""

    shape: Annotated[list[int], Field(min_length=3, max_length=3)]
    bits: int
    signed: bool
    coding: Literal["direct", "spikes"] = "direct"
    scale: _Scale | None = None


class NeuronEntry(_Object):
    """The neurons of a spiking layer; the arrays are names of other entries of the file."""

    bits: int
    threshold: _Text
    reset: Reset
    leak: int = 0
    initial: int | _Text = 0
    membrane: _Text | None = None
    groups: int = 1


class ExitEntry(_Object):
    """When no more steps are taken."""

    metric: Metric
    mode: Mode
    threshold: float
    scale: float


class _LayerEntry(_Object):
    name: _Text
    input: _Text
    scale: _Scale | None = None


class _ProductsEntry(_LayerEntry):
    """The arrays are names of other entries of the file."""

    weight_bits: int
    out_bits: int
    out_signed: bool
    low: int | None = None
    high: int | None = None
    offset: int = 0
    weight: _Text
    bias: _Text
    mult: _Text | None = None
    shift: _Text | None = None
    post_shift: _Text | None = None
    neuron: NeuronEntry | None = None


_Pair = int | Annotated[list[int], Field(min_length=2, max_length=2)]
_Sides = int | Annotated[list[int], Field(min_length=4, max_length=4)]


class ConvEntry(_ProductsEntry):
    """A convolution."""

    op: Literal["conv"]
    stride: _Pair
    padding: _Sides
    pad_value: int = 0
    dilation: _Pair = 1
    groups: int = 1
    skip: _Text | None = None
    skip_mult: int | None = None
    skip_zero: int = 0


class DenseEntry(_ProductsEntry):
    """A dense layer."""

    op: Literal["dense"]


class MaxPool2Entry(_LayerEntry):
    """Max pooling of 2x2, side by side."""

    op: Literal["maxpool2"]


class MaxPoolEntry(_LayerEntry):
    """Max pooling."""

    op: Literal["maxpool"]
    kernel: _Pair
    stride: _Pair
    padding: _Sides = 0


class SumPoolEntry(_LayerEntry):
    """Spikes in windows."""

    op: Literal["sumpool"]
    kernel: _Pair
    stride: _Pair


class AvgPoolEntry(_LayerEntry):
    """Global average pooling."""

    op: Literal["avgpool"]
    out_bits: int
    out_signed: bool
    bias: int = 0
    mult: int
    shift: int
    post_shift: int = 0
    offset: int = 0


class LookupEntry(_LayerEntry):
    """A table for every value."""

    op: Literal["lookup"]
    out_bits: int
    out_signed: bool
    table: _Text


class SelectEntry(_Object):
    """Channels of some maps."""

    op: Literal["select"]
    name: _Text
    inputs: Annotated[list[_Text], Field(min_length=1)]
    channels: Annotated[list[int], Field(min_length=1)]
    scale: _Scale | None = None


class MatMulEntry(_LayerEntry):
    """Products of two maps."""

    op: Literal["matmul"]
    operand: _Text
    transposed: bool = False
    heads: int = 1
    mult: int
    shift: int
    post_shift: int = 0
    offset: int = 0
    out_bits: int
    out_signed: bool


class SoftmaxEntry(_LayerEntry):
    """Probabilities of channels."""

    op: Literal["softmax"]
    heads: int = 1
    octaves: int
    mult: int
    shift: int
    post_shift: int = 0
    offset: int = 0
    out_bits: int
    out_signed: bool


class LayerNormEntry(_LayerEntry):
    """Normalisation of channels; the arrays are names of other entries of the file.

    `fraction` says in units of which power of two `bias` is and values are multiplied: 14 bits;
    files that do not say so were written when there were 10.
    """

    op: Literal["layernorm"]
    fraction: int = min(FRACTIONS)
    epsilon: int = 0
    bias: _Text
    mult: _Text
    shift: _Text
    offset: int = 0
    out_bits: int
    out_signed: bool


class TokensEntry(_LayerEntry):
    """Constant pixels before those of a map, from `first` on; the array is named by its entry."""

    op: Literal["tokens"]
    values: _Text
    first: int = 0


LayerEntry = Annotated[
    ConvEntry
    | DenseEntry
    | MaxPool2Entry
    | MaxPoolEntry
    | SumPoolEntry
    | AvgPoolEntry
    | LookupEntry
    | SelectEntry
    | MatMulEntry
    | SoftmaxEntry
    | LayerNormEntry
    | TokensEntry,
    Field(discriminator="op"),
]
LAYER_ENTRIES: dict[str, type[_Object]] = {
    "conv": ConvEntry,
    "dense": DenseEntry,
    "maxpool": MaxPoolEntry,
    "maxpool2": MaxPool2Entry,
    "sumpool": SumPoolEntry,
    "avgpool": AvgPoolEntry,
    "lookup": LookupEntry,
    "select": SelectEntry,
    "matmul": MatMulEntry,
    "softmax": SoftmaxEntry,
    "layernorm": LayerNormEntry,
    "tokens": TokensEntry,
}


class NetworkEntry(_Object):
    """The JSON text; a network without a name is called like its file."""

    name: _Text | None = None
    time_steps: int | None = None
    exit: ExitEntry | None = None
    input: InputEntry
    layers: Annotated[list[LayerEntry], Field(min_length=1)]


def load(path: Path | str) -> QuantizedNetwork:
    """Read a network file.

    Raises
    ------
    NetworkError
        The file cannot be read or does not hold a network; the text names it.
    """
    try:
        return _read(path, lambda file: _load(Archive(file), Path(path).stem))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None


def dump(network: QuantizedNetwork, path: Path | str) -> None:
    """Write a network file that loads as an equal network.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    arrays: dict[str, Array] = {}
    kind = network.input_type
    spec = {
        "name": network.name,
        **_time_fields(network),
        "input": {
            "shape": [int(size) for size in kind.shape],
            "bits": int(kind.bits),
            "signed": kind.signed,
            **({"coding": network.coding} if network.time_steps else {}),
            **_scale(network, "input"),
        },
        "layers": [
            {**_layer_fields(layer, arrays), **_scale(network, layer.name)}
            for layer in network.layers
        ],
    }
    arrays[SPEC] = np.array(json.dumps(spec, indent=1))
    with Path(path).open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_input(path: Path | str, network: QuantizedNetwork) -> Ints:
    """The images in an `.npy` file, (N, C, H, W), as a network takes them.

    The file has an integer array of that shape or, for a single image, (C, H, W); for spikes
    (N, time_steps, C, H, W) or (time_steps, C, H, W).

    Raises
    ------
    NetworkError
        The file cannot be read, or holds something else; the text names it, and says where an
        activation is out of range.
    """
    try:
        return check_features(network.input_type, _read(path, read_array))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None


def load_array(path: Path | str) -> Array:
    """The array in an `.npy` file; raises as `load_input`."""
    try:
        return _read(path, read_array)
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None


def _read(path: Path | str, read: Callable[[IO[bytes]], T]) -> T:
    """What `read` makes of an open file."""
    try:
        with Path(path).open("rb") as file:
            return read(file)
    except ArchiveError as error:
        raise NetworkError(str(error)) from None
    except FileNotFoundError:
        raise NetworkError("no such file") from None
    except IsADirectoryError:
        raise NetworkError("must be a file, not a folder") from None
    except OSError as error:
        raise NetworkError(f"cannot be read: {error.strerror}") from None


def _load(archive: Archive, stem: str) -> QuantizedNetwork:
    """The text says which arrays there must be; others are refused without being read."""
    archive.check_size([SPEC], LARGEST_SPEC)
    archive.check_size(archive.names, LARGEST)
    return _network(_entry(_spec(archive)), archive, stem)


def _spec_text(archive: Archive) -> str:
    if SPEC not in archive.names:
        raise NetworkError(f"entry {SPEC!r}, the JSON text of the network, is missing")
    header = archive.header(SPEC)
    if header.shape or header.dtype.kind not in "US":
        raise NetworkError(
            f"entry {SPEC!r} must be a text, not an array {header.shape} of {header.dtype}"
        )
    text = archive.read(SPEC).item()
    if isinstance(text, str):
        return text
    try:
        return bytes(text).decode()
    except UnicodeDecodeError as error:
        raise NetworkError(f"entry {SPEC!r} must be UTF-8, but byte {error.start} is not") from None


def _spec(archive: Archive) -> object:
    try:
        return json_text.parse(_spec_text(archive))
    except json_text.JSONTextError as error:
        raise NetworkError(f"{SPEC}: {error}") from None


def _entry(data: object) -> NetworkEntry:
    try:
        return NetworkEntry.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A misspelt field is missing, too: the unknown name helps more.
    unknown = [detail for detail in errors if detail["type"] == "extra_forbidden"]
    raise NetworkError(f"{SPEC}: {_explain(_first(unknown or errors), data)}")


def _first(errors: list[ErrorDetails]) -> ErrorDetails:
    """What to tell; of a list where one number would do, too, what is wrong with the list."""
    first, *others = errors
    if (
        first["type"] == "int_type"
        and first["loc"][-1] == "int"
        and isinstance(first["input"], list)
    ):
        return others[0]  # the list's is next
    return first


def _explain(detail: ErrorDetails, data: object) -> str:
    """A pydantic error in the words of the house."""
    kind, loc, value = detail["type"], detail["loc"], detail["input"]
    if kind == "extra_forbidden":
        return f"unknown field {loc[-1]!r} in {_place(loc[:-1], data)}; {_fields_at(loc)}"
    if kind == "missing":
        return f"missing field {loc[-1]!r} in {_place(loc[:-1], data)}; {_fields_at(loc)}"
    if kind == "union_tag_not_found":
        return f"missing field 'op' in {_place(loc, data)}, one of {', '.join(LAYER_ENTRIES)}"
    if kind == "union_tag_invalid":
        op = value["op"] if isinstance(value, dict) else value
        ops = ", ".join(LAYER_ENTRIES)
        return f"op in {_place(loc, data)} must be one of {ops}, not {json_text.shown(op)}"
    if kind in ("too_short", "too_long"):
        wanted = _wanted_length(detail)
        return f"{_place(loc, data)} must be {wanted}, not {json_text.shown(value)}"
    expected = detail["ctx"]["expected"] if kind == "literal_error" else detail["msg"]
    wanted = _WANTED.get(kind, expected)
    return f"{_place(loc, data)} must be {wanted}, not {json_text.shown(value)}"


def _wanted_length(detail: ErrorDetails) -> str:
    length = detail["ctx"].get("min_length", detail["ctx"].get("max_length"))
    if detail["loc"][-1] == "shape":
        return "three numbers, [C, H, W]"
    return "a list of at least one" if length == 1 else f"an integer or a list of {length}"


_WANTED = {
    "int_type": "an integer",
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a positive number",
    "greater_than": "a positive number",
    "string_type": "a string",
    "string_unicode": "a string of valid Unicode",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""What a pydantic error type asks for."""


def _place(loc: tuple[int | str, ...], data: object) -> str:
    """Where in the text: `input.bits`, `layers[3] ('conv4').stride`."""
    text = ""
    for depth, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]{_layer_name(data, part) if loc[:depth] == ('layers',) else ''}"
        elif (
            loc[0] != "layers"
            or depth in {0, 3}
            or (depth == 4 and loc[3] == "neuron")  # else pydantic's names of types
        ):
            text += f".{part}" if text else part
    return text or "the network"


def _layer_name(data: object, k: int) -> str:
    """The name of a layer in a text that is no network, if it has one."""
    layer = data["layers"][k] if isinstance(data, dict) else None
    name = layer.get("name") if isinstance(layer, dict) else None
    return f" ({json_text.shown(name)})" if isinstance(name, str) else ""


def _fields_at(loc: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = NetworkEntry
    if len(loc) > 1:
        model = _INNER.get(loc[0]) or LAYER_ENTRIES[str(loc[2])]
        if "neuron" in loc[3:-1]:
            model = NeuronEntry
    return f"fields are {', '.join(model.model_fields)}"


_INNER: dict[int | str, type[BaseModel]] = {"input": InputEntry, "exit": ExitEntry}


def _network(entry: NetworkEntry, archive: Archive, stem: str) -> QuantizedNetwork:
    channels, rows, columns = entry.input.shape
    try:
        kind = FeatureType((channels, rows, columns), entry.input.bits, entry.input.signed)
    except NetworkError as error:
        raise NetworkError(f"input: {error}") from None
    for part in entry.layers:
        _check_arrays(part, archive)
    named = [name for part in entry.layers for _, name in _all_names(part)]
    archive.check_size(named, LARGEST)  # again: each layer that names an array has its own
    layers = tuple(_layer(part, archive) for part in entry.layers)
    used = {SPEC, *named}
    for name in archive.names:
        if name not in used:
            raise NetworkError(f"array {name!r} must belong to a layer, but none names it")
    scales = {part.name: part.scale for part in entry.layers if part.scale is not None}
    if entry.input.scale is not None:
        scales["input"] = entry.input.scale
    return QuantizedNetwork(
        kind,
        layers,
        stem if entry.name is None else entry.name,
        scales,
        _time_steps(entry),
        entry.input.coding,
        None if entry.exit is None else Exit(**entry.exit.model_dump()),
    )


def _time_steps(entry: NetworkEntry) -> int:
    """0 is what networks without time have, and so no number of steps."""
    if entry.time_steps == 0:
        raise NetworkError(f"time_steps must be 1..{TIME_STEPS_MAX}, not 0")
    return entry.time_steps or 0


def _array_names(entry: LayerEntry) -> dict[str, str]:
    """The arrays that a layer names, by field."""
    if not isinstance(entry, _ProductsEntry | LookupEntry | LayerNormEntry | TokensEntry):
        return {}
    names = {field: getattr(entry, field, None) for field in DTYPES}
    return {field: name for field, name in names.items() if name is not None}


def _neuron_names(entry: LayerEntry) -> dict[str, str]:
    """The arrays that its neuron names, by field."""
    neuron = entry.neuron if isinstance(entry, _ProductsEntry) else None
    if neuron is None:
        return {}
    names = {"threshold": neuron.threshold}
    if isinstance(neuron.initial, str):
        names["initial"] = neuron.initial
    elif neuron.initial:
        raise NetworkError(
            f"layer {entry.name!r}: neuron.initial must be 0 or the name of an array, "
            f"not {neuron.initial}"
        )
    return names


def _all_names(entry: LayerEntry) -> list[tuple[str, str]]:
    """Fields and the arrays that they name."""
    return [*_array_names(entry).items(), *_neuron_names(entry).items()]


def _neuron(entry: LayerEntry, archive: Archive) -> dict[str, Any]:
    neuron = entry.neuron if isinstance(entry, _ProductsEntry) else None
    if neuron is None:
        return {}
    fields = neuron.model_dump(exclude={"threshold", "initial"})
    arrays: dict[str, Any] = {k: archive.read(name) for k, name in _neuron_names(entry).items()}
    return {"neuron": Neuron(**fields, **arrays)}


def _layer(entry: LayerEntry, archive: Archive) -> Layer:
    named = _array_names(entry)
    fields = entry.model_dump(exclude={"op", "scale", "neuron", *named}, exclude_none=True)
    if isinstance(entry, ConvEntry):
        _check_skip(entry)
    kind = next(kind for kind, op in _OPS.items() if op == entry.op.removesuffix("2"))
    arrays: dict[str, Any] = {field: archive.read(name) for field, name in named.items()}
    if isinstance(entry, LayerNormEntry):
        more = _missing_fraction(entry.name, fields.pop("fraction"))
        arrays["bias"] = arrays["bias"].astype(np.int64) << more
        arrays["shift"] = arrays["shift"].astype(np.int64) + more
    return kind(**fields, **arrays, **_neuron(entry, archive))


def _missing_fraction(layer: str, fraction: int) -> int:
    """Fractional bits that normalised values have had since the file was written."""
    if fraction not in FRACTIONS:
        raise NetworkError(
            f"layer {layer!r}: fraction must be {' or '.join(map(str, FRACTIONS))}, not {fraction}"
        )
    return NORMAL_BITS - fraction


def _check_skip(entry: ConvEntry) -> None:
    if entry.skip is not None and entry.skip_mult is None:
        raise NetworkError(f"layer {entry.name!r}: skip_mult must be given with a skip")
    if entry.skip is None and entry.skip_mult is not None:
        raise NetworkError(f"layer {entry.name!r}: skip must be given with a skip_mult")


def _check_arrays(entry: LayerEntry, archive: Archive) -> None:
    """Refuse arrays that are missing or of a wrong type, before any is read."""
    for field, name in _all_names(entry):
        place = f"layer {entry.name!r}: {field}"
        if name not in archive.names or name == SPEC:
            raise NetworkError(f"{place} must be an array of the file, but there is no {name!r}")
        dtypes = [np.dtype(dtype) for dtype in DTYPES[field]]
        found = archive.header(name).dtype
        if found.newbyteorder("=") not in dtypes:
            wanted = " or ".join(map(str, dtypes))
            raise NetworkError(f"{place} ({name!r}) must be {wanted}, not {found}")


_OPS: dict[type[Layer], str] = {
    Conv: "conv",
    Dense: "dense",
    MaxPool: "maxpool",
    SumPool: "sumpool",
    AvgPool: "avgpool",
    Lookup: "lookup",
    Select: "select",
    MatMul: "matmul",
    Softmax: "softmax",
    LayerNorm: "layernorm",
    Tokens: "tokens",
}
_SUFFIXES = {
    "weight": "w",
    "bias": "b",
    "mult": "m",
    "shift": "s",
    "post_shift": "p",
    "table": "t",
    "threshold": "th",
    "initial": "u",
    "values": "v",
}
_ALWAYS = frozenset({"stride", "padding", "kernel"})
"""Written also where they are what is assumed without them."""


def _layer_fields(layer: Layer, arrays: dict[str, Array]) -> dict[str, object]:
    """The layer in JSON, without what is as usual; its arrays are added to `arrays`."""
    result: dict[str, object] = {"name": layer.name, "op": _OPS[type(layer)]}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        is_usual = not isinstance(value, np.ndarray) and value == field.default
        if (
            is_usual
            and field.name not in _ALWAYS
            and not (field.name == "skip_mult" and _has_skip(layer))
        ):
            continue
        if isinstance(value, np.ndarray):
            name = f"{layer.name}.{_SUFFIXES[field.name]}"
            arrays[name] = value.astype(_dtype(field.name, value))
            value = name
        elif isinstance(value, Neuron):
            value = _neuron_fields(layer.name, value, arrays)
        elif isinstance(value, tuple):
            value = value[0] if field.name in _ALWAYS and len(set(value)) == 1 else list(value)
        result[field.name] = int(value) if isinstance(value, np.integer) else value
    if isinstance(layer, LayerNorm):
        result["fraction"] = NORMAL_BITS
    return result


def _neuron_fields(layer: str, neuron: Neuron, arrays: dict[str, Array]) -> dict[str, object]:
    """The neuron in JSON; its arrays are added to `arrays`."""
    result: dict[str, object] = {}
    for field in dataclasses.fields(neuron):
        value = getattr(neuron, field.name)
        if isinstance(value, np.ndarray):
            name = f"{layer}.{_SUFFIXES[field.name]}"
            arrays[name] = value.astype(_dtype(field.name, value))
            result[field.name] = name
        elif value != field.default:
            result[field.name] = int(value) if isinstance(value, np.integer) else value
    return result


def _time_fields(network: QuantizedNetwork) -> dict[str, object]:
    """What only spiking networks have."""
    result: dict[str, object] = {}
    if network.time_steps:
        result["time_steps"] = int(network.time_steps)
    if network.exit is not None:
        result["exit"] = dataclasses.asdict(network.exit)
    return result


def _has_skip(layer: Layer) -> bool:
    return isinstance(layer, Conv) and layer.skip is not None


def _dtype(field: str, values: Ints) -> type[np.integer[Any]]:
    dtypes = DTYPES[field]
    return next((t for t in dtypes if values.max(initial=0) <= np.iinfo(t).max), dtypes[-1])


def _scale(network: QuantizedNetwork, name: str) -> dict[str, float]:
    return {"scale": network.scales[name]} if name in network.scales else {}
