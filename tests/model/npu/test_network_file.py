"""Network files: round trips, every error text, and files that nobody would write."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.npu.config import CONFIGS
from model.npu.network import Network, NetworkError
from model.npu.network_file import NetworkFileError, dump, load, loads, schema
from model.npu.random_network import random_network

jsonschema = import_module("jsonschema")  # by name: it has no types

ROOT = Path(__file__).parents[3]
VECTORS = sorted((ROOT / "tests/vectors/iqif").glob("*.json"))
BRIDGES = (ROOT / "examples").glob("*-bridge.json")
EXAMPLES = sorted(set((ROOT / "examples").glob("*.json")) - set(BRIDGES))

NEURON: dict[str, object] = {"rest": 60, "threshold": 80, "reset": 50, "a": 2, "b": 3}
SMALL: dict[str, Any] = {
    "name": "small",
    "description": "every field is used",
    "seed": 5,
    "populations": [2, 1],
    "neurons": [{**NEURON, "noise": 9}, {**NEURON, "tau": 8}, NEURON],
    "connections": [[0, 1, -20, 8], [1, 1, 5, 8], [1, 2, 90, 16]],
    "axons": [2, 0],
    "axon_connections": [[1, 0, 100, 4], [0, 1, 127, 8]],
    "links": [[0, 1]],
    "noise_seeds": [7, 4294967295],
    "session": [{"steps": 20}, {"steps": 30, "bias": [[1, -3], [0, 2047]]}],
    "events": [[30, 1], [10, 1], [10, 0]],
}


def assert_equal(actual: object, expected: object) -> None:
    """The same values and types all the way down."""
    assert type(actual) is type(expected)
    if is_dataclass(actual):
        for field in fields(actual):
            assert_equal(getattr(actual, field.name), getattr(expected, field.name))
    elif isinstance(actual, np.ndarray):
        np.testing.assert_array_equal(actual, expected, strict=True)
    else:
        assert actual == expected


def load_changed(**changes: object) -> Network:
    return loads(json.dumps(SMALL | changes), "net.json")


def test_every_field() -> None:
    network = load_changed()
    assert (network.name, network.description) == ("small", "every field is used")
    assert network.populations == (2, 1)
    assert network.neurons.rest.tolist() == [60, 60, 60]
    assert network.neurons.noise.tolist() == [9, 0, 0]
    assert network.neurons.tau.tolist() == [4, 8, 16]
    assert network.recurrent.pre.tolist() == [0, 1, 1]
    assert network.recurrent.post.tolist() == [1, 1, 2]
    assert network.recurrent.weight.tolist() == [-20, 5, 90]
    assert network.axons == (2, 0)
    assert network.external.pre.tolist() == [1, 0]
    assert network.external.post.tolist() == [0, 1]
    assert network.external.weight.tolist() == [100, 127]
    assert network.noise_seeds == (7, 4294967295)
    assert [s.steps for s in network.session] == [20, 30]
    assert [s.bias for s in network.session] == [{}, {1: -3, 0: 2047}]
    assert network.events.tolist() == [[10, 0], [10, 1], [30, 1]]


def test_defaults() -> None:
    required = ("populations", "neurons", "connections", "session")
    text = json.dumps({name: SMALL[name] for name in required})
    network = loads(text, "net.json")
    assert (network.name, network.description) == ("network", "")
    assert network.axons == (0, 0)
    assert len(network.external) == 0
    assert network.noise_seeds == (0, 1)
    assert network.events.shape == (0, 2)
    assert network.neurons.tau.tolist() == [0, 8, 16]


@pytest.mark.parametrize("path", VECTORS + EXAMPLES, ids=lambda path: path.stem)
def test_files_of_the_project_load_and_keep_to_the_schema(path: Path) -> None:
    network = load(path)
    assert network.name == path.stem
    assert_equal(loads(dump(network), "copy"), network)
    jsonschema.validate(json.loads(path.read_text()), schema())


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", range(5))
def test_round_trip(config: str, seed: int) -> None:
    network = random_network(np.random.default_rng(seed), CONFIGS[config])
    assert_equal(loads(dump(network), "copy"), network)


def test_dump_keeps_to_the_schema() -> None:
    network = load_changed()
    text = dump(network)
    assert_equal(loads(text, "copy"), network)
    jsonschema.validate(json.loads(text), schema())
    assert json.loads(text)["links"] == [[0, 1]]


def test_full_matrix_keeps_every_weight() -> None:
    n = 256
    rng = np.random.default_rng(0)
    weights = rng.integers(-128, 128, (n, n))
    connections = [[i, j, int(weights[i, j]), 4] for i in range(n) for j in range(n)]
    changes = {"populations": [n], "neurons": [NEURON] * n, "connections": connections}
    text = json.dumps({**changes, "session": [{"steps": 1}]})
    np.testing.assert_array_equal(loads(text, "x").recurrent.weight, weights.ravel())


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(SMALL), encoding="utf-8-sig")
    assert load(path).name == "small"


def neuron(**changes: object) -> list[dict[str, object]]:
    return [NEURON, NEURON, {**NEURON, **changes}]


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in NEURON.items() if key != name}


NEURON_FIELDS = "fields are rest, threshold, reset, a, b, noise, tau"
NETWORK_FIELDS = (
    "fields are name, description, seed, populations, neurons, connections, axons, "
    "axon_connections, links, noise_seeds, session, events"
)

ERRORS: list[tuple[dict[str, object], str]] = [
    # shape and types
    ({"foo": 1}, f"unknown field 'foo' in the network; {NETWORK_FIELDS}"),
    ({"neurons": neuron(restt=1)}, f"unknown field 'restt' in neurons[2]; {NEURON_FIELDS}"),
    (
        {"neurons": [NEURON, NEURON, {**without("rest"), "restt": 1}]},
        f"unknown field 'restt' in neurons[2]; {NEURON_FIELDS}",
    ),
    (
        {"session": [{"steps": 9, "b": 0}]},
        "unknown field 'b' in session[0]; fields are steps, bias",
    ),
    (
        {"neurons": [without("rest"), NEURON, NEURON]},
        f"missing field 'rest' in neurons[0]; {NEURON_FIELDS}",
    ),
    ({"session": [{}]}, "missing field 'steps' in session[0]; fields are steps, bias"),
    ({"neurons": neuron(rest=1.0)}, "neurons[2].rest must be an integer, not 1.0"),
    ({"neurons": neuron(rest=True)}, "neurons[2].rest must be an integer, not true"),
    ({"neurons": neuron(rest=None)}, "neurons[2].rest must be an integer, not null"),
    ({"neurons": neuron(tau=None)}, "neurons[2].tau must be an integer, not null"),
    ({"neurons": neuron(rest="60")}, 'neurons[2].rest must be an integer, not "60"'),
    ({"neurons": neuron(rest=[[]])}, "neurons[2].rest must be an integer, not a list of 1"),
    ({"neurons": neuron(rest={})}, "neurons[2].rest must be an integer, not an object"),
    ({"neurons": neuron(rest=float("nan"))}, "neurons[2].rest must be an integer, not NaN"),
    (
        {"neurons": neuron(rest="x" * 99)},
        'neurons[2].rest must be an integer, not "' + "x" * 36 + "...",
    ),
    (
        {"neurons": neuron(rest=1 << 63)},
        "neurons[2].rest must be an integer of at most 64 bits, not 9223372036854775808",
    ),
    (
        {"neurons": neuron(rest=-(10**30))},
        "neurons[2].rest must be an integer of at most 64 bits, not one of 100 bits",
    ),
    ({"neurons": 5}, "neurons must be a list, not 5"),
    ({"neurons": [5]}, "neurons[0] must be an object, not 5"),
    ({"populations": []}, "populations must be a list of at least one, not empty"),
    ({"session": []}, "session must be a list of at least one, not empty"),
    ({"name": 5}, "name must be a string, not 5"),
    ({"name": "\ud800"}, r'name must be a string of valid Unicode, not "\ud800"'),
    ({"connections": None}, "connections must be a list, not null"),
    ({"connections": [5]}, "connections[0] must be [pre, post, weight, tau], not 5"),
    (
        {"connections": [[0, 1, 2]]},
        "connections[0] must be [pre, post, weight, tau], not a list of 3",
    ),
    (
        {"connections": [[0, 1, 2, 8, 9]]},
        "connections[0] must be [pre, post, weight, tau], not a list of 5",
    ),
    (
        {"axon_connections": [[0, 1, 2]]},
        "axon_connections[0] must be [axon, post, weight, tau], not a list of 3",
    ),
    ({"connections": [[0, 1, 2.5, 8]]}, "connections[0]: weight must be an integer, not 2.5"),
    ({"links": [[0]]}, "links[0] must be [from, to], not a list of 1"),
    ({"events": [[0]]}, "events[0] must be [step, axon], not a list of 1"),
    (
        {"session": [{"steps": 9, "bias": [[0]]}]},
        "session[0].bias[0] must be [neuron, value], not a list of 1",
    ),
    (
        {"session": [{"steps": 9, "bias": [[0, True]]}]},
        "session[0].bias[0]: value must be an integer, not true",
    ),
    # what the file adds to the network
    ({"connections": [[0, 1, 2, 32769]]}, "connections[0]: tau must be 0..32768, not 32769"),
    ({"connections": [[0, 1, 2, -1]]}, "connections[0]: tau must be 0..32768, not -1"),
    (
        {"axon_connections": [[0, 1, 2, 32769]]},
        "axon_connections[0]: tau must be 0..32768, not 32769",
    ),
    (
        {"connections": [[0, 2, 1, 8], [1, 2, 1, 16]]},
        "connections[0] and connections[1] must have the same tau for neuron 2, not 8 and 16",
    ),
    (
        {"connections": [[0, 0, 1, 8]]},
        "connections[0] and axon_connections[0] must have the same tau for neuron 0, not 8 and 4",
    ),
    (
        {"axon_connections": [[0, 0, 1, 8], [1, 0, 1, 4]]},
        "axon_connections[0] and axon_connections[1] must have the same tau for neuron 0, "
        "not 8 and 4",
    ),
    (
        {"neurons": neuron(tau=0)},
        "neurons[2].tau and connections[2] must have the same tau for neuron 2, not 0 and 16",
    ),
    (
        {"events": [[3, 1], [2, 0], [3, 1]]},
        "events[0] and events[2] must be different, both are axon 1 at step 3",
    ),
    (
        {"session": [{"steps": 50, "bias": [[1, 5], [0, 5], [1, 6]]}]},
        "session[0].bias[0] and session[0].bias[2] must be of different neurons, "
        "both are of neuron 1",
    ),
    ({"links": []}, "connections[2] must be on one of links, not from population 0 to 1"),
    ({"links": [[1, 0]]}, "connections[2] must be on one of links, not from population 0 to 1"),
    ({"links": [[0, 2]]}, "links[0] must join two different populations below 2, not 0 -> 2"),
    (
        {"links": [[0, 1], [1, 1]]},
        "links[1] must join two different populations below 2, not 1 -> 1",
    ),
    # what any network must be, with the file's name and places
    ({"neurons": neuron(rest=300)}, "neurons[2].rest must be 0..255, not 300"),
    ({"neurons": neuron(tau=-1), "connections": []}, "neurons[2].tau must be 0..32768, not -1"),
    (
        {"neurons": neuron(a=0, b=0)},
        "neurons[2]: a + b must be at least 1, not 0 (the force would have no slope)",
    ),
    ({"neurons": [NEURON]}, "neurons must be 3, the sum of populations, not 1"),
    ({"populations": [3, 0]}, "populations[1] must be 1..65536, not 0"),
    ({"axons": [2]}, "axons must be 2 numbers, one per population, not 1"),
    ({"axons": []}, "axons must be 2 numbers, one per population, not 0"),
    ({"noise_seeds": [1 << 32, 0]}, "noise_seeds[0] must be 0..4294967295, not 4294967296"),
    ({"connections": [[0, 3, 2, 8]]}, "connections[0]: post must be 0..2, not 3"),
    ({"connections": [[0, -1, 2, 8]]}, "connections[0]: post must be 0..2, not -1"),
    ({"connections": [[0, 1, 128, 8]]}, "connections[0]: weight must be -128..127, not 128"),
    (
        {"connections": [[0, 1, 2, 8], [2, 1, 2, 8], [0, 1, 3, 8]]},
        "connections[0] and connections[2] must be different connections, both are 0 -> 1",
    ),
    (
        {"axon_connections": [[0, 1, 2, 8], [0, 1, 3, 8]]},
        "axon_connections[0] and axon_connections[1] must be different connections, "
        "both are 0 -> 1",
    ),
    (
        {"axon_connections": [[1, 2, 2, 16]]},
        "axon_connections[0]: axon 1 must belong to the population of neuron 2",
    ),
    ({"session": [{"steps": 0}]}, "session[0].steps must be at least 1, not 0"),
    (
        {"session": [{"steps": 1}, {"steps": 9, "bias": [[1, 2048]]}]},
        "session[1].bias: bias of neuron 1 must be -2048..2047, not 2048",
    ),
    (
        {"session": [{"steps": 9, "bias": [[3, 0]]}]},
        "session[0].bias: neuron must be 0..2, not 3",
    ),
    # `Network` sees the events sorted: these are 2 and 1 there
    ({"events": [[50, 0], [3, 0], [4, 0]]}, "events[0]: step must be 0..49, not 50"),
    ({"events": [[4, 2], [3, 0], [5, 1]]}, "events[0]: axon must be 0..1, not 2"),
]


@pytest.mark.parametrize(("changes", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_errors(changes: dict[str, object], message: str) -> None:
    with pytest.raises(NetworkFileError, match=f"^{re.escape(f'net.json: {message}')}$"):
        load_changed(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"populations": []}, "populations must be a list of at least one, not empty"),
        ({"populations": [2, 5]}, "neurons must be 7, the sum of populations, not 4"),
        ({"populations": [4, "x"]}, 'populations[1] must be an integer, not "x"'),
        ({"populations": [5, -1]}, "populations[1] must be 1..65536, not -1"),
        ({"session": [{}]}, "missing field 'steps' in session[0]; fields are steps, bias"),
        ({"connections": 5}, "connections must be a list, not 5"),
        ({"foo": 1}, f"unknown field 'foo' in the network; {NETWORK_FIELDS}"),
        ({}, "neurons[3] must be an object, not 5"),
    ],
)
def test_the_whole_is_checked_before_each_neuron(changes: dict[str, object], message: str) -> None:
    neurons = [NEURON, NEURON, NEURON, 5]
    with pytest.raises(NetworkFileError, match=f"^{re.escape(f'net.json: {message}')}$"):
        load_changed(**({"populations": [3, 1], "neurons": neurons} | changes))


def test_populations_are_missed_before_each_neuron_is_checked() -> None:
    text = json.dumps({**{k: v for k, v in SMALL.items() if k != "populations"}, "neurons": [5]})
    message = f"net.json: missing field 'populations' in the network; {NETWORK_FIELDS}"
    text = text.replace("[5]", f"[{json.dumps(NEURON)}, 5]")
    with pytest.raises(NetworkFileError, match=f"^{re.escape(message)}$"):
        loads(text, "net.json")


def test_more_neurons_than_a_configuration_can_hold() -> None:
    empty = "{}," * 65536
    start = json.dumps({**SMALL, "populations": [65536, 1], "neurons": []})
    text = start.replace('"neurons": []', f'"neurons": [{json.dumps(NEURON)}, {empty[:-1]}]')
    message = "net.json: neurons must be at most 65536, what a configuration can hold, not 65537"
    with pytest.raises(NetworkFileError, match=f"^{re.escape(message)}$"):
        loads(text, "net.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 column 1 must be JSON: expecting value"),
        ('{\n "a": 1,\n}', "line 3 column 1 must be JSON: expecting property name enclosed in "),
        ("[1,2", "line 1 column 5 must be JSON: expecting ',' delimiter"),
        ("[]", "the network must be an object, not a list of 0"),
        ("NaN", "the network must be an object, not NaN"),
        (
            '{"populations": [1], "populations": 2}',
            "field 'populations' must be given once, not twice in one object (a list of 1 and 2)",
        ),
        ("[" * 100_000, "must be JSON of a few levels, but is nested too deeply"),
        (
            f'{{"seed": {"9" * 5000}}}',
            "integers must be short, but one has thousands of digits",
        ),
        (
            r'{"\ud800\n": 1}',
            r'the network must be a string of valid Unicode, not "\ud800\n"',
        ),
    ],
)
def test_broken_text(text: str, message: str) -> None:
    with pytest.raises(NetworkFileError, match=f"^{re.escape(f'net.json: {message}')}"):
        loads(text, "net.json")


def no_file(_: Path) -> str:
    return "no such file"


def folder(path: Path) -> str:
    path.mkdir()
    return "must be a file, not a folder"


def under_a_file(path: Path) -> str:
    path.parent.rmdir()
    path.parent.touch()
    return "cannot be read: Not a directory"


def latin1(path: Path) -> str:
    path.write_bytes(b'{"name": "\xe9"}')
    return "must be UTF-8, but byte 10 is not"


@pytest.mark.parametrize("prepare", [no_file, folder, under_a_file, latin1])
def test_unreadable_files(tmp_path: Path, prepare: Callable[[Path], str]) -> None:
    path = tmp_path / "networks" / "net.json"
    path.parent.mkdir()
    message = prepare(path)
    with pytest.raises(NetworkFileError, match=f"^{re.escape(f'{path}: {message}')}$"):
        load(path)


def test_errors_are_network_errors() -> None:
    assert issubclass(NetworkFileError, NetworkError)
    assert issubclass(NetworkFileError, ValueError)


def test_published_schema_is_current() -> None:
    published = json.loads((ROOT / "docs/network.schema.json").read_text())
    assert published == schema(), "write it anew: it is the JSON of schema()"


def test_schema_describes_every_number() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())

    def numbers(part: object) -> list[dict[str, Any]]:
        if isinstance(part, list):
            return [number for item in part for number in numbers(item)]
        if not isinstance(part, dict):
            return []
        inner = [number for item in part.values() for number in numbers(item)]
        return [part, *inner] if part.get("type") == "integer" else inner

    assert len(numbers(schema())) == 26
    assert all(number["description"] for number in numbers(schema()))


@pytest.mark.parametrize(
    "changes",
    [
        {"neurons": neuron(rest=256)},
        {"neurons": neuron(a=16)},
        {"neurons": neuron(tau=32769)},
        {"connections": [[0, 1, -129, 8]]},
        {"connections": [[0, 1, 0, 8, 0]]},
        {"session": [{"steps": 9, "bias": [[0, -2049]]}]},
        {"foo": 1},
    ],
)
def test_schema_refuses(changes: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(SMALL | changes, schema())


def test_example_of_the_documentation() -> None:
    page = (ROOT / "docs/network-file.md").read_text()
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 1
    network = loads(examples[0], "network-file.md")
    assert network.populations == (2, 1)
    assert network.neurons.tau.tolist() == [4, 8, 16]
    jsonschema.validate(json.loads(examples[0]), schema())


Place = list[str | int]

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 255, 256, 2**31, 2**32, 2**63 - 1, 2**63, 10**40])
    | st.floats()
    | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def places(part: object) -> list[Place]:
    """Ways to every value inside a JSON value."""
    if isinstance(part, dict):
        items: list[tuple[str | int, object]] = list(part.items())
    elif isinstance(part, list):
        items = list(enumerate(part))
    else:
        items = []
    return [place for key, value in items for place in ([key], *([key, *p] for p in places(value)))]


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """A valid file in which some values were replaced, removed, repeated or renamed."""
    data: Any = copy.deepcopy(SMALL)
    for _ in range(draw(st.integers(1, 3))):
        candidates = places(data)
        if not candidates:
            break
        *way, key = draw(st.sampled_from(candidates))
        owner = data
        for step in way:
            owner = owner[step]
        kind = draw(st.sampled_from(("replace", "remove", "insert")))
        if kind == "remove":
            del owner[key]
        elif kind == "insert" and isinstance(key, int):
            owner.insert(key, draw(JSON_VALUES | st.just(owner[key])))
        elif kind == "insert":
            owner[draw(st.text(max_size=5))] = draw(JSON_VALUES)
        else:
            owner[key] = draw(JSON_VALUES)
    return data


def loads_or_refuses(text: str) -> None:
    try:
        network = loads(text, "net.json")
    except NetworkFileError as error:
        message = str(error)
    else:
        assert_equal(loads(dump(network), "copy"), network)
        return
    assert message.startswith("net.json: ")
    assert len(message.splitlines()) == 1
    assert message.encode().decode() == message


@given(mutated())
def test_mutated_values_load_or_are_refused(data: object) -> None:
    loads_or_refuses(json.dumps(data))


@given(st.data())
def test_mutated_text_loads_or_is_refused(data: st.DataObject) -> None:
    text = json.dumps(SMALL)
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, min(len(text), first + 10)))
    patch = data.draw(st.text(st.sampled_from('{}[]",:0123456789.-eE\\ ntu') | st.characters()))
    loads_or_refuses(text[:first] + patch + text[last:])
