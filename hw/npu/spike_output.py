"""Spikes as address events: every neuron that fired in the last time step, in order."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hw.bus.axi_stream import AXI4StreamSignature
from hw.npu.row_walker import RowWalker
from model.npu.events import INDEX_FIELD, POPULATION_FIELD, STEP_FIELD


class SpikeOutput(Component):
    """Sends the spikes of all populations after every `commit`; TLAST marks the step's last one.

    **Latency**: the first event is valid 5 clocks after `commit`. **Throughput**: one event per
    clock while the receiver takes them. **Reset**: idle.

    Parameters
    ----------
    n_populations, n_neurons : int

    Members
    -------
    commit, step : In
        A time step has ended, and which.
    spikes : In
        Who fired, population by population; must not change from the clock after `commit` on while
        `busy` is set.
    axis : Out(AXI4StreamSignature())
    busy : Out(1)
    """

    def __init__(self, n_populations, n_neurons):
        self.n_populations = n_populations
        self.n_neurons = n_neurons
        super().__init__(
            {
                "commit": In(1),
                "step": In(32),
                "spikes": In(n_populations * n_neurons),
                "axis": Out(AXI4StreamSignature()),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Each population starts at a power of two: population and neuron are bits of the row.
        neuron_width = ceil_log2(self.n_neurons)
        padding = Const(0, (1 << neuron_width) - self.n_neurons)
        m.submodules.walker = walker = RowWalker(self.n_populations << neuron_width, 1)
        slot = walker.slot.payload

        commit_1 = Signal()
        step = Signal.like(self.step)
        m.d.sync += commit_1.eq(self.commit)
        with m.If(self.commit):
            m.d.sync += step.eq(self.step)

        beat = {
            STEP_FIELD: step,
            INDEX_FIELD: slot.row[:neuron_width],
            POPULATION_FIELD: slot.row[neuron_width:],
        }
        for (low, width), value in beat.items():
            m.d.comb += self.axis.tdata[low : low + width].eq(value)
        m.d.comb += [
            walker.start.eq(commit_1),
            walker.n_passes.eq(1),
            walker.mask.eq(~0),
            walker.rows.eq(
                Cat(
                    Cat(self.spikes.word_select(p, self.n_neurons), padding)
                    for p in range(self.n_populations)
                )
            ),
            self.axis.tvalid.eq(walker.slot.valid & ~slot.close),
            self.axis.tlast.eq(slot.last),
            walker.slot.ready.eq(self.axis.tready | slot.close),
            self.busy.eq(commit_1 | walker.busy),
        ]
        return m
