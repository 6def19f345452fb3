"""Networks to test with, and the comparison of the two engines."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from model.npu.engine import Engine
from model.npu.fast import FastEngine
from model.npu.network import Connections, Network, Neurons, Segment
from model.npu.trace import Trace

VECTORS = Path(__file__).parents[2] / "vectors" / "iqif"

TONIC = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1, "noise": 0, "tau": 0}


def _build(
    neurons: list[dict[str, int]],
    *,
    recurrent: Iterable[tuple[int, int, int]] = (),
    external: Iterable[tuple[int, int, int]] = (),
    events: Iterable[tuple[int, int]] = (),
    session: Iterable[tuple[int, dict[int, int]]] = ((1, {}),),
    **sizes: tuple[int, ...],
) -> Network:
    """A network out of short lists; a neuron is what differs from `TONIC`."""
    columns = {k: np.array([{**TONIC, **neuron}[k] for neuron in neurons]) for k in TONIC}
    fired = np.array(list(events), np.int64).reshape(-1, 2)
    populations = sizes.get("populations", (len(neurons),))
    return Network(
        populations=populations,
        neurons=Neurons(**columns),
        recurrent=_connections(recurrent),
        axons=sizes.get("axons", (0,) * len(populations)),
        external=_connections(external),
        noise_seeds=sizes.get("noise_seeds", tuple(range(len(populations)))),
        session=tuple(Segment(steps, bias) for steps, bias in session),
        events=fired,
    )


def _connections(synapses: Iterable[tuple[int, int, int]]) -> Connections:
    pre, post, weight = np.array(list(synapses), np.int64).reshape(-1, 3).T
    return Connections(pre, post, weight)


def _simulate(network: Network) -> tuple[Engine, Trace]:
    """The specification engine after the session, and its trace."""
    engine = Engine(network)
    parts = []
    for start, segment in network.segments():
        engine.set_bias(segment.bias)
        parts += [
            engine.step(network.events_at(step, step + 1)[:, 1])
            for step in range(start, start + segment.steps)
        ]
    return engine, Trace.join(parts)


def _run_fast(engine: FastEngine, chunk: int) -> Trace:
    """The whole session on the fast engine, at most `chunk` steps at a time."""
    network = engine.network
    parts = []
    for start, segment in network.segments():
        engine.set_bias(segment.bias)
        end = start + segment.steps
        for first in range(start, end, chunk):
            steps = min(chunk, end - first)
            parts.append(engine.run(steps, network.events_at(first, first + steps)))
    return Trace.join(parts)


def _state(engine: Engine | FastEngine) -> dict[str, list[int]]:
    return {
        "v": engine.v.tolist(),
        "i_syn": engine.i_syn.tolist(),
        "bias": engine.bias.tolist(),
        "spikes": engine.spikes.tolist(),
        "noise_states": engine.noise_states,
        "step_index": [engine.step_index],
    }


def _assert_equal_traces(got: Trace, expected: Trace) -> None:
    assert got.first_step == expected.first_step
    for field in fields(Trace):
        a, b = getattr(got, field.name), getattr(expected, field.name)
        if field.name != "first_step":
            assert a.dtype == b.dtype, field.name
        np.testing.assert_array_equal(a, b, err_msg=field.name)


def _compare(network: Network) -> Trace:
    """Run both engines, the fast one in both forms of its weights; all bits must be equal."""
    engine, expected = _simulate(network)
    for dense in (False, True, None):
        fast = FastEngine(network, dense=dense)
        _assert_equal_traces(_run_fast(fast, chunk=network.n_steps), expected)
        assert _state(fast) == _state(engine)
    return expected


@pytest.fixture
def vectors() -> Path:
    return VECTORS


@pytest.fixture
def build() -> Callable[..., Network]:
    return _build


@pytest.fixture
def simulate() -> Callable[[Network], tuple[Engine, Trace]]:
    return _simulate


@pytest.fixture
def run_fast() -> Callable[[FastEngine, int], Trace]:
    return _run_fast


@pytest.fixture
def assert_equal_traces() -> Callable[[Trace, Trace], None]:
    return _assert_equal_traces


@pytest.fixture
def compare() -> Callable[[Network], Trace]:
    return _compare
