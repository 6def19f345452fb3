"""The bridge: stimuli only between time steps, each entry once, and every burst ends in a flag."""

from amaranth.hdl import Array, Mux

from hw.bridge import Bridge, SpikeCounter
from hw.npu.scheduler import Scheduler
from model.bridge import MAX_ENTRIES
from model.config import CHIPS
from tb.formal.harness import MEMORY, Harness, Proof

IDLE, TAKE, START, SETTLE, BURST = range(5)
"""In the order in which Amaranth numbers them, that of their first mention."""
READY, FETCH, READ, ANSWER, MULTIPLY, SHIFT, WRITE = range(7)
N_COUNTED, SPACING = 3, 3
"""Neurons, no power of two, and clocks from a neuron's spike to its next one."""
COUNTER_CLOCKS = 16


def control(h: Harness) -> None:
    """From the end of a frame to the flag; what numbers become does not matter."""
    bridge = h.block(Bridge(CHIPS["kenyon-tiny"]))
    results, stimuli = bridge.results, bridge.stimuli
    for name in ("product", "scaled", "nibbles"):
        h.cut(f"taker.{name}")
    h.cut("taker.table.r_data")
    granted = h.define("granted", stimuli.request & stimuli.grant)
    h.assume("grant_stays", stimuli.grant, stimuli.request & h.past(granted))

    enabled, waits = h.probe("registers.bridge_CONTROL_enable", 1), results.waits
    ended = h.define("ended", results.ended & enabled)
    gone = h.define("gone", results.taken | results.dropped)
    # A frame counts as running while its result waits, so no other one ends.
    h.assume("one_result_at_a_time", ~results.ended, waits)
    h.always("waits_from_its_end_on", waits == h.past(ended | (waits & ~gone)))
    h.always("taken_or_dropped", ~(results.taken & results.dropped))
    h.always("gone_if_it_was_there", waits, gone)
    h.always("dropped_if_aborted", results.abort, results.dropped)
    h.always("read_while_it_waits", waits, results.read)

    fsm, taker = h.probe("bridge_state", 3), h.probe("taker.taker_state", 3)
    k, given = h.probe("taker.k", 8), h.probe("settings", 32)[:9]
    n = h.define("n_entries", Mux(given > MAX_ENTRIES, MAX_ENTRIES, given))
    taking = h.define("taking", fsm == TAKE)
    h.always("write_while_granted", granted & waits & taking, stimuli.write)
    visits = h.register("visits", 9)
    visit = h.define("visit", taker == WRITE)
    h.next(visits, Mux(fsm == IDLE, 0, visits + visit))
    h.always("one_write_for_an_entry", visit & (visits == k) & (visits < n), stimuli.write)
    h.always("all_entries", visits + visit == n, results.taken)

    h.always("run_is_reserved", stimuli.reserve & ~waits, stimuli.run & ~h.past(ended))
    h.always("run_behind_taken", h.past(results.taken & (stimuli.n_steps != 0)), stimuli.run)
    h.always("run_if_steps", stimuli.run, h.past(results.taken & (stimuli.n_steps != 0)))
    h.always("steps_stay", stimuli.n_steps == h.past(stimuli.n_steps), stimuli.reserve & ~taking)
    bursting = h.define("bursting", fsm == BURST)
    set_now = h.probe("registers.bridge_STATUS_done_set", 1)
    h.always("reserved_to_the_end", stimuli.reserve, h.past(stimuli.reserve & ~set_now))
    h.always("burst_ends_in_a_flag", set_now, h.past(bursting & stimuli.done))
    h.always("flag_only_behind", h.past((bursting & stimuli.done) | results.taken), set_now)
    irq_enabled = h.probe("registers.bridge_CONTROL_irq_enable", 1)
    h.always("irq", bridge.irq, h.past(set_now) & irq_enabled)

    # Invariants: both machines in step.
    h.always("states", fsm <= BURST)
    h.always("taker_states", taker <= WRITE)
    h.always("taker_works_while_taking", taking, taker != READY)
    h.always("request_while_taking", stimuli.request & waits & h.past(granted), taking)
    h.always("visits_counted", visits == k, taker != READY)
    h.always("visits_all", visits == n, taking & (taker == READY))
    h.always("visits_left", (visits < n) | (taker == FETCH) & (n == 0), taker != READY)
    h.always("taker_rests", k == 0, (fsm == IDLE) & (taker == READY))
    h.always("burst_has_steps", stimuli.n_steps != 0, (fsm == START) | bursting)
    h.reached("last_of_two", results.taken & (n == 2))
    h.reached("burst_over", bridge.irq & h.past(bursting, 3))
    h.reached("dropped", results.dropped & bursting)
    h.reached("none", results.taken & (n == 0))


