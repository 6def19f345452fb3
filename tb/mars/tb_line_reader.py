"""The line reader: every line, in order and in the model's clock, whatever memory and consumer do.

A frame is driven clock by clock: clock 0 is the one with `start`. What reader and memory did is
recorded, and the rules of AXI4 and of the reader are checked on the record and on the way.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import cocotb
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiRamRead, AxiReadBus

from hw.mars.regions import LINE_ADDR_WIDTH
from model.mars.config import LINE_BYTES, MarsConfig
from model.mars.memory import BURST_LINES, LineSource, RecordedLines, Region
from tb.bench import Block, check, pauses
from tb.blocks import LINE_READERS

BURST_BYTES = BURST_LINES * LINE_BYTES
OKAY, SLVERR = 0, 2
LENGTHS = (0, 1, 7, 8, 9)
LIMIT = 20_000
MAX_LINES = 256
AT_ONCE = [1] * MAX_LINES
"""Gaps of a consumer that is always ready."""
QUIET = 12
"""Clocks after the end of a frame in which nothing may happen."""


@cache
def line(address: int) -> int:
    """What stands in memory there."""
    return random.Random(address).getrandbits(8 * LINE_BYTES)


@dataclass(frozen=True)
class Frame:
    """Regions: the address of a line, and how many follow."""

    regions: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{' + '.join(str(n) for _, n in self.regions)} lines"

    @property
    def addresses(self) -> list[int]:
        """Addresses of all lines in order."""
        return [base + LINE_BYTES * k for base, n in self.regions for k in range(n)]

    @property
    def bursts(self) -> list[tuple[int, int]]:
        """Address and bytes of all bursts in order: up to the next multiple of a burst."""
        bursts = []
        for base, n in self.regions:
            address, end = base, base + LINE_BYTES * n
            while address < end:
                until = min(end, (address // BURST_BYTES + 1) * BURST_BYTES)
                bursts.append((address, until - address))
                address = until
        return bursts

    @property
    def busy_from(self) -> int:
        """The clock behind the one in which the first line is known."""
        return 1 + next((k for k, (_, n) in enumerate(self.regions) if n), 0)

    @property
    def of_model(self) -> list[Region]:
        """The same for the model."""
        return [Region(base // LINE_BYTES, n) for base, n in self.regions]


def two(n_input: int, n_program: int, input_base: int = 0x1000) -> Frame:
    """An input packet and a program."""
    return Frame(((input_base, n_input), (0xFFFE_0000, n_program)))


class Memory:
    """Read slave of the bench: `latency` clocks, random pauses, errors at some addresses."""

    def __init__(
        self,
        width: int,
        *,
        latency: int = 1,
        pause: float = 0.0,
        bad: frozenset[int] = frozenset(),
        rng: random.Random | None = None,
    ) -> None:
        self.bytes = width // 8
        self.latency = latency
        self.pause = pause
        self.bad = bad
        self.rng = rng or random.Random(0)
        self.queue: deque[tuple[int, int, int]] = deque()
        self.asleep_until = 0
        self.arready = False
        self.beat: int | None = None
        """Address of the beat that is on the bus."""

    def inputs(self, clock: int) -> dict[str, int]:
        """What the slave drives in a clock; the beat before has been taken."""
        self.arready = self.rng.random() >= self.pause
        driven = {"axi_arready": self.arready, "axi_rvalid": 0}
        if self.rng.random() < self.pause / 20:
            self.asleep_until = clock + self.rng.randint(1, 60)
        awake = clock >= self.asleep_until and self.rng.random() >= self.pause
        self.beat = None
        if awake and self.queue and self.queue[0][0] <= clock:
            due, self.beat, n = self.queue.popleft()
            if n > 1:
                self.queue.appendleft((due, self.beat + self.bytes, n - 1))
            offset = self.beat % LINE_BYTES
            mask = (1 << 8 * self.bytes) - 1
            driven |= {
                "axi_rvalid": 1,
                "axi_rdata": line(self.beat - offset) >> 8 * offset & mask,
                "axi_rresp": SLVERR if self.beat in self.bad else OKAY,
                "axi_rlast": n == 1,
            }
        return driven

    def request(self, clock: int, address: int, n_beats: int) -> None:
        """A burst was requested in this clock."""
        extra = self.rng.randint(0, 20) if self.pause else 0
        self.queue.append((clock + self.latency + extra, address, n_beats))


@dataclass
class Record:
    """What happened in a frame."""

    offers: list[int] = field(default_factory=list)
    """Clock in which ARVALID rose for each burst."""
    n_requested: int = 0
    """Lines of these bursts."""
    most_in_flight: int = 0
    """Of those, and not yet taken."""
    arrivals: list[int] = field(default_factory=list)
    """Clock of the last beat of each line."""
    taken: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    first_bad: int | None = None


Consumer = Callable[[int, Record], bool]
"""Whether the next line is taken in this clock."""


class Run:
    """One frame on one reader: what happens in each clock is recorded and checked."""

    def __init__(self, block: Block, config: MarsConfig, frame: Frame, memory: Memory) -> None:
        self.config = config
        self.frame = frame
        self.memory = memory
        self.record = Record()
        payload = ("axi_araddr", "axi_arlen", "axi_arsize", "axi_arburst", "axi_arid")
        self.request = [block.port(signal) for signal in payload]
        self.payload = block.port("lines_payload")
        self.offered: list[int] | None = None
        self.line_waits = False
        self.n_beats = 0

    def watch(self, clock: int, out: dict[str, int], ready: bool, stopped: bool) -> None:
        """One clock."""
        where = f"{self.frame}, clock {clock}"
        check(f"{where}: RREADY", 1, out["axi_rready"])
        self._watch_requests(where, clock, out["axi_arvalid"], stopped)
        self._watch_beats(clock)
        self._watch_lines(where, clock, out["lines_valid"], ready)
        in_flight = self.record.n_requested - len(self.record.taken)
        room = self.config.line_buffer + 1
        assert in_flight <= room, f"{where}: {in_flight} lines must be at most {room}"
        self.record.most_in_flight = max(self.record.most_in_flight, in_flight)
        if out["error"]:
            self.record.errors.append(clock)
        if out["busy"]:
            self.record.busy.append(clock)

    def _watch_requests(self, where: str, clock: int, arvalid: int, stopped: bool) -> None:
        if not arvalid:
            assert self.offered is None, f"{where}: ARVALID was withdrawn"
            return
        request = [int(handle.value) for handle in self.request]
        if self.offered is None:
            assert not stopped, f"{where}: a request after stop"
            self._check_request(where, request)
            self.record.offers.append(clock)
        check(f"{where}: request", self.offered or request, request)
        self.offered = None if self.memory.arready else request
        if self.memory.arready:
            self.memory.request(clock, request[0], request[1] + 1)

    def _check_request(self, where: str, request: list[int]) -> None:
        address, length, size, burst, tag = request
        n_bytes = length + 1 << size
        k = len(self.record.offers)
        right = self.frame.bursts[k] if k < len(self.frame.bursts) else None
        check(f"{where}: burst {k}", right, (address, n_bytes))
        check(f"{where}: size, INCR, id", (self.config.weight_bus, 1, 0), (8 << size, burst, tag))
        assert address % 4096 + n_bytes <= 4096, f"{where}: {address:#x} crosses 4 KB"
        self.record.n_requested += n_bytes // LINE_BYTES

    def _watch_beats(self, clock: int) -> None:
        if self.memory.beat is None:
            return
        self.n_beats += 1
        if self.n_beats % self.config.beats_per_line == 0:
            self.record.arrivals.append(clock)
        if self.memory.beat in self.memory.bad and self.record.first_bad is None:
            self.record.first_bad = clock

    def _watch_lines(self, where: str, clock: int, valid: int, ready: bool) -> None:
        assert valid or not self.line_waits, f"{where}: a line was withdrawn"
        self.line_waits = bool(valid) and not ready
        if valid and ready:
            k = len(self.record.taken)
            assert k < len(self.record.arrivals), f"{where}: line {k} has not come yet"
            address = self.frame.addresses[k]
            check(f"{where}: line {k} at {address:#x}", line(address), int(self.payload.value))
            self.record.taken.append(clock)


class Reader:
    """One of the readers, driven through frames."""

    def __init__(self, dut, name: str) -> None:
        self.config = LINE_READERS[name]
        outputs = ("axi_arvalid", "axi_rready", "lines_valid", "error", "busy", "regions_ready")
        self.block = Block(dut, name, outputs)
        self.regions: deque[tuple[int, int]] = deque()
        """Those that the reader has not taken."""

    async def start(self) -> None:
        """Clock and reset."""
        await self.block.start(
            start=0,
            regions_valid=0,
            stop=0,
            clear=0,
            lines_ready=0,
            axi_arready=0,
            axi_rvalid=0,
            axi_rid=0,
        )

    def memory(self, **behaviour) -> Memory:
        """A memory of the bus's width."""
        return Memory(self.config.weight_bus, **behaviour)

    def begin(self, frame: Frame) -> None:
        """Drive clock 0."""
        self.regions = deque(frame.regions)
        self.block.set(start=1)
        self.offer()

    def offer(self) -> None:
        """Drive the next region, if there is one."""
        base, n_lines = self.regions[0] if self.regions else (0x40, 5)
        payload = n_lines << LINE_ADDR_WIDTH | base // LINE_BYTES
        self.block.set(regions_valid=bool(self.regions), regions_payload=payload)

    async def tick(self) -> dict[str, int]:
        """One clock, in which a region may be taken."""
        out = await self.block.tick()
        if out["regions_ready"] and self.regions:
            self.regions.popleft()
        self.block.set(start=0)
        self.offer()
        return out

    async def clear(self) -> None:
        """Empty the buffer."""
        self.block.set(clear=1)
        await self.block.tick()
        self.block.set(clear=0)
        check("valid after clear", 0, (await self.block.tick())["lines_valid"])

    async def run(
        self,
        frame: Frame,
        memory: Memory,
        ready: Consumer,
        *,
        stop_clock: int = 0,
        stop_clocks: int = LIMIT,
    ) -> Record:
        """One frame, until nothing happens any more.

        `stop` is 1 from `stop_clock` on, unless that is 0, for `stop_clocks` or until the end.
        """
        run = Run(self.block, self.config, frame, memory)
        self.begin(frame)
        self.block.set(**memory.inputs(0))
        quiet = 0
        for clock in range(LIMIT):
            is_ready = ready(clock, run.record)
            stopped = 0 < stop_clock < clock
            stop = 0 < stop_clock <= clock < stop_clock + stop_clocks
            self.block.set(lines_ready=is_ready, stop=stop)
            out = await self.tick()
            run.watch(clock, out, is_ready, stopped)

            waits = out["lines_valid"] and (is_ready or not stopped)
            quiet = 0 if out["busy"] or waits else quiet + 1
            if quiet > QUIET and (stopped or not stop_clock):
                break
            self.block.set(**memory.inputs(clock + 1))
        else:
            raise AssertionError(f"{frame}: no end")
        self.regions.clear()
        self.offer()
        self.block.set(stop=0, lines_ready=0, axi_rvalid=0)
        assert not memory.queue, f"{frame}: not drained"
        check(f"{frame}: lines that came", run.record.n_requested, len(run.record.arrivals))
        return run.record

    async def check_frame(self, frame: Frame, memory: Memory, gaps: Sequence[int]) -> Record:
        """A whole frame; line k is taken at least `gaps[k]` clocks after the one before."""

        def ready(clock: int, record: Record) -> bool:
            last = record.taken[-1] if record.taken else 0
            return clock >= last + gaps[len(record.taken)]

        record = await self.run(frame, memory, ready)
        n_lines = len(frame.addresses)
        check(f"{frame}: lines", n_lines, len(record.taken))
        check(f"{frame}: errors", [], record.errors)
        end = record.arrivals[-1] if n_lines else 0
        check(f"{frame}: busy", list(range(frame.busy_from, end + 1)), record.busy)

        sources = [RecordedLines(record.arrivals)]
        if not memory.pause:
            sources.append(LineSource(self.config, frame.of_model, memory.latency))
        for source in sources:
            last = 0
            for k, clock in enumerate(record.taken):
                last = source.take(last + gaps[k])
                check(f"{frame}, {type(source).__name__}: clock of line {k}", last, clock)
        return record


