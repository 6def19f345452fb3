"""The exit unit: whether a network has taken enough time steps."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import Component, In, Out

from hw.mars.layout import ADDR_WIDTH, next_nibble
from hw.memory import TwoPortMemory
from model.mars.config import ACC_WIDTH, KERNELS, NIBBLE, WORD_BITS
from model.mars.early_exit import (
    FRACTION,
    LARGEST_SHIFT,
    LOG_FRACTION,
    MAX_CLASSES,
    MULT_BITS,
    TABLES,
    Table,
)
from model.mars.layout import MAX_STEPS

TIME_WIDTH = 7
"""Of a number of time steps."""
LIMIT_WIDTH = 32
SHIFT_WIDTH = 6
FACTOR = StructLayout({"mult": MULT_BITS, "shift": SHIFT_WIDTH})
PLANES = ACC_WIDTH // NIBBLE
Y_WIDTH = FRACTION + 5
"""Of a distance of which a power is not 0."""
E_WIDTH = 16
Z_WIDTH = 24
SETTINGS = StructLayout(
    {
        "is_entropy": 1,
        "n_classes": range(MAX_CLASSES + 1),
        "base": ADDR_WIDTH,
        "block_log2": 3,
        "limit": LIMIT_WIDTH,
    }
)
"""What the host writes: metric, number of classes, where the logits of the first 16 are in the
first feature memory, words (a power of two) from them to the next 16, and what decides."""


class ExitUnit(Component):
    """Decides behind each time step; golden: `model.mars.early_exit`.

    It gathers the logits of a step, those of earlier frames added, class by class, then
    takes powers of their distances from the largest one and compares the sums.

    **Latency**: `model.mars.early_exit.exit_clocks` from `go` until `done`. **Throughput**: one
    chunk of steps at a time. **Reset**: idle; contents of memories are not reset.

    Members
    -------
    settings : In(SETTINGS)
    go : In(1)
        The logits of a chunk are there.
    first_step, n_steps : In(7), In(4)
        Time steps before the chunk, and in it.
    last_step : In(7)
        The step that always stops, counted from 1.
    read, read_addr, read_data : Out, Out(16), In(64)
        Of the first feature memory, data 1 clock later.
    table_write, table_addr, table_data : In(1), In(10), In(22)
        Tables and factors, laid out as `model.mars.early_exit.Table` says.
    sum_read, sum_addr, sum_data : In(1), In(8), Out(32)
        A logit of the last step that was decided, data 1 clock later; while nothing is.
    busy, done, stops : Out(1)
        Between `go` and `done`; the chunk is decided; it is the last one.
    taken : Out(7)
        Steps so far.
    """

    settings: In(SETTINGS)
    go: In(1)
    first_step: In(TIME_WIDTH)
    n_steps: In(range(MAX_STEPS + 1))
    last_step: In(TIME_WIDTH)
    read: Out(1)
    read_addr: Out(ADDR_WIDTH)
    read_data: In(WORD_BITS)
    table_write: In(1)
    table_addr: In(range(TABLES))
    table_data: In(FACTOR)
    sum_read: In(1)
    sum_addr: In(range(MAX_CLASSES))
    sum_data: Out(ACC_WIDTH)
    busy: Out(1)
    done: Out(1)
    stops: Out(1)
    taken: Out(TIME_WIDTH)

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = TwoPortMemory(
            depth=TABLES, width=FACTOR.size, granularity=FACTOR.size
        )
        m.submodules.sums = sums = TwoPortMemory(
            depth=2 * MAX_CLASSES, width=ACC_WIDTH, granularity=ACC_WIDTH
        )
        m.d.comb += [
            table.w_mask.eq(self.table_write),
            table.w_addr.eq(self.table_addr),
            table.w_data.eq(self.table_data),
        ]
        step = Signal(range(MAX_STEPS))
        with m.If(self.sum_read):
            m.d.comb += [
                sums.r_enable.eq(1),
                sums.r_addr.eq(Cat(self.sum_addr, step + 1 == self.n_steps)),
            ]
        m.d.comb += self.sum_data.eq(sums.r_data)
        begin, gathered, scored = Signal(), Signal(), Signal()
        factor = Signal(FACTOR)
        self._steps(m, table, step, factor, begin, gathered, scored)
        largest = self._gather(m, sums, step, begin, gathered)
        self._score(m, table, sums, step, factor, largest, gathered, scored)
        return m

    def _steps(self, m, table, step, factor, begin, gathered, scored):
        """Step after step, until one stops or the chunk ends."""
        fetched = Signal()
        m.d.sync += fetched.eq(begin)
        with m.If(begin):
            m.d.comb += [
                table.r_enable.eq(1),
                table.r_addr.eq(Table.FACTORS + self.first_step + step),
            ]
        with m.If(fetched):
            m.d.sync += factor.eq(table.r_data)
        self._compare(m)
        m.d.comb += [
            self.taken.eq(self.first_step + step + 1),
            self.stops.eq(self.sure | (self.taken == self.last_step)),
        ]
        with m.FSM(name="exit") as fsm:
            with m.State("IDLE"), m.If(self.go):
                m.d.sync += step.eq(0)
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += begin.eq(1)
                m.next = "SUM"
            with m.State("SUM"), m.If(scored):
                m.next = "NORMALISE"
            with m.State("NORMALISE"):
                m.d.comb += [
                    table.r_enable.eq(1),
                    table.r_addr.eq(Table.LOGARITHMS + self.mantissa),
                ]
                m.next = "LOGARITHM"
            with m.State("LOGARITHM"):
                whole = (self.place - LOG_FRACTION) << LOG_FRACTION
                limit = self.settings.limit[: LOG_FRACTION + 4]
                m.d.sync += self.left.eq(limit - (whole + table.r_data[:LOG_FRACTION]))
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.sync += self.bound.eq(self.total * self.left)
                m.next = "DECIDED"
            with m.State("DECIDED"):
                m.d.comb += self.done.eq(self.stops | (step + 1 == self.n_steps))
                m.next = "IDLE"
                with m.If(~self.done):
                    m.d.sync += step.eq(step + 1)
                    m.next = "BEGIN"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

    def _compare(self, m):
        """The sums of a step, the logarithm of the first one, and what they are compared with."""
        settings = self.settings
        total = self.total = Signal(Z_WIDTH)
        self.moment = Signal(E_WIDTH + Y_WIDTH + 8)
        self.place = Signal(range(Z_WIDTH))
        self.mantissa = Signal(FRACTION)
        self.left = Signal(signed(LOG_FRACTION + 6))
        self.bound = Signal(signed(Z_WIDTH + LOG_FRACTION + 6))
        self.sure = Signal()
        with m.Switch(total):
            for k in range(E_WIDTH - 1, Z_WIDTH):
                with m.Case("0" * (Z_WIDTH - 1 - k) + "1" + "-" * k):
                    m.d.comb += [self.place.eq(k), self.mantissa.eq(total[k - FRACTION : k])]
        m.d.comb += self.sure.eq(
            Mux(
                settings.is_entropy,
                (self.moment << (LOG_FRACTION - FRACTION)) < self.bound,
                total < settings.limit,
            )
        )

    def _gather(self, m, sums, step, begin, gathered):
        """Logits of the step, nibble by nibble; returns the largest one."""
        settings = self.settings
        n_classes = settings.n_classes
        active = Signal()
        k = Signal(range(MAX_CLASSES))
        plane = Signal(range(PLANES))
        last = k + 1 == n_classes
        block = k >> 4
        m.d.comb += [
            self.read.eq(active),
            self.read_addr.eq(
                settings.base + (block << settings.block_log2) + (step * PLANES + plane)
            ),
        ]
        with m.If(begin):
            m.d.sync += [active.eq(1), k.eq(0), plane.eq(0)]
        with m.If(active):
            m.d.sync += plane.eq(plane + 1)
            with m.If(plane == PLANES - 1):
                m.d.sync += [k.eq(k + 1), active.eq(~last)]

        lane = Signal(range(KERNELS))
        number = Signal.like(k)
        logit = Signal(signed(ACC_WIDTH))
        last_nibble, last_logit, complete, ends = Signal(), Signal(), Signal(), Signal()
        number_2 = Signal.like(k)
        m.d.sync += [
            lane.eq(k),
            number.eq(k),
            last_nibble.eq(active & (plane == PLANES - 1)),
            last_logit.eq(last),
            logit.eq(next_nibble(logit, self.read_data, lane)),
            complete.eq(last_nibble),
            ends.eq(last_nibble & last_logit),
            number_2.eq(number),
            gathered.eq(ends),
        ]
        # Sums of earlier frames are in the upper half, where those of the last step go.
        total = Signal(signed(ACC_WIDTH))
        keeps = step + 1 == self.n_steps
        with m.If(last_nibble):
            m.d.comb += [sums.r_enable.eq(1), sums.r_addr.eq(Cat(number, Const(1, 1)))]
        m.d.comb += [
            total.eq(logit + Mux(self.first_step == 0, 0, sums.r_data.as_signed())),
            sums.w_mask.eq(complete),
            sums.w_addr.eq(Cat(number_2, keeps)),
            sums.w_data.eq(total),
        ]
        largest = Signal(signed(ACC_WIDTH))
        with m.If(complete & ((number_2 == 0) | (total > largest))):
            m.d.sync += largest.eq(total)
        return largest

    def _score(self, m, table, sums, step, factor, largest, gathered, scored):
        """Powers of the distances, and their sums."""
        active = Signal()
        k = Signal(range(MAX_CLASSES))
        last = k + 1 == self.settings.n_classes
        with m.If(gathered):
            m.d.sync += [active.eq(1), k.eq(0), self.total.eq(0), self.moment.eq(0)]
        with m.If(active):
            keeps = step + 1 == self.n_steps
            m.d.comb += [sums.r_enable.eq(1), sums.r_addr.eq(Cat(k, keeps))]
            m.d.sync += [k.eq(k + 1), active.eq(~last)]

        # One class per clock: distance, product, y, power, and what is added.
        flags = [Cat(active, active & last)]
        for clock in range(7):
            after = Signal(2, name=f"flags_{clock + 1}")
            m.d.sync += after.eq(flags[-1])
            flags.append(after)
        distance = Signal(ACC_WIDTH)
        product = Signal(ACC_WIDTH + MULT_BITS)
        halved = Signal(ACC_WIDTH + MULT_BITS + 1)
        y = Signal(Y_WIDTH)
        is_small = Signal()
        m.d.sync += [
            distance.eq(largest - sums.r_data.as_signed()),
            product.eq(distance * factor.mult),
            y.eq(halved >> 1),
            is_small.eq((halved >> 1 + FRACTION) <= LARGEST_SHIFT),
        ]
        m.d.comb += halved.eq((product >> (factor.shift - 1)[:SHIFT_WIDTH]) + 1)
        with m.If(flags[4][0]):
            m.d.comb += [table.r_enable.eq(1), table.r_addr.eq(y[:FRACTION])]
        y_5, is_small_5 = Signal(Y_WIDTH), Signal()
        full = table.r_data[:E_WIDTH]
        places = y_5[FRACTION:]
        power = Signal(E_WIDTH)
        y_6 = Signal(Y_WIDTH)
        added = Signal(E_WIDTH + Y_WIDTH)
        rounded = ((full >> (places - 1)[: len(places)]) + 1) >> 1
        m.d.sync += [
            y_5.eq(y),
            is_small_5.eq(is_small),
            power.eq(Mux(is_small_5, Mux(places == 0, full, rounded), 0)),
            y_6.eq(y_5),
            added.eq(power * y_6),
        ]
        with m.If(flags[6][0]):
            m.d.sync += self.total.eq(self.total + power)
        with m.If(flags[7][0]):
            m.d.sync += self.moment.eq(self.moment + added)
        m.d.comb += scored.eq(flags[7][1])
