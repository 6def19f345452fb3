"""Channels of post-processing that take turns on fewer lanes."""

from dataclasses import dataclass

from amaranth.hdl import Array, Mux, Signal

from model.mars.config import KERNELS


@dataclass(frozen=True)
class Turns:
    """Channel k of 16 has its turn in clock ``k // n_lanes``, in lane ``k % n_lanes``.

    With 16 lanes there is one turn, and nothing is built.

    Parameters
    ----------
    n_lanes : int
        As `model.mars.config.MarsConfig.post_lanes`.
    """

    n_lanes: int

    @property
    def n(self):
        """How many there are."""
        return KERNELS // self.n_lanes

    @property
    def lanes(self):
        """Their numbers."""
        return range(self.n_lanes)

    def of(self, turn, channels):
        """What each lane has in a turn, out of what 16 channels have."""
        channels = [channels[k] for k in range(KERNELS)]
        if self.n == 1:
            return channels
        return [Array(channels[lane :: self.n_lanes])[turn] for lane in self.lanes]

    def each(self, m, turn):
        """The channels of every turn; what is stated of them holds in that turn alone."""
        if self.n == 1:
            yield range(KERNELS)
            return
        with m.Switch(turn):
            for number in range(self.n):
                with m.Case(number):
                    yield range(number * self.n_lanes, (number + 1) * self.n_lanes)

    def hold(self, m, enters, pixel, held):
        """A pixel that enters stays in a register for all turns; returns which one is now."""
        turn = Signal(range(self.n), name="turn")
        with m.If(enters):
            m.d.sync += [held.eq(pixel), held.valid.eq(1), turn.eq(0)]
        with m.Elif(held.valid):
            m.d.sync += [turn.eq(turn + 1), held.valid.eq(turn != self.n - 1)]
        return turn

    def register(self, m, name, turn):
        """The turn a clock later."""
        if self.n == 1:
            return turn
        later = Signal(range(self.n), name=name)
        m.d.sync += later.eq(turn)
        return later

    def first(self, valid, turn):
        """Whether something has its first turn."""
        return valid if self.n == 1 else valid & (turn == 0)

    def last(self, valid, turn):
        """Whether something has its last turn."""
        return valid if self.n == 1 else valid & (turn == self.n - 1)

    def whole(self, m, valid, values):
        """All 16 values, in the clock of their last turn, and whether that is now."""
        if self.n == 1:
            return valid, values
        turn = Signal(range(self.n), name="seen")
        before = Signal(len(values) * (self.n - 1), name="before")
        everything = Signal(len(values) * self.n, name="everything")
        m.d.comb += everything.eq(before | values << len(before))
        # Turns follow each other without a gap, unless who makes them is reset.
        m.d.sync += turn.eq(Mux(valid, turn + 1, 0))
        with m.If(valid):
            m.d.sync += before.eq(everything >> len(values))
        return self.last(valid, turn), everything

    def until_last(self, m, value):
        """What comes with the first turn, in the clock of the last one."""
        for clock in range(1, self.n):
            before, value = value, Signal.like(value, name=f"until_last_{clock}")
            m.d.sync += value.eq(before)
        return value
