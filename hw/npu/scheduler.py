"""The hierarchy-population scheduler: begins and ends the time steps of all populations at once."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out


class Scheduler(Component):
    """Runs n time steps, or one per timer period, or one after the other without end.

    A step begins when the timer, the events and the host allow it, and ends when every population
    has finished and the spikes of the step before have left.

    **Latency**: a step begins 1 clock after the end of the one before or after `run`.
    **Reset**: not running, step 0.

    Members
    -------
    run, stop : In(1)
        Begin; end after the step under way.
    n_steps, free_run, timer_period, event_sync : In
        As the registers of the same names.
    events_complete : In(1)
        No more event can come for the next step.
    host_waits : In(1)
        The host has an access that must not meet a running step.
    host_grant : Out(1)
        It may go ahead; out of registers, as the way from here to a memory is long.
    populations_busy, spikes_busy : In(1)
    start, commit : Out(1)
        First and last clock of a step.
    in_step, ready : Out(1)
        From the clock after `start` to `commit`; between steps of a run.
    step : Out(32)
        The next step to begin, or the one under way.
    collect_step : Out(32)
        The next step to begin, whose events are being collected.
    step_load, step_load_value : In
    step_clocks, stall_clocks : Out(32)
        Clocks of the last step; how many it waited on top, for the spikes of the one before or an
        access of the host meanwhile.
    running : Out(1)
    done, overrun : Out(1)
        One clock: the run has ended; the timer asked for a step while one was running.
    """

    run: In(1)
    stop: In(1)
    n_steps: In(32)
    free_run: In(1)
    timer_period: In(32)
    event_sync: In(1)
    events_complete: In(1)
    host_waits: In(1)
    host_grant: Out(1)
    populations_busy: In(1)
    spikes_busy: In(1)
    start: Out(1)
    commit: Out(1)
    in_step: Out(1)
    ready: Out(1)
    step: Out(32)
    collect_step: Out(32)
    step_load: In(1)
    step_load_value: In(32)
    step_clocks: Out(32)
    stall_clocks: Out(32)
    running: Out(1)
    done: Out(1)
    overrun: Out(1)

    def elaborate(self, platform):
        m = Module()

        remaining = Signal(32)
        stopping = Signal()
        due = self._timer(m)
        clocks = Signal(32)
        low, high = clocks[:4], clocks[4:]
        stalls = Signal(32)
        stalled = Signal()

        with m.If(self.commit):
            m.d.sync += self.step.eq(self.step + 1)
        with m.Elif(self.step_load):
            m.d.sync += self.step.eq(self.step_load_value)
        with m.If(self.start):
            m.d.sync += self.collect_step.eq(self.step + 1)
        with m.Elif(self.step_load):
            m.d.sync += self.collect_step.eq(self.step_load_value + self.in_step)
        with m.If(self.stop):
            m.d.sync += stopping.eq(1)
        m.d.sync += stalled.eq(0)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += stopping.eq(0)
                with m.If(self.run):
                    m.d.sync += remaining.eq(self.n_steps)
                    m.next = "READY"
            with m.State("READY"):
                with m.If(stopping | self.stop | (~self.free_run & (remaining == 0))):
                    m.next = "FLUSH"
                with m.Elif(~self.host_waits & due & (self.events_complete | ~self.event_sync)):
                    m.d.comb += self.start.eq(1)
                    m.d.sync += [clocks.eq(1), stalls.eq(0)]
                    m.next = "STEP"
            with m.State("STEP"):
                with m.If(self.populations_busy):
                    # In two parts, so that most clocks move only the lower one.
                    m.d.sync += low.eq(low + 1)
                    with m.If(low.all()):
                        m.d.sync += high.eq(high + 1)
                with m.Elif(self.spikes_busy | (stalled & self.host_waits)):
                    m.d.sync += [stalled.eq(1), stalls.eq(stalls + 1)]
                with m.Else():
                    m.d.comb += self.commit.eq(1)
                    m.d.sync += [
                        self.step_clocks.eq(clocks + 1),
                        self.stall_clocks.eq(stalls),
                    ]
                    with m.If(~self.free_run):
                        m.d.sync += remaining.eq(remaining - 1)
                    m.next = "READY"
            with m.State("FLUSH"), m.If(~self.spikes_busy):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        m.d.comb += [
            self.host_grant.eq(~self.in_step | stalled),
            self.running.eq(~fsm.ongoing("IDLE")),
            self.in_step.eq(fsm.ongoing("STEP")),
            self.ready.eq(fsm.ongoing("READY")),
        ]
        return m

    def _timer(self, m):
        """Whether a step may begin: at once, or when the timer period has passed."""
        ticks = Signal(32)
        tick = Signal()
        owed = Signal(init=1)
        due = Signal()
        m.d.comb += [
            tick.eq(ticks + 1 >= self.timer_period),
            due.eq(~self.free_run | owed),
            # A step that ends with the tick is in time; back to back there is no time to miss.
            self.overrun.eq(
                self.free_run
                & self.running
                & tick
                & (self.timer_period > 1)
                & ((self.in_step & ~self.commit) | (self.ready & owed & ~self.start))
            ),
        ]
        with m.If(~self.running | ~self.free_run):
            m.d.sync += owed.eq(1)
            with m.If(ticks.any()):
                m.d.sync += ticks.eq(0)
        with m.Else():
            m.d.sync += ticks.eq(ticks + 1)
            with m.If(self.start):
                m.d.sync += owed.eq(0)
            with m.If(tick):
                m.d.sync += [ticks.eq(0), owed.eq(1)]
        return due
