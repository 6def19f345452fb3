"""The networks of `examples/`, made from scratch: `python -m firmware_tools.npu.examples`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.npu.network import Connections, Ints, Network, Neurons, Segment
from model.npu.network_file import dump

Rates = NDArray[np.float64]

FOLDER = Path(__file__).parents[2] / "examples"
SEED = 2022

N_SENSORY = 48
"""Neurons of each of the two looming pools of population 0."""
N_MOTOR = 32
"""Neurons of each of the two turning pools of population 1."""
N_RECEPTORS = 24
"""External axons of each eye."""

LOOMING_LEFT = slice(0, N_SENSORY)
LOOMING_RIGHT = slice(N_SENSORY, 2 * N_SENSORY)
TURN_RIGHT = slice(2 * N_SENSORY, 2 * N_SENSORY + N_MOTOR)
TURN_LEFT = slice(2 * N_SENSORY + N_MOTOR, 2 * (N_SENSORY + N_MOTOR))
"""Pools as neurons of the whole network; one turns away from what looms."""
LEFT_EYE = slice(0, N_RECEPTORS)
RIGHT_EYE = slice(N_RECEPTORS, 2 * N_RECEPTORS)
"""External axons; all belong to population 0."""

REST, THRESHOLD, RESET, SLOPE = 60, 100, 20, 2
NOISE = 24
TAU = 4

DENSITY = 0.25
"""Share of the possible connections between two pools that exist."""
RECEPTOR_WEIGHT = 7
EXCITATION = 2
"""Within a looming pool: keeps its decision alive through gaps in the stimulus."""
INHIBITION = -6
"""Between competing pools: the winner takes all."""
DRIVE = 6
"""From a looming pool to the motor pool that turns away from it."""

N_STEPS = 1000
LEFT_LOOMS = range(100, 500)
RIGHT_LOOMS = range(500, 900)
"""Time steps; before and behind them both eyes see only the background."""
BACKGROUND_RATE = 0.01
"""Probability that a receptor fires in a time step."""
DISTRACTOR_RATE = 0.03
"""The same, in the eye that sees something else while the other one sees something loom."""
LOOMING_RATES = (0.08, 0.14)
"""The same, in the eye in which an object looms: at its first and its last time step."""


def decision_network() -> Network:
    """Two pools compete for a decision, and steer two motor pools in another population.

    Population 0 sees something loom, first on the left and then on the right, while the other eye
    sees a distractor. Its two pools inhibit each other, so that one of them wins. Each excites,
    over the link 0 -> 1, the motor pool that turns away. All neurons are noisy.
    """
    rng = np.random.default_rng(SEED)
    return Network(
        populations=(2 * N_SENSORY, 2 * N_MOTOR),
        neurons=_neurons(2 * (N_SENSORY + N_MOTOR)),
        recurrent=_join(
            _connect(rng, LOOMING_LEFT, LOOMING_LEFT, EXCITATION),
            _connect(rng, LOOMING_RIGHT, LOOMING_RIGHT, EXCITATION),
            _connect(rng, LOOMING_LEFT, LOOMING_RIGHT, INHIBITION),
            _connect(rng, LOOMING_RIGHT, LOOMING_LEFT, INHIBITION),
            _connect(rng, LOOMING_LEFT, TURN_RIGHT, DRIVE),
            _connect(rng, LOOMING_RIGHT, TURN_LEFT, DRIVE),
            _connect(rng, TURN_RIGHT, TURN_LEFT, INHIBITION),
            _connect(rng, TURN_LEFT, TURN_RIGHT, INHIBITION),
        ),
        axons=(2 * N_RECEPTORS, 0),
        external=_join(
            _connect(rng, LEFT_EYE, LOOMING_LEFT, RECEPTOR_WEIGHT),
            _connect(rng, RIGHT_EYE, LOOMING_RIGHT, RECEPTOR_WEIGHT),
        ),
        noise_seeds=(SEED, SEED + 1),
        session=(Segment(N_STEPS),),
        events=np.argwhere(rng.random((N_STEPS, 2 * N_RECEPTORS)) < _receptor_rates()),
        name="decision",
        description="Something looms on the left, then on the right: population 0 decides which "
        "by winner-take-all, population 1 turns away from it.",
    )


def _neurons(n: int) -> Neurons:
    def all_the_same(value: int) -> Ints:
        return np.full(n, value)

    return Neurons(
        rest=all_the_same(REST),
        threshold=all_the_same(THRESHOLD),
        reset=all_the_same(RESET),
        a=all_the_same(SLOPE),
        b=all_the_same(SLOPE),
        noise=all_the_same(NOISE),
        tau=all_the_same(TAU),
    )


def _connect(rng: np.random.Generator, pre: slice, post: slice, weight: int) -> Connections:
    """Connections of equal weight from a pool to a pool, at random."""
    shape = (pre.stop - pre.start, post.stop - post.start)
    rows, columns = np.nonzero(rng.random(shape) < DENSITY)
    return Connections(rows + pre.start, columns + post.start, np.full(len(rows), weight))


def _join(*parts: Connections) -> Connections:
    return Connections(
        pre=np.concatenate([part.pre for part in parts]),
        post=np.concatenate([part.post for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
    )


def _receptor_rates() -> Rates:
    """Probability of an event for every time step and receptor."""
    rates = np.full((N_STEPS, 2 * N_RECEPTORS), BACKGROUND_RATE)
    for steps, eye, other in (
        (LEFT_LOOMS, LEFT_EYE, RIGHT_EYE),
        (RIGHT_LOOMS, RIGHT_EYE, LEFT_EYE),
    ):
        when = slice(steps.start, steps.stop)
        rates[when, eye] = np.linspace(*LOOMING_RATES, len(steps))[:, None]
        rates[when, other] = DISTRACTOR_RATE
    return rates


def write_examples(folder: Path = FOLDER) -> None:
    """Write every example as a network file."""
    from firmware_tools.avoid import decision, populations  # which build on this package
    from model import bridge_file

    (folder / "decision.json").write_text(dump(decision_network()))
    (folder / "avoid.json").write_text(dump(populations.example()))
    bridge = populations.bridge(decision.mind().perception)
    (folder / "avoid-bridge.json").write_text(bridge_file.dumps(bridge))


if __name__ == "__main__":
    write_examples()