def consumers(rng: random.Random) -> list[Sequence[int]]:
    """Gaps between lines: none, every 8 clocks, pauses, a late start, waits with a full buffer."""
    pauses_often = [
        rng.randint(50, 400) if rng.random() < 0.1 else rng.choice((1, 1, 2, 3))
        for _ in range(MAX_LINES)
    ]
    full = {15, 16, 17, 31, 32, 64}
    return [
        AT_ONCE,
        [8] * MAX_LINES,
        pauses_often,
        [900, *AT_ONCE[1:]],
        [200 if k in full else 1 for k in range(MAX_LINES)],
    ]


async def started(dut, name: str) -> tuple[Reader, random.Random]:
    """The reader after reset."""
    reader = Reader(dut, name)
    await reader.start()
    return reader, random.Random(cocotb.RANDOM_SEED)


def readers(test):
    """Run a test with every reader."""
    return cocotb.test()(cocotb.parametrize(name=list(LINE_READERS))(test))


@readers
async def lengths(dut, name: str) -> None:
    """Short regions in all combinations, in the model's clocks."""
    reader, _ = await started(dut, name)
    for n_input, n_program in itertools.product(LENGTHS, LENGTHS):
        memory = reader.memory(latency=1 + n_input)
        await reader.check_frame(two(n_input, n_program), memory, AT_ONCE)


