"""Random networks that fit a chip, for co-simulation.

They cover every legal value of every parameter, yet most of them are lively: a network that is
silent, or fires everywhere in every step, hides mistakes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.npu.config import BIAS_MAX, BIAS_MIN, NPUConfig
from model.npu.network import NEURON_LIMITS, Connections, Ints, Network, Neurons, Segment

Flags = NDArray[np.bool_]

TAUS = (0, 1, 2, 3, 4, 7, 8, 16, 24, 100, 1024, 32768)
MIN_STEPS, MAX_STEPS = 5, 200
MAX_NEURON_STEPS = 20_000
"""Neurons x time steps of a network with at least `MIN_STEPS`, so that the RTL stays quick."""
NOISE_SEEDS = (0, 0x61C8_8647, 0xFFFF_FFFF)
"""Corner cases, the middle one being the seed whose mixed state would be zero."""
MAX_SEGMENTS = 4
MAX_EVENTS_PER_STEP = 16
"""Mean over the run; bursts are denser."""
EXTREME_BIAS_RATE = 0.03


def random_network(rng: np.random.Generator, config: NPUConfig) -> Network:
    """A random network and stimulus that `config` can hold.

    The name ends in the first number that `rng` drew, so equal names are equal networks.
    """
    draw = int(rng.integers(1 << 32))
    populations = _sizes(rng, config)
    axons = _axon_counts(rng, config, len(populations))
    neurons = Neurons.join([_neurons(rng, n) for n in populations])
    session = _session(rng, neurons)
    return Network(
        populations=populations,
        neurons=neurons,
        recurrent=_recurrent(rng, config, populations),
        axons=axons,
        external=_external(rng, populations, axons),
        noise_seeds=tuple(_noise_seed(rng) for _ in populations),
        session=session,
        events=_events(rng, sum(axons), sum(segment.steps for segment in session)),
        name=f"random_{config.name}_{draw:08x}",
        description=f"random network for configuration {config.name}",
    )


def _chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _some(rng: np.random.Generator, n: int, share: float) -> Flags:
    """Which ones of n, when about a share of them is wanted."""
    return rng.random(n) < share


def _sizes(rng: np.random.Generator, config: NPUConfig) -> tuple[int, ...]:
    """Neurons of each population, often at the end of a group of lanes."""
    n_populations = int(rng.integers(1, config.n_populations + 1))
    if _chance(rng, 0.5):
        n_populations = config.n_populations
    lanes, full = config.n_lanes, config.n_neurons
    edge = lanes * int(rng.integers(1, config.n_groups + 1))
    choices = (1, full, edge, edge - 1, min(edge + 1, full))
    return tuple(
        int(rng.choice(choices)) if _chance(rng, 0.5) else int(rng.integers(1, full + 1))
        for _ in range(n_populations)
    )


def _axon_counts(
    rng: np.random.Generator, config: NPUConfig, n_populations: int
) -> tuple[int, ...]:
    """External axons of each population: none, all or some."""
    choices = (0, 1, config.n_axons, config.n_axons, int(rng.integers(1, config.n_axons + 1)))
    return tuple(int(rng.choice(choices)) for _ in range(n_populations))


def _neurons(rng: np.random.Generator, n: int) -> Neurons:
    """One population: orderly neurons with some wild ones among them, or the other way round."""
    wild = _some(rng, n, rng.choice((0.0, 0.1, 0.3, 1.0), p=(0.4, 0.3, 0.2, 0.1)))
    orderly_values, wild_values = _orderly(rng, n), _wild(rng, n)
    values = {
        name: np.where(wild, wild_values[name], orderly_values[name]) for name in orderly_values
    }
    values["b"] = np.where(values["a"] + values["b"] == 0, 1, values["b"])
    return Neurons(**values, noise=_noise(rng, n), tau=_taus(rng, n))


def _orderly(rng: np.random.Generator, n: int) -> dict[str, Ints]:
    """Parameters as a modeller would choose them: rest below threshold, gentle slopes."""
    rest = rng.integers(5, 150, n)
    near_rest = np.clip(rest + rng.integers(-30, 40, n), 0, 255)
    return {
        "rest": rest,
        "threshold": rest + rng.integers(2, 100, n),
        "reset": np.where(_some(rng, n, 0.7), near_rest, rng.integers(0, 256, n)),
        "a": rng.integers(0, 9, n),
        "b": rng.integers(0, 9, n),
    }


def _wild(rng: np.random.Generator, n: int) -> dict[str, Ints]:
    """Parameters anywhere in their range, often at one of its ends."""
    values = {}
    for name in ("rest", "threshold", "reset", "a", "b"):
        high = NEURON_LIMITS[name]
        ends = rng.choice((0, high), n)
        values[name] = np.where(_some(rng, n, 0.2), ends, rng.integers(0, high + 1, n))
    return values


def _noise(rng: np.random.Generator, n: int) -> Ints:
    """Noise strengths: none in most populations, else weak, or anywhere in the range."""
    high = int(rng.choice((0, 12, NEURON_LIMITS["noise"]), p=(0.4, 0.35, 0.25)))
    strength = np.where(_some(rng, n, 0.1), high, rng.integers(0, high + 1, n))
    return np.where(_some(rng, n, 0.3), 0, strength)


def _taus(rng: np.random.Generator, n: int) -> Ints:
    """Decay constants: one for the population, or one for each neuron."""
    return np.full(n, rng.choice(TAUS)) if _chance(rng, 0.3) else rng.choice(TAUS, n)


def _noise_seed(rng: np.random.Generator) -> int:
    return int(rng.choice(NOISE_SEEDS) if _chance(rng, 0.2) else rng.integers(1 << 32))


def _recurrent(
    rng: np.random.Generator, config: NPUConfig, populations: tuple[int, ...]
) -> Connections:
    """Connections within populations and along the chip's links, some of which stay unused."""
    ends = np.cumsum((0, *populations)).tolist()
    blocks = [
        _block(rng, (ends[source], populations[source]), (ends[p], populations[p]))
        for p in range(len(populations))
        for source in config.sources(p)
        if source < len(populations)
    ]
    return _join(blocks)


