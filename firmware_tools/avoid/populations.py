"""The avoidance network: a motion population steers an obstacle population over the link.

One neuron stands for each of the eight modes of motion, and one for each of the 13 cells of the
view; what perception sees is their bias. Modes excite themselves, inhibit their opponents and
share an inhibitor; cells excite themselves and inhibit each other, neighbours less. Moving to one
side makes cells on that side matter more, moving forward the inner ones, moving back none.
It has 9 + 13 neurons, few enough for `kenyon-tiny`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firmware_tools.avoid import CELLS, CENTRE, MODES, N_CELLS, N_MODES, direction_of, opponent
from firmware_tools.npu.building import (
    Generator,
    Network,
    Neuron,
    all_to_all,
    explicit,
    one_to_one,
)
from model.bridge import Bridge, BridgeError, Entry, factor
from model.mars.network import QuantizedNetwork
from model.npu import network as npu
from model.npu.network import Segment

FORWARD, BACKWARD = MODES.index("forward"), MODES.index("backward")
STEPS = 50
"""Time steps of a frame."""
MODE_POPULATION, CELL_POPULATION = 0, 1
MODE_GAIN, CELL_GAIN = 12.0, 20.0
"""Levels of bias for a result of 1, which makes e times as likely."""

NEURON = Neuron(rest=40, threshold=120, reset=40, a=2, b=2, tau=4)
CELL_NEURON = Neuron(rest=80, threshold=80, reset=40, a=2, b=2, tau=4)
INHIBITOR = Neuron(rest=40, threshold=120, reset=40, a=2, b=2, tau=2)
SELF, OPPONENT, TO_INHIBITOR, FROM_INHIBITOR = 6, -40, 30, -6
CELL_SELF, OTHER_CELL, SAME_SIDE = 6, -20, -6
STEER = 3
"""From a mode to the cells that matter more with it, or less if negative."""


def builder() -> Network:
    """The network, as it is built."""
    net = Network("avoid", "Eight modes of motion steer 13 cells in which something may loom.")
    motion = net.population("motion")
    modes = motion.neurons("modes", N_MODES, NEURON)
    inhibitor = motion.neurons("inhibitor", 1, INHIBITOR)
    net.connect(modes, modes, one_to_one, SELF)
    net.connect(modes, modes, explicit((k, opponent(k)) for k in range(N_MODES)), OPPONENT)
    net.connect(modes, inhibitor, all_to_all, TO_INHIBITOR)
    net.connect(inhibitor, modes, all_to_all, FROM_INHIBITOR)

    obstacles = net.population("obstacles")
    cells = obstacles.neurons("cells", N_CELLS, CELL_NEURON)
    sides = [(i, j) for i in range(CENTRE) for j in range(CENTRE) if i != j and i % 4 == j % 4]
    net.connect(cells, cells, one_to_one, CELL_SELF)
    net.connect(cells, cells, explicit(sides), SAME_SIDE)
    net.connect(cells, cells, _others, OTHER_CELL)
    net.connect(modes, cells, explicit(_steered(+1)), STEER)
    net.connect(modes, cells, explicit(_steered(-1)), -STEER)
    return net


def example() -> npu.Network:
    """The network with three frames: it flies forward, drifts left, and something looms there."""
    net = builder()
    motion, obstacles = (population.groups[0] for population in net.populations)
    modes, cells = net.numbers(motion), net.numbers(obstacles)
    seen = (
        {"forward": 5.0},
        {"forward": 1.0, "left": 5.0, "middle left": 2.0},
        {"left": 5.0, "middle left": 5.0, "centre": 3.0},
    )
    session = []
    for frame in seen:
        bias = {modes[k]: round(MODE_GAIN * frame.get(name, -1)) for k, name in enumerate(MODES)}
        bias |= {cells[k]: round(CELL_GAIN * frame.get(name, -1)) for k, name in enumerate(CELLS)}
        session.append(Segment(STEPS, bias))
    return net.build(session)


def _others(n_pre: int, n_post: int, _rng: Generator) -> NDArray[np.bool_]:
    """Cells that are neither the same nor on the same side."""
    side = [direction_of(cell) for cell in range(n_pre)]
    return np.not_equal.outer(side, side[:n_post])


def _steered(sign: int) -> Iterator[tuple[int, int]]:
    """Modes and the cells that matter more with them (+1), or less (-1)."""
    for cell, name in enumerate(CELLS):
        direction = direction_of(cell)
        if cell != CENTRE:
            yield (direction if sign > 0 else opponent(direction)), cell
        if sign > 0 and (cell == CENTRE or name.startswith("inner")):
            yield FORWARD, cell
        if sign < 0:
            yield BACKWARD, cell


def bridge(network: QuantizedNetwork) -> Bridge:
    """What takes the perception's results to the populations.

    Parameters
    ----------
    network : QuantizedNetwork
        With 21 results: modes, then cells.

    Raises
    ------
    BridgeError
        It has another number of results.
    """
    shape = network.types[network.output].shape
    if shape != (N_MODES + N_CELLS, 1, 1):
        raise BridgeError(
            f"{network.name}: perception must have {N_MODES + N_CELLS} results, one for each mode "
            f"and each cell, not {shape}"
        )
    return scaled_bridge(network.scales[network.output])


def scaled_bridge(scale: float) -> Bridge:
    """The bridge for results of which each step is worth `scale`."""
    modes, cells = factor(MODE_GAIN * scale), factor(CELL_GAIN * scale)
    return Bridge(
        entries=(
            *(Entry(k, MODE_POPULATION, k, *modes) for k in range(N_MODES)),
            *(Entry(N_MODES + k, CELL_POPULATION, k, *cells) for k in range(N_CELLS)),
        ),
        steps=STEPS,
        population=CELL_POPULATION,
    )
