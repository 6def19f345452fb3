"""Import of the text files of the authors' IQIF simulator.

A network is three files of integers:

- neurons, one a line: `index rest threshold reset a b noise`;
- connections, one a line: `pre post weight tau`;
- session: `steps neuron bias neuron bias ... -1`, repeated; a lone -1 ends it.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.npu.config import BIAS_MAX, BIAS_MIN, TAU_MAX
from model.npu.network import (
    NEURON_LIMITS,
    Connections,
    Ints,
    Network,
    NetworkError,
    Neurons,
    Segment,
)
from model.npu.network_file import NetworkFileError, read_text
from model.npu.noise import STRIDE

NEURON_COLUMNS = ("index", "rest", "threshold", "reset", "a", "b", "noise")
CONNECTION_COLUMNS = ("pre", "post", "weight", "tau")
END = -1
"""Ends a segment of the session, and the session."""

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
"""What fits an int64; anything longer is out of every range."""
SHOWN_LENGTH = 40
"""Characters of a wrong word that an error shows."""


class IqifTextError(NetworkError):
    """A text file does not hold what it should; the text names the file and the line."""


class TauConflictWarning(UserWarning):
    """Connections give one post neuron different tau; the highest pre index wins."""


@dataclass(frozen=True)
class _Table:
    """The lines of a file as columns, and the number of each line."""

    path: Path | str
    numbers: Ints
    columns: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, k: int) -> str:
        return f"{self.path}:{self.numbers[k]}"

    def check_range(self, name: str, low: int, high: int) -> None:
        values = self.columns[name]
        bad = (values < low) | (values > high)
        if bad.any():
            k = int(np.argmax(bad))
            raise IqifTextError(f"{self.place(k)}: {name} must be {low}..{high}, not {values[k]}")


@dataclass(frozen=True)
class _Token:
    """A word of the session file and where it stands."""

    text: str
    place: str

    @property
    def value(self) -> int | None:
        return _integer(self.text)

    def in_range(self, name: str, low: int, high: int) -> int:
        value = self.value
        if value is None or not low <= value <= high:
            raise self.error(name, f"{low}..{high}")
        return value

    def error(self, name: str, wanted: str) -> IqifTextError:
        return IqifTextError(f"{self.place}: {name} must be {wanted}, not {_shown(self.text)}")


def load(neurons: Path | str, connections: Path | str, session: Path | str) -> Network:
    """Read a network of the authors' simulator from its three files.

    It has one population and no axons; its noise is ours, not the simulator's.

    Raises
    ------
    IqifTextError
        A file cannot be read or does not hold what it should.

    Warns
    -----
    TauConflictWarning
        Connections give one post neuron different tau.
    """
    parameters = _neurons(neurons)
    n_neurons = len(parameters)
    synapses = _synapses(connections, n_neurons)
    segments = tuple(_segments(session, n_neurons))
    try:
        return Network(
            populations=(n_neurons,),
            neurons=Neurons(
                **{name: parameters.columns[name] for name in NEURON_COLUMNS[1:]},
                tau=_tau(synapses, n_neurons),
            ),
            recurrent=Connections(*(synapses.columns[name] for name in CONNECTION_COLUMNS[:3])),
            axons=(0,),
            external=Connections.none(),
            noise_seeds=(0,),
            session=segments,
            events=np.zeros((0, 2), np.int64),
            name=Path(neurons).stem,
        )
    except NetworkError as error:  # all that is left is the length of the session
        raise IqifTextError(f"{session}: {error}") from None


def _integer(text: str) -> int | None:
    return int(text) if INTEGER.fullmatch(text) else None


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."


def _lines(path: Path | str) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that is not blank."""
    try:
        text = read_text(path)
    except NetworkFileError as error:
        raise IqifTextError(str(error)) from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words:
            yield number, words


def _table(path: Path | str, names: tuple[str, ...]) -> _Table:
    numbers, rows = [], []
    for number, words in _lines(path):
        if len(words) != len(names):
            raise IqifTextError(
                f"{path}:{number}: line must be {len(names)} integers ({' '.join(names)}), "
                f"not {len(words)}"
            )
        row = [_integer(word) for word in words]
        if None in row:
            k = row.index(None)
            raise IqifTextError(
                f"{path}:{number}: {names[k]} must be an integer, not {_shown(words[k])}"
            )
        numbers.append(number)
        rows.append(row)
    values = np.array(rows, np.int64).reshape(-1, len(names))
    columns = {name: values[:, k].copy() for k, name in enumerate(names)}
    return _Table(path, np.array(numbers, np.int64), columns)


