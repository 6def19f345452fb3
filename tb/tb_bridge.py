"""The bridge alone: numbers to stimuli, waiting, bursts, counts, registers."""

import itertools
import random
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import Timer

from model.bridge import (
    BEGIN,
    ENTRY_FIELDS,
    MAX_ENTRIES,
    MULT_MAX,
    MULT_MIN,
    SETTLE,
    SHIFT_MAX,
    Kind,
    saturated,
    scaled,
    take_clocks,
)
from model.config import CHIPS
from model.mars.config import KERNELS, NIBBLE
from model.registers import register_map
from tb.bench import Block, check, signed

CHIP = CHIPS["kenyon-tiny"]
N_NEURONS = CHIP.npu.n_neurons
MAP = register_map(CHIP)
REGISTERS, ENTRIES, COUNTS = range(3)
BASES = (MAP["bridge.CONTROL"], MAP["bridge_entries"], MAP["bridge_counts"])
OUTPUTS = (
    "hold",
    "irq",
    *(f"results_{name}" for name in ("takes", "waits", "taken", "dropped", "read")),
    *(f"results_{name}" for name in ("is_logit", "addr")),
    *(f"stimuli_{name}" for name in ("request", "write", "is_axon", "population", "index")),
    *(f"stimuli_{name}" for name in ("bias", "reserve", "run", "n_steps")),
    *(f"targets_{k}_{name}" for k in range(len(BASES)) for name in ("r_data", "error")),
)
ENABLE, IRQ_ENABLE = 1, 2
RUNNING, DONE = 1, 2
BITS = {Kind.NIBBLE: 4, Kind.BYTE: 8, Kind.SUM: 32, Kind.LOGIT: 32}
SPACING = 3
"""Clocks from a neuron's spike to its next one, at least."""
BOUNDARIES = (-2050, -2049, -2048, -2047, -1, 0, 1, 2046, 2047, 2048, 2049)
"""Results that saturation and axons tell apart."""


@dataclass
class Entry:
    """An entry and the number that it will find."""

    value: int
    mult: int
    shift: int
    axon: bool
    population: int
    index: int
    word: int = 0
    lane: int = 0

    @property
    def words(self) -> list[int]:
        """As the host writes it."""
        return [
            sum((int(getattr(self, n)) & ((1 << w) - 1)) << low for n, (low, w) in fields.items())
            for fields in ENTRY_FIELDS
        ]


@dataclass
class Job:
    """What the host says, and what is in the memories."""

    kind: Kind
    is_signed: bool
    entries: list[Entry]
    steps: int = 0
    population: int = 0
    memory: dict[int, int] = field(default_factory=dict)

    def place(self, rng: random.Random) -> None:
        """Put the numbers somewhere, several of them into the same words."""
        n_words = BITS[self.kind] // NIBBLE
        slots = [(k, lane) for k in range(len(self.entries)) for lane in range(KERNELS)]
        for entry, (slot, lane) in zip(
            self.entries, rng.sample(slots, len(self.entries)), strict=True
        ):
            if self.kind is Kind.LOGIT:
                entry.word, entry.lane = rng.randrange(256), rng.randrange(KERNELS)
                while entry.word in self.memory:
                    entry.word = rng.randrange(256)
                self.memory[entry.word] = entry.value & 0xFFFF_FFFF
                continue
            entry.word, entry.lane = 100 + slot * n_words, lane
            for k in range(n_words):
                nibble = entry.value >> NIBBLE * k & 0xF
                word = self.memory.setdefault(entry.word + k, rng.getrandbits(64))
                mask = 0xF << NIBBLE * lane
                self.memory[entry.word + k] = word & ~mask | nibble << NIBBLE * lane

    @property
    def writes(self) -> list[tuple[int, int, int, int]]:
        """What must come of it: (is_axon, population, index, bias), in order."""
        result = []
        for e in self.entries:
            y = scaled(e.value, e.mult, e.shift)
            if not e.axon or y > 0:
                result.append((int(e.axon), e.population, e.index, 0 if e.axon else saturated(y)))
        return result


