"""What a decision takes in 180 nm: counted work times what `kenyon ppa` measured of each kind.

The figures are those of docs/silicon.md: `poppins` under the network `dense`, split by what the
energy is for, and `mars-tiny`, everything included, for each multiply-accumulate of the macros.
`mars` and the bridge were not measured; the estimate takes a multiply-accumulate for as costly in
them, and leaves the bridge out.
"""

from dataclasses import dataclass

PJ_PER_OPERATION, PJ_PER_UPDATE = 13.7, 114.0
"""Of a synaptic operation and of a neuron update."""
PJ_PER_CLOCK = 215_000 / 3002
"""Of all else in a clock of the populations."""
PJ_PER_MAC = 9.3
CLOCK_MHZ = 101.6
"""Of the slower half that was measured, `mars-tiny`; `poppins` reaches 162."""


@dataclass(frozen=True)
class Work:
    """What was counted for a decision.

    Parameters
    ----------
    macs : int
        Multiply-accumulates that the macros made.
    operations, updates, clocks : float
        Of the populations: weights added to a current, neurons updated, clocks of the burst.
    """

    macs: int
    operations: float
    updates: float
    clocks: float

    @property
    def perception_nj(self) -> float:
        """Of MARS."""
        return self.macs * PJ_PER_MAC / 1000

    @property
    def populations_nj(self) -> float:
        """Of the populations."""
        pj = self.operations * PJ_PER_OPERATION + self.updates * PJ_PER_UPDATE
        return (pj + self.clocks * PJ_PER_CLOCK) / 1000
