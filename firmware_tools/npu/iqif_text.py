"""Import of the text files of the authors' IQIF simulator.

A network is three files of integers:

- neurons, one a line: `index rest threshold reset a b noise`, in files since 2026-01
  `index rest threshold reset shift_a shift_b noise`;
- connections, one a line: `pre post weight tau`;
- session: `steps neuron bias neuron bias ... -1`, repeated; a lone -1 ends it.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
SLOPES = ("a", "b")
Columns = Literal["slopes", "shifts"]
"""What `a` and `b` are in a file."""
SLOPE_LIMIT = NEURON_LIMITS["a"]
SHIFT_LIMIT = 3
"""Slopes are in eighths: a = 8 >> shift is exact up to this shift, and so is the force."""
CONNECTION_COLUMNS = ("pre", "post", "weight", "tau")
END = -1
"""Ends a segment of the session, and the session."""

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
"""What fits an int64; anything longer is out of every range."""
SHOWN_LENGTH = 40
"""Characters of a wrong word that an error shows."""


class IqifTextError(NetworkError):
    """A text file does not hold what it should; the text names the file and the line."""


class SimulatorWarning(UserWarning):
    """The file is of a simulator whose neurons are not the chip's in all."""


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

    def check_range(
        self, name: str, low: int, high: int, wanted: str = "", shown: str = ""
    ) -> None:
        values = self.columns[name]
        bad = (values < low) | (values > high)
        if bad.any():
            k = int(np.argmax(bad))
            wanted = wanted or f"{low}..{high}"
            raise IqifTextError(
                f"{self.place(k)}: {shown or name} must be {wanted}, not {values[k]}"
            )


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


def load(
    neurons: Path | str,
    connections: Path | str,
    session: Path | str,
    columns: Columns | None = None,
) -> Network:
    """Read a network of the authors' simulator from its three files.

    It has one population and no axons; its noise is ours, not the simulator's.

    Parameters
    ----------
    neurons, connections, session : path
    columns : {"slopes", "shifts"}, optional
        Whether two columns of `neurons` are the slopes a and b in eighths or, as in files since
        2026-01, the shifts: slopes of 2**-shift, a = 8 >> shift. May be left out only if the file
        cannot be both: a line with two zeros has shifts, as slopes must not both be 0.

    Raises
    ------
    IqifTextError
        A file cannot be read or does not hold what it should, or its columns could be either.

    Warns
    -----
    SimulatorWarning
        The neurons have shifts; the simulator that reads these resets and decays in other ways.
    TauConflictWarning
        Connections give one post neuron different tau.
    """
    parameters = _neurons(neurons)
    columns = columns or _columns(parameters)
    _make_slopes(parameters, columns)
    if columns == "shifts":
        warnings.warn(
            f"{neurons}: neurons with shifts are of the simulator since 2026-01; the chip resets "
            "and decays as that of 2023 (docs/network-file.md), so their runs differ",
            SimulatorWarning,
            stacklevel=2,
        )
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
        if name not in SLOPES:
            table.check_range(name, 0, NEURON_LIMITS[name])
    return table


def _columns(table: _Table) -> Columns:
    """What the two columns can only be."""
    for name in SLOPES:
        table.check_range(
            name, 0, SLOPE_LIMIT, f"0..{SLOPE_LIMIT} (slope) or 0..{SHIFT_LIMIT} (shift)"
        )
    a, b = (table.columns[name] for name in SLOPES)
    if (a + b == 0).any():
        return "shifts"
    raise IqifTextError(
        f"{table.place(0)}: columns behind reset must be said to be slopes or shifts, as "
        f"{a[0]} {b[0]} could be either: slopes a b of {a[0]}/8 and {b[0]}/8 in files until 2025 "
        f"(--iqif-columns slopes), or shift_a shift_b for slopes of 1/{1 << a[0]} and "
        f"1/{1 << b[0]} in files since 2026-01 (--iqif-columns shifts)"
    )


def _make_slopes(table: _Table, columns: Columns) -> None:
    """Check the two columns; shifts become slopes."""
    if columns == "slopes":
        for name in SLOPES:
            table.check_range(name, 0, SLOPE_LIMIT)
        flat = table.columns["a"] + table.columns["b"] == 0
        if flat.any():
            place = table.place(int(np.argmax(flat)))
            raise IqifTextError(f"{place}: a + b must be at least 1, not 0")
        return
    for name in SLOPES:
        wanted = f"0..{SHIFT_LIMIT} (the chip has slopes of whole eighths)"
        table.check_range(name, 0, SHIFT_LIMIT, wanted, shown=f"shift_{name}")
        table.columns[name] = (1 << SHIFT_LIMIT) >> table.columns[name]


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
