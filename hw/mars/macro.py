"""The compute-in-memory macro, behind the interface of a foundry macro."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out

from hw.memory import TwoPortMemory
from model.mars.config import ADDRESSES, KERNELS, NIBBLE, WORD_BITS, WORD_LINES

SUM_WIDTH = 18
COLUMN_WIDTH = 13
PLANE_WIDTH = 9
PLANES = ArrayLayout(ArrayLayout(signed(PLANE_WIDTH), NIBBLE), KERNELS)
"""16 * 15 * 15 is the largest sum of a column, 16 * 15 * -8 the lowest."""


def adder_tree(terms):
    """Sum of terms, a power of two of them, in as few levels as can be."""
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]


def _from_lowest(value):
    """By how much a signed value is above the lowest one of its width."""
    return Cat(value[:-1], ~value[-1])


class CIMMacro(Component):
    """16 word lines times 64 bit lines at 64 addresses, golden function `model.mars.macro.access`.

    ``planes[k][t] = sum over i of bit t of a[i] times w[i][k]``, of each column k, and
    ``sums[k] = sum over i of a[i] * w[i][k]``: nibble k of word line i times activation i. With
    8-bit weights (`wide`) the columns 2k, unsigned, and 2k + 1, signed and 16 times as heavy, make
    ``sums[k]`` for k < 8; the others are 0.

    **Latency**: `sums`, or `planes` if the access is `timed`, are valid 2 clocks after `enable`,
    and 0 in a clock without such an `enable` two clocks before. **Throughput**: one access and one
    write per clock; an access sees the row as it was before a write in the same clock. **Reset**:
    `sums` and `planes` 0; contents are not reset.

    Parameters
    ----------
    rows_per_write : int
        Word lines that are written at once.

    Members
    -------
    w_enable, w_addr, w_word_line, w_data : In
        Write `rows_per_write` neighbouring word lines; `w_word_line` counts in so many.
    enable, addr : In(1), In(6)
        An access.
    activations : In(64)
        Activation i in bits 4i..4i+3, with `enable`.
    signed_activations, wide, low : In(1)
        Nibbles of activations are two's complement; weights have 8 bit; weights are lower nibbles
        of 8 bit, without a sign. With `enable`.
    timed : In(1)
        A nibble is four time steps. With `enable`.
    sums : Out(ArrayLayout(signed(18), 16))
        Of the kernels, 2 clocks later.
    planes : Out(ArrayLayout(ArrayLayout(signed(9), 4), 16))
        Of the columns: with 8-bit weights the lower nibbles' are unsigned, the upper ones count 16.
    """

    def __init__(self, rows_per_write=1):
        self.rows_per_write = rows_per_write
        super().__init__(
            {
                "w_enable": In(1),
                "w_addr": In(range(ADDRESSES)),
                "w_word_line": In(range(WORD_LINES // rows_per_write)),
                "w_data": In(rows_per_write * WORD_BITS),
                "enable": In(1),
                "addr": In(range(ADDRESSES)),
                "activations": In(WORD_BITS),
                "signed_activations": In(1),
                "wide": In(1),
                "low": In(1),
                "timed": In(1),
                "sums": Out(ArrayLayout(signed(SUM_WIDTH), KERNELS)),
                "planes": Out(PLANES),
            }
        )

    def elaborate(self, platform):
        m = Module()

        m.submodules.array = array = TwoPortMemory(
            depth=ADDRESSES,
            width=WORD_LINES * WORD_BITS,
            granularity=self.rows_per_write * WORD_BITS,
        )
        m.d.comb += [
            array.w_mask.eq(self.w_enable << self.w_word_line),
            array.w_addr.eq(self.w_addr),
            array.w_data.eq(self.w_data.replicate(WORD_LINES // self.rows_per_write)),
            array.r_enable.eq(self.enable),
            array.r_addr.eq(self.addr),
        ]

        enable_1 = Signal()
        wide_1, timed_1, signed_1 = Signal(), Signal(), Signal()
        # The lower nibbles of 8-bit weights have no sign; those that have one count from -8 on.
        has_sign = [Signal(name=f"has_sign_{nibble}") for nibble in range(2)]
        activations_1 = Signal(WORD_BITS, reset_less=True)
        m.d.sync += enable_1.eq(self.enable)
        with m.If(self.enable):
            m.d.sync += [
                wide_1.eq(self.wide),
                has_sign[0].eq(~(self.low | self.wide)),
                has_sign[1].eq(~self.low),
                timed_1.eq(self.timed),
                signed_1.eq(self.signed_activations),
                activations_1.eq(self.activations),
            ]

        # Sums of 0 stay as they are.
        summing_1, timing_1 = enable_1 & ~timed_1, enable_1 & timed_1
        summing_2, timing_2 = Signal(), Signal()
        m.d.sync += [summing_2.eq(summing_1), timing_2.eq(timing_1)]
        below = [self._below(m, t, activations_1, has_sign) for t in range(NIBBLE)]
        columns = []
        for k in range(KERNELS):
            sign = has_sign[k % 2]
            weights = [
                array.r_data.word_select(i * KERNELS + k, NIBBLE) ^ (sign << NIBBLE - 1)
                for i in range(WORD_LINES)
            ]
            planes = [
                self._plane(m, k, t, activations_1, weights, below[t][k % 2]) for t in range(NIBBLE)
            ]
            column = Signal(signed(COLUMN_WIDTH), name=f"column_{k}")
            # The highest one is inverted and 1 added where it is subtracted; and all have an
            # inverted sign, which makes 256 too many of each, rather than many equal upper bits.
            highest = planes[3].as_unsigned() ^ signed_1.replicate(PLANE_WIDTH)
            terms = [_from_lowest(plane) << t for t, plane in enumerate((*planes[:3], highest))]
            too_many = ((1 << NIBBLE) - 1) << PLANE_WIDTH - 1
            m.d.comb += column.eq(sum(terms) + (signed_1 << 3) - too_many)
            columns.append(column)
            with m.If(timing_1 | timing_2):
                m.d.sync += [
                    self.planes[k][t].eq(Mux(timing_1, planes[t], 0)) for t in range(NIBBLE)
                ]

        for k, column in enumerate(columns):
            wide_sum = Signal(signed(SUM_WIDTH), name=f"wide_sum_{k}")
            if k < KERNELS // 2:
                m.d.comb += wide_sum.eq(columns[2 * k] + (columns[2 * k + 1] << NIBBLE))
            with m.If(summing_1 | summing_2):
                m.d.sync += self.sums[k].eq(Mux(summing_1, Mux(wide_1, wide_sum, column), 0))
        return m

    def _below(self, m, t, activations, has_sign):
        """Eights that are too many where weights count from -8 on, negative; of each nibble."""
        count = adder_tree([activations[i * NIBBLE + t] for i in range(WORD_LINES)])
        result = []
        for nibble, sign in enumerate(has_sign):
            eights = Signal(signed(len(count) + 1), name=f"below_{t}_{nibble}")
            m.d.comb += eights.eq(Mux(sign, -count, 0))
            result.append(eights)
        return result

    def _plane(self, m, k, t, activations, weights, below):
        """The sum of the weights of column k whose activations have bit t."""
        plane = Signal(signed(PLANE_WIDTH), name=f"plane_{k}_{t}")
        total = adder_tree(
            [
                weight & activations[i * NIBBLE + t].replicate(NIBBLE)
                for i, weight in enumerate(weights)
            ]
        )
        m.d.comb += plane.eq(Cat(total[: NIBBLE - 1], total[NIBBLE - 1 :] + below))
        return plane
