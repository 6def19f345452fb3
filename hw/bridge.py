"""The bridge: takes results of MARS to the populations, lets them run, counts their spikes."""

from amaranth.hdl import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib.data import Field, FlexibleLayout, StructLayout
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import ceil_log2

from hw.bus.host_bus import DATA_WIDTH, HostBusSignature
from hw.bus.registers import FULL_WORD, RegisterBank
from hw.mars.accelerator import ResultSignature
from hw.mars.layout import ADDR_WIDTH, next_nibble
from hw.memory import TwoPortMemory
from hw.npu.processor import INDEX_WIDTH, POPULATION_WIDTH, StimulusSignature
from model.bridge import (
    ENTRY_FIELDS,
    MAX_ENTRIES,
    MULT_WIDTH,
    READ_CLOCKS,
    STEPS_WIDTH,
    WORDS_PER_ENTRY,
    Kind,
)
from model.mars.config import ACC_WIDTH, NIBBLE, WORD_BITS
from model.npu.config import BIAS_MAX, BIAS_MIN, BIAS_WIDTH
from model.registers import register_map

ENTRY = FlexibleLayout(
    WORDS_PER_ENTRY * DATA_WIDTH,
    {
        name: Field((signed if name == "mult" else unsigned)(width), word * DATA_WIDTH + low)
        for word, fields in enumerate(ENTRY_FIELDS)
        for name, (low, width) in fields.items()
    },
)
PRODUCT_WIDTH = ACC_WIDTH + MULT_WIDTH
SETTINGS = StructLayout(
    {
        "n_entries": range(MAX_ENTRIES + 1),
        "kind": 2,
        "is_signed": 1,
        "n_steps": STEPS_WIDTH,
        "population": POPULATION_WIDTH,
    }
)