class World:
    """MARS and populations around the bridge, clock by clock."""

    def __init__(self, dut) -> None:
        self.block = Block(dut, "bridge", OUTPUTS)
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.memory: dict[int, int] = {}
        self.clock = 0
        self.grant = 1
        self.grants = 1.0
        """Probability that a request is granted in a clock."""
        self.seen: list[dict[str, int]] = []
        self.writes: list[tuple[int, tuple[int, int, int, int]]] = []

    async def start(self) -> None:
        """Everything idle."""
        names = [f"targets_{k}_{name}" for k in range(3) for name in ("request", "valid")]
        names += [f"results_{name}" for name in ("ended", "abort", "data", "logit")]
        names += [f"stimuli_{n}" for n in ("done", "spike", "spike_population", "spike_index")]
        await self.block.start(**dict.fromkeys(names, 0), stimuli_idle=1, stimuli_grant=1)

    async def tick(self, **inputs: int) -> dict[str, int]:
        """One clock with these inputs; the next one has them no more, if they are pulses."""
        self.block.set(**inputs)
        out = await self.block.tick()
        self.clock += 1
        pulses = ("results_ended", "results_abort", "stimuli_done", "stimuli_spike")
        self.block.set(**dict.fromkeys(pulses, 0))
        granted = out["stimuli_request"] and self.grant
        if out["stimuli_write"]:
            assert granted, "a write without a grant"
            assert out["results_waits"], "a write behind the result"
            bias = 0 if out["stimuli_is_axon"] else signed(out["stimuli_bias"], 12)
            names = ("is_axon", "population", "index")
            target = tuple(out[f"stimuli_{name}"] for name in names)
            self.writes.append((self.clock, (*target, bias)))
        self._answer(out)
        self.grant = int(granted or self.rng.random() < self.grants)
        self.block.set(stimuli_grant=self.grant)
        return out

    def _answer(self, out: dict[str, int]) -> None:
        """Data of the clock behind a read; anything in other clocks."""
        data, logit = self.rng.getrandbits(64), self.rng.getrandbits(32)
        if out["results_read"]:
            assert out["results_waits"], "a read without a result"
            value = self.memory.get(out["results_addr"], 0)
            data, logit = (data, value) if out["results_is_logit"] else (value, logit)
        self.block.set(results_data=data, results_logit=logit)

    async def access(self, target: int, address: int, data: int | None = None, strobe=15):
        """A read, or a write if there are data, as the AXI4-Lite bridge makes them."""
        name = f"targets_{target}"
        about = {"addr": address - BASES[target], "write": data is not None, "w_strb": strobe}
        await self.tick(
            **{f"{name}_{k}": v for k, v in about.items()}, **{f"{name}_w_data": data or 0}
        )
        self.block.set(**{f"{name}_request": 1})
        await Timer(1, "ns")
        while self.block.port("hold").value:
            await self.tick()
            await Timer(1, "ns")
        await self.tick(**{f"{name}_valid": 1})
        self.block.set(**{f"{name}_request": 0, f"{name}_valid": 0})
        await self.tick()
        out = await self.tick()
        return bool(out[f"{name}_error"]), out[f"{name}_r_data"]

    async def set(self, name: str, value: int) -> None:
        """Write a register."""
        error, _ = await self.access(REGISTERS, MAP[f"bridge.{name}"], value)
        assert not error, name

    async def get(self, name: str) -> int:
        """Read a register."""
        error, value = await self.access(REGISTERS, MAP[f"bridge.{name}"])
        assert not error, name
        return value

    async def counts(self) -> list[int]:
        """All counts."""
        addresses = [BASES[COUNTS] + 4 * k for k in range(N_NEURONS)]
        return [(await self.access(COUNTS, address))[1] for address in addresses]

    async def prepare(self, job: Job) -> None:
        """Write all that a job needs."""
        self.memory = job.memory
        for k, entry in enumerate(job.entries):
            for half, word in enumerate(entry.words):
                error, _ = await self.access(ENTRIES, BASES[ENTRIES] + 8 * k + 4 * half, word)
                assert not error
        await self.set("RESULT", len(job.entries) | job.kind << 16 | job.is_signed << 18)
        await self.set("BURST", job.steps | job.population << 16)
        await self.set("CONTROL", ENABLE | IRQ_ENABLE)
        await self.set("STATUS", DONE)
        self.writes = []

    async def until(self, name: str, most: int = 20_000) -> int:
        """Clocks up to the one in which an output is set."""
        for _ in range(most):
            if (await self.tick())[name]:
                return self.clock
        raise AssertionError(f"{name} must be set within {most} clocks")

    async def burst(self, job: Job, spikes: int) -> tuple[list[int], int]:
        """The populations' side of a burst; returns what must be counted, and its last clock."""
        counts, recent = [0] * N_NEURONS, {}
        for _ in range(spikes):
            for _ in range(self.rng.choice((0, 0, 0, 1, 4))):
                check("reserved", 1, (await self.tick())["stimuli_reserve"])
            population, neuron = self.rng.randrange(2), self.rng.randrange(N_NEURONS)
            if self.rng.random() < 0.6:
                population, neuron = job.population, self.rng.choice((0, 3, N_NEURONS - 1))
            if self.clock - recent.get(neuron, -SPACING) < SPACING:
                continue
            recent[neuron] = self.clock
            where = {"stimuli_spike_population": population, "stimuli_spike_index": neuron}
            await self.tick(stimuli_spike=1, **where)
            counts[neuron] += population == job.population
        await self.tick()
        out = await self.tick(stimuli_done=1)
        check("reserved", 1, out["stimuli_reserve"])
        return counts, self.clock