@readers
async def clocks(dut, name: str) -> None:
    """Long regions, several latencies and consumers, in the model's clocks."""
    reader, rng = await started(dut, name)
    for latency, gaps in itertools.product((1, 2, 30, 150), consumers(rng)):
        frame = two(rng.choice((0, rng.randint(1, 40))), rng.randint(60, 160))
        memory = reader.memory(latency=latency)
        await reader.check_frame(frame, memory, gaps)


@readers
async def full_buffer(dut, name: str) -> None:
    """One line at the output, and no room left behind it: nothing is lost."""
    reader, _ = await started(dut, name)
    n_lines = reader.config.line_buffer
    for latency in (1, 50):
        # The first line leaves room for whole bursts when it goes to the output.
        frame = two(1, n_lines + 24)
        gaps = [1000, *AT_ONCE[1:]]
        record = await reader.check_frame(frame, reader.memory(latency=latency), gaps)
        check("lines in flight", n_lines + 1, record.most_in_flight)


@readers
async def random_memory(dut, name: str) -> None:
    """A memory with random latency and pauses on both channels."""
    reader, rng = await started(dut, name)
    for pause, gaps in itertools.product((0.2, 0.7), consumers(rng)):
        memory = reader.memory(latency=5, pause=pause, rng=rng)
        frame = two(rng.randint(0, 40), rng.randint(0, 70), 512 * rng.getrandbits(22))
        await reader.check_frame(frame, memory, gaps)


