"""How fast the fast engine is: one core, fully connected networks, half of the neurons firing."""

import statistics
import time
from dataclasses import dataclass

import numpy as np

from model.npu.fast import FastEngine
from model.npu.network import Connections, Network, Neurons, Segment

SIZES = (32, 256, 1024)
SHARE_MIN, SHARE_MAX = 0.45, 0.55
"""Share of firing neurons in which a network counts as half firing."""
WARM_UP_STEPS = 200
"""Steps before the measurement: compile, fill the caches, forget the initial state."""


@dataclass(frozen=True, kw_only=True)
class EngineSpeed:
    """Speed of the fast engine on one network.

    Parameters
    ----------
    n_neurons : int
    n_steps : int
        Time steps of each repeat.
    firing_share : float
        Neurons that fired in a step, as a share of all, mean of all measured steps.
    synaptic_operations_per_s : float
        Median of the repeats; one operation adds one weight of one fired row to one neuron.
    neuron_updates_per_s : float
        Median of the repeats.
    repeats_s : tuple of float
        How long each repeat took.
    """

    n_neurons: int
    n_steps: int
    firing_share: float
    synaptic_operations_per_s: float
    neuron_updates_per_s: float
    repeats_s: tuple[float, ...]


def half_firing_network(n: int, seed: int = 1) -> Network:
    """A fully connected network of n neurons, about half of which fire in every step.

    The current lives one step and its mean is zero, so where the weights are large against the
    8-bit potential its sign decides who fires; the bias moves the rest of it to one half.
    """
    rng = np.random.default_rng(seed)
    pre, post = np.divmod(np.arange(n * n), n)
    magnitude = rng.integers(1, 128, n * n)
    constants = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1, "noise": 0, "tau": 0}
    return Network(
        populations=(n,),
        neurons=Neurons(**{name: np.full(n, value) for name, value in constants.items()}),
        recurrent=Connections(pre, post, magnitude * rng.choice([-1, 1], n * n)),
        axons=(0,),
        external=Connections.none(),
        noise_seeds=(seed,),
        session=(Segment(WARM_UP_STEPS, dict.fromkeys(range(n), 90)),),
        events=np.zeros((0, 2), np.int64),
        name=f"half_firing_{n}",
    )


def measure(n: int, repeats: int = 7, seconds: float = 0.3) -> EngineSpeed:
    """Measure the fast engine on the half firing network of n neurons.

    Parameters
    ----------
    n : int
        Neurons.
    repeats : int
        Measurements, of which the median counts.
    seconds : float
        How long each of them takes, about.
    """
    network = half_firing_network(n)
    engine = FastEngine(network)
    for _, segment in network.segments():
        engine.set_bias(segment.bias)
        engine.run(segment.steps, record=False)
    n_steps = WARM_UP_STEPS
    while (took := _timed(engine, n_steps)[0]) < seconds / 4:
        n_steps *= 2
    n_steps = max(1, round(n_steps * seconds / took))

    runs = [_timed(engine, n_steps) for _ in range(repeats)]
    share = sum(fired for _, fired in runs) / (repeats * n_steps * n)
    if not SHARE_MIN <= share <= SHARE_MAX:
        raise ValueError(
            f"share of firing neurons must be {SHARE_MIN}..{SHARE_MAX}, not {share:.3f}, "
            f"for a network of {n} neurons"
        )
    return EngineSpeed(
        n_neurons=n,
        n_steps=n_steps,
        firing_share=share,
        synaptic_operations_per_s=statistics.median(fired * n / took for took, fired in runs),
        neuron_updates_per_s=statistics.median(n_steps * n / took for took, _ in runs),
        repeats_s=tuple(took for took, _ in runs),
    )


def measure_all(repeats: int = 7, seconds: float = 0.3) -> list[EngineSpeed]:
    """Measure all `SIZES`, smallest first."""
    return [measure(n, repeats, seconds) for n in SIZES]


def _timed(engine: FastEngine, n_steps: int) -> tuple[float, int]:
    """Seconds that some time steps took, and the rows of weights that they added."""
    start = time.perf_counter()
    activity = engine.run(n_steps, record=False)
    return time.perf_counter() - start, int(activity.rows.sum())
