"""Parameters of a chip: how many populations, neurons, lanes and axons."""

import json
import zlib
from dataclasses import asdict, dataclass

V_WIDTH = 8
"""Membrane potential, unsigned (stated by the authors: 8-bit register and 1-bit overflow)."""
WEIGHT_WIDTH = 8
"""Synaptic weight, signed (ours)."""
I_WIDTH = 16
"""Post-synaptic current, signed and saturating (ours)."""
I_MIN, I_MAX = -(1 << (I_WIDTH - 1)), (1 << (I_WIDTH - 1)) - 1
BIAS_WIDTH = 12
"""External stimulus, signed (ours)."""
BIAS_MIN, BIAS_MAX = -(1 << (BIAS_WIDTH - 1)), (1 << (BIAS_WIDTH - 1)) - 1
SLOPE_WIDTH = 4
"""Slopes `a` and `b`, unsigned, in eighths (ours)."""
TAU_MAX = 32768

MAX_POPULATIONS, MAX_NEURONS, MAX_AXONS = 16, 4096, 4096
"""Of any configuration; neurons and axons of one population."""
WEIGHT_REGION = 1 << 24
"""Bytes of address space for one population's weights."""
LAYOUT_VERSION = 1
"""Counts changes of the register map, the memory layout or the program image."""


@dataclass(frozen=True, kw_only=True)
class NPUConfig:
    """One chip.

    Sizes are ours: no source states them.

    Parameters
    ----------
    name : str
        What the configuration is called; not part of the fingerprint.
    n_populations : int
        Populations on the chip, 1..16 (`MAX_POPULATIONS`).
    n_neurons : int
        Neurons per population, a multiple of `n_lanes`, at most 4096.
    n_lanes : int
        Post-synaptic neurons that one clock handles; a power of two, 4..64.
    n_axons : int
        External axons per population, 1..4096.
    links : tuple of (int, int)
        (from, to): population `to` can receive the spikes of population `from`.
    """

    name: str
    n_populations: int = 2
    n_neurons: int = 128
    n_lanes: int = 16
    n_axons: int = 64
    links: tuple[tuple[int, int], ...] = ((0, 1),)

    def __post_init__(self) -> None:
        for field, low, high in (
            ("n_populations", 1, MAX_POPULATIONS),
            ("n_neurons", 4, MAX_NEURONS),
            ("n_lanes", 4, 64),
            ("n_axons", 1, MAX_AXONS),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"{field} must be {low}..{high}, not {value}")
        if self.n_lanes & (self.n_lanes - 1):
            raise ValueError(f"n_lanes must be a power of two, not {self.n_lanes}")
        if self.n_neurons % self.n_lanes:
            raise ValueError(
                f"n_neurons must be a multiple of n_lanes ({self.n_lanes}), not {self.n_neurons}"
            )
        if self.n_groups < self.n_populations:
            # The spike stream carries one event per clock. A population that fired S spikes
            # keeps the next step busy for at least S * n_groups clocks, so the stream of all
            # populations hides behind it only if n_populations <= n_groups.
            raise ValueError(
                f"n_neurons / n_lanes must be at least n_populations ({self.n_populations}), "
                f"not {self.n_groups}"
            )
        for link in self.links:
            if not all(0 <= p < self.n_populations for p in link) or link[0] == link[1]:
                raise ValueError(
                    f"links must join two different populations below {self.n_populations}, "
                    f"not {link}"
                )
        if self.max_rows * self.n_neurons > WEIGHT_REGION:
            raise ValueError(
                f"weights of a population must fit {WEIGHT_REGION} bytes, "
                f"not {self.max_rows * self.n_neurons}"
            )
        if len(set(self.links)) != len(self.links):
            raise ValueError(f"links must be different, not {self.links}")

    @property
    def n_groups(self) -> int:
        """Groups of `n_lanes` neurons in a population; a row takes one clock per group."""
        return self.n_neurons // self.n_lanes

    def sources(self, population: int) -> tuple[int, ...]:
        """Populations whose spikes are rows of `population`: itself first, then its links."""
        return (population, *sorted(f for f, t in self.links if t == population))

    def n_rows(self, population: int) -> int:
        """Rows of the weight memory: neurons of each source, then the external axons."""
        return self.n_neurons * len(self.sources(population)) + self.n_axons

    @property
    def max_rows(self) -> int:
        """Rows of the population with the most links."""
        return max(self.n_rows(p) for p in range(self.n_populations))

    def weight_words(self, population: int) -> int:
        """Words of `n_lanes` weights in the weight memory, group by group, row by row."""
        return self.n_rows(population) * self.n_groups

    @property
    def fingerprint(self) -> int:
        """CRC-32 of everything that decides what an image means; a register holds it."""
        text = json.dumps({**asdict(self), "name": None, "layout": LAYOUT_VERSION}, sort_keys=True)
        return zlib.crc32(text.encode())


CONFIGS: dict[str, NPUConfig] = {
    config.name: config
    for config in (
        NPUConfig(name="tiny", n_neurons=16, n_lanes=4, n_axons=8),
        NPUConfig(name="poppins"),
        NPUConfig(name="odin", n_populations=1, n_neurons=256, n_axons=256, links=()),
        NPUConfig(
            name="large",
            n_populations=4,
            n_neurons=256,
            n_lanes=32,
            links=((0, 1), (1, 2), (2, 3)),
        ),
    )
}
"""Named configurations, smallest first."""
