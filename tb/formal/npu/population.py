"""A population reads and writes only words that its memories have."""

from amaranth.utils import ceil_log2

from hw.npu.population import WRITE_STAGE, Population
from hw.npu.row_walker import WORD_WIDTH
from model.npu.config import NPUConfig
from tb.formal.harness import Harness, Proof
from tb.formal.npu.row_walker import CLOSE, IDLE, fetched_of

CONFIG = NPUConfig(name="proof", n_neurons=12, n_lanes=4, n_axons=5)
"""Rows, groups and words are no powers of two, so that addresses of nothing exist."""
INDEX = 1
N_ROWS, N_GROUPS = CONFIG.n_rows(INDEX), CONFIG.n_groups
DEPTH = N_ROWS * N_GROUPS
UNUSED = 2 * WORD_WIDTH - N_ROWS
GROUP = ceil_log2(N_GROUPS)
PARAMETER_MEMORIES = 3


def state(h: Harness) -> None:
    """Addresses of walker and host; the neurons' arithmetic does not matter."""
    population = h.block(Population(CONFIG, INDEX, trace=False))
    h.cut("spikes_next")
    busy = population.busy
    h.assume("groups_in_use", population.n_groups <= N_GROUPS)
    for name in ("start", "commit", "clear"):
        h.assume(f"{name}_between_steps", ~busy, getattr(population, name))
    for name in ("neuron_bus", "weight_bus"):
        valid = getattr(population, name).valid
        h.assume(f"{name}_between_steps", ~busy & ~population.start, valid)
    links = population.linked_spikes
    stay = (links == h.past(links)) & (population.links == h.past(population.links))
    h.assume("links_stay", stay, busy & h.past(busy))

    enable, addr = (
        h.probe("weight_memory.memory.enable", 1),
        h.probe("weight_memory.memory.addr", ceil_log2(DEPTH)),
    )
    h.always("weight_in_memory", addr < DEPTH, enable)
    bits_read, group = (
        h.probe("weight_memory.filled_memory.enable", 1),
        h.probe("weight_memory.filled_memory.addr", GROUP),
    )
    h.always("bits_in_memory", group < N_GROUPS, bits_read)
    for k in range(PARAMETER_MEMORIES):
        path = f"neuron_memory.parameters_{k}"
        read, group = h.probe(f"{path}.enable", 1), h.probe(f"{path}.addr", GROUP)
        h.always(f"parameters_{k}_in_memory", group < N_GROUPS, read)
    path = "neuron_memory.state_memory"
    read, group = h.probe(f"{path}.r_enable", 1), h.probe(f"{path}.r_addr", GROUP)
    h.always("state_read_in_memory", group < N_GROUPS, read)
    write, w_group = h.probe(f"{path}.w_mask", CONFIG.n_lanes), h.probe(f"{path}.w_addr", GROUP)
    h.always("state_written_in_memory", w_group < N_GROUPS, write.any())
    invariants(h)
    h.reached("last_weight", enable & (addr == DEPTH - 1) & busy)
    h.reached("last_group", write.all() & (w_group == N_GROUPS - 1))


def invariants(h: Harness) -> None:
    """How group and row stay in step: without this an induction could begin anywhere."""
    fsm = h.probe("walker.fsm_state", 3)
    index, final = h.probe("walker.slot_index", GROUP), h.probe("walker.final", GROUP)
    base = h.probe("group_base", ceil_log2(DEPTH))
    walks = h.define("walks", fsm != IDLE)
    h.always("states", fsm <= CLOSE)
    h.always("groups_left", (index <= final) & (final < N_GROUPS), walks)
    h.always("base_of_group", base == index * N_ROWS, walks)
    fetched = fetched_of(h, "walker.fetched", n_words=2)
    word, at = h.probe("walker.word", WORD_WIDTH), h.probe("walker.word_index", 1)
    for name, value, second in (
        ("word", word, at),
        ("fetched", fetched["word"], fetched["index"]),
    ):
        h.always(f"{name}_ends_with_the_rows", ~value[-UNUSED:].any(), second)
    h.always("masks_left", h.probe("walker.mask_pass", GROUP) <= final, walks)
    h.always("written_in_memory", h.probe("weight_memory.written", ceil_log2(DEPTH)) < DEPTH)
    group = h.probe("group", GROUP)
    closed = sum(h.probe(f"close_{k}", 1) for k in range(1, WRITE_STAGE + 1))
    h.always("groups_finish_in_order", group + closed == index, walks | (closed != 0))
    h.always("last_group_closed", index <= N_GROUPS, closed != 0)


PROOFS = (
    Proof(
        name="population",
        says="every access to weights, parameters and state, by walker or host, is to a word that "
        "the memory has",
        state=state,
        depth=3,
        reach=26,
        broken="proof.dut/w:group_base %ci3 proof.dut/w:group %ci1",
    ),
)
