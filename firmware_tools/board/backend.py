"""A network's whole session on a board, compared with the model."""

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from firmware_tools.board.chip import CHUNK_STEPS, Chip
from firmware_tools.npu.backends import Player
from firmware_tools.npu.difference import Difference
from model.npu import layout
from model.npu.network import Ints, Network
from model.npu.trace import Trace
from tb.simulator import BenchFailure


def simulate(network: Network, chip: Chip) -> Generator[Trace, None, None]:
    """Run a network on a board, which is closed at the end.

    Yields
    ------
    Trace
        The model's, after every spike of the board was found equal.

    Raises
    ------
    BenchFailure
        A spike differs; or, at the end, a neuron's state or the clocks of the last time step.
    """
    player = Player(network, "fast", chip.config)
    with chip:
        chip.load(network)
        for first, segment in network.segments():
            chip.set_bias(segment.bias)
            end = first + segment.steps
            for start in range(first, end, CHUNK_STEPS):
                steps = min(CHUNK_STEPS, end - start)
                spikes = chip.run(steps, network.events_at(start, start + steps))
                trace = player.play(steps)
                _compare(network, start, "spike", trace.spikes, spikes)
                yield trace
        _compare_end(network, chip, trace)


def _compare(
    network: Network,
    first: int,
    field: str,
    expected: Ints | NDArray[np.bool_],
    actual: Ints | NDArray[np.bool_],
) -> None:
    """Refuse the first value of (steps, neurons) that differs."""
    for t, neuron in np.argwhere(expected != actual)[:1].tolist():
        p = int(network.population_of(np.array(neuron)))
        index = neuron - network.neuron_slice(p).start
        values = int(expected[t, neuron]), int(actual[t, neuron])
        raise BenchFailure(f"board: {Difference(first + t, p, index, field, *values)}")


def _compare_end(network: Network, chip: Chip, trace: Trace) -> None:
    """State of all neurons behind the last time step, and its clocks."""
    last = trace.first_step + len(trace) - 1
    words = [
        chip.memory(f"neurons[{p}]").reshape(-1, layout.WORDS_PER_NEURON)[:n, layout.STATE_WORD]
        for p, n in enumerate(network.populations)
    ]
    state = layout.unpack(layout.STATE_FIELDS, np.concatenate(words))
    i_syn = layout.to_signed(state["i_syn"], 16)
    _compare(network, last, "v", trace.v[-1:].astype(np.int64), state["v"][None])
    _compare(network, last, "i_syn", trace.i_syn[-1:].astype(np.int64), i_syn[None])
    clocks = chip.read("STEP_CLOCKS")
    if clocks != trace.clocks[-1]:
        right = int(trace.clocks[-1])
        raise BenchFailure(f"board: {Difference(last, None, None, 'clocks', right, clocks)}")