def counts(h: Harness) -> None:
    """Each spike counts once; the winner has the largest count and the lowest number."""
    counter = h.block(SpikeCounter(N_COUNTED))
    spike, neuron = counter.spike, counter.neuron
    cleared = h.register("cleared", 1)
    h.next(cleared, ~counter.clear & (cleared | counter.cleared))
    h.assume("spikes_when_cleared", cleared & ~counter.clear, spike)
    h.assume("neuron_exists", neuron < N_COUNTED, spike)
    h.assume("cleared_when_quiet", ~h.past(spike) & ~h.past(spike, 2) & ~spike, counter.clear)
    h.assume("cleared_first", counter.clear, ~h.past(h.define("one", 1)))
    for clocks in range(1, SPACING):
        same = h.past(spike, clocks) & (h.past(neuron, clocks) == neuron)
        h.assume(f"spikes_apart_{clocks}", ~same, spike)
    right = [h.register(f"right_{k}", 8) for k in range(N_COUNTED)]
    for k, count in enumerate(right):
        h.next(count, Mux(counter.clear, 0, count + (spike & (neuron == k))))
    total = h.register("total", 8)
    h.next(total, Mux(counter.clear, 0, total + spike))
    quiet = h.define("quiet", ~h.past(spike) & ~h.past(spike, 2) & cleared & ~counter.clear)
    best = h.define("best", Array(right)[counter.winner[:2]])
    for k, count in enumerate(right):
        h.always(f"none_better_{k}", count <= counter.count, quiet)
        h.always(f"none_before_{k}", count < counter.count, quiet & (counter.winner > k))
    h.always("count_right", counter.count == best, quiet)
    h.always("count_in_window", counter.count <= total, cleared)
    bus = counter.bus
    asked = h.past(h.define("asked", bus.valid & ~bus.write & ~counter.hold), 2)
    looked_at = h.past(h.define("looked_at", bus.addr[2:4]), 2)
    h.assume("made_if_not_held", bus.request & ~counter.hold, bus.valid)
    h.assume("not_both", ~h.past(bus.valid), bus.valid)
    read = h.define("read", Array(right)[looked_at])
    stands = quiet & h.past(quiet) & h.past(quiet, 2) & ~spike & h.past(~spike)
    inside = h.past(h.define("inside", bus.addr[2:] < N_COUNTED), 2)
    h.always("host_reads_counts", (bus.r_data == read) & ~bus.error, stands & asked & inside)
    h.always("host_is_refused", bus.error, asked & ~inside)
    h.reached("wins_by_number", quiet & (counter.winner == 0) & (counter.count == 1) & (total == 2))
    h.reached("counts_two", quiet & (counter.count == 2))


def grants(h: Harness) -> None:
    """The scheduler's side: with a grant nobody computes, and it stays as long as it is needed."""
    scheduler = h.block(Scheduler())
    busy, waits = scheduler.populations_busy, scheduler.host_waits
    # Populations begin with a step, and once they have finished they rest.
    begins = h.past(scheduler.start)
    h.assume("busy_in_a_step", scheduler.in_step & (begins | h.past(busy)), busy)
    granted = h.define("granted", waits & scheduler.host_grant)
    h.always("grant_when_nobody_computes", ~busy, scheduler.host_grant)
    h.always("no_step_begins", ~scheduler.start & ~scheduler.commit, granted)
    h.always("grant_stays", scheduler.host_grant, waits & h.past(granted))
    stalled = h.probe("stalled", 1)
    h.always("stalled_in_a_step", scheduler.in_step & h.past(scheduler.in_step & ~busy), stalled)
    h.always("step_is_begun", scheduler.in_step, begins)
    h.reached("granted_in_a_step", granted & scheduler.in_step & h.past(granted))
    h.reached("granted_between", granted & scheduler.ready & h.past(scheduler.commit))


PROOFS = (
    Proof(
        name="bridge",
        says="a result waits until it is taken or given up; stimuli come only while granted, "
        "each entry once; a burst follows if there are steps, and its end sets the flag",
        state=control,
        depth=3,
        reach=24,
        broken="proof.dut/w:waiting %ci2 proof.dut/w:bridge_state %ci2 "
        "proof.dut.taker/w:taker_state %ci2",
    ),
    Proof(
        name="bridge_counts",
        says=f"with {N_COUNTED} neurons each spike counts once, no count exceeds the spikes of the "
        "window, and the winner is the first of the largest",
        state=counts,
        depth=COUNTER_CLOCKS,
        reach=COUNTER_CLOCKS,
        bounded=True,
        engine=MEMORY,
    ),
    Proof(
        name="bridge_grant",
        says="while stimuli are written no population computes and no time step begins",
        state=grants,
        depth=3,
        reach=10,
        broken="proof.dut/w:host_grant %ci2 proof.dut/w:start %ci2 proof.dut/w:commit %ci2",
    ),
)
