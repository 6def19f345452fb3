"""The loader never writes over a group-set or a header that is still needed."""

from amaranth.hdl import Mux

from hw.mars.loader import Loader
from model.mars.config import ADDRESSES
from model.mars.layout import HEADER_SLOTS
from tb.formal.harness import Harness, Proof

N_MACROS = 2


def state(h: Harness) -> None:
    """Entries and headers begun and not freed, counted from outside."""
    loader = h.block(Loader(N_MACROS))
    begin_entry, begin_header = h.probe("begin_entry", 1), h.probe("begin_header", 1)
    entries, headers = h.register("entries", 8), h.register("headers", 4)
    h.next(entries, entries + begin_entry - loader.entries_freed)
    h.next(headers, headers + begin_header - loader.header_freed)
    h.assume("frees_what_is_there", loader.entries_freed <= entries)
    h.assume("frees_a_header_that_is_there", headers != 0, loader.header_freed)
    h.assume("split_exists", loader.descriptor.split_log2 < 2)

    transfer = loader.lines.valid & loader.lines.ready
    h.always("entries_fit", entries <= ADDRESSES)
    h.always("headers_fit", headers <= HEADER_SLOTS)
    h.always("entry_has_room", entries < ADDRESSES, begin_entry)
    h.always("header_has_room", headers < HEADER_SLOTS, begin_header)
    h.always(
        "header_is_begun_by_its_first_line",
        begin_header == (transfer & loader.header_enable & (loader.header_part == 0)),
    )
    h.always("entries_counted", h.probe("entries_in_use", 7) == entries)
    h.always("headers_counted", h.probe("headers_in_use", 3) == headers)
    # The address moves on by one entry at a time, so the ring holds what is counted.
    addr, moved = h.past(loader.row_addr), loader.row_addr != h.past(loader.row_addr)
    after = Mux(addr == ADDRESSES - 1, 0, addr + 1)
    h.always("address_moves_by_one", loader.row_addr == after, moved)
    h.reached("writes", loader.row_enable & (loader.row_word_line == 2) & (entries == 1))
    h.reached("frees", loader.entries_freed == 1)
    h.reached("headers_are_all_in_use", headers == HEADER_SLOTS)


PROOFS = (
    Proof(
        name="loader",
        says=f"never more than {ADDRESSES} group-sets and {HEADER_SLOTS} headers are begun and not "
        "freed, whatever the lines hold",
        state=state,
        depth=2,
        reach=14,
        broken="proof.dut/w:entries_in_use %ci2 proof.dut/w:headers_in_use %ci2",
    ),
)
