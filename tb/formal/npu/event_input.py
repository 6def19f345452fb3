"""The event input hands every event over once, in its time step, or says what was wrong with it."""

from amaranth.hdl import Mux, signed

from hw.npu.event_input import EventInput
from tb.formal.harness import Harness, Proof

N_POPULATIONS, N_AXONS = 3, 10
"""Neither is a power of two, so that names of nobody exist."""


def state(h: Harness) -> None:
    """One place for a beat; docs/chip.md says where its fields are."""
    events = h.block(EventInput(N_POPULATIONS, N_AXONS))
    axis = events.axis
    waits = h.past(h.define("waits", axis.tvalid & ~axis.tready))
    h.assume("sender_keeps_valid", axis.tvalid, waits)
    h.assume("sender_keeps_data", axis.tdata == h.past(axis.tdata), waits)

    taken = h.define("taken", axis.tvalid & axis.tready)
    full = h.register("full", 1)
    beat = h.register("beat", 64)
    step, axon, population, fence = beat[:32], beat[32:48], beat[48:56], beat[56]
    distance = h.define("distance", (step - events.step)[:32], signed(32))
    leaves = h.define("leaves", full & (distance <= 0) & ~events.hold)
    h.next(full, Mux(events.clear, 0, taken), events.clear | taken | leaves)
    h.next(beat, axis.tdata, taken)

    # Invariants: the block's own place for a beat.
    h.always("place_is_full", h.probe("full", 1) == full)
    h.always("place_holds_the_beat", h.probe("held", 64) == beat, full)
    known = h.define("known", (population < N_POPULATIONS) & (axon < N_AXONS) & ~fence)
    h.always("takes_when_there_is_room", axis.tready == ((~full | leaves) & ~events.clear))
    for p in range(N_POPULATIONS):
        mine = leaves & known & (population == p)
        h.always(f"event_{p}_right", events.event[p] == mine)
    h.always("axon_right", events.axon == axon, events.event.any())
    h.always("axon_exists", events.axon < N_AXONS, events.event.any())
    h.always("complete_right", events.complete == (full & (distance > 0)))
    h.always("late_right", events.late == (leaves & ~fence & (distance < 0)))
    h.always("bad_right", events.bad == (leaves & ~fence & ~known))
    h.reached("two_in_a_row", h.past(events.event[2]) & events.event[1])
    h.reached("late", events.late)
    h.reached("bad", events.bad & (population < N_POPULATIONS))
    h.reached("over_the_end_of_time", leaves & (step == (1 << 32) - 1) & (events.step == 0))


PROOFS = (
    Proof(
        name="event_input",
        says="every event leaves once, when its step has come, to its axon; late and unknown ones "
        "are reported",
        state=state,
        depth=2,
        reach=6,
    ),
)
