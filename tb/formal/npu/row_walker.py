"""The row walker visits every row of a pass exactly once, whatever the receiver does."""

from amaranth.hdl import Cat, Mux, Value
from amaranth.utils import ceil_log2

from hw.npu.row_walker import WORD_WIDTH, RowWalker
from tb.formal.harness import Harness, Proof

N_ROWS, MAX_PASSES = 40, 3
"""Three words of rows, the last one half empty."""
N_WORDS = -(-N_ROWS // WORD_WIDTH)
INDEX_WIDTH = ceil_log2(N_WORDS)
IDLE, FETCH, LOAD, WALK, CLOSE = range(5)


def state(h: Harness) -> None:
    """Who is visited when, from rows and masks alone; then how the walker keeps track of it."""
    masks = h.fixed("masks", N_ROWS * MAX_PASSES)
    shown = h.register("shown", range(MAX_PASSES))
    walker = h.block(RowWalker(N_ROWS, MAX_PASSES), mask=masks.word_select(shown, N_ROWS))
    h.next(shown, walker.read_pass, walker.read)
    slot = walker.slot.payload
    h.assume("rows_stay", walker.rows == h.past(walker.rows), walker.busy & h.past(walker.busy))
    taken = h.define("taken", walker.slot.valid & walker.slot.ready)
    row_taken = h.define("row_taken", taken & ~slot.close)
    close_taken = h.define("close_taken", taken & slot.close)
    start = h.define("starts", walker.start & ~walker.busy & (walker.n_passes != 0))

    busy = h.register("running", 1)
    n_passes = h.register("n_passes", range(MAX_PASSES + 1))
    index = h.register("index", range(MAX_PASSES + 1))
    position = h.register("position", range(N_ROWS + 1))
    over = h.define("over", close_taken & (index + 1 == n_passes))
    h.next(busy, start, start | over)
    h.next(n_passes, walker.n_passes, start)
    h.next(index, Mux(start, 0, index + 1), start | close_taken)
    h.next(position, Mux(row_taken, slot.row + 1, 0), start | taken)

    def of_pass(index) -> Value:
        """Rows that a pass visits."""
        return walker.rows & masks.word_select(index, N_ROWS)

    own = h.define("own", of_pass(index))
    left = h.define("left", own & Cat(position <= k for k in range(N_ROWS)))
    here = h.define("here", Cat(slot.row == k for k in range(N_ROWS)))
    behind = h.define("behind", Cat(slot.row < k for k in range(N_ROWS)))
    valid, close = walker.slot.valid, slot.close
    row = h.define("row_offered", valid & ~close)
    h.always("row_exists", slot.row < N_ROWS, row)
    h.always("row_is_the_next_one_set", (left & ~behind) == here, row)
    h.always("last_of_pass", slot.last == ((left & behind) == 0), row)
    h.always("pass_ends_when_none_is_left", left == 0, valid & close)
    h.always("index_counts_passes", slot.index == index, valid)
    h.always("busy_until_the_last_pass_ends", walker.busy == busy)
    h.always("no_gap", valid, walker.busy & ~h.past(start) & ~h.past(start, 2))
    h.holds("slot", valid, walker.slot.ready, slot.as_value())
    h.always("mask_read_once", walker.read_pass < n_passes, walker.read & busy)
    once(h, walker, own, row_taken, close_taken, start, position)
    invariants(h, walker, of_pass, shown, left, position, index, n_passes)
    h.reached("third_pass_ends", over & (n_passes == 3) & (own != 0))
    h.reached("third_word", row_taken & (slot.row >= 2 * WORD_WIDTH) & (position != 0))
    h.reached("waits", valid & h.past(valid & ~walker.slot.ready, 2))
    h.reached("nobody", over & (walker.rows == 0))
    h.reached("pass_without_rows", close_taken & h.past(close_taken) & h.past(row_taken, 2) & ~over)


def once(h: Harness, walker, own, row_taken, close_taken, start, position) -> None:
    """Any one row, counted."""
    which = h.fixed("which", range(N_ROWS))
    h.assume("which_exists", which < N_ROWS)
    is_set = h.define("is_set", own.bit_select(which, 1))
    visits = h.register("visits", range(4))
    visit = h.define("visit", row_taken & (walker.slot.payload.row == which))
    h.next(visits, Mux(start | close_taken, 0, visits + visit), start | close_taken | visit)
    h.always("visited_exactly_once", visits == is_set, close_taken)
    h.always("visits_so_far", visits == (is_set & (which < position)), walker.busy)


def invariants(h: Harness, walker, of_pass, shown, left, position, index, n_passes) -> None:
    """What the walker's registers mean: without this an induction could begin anywhere."""
    fsm = h.probe("fsm_state", 3)
    word, word_index = h.probe("word", WORD_WIDTH), h.probe("word_index", INDEX_WIDTH)
    ends_pass = h.probe("ends_pass", 1)
    fetched = fetched_of(h, "fetched")
    pending, final = h.probe("pending", N_WORDS), h.probe("final", ceil_log2(MAX_PASSES))
    mask_pass = h.probe("mask_pass", ceil_log2(MAX_PASSES))

    def words(rows) -> list[Value]:
        return [rows[k * WORD_WIDTH : (k + 1) * WORD_WIDTH] for k in range(N_WORDS)]

    def filled_of(rows) -> Value:
        return Cat(part.any() for part in words(rows))

    def is_fetched(todo, rows, of) -> Value:
        """Whether the lowest of these words of a pass was fetched, or that it has none."""
        behind = Mux(of == final, of, of + 1)
        result = fetched["empty"] & fetched["ends_pass"] & (pending == 0) & (mask_pass == behind)
        for k in reversed(range(N_WORDS)):
            rest = todo & ~((2 << k) - 1)
            this = (fetched["index"] == k) & (fetched["word"] == words(rows)[k]) & (pending == rest)
            this &= ~fetched["empty"] & (fetched["ends_pass"] == (rest == 0))
            this &= mask_pass == Mux(rest == 0, behind, of)
            result = Mux(todo[k], this, result)
        return result

    own, following = h.define("of_this", of_pass(index)), h.define("of_next", of_pass(index + 1))
    filled, filled_next = (
        h.define(f"filled_{k}", filled_of(p)) for k, p in enumerate((own, following))
    )
    later = h.define("later", Cat(filled[k] & (word_index < k) for k in range(N_WORDS)))
    of_word = h.define("of_word", Cat(word_index == k for k in range(N_WORDS)))
    current = Cat(Mux(of_word[k], word, 0) for k in range(N_WORDS))
    others = Cat(part & (word_index < k).replicate(len(part)) for k, part in enumerate(words(left)))
    next_pass = (index == final) | is_fetched(filled_next, following, index + 1)
    h.always("states", (fsm <= CLOSE) & ((fsm == IDLE) == ~walker.busy))
    h.always("fetch_begins", (position == 0) & (pending == 0) & (mask_pass == 0), fsm == FETCH)
    h.always("first_pass", index == 0, (fsm == FETCH) | (fsm == LOAD))
    h.always("load_begins", (position == 0) & is_fetched(filled, own, index), fsm == LOAD)
    h.always("word_not_empty", word.any() & of_word.any(), fsm == WALK)
    h.always("word_is_what_is_left", left == (current | others), fsm == WALK)
    walks_on = is_fetched(later, own, index)
    h.always("next_is_fetched", Mux(later.any(), walks_on, next_pass), fsm == WALK)
    h.always("end_is_known", ends_pass == ~later.any(), fsm == WALK)
    h.always("first_is_fetched", (left == 0) & next_pass, fsm == CLOSE)
    h.always("passes", (final == n_passes - 1) & (index < n_passes), walker.busy)
    h.always("slot_index", walker.slot.payload.index == index, walker.busy)
    h.always("mask_is_there", (mask_pass == shown) & (mask_pass <= final), walker.busy)


def fetched_of(h: Harness, path: str, n_words: int = N_WORDS) -> dict[str, Value]:
    """The fields of what a walker has fetched."""
    widths = {"word": WORD_WIDTH, "index": ceil_log2(n_words), "ends_pass": 1, "empty": 1}
    value = h.probe(path, sum(widths.values()))
    fields, low = {}, 0
    for name, width in widths.items():
        fields[name] = value[low : low + width]
        low += width
    return fields


PROOFS = (
    Proof(
        name="row_walker",
        says=f"with {N_ROWS} rows and up to {MAX_PASSES} passes every set row of a pass's mask is "
        "visited exactly once, in order and without a gap, and no other",
        state=state,
        depth=3,
        reach=16,
    ),
)
