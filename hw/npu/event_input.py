"""External events: sorts timed address events into the time step that is being collected."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hw.bus.axi_stream import AXI4StreamSignature
from model.npu.events import FENCE_FIELD, INDEX_FIELD, POPULATION_FIELD, STEP_FIELD


def field(tdata, position):
    """Bits of a beat."""
    low, width = position
    return tdata[low : low + width]


class EventInput(Component):
    """Takes events whose time step has come, holds the first later one.

    Events must come in the order of their time steps. One that comes late is used in the step that
    is being collected and reported.

    **Latency**: an event takes effect 1 clock after it was taken from the stream, if its time has
    come. **Throughput**: one event per clock. **Reset**: no event held.

    Parameters
    ----------
    n_populations, n_axons : int

    Members
    -------
    axis : In(AXI4StreamSignature())
    step : In(32)
        The time step that is being collected.
    clear : In(1)
        Drop the held event.
    hold : In(1)
        Do not hand over an event in this clock.
    event, axon : Out
        One bit per population: it has an event at `axon`.
    complete : Out(1)
        The held event is of a later time step: nothing more comes for `step`.
    late, bad : Out(1)
        The event handed over came after its time; the event dropped names no axon.
    """

    def __init__(self, n_populations, n_axons):
        self.n_populations = n_populations
        self.n_axons = n_axons
        super().__init__(
            {
                "axis": In(AXI4StreamSignature()),
                "step": In(32),
                "clear": In(1),
                "hold": In(1),
                "event": Out(n_populations),
                "axon": Out(ceil_log2(n_axons)),
                "complete": Out(1),
                "late": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        held = Signal.like(self.axis.tdata)
        full = Signal()
        step = field(held, STEP_FIELD)
        axon = field(held, INDEX_FIELD)
        population = field(held, POPULATION_FIELD)
        fence = field(held, FENCE_FIELD)

        # Modulo 2**32, so that a wrap of the step counter passes unnoticed.
        ahead = Signal(signed(32))
        due = Signal()
        take = Signal()
        known = Signal()
        m.d.comb += [
            ahead.eq(step - self.step),
            due.eq(full & (ahead <= 0)),
            self.complete.eq(full & (ahead > 0)),
            take.eq(due & ~self.hold),
            known.eq((population < self.n_populations) & (axon < self.n_axons)),
            self.axis.tready.eq((~full | take) & ~self.clear),
            self.axon.eq(axon),
            self.late.eq(take & ~fence & (ahead < 0)),
            self.bad.eq(take & ~fence & ~known),
        ]
        for p in range(self.n_populations):
            m.d.comb += self.event[p].eq(take & ~fence & known & (population == p))
        with m.If(self.clear):
            m.d.sync += full.eq(0)
        with m.Elif(self.axis.tready):
            m.d.sync += full.eq(self.axis.tvalid)
        with m.If(self.axis.tready & self.axis.tvalid):
            m.d.sync += held.eq(self.axis.tdata)
        return m
