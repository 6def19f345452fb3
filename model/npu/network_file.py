"""Network files: a `Network` as JSON (docs/network-file.md, docs/network.schema.json)."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails

from model import json_text
from model.npu.config import BIAS_MAX, BIAS_MIN, MAX_NEURONS, MAX_POPULATIONS, TAU_MAX
from model.npu.network import (
    NEURON_LIMITS,
    Connections,
    Ints,
    Network,
    NetworkError,
    Neurons,
    Segment,
    check_sizes,
)
from model.npu.noise import STRIDE

LINE_LENGTH = 100
"""Where `dump` breaks its lines, if it can."""

LARGEST = MAX_POPULATIONS * MAX_NEURONS
"""Neurons that any configuration could hold."""
WORD_BITS = 64
"""Integers that do not fit are refused before numpy sees them."""
SHOWN_LENGTH = 40
"""Characters of a wrong value that an error shows."""
COLUMNS = {
    "connections": ("pre", "post", "weight", "tau"),
    "axon_connections": ("axon", "post", "weight", "tau"),
    "links": ("from", "to"),
    "bias": ("neuron", "value"),
    "events": ("step", "axon"),
}
"""What the numbers of a list's entries are called."""


class NetworkFileError(NetworkError):
    """The file does not hold a network; the text names the file, the place and what is right."""


def _range(description: str, low: int | None = None, high: int | None = None) -> WithJsonSchema:
    """What the published schema says of a number; `Network` does the checking."""
    schema: dict[str, Any] = {"type": "integer", "description": description}
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    return WithJsonSchema(schema)


def _parameter(name: str, description: str) -> WithJsonSchema:
    return _range(description, 0, NEURON_LIMITS[name])


_TAU_TEXT = (
    "decay constant of the post neuron's current, in time steps; only floor(log2 tau) matters, "
    "0 is no decay unit: the current lives for one step"
)

_Word = Annotated[int, Field(strict=True, ge=-(1 << WORD_BITS - 1), lt=1 << WORD_BITS - 1)]
_Text = Annotated[str, Field(strict=True, min_length=0)]  # a length: has half surrogates refused
_Neuron = Annotated[_Word, _range("neuron, numbered through all populations", 0)]
_Axon = Annotated[_Word, _range("external axon, numbered through all populations", 0)]
_Population = Annotated[_Word, _range("population", 0)]
_Weight = Annotated[_Word, _range("weight, in levels of the current", -128, 127)]
_Tau = Annotated[_Word, _range(_TAU_TEXT, 0, TAU_MAX)]
_Bias = Annotated[_Word, _range("stimulus, in levels per time step", BIAS_MIN, BIAS_MAX)]
_Step = Annotated[_Word, _range("time step, counted from 0 through all segments", 0)]
_Size = Annotated[_Word, _range("neurons of the population", 1, STRIDE)]
_AxonCount = Annotated[_Word, _range("external axons of the population", 0, STRIDE)]
_Seed = Annotated[_Word, _range("noise seed of the population", 0, (1 << 32) - 1)]

_Synapse = tuple[_Neuron, _Neuron, _Weight, _Tau]
_AxonSynapse = tuple[_Axon, _Neuron, _Weight, _Tau]