def winner(counts: list[int]) -> int:
    """WINNER for these counts."""
    best = max(counts)
    return counts.index(best) | best << 16


def random_entry(rng: random.Random, kind: Kind, is_signed: bool) -> Entry:
    """Numbers over their whole range; products near the ends of a bias, or anywhere."""
    bits = BITS[kind]
    low = -(1 << bits - 1) if is_signed or bits == 32 else 0
    high = low + (1 << bits) - 1
    value = rng.choice((low, high, 0, rng.randint(low, high), rng.randint(-3, 3)))
    value = min(max(value, low), high)
    mult, shift = rng.randint(MULT_MIN, MULT_MAX), rng.randrange(SHIFT_MAX + 1)
    if rng.random() < 0.2:
        mult = rng.choice((MULT_MIN, -1, 0, 1, MULT_MAX))
    if rng.random() < 0.5 and value:
        # So that the result is one that saturation or sign decide about, or beside it.
        shift = rng.randrange(12)
        target = (rng.choice(BOUNDARIES) << shift) + rng.choice((0, 1, -1, 1 << shift >> 1))
        mult = min(max(target // value, MULT_MIN), MULT_MAX)
    axon, population = rng.random() < 0.3, rng.randrange(16)
    return Entry(value, mult, shift, axon, population, rng.randrange(1 << 12))


def random_job(rng: random.Random, n: int, kind: Kind, steps: int = 0) -> Job:
    """Entries of one kind."""
    is_signed = rng.random() < 0.5
    entries = [random_entry(rng, kind, is_signed) for _ in range(n)]
    job = Job(kind, is_signed, entries, steps, rng.randrange(2))
    job.place(rng)
    return job


async def begun(dut) -> World:
    """The bridge, reset."""
    world = World(dut)
    await world.start()
    return world


@cocotb.test()
async def numbers(dut) -> None:
    """Every kind of number becomes what the model says, in the clocks that it says."""
    world = await begun(dut)
    for kind in Kind:
        for n in (1, 2, 40, 3, MAX_ENTRIES if kind is Kind.NIBBLE else 30):
            job = random_job(world.rng, n, kind)
            await world.prepare(job)
            check("takes", 1, (await world.tick(results_ended=1))["results_takes"])
            begin = world.clock + 1
            end = await world.until("results_taken")
            where = f"{n} numbers, {kind.name}"
            check(f"{where}: clocks", begin + take_clocks(kind, n, 0, N_NEURONS), end)
            check(where, job.writes, [write for _, write in world.writes])
            check(f"{where}: irq", end + 2, await world.until("irq"))
            clocks = BEGIN + take_clocks(kind, n, 0, N_NEURONS) + SETTLE
            check(f"{where}: CLOCKS", clocks, await world.get("CLOCKS"))
            check(f"{where}: STATUS", DONE, await world.get("STATUS"))


@cocotb.test()
async def boundaries(dut) -> None:
    """Results beside the ends of a bias, and beside zero, of every rounding."""
    world = await begun(dut)
    # The largest products, of which some have one bit more than the others.
    ends, mults = (-(1 << 31), (1 << 31) - 1), (MULT_MIN, MULT_MAX)
    entries = [
        Entry(value, mult, shift, False, 1, 0)
        for value, mult, shift in itertools.product(ends, mults, (0, 1, SHIFT_MAX))
    ]
    for y in BOUNDARIES:
        for shift in (0, 1, 4, SHIFT_MAX):
            base, half = y << shift, 1 << shift >> 1
            for value in {base - half - 1, base - half, base - half + 1, base, base + half - 1}:
                if -(1 << 31) <= value < 1 << 31:
                    axon = world.rng.random() < 0.5
                    entries.append(Entry(value, 1, shift, axon, 1, len(entries) % 16))
    for first in range(0, len(entries), MAX_ENTRIES):
        job = Job(Kind.SUM, False, entries[first:][:MAX_ENTRIES])
        job.place(world.rng)
        await world.prepare(job)
        await world.tick(results_ended=1)
        await world.until("results_taken")
        check("writes", job.writes, [write for _, write in world.writes])


@cocotb.test()
async def bursts(dut) -> None:
    """Counts, the winner, and the clocks before and behind the burst."""
    world = await begun(dut)
    for k in range(24):
        n, kind = world.rng.choice((1, 2, 5)), world.rng.choice(list(Kind))
        job = random_job(world.rng, n, kind, steps=world.rng.randint(1, 65535))
        await world.prepare(job)
        await world.tick(results_ended=1)
        begin = world.clock + 1
        take = take_clocks(kind, n, job.steps, N_NEURONS)
        check("taken", begin + take, await world.until("results_taken"))
        out = await world.tick()
        check(
            "run",
            (1, job.steps, 1),
            tuple(out[f"stimuli_{x}"] for x in ("run", "n_steps", "reserve")),
        )
        check("waits", 0, out["results_waits"])
        counts, last = await world.burst(job, spikes=world.rng.choice((0, 1, 2, 60)))
        check("irq", last + 2, await world.until("irq"))
        check("CLOCKS", last + 2 - begin, await world.get("CLOCKS"))
        check(f"burst {k}: WINNER", winner(counts), await world.get("WINNER"))
        check(f"burst {k}: counts", counts, await world.counts())
        check("writes", job.writes, [write for _, write in world.writes])


@cocotb.test()
async def ties(dut) -> None:
    """Whoever reaches the largest count first, of several the lowest wins."""
    world = await begun(dut)
    for order in ((5, 2), (2, 5), (0, 15), (15, 0), (3, 3), (7, 4, 4, 7), (9,)):
        job = random_job(world.rng, 1, Kind.NIBBLE, steps=3)
        await world.prepare(job)
        await world.tick(results_ended=1)
        await world.until("stimuli_run")
        for neuron in order:
            where = {"stimuli_spike_population": job.population, "stimuli_spike_index": neuron}
            await world.tick(stimuli_spike=1, **where)
            await world.tick()
            await world.tick()
        await world.tick(stimuli_done=1)
        await world.until("irq")
        counts = [order.count(neuron) for neuron in range(N_NEURONS)]
        check(f"{order}: WINNER", winner(counts), await world.get("WINNER"))


@cocotb.test()
async def waits(dut) -> None:
    """A result waits for a run of the host, for a boundary between steps, for a burst."""
    world = await begun(dut)
    world.grants = 0.1
    for _ in range(12):
        job = random_job(world.rng, 3, Kind.BYTE, steps=9)
        await world.prepare(job)
        await world.tick(results_ended=1, stimuli_idle=0)
        for _ in range(world.rng.randrange(20)):
            out = await world.tick()
            check("request while the host's run goes on", 0, out["stimuli_request"])
            check("waits", 1, out["results_waits"])
        world.block.set(stimuli_idle=1)
        await world.until("stimuli_run")
        check("writes", job.writes, [write for _, write in world.writes])
        # The next result comes while the burst is under way, and waits to its end.
        await world.tick(results_ended=1)
        for _ in range(world.rng.randrange(20)):
            out = await world.tick()
            check("waits", (1, 0), (out["results_waits"], out["stimuli_request"]))
        check("STATUS", RUNNING, await world.get("STATUS"))
        world.writes = []
        await world.tick(stimuli_done=1)
        await world.until("results_taken")
        check("writes", job.writes, [write for _, write in world.writes])
        await world.until("stimuli_run")
        await world.tick(stimuli_done=1)
        await world.until("irq")
    # Without a burst a run of the host need not end.
    job = random_job(world.rng, 3, Kind.BYTE)
    await world.prepare(job)
    await world.tick(results_ended=1, stimuli_idle=0)
    await world.until("results_taken")
    check("writes", job.writes, [write for _, write in world.writes])


@cocotb.test()
async def aborts(dut) -> None:
    """A result that waits is given up; one that is being taken is not."""
    world = await begun(dut)
    job = random_job(world.rng, 2, Kind.NIBBLE, steps=4)
    await world.prepare(job)
    await world.tick(results_ended=1, stimuli_idle=0)
    await world.tick()
    out = await world.tick(results_abort=1)
    check("dropped", 1, out["results_dropped"])
    world.block.set(stimuli_idle=1)
    for _ in range(40):
        out = await world.tick()
        check("nothing happens", (0, 0), (out["results_waits"], out["stimuli_request"]))
    check("STATUS", 0, await world.get("STATUS"))
    # In the clock in which the bridge could begin.
    await world.tick(results_ended=1)
    out = await world.tick(results_abort=1)
    check("dropped", (1, 0), (out["results_dropped"], out["stimuli_request"]))
    await world.tick(results_ended=1)
    await world.tick()
    while not (out := await world.tick(results_abort=1))["results_taken"]:
        check("dropped", 0, out["results_dropped"])
    check("writes", job.writes, [write for _, write in world.writes])
    # While a burst is under way a result behind it can be given up, too.
    await world.until("stimuli_run")
    await world.tick(results_ended=1)
    await world.tick()
    check("dropped", 1, (await world.tick(results_abort=1))["results_dropped"])
    check("waits", 0, (await world.tick())["results_waits"])
    await world.tick(stimuli_done=1)
    await world.until("irq")


@cocotb.test()
async def disabled(dut) -> None:
    """Nothing happens without CONTROL.enable; it counts when a frame ends."""
    world = await begun(dut)
    job = random_job(world.rng, 2, Kind.NIBBLE)
    await world.prepare(job)
    await world.set("CONTROL", 0)
    check("takes", 0, (await world.tick(results_ended=1))["results_takes"])
    for _ in range(60):
        out = await world.tick()
        names = ("results_waits", "results_read", "stimuli_request", "stimuli_reserve", "irq")
        check("nothing happens", [0] * len(names), [out[name] for name in names])
    await world.set("CONTROL", ENABLE)
    await world.tick(results_ended=1)
    await world.set("CONTROL", 0)
    for _ in range(60):
        check("irq", 0, (await world.tick())["irq"])
    check("writes", job.writes, [write for _, write in world.writes])
    check("STATUS", DONE, await world.get("STATUS"))
    await world.set("CONTROL", IRQ_ENABLE)
    check("irq", 1, (await world.tick())["irq"])


@cocotb.test()
async def host(dut) -> None:
    """Entries are read back, and not while a result is taken; counts at any time."""
    world = await begun(dut)
    rng = world.rng
    words = {k: rng.getrandbits(32) for k in rng.sample(range(2 * MAX_ENTRIES), 60)}
    for k, word in words.items():
        assert not (await world.access(ENTRIES, BASES[ENTRIES] + 4 * k, word))[0]
    for k, word in words.items():
        check(f"word {k}", (False, word), await world.access(ENTRIES, BASES[ENTRIES] + 4 * k))
    k, word = next(iter(words.items()))
    error, _ = await world.access(ENTRIES, BASES[ENTRIES] + 4 * k, 0, strobe=7)
    assert error, "not a full word"
    check("it stays", (False, word), await world.access(ENTRIES, BASES[ENTRIES] + 4 * k))
    assert (await world.access(COUNTS, BASES[COUNTS], 5))[0], "counts are read only"
    assert (await world.access(COUNTS, BASES[COUNTS] + 4 * N_NEURONS))[0], "behind the last one"

    job = random_job(rng, 20, Kind.SUM, steps=5)
    await world.prepare(job)
    await world.tick(results_ended=1)
    await world.tick()
    last = job.entries[-1].words[0]
    address = BASES[ENTRIES] + 8 * (len(job.entries) - 1)
    check("an entry is read behind", (False, last), await world.access(ENTRIES, address))
    check("all were written", job.writes, [write for _, write in world.writes])
    check("STATUS", RUNNING, await world.get("STATUS"))
    counts = [0] * N_NEURONS
    for _ in range(60):
        neuron = rng.randrange(N_NEURONS)
        where = {"stimuli_spike_population": job.population, "stimuli_spike_index": neuron}
        await world.tick(stimuli_spike=1, **where)
        counts[neuron] += 1
        for _ in range(rng.randrange(1, 4)):
            await world.tick()
        looked_at = rng.randrange(N_NEURONS)
        answer = await world.access(COUNTS, BASES[COUNTS] + 4 * looked_at)
        check("count so far", (False, counts[looked_at]), answer)


@cocotb.test()
async def host_between_spikes(dut) -> None:
    """Whoever reads counts while spikes come one behind the other disturbs none."""
    world = await begun(dut)
    job = random_job(world.rng, 1, Kind.NIBBLE, steps=5)
    await world.prepare(job)
    await world.tick(results_ended=1)
    await world.until("stimuli_run")
    counts = [0] * N_NEURONS
    name = f"targets_{COUNTS}"
    silent, n_held = 9, 0
    world.block.set(**{f"{name}_addr": 4 * silent, f"{name}_write": 0})
    for k in range(40):
        # The request comes in each clock around the spikes.
        answered = None
        for clock in range(12):
            spike = clock < 4
            where = {"stimuli_spike_population": job.population, "stimuli_spike_index": clock % 16}
            counts[clock % 16] += spike
            asks = clock == k % 10
            world.block.set(**{f"{name}_request": asks, "stimuli_spike": spike}, **where)
            await Timer(1, "ns")
            held = bool(world.block.port("hold").value)
            check("held only if asked", False, held and not asks)
            n_held += held
            world.block.set(**{f"{name}_valid": asks and not held})
            out = await world.tick()
            world.block.set(**{f"{name}_request": 0, f"{name}_valid": 0})
            if asks and not held:
                answered = clock + 2
            if clock == answered:
                check("count of a silent neuron", 0, out[f"{name}_r_data"])
    check("requests met spikes", 16, n_held)
    await world.tick(stimuli_done=1)
    await world.until("irq")
    check("counts", counts, await world.counts())