class ResultTaker(Component):
    """Reads the numbers of a result, entry by entry, and writes what becomes of them.

    ``y = (x * mult + (1 << shift >> 1)) >> shift``, saturated to a bias, or an event if it is
    positive; golden: `model.bridge.stimuli`.

    **Latency**: `model.bridge.take_clocks` from `go` until `done`. **Throughput**: one result at a
    time. **Reset**: idle; contents of the memory are not reset.

    Members
    -------
    bus : In(HostBusSignature())
        Entries; not used while taking.
    settings : In(SETTINGS)
    go : In(1)
        Begin in the next clock; not while taking.
    done : Out(1)
        Nothing is left to do behind this clock.
    read, is_logit, addr, data, logit : as in `hw.mars.accelerator.ResultSignature`
    write, is_axon, population, index, bias : as in `hw.npu.processor.StimulusSignature`
    """

    bus: In(HostBusSignature())
    settings: In(SETTINGS)
    go: In(1)
    done: Out(1)
    read: Out(1)
    is_logit: Out(1)
    addr: Out(ADDR_WIDTH)
    data: In(WORD_BITS)
    logit: In(ACC_WIDTH)
    write: Out(1)
    is_axon: Out(1)
    population: Out(POPULATION_WIDTH)
    index: Out(INDEX_WIDTH)
    bias: Out(signed(BIAS_WIDTH))

    def elaborate(self, platform):
        m = Module()
        settings = self.settings
        fetch = Signal()
        k = Signal(range(MAX_ENTRIES))
        entry = ENTRY(self._table(m, fetch, k))
        plane = Signal(range(ACC_WIDTH // NIBBLE))
        last_plane = Signal.like(plane)
        with m.Switch(settings.kind):
            for kind, n_reads in READ_CLOCKS.items():
                with m.Case(kind):
                    m.d.comb += last_plane.eq(n_reads - 1)
        number = self._number(m, entry)
        product = Signal(signed(PRODUCT_WIDTH))
        scaled = Signal(signed(PRODUCT_WIDTH + 1))
        last = Signal()
        m.d.comb += [
            # No number of entries, not even one that is too large, keeps MARS from ending.
            last.eq((k + 1 == settings.n_entries) | k.all()),
            self.is_logit.eq(settings.kind == Kind.LOGIT),
            self.addr.eq(entry.word + plane),
            self.population.eq(entry.population),
            self.index.eq(entry.index),
            self.is_axon.eq(entry.axon),
            self.bias.eq(
                Mux(scaled > BIAS_MAX, BIAS_MAX, Mux(scaled < BIAS_MIN, BIAS_MIN, scaled))
            ),
        ]
        with m.FSM(name="taker"):
            with m.State("IDLE"):
                m.d.comb += self.done.eq(1)
                m.d.sync += [k.eq(0), plane.eq(0)]
                with m.If(self.go):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += fetch.eq(1)
                m.next = "READ"
                with m.If(settings.n_entries == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
            with m.State("READ"):
                m.d.comb += self.read.eq(1)
                m.d.sync += plane.eq(plane + 1)
                with m.If(plane == last_plane):
                    m.d.sync += plane.eq(0)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.sync += product.eq(number * entry.mult)
                m.next = "SHIFT"
            with m.State("SHIFT"):
                half = Const(1) << entry.shift >> 1
                m.d.sync += scaled.eq((product + half) >> entry.shift)
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [self.write.eq(~entry.axon | (scaled > 0)), self.done.eq(last)]
                m.d.sync += k.eq(k + 1)
                m.next = "FETCH"
                with m.If(last):
                    m.next = "IDLE"
        return m

    def _table(self, m, fetch, k):
        """The entries: for the host two words of 32 bit each; returns the one fetched last."""
        bus = self.bus
        m.submodules.table = table = TwoPortMemory(
            depth=MAX_ENTRIES, width=ENTRY.size, granularity=DATA_WIDTH
        )
        half, number = bus.addr[2], bus.addr[3:]
        writes = bus.valid & bus.write & (bus.w_strb == FULL_WORD)
        asked, upper = Signal(), Signal()
        m.d.comb += [
            table.w_mask.eq(writes << half),
            table.w_addr.eq(number),
            table.w_data.eq(bus.w_data.replicate(WORDS_PER_ENTRY)),
            table.r_enable.eq(fetch | (bus.valid & ~bus.write)),
            table.r_addr.eq(Mux(fetch, k, number)),
        ]
        m.d.sync += asked.eq(bus.valid)
        with m.If(bus.valid):
            m.d.sync += [bus.error.eq(bus.write & ~writes), upper.eq(half)]
        with m.If(asked):
            m.d.sync += bus.r_data.eq(table.r_data.word_select(upper, DATA_WIDTH))
        return table.r_data

    def _number(self, m, entry):
        """The number that the entry names, once all of its words have come."""
        nibbles = Signal(ACC_WIDTH)
        arrives = Signal()
        m.d.sync += arrives.eq(self.read)
        with m.If(arrives):
            m.d.sync += nibbles.eq(
                Mux(self.is_logit, self.logit, next_nibble(nibbles, self.data, entry.lane))
            )
        number = Signal(signed(ACC_WIDTH))
        m.d.comb += number.eq(nibbles)
        for kind, n_reads in READ_CLOCKS.items():
            # Few nibbles stand at the upper end.
            if kind in (Kind.NIBBLE, Kind.BYTE):
                bits = nibbles[-n_reads * NIBBLE :]
                with m.If(self.settings.kind == kind):
                    m.d.comb += number.eq(Mux(self.settings.is_signed, bits.as_signed(), bits))
        return number


class SpikeCounter(Component):
    """Counts the spikes of each neuron of a population, and knows the largest count.

    Golden: `model.bridge.decide`.

    **Latency**: a spike is counted 3 clocks after `spike`; clearing takes a clock per neuron.
    **Throughput**: a spike per clock, one neuron's at most every third clock, as the spike stream
    has it. **Reset**: nothing is cleared; contents of the memory are not reset.

    Parameters
    ----------
    n_neurons : int

    Members
    -------
    bus : In(HostBusSignature())
        Counts.
    hold : Out(1)
        The request on the bus waits for a spike.
    clear : In(1)
        Forget all counts, from the next clock on; spikes may come when `cleared` was set.
    cleared : Out(1)
        All counts are 0, or are after this clock.
    spike, neuron : In
    winner, count : Out
        The neuron with the largest count, of several the lowest, and its count.
    """

    def __init__(self, n_neurons):
        self.n_neurons = n_neurons
        super().__init__(
            {
                "bus": In(HostBusSignature()),
                "hold": Out(1),
                "clear": In(1),
                "cleared": Out(1),
                "spike": In(1),
                "neuron": In(INDEX_WIDTH),
                "winner": Out(INDEX_WIDTH),
                "count": Out(STEPS_WIDTH),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        index_width = ceil_log2(self.n_neurons)
        m.submodules.counts = counts = TwoPortMemory(
            depth=self.n_neurons, width=STEPS_WIDTH, granularity=STEPS_WIDTH
        )
        clearing, cleared_neuron = Signal(), Signal(index_width)
        last = cleared_neuron == self.n_neurons - 1
        m.d.comb += self.cleared.eq(~clearing | last)
        with m.If(self.clear):
            m.d.sync += [clearing.eq(1), cleared_neuron.eq(0), self.winner.eq(0), self.count.eq(0)]
        with m.Elif(clearing):
            m.d.sync += [clearing.eq(~last), cleared_neuron.eq(cleared_neuron + 1)]

        # Read, then write one more: the neuron's next spike is of a later time step.
        read, neuron_1 = Signal(), Signal(index_width)
        write, neuron_2 = Signal(), Signal(index_width)
        more = Signal(STEPS_WIDTH)
        m.d.sync += [
            read.eq(self.spike),
            neuron_1.eq(self.neuron),
            write.eq(read),
            neuron_2.eq(neuron_1),
        ]
        number = bus.addr[2:]
        reads = bus.valid & ~bus.write & (number < self.n_neurons)
        m.d.comb += [
            more.eq(counts.r_data + 1),
            counts.r_enable.eq(read | reads),
            counts.r_addr.eq(Mux(read, neuron_1, number)),
            counts.w_mask.eq(clearing | write),
            counts.w_addr.eq(Mux(clearing, cleared_neuron, neuron_2)),
            counts.w_data.eq(Mux(clearing, 0, more)),
            self.hold.eq(bus.request & read),
        ]
        wins = (more > self.count) | ((more == self.count) & (neuron_2 < self.winner))
        with m.If(write & wins):
            m.d.sync += [self.winner.eq(neuron_2), self.count.eq(more)]

        asked = Signal()
        m.d.sync += asked.eq(reads)
        with m.If(bus.valid):
            m.d.sync += bus.error.eq(~reads)
        with m.If(asked):
            m.d.sync += bus.r_data.eq(counts.r_data)
        return m


class Bridge(Component):
    """Entry by entry a number becomes a stimulus; then a burst of time steps, whose spikes count.

    For each entry ``y = (x * mult + (1 << shift >> 1)) >> shift``, saturated to a bias, or an event
    if it is positive; golden: `model.bridge`. Meanwhile no time step begins. The populations then
    run by themselves; counts and winner follow their spikes.

    A result waits, and its frame counts as running, until populations and bridge are free.

    **Latency**: `model.bridge.take_clocks` from the clock in which the bridge begins until the
    result is taken; a burst begins 2 clocks later, and `STATUS.done` rises 2 clocks after its end.
    **Throughput**: one result at a time. **Reset**: idle, disabled; contents of memories are not
    reset.

    Parameters
    ----------
    chip : ChipConfig
        With NPU and MARS.

    Attributes
    ----------
    regions : list of (int, int)
        First byte address and size of what each of `targets` answers.

    Members
    -------
    targets : Array of In(HostBusSignature())
        Registers, entries, counts (model/bridge.rdl).
    hold : Out(1)
        The request at one of the targets waits.
    irq : Out(1)
        A result has been taken and its burst has ended, if enabled.
    results : Out(ResultSignature())
    stimuli : Out(StimulusSignature())
    """

    def __init__(self, chip):
        self.n_neurons = chip.npu.n_neurons
        names = register_map(chip)
        self.registers = [r for r in names.registers.values() if r.name.startswith("bridge.")]
        first, last = self.registers[0].address, self.registers[-1].address
        self.regions = [(first, last + 4 - first)]
        for memory in ("bridge_entries", "bridge_counts"):
            region = names.memories[memory]
            self.regions.append((region.address, 4 * region.n_words))
        super().__init__(
            {
                "targets": In(HostBusSignature()).array(len(self.regions)),
                "hold": Out(1),
                "irq": Out(1),
                "results": Out(ResultSignature()),
                "stimuli": Out(StimulusSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        results, stimuli = self.results, self.stimuli
        m.submodules.registers = bank = RegisterBank(self.registers, self.registers[0].address)
        registers, entries, counts = self.targets
        connect(m, flipped(registers), bank.bus)

        settings = Signal(SETTINGS)
        waiting, taking, bursting = Signal(), Signal(), Signal()
        begin, taken, drop = Signal(), Signal(), Signal()
        with m.If(results.ended & bank.bridge_CONTROL_enable):
            m.d.sync += waiting.eq(1)
        with m.Elif(taken | drop):
            m.d.sync += waiting.eq(0)
        with m.If(begin):
            m.d.sync += [
                settings.n_entries.eq(bank.bridge_RESULT_entries),
                settings.kind.eq(bank.bridge_RESULT_kind),
                settings.is_signed.eq(bank.bridge_RESULT_is_signed),
                settings.n_steps.eq(bank.bridge_BURST_steps),
                settings.population.eq(bank.bridge_BURST_population),
            ]
        bursts = Signal()
        m.d.comb += [
            bursts.eq(settings.n_steps != 0),
            results.takes.eq(bank.bridge_CONTROL_enable),
            results.waits.eq(waiting),
            results.taken.eq(taken),
            results.dropped.eq(drop),
            drop.eq(waiting & results.abort & ~taking),
        ]

        m.submodules.taker = taker = ResultTaker()
        m.submodules.counter = counter = SpikeCounter(self.n_neurons)
        connect(m, flipped(entries), taker.bus)
        connect(m, flipped(counts), counter.bus)
        m.d.comb += [
            taker.settings.eq(settings),
            taker.go.eq(begin),
            counter.clear.eq(begin & (bank.bridge_BURST_steps != 0)),
            counter.spike.eq(
                bursting & stimuli.spike & (stimuli.spike_population == settings.population)
            ),
            counter.neuron.eq(stimuli.spike_index),
            self.hold.eq((entries.request & taking) | counter.hold),
        ]
        for name in ("read", "is_logit", "addr"):
            m.d.comb += getattr(results, name).eq(getattr(taker, name))
        for name in ("data", "logit"):
            m.d.comb += getattr(taker, name).eq(getattr(results, name))
        for name in ("write", "is_axon", "population", "index", "bias"):
            m.d.comb += getattr(stimuli, name).eq(getattr(taker, name))
        done = Signal()
        with m.FSM(name="bridge") as fsm:
            with m.State("IDLE"), m.If(waiting & ~drop):
                # A burst needs populations that nobody else runs; stimuli alone need a boundary.
                may = stimuli.idle | (bank.bridge_BURST_steps == 0)
                m.d.comb += [
                    stimuli.request.eq(may),
                    begin.eq(stimuli.request & stimuli.grant),
                ]
                with m.If(begin):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += [stimuli.request.eq(1), stimuli.reserve.eq(bursts), taking.eq(1)]
                with m.If(taker.done & counter.cleared):
                    m.d.comb += taken.eq(1)
                    m.next = "START"
                    with m.If(~bursts):
                        m.next = "SETTLE"
            with m.State("START"):
                m.d.comb += [stimuli.reserve.eq(1), stimuli.run.eq(1)]
                m.next = "BURST"
            with m.State("BURST"):
                m.d.comb += [stimuli.reserve.eq(1), bursting.eq(1)]
                with m.If(stimuli.done):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                # The last spike is on its way through the counters.
                m.d.comb += [stimuli.reserve.eq(bursts), done.eq(1)]
                m.next = "IDLE"
        # A result that waits begins at once, and the host still finds what the one before led to.
        winner, count = Signal.like(counter.winner), Signal.like(counter.count)
        with m.If(done & bursts):
            m.d.sync += [winner.eq(counter.winner), count.eq(counter.count)]
        clocks = Signal(32)
        with m.If(begin):
            m.d.sync += clocks.eq(1)
        with m.Elif(~fsm.ongoing("IDLE")):
            m.d.sync += clocks.eq(clocks + 1)
        m.d.comb += [
            stimuli.n_steps.eq(settings.n_steps),
            bank.bridge_STATUS_running_now.eq(waiting | ~fsm.ongoing("IDLE")),
            bank.bridge_STATUS_done_set.eq(done),
            bank.bridge_WINNER_neuron_now.eq(winner),
            bank.bridge_WINNER_count_now.eq(count),
            bank.bridge_CLOCKS_value_now.eq(clocks),
            self.irq.eq(bank.bridge_STATUS_done & bank.bridge_CONTROL_irq_enable),
        ]
        return m
