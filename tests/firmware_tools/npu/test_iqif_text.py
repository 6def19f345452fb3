"""Text files of the authors' simulator: import, every error text, and broken files."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools.npu.iqif_text import (
    SHIFT_LIMIT,
    Columns,
    IqifTextError,
    SimulatorWarning,
    TauConflictWarning,
    load,
)
from model.npu.network import Network, NetworkError
from model.npu.network_file import dump
from model.npu.network_file import load as load_json

VECTORS = sorted((Path(__file__).parents[2] / "vectors/iqif").glob("*.json"))

NEURONS = "0 62 75 68 4 1 0\n1 128 200 128 1 1 5\n2 50 75 90 1 1 0\n"
CONNECTIONS = "0 1 -20 8\n1 1 5 8\n1 2 90 16\n"
SESSION = "100 -1\n20 0 5 2 -3 -1\n-1\n"


@pytest.fixture
def load_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Network]:
    """Loads the three texts as n.txt, c.txt and s.txt."""
    monkeypatch.chdir(tmp_path)

    def run(
        n: str = NEURONS,
        c: str = CONNECTIONS,
        s: str = SESSION,
        columns: Columns | None = "slopes",
    ) -> Network:
        for name, text in (("n.txt", n), ("c.txt", c), ("s.txt", s)):
            Path(name).write_text(text)
        return load("n.txt", "c.txt", "s.txt", columns)

    return run


def test_small_network(load_texts: Callable[..., Network]) -> None:
    network = load_texts()
    assert network.name == "n"
    assert network.populations == (3,)
    assert network.neurons.rest.tolist() == [62, 128, 50]
    assert network.neurons.threshold.tolist() == [75, 200, 75]
    assert network.neurons.reset.tolist() == [68, 128, 90]
    assert network.neurons.a.tolist() == [4, 1, 1]
    assert network.neurons.b.tolist() == [1, 1, 1]
    assert network.neurons.noise.tolist() == [0, 5, 0]
    assert network.neurons.tau.tolist() == [0, 8, 16]
    assert network.recurrent.pre.tolist() == [0, 1, 1]
    assert network.recurrent.post.tolist() == [1, 1, 2]
    assert network.recurrent.weight.tolist() == [-20, 5, 90]
    assert [(s.steps, s.bias) for s in network.session] == [(100, {}), (20, {0: 5, 2: -3})]


def test_lines_of_the_session_do_not_matter(load_texts: Callable[..., Network]) -> None:
    expected = load_texts()
    assert dump(load_texts(s="100 -1 20 0 5\n2 -3\n\n-1 -1")) == dump(expected)


def test_blank_lines_and_spaces(load_texts: Callable[..., Network]) -> None:
    expected = load_texts()

    def spread(text: str) -> str:
        return "\n \n" + text.replace(" ", "\t  ").replace("\n", " \r\n\n")

    network = load_texts(spread(NEURONS), spread(CONNECTIONS), spread(SESSION))
    assert dump(network) == dump(expected)


def test_no_connections(load_texts: Callable[..., Network]) -> None:
    network = load_texts(c="")
    assert len(network.recurrent) == 0
    assert network.neurons.tau.tolist() == [0, 0, 0]


def as_texts(network: Network | SimpleNamespace) -> tuple[str, str, str]:
    """The network in the formats of the simulator."""
    n, c = network.neurons, network.recurrent
    neurons = zip(n.rest, n.threshold, n.reset, n.a, n.b, n.noise, strict=True)
    connections = zip(c.pre, c.post, c.weight, n.tau[c.post], strict=True)
    session = [
        " ".join(f"{x}" for x in (s.steps, *(x for pair in s.bias.items() for x in pair), -1))
        for s in network.session
    ]
    return (
        "\n".join(f"{j} {' '.join(map(str, row))}" for j, row in enumerate(neurons)),
        "\n".join(" ".join(map(str, row)) for row in connections),
        "\n".join([*session, "-1"]),
    )


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors(path: Path, load_texts: Callable[..., Network]) -> None:
    expected = load_json(path)
    network = load_texts(*as_texts(expected))
    one_population = replace(
        expected, populations=(expected.n_neurons,), axons=(0,), noise_seeds=(0,), name="n"
    )
    assert dump(network) == dump(one_population)


EITHER = (
    "n.txt:1: columns behind reset must be said to be slopes or shifts, as 4 1 could be either: "
    "slopes a b of 4/8 and 1/8 in files until 2025 (--iqif-columns slopes), or shift_a shift_b "
    "for slopes of 1/16 and 1/2 in files since 2026-01 (--iqif-columns shifts)"
)
RANGES = "0..15 (slope) or 0..3 (shift)"
COLUMN_ERRORS: list[tuple[Columns | None, str, str]] = [
    (None, "4 1", EITHER),
    (None, "0 1", EITHER.replace("4 1", "0 1").replace("4/8", "0/8").replace("1/16", "1/1")),
    (None, "16 1", f"n.txt:1: a must be {RANGES}, not 16"),
    (None, "1 -1", f"n.txt:1: b must be {RANGES}, not -1"),
    ("slopes", "0 0", "n.txt:1: a + b must be at least 1, not 0"),
    ("slopes", "1 16", "n.txt:1: b must be 0..15, not 16"),
    (
        "shifts",
        "4 1",
        "n.txt:1: shift_a must be 0..3 (the chip has slopes of whole eighths), not 4",
    ),
    (
        "shifts",
        "0 -1",
        "n.txt:1: shift_b must be 0..3 (the chip has slopes of whole eighths), not -1",
    ),
]


@pytest.mark.parametrize(("columns", "words", "message"), COLUMN_ERRORS)
def test_columns_that_are_refused(
    load_texts: Callable[..., Network], columns: Columns | None, words: str, message: str
) -> None:
    with pytest.raises(IqifTextError, match=f"^{re.escape(message)}$"):
        load_texts(f"0 62 75 68 {words} 0", "", "1 -1 -1", columns)


def test_shifts(load_texts: Callable[..., Network]) -> None:
    text = "".join(f"{k} 62 75 68 {k} {3 - k} 0\n" for k in range(4))
    with pytest.warns(SimulatorWarning) as caught:
        network = load_texts(text, "", "1 -1 -1", "shifts")
    assert network.neurons.a.tolist() == [8, 4, 2, 1]
    assert network.neurons.b.tolist() == [1, 2, 4, 8]
    assert [str(warning.message) for warning in caught] == [
        "n.txt: neurons with shifts are of the simulator since 2026-01; the chip resets and decays "
        "as that of 2023 (docs/network-file.md), so their runs differ"
    ]
    assert caught[0].filename == __file__


def test_two_zeros_can_only_be_shifts(load_texts: Callable[..., Network]) -> None:
    with pytest.warns(SimulatorWarning):
        network = load_texts("0 62 75 68 3 1 0\n1 62 75 68 0 0 0", "", "1 -1 -1", None)
    assert network.neurons.a.tolist() == [1, 8]
    assert network.neurons.b.tolist() == [4, 8]


def test_slopes_and_shifts_are_the_same_force_and_branch_point() -> None:
    """For all shifts, distances and points, in the formulas of the two simulators."""
    shifts = np.arange(SHIFT_LIMIT + 1)
    slopes = 8 >> shifts
    distance = np.arange(-255, 256)[:, None]
    np.testing.assert_array_equal(slopes * distance >> 3, distance >> shifts)
    rest, threshold, shift_a, shift_b = np.ix_(np.arange(256), np.arange(256), shifts, shifts)
    a, b = slopes[shift_a], slopes[shift_b]
    weight_a, weight_b = 1 << shift_b, 1 << shift_a
    np.testing.assert_array_equal(
        (a * rest + b * threshold) // (a + b),
        (weight_a * rest + weight_b * threshold) // (weight_a + weight_b),
    )


SHIFT_OF = {1: 3, 2: 2, 4: 1, 8: 0}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors_with_shifts(path: Path, load_texts: Callable[..., Network]) -> None:
    """Slopes that are no power of two cannot be shifts; a power of two stands in for them."""
    vector = load_json(path)
    slopes = {name: 1 << (getattr(vector.neurons, name) % 4) for name in ("a", "b")}
    in_slopes = replace(vector, neurons=replace(vector.neurons, **slopes))
    shifts = {
        name: np.array([SHIFT_OF[slope] for slope in values.tolist()])
        for name, values in slopes.items()
    }
    in_shifts = SimpleNamespace(
        neurons=replace(vector.neurons, **shifts),
        recurrent=vector.recurrent,
        session=vector.session,
    )
    expected = load_texts(*as_texts(in_slopes))
    with pytest.warns(SimulatorWarning):
        network = load_texts(*as_texts(in_shifts), "shifts")
    assert dump(network) == dump(expected)


def test_highest_pre_wins_a_tau_conflict(load_texts: Callable[..., Network]) -> None:
    with pytest.warns(TauConflictWarning) as caught:
        network = load_texts(c="2 1 1 4\n0 1 1 8\n1 1 1 16\n\n0 0 1 2\n1 0 1 3\n0 2 1 5\n")
    assert [str(warning.message) for warning in caught] == [
        "c.txt:5 and c.txt:6 give neuron 0 different tau, 2 and 3: 3 wins, "
        "it has the highest pre index",
        "c.txt:2 and c.txt:1 give neuron 1 different tau, 8 and 4: 4 wins, "
        "it has the highest pre index",
    ]
    assert caught[0].filename == __file__
    assert network.neurons.tau.tolist() == [3, 4, 5]


ERRORS = [
    ("n", "", "n.txt: neurons must be 1..65536, not 0"),
    (
        "n",
        "0 62 75 68 4 1\n",
        "n.txt:1: line must be 7 integers (index rest threshold reset a b noise), not 6",
    ),
    (
        "n",
        "\n0 62 75 68 4 1 0 8\n",
        "n.txt:2: line must be 7 integers (index rest threshold reset a b noise), not 8",
    ),
    ("n", "0 6.2 75 68 4 1 0\n", "n.txt:1: rest must be an integer, not 6.2"),
    ("n", "0 1_0 75 68 4 1 0\n", "n.txt:1: rest must be an integer, not 1_0"),
    ("n", "0 \u0661 75 68 4 1 0\n", "n.txt:1: rest must be an integer, not \u0661"),
    (
        "n",
        f"0 62 {'7' * 5000} 68 4 1 0\n",
        f"n.txt:1: threshold must be an integer, not {'7' * 37}...",
    ),
    ("n", "1 62 75 68 4 1 0\n", "n.txt:1: index must be 0, counting from 0, not 1"),
    (
        "n",
        "0 62 75 68 4 1 0\n\n0 62 75 68 4 1 0\n",
        "n.txt:3: index must be 1, counting from 0, not 0",
    ),
    ("n", "0 256 75 68 4 1 0\n", "n.txt:1: rest must be 0..255, not 256"),
    ("n", "0 62 -1 68 4 1 0\n", "n.txt:1: threshold must be 0..255, not -1"),
    ("n", "0 62 75 68 16 1 0\n", "n.txt:1: a must be 0..15, not 16"),
    ("n", "0 62 75 68 0 0 0\n", "n.txt:1: a + b must be at least 1, not 0"),
    ("c", "0 1 5\n", "c.txt:1: line must be 4 integers (pre post weight tau), not 3"),
    ("c", "0 1 5 x\n", "c.txt:1: tau must be an integer, not x"),
    ("c", "3 1 5 8\n", "c.txt:1: pre must be 0..2, not 3"),
    ("c", "0 -1 5 8\n", "c.txt:1: post must be 0..2, not -1"),
    ("c", "0 1 5 8\n1 1 128 8\n", "c.txt:2: weight must be -128..127, not 128"),
    ("c", "0 1 -129 8\n", "c.txt:1: weight must be -128..127, not -129"),
    ("c", "0 1 5 32769\n", "c.txt:1: tau must be 0..32768, not 32769"),
    (
        "c",
        "0 1 5 8\n1 1 5 8\n\n0 1 6 8\n",
        "c.txt:1 and c.txt:4 must be different connections, both are 0 -> 1",
    ),
    ("s", "-1\n", "s.txt: session must have at least one segment"),
    ("s", "", "s.txt: session must end in a lone -1, but the file ends before it"),
    ("s", "100 -1\n", "s.txt: session must end in a lone -1, but the file ends before it"),
    ("s", "9 -1\n100 0 5\n", "s.txt:2: segment must end in -1, but the file ends before it"),
    ("s", "100 0", "s.txt:1: segment must end in -1, but the file ends before it"),
    ("s", "0 -1\n-1\n", "s.txt:1: steps must be at least 1, or -1 to end the session, not 0"),
    ("s", "9 -1\n-2 -1", "s.txt:2: steps must be at least 1, or -1 to end the session, not -2"),
    ("s", "ten -1\n", "s.txt:1: steps must be at least 1, or -1 to end the session, not ten"),
    ("s", "4294967296 -1 -1", "s.txt: session must be shorter than 2**32 steps, not 4294967296"),
    ("s", "9 3 5 -1 -1", "s.txt:1: neuron must be 0..2, not 3"),
    ("s", "9 x 5 -1 -1", "s.txt:1: neuron must be 0..2, not x"),
    ("s", "9 1 2048 -1 -1", "s.txt:1: bias of neuron 1 must be -2048..2047, not 2048"),
    ("s", "9\n1 -2049 -1 -1", "s.txt:2: bias of neuron 1 must be -2048..2047, not -2049"),
    (
        "s",
        "9 1 5 1 6 -1 -1",
        "s.txt:1: bias of neuron 1 must be given once in a segment, not twice",
    ),
    ("s", "9 -1\n-1\n5 -1\n", "s.txt:3: session must be over after the lone -1, not 5"),
]


@pytest.mark.parametrize(("name", "text", "message"), ERRORS)
def test_errors(load_texts: Callable[..., Network], name: str, text: str, message: str) -> None:
    with pytest.raises(IqifTextError, match=f"^{re.escape(message)}$"):
        load_texts(**{name: text})


def test_bias_of_minus_one_does_not_end_a_segment(load_texts: Callable[..., Network]) -> None:
    assert load_texts(s="9 1 -1 -1 -1").session[0].bias == {1: -1}


def test_unreadable_files(tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    with pytest.raises(IqifTextError, match=f"^{re.escape(f'{missing}: no such file')}$"):
        load(missing, missing, missing, "slopes")
    folder = re.escape(f"{tmp_path}: must be a file, not a folder")
    with pytest.raises(IqifTextError, match=f"^{folder}$"):
        load(tmp_path, missing, missing, "slopes")


def test_errors_are_network_errors() -> None:
    assert issubclass(IqifTextError, NetworkError)


def loads_or_refuses(folder: Path, texts: list[str], columns: Columns | None) -> None:
    paths = [folder / name for name in ("n.txt", "c.txt", "s.txt")]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TauConflictWarning)
        warnings.simplefilter("ignore", SimulatorWarning)
        try:
            load(*paths, columns)
        except IqifTextError as error:
            message = str(error)
        else:
            return
    assert message.startswith(str(folder))
    assert len(message.splitlines()) == 1
    assert message.encode().decode() == message


@given(st.data())
def test_mutated_files_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    texts = [NEURONS, CONNECTIONS, SESSION]
    which = data.draw(st.integers(0, 2))
    words = re.split(r"(\s+)", texts[which])
    for _ in range(data.draw(st.integers(1, 3))):
        k = data.draw(st.integers(0, len(words) - 1))
        words[k] = data.draw(
            st.integers(-200, 300).map(str)
            | st.sampled_from(
                ["", "\n", "-1", "0", str(10**18), "9" * 5000, "\u0661", "\x00", "1 2"]
            )
            | st.text(max_size=4)
        )
    texts[which] = "".join(words)
    columns = data.draw(st.sampled_from(["slopes", "shifts", None]))
    loads_or_refuses(tmp_path_factory.getbasetemp(), texts, columns)


def test_large_file_keeps_every_weight(load_texts: Callable[..., Network]) -> None:
    n = 128
    weights = np.random.default_rng(0).integers(-128, 128, (n, n))
    neurons = "\n".join(f"{j} 62 75 68 4 1 0" for j in range(n))
    connections = "\n".join(f"{i} {j} {weights[i, j]} 4" for i in range(n) for j in range(n))
    network = load_texts(neurons, connections)
    np.testing.assert_array_equal(network.recurrent.weight, weights.ravel())
