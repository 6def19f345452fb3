"""The two software engines behind one interface, with the chip's clocks filled in."""

import itertools
from collections.abc import Generator
from typing import Literal, Protocol

import numpy as np

from model.npu.config import NPUConfig
from model.npu.engine import Engine
from model.npu.network import Ints, Network
from model.npu.trace import Trace

Backend = Literal["fast", "model"]

MAX_CHUNK_STEPS = 4096
CHUNK_NEURON_STEPS = {"fast": 1 << 20, "model": 1 << 13}
"""Neurons x time steps that take a fraction of a second."""


class _Engine(Protocol):
    def set_bias(self, bias: dict[int, int]) -> None: ...

    def run(self, steps: int, events: Ints) -> Trace: ...


class _Model:
    """The specification engine with the interface of the fast one."""

    def __init__(self, network: Network, config: NPUConfig | None) -> None:
        self._engine = Engine(network, config)
        self.set_bias = self._engine.set_bias

    def run(self, steps: int, events: Ints) -> Trace:
        first = self._engine.step_index
        bounds = np.searchsorted(events[:, 0], np.arange(first, first + steps + 1))
        return Trace.join(
            [self._engine.step(events[low:high, 1]) for low, high in itertools.pairwise(bounds)]
        )


def _fast(network: Network, config: NPUConfig | None) -> _Engine:
    from model.npu.fast import FastEngine  # takes long to import

    engine = FastEngine(network, config=config)
    engine.run(0)  # compiles it, unless that has been done on this machine
    return engine


class Player:
    """Plays a network's session on an engine, any number of time steps at a time.

    Parameters
    ----------
    network : Network
    backend : str
        `fast` for `model.npu.fast`, `model` for `model.npu.engine`.
    config : NPUConfig, optional
        The chip whose clocks the traces carry; without it they carry none.
    """

    def __init__(self, network: Network, backend: Backend, config: NPUConfig | None) -> None:
        self.network = network
        self.step_index = 0
        self._segments = [(first, segment.bias) for first, segment in network.segments()][::-1]
        make = _fast if backend == "fast" else _Model
        self._engine: _Engine = make(network, config)

    def play(self, steps: int) -> Trace:
        """Run the next `steps` time steps, at least one and not beyond the end of the session."""
        last = self.step_index + steps
        if not self.step_index < last <= self.network.n_steps:
            raise ValueError(
                f"steps must be 1..{self.network.n_steps - self.step_index}, not {steps}"
            )
        parts = []
        while self.step_index < last:
            if self._segments and self._segments[-1][0] == self.step_index:
                self._engine.set_bias(self._segments.pop()[1])
            end = min(last, self._segments[-1][0]) if self._segments else last
            events = self.network.events_at(self.step_index, end)
            parts.append(self._engine.run(end - self.step_index, events))
            self.step_index = end
        return Trace.join(parts)


def simulate(
    network: Network,
    backend: Backend,
    config: NPUConfig | None = None,
    chunk_steps: int | None = None,
) -> Generator[Trace, None, None]:
    """Run a network's whole session; the generator yields its trace in chunks.

    The engine is made, and compiled where that is needed, before this function returns.

    Parameters
    ----------
    network, backend, config
        As in `Player`.
    chunk_steps : int, optional
        Time steps per chunk; by default what takes a fraction of a second.
    """
    player = Player(network, backend, config)
    if chunk_steps is None:
        by_size = CHUNK_NEURON_STEPS[backend] // network.n_neurons
        chunk_steps = min(max(by_size, 1), MAX_CHUNK_STEPS)
    return _chunks(player, chunk_steps)


def _chunks(player: Player, chunk_steps: int) -> Generator[Trace, None, None]:
    while player.step_index < player.network.n_steps:
        yield player.play(min(chunk_steps, player.network.n_steps - player.step_index))
