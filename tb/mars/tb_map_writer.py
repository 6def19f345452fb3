"""The map writer: every word in its place and in the model's clock, whatever the memory does.

A store is driven clock by clock: clock 0 is the one with `start`. The memory holds what was
written; the rules of AXI4 are checked on the way.
"""

import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiRamWrite, AxiWriteBus

from model.mars.config import CONFIGS, WORD_BYTES
from model.mars.memory import ANSWERED_AFTER, FIRST_STORED, LineSource
from tb.bench import Block, check, pauses
from tb.blocks import MAP_WRITERS

BURST_BYTES = 512
PAGE = 4096
OKAY, SLVERR, DECERR = 0, 2, 3
LIMIT = 20_000
QUIET = 12
"""Clocks after the end in which nothing may happen."""
BEGINS = FIRST_STORED - 1
"""From `start` to the first word in an accelerator: the walker takes the pass the clock before."""


@dataclass(frozen=True)
class Store:
    """Words behind an address, and which of them are kept."""

    address: int
    words: tuple[int, ...]
    kept: tuple[bool, ...]

    def __str__(self) -> str:
        return f"{len(self.words)} words at {self.address:#x}"

    @property
    def end(self) -> int:
        """The address behind the last word."""
        return self.address + WORD_BYTES * len(self.words)

    @property
    def contents(self) -> dict[int, int]:
        """What is in memory afterwards, byte by byte."""
        return {
            self.address + WORD_BYTES * k + byte: word >> 8 * byte & 0xFF
            for k, (word, is_kept) in enumerate(zip(self.words, self.kept, strict=True))
            for byte in range(WORD_BYTES)
            if is_kept
        }

    def bursts(self, beat_bytes: int) -> list[tuple[int, int]]:
        """Address and beats of all bursts: up to the next multiple of 512 bytes."""
        address = self.address // beat_bytes * beat_bytes
        bursts = []
        while address < self.end:
            until = min(self.end, (address // BURST_BYTES + 1) * BURST_BYTES)
            bursts.append((address, -(-(until - address) // beat_bytes)))
            address = until
        return bursts


def random_store(rng: random.Random, address: int, n_words: int, kept: float = 1.0) -> Store:
    """Random words."""
    words = tuple(rng.getrandbits(8 * WORD_BYTES) for _ in range(n_words))
    return Store(address, words, tuple(rng.random() < kept for _ in words))


@dataclass
class Record:
    """What happened: clocks of requests, beats and answers, and what was written."""

    offers: list[int] = field(default_factory=list)
    beats: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    memory: dict[int, int] = field(default_factory=dict)
    n_taken: int = 0
    first_bad: int | None = None


class Slave:
    """A memory: `latency` clocks from a burst's last beat to its answer, random pauses, errors."""

    def __init__(
        self,
        *,
        latency: int = 1,
        pause: float = 0.0,
        bad: frozenset[int] = frozenset(),
        rng: random.Random | None = None,
    ) -> None:
        self.latency = latency
        self.pause = pause
        self.bad = bad
        self.rng = rng or random.Random(0)
        self.requests: deque[tuple[int, int]] = deque()
        self.n_requests = 0
        self.due: deque[tuple[int, int]] = deque()
        self.driven: dict[str, int] = {}

    def inputs(self, clock: int) -> dict[str, int]:
        """What the slave drives in a clock."""
        awake = [self.rng.random() >= self.pause for _ in range(3)]
        self.driven = {"axi_awready": awake[0], "axi_wready": awake[1], "axi_bvalid": 0}
        if awake[2] and self.due and self.due[0][0] <= clock:
            self.driven |= {"axi_bvalid": 1, "axi_bresp": self.due.popleft()[1]}
        return self.driven


class Run:
    """One store: what happens in each clock is recorded and checked."""

    def __init__(self, block: Block, bus: int, store: Store, slave: Slave) -> None:
        self.block = block
        self.bytes = bus // 8
        self.store = store
        self.slave = slave
        self.record = Record()
        self.waiting: dict[str, list[int]] = {}
        self.beats: list[tuple[int, int, int]] = []
        """Those whose request the memory has not taken."""
        self.n_beats = 0

    def watch(self, clock: int, out: dict[str, int], *, stopped: bool) -> None:
        """One clock."""
        where = f"{self.store}, clock {clock}"
        check(f"{where}: BREADY", 1, out["axi_bready"])
        if self._offered(where, "aw", out, ("addr", "len", "size", "burst", "id")):
            assert not stopped, f"{where}: a request after stop"
            self.record.offers.append(clock)
            assert out["axi_wvalid"], f"{where}: AWVALID without the first beat"
        if out["axi_awvalid"] and self.slave.driven["axi_awready"]:
            self._request(where)
        self._offered(where, "w", out, ("data", "strb", "last"))
        if out["axi_wvalid"] and self.slave.driven["axi_wready"]:
            self.record.beats.append(clock)
            self.beats.append(tuple(self._values("w", ("data", "strb", "last"))))
        self._write(where, clock)
        if self.slave.driven["axi_bvalid"]:
            self.record.answers.append(clock)
            if self.slave.driven["axi_bresp"] != OKAY and self.record.first_bad is None:
                self.record.first_bad = clock
        for name in ("done", "busy", "error"):
            if out[name]:
                {"done": self.record.done, "busy": self.record.busy, "error": self.record.errors}[
                    name
                ].append(clock)

    def _values(self, channel: str, names: tuple[str, ...]) -> list[int]:
        return [int(self.block.port(f"axi_{channel}{name}").value) for name in names]

    def _offered(
        self, where: str, channel: str, out: dict[str, int], names: tuple[str, ...]
    ) -> bool:
        """Whether something new is offered; what waits must stay."""
        before = self.waiting.pop(channel, None)
        if not out[f"axi_{channel}valid"]:
            assert before is None, f"{where}: {channel} was withdrawn"
            return False
        values = self._values(channel, names)
        check(f"{where}: {channel} that waits", before or values, values)
        if not self.slave.driven[f"axi_{channel}ready"]:
            self.waiting[channel] = values
        return before is None

    def _request(self, where: str) -> None:
        address, length, size, burst, tag = self._values(
            "aw", ("addr", "len", "size", "burst", "id")
        )
        right = self.store.bursts(self.bytes)[self.slave.n_requests]
        check(f"{where}: burst", right, (address, length + 1))
        check(f"{where}: size, INCR, id", (self.bytes, 1, 0), (1 << size, burst, tag))
        assert address % PAGE + (length + 1) * self.bytes <= PAGE, f"{where}: crosses 4 KB"
        self.slave.requests.append((address, length + 1))
        self.slave.n_requests += 1

    def _write(self, where: str, clock: int) -> None:
        """The memory takes beats whose request has come."""
        while self.beats and self.slave.requests:
            (address, n_left), (data, strobe, last) = self.slave.requests[0], self.beats.pop(0)
            check(f"{where}: WLAST", n_left == 1, bool(last))
            for byte in range(self.bytes):
                if strobe >> byte & 1:
                    self.record.memory[address + byte] = data >> 8 * byte & 0xFF
            self.slave.requests.popleft()
            begin = self.store.bursts(self.bytes)
            if n_left > 1:
                self.slave.requests.appendleft((address + self.bytes, n_left - 1))
                continue
            burst = max(k for k, (first, _) in enumerate(begin) if first <= address)
            extra = self.slave.rng.randint(0, 20) if self.slave.pause else 0
            answer = SLVERR if burst in self.slave.bad else OKAY
            self.slave.due.append((clock + self.slave.latency + extra, answer))


class Writer:
    """One of the writers, driven through stores."""

    def __init__(self, dut, bus: int) -> None:
        self.bus = bus
        outputs = ("axi_awvalid", "axi_wvalid", "axi_bready", "words_ready")
        self.block = Block(dut, f"map_writer_{bus}", (*outputs, "done", "error", "busy"))

    async def start(self) -> None:
        """Clock and reset."""
        await self.block.start(
            start=0, stop=0, words_valid=0, axi_awready=0, axi_wready=0, axi_bvalid=0, axi_bid=0
        )

    def begin(self, store: Store) -> None:
        """Drive clock 0."""
        self.block.set(start=1, addr=store.address, n_words=len(store.words))

    def offer(self, store: Store, number: int, *, valid: bool) -> bool:
        """Drive a word."""
        valid = valid and number < len(store.words)
        word = store.words[number] | store.kept[number] << 64 if valid else 3 << 63
        self.block.set(words_valid=valid, words_payload=word)
        return valid

    async def run(
        self, store: Store, slave: Slave, *, often: float = 1.0, stop_clock: int = 0
    ) -> Record:
        """One store, until nothing happens any more; words come with a probability."""
        run = Run(self.block, self.bus, store, slave)
        self.begin(store)
        quiet = 0
        valid = False
        for clock in range(LIMIT):
            # A word that is offered stays.
            valid = clock >= BEGINS and (valid or slave.rng.random() < often)
            valid = self.offer(store, run.record.n_taken, valid=valid)
            stop = clock == stop_clock > 0
            self.block.set(stop=stop, **slave.inputs(clock))
            out = await self.block.tick()
            self.block.set(start=0, addr=~store.address, n_words=5)
            if valid and out["words_ready"]:
                assert not 0 < stop_clock <= clock, f"{store}: a word after stop"
                run.record.n_taken += 1
                valid = False
            run.watch(clock, out, stopped=0 < stop_clock < clock)
            quiet = 0 if out["busy"] else quiet + 1
            if quiet > QUIET and clock > stop_clock:
                break
        else:
            raise AssertionError(f"{store}: no end")
        self.block.set(words_valid=0, axi_bvalid=0)
        assert not run.waiting, f"{store}: something waits at the end"
        assert not run.beats, f"{store}: a beat without a request"
        assert not slave.requests, f"{store}: a burst was not ended"
        check(f"{store}: answers", slave.n_requests, len(run.record.answers))
        end = max([*run.record.answers, stop_clock])
        check(f"{store}: busy", list(range(1, len(run.record.busy) + 1)), run.record.busy)
        assert len(run.record.busy) <= end + 1, f"{store}: busy for too long"
        assert len(run.record.busy) >= max(run.record.answers, default=0), f"{store}: not busy"
        return run.record

    async def check_store(self, store: Store, slave: Slave, *, often: float = 1.0) -> Record:
        """A whole store."""
        record = await self.run(store, slave, often=often)
        check(f"{store}: bursts", len(store.bursts(self.bus // 8)), slave.n_requests)
        check(f"{store}: memory", store.contents, record.memory)
        check(f"{store}: errors", [], record.errors)
        check(f"{store}: done", [record.answers[-1] + ANSWERED_AFTER], record.done)
        if not slave.pause and often == 1:
            source = LineSource(CONFIGS["mars"], (), slave.latency)
            end = source.store(BEGINS - FIRST_STORED, len(store.words))
            check(f"{store}: clock of the end", [end], record.done)
        return record


async def started(dut, bus: int) -> tuple[Writer, random.Random]:
    """The writer after reset."""
    writer = Writer(dut, bus)
    await writer.start()
    return writer, random.Random(cocotb.RANDOM_SEED)


def writers(test):
    """Run a test with every writer."""
    return cocotb.test()(cocotb.parametrize(bus=list(MAP_WRITERS))(test))


@writers
async def places(dut, bus: int) -> None:
    """Few words that begin and end anywhere in a beat and in a burst, in the model's clocks."""
    writer, rng = await started(dut, bus)
    for word, n_words in itertools.product((0, 1, 7, 63), (1, 2, 8, 9, 73)):
        store = random_store(rng, 0x7_0E00 + WORD_BYTES * word, n_words)
        await writer.check_store(store, Slave(latency=1 + n_words % 3))


@writers
async def long_stores(dut, bus: int) -> None:
    """Several pages, up to the end of the address space, in the model's clocks."""
    writer, rng = await started(dut, bus)
    for latency in (1, 20, 150):
        address = WORD_BYTES * rng.getrandbits(20)
        await writer.check_store(random_store(rng, address, 600), Slave(latency=latency))
    last = random_store(rng, (1 << 32) - WORD_BYTES * 600, 600)
    await writer.check_store(last, Slave(latency=3))


@writers
async def many_words(dut, bus: int) -> None:
    """The bursts at the beginning of a store that has far more; then it is stopped."""
    writer, rng = await started(dut, bus)
    beat_words = bus // (8 * WORD_BYTES)
    for bit in range(10, 17):
        n_words = beat_words * ((1 << bit) + 3) + BURST_BYTES // WORD_BYTES
        store = random_store(rng, 0, n_words)
        slave = Slave(latency=2)
        await writer.run(store, slave, stop_clock=2 * BURST_BYTES // WORD_BYTES)
        assert slave.n_requests, f"{store}: no burst"


@writers
async def words_that_are_left_out(dut, bus: int) -> None:
    """The memory keeps what it has where words are not kept."""
    writer, rng = await started(dut, bus)
    for kept in (0.0, 0.3, 0.9):
        store = random_store(rng, 0x2_0008, 150, kept)
        await writer.check_store(store, Slave(latency=4))


@writers
async def random_memory(dut, bus: int) -> None:
    """Random pauses on all three channels, and words that come and go."""
    writer, rng = await started(dut, bus)
    for pause, often in itertools.product((0.0, 0.2, 0.7), (1.0, 0.4)):
        store = random_store(rng, WORD_BYTES * rng.getrandbits(16), rng.randint(1, 400), 0.8)
        await writer.check_store(store, Slave(latency=5, pause=pause, rng=rng), often=often)


@writers
async def errors(dut, bus: int) -> None:
    """An error in any burst: no more of them begin, none is left open; then another store."""
    writer, rng = await started(dut, bus)
    for n_case, bad in enumerate((0, 1, 3, 5)):
        store = random_store(rng, 0x1_0010, 380)
        slave = Slave(
            latency=rng.choice((1, 6, 80)),
            pause=0.3 * (n_case % 2),
            bad=frozenset({bad, bad + 1}),
            rng=rng,
        )
        record = await writer.run(store, slave)
        check(f"error in burst {bad}", [record.first_bad + 1], record.errors)
        check(f"error in burst {bad}: done", [], record.done)
        assert record.offers[-1] <= record.first_bad + 1, "a request after the error"
        await writer.check_store(random_store(rng, 0x100, 30), Slave(latency=2))


@writers
async def stops(dut, bus: int) -> None:
    """Stopped in any clock: the burst under way ends with beats that write nothing."""
    writer, rng = await started(dut, bus)
    for stop_clock in [*range(1, 14), *(rng.randint(14, 300) for _ in range(12))]:
        store = random_store(rng, WORD_BYTES * rng.getrandbits(10), 250)
        slave = Slave(latency=rng.choice((1, 6, 40)), pause=rng.choice((0, 0, 0.4)), rng=rng)
        record = await writer.run(store, slave, stop_clock=stop_clock)
        where = f"stop in clock {stop_clock}"
        check(f"{where}: done", [], record.done if record.n_taken < 250 else [])
        given = Store(store.address, store.words[: record.n_taken], store.kept[: record.n_taken])
        wrong = {k: v for k, v in record.memory.items() if given.contents.get(k) != v}
        check(f"{where}: bytes that were never given", {}, wrong)
        await writer.check_store(random_store(rng, 0x38, 20), Slave(latency=rng.randint(1, 9)))


@writers
async def standard_memory(dut, bus: int) -> None:
    """The bus model of cocotbext-axi with pauses."""
    writer, rng = await started(dut, bus)
    ports = AxiWriteBus.from_prefix(dut, f"map_writer_{bus}_axi")
    ram = AxiRamWrite(ports, dut.clk, dut.rst, size=1 << 16)
    for pause in (0.0, 0.4, 0.7):
        store = random_store(rng, WORD_BYTES * rng.getrandbits(11), 300)
        before = rng.randbytes(1 << 16)
        ram.write(0, before)
        for channel in (ram.aw_channel, ram.w_channel, ram.b_channel):
            channel.set_pause_generator(pauses(rng, pause))
        writer.begin(store)
        taken = 0
        for clock in range(LIMIT):
            valid = writer.offer(store, taken, valid=clock >= BEGINS)
            out = await writer.block.tick()
            writer.block.set(start=0)
            taken += valid and out["words_ready"]
            if out["done"]:
                break
        expected = bytearray(before)
        for address, value in store.contents.items():
            expected[address] = value
        check(f"{store}: memory", bytes(expected), bytes(ram.read(0, 1 << 16)))
        await ClockCycles(dut.clk, QUIET)
