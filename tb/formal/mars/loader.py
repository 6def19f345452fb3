"""The loader never writes over what is still needed, and takes lines apart in their order."""

from functools import partial

from amaranth.hdl import Cat, Const, Mux

from hw.mars.loader import Loader
from model.mars.clocks import WITHOUT_SRAM
from model.mars.config import ADDRESSES
from model.mars.layout import TABLE_LINES, header_lines
from tb.formal.harness import Harness, Proof

N_MACROS = 2
N_HEADERS = WITHOUT_SRAM.headers
STATES = (
    "DESCRIPTOR_0",
    "DESCRIPTOR_1",
    "HEADER_0",
    "TABLE",
    "FEATURES",
    "HEADER_1",
    "ROWS",
    "CODES",
)
"""In the order in which Amaranth numbers them, that of their first mention."""


def state(h: Harness) -> None:
    """Entries and headers begun and not freed, counted from outside."""
    loader = h.block(Loader(N_MACROS))
    begin_entry, begin_header = h.probe("begin_entry", 1), h.probe("begin_header", 1)
    entries, headers = h.register("entries", 8), h.register("headers", 4)
    h.next(entries, entries + begin_entry - loader.entries_freed)
    h.next(headers, headers + begin_header - loader.headers_freed)
    h.assume("frees_what_is_there", loader.entries_freed <= entries)
    h.assume("frees_headers_that_are_there", loader.headers_freed <= headers)
    h.assume("split_exists", loader.descriptor.split_log2 < 2)

    transfer = loader.lines.valid & loader.lines.ready
    h.always("entries_fit", entries <= ADDRESSES)
    h.always("headers_fit", headers <= N_HEADERS)
    h.always("entry_has_room", entries < ADDRESSES, begin_entry)
    h.always("header_has_room", headers < N_HEADERS, begin_header)
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

    # Where a map stands for weights, who writes it has the macros' port until it is filled.
    keeping = h.probe("keeping", 1)
    ends_block = h.define("ends_block", keeping & h.probe("last_of_block", 1) & loader.is_map)
    complete = h.define("complete", ends_block & h.probe("last_word", 1))
    waits, held = h.register("waits", 1), h.probe("held", 1)
    h.next(waits, complete & ~loader.filled | waits & ~loader.filled)
    h.assume("fills_what_waits", waits, loader.filled)
    h.always("holds_behind_a_map", held, waits)
    h.always("holds_before_it_is_complete", held, ends_block)
    now = h.probe("loader_state", 3)
    between = [now == STATES.index(name) for name in ("DESCRIPTOR_0", "HEADER_0")]
    h.always("holds_between_blocks", Cat(between).any(), held)
    h.always("keeps_nothing_behind_it", ~keeping, waits)
    h.always("takes_nothing_meanwhile", ~transfer & ~begin_entry & ~loader.row_enable, waits)
    h.always("complete_is_loaded", loader.loaded, complete)
    h.reached("waits_for_a_map", waits & loader.lines.valid)

    h.reached("writes", loader.row_enable & (loader.row_word_line == 2) & (entries == 1))
    h.reached("frees", loader.entries_freed == 1)
    h.reached("headers_are_all_in_use", headers == N_HEADERS)


