"""The line reader keeps AXI4's rules, and its buffer never overflows."""

from amaranth.hdl import Mux
from amaranth.utils import exact_log2

from hw.mars.line_reader import LineBuffer, LineReader
from model.mars.config import LINE_BITS, MarsConfig
from tb.formal.harness import MEMORY, Harness, Proof

CONFIG = MarsConfig(name="proof", weight_bus=256, line_buffer=16)
BEAT_BYTES = CONFIG.weight_bus // 8
N_BEATS = CONFIG.beats_per_line
PAGE = 4096
LEVEL = range(CONFIG.line_buffer + 1)
DEPTH = 2


def state(h: Harness) -> None:
    """Requests and beats, counted from outside, against room in the buffer."""
    reader = h.block(LineReader(CONFIG))
    axi = reader.axi
    h.assume("starts_when_free", ~reader.busy & ~reader.lines.valid, reader.start)
    h.assume("clears_when_free", ~reader.busy, reader.clear)

    n_beats = h.define("n_beats", axi.arlen + 1)
    taken = h.define("taken", axi.arvalid & axi.arready)
    owed = h.register("owed", range(1 << 8))
    h.next(owed, owed + Mux(taken, n_beats, 0) - axi.rvalid)
    h.assume("memory_sends_what_was_asked_for", owed != 0, axi.rvalid)

    h.holds("ar", axi.arvalid, axi.arready, axi.araddr, axi.arlen)
    h.always("always_takes_data", axi.rready)
    h.always("whole_beats", axi.arsize == exact_log2(BEAT_BYTES), axi.arvalid)
    h.always("incrementing", axi.arburst == 1, axi.arvalid)
    page_end = (axi.araddr & (PAGE - 1)) + n_beats * BEAT_BYTES <= PAGE
    h.always("page_not_crossed", page_end & (axi.araddr % BEAT_BYTES == 0), axi.arvalid)
    h.holds("lines", reader.lines.valid, reader.lines.ready | reader.clear)
    h.always("busy_until_all_has_come", reader.busy, axi.arvalid | (owed != 0))

    level, parts = h.probe("buffer.level", LEVEL), h.probe("buffer.w_mask", N_BEATS)
    complete = h.probe("buffer.complete", 1)
    n_outstanding, beat = h.probe("n_outstanding", LEVEL), h.probe("beat", N_BEATS)
    h.always("buffer_has_room", level < CONFIG.line_buffer, complete | parts.any())
    # Invariants: the reader's own count is that of the bus, and room is kept for all of it.
    come = sum(Mux(beat[k], k, 0) for k in range(N_BEATS))
    h.always("one_beat_is_next", sum(beat) == 1)
    h.always("room_for_all", level + n_outstanding <= CONFIG.line_buffer)
    asked = Mux(axi.arvalid, n_beats, 0) + owed + come
    h.always("counted", n_outstanding * N_BEATS == asked)
    inside = axi.araddr[6:9] * N_BEATS + n_beats <= 8 * N_BEATS
    whole = (n_beats % N_BEATS == 0) & inside & (axi.araddr[:6] == 0)
    h.always("whole_lines", whole, axi.arvalid)
    h.reached("no_room_left", level + n_outstanding == CONFIG.line_buffer)
    h.reached("short_burst", axi.arvalid & (n_beats == N_BEATS))
    h.reached("second_region", h.past(taken, 2) & axi.arvalid & (axi.araddr == 0x4000))
    h.reached("fails", reader.error)
    h.reached("ends_at_a_page", axi.arvalid & (axi.araddr % PAGE == PAGE - 8 * 64))


def order(h: Harness) -> None:
    """Half a line among many, of which all bits are alike: it comes out in its place, unchanged."""
    half_bits = LINE_BITS // 2
    value = h.free("value", 1)
    buffer = h.block(LineBuffer(DEPTH, half_bits), w_data=value.replicate(half_bits))
    which, half = h.fixed("which", 3), h.fixed("half", 1)
    out = h.define("out", buffer.lines.valid & buffer.lines.ready)
    h.assume("no_more_than_depth", buffer.level != DEPTH, buffer.complete | buffer.w_mask.any())
    h.assume("not_cleared", ~buffer.clear)
    n_in, n_out = h.register("n_in", 4), h.register("n_out", 4)
    h.next(n_in, n_in + buffer.complete)
    h.next(n_out, n_out + out)
    written, kept = h.register("written", 1), h.register("kept", 1)
    write = h.define("write", (n_in == which) & buffer.w_mask.bit_select(half, 1))
    h.next(written, 1, write)
    h.next(kept, value, write)
    h.holds("lines", buffer.lines.valid, buffer.lines.ready, buffer.lines.payload)
    h.always("level_counts", buffer.level + buffer.lines.valid == (n_in - n_out)[:4])
    mine = h.define("mine", out & (n_out == which) & written)
    line = buffer.lines.payload.word_select(half, half_bits)
    h.always("comes_out_as_it_went_in", line == kept.replicate(half_bits), mine)
    h.reached("fourth_line", mine & kept & (which == 3))
    h.reached("full", (buffer.level == DEPTH) & buffer.lines.valid)


PROOFS = (
    Proof(
        name="line_reader",
        says="AXI4 rules, no burst over 4 KB, and no beat comes without room in the buffer",
        state=state,
        depth=3,
        reach=8,
        broken=" ".join(f"proof.dut/w:{name} %ci2" for name in ("n_used", "n_outstanding", "beat")),
    ),
    Proof(
        name="line_buffer",
        says="lines come out once, in order and unchanged, whatever the receiver does",
        state=order,
        depth=8,
        reach=8,
        bounded=True,
        engine=MEMORY,
    ),
)