class _Object(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NeuronEntry(_Object):
    """Parameters of one IQIF neuron; potentials are levels of the 8-bit membrane register."""

    rest: Annotated[_Word, _parameter("rest", "resting potential, also the initial one, in levels")]
    threshold: Annotated[_Word, _parameter("threshold", "unstable fixed point, in levels")]
    reset: Annotated[_Word, _parameter("reset", "potential after a spike, in levels")]
    a: Annotated[_Word, _parameter("a", "slope left of the branch point, in eighths; a + b > 0")]
    b: Annotated[_Word, _parameter("b", "slope right of the branch point, in eighths; a + b > 0")]
    noise: Annotated[_Word, _parameter("noise", "noise strength, in levels; 0 and 1 are none")] = 0
    tau: Annotated[
        _Tau, _range(f"{_TAU_TEXT}; default: that of the connections, else 0", 0, TAU_MAX)
    ] = Field(default_factory=int)


class SegmentEntry(_Object):
    """Some time steps; the biases are set before them and stay until they are changed."""

    steps: Annotated[_Word, _range("time steps", 1, (1 << 32) - 1)]
    bias: Annotated[
        list[tuple[_Neuron, _Bias]],
        FailFast(),
        Field(description="[neuron, value]; every neuron begins with 0"),
    ] = []


class NetworkEntry(_Object):
    """A network of IQIF neurons in populations, and its stimulus."""

    model_config = ConfigDict(title="Kenyon network")

    name: Annotated[_Text, Field(description="what the network is called")] = "network"
    description: Annotated[_Text, Field(description="for the reader")] = ""
    seed: Annotated[_Word, _range("what a generator made the network from; not used")] = 0
    populations: Annotated[list[_Size], FailFast(), Field(min_length=1)]
    neurons: Annotated[
        list[NeuronEntry], FailFast(), Field(description="all neurons, population by population")
    ]
    connections: Annotated[
        list[_Synapse],
        FailFast(),
        Field(description="[pre, post, weight, tau]; pre == post is a self connection"),
    ]
    axons: Annotated[
        list[_AxonCount],
        FailFast(),
        Field(description="one number per population; default: 0 each"),
    ] = Field(default_factory=list)
    axon_connections: Annotated[
        list[_AxonSynapse],
        FailFast(),
        Field(description="[axon, post, weight, tau], both of the same population"),
    ] = []
    links: Annotated[
        list[tuple[_Population, _Population]],
        FailFast(),
        Field(
            description="[from, to]; when given, every connection between two populations "
            "must be on one of them"
        ),
    ] = Field(default_factory=list)
    noise_seeds: Annotated[
        list[_Seed],
        FailFast(),
        Field(description="one number per population; default: the population's number"),
    ] = Field(default_factory=list)
    session: Annotated[
        list[SegmentEntry], FailFast(), Field(min_length=1, description="the stimulus, in order")
    ]
    events: Annotated[
        list[tuple[_Step, _Axon]],
        FailFast(),
        Field(description="[step, axon] in any order: the axon fires at the time step"),
    ] = []


def schema() -> dict[str, Any]:
    """The JSON schema of network files, as published in docs/network.schema.json."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **NetworkEntry.model_json_schema()}


def load(path: Path | str) -> Network:
    """Read a network file.

    Raises
    ------
    NetworkFileError
        The file cannot be read or does not hold a network.
    """
    return loads(read_text(path), str(path))


def read_text(path: Path | str) -> str:
    """The text of a UTF-8 file.

    Raises
    ------
    NetworkFileError
        The file cannot be read.
    """
    where = str(path)
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NetworkFileError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise NetworkFileError(f"{where}: must be a file, not a folder") from None
    except OSError as error:
        raise NetworkFileError(f"{where}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise NetworkFileError(f"{where}: must be UTF-8, but byte {error.start} is not") from None


def loads(text: str, where: str) -> Network:
    """The network in a file's text; `where` is the file's name in error texts.

    Raises
    ------
    NetworkFileError
        The text does not hold a network.
    """
    try:
        return _network(_entry(_parsed(text)))
    except NetworkError as error:
        raise NetworkFileError(f"{where}: {error}") from None


def dump(network: Network) -> str:
    """The text of a network file that loads as an equal network."""
    neurons = network.neurons
    columns = [getattr(neurons, name).tolist() for name in NEURON_LIMITS]
    fields: dict[str, Sequence[object]] = {
        "populations": network.populations,
        "neurons": [
            dict(zip(NEURON_LIMITS, row, strict=True)) for row in zip(*columns, strict=True)
        ],
        "connections": _synapses(network.recurrent, neurons.tau),
        "axons": network.axons if any(network.axons) else [],
        "axon_connections": _synapses(network.external, neurons.tau),
        "links": _links(network),
        "noise_seeds": network.noise_seeds,
        "session": [
            {"steps": segment.steps, "bias": list(segment.bias.items())}
            for segment in network.session
        ],
        "events": network.events.tolist(),
    }
    lines = [f'"name": {json.dumps(network.name)}']
    if network.description:
        lines.append(f'"description": {json.dumps(network.description)}')
    lines += [
        f'"{name}": {_list(items)}' for name, items in fields.items() if items or name in _REQUIRED
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


_REQUIRED = {name for name, field in NetworkEntry.model_fields.items() if field.is_required()}


def _synapses(connections: Connections, tau: Ints) -> list[list[int]]:
    columns = (connections.pre, connections.post, connections.weight, tau[connections.post])
    rows: list[list[int]] = np.stack(columns, axis=1).tolist()
    return rows


def _links(network: Network) -> list[tuple[int, int]]:
    return [
        (source, population)
        for population in range(len(network.populations))
        for source in network.sources(population)
        if source != population
    ]


def _list(items: Sequence[object]) -> str:
    """A JSON list: on one line if it is short, else as many entries a line as fit."""
    texts = [json.dumps(item, separators=(",", ":")) for item in items]
    on_one_line = f"[{', '.join(texts)}]"
    if len(on_one_line) <= LINE_LENGTH // 2:
        return on_one_line
    return "[\n" + "\n".join(_fill(texts)) + "\n]"


def _fill(texts: list[str]) -> Iterable[str]:
    line = " "
    for text, end in zip(texts, [","] * (len(texts) - 1) + [""], strict=True):
        if line != " " and len(line) + len(text) + 2 > LINE_LENGTH:
            yield line
            line = " "
        line += f" {text}{end}"
    yield line


def _parsed(text: str) -> object:
    try:
        return json_text.parse(text)
    except json_text.JSONTextError as error:
        raise NetworkError(str(error)) from None


def _entry(data: object) -> NetworkEntry:
    """The file's text, checked; first with lists cut to what must be known before they count."""
    if isinstance(data, dict):
        short = {
            name: value[:1] if isinstance(value, list) and name != "populations" else value
            for name, value in data.items()
        }
        entry = _validated(short)
        n_neurons = len(data["neurons"])
        if n_neurons > LARGEST:
            raise NetworkError(
                f"neurons must be at most {LARGEST}, what a configuration can hold, not {n_neurons}"
            )
        check_sizes(entry.populations, n_neurons)
    return _validated(data)


def _validated(data: object) -> NetworkEntry:
    try:
        return NetworkEntry.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A misspelt field is missing, too: the unknown name helps more.
    unknown = [detail for detail in errors if detail["type"] == "extra_forbidden"]
    raise NetworkError(_explain((unknown or errors)[0]))


def _explain(detail: ErrorDetails) -> str:
    """A pydantic error in the words of the house."""
    kind, loc, value = detail["type"], detail["loc"], detail["input"]
    if kind == "extra_forbidden":
        return f"unknown field {loc[-1]!r} in {_place(loc[:-1])}; {_fields_at(loc)}"
    if kind == "missing" and isinstance(loc[-1], str):
        return f"missing field {loc[-1]!r} in {_place(loc[:-1])}; {_fields_at(loc)}"
    if kind in ("missing", "too_long", "tuple_type"):
        row = loc[:-1] if kind == "missing" else loc
        columns = ", ".join(COLUMNS[_list_name(row)])
        return f"{_place(row)} must be [{columns}], not {json_text.shown(value)}"
    if kind == "too_short":
        return f"{_place(loc)} must be a list of at least one, not empty"
    return f"{_place(loc)} must be {_WANTED[kind]}, not {json_text.shown(value)}"


_WANTED = {
    "int_type": "an integer",
    "greater_than_equal": f"an integer of at most {WORD_BITS} bits",
    "less_than": f"an integer of at most {WORD_BITS} bits",
    "string_type": "a string",
    "string_unicode": "a string of valid Unicode",
    "list_type": "a list",
    "model_type": "an object",
}
"""What a pydantic error type asks for."""


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the file: `neurons[3].rest`, `connections[5]: weight`."""
    text = ""
    for depth, part in enumerate(loc):
        if isinstance(part, str):
            text += f".{part}" if text else part
        elif depth and isinstance(loc[depth - 1], int):
            text += f": {COLUMNS[_list_name(loc)][part]}"
        else:
            text += f"[{part}]"
    return text or "the network"


def _list_name(loc: tuple[int | str, ...]) -> str:
    """The innermost named list on the way to a place."""
    return [part for part in loc if isinstance(part, str)][-1]


def _fields_at(loc: tuple[int | str, ...]) -> str:
    owner: dict[int | str, type[BaseModel]] = {"neurons": NeuronEntry, "session": SegmentEntry}
    model = owner[loc[0]] if len(loc) > 1 else NetworkEntry
    return f"fields are {', '.join(model.model_fields)}"


def _network(entry: NetworkEntry) -> Network:
    connections = _table(entry.connections, 4)
    axon_connections = _table(entry.axon_connections, 4)
    given = entry.model_fields_set
    n_populations = len(entry.populations)
    events, order = _sorted_events(_table(entry.events, 2))
    try:
        network = Network(
            populations=tuple(entry.populations),
            neurons=_neurons(entry.neurons, connections, axon_connections),
            recurrent=_connections(connections),
            axons=tuple(entry.axons) if "axons" in given else (0,) * n_populations,
            external=_connections(axon_connections),
            noise_seeds=tuple(
                entry.noise_seeds if "noise_seeds" in given else range(n_populations)
            ),
            session=tuple(_segment(k, segment) for k, segment in enumerate(entry.session)),
            events=events,
            name=entry.name,
            description=entry.description,
        )
    except NetworkError as error:
        # `Network` counts the sorted events, the user those of the file.
        raise NetworkError(
            re.sub(r"^events\[(\d+)]", lambda m: f"events[{order[int(m[1])]}]", str(error))
        ) from None
    if "links" in given:
        _check_links(network, entry.links)
    return network


def _table(rows: Sequence[Sequence[int]], n_columns: int) -> Ints:
    return np.array(rows, np.int64).reshape(-1, n_columns)


def _connections(table: Ints) -> Connections:
    return Connections(*(np.ascontiguousarray(table[:, column]) for column in range(3)))


def _neurons(entries: list[NeuronEntry], connections: Ints, axon_connections: Ints) -> Neurons:
    values = {
        name: np.array([getattr(entry, name) for entry in entries], np.int64)
        for name in NEURON_LIMITS
    }
    own = np.array([j for j, e in enumerate(entries) if "tau" in e.model_fields_set], np.int64)
    sources = {
        "neurons[{}].tau": (own, values["tau"][own]),
        "connections[{}]": (connections[:, 1], connections[:, 3]),
        "axon_connections[{}]": (axon_connections[:, 1], axon_connections[:, 3]),
    }
    _check_tau_range("connections", connections[:, 3])
    _check_tau_range("axon_connections", axon_connections[:, 3])
    post, tau = _agreed_tau(sources, own)
    in_range = (post >= 0) & (post < len(entries))  # `Network` refuses the others by their name
    values["tau"][post[in_range]] = tau[in_range]
    return Neurons(**values)


def _check_tau_range(name: str, tau: Ints) -> None:
    bad = (tau < 0) | (tau > TAU_MAX)
    if bad.any():
        k = int(np.argmax(bad))
        raise NetworkError(f"{name}[{k}]: tau must be 0..{TAU_MAX}, not {tau[k]}")


def _agreed_tau(sources: dict[str, tuple[Ints, Ints]], own: Ints) -> tuple[Ints, Ints]:
    """Every post neuron that has a tau, and its tau, on which all entries must agree."""
    names = [
        name.format(own[k] if name.startswith("neurons") else k)
        for name, (post, _) in sources.items()
        for k in range(len(post))
    ]
    post = np.concatenate([post for post, _ in sources.values()])
    tau = np.concatenate([tau for _, tau in sources.values()])
    neurons, first, group = np.unique(post, return_index=True, return_inverse=True)
    differs = tau != tau[first][group]
    if differs.any():
        k = int(np.argmax(differs))
        f = int(first[group[k]])
        raise NetworkError(
            f"{names[f]} and {names[k]} must have the same tau for neuron {post[k]}, "
            f"not {tau[f]} and {tau[k]}"
        )
    return neurons, tau[first]


def _segment(k: int, entry: SegmentEntry) -> Segment:
    first: dict[int, int] = {}
    for j, (neuron, _) in enumerate(entry.bias):
        if neuron in first:
            raise NetworkError(
                f"session[{k}].bias[{first[neuron]}] and session[{k}].bias[{j}] must be of "
                f"different neurons, both are of neuron {neuron}"
            )
        first[neuron] = j
    return Segment(entry.steps, dict(entry.bias))


def _sorted_events(events: Ints) -> tuple[Ints, Ints]:
    """Events by step and axon, and the place in the file of each."""
    order = np.lexsort((events[:, 1], events[:, 0]))
    ordered = events[order]
    same = (np.diff(ordered, axis=0) == 0).all(axis=1)
    if same.any():
        k = int(np.argmax(same))
        first, second = sorted((int(order[k]), int(order[k + 1])))
        step, axon = events[first]
        raise NetworkError(
            f"events[{first}] and events[{second}] must be different, "
            f"both are axon {axon} at step {step}"
        )
    return ordered, order


def _check_links(network: Network, links: list[tuple[int, int]]) -> None:
    n_populations = len(network.populations)
    for k, link in enumerate(links):
        if not all(0 <= p < n_populations for p in link) or link[0] == link[1]:
            raise NetworkError(
                f"links[{k}] must join two different populations below {n_populations}, "
                f"not {link[0]} -> {link[1]}"
            )
    linked = np.eye(n_populations, dtype=np.bool_)
    linked[tuple(_table(links, 2).T)] = True
    pre = network.population_of(network.recurrent.pre)
    post = network.population_of(network.recurrent.post)
    off = ~linked[pre, post]
    if off.any():
        k = int(np.argmax(off))
        raise NetworkError(
            f"connections[{k}] must be on one of links, not from population {pre[k]} to {post[k]}"
        )
