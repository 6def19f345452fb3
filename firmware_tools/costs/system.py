"""A whole network on a choice of devices: layers, chiplets and what goes between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.constants import Constants
from firmware_tools.costs.layers import Layers, at
from firmware_tools.costs.options import Options, options_of
from firmware_tools.costs.pricing import Costs, price
from model.mars.devices.device import Device

Numbers = NDArray[np.float64]
Choices = NDArray[np.int64]
Objective = Literal["tops-per-mm2", "energy", "edp"]
OPERATIONS = 2
"""Of a multiply-accumulate."""


@dataclass(frozen=True)
class Totals:
    """Of networks, (N,) each.

    Attributes
    ----------
    area, energy, time : float64
        mm2, pJ and ns of a frame.
    operations : float
        Of a frame.
    """

    area: Numbers
    energy: Numbers
    time: Numbers
    operations: float

    @property
    def tops_per_mm2(self) -> Numbers:
        """Tera-operations a second and mm2."""
        return self.operations / self.time / 1000 / self.area

    @property
    def tops_per_watt(self) -> Numbers:
        """Tera-operations a second and watt."""
        return self.operations / self.energy

    def cost(self, objective: Objective) -> Numbers:
        """What is less the better: mm2 a TOPS, pJ, or pJ times ns."""
        match objective:
            case "tops-per-mm2":
                return 1 / self.tops_per_mm2
            case "energy":
                return self.energy
            case "edp":
                return self.energy * self.time


class System:
    """All choices of a device for each layer of a network.

    Parameters
    ----------
    layers : Layers
        Alike for all options, or a column for each.
    devices : sequence of Device
        The options; those of one name stand on one chiplet.
    known : Constants

    Members
    -------
    table : Costs
        (layers, options).
    links : tuple of (int, int, (options,) float64)
        Places of two layers, and the bits a frame from one to the other by the other's option.
    """

    def __init__(self, layers: Layers, devices: Sequence[Device], known: Constants) -> None:
        self.layers = layers
        self.options: Options = options_of(devices, known)
        self._known = known
        if layers.rows.ndim == 1:
            layers = at(layers, (slice(None), np.newaxis))
        self.table: Costs = price(layers, self.options, known)
        self.n_kinds = int(self.options.kind.max()) + 1
        in_bits = np.broadcast_to(layers.in_bits, self.shape)
        self.links = tuple(
            (begin, to, n_values * in_bits[to] + others)
            for begin, to, n_values, others in layers.links
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, options."""
        return len(self.layers.names), len(self.options.kind)

    def totals(self, choices: Choices, *, arrays_only: bool = False) -> Totals:
        """Price networks; arrays alone leave out converters, digital parts and links.

        Parameters
        ----------
        choices : (N, layers) int64
            Number of each layer's option.
        """
        own = np.arange(choices.shape[1])
        names = ("array_area", "array_energy", "array_time")
        if not arrays_only:
            names = ("area", "energy", "time")
        area, energy, time = (getattr(self.table, one)[own, choices].sum(1) for one in names)
        if not arrays_only:
            more = self._between(choices)
            area, energy, time = area + more[0], energy + more[1], time + more[2]
        return Totals(area, energy, time, OPERATIONS * self.layers.n_macs)

    def crossing(self) -> tuple[float, float, float]:
        """Of links: mm2 of a chiplet's end, pJ of a bit, ns of a bit."""
        known = self._known
        pj = known["link.energy"] * known.energy_scale("link")
        ns = known.delay_scale("link") / (known["link.rate"] * known["link.lanes"])
        return known["link.area"] * known.area_scale("link"), pj, ns

    @property
    def core_area(self) -> float:
        """mm2 of what each chiplet has besides arrays."""
        return self._known["digital.core"]

    def _between(self, choices: Choices) -> tuple[Numbers, Numbers, Numbers]:
        kinds = self.options.kind[choices]
        n_chips = np.zeros(len(choices))
        for kind in range(self.n_kinds):
            n_chips += (kinds == kind).any(axis=1)
        end, pj, ns = self.crossing()
        bits = np.zeros(len(choices))
        for begin, to, sizes in self.links:
            bits += sizes[choices[:, to]] * (kinds[:, begin] != kinds[:, to])
        area = n_chips * self.core_area + np.where(n_chips > 1, n_chips * end, 0.0)
        return area, bits * pj, bits * ns