def _external(
    rng: np.random.Generator, populations: tuple[int, ...], axons: tuple[int, ...]
) -> Connections:
    ends = np.cumsum((0, *populations)).tolist()
    axon_ends = np.cumsum((0, *axons)).tolist()
    blocks = [
        _block(rng, (axon_ends[p], axons[p]), (ends[p], populations[p]))
        for p in range(len(populations))
    ]
    return _join(blocks)


def _block(rng: np.random.Generator, pre: tuple[int, int], post: tuple[int, int]) -> Connections:
    """Connections from some rows to some neurons, each given as (first, how many)."""
    density = float(rng.choice((0.0, 0.1, rng.random(), 1.0), p=(0.15, 0.25, 0.35, 0.25)))
    connected = rng.random((pre[1], post[1])) < density
    if _chance(rng, 0.3):
        np.fill_diagonal(connected, val=True)  # the self connections of a recurrent block
    rows, columns = np.nonzero(connected)
    return Connections(rows + pre[0], columns + post[0], _weights(rng, len(rows), pre[1]))


def _weights(rng: np.random.Generator, n: int, n_pre: int) -> Ints:
    """Weights: balanced small ones, the whole range, its ends only, or all of one sign."""
    style = rng.choice(("small", "whole", "ends", "one sign"), p=(0.6, 0.15, 0.05, 0.2))
    if style == "small":
        high = max(2, int(rng.choice((2, 8, 32))) * 8 // (n_pre + 8))
        return rng.integers(-high, high + 1, n)
    if style == "whole":
        return rng.integers(-128, 128, n)
    if style == "ends":
        return rng.choice((-128, -1, 0, 1, 127), n)
    return rng.integers(0, 128, n) * (1 if _chance(rng, 0.4) else -1)


def _join(blocks: list[Connections]) -> Connections:
    return Connections(
        *(
            np.concatenate([getattr(block, name) for block in blocks])
            for name in ("pre", "post", "weight")
        )
    )


def _session(rng: np.random.Generator, neurons: Neurons) -> tuple[Segment, ...]:
    """A few segments that together last `MIN_STEPS` to `MAX_STEPS` time steps."""
    most = min(MAX_STEPS, max(MIN_STEPS, MAX_NEURON_STEPS // len(neurons)))
    n_steps = int(rng.integers(MIN_STEPS, most + 1))
    n_segments = int(rng.integers(1, MAX_SEGMENTS + 1))
    cuts = rng.choice(np.arange(1, n_steps), n_segments - 1, replace=False)
    lengths = np.diff([0, *np.sort(cuts), n_steps]).tolist()
    drive = _Drive.random(rng)
    return tuple(
        Segment(steps, _bias(rng, neurons, drive, 0.95 if k == 0 else rng.random()))
        for k, steps in enumerate(lengths)
    )


@dataclass(frozen=True)
class _Drive:
    """How strongly a network is stimulated.

    Parameters
    ----------
    low, high : int
        Bias relative to the one at which a neuron begins to fire.
    """

    low: int
    high: int

    @staticmethod
    def random(rng: np.random.Generator) -> "_Drive":
        middle = int(rng.choice((-10, -3, 0, 2, 6, 15, 30)))
        spread = int(rng.choice((1, 4, 10, 30)))
        return _Drive(middle - spread, middle + spread)


def _bias(
    rng: np.random.Generator, neurons: Neurons, drive: _Drive, share: float
) -> dict[int, int]:
    """New biases of about a share of the neurons."""
    n = len(neurons)
    firing = neurons.a * (neurons.v_branch - neurons.rest) // 8  # about the least that does
    values = np.clip(firing + rng.integers(drive.low, drive.high + 1, n), BIAS_MIN, BIAS_MAX)
    extreme = _some(rng, n, EXTREME_BIAS_RATE)
    values = np.where(extreme, rng.choice((BIAS_MIN, BIAS_MAX), n), values)
    changed = np.flatnonzero(_some(rng, n, share))
    return dict(zip(changed.tolist(), values[changed].tolist(), strict=True))


def _events(rng: np.random.Generator, n_axons: int, n_steps: int) -> Ints:
    """Timed events of the axons: none, scattered, or bursts in which many fire for some steps."""
    rate = min(1.0, MAX_EVENTS_PER_STEP / max(n_axons, 1)) * rng.choice((0.0, 0.1, 0.3, 1.0))
    fires = rng.random((n_steps, n_axons)) < rate
    if _chance(rng, 0.5):
        fires &= _bursts(rng, n_steps)[:, None]
    if _chance(rng, 0.2):
        fires[int(rng.integers(n_steps))] = True  # every axon at once
    return np.argwhere(fires)


def _bursts(rng: np.random.Generator, n_steps: int) -> Flags:
    """Time steps that belong to a burst: runs of on and off, each a few steps long."""
    lengths = rng.geometric(1 / 8, n_steps)
    return np.repeat(np.arange(n_steps) % 2 == 0, lengths)[:n_steps]
