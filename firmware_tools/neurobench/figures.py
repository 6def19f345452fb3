"""All figures of a network, and how they look as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from firmware_tools.neurobench.counts import Counts


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes of a network.

    Parameters
    ----------
    parameters : int
        Arrays as network files have them, in whole bytes per value.
    buffers : int
        States of neurons of one sample, likewise.
    packed : int
        Both with weights and membranes of as many bits as they have.
    """

    parameters: int
    buffers: int
    packed: int

    @property
    def total(self) -> int:
        """What NeuroBench calls the footprint: parameters and buffers."""
        return self.parameters + self.buffers


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What the golden machine of a configuration did.

    Parameters
    ----------
    configuration : str
    clocks : int
        Of a sample: a frame of MARS, the session of POPPINS.
    latency : int
        From the start to the result: a frame, or the longest time step.
    results : int
        Results in those clocks: 1 frame, or so many time steps.
    counters : {str: int}
        Events.
    """

    configuration: str
    clocks: int
    latency: int
    results: int
    counters: Mapping[str, int]

    def rate(self, clock_mhz: float) -> float:
        """Results per second."""
        return self.results * clock_mhz * 1e6 / self.clocks


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A network's figures.

    Parameters
    ----------
    network : str
    samples : int
        Images, or 1 session.
    footprint : Footprint
    layers : {str: Counts}
        By layer, or by population.
    accuracy : float or None
        Share of samples whose class is the label's.
    mean_steps : float or None
        Time steps that a sample takes.
    chip : Chip or None
    notes : tuple of str
        What the user should know.
    """

    network: str
    samples: int
    footprint: Footprint
    layers: Mapping[str, Counts]
    accuracy: float | None = None
    mean_steps: float | None = None
    chip: Chip | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def total(self) -> Counts:
        """Sum over the layers."""
        return sum(self.layers.values(), Counts())

    def per_sample(self, count: int) -> float:
        """Mean of a count over the samples."""
        return count / self.samples

    def as_json(self, clock_mhz: float) -> dict[str, object]:
        """Everything, ready for JSON."""
        total, chip = self.total, self.chip
        return {
            "network": self.network,
            "samples": self.samples,
            "steps": self.mean_steps,
            "footprint": {"total": self.footprint.total, **asdict(self.footprint)},
            "connection_sparsity": total.connection_sparsity,
            "activation_sparsity": total.activation_sparsity,
            "synaptic_operations": {
                "effective_macs": self.per_sample(total.macs),
                "effective_acs": self.per_sample(total.acs),
                "dense": self.per_sample(total.dense),
            },
            "membrane_updates": self.per_sample(total.membrane_updates),
            "neuron_operations": {
                "effective": self.per_sample(total.neuron_ops),
                "dense": self.per_sample(total.dense_neuron_ops),
            },
            "accuracy": self.accuracy,
            "chip": None if chip is None else self._chip(chip, clock_mhz),
            "layers": {name: asdict(counts) for name, counts in self.layers.items()},
            "notes": list(self.notes),
        }

    @staticmethod
    def _chip(chip: Chip, clock_mhz: float) -> dict[str, object]:
        return {
            "configuration": chip.configuration,
            "clock_mhz": clock_mhz,
            "latency_clocks": chip.latency,
            "latency_us": chip.latency / clock_mhz,
            "execution_rate": chip.rate(clock_mhz),
            "clocks": chip.clocks,
            "counters": dict(chip.counters),
        }