def _neurons(path: Path | str) -> _Table:
    table = _table(path, NEURON_COLUMNS)
    if not 1 <= len(table) <= STRIDE:
        raise IqifTextError(f"{path}: neurons must be 1..{STRIDE}, not {len(table)}")
    index = table.columns["index"]
    wrong = index != np.arange(len(table))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise IqifTextError(f"{table.place(k)}: index must be {k}, counting from 0, not {index[k]}")
    for name in NEURON_COLUMNS[1:]:
        table.check_range(name, 0, NEURON_LIMITS[name])
    flat = table.columns["a"] + table.columns["b"] == 0
    if flat.any():
        raise IqifTextError(f"{table.place(int(np.argmax(flat)))}: a + b must be at least 1, not 0")
    return table


def _synapses(path: Path | str, n_neurons: int) -> _Table:
    table = _table(path, CONNECTION_COLUMNS)
    table.check_range("pre", 0, n_neurons - 1)
    table.check_range("post", 0, n_neurons - 1)
    table.check_range("weight", -128, 127)
    table.check_range("tau", 0, TAU_MAX)
    pre, post = table.columns["pre"], table.columns["post"]
    order = np.lexsort((post, pre))
    same = (np.diff(pre[order]) == 0) & (np.diff(post[order]) == 0)
    if same.any():
        first = int(np.argmax(same))
        k, other = order[first : first + 2]
        raise IqifTextError(
            f"{table.place(k)} and {table.place(other)} must be different connections, "
            f"both are {pre[k]} -> {post[k]}"
        )
    return table


def _tau(synapses: _Table, n_neurons: int) -> Ints:
    """Decay constant of each neuron: that of its connection with the highest pre index."""
    pre, post, tau = (synapses.columns[name] for name in ("pre", "post", "tau"))
    order = np.argsort(pre, kind="stable")
    winner = np.full(n_neurons, -1)
    winner[post[order]] = order  # the last one stays
    loses = np.flatnonzero(tau != tau[winner[post]])
    for neuron, first in zip(*np.unique(post[loses], return_index=True), strict=True):
        _warn_of_conflict(synapses, int(neuron), int(loses[first]), int(winner[neuron]))
    decided: Ints = np.append(tau, 0)[winner]  # -1, no connections: the 0 at the end
    return decided


def _warn_of_conflict(synapses: _Table, neuron: int, loser: int, winner: int) -> None:
    tau = synapses.columns["tau"]
    warnings.warn(
        f"{synapses.place(loser)} and {synapses.place(winner)} give neuron {neuron} "
        f"different tau, {tau[loser]} and {tau[winner]}: {tau[winner]} wins, "
        "it has the highest pre index",
        TauConflictWarning,
        stacklevel=4,
    )


def _segments(path: Path | str, n_neurons: int) -> Iterator[Segment]:
    tokens = (_Token(word, f"{path}:{number}") for number, words in _lines(path) for word in words)
    for token in tokens:
        steps = token.value
        if steps == END:
            _check_end(tokens)
            return
        if steps is None or steps < 1:
            raise token.error("steps", f"at least 1, or {END} to end the session")
        yield Segment(steps, _bias(tokens, token, n_neurons))
    raise IqifTextError(f"{path}: session must end in a lone {END}, but the file ends before it")


def _bias(tokens: Iterator[_Token], steps: _Token, n_neurons: int) -> dict[int, int]:
    """Pairs of neuron and bias up to the end of the segment."""
    bias: dict[int, int] = {}
    for token in tokens:
        if token.value == END:
            return bias
        neuron = token.in_range("neuron", 0, n_neurons - 1)
        if neuron in bias:
            raise IqifTextError(
                f"{token.place}: bias of neuron {neuron} must be given once in a segment, not twice"
            )
        value = next(tokens, None)
        if value is None:
            break
        bias[neuron] = value.in_range(f"bias of neuron {neuron}", BIAS_MIN, BIAS_MAX)
    raise IqifTextError(f"{steps.place}: segment must end in {END}, but the file ends before it")


def _check_end(tokens: Iterator[_Token]) -> None:
    for token in tokens:
        raise token.error("session", f"over after the lone {END}")