@readers
async def errors(dut, name: str) -> None:
    """An error in any beat of a line: what was before it comes, then nothing; then a new frame."""
    reader, rng = await started(dut, name)
    n_beats = reader.config.beats_per_line
    beat_bytes = LINE_BYTES // n_beats
    frame = two(19, 70)
    cases = [(k, beat) for k in (0, 7, 18, 19, 40, 88) for beat in {0, n_beats // 2, n_beats - 1}]
    for n_case, (k, beat) in enumerate(cases):
        bad = {frame.addresses[k] + beat_bytes * beat}
        if n_case % 2:
            bad |= {frame.addresses[j] for j in range(k + 1, min(k + 20, 89), 3)}
        slow = n_case % 3 == 2
        memory = reader.memory(
            latency=rng.choice((1, 6, 80)),
            pause=0.3 * slow,
            rng=rng,
            bad=frozenset(bad),
        )
        record = await reader.run(frame, memory, lambda *_: rng.random() < 0.8)
        where = f"error in line {k}, beat {beat}"
        check(f"{where}: lines", k, len(record.taken))
        check(f"{where}: error", [record.first_bad + 1], record.errors)
        assert record.offers[-1] <= record.first_bad + 1, f"{where}: a request after the error"
        check(f"{where}: busy", list(range(1, record.arrivals[-1] + 1)), record.busy)
        good = reader.memory(latency=3)
        await reader.check_frame(two(9, 20), good, AT_ONCE)


@readers
async def stops(dut, name: str) -> None:
    """Stopped in any clock, taking lines or not: all bursts end; then a new frame."""
    reader, rng = await started(dut, name)
    frame = two(10, 60)
    for n_case, stop_clock in enumerate(
        [*range(1, 16), *(rng.randint(16, 200) for _ in range(40))]
    ):
        memory = reader.memory(
            latency=rng.choice((1, 6, 40)),
            pause=rng.choice((0, 0, 0.4)),
            rng=rng,
        )
        taking = n_case % 3 != 1
        record = await reader.run(
            frame,
            memory,
            lambda *_, taking=taking: taking,
            stop_clock=stop_clock,
            stop_clocks=rng.choice((1, LIMIT)),
        )
        where = f"stop in clock {stop_clock}"
        if taking:
            n_before = sum(clock < stop_clock for clock in record.arrivals)
            check(f"{where}: lines", n_before, len(record.taken))
        else:
            await reader.clear()
        all_requested = len(record.arrivals) == len(frame.addresses)
        end = max([0 if all_requested else stop_clock, *record.arrivals])
        check(f"{where}: busy", list(range(1, end + 1)), record.busy)
        check(f"{where}: errors", [], record.errors)
        good = reader.memory(latency=rng.randint(1, 9))
        await reader.check_frame(two(9, 30), good, AT_ONCE)


@readers
async def regions_anywhere(dut, name: str) -> None:
    """Regions that begin and end in the middle of a burst, some of them empty."""
    reader, rng = await started(dut, name)
    for latency, gaps in itertools.product((1, 25), (AT_ONCE, [8] * MAX_LINES)):
        bases = [LINE_BYTES * rng.getrandbits(20) for _ in range(5)]
        lengths = [2, rng.randint(1, 40), 2, rng.randint(1, 17), rng.choice((0, 1, 30))]
        frame = Frame(tuple(zip(bases, lengths, strict=True)))
        await reader.check_frame(frame, reader.memory(latency=latency), gaps)
    for begin, length in itertools.product(range(8), (1, 7, 8, 9)):
        frame = Frame(((0x1E00 + LINE_BYTES * begin, length),))
        await reader.check_frame(frame, reader.memory(latency=3), AT_ONCE)


@readers
async def standard_memory(dut, name: str) -> None:
    """The bus model of cocotbext-axi with pauses, and a consumer that comes and goes."""
    reader, rng = await started(dut, name)
    block, payload = reader.block, reader.block.port("lines_payload")
    bus = AxiReadBus.from_prefix(dut, f"{name}_axi")
    ram = AxiRamRead(bus, dut.clk, dut.rst, size=1 << 20)
    for pause, readiness in ((0.0, 1.0), (0.0, 0.05), (0.4, 0.9), (0.7, 0.3)):
        frame = Frame(((0x7_0000, rng.randint(1, 30)), (0x1_0000, rng.randint(50, 120))))
        for address in frame.addresses:
            ram.write(address, line(address).to_bytes(LINE_BYTES, "little"))
        for channel in (ram.ar_channel, ram.r_channel):
            channel.set_pause_generator(pauses(rng, pause))
        reader.begin(frame)
        taken = 0
        for _ in range(LIMIT):
            is_ready = rng.random() < readiness
            block.set(lines_ready=is_ready)
            out = await reader.tick()
            if out["lines_valid"] and is_ready:
                right = line(frame.addresses[taken])
                check(f"{frame}: line {taken}", right, int(payload.value))
                taken += 1
            if taken == len(frame.addresses):
                break
        check(f"{frame}: lines", len(frame.addresses), taken)
        block.set(lines_ready=1)
        await ClockCycles(dut.clk, QUIET)
        out = await block.tick()
        check(f"{frame}: busy and valid at the end", (0, 0), (out["busy"], out["lines_valid"]))