def order(h: Harness, *, wide: bool) -> None:
    """Lines of headers and tables in their order; codes enough for every entry."""
    loader = h.block(Loader(N_MACROS, wide_multiplier=wide))
    d, split_log2 = loader.descriptor, loader.descriptor.split_log2
    h.assume("split_exists", split_log2 < 2)
    h.assume("takes_what_is_described", loader.described, loader.take)
    now = h.probe("loader_state", 3)

    def within(*names: str):
        return Cat(now == STATES.index(name) for name in names).any()

    # Headers: every line of one slot, then the next slot.
    n_parts = header_lines(wide)
    part, slot = h.register("part", 2), h.register("slot", 2)
    last_part = h.define("last_part", part == n_parts - 1)
    h.next(part, Mux(last_part, 0, part + 1), loader.header_enable)
    h.next(slot, slot + 1, loader.header_enable & last_part)
    h.always("header_lines_in_order", loader.header_part == part)
    h.always("header_is_one_slot's", loader.header_slot == slot)
    h.always("header_goes_on", within("HEADER_1") == (part != 0))
    if wide:
        more_parts = h.probe("more_parts", 2)
        h.always("parts_begin_anew", more_parts == 0, part == 0)

    # Tables: all words in order from address 0, and not while the pass before is under way.
    left, word = h.probe("table_lines_left", 3), h.probe("word", 3)
    taken = h.define("taken", (TABLE_LINES - left)[:2])
    before = h.define("taken_before", (TABLE_LINES - 1 - left)[:2])
    addr = Mux(loader.table_enable, Cat(word, before), Cat(Const(0, 3), taken))
    h.always("table_words_in_order", loader.table_addr == addr)
    h.always("table_begins_at_0", left == TABLE_LINES, ~within("TABLE"))
    h.always("table_has_lines", (left >= 1) & (left <= TABLE_LINES))
    h.always("table_of_the_pass_under_way", ~loader.described, loader.table_enable)
    h.always("table_if_there_is_one", d.lookup & ~d.is_input, within("TABLE"))
    h.always("word_is_one_thing", (loader.table_enable + loader.feature_valid) < 2)
    h.always("word_is_no_row", ~loader.row_enable, loader.table_enable | loader.feature_valid)
    keeping = h.probe("keeping", 1)
    h.always("nothing_is_kept", ~keeping, within("DESCRIPTOR_1", "HEADER_1"))
    h.always("described_is_taken", ~loader.described, within("DESCRIPTOR_1"))
    past_table = within("DESCRIPTOR_0", "DESCRIPTOR_1", "FEATURES", "CODES", "ROWS")
    table_kept = h.define("table_kept", keeping & h.probe("is_table", 1))
    h.always("table_is_kept_no_longer", ~table_kept, past_table)
    h.always("one_is_described", ~loader.described, table_kept)

    # Codes: an entry takes as many as there are macros, out of one line.
    codes_left = h.probe("codes_left", 6)
    begin_entry = h.probe("begin_entry", 1)
    split = h.define("split", Const(1, 2) << split_log2)
    in_pass = ~within("DESCRIPTOR_0", "DESCRIPTOR_1")
    h.always("codes_are_enough", codes_left >= split, begin_entry)
    h.always("codes_in_pairs", ~codes_left[0], in_pass & (split_log2 == 1))
    first_line = h.probe("first_line", 1)
    h.always("codes_come_first", codes_left != 0, within("ROWS") & first_line)
    h.always("entries_are_whole", first_line, ~within("ROWS"))
    length = Mux(d.long_codes, 32, 56)
    h.always("codes_of_a_line", codes_left <= length, in_pass)

    h.reached("header_ends", loader.header_enable & last_part & (slot == 1))
    h.reached("second_table_line", loader.table_enable & (loader.table_addr == 8))
    h.reached("long_codes", begin_entry & d.long_codes & (codes_left == 32))
    h.reached("short_codes", begin_entry & ~d.long_codes & (codes_left == 56))


def order_proof(name: str, says: str, *, wide: bool) -> Proof:
    """That of narrow or wide multipliers."""
    broken = ("more_parts", "header_slot", "table_lines_left", "table_addr", "codes_left")
    return Proof(
        name=name,
        says=says,
        state=partial(order, wide=wide),
        depth=2,
        reach=20,
        broken=" ".join(f"proof.dut/w:{wire} %ci2" for wire in broken[not wide :]),
    )


PROOFS = (
    Proof(
        name="loader",
        says=f"never more than {ADDRESSES} group-sets and {N_HEADERS} headers are begun and not "
        "freed, and nothing is taken behind a map until that is filled in, whatever the lines hold",
        state=state,
        depth=2,
        reach=26,
        broken="proof.dut/w:entries_in_use %ci2 proof.dut/w:headers_in_use %ci2 "
        "proof.dut/w:held %ci2",
    ),
    order_proof(
        "loader_order",
        "lines of headers and tables are taken in order, a table only when the pass before is "
        "over, and every group-set finds its codes",
        wide=False,
    ),
    order_proof(
        "loader_order_wide",
        "the same with headers of four lines",
        wide=True,
    ),
)
