"""A map is read word by word for as long as it takes, and every row is written once, in order."""

from amaranth.hdl import Cat, Mux

from hw.mars.map_loader import WRITE_AFTER, MapLoader
from model.mars.clocks import OPERAND_AFTER, TRANSPOSED_AFTER
from model.mars.config import ADDRESSES, WORD_LINES
from tb.formal.harness import Harness, Proof

SEEN_AFTER = 2
"""Clocks from the one in which the walker may step to the first access."""


def state(h: Harness) -> None:
    """Clocks since a kernel block was begun, and rows that were written, counted from outside."""
    loader = h.block(MapLoader())
    d, step = loader.descriptor, loader.step
    fill, filled = loader.fill, loader.filled

    # What the walker does: it waits until the macros are filled, and some clocks longer.
    waits = h.past(h.define("waits", fill & ~filled))
    h.assume("waits_until_filled", fill, waits)
    given = h.define("given", Cat(loader.n_entries, loader.head, loader.kernel_block))
    transposed = h.define("transposed", d.op_transposed)
    h.assume("says_the_same", given == h.past(given), waits)
    h.assume("is_one_pass", transposed == h.past(transposed), waits)
    h.assume("has_entries", (loader.n_entries >= 1) & (loader.n_entries <= ADDRESSES))
    h.assume("no_pass_begins", ~loader.begins, fill)

    clock = h.register("clock", 12)
    h.next(clock, Mux(filled, 0, clock + 1), fill)
    n_words = h.define("n_words", loader.n_entries * WORD_LINES)
    behind = h.define("behind", Mux(transposed, TRANSPOSED_AFTER, 0))
    h.always("reads_every_word", loader.reading == (fill & (clock < n_words)))
    h.always("is_filled", filled == (fill & (clock + 1 == n_words + behind + OPERAND_AFTER)))
    h.always("clocks_of_words", Cat(h.probe("place", 4), h.probe("entry", 7)) == clock[:11])
    h.always("ends", clock < n_words + behind + OPERAND_AFTER, fill)
    h.always("begins_anew", clock == 0, ~waits)
    h.always("is_in_reach", clock < 1 << 11)

    row = h.define("row", clock - behind)
    writes = h.define("writes", fill & (clock >= behind) & (clock < n_words + behind))
    where = h.define("where", Cat(row[:4], (loader.head + (row >> 4))[:6]))
    written = h.past(writes, WRITE_AFTER)
    h.always("writes_rows", step.write == written)
    h.always(
        "rows_are_in_order",
        Cat(step.word_line, step.addr) == h.past(where, WRITE_AFTER),
        written,
    )
    h.always("rows_are_there", ~step.write, h.past(filled, SEEN_AFTER + 1))

    h.reached("fills", filled & (loader.n_entries == 1) & ~transposed)
    h.reached("turns", filled & (loader.n_entries == 1) & transposed)


PROOFS = (
    Proof(
        name="map_loader",
        says="the words of a map are read one per clock, `filled` comes when it was said, and each "
        "row is written once, in order, before an access needs it",
        state=state,
        depth=WRITE_AFTER + 2,
        reach=40,
        broken="proof.dut/w:entry %ci2 proof.dut/w:place %ci2 proof.dut/w:filled %ci2 "
        "proof.dut/w:reading %ci2",
    ),
)
