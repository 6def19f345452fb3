"""The bit of a block says whether it has a weight that is not 0, whatever the host has written."""

from amaranth.hdl import Cat, Mux

from hw.npu.weight_memory import BYTES_PER_WORD, WeightMemory
from tb.formal.harness import MEMORY, Harness, Proof

N_ROWS, N_GROUPS, N_LANES = 3, 2, 8
"""No power of two, so that blocks exist behind the last one; two columns."""
N_BLOCKS, N_COLUMNS = N_ROWS * N_GROUPS, N_LANES // BYTES_PER_WORD


def state(h: Harness) -> None:
    """Any one block, as the host has written it; memories begin with zeros."""
    memory = h.block(WeightMemory(N_ROWS, N_GROUPS, N_LANES))
    bus = memory.bus
    write = h.define("write", bus.valid & bus.write)
    addr = h.define("block_addr", bus.addr[3:])
    column = bus.addr[2]
    h.assume("requests_in_every_second_clock", ~h.past(bus.valid), bus.valid)
    idle = ~bus.valid & ~memory.updating
    h.assume("lanes_between_requests", idle, memory.read | memory.read_filled)
    h.assume("read_exists", memory.addr < N_BLOCKS, memory.read)

    which = h.fixed("which", range(N_BLOCKS))
    h.assume("which_exists", which < N_BLOCKS)
    group = h.define("group_of_which", which >= N_ROWS)
    row = h.define("row_of_which", Mux(group, which - N_ROWS, which), range(N_ROWS))
    here = h.define("here", write & (addr == which))
    weights = h.register("weights", 8 * N_LANES)
    written = []
    for k in range(N_LANES):
        data = bus.w_data.word_select(k % BYTES_PER_WORD, 8)
        strobed = bus.w_strb[k % BYTES_PER_WORD] & (column == k // BYTES_PER_WORD)
        written.append(Mux(strobed, data, weights.word_select(k, 8)))
    h.next(weights, Cat(written), here)

    asked = h.past(h.define("asks", memory.read_filled & (memory.filled_group == group)))
    bit = h.define("bit", memory.filled.bit_select(row, 1))
    h.always("bit_right", bit == weights.any(), asked)
    read = h.past(h.define("reads", memory.read & (memory.addr == which)))
    h.always("weights_right", memory.weights.as_value() == weights, read)
    legal = h.define("legal", write & (addr < N_BLOCKS))
    h.always("two_clocks", memory.updating == (h.past(legal) | h.past(legal, 2)))
    h.reached("filled", asked & bit)
    was_filled = h.register("was_filled", 1)
    h.next(was_filled, 1, asked & bit)
    h.reached("empty_again", asked & ~bit & was_filled)


PROOFS = (
    Proof(
        name="weight_memory",
        says=f"with {N_BLOCKS} blocks of {N_LANES} weights the bit of each block is whether it "
        "has a weight that is not 0, two clocks after any write",
        state=state,
        depth=9,
        reach=12,
        bounded=True,
        engine=MEMORY,
    ),
)
