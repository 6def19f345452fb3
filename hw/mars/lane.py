"""A macro with all that is its own: index memory, feature memory, accumulators."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hw.mars.layout import ADDR_WIDTH, DESCRIPTOR, INDEX, MEMBRANE_WORDS, in_steps
from hw.mars.macro import CIMMacro
from hw.mars.map_loader import FILL, MapRows
from hw.mars.walker import COORDINATE_WIDTH, STEP
from hw.mars.weight_sram import WeightSram
from hw.memory import TwoPortMemory
from model.mars.clocks import COPY_CLOCKS
from model.mars.config import (
    ACC_WIDTH,
    ADDRESSES,
    KERNELS,
    NIBBLE,
    ROWS_PER_COPY,
    WORD_BITS,
    WORD_BYTES,
    WORD_LINES,
    WORDS_PER_WRITE,
)
from model.mars.layout import MAX_MACROS

SUMS = ArrayLayout(signed(ACC_WIDTH), KERNELS)
RESIDUAL_WORDS = 2
FEATURE_WIDTH = 9
"""A value of 8 bit, with a sign if it has one."""


def load_members(weight_sram, flow):
    """Members by which group-sets come into all macros alike, in or out."""
    depth = weight_sram or ADDRESSES
    members = {
        "row_enable": flow(1),
        "row_addr": flow(range(depth)),
        "row_word_line": flow(range(WORD_LINES)),
        "index_write_addr": flow(range(depth)),
        "index_data": flow(INDEX),
        "fill": flow(FILL),
    }
    if not weight_sram:
        return members
    return {
        **members,
        "copy": flow(1),
        "copy_addr": flow(range(depth)),
        "copy_part": flow(range(COPY_CLOCKS)),
        "macro_addr": flow(range(ADDRESSES)),
    }


def _pair(planes, which):
    """Two of the four steps of a column."""
    return [planes[2 * which], planes[2 * which + 1]]


def _wide_steps(planes, k):
    """Two of the four steps of an 8-bit weight: those that accumulators k have."""
    kernel, first = k % (KERNELS // 2), 2 * (k // (KERNELS // 2))
    low, high = planes[2 * kernel], planes[2 * kernel + 1]
    return [low[step] + (high[step] << NIBBLE) for step in (first, first + 1)]


def _halves(values):
    """Two values, each in half of an accumulator."""
    half = ACC_WIDTH // 2
    return Cat(Cat(value, value[-1].replicate(half - len(value))) for value in values)


def _add(old, value, apart):
    """The sum of two accumulators, or of each half of them; and whether the upper half changes.

    It seldom does: a small value adds its sign there, and a carry from below takes that off again.
    """
    half = ACC_WIDTH // 2
    lower = old[:half] + value[:half]
    carry = lower[half] & ~apart
    changes = (value[half:] ^ carry.replicate(half)).any()
    upper = old[half:] + Mux(changes, value[half:], 0) + (carry & changes)
    return Cat(lower[:half], upper[:half]).as_signed(), changes


class Lane(Component):
    """One macro in the walk; golden: `model.mars.machine.Machine`.

    Finds the features of a step (outside of the map the pad value), lets the macro multiply them
    and adds up, or keeps the largest sum of a tap.
    When a round is complete its sums and residual are kept for post-processing, and the next
    round begins.

    **Latency**: features are read 2 clocks after the walker's step, the macro accesses 1 clock
    later, sums are added 2 clocks later; `sums` and `residual` are valid in the 6th clock after the
    last step. **Throughput**: one step per clock. **Reset**: no access under way.

    Parameters
    ----------
    number, feature_words, weight_sram : int
        Which macro this is, and the sizes of its feature memory and of its weight SRAM.

    Members
    -------
    descriptor : In(DESCRIPTOR)
    index_read, index_read_addr, step : In
        From the walker; `step` is one clock later.
    row_enable, row_addr, row_word_line, row_data : In
    index_write, index_write_addr, index_data : In
        From the loader, into the weight SRAM if there is one.
    copy, copy_addr, copy_part, macro_addr : In
        From the copier, with a weight SRAM: a quarter of a group-set, and where it goes.
    fill : In(FILL)
        From the map loader; meanwhile no rows come from the two others.
    feature_mask, feature_addr, feature_data : In(16), In(16), In(128)
        Writes bytes of a feature word, or of one at an even address and of the next.
    host_read, host_addr : In
        Reads a feature word, while nothing else does.
    host_data, host_upper : Out(64), Out(64)
        One clock later; the second is the word at the odd address of its pair.
    sums, highs : Out(SUMS)
        Partial sums of the last complete round. In time `sums` has steps 0 and 1, `highs` 2 and 3,
        16 bit each; with 8-bit weights lane k < 8 has 0 and 1, lane k + 8 has 2 and 3, 32 bit.
    residual, membranes : Out(128), Out(256)
        Its residual's words, and those of membranes.
    """

    def __init__(self, number, feature_words, weight_sram=0):
        self.number = number
        self.feature_words = feature_words
        self.weight_sram = weight_sram
        super().__init__(
            {
                **load_members(weight_sram, In),
                "descriptor": In(DESCRIPTOR),
                "index_read": In(1),
                "index_read_addr": In(range(ADDRESSES)),
                "step": In(STEP),
                "row_data": In(WORD_BITS),
                "index_write": In(1),
                "feature_mask": In(WORDS_PER_WRITE * WORD_BYTES),
                "feature_addr": In(ADDR_WIDTH),
                "feature_data": In(WORDS_PER_WRITE * WORD_BITS),
                "host_read": In(1),
                "host_addr": In(ADDR_WIDTH),
                "host_data": Out(WORD_BITS),
                "host_upper": Out(WORD_BITS),
                "sums": Out(SUMS),
                "highs": Out(SUMS),
                "residual": Out(RESIDUAL_WORDS * WORD_BITS),
                "membranes": Out(MEMBRANE_WORDS * WORD_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        d = self.descriptor
        m.submodules.indices = indices = TwoPortMemory(
            depth=ADDRESSES, width=INDEX.size, granularity=INDEX.size
        )
        m.submodules.macro = macro = CIMMacro(ROWS_PER_COPY if self.weight_sram else 1)
        m.d.comb += [
            indices.r_enable.eq(self.index_read),
            indices.r_addr.eq(self.index_read_addr),
        ]
        if self.weight_sram:
            self._copy(m, indices, macro)
        else:
            m.d.comb += [
                indices.w_mask.eq(self.index_write),
                indices.w_addr.eq(self.index_write_addr),
                indices.w_data.eq(self.index_data),
                macro.w_enable.eq(self.row_enable),
                macro.w_addr.eq(self.row_addr),
                macro.w_word_line.eq(self.row_word_line),
                macro.w_data.eq(self.row_data),
            ]

        m.submodules.map_rows = map_rows = MapRows(macro.rows_per_write)
        read_2, padded_2, fill_2, addr_2 = self._address(m, INDEX(indices.r_data), map_rows)
        feature = self._features(m, read_2 | fill_2, addr_2)
        m.d.comb += self.host_data.eq(feature)
        self._fill(m, map_rows, macro, feature)

        def after(clocks, value, name):
            """A part of the step, so many clocks later."""
            for _ in range(clocks):
                before, value = value, Signal.like(value, name=name)
                m.d.sync += value.eq(before)
            return value

        read_3 = after(1, read_2, "read")
        upper_3 = after(2, self.step.upper, "upper")
        high_3 = after(2, self.step.high, "high")
        skip_3 = after(2, self.step.skip, "skip")
        membranes_3 = after(2, self.step.membranes, "membranes")
        plane_3 = after(2, self.step.u_plane, "plane")
        padded_3 = after(1, padded_2, "padded")
        around = Mux(upper_3, d.pad_value[NIBBLE:], d.pad_value[:NIBBLE])
        m.d.comb += [
            macro.enable.eq(read_3 & ~skip_3 & ~membranes_3 | padded_3),
            macro.addr.eq(after(3, self.index_read_addr, "entry")),
            macro.activations.eq(Mux(padded_3, around.replicate(WORD_LINES), feature)),
            macro.signed_activations.eq(d.in_signed & (upper_3 == d.in_two)),
            macro.wide.eq(d.wide),
            macro.low.eq(d.stacked & ~high_3),
            macro.timed.eq(in_steps(d)),
        ]

        upper_5 = after(2, upper_3, "upper")
        high_5 = after(2, high_3, "high")
        first_5 = after(4, self.step.first, "first")
        last_5 = after(4, self.step.last, "last")
        summed_5 = after(2, macro.enable, "summed")
        access_5 = after(4, self.step.access, "access")
        # Of a maximum each tap has a sum of its own.
        tap_first_5, tap_last_5, fresh = Signal(), Signal(), Signal()
        m.d.comb += [
            tap_first_5.eq(first_5 | d.maximum & access_5 & ~upper_5),
            tap_last_5.eq(d.maximum & access_5 & (upper_5 == d.in_two)),
        ]
        with m.If(tap_last_5):
            m.d.sync += fresh.eq(0)
        with m.Elif(first_5):
            m.d.sync += fresh.eq(1)
        accumulators = Signal(SUMS, reset_less=True)
        highs = Signal(SUMS, reset_less=True)
        timed = in_steps(d)
        # In time two steps share an accumulator; 8-bit weights have all of it for one.
        halves = timed & ~d.wide
        for k in range(KERNELS):
            added = Signal(signed(ACC_WIDTH), name=f"added_{k}")
            weighed = Mux(high_5, macro.sums[k] << NIBBLE, macro.sums[k])
            partial = Mux(upper_5, weighed << NIBBLE, weighed)
            two, other_two = (_pair(macro.planes[k], which) for which in range(2))
            one, other = _wide_steps(macro.planes, k)
            old = Mux(tap_first_5, 0, accumulators[k])
            old_high = Mux(first_5, 0, highs[k])
            added_high = Signal(signed(ACC_WIDTH), name=f"added_high_{k}")
            value = Signal(signed(ACC_WIDTH), name=f"value_{k}")
            value_high = Signal(signed(ACC_WIDTH), name=f"value_high_{k}")
            m.d.comb += [
                value.eq(Mux(halves, _halves(two), Mux(timed, one, partial))),
                value_high.eq(Mux(halves, _halves(other_two), other)),
            ]
            total, changes = _add(old, value, halves)
            total_high, changes_high = _add(old_high, value_high, halves)
            m.d.comb += [added.eq(total), added_high.eq(total_high)]
            self._accumulate(m, accumulators[k], added, changes, tap_first_5, summed_5)
            self._accumulate(
                m, highs[k], added_high, changes_high, timed & first_5, timed & summed_5
            )
            best = Signal(signed(FEATURE_WIDTH), name=f"best_{k}", reset_less=True)
            tap = Signal(signed(FEATURE_WIDTH), name=f"tap_{k}")
            larger = Signal(signed(FEATURE_WIDTH), name=f"larger_{k}")
            m.d.comb += [
                tap.eq(added),
                larger.eq(Mux(first_5 | fresh | (tap > best), tap, best)),
            ]
            with m.If(tap_last_5):
                m.d.sync += best.eq(larger)
            with m.If(last_5):
                m.d.sync += self.sums[k].eq(Mux(d.maximum, larger, added))
            with m.If(last_5 & timed):
                m.d.sync += self.highs[k].eq(added_high)

        residual_3 = Mux(skip_3, 1 << upper_3, 0)
        self._keep(m, feature, residual_3, last_5, self.residual, "residual")
        self._keep(m, feature, Mux(membranes_3, 1 << plane_3, 0), last_5, self.membranes, "u")
        return m

    def _accumulate(self, m, accumulator, added, changes, first, summed):
        """An accumulator takes its sum, the upper half only if it is another one."""
        half = ACC_WIDTH // 2
        with m.If(first | summed):
            m.d.sync += accumulator[:half].eq(added[:half])
        with m.If(first | summed & changes):
            m.d.sync += accumulator[half:].eq(added[half:])

    def _copy(self, m, indices, macro):
        """Group-sets out of the weight SRAM, a quarter per clock, their index with the first."""
        m.submodules.weight_sram = sram = WeightSram(self.weight_sram)
        m.d.comb += [
            getattr(sram, name).eq(getattr(self, name))
            for name, member in sram.signature.members.items()
            if member.flow == In
        ]
        copied = Signal()
        part = Signal(range(COPY_CLOCKS))
        addr = Signal(range(ADDRESSES))
        m.d.sync += [copied.eq(self.copy), part.eq(self.copy_part), addr.eq(self.macro_addr)]
        m.d.comb += [
            macro.w_enable.eq(copied),
            macro.w_addr.eq(addr),
            macro.w_word_line.eq(part),
            macro.w_data.eq(sram.rows),
            indices.w_mask.eq(copied & (part == 0)),
            indices.w_addr.eq(addr),
            indices.w_data.eq(sram.index),
        ]

    def _fill(self, m, map_rows, macro, word):
        """Rows of a map, which has the macro's port while it comes."""
        m.d.comb += [
            map_rows.descriptor.eq(self.descriptor),
            map_rows.step.eq(self.fill),
            map_rows.word.eq(word),
        ]
        with m.If(map_rows.write):
            m.d.comb += [
                macro.w_enable.eq(1),
                macro.w_addr.eq(self.fill.addr),
                macro.w_word_line.eq(self.fill.word_line >> exact_log2(macro.rows_per_write)),
                macro.w_data.eq(map_rows.rows),
            ]

    def _features(self, m, read, addr):
        """The feature memory, whose words lie in pairs; returns the word that was read last."""
        m.submodules.features = features = TwoPortMemory(
            depth=self.feature_words // WORDS_PER_WRITE,
            width=WORDS_PER_WRITE * WORD_BITS,
            granularity=WORD_BITS // WORD_BYTES,
        )
        r_addr = Mux(self.host_read, self.host_addr, addr)
        odd = Signal(reset_less=True)
        first, second = self.feature_data.word_select(0, WORD_BITS), self.feature_data[WORD_BITS:]
        w_odd = self.feature_addr[0]
        m.d.comb += [
            features.r_enable.eq(read | self.host_read),
            features.r_addr.eq(r_addr[1:]),
            features.w_mask.eq(Mux(w_odd, self.feature_mask << WORD_BYTES, self.feature_mask)),
            features.w_addr.eq(self.feature_addr[1:]),
            features.w_data.eq(Cat(first, Mux(w_odd, first, second))),
        ]
        m.d.comb += self.host_upper.eq(features.r_data[WORD_BITS:])
        with m.If(features.r_enable):
            m.d.sync += odd.eq(r_addr[0])
        return features.r_data.word_select(odd, WORD_BITS)

    def _address(self, m, index, map_rows):
        """Where the features of a step are.

        Returns whether to read, whether the step is outside of the map, whether to read for the map
        loader, and what to read, registered.
        """
        d, step = self.descriptor, self.step
        coordinate = signed(COORDINATE_WIDTH)
        team = Signal(range(8))
        m.d.comb += team.eq(self.number >> d.split_log2)
        first_row = Signal(coordinate)
        m.d.sync += first_row.eq(team * d.team_in_rows)
        in_use = Signal()
        m.d.comb += in_use.eq(team < d.n_teams)

        in_row, in_col = Signal(coordinate), Signal(coordinate)
        inside = Signal()
        m.d.comb += [
            in_row.eq(first_row + step.in_row + index.dy),
            in_col.eq(step.in_col + index.dx),
            inside.eq(
                (in_row >= 0) & (in_row < d.in_height) & (in_col >= 0) & (in_col < d.in_width)
            ),
        ]
        # The macros of a team have the membranes of its pixels in turn.
        place = Signal(range(MAX_MACROS))
        has_membranes = Signal()
        m.d.comb += [
            place.eq(self.number & ((1 << d.split_log2) - 1)),
            map_rows.number.eq(place),
            has_membranes.eq(step.membranes & (step.u_macro == place)),
        ]
        read, padded, fill = Signal(), Signal(), Signal()
        addr = Signal(ADDR_WIDTH, reset_less=True)
        in_base, skip_base = d[f"in_base_{self.number}"], d[f"skip_base_{self.number}"]
        m.d.sync += [
            read.eq(in_use & (step.skip | has_membranes | step.access & inside)),
            padded.eq(in_use & step.access & ~inside & (d.pad_value != 0)),
            fill.eq(in_use & self.fill.read),
            addr.eq(in_base + step.in_offset + index.offset),
        ]
        with m.If(step.skip):
            m.d.sync += addr.eq(skip_base + step.skip_offset)
        with m.If(step.membranes):
            m.d.sync += addr.eq(d.u_base + step.u_offset + step.u_plane)
        with m.If(self.fill.read):
            m.d.sync += addr.eq(map_rows.addr)
        return read, padded, fill, addr

    def _keep(self, m, word, which, last, result, name):
        """Keeps words that a round reads until it is complete."""
        n_words = len(result) // WORD_BITS
        word_4 = Signal(WORD_BITS, reset_less=True, name=f"{name}_word")
        write_4 = Signal(n_words, name=f"{name}_write")
        kept = Signal.like(result, reset_less=True, name=f"{name}_kept")
        m.d.sync += write_4.eq(which)
        with m.If(which.any()):
            m.d.sync += word_4.eq(word)
        for k in range(n_words):
            with m.If(write_4[k]):
                m.d.sync += kept.word_select(k, WORD_BITS).eq(word_4)
        with m.If(last):
            m.d.sync += result.eq(kept)
