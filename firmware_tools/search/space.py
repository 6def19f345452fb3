"""All ways to give each layer a device, what each costs, and what noise is expected of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.constants import Constants
from firmware_tools.costs.layers import Layers
from firmware_tools.costs.system import Choices, Objective, System, Totals
from firmware_tools.search.front import hypervolume, nondominated
from firmware_tools.search.reduction import AS_IT_IS, Reduction
from model.mars.devices.device import Device, parse

Numbers = NDArray[np.float64]
BLOCK = 1 << 15
"""Networks that are priced at once."""


@dataclass(frozen=True)
class Option:
    """A device as it is named on a command line, and what a layer is left with on it."""

    text: str
    reduction: Reduction = AS_IT_IS

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.text} ({self.reduction})" if self.reduction != AS_IT_IS else self.text

    @property
    def device(self) -> Device:
        """What it names."""
        return parse(self.text)

    @property
    def is_exact(self) -> bool:
        """Whether it is the digital macro."""
        return self.device.name == "sram"


class Space:
    """Layers times options.

    Parameters
    ----------
    layers : Layers
        Alike for all options, or a column for each.
    options : sequence of Option
    noise : (layers, options) float64
        What a layer adds to the variance of the results, relative to theirs: independent of the
        others, so that those of a network are added.
    objective : Objective
    known : Constants
    """

    def __init__(
        self,
        layers: Layers,
        options: Sequence[Option],
        noise: Numbers,
        objective: Objective,
        known: Constants,
    ) -> None:
        self.layers = layers
        self.options = tuple(options)
        self.noise_table = noise
        self.objective: Objective = objective
        self.system = System(layers, [one.device for one in options], known)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, options."""
        return self.system.shape

    @property
    def size(self) -> int:
        """How many networks there are."""
        n_layers, n_options = self.shape
        return int(n_options**n_layers)

    def totals(self, choices: Choices) -> Totals:
        """Prices with converters."""
        return self.system.totals(choices)

    def cost(self, choices: Choices) -> Numbers:
        """The objective as something that should be small, (N,)."""
        blocks = [choices[k : k + BLOCK] for k in range(0, len(choices), BLOCK)]
        return np.concatenate([self.totals(one).cost(self.objective) for one in blocks])

    def noise(self, choices: Choices) -> Numbers:
        """Expected share of noise in the results' variance, (N,)."""
        own = np.arange(choices.shape[1])
        # One layer after the other: the same sum whatever else is computed with it.
        total = np.zeros(len(choices))
        for layer in own:
            total += self.noise_table[layer, choices[:, layer]]
        return total

    def homogeneous(self) -> Choices:
        """One option for all layers, (options, layers)."""
        n_layers, n_options = self.shape
        return np.repeat(np.arange(n_options)[:, np.newaxis], n_layers, axis=1)


class Archive:
    """The front of all networks that were priced.

    Parameters
    ----------
    space : Space

    Members
    -------
    choices : (N, layers) int64
        By cost; `cost` and `noise` belong to them.
    n_priced : int
        How many networks were priced.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.choices: Choices = np.zeros((0, space.shape[0]), np.int64)
        self.cost: Numbers = np.zeros(0)
        self.noise: Numbers = np.zeros(0)
        self.n_priced = 0

    def add(self, choices: Choices) -> tuple[Numbers, Numbers]:
        """Price networks; cost and noise of each."""
        cost, noise = self.space.cost(choices), self.space.noise(choices)
        self.n_priced += len(choices)
        all_choices = np.concatenate([self.choices, choices])
        all_cost = np.concatenate([self.cost, cost])
        all_noise = np.concatenate([self.noise, noise])
        kept = nondominated(all_cost, all_noise)
        self.choices, self.cost, self.noise = all_choices[kept], all_cost[kept], all_noise[kept]
        return cost, noise

    def cheapest(self, limit: float) -> Choices | None:
        """The cheapest network whose noise is at most a limit, (layers,), if there is one."""
        inside = np.flatnonzero(self.noise <= limit)
        return None if not len(inside) else self.choices[inside[0]]

    def hypervolume(self, reference: tuple[float, float]) -> float:
        """In the logarithm of the cost, so that it does not matter in what unit it is."""
        point = float(np.log(reference[0])), reference[1]
        return hypervolume(np.log(self.cost), self.noise, point)
