"""A chip with MARS behind standard bus models, watched clock by clock, and the check of a frame."""

import itertools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiReadBus,
    AxiResp,
    AxiSlaveRead,
    AxiSlaveWrite,
    AxiWriteBus,
)

from model.config import ChipConfig
from model.mars import reference
from model.mars.clocks import PassClocks, Work, simulate, work_of
from model.mars.config import ACC_WIDTH, KERNELS, LINE_BYTES, WORD_BITS, Ahead
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.machine import HALF, Machine, PassResult
from model.mars.memory import BUFFER_LATENCY, RecordedLines
from model.mars.network import QuantizedNetwork
from model.mars.program import Pass, to_bytes
from model.registers import register_map
from tb.bench import CLOCK_NS, check, signed

START, ABORT, IRQ_ENABLE = (1 << bit for bit in range(3))
RUNNING, DONE, BUS_ERROR, ABORTED = (1 << bit for bit in range(4))
INPUT_BASE, PROGRAM_BASE = 0x3000, 0x8000_0200
REGION = 1 << 22
"""Room for a frame; the one after it lies elsewhere."""
START_AFTER = 3
"""From the clock in which a write is taken from the bus to the pulse in the accelerator."""
FIRST_OFFER = 2
"""From the start to the first request."""
COUNTERS = ("FRAME_CLOCKS", "WEIGHT_STALLS", "DRAIN_STALLS", "LAYER_STALLS")


@dataclass(frozen=True)
class Frame:
    """What is computed, and lines behind the end of the program."""

    network: QuantizedNetwork
    image: Image
    features: Ints
    behind: bytes = b""

    @property
    def packet(self) -> bytes:
        """The input as it lies in memory."""
        return to_bytes(self.image.packet(self.features))

    @property
    def program(self) -> bytes:
        """The program as it lies in memory."""
        return to_bytes(self.image.lines) + self.behind

    @property
    def n_lines(self) -> tuple[int, int]:
        """Lines of the input packet, lines of the program, of the first segment."""
        n_behind = len(self.behind) // LINE_BYTES
        return self.image.n_input_lines, self.image.n_program_lines + n_behind


@dataclass
class Record:
    """What was seen at the ports in a frame; clocks are counted from its start.

    `offers`: first clocks of requests; `requests`: when they were
    taken, and their lines; `arrivals`: last beats of lines; `commands`: host's writes.
    """

    start: int | None = None
    offers: list[int] = field(default_factory=list)
    requests: list[tuple[int, int]] = field(default_factory=list)
    n_requested: int = 0
    arrivals: list[int] = field(default_factory=list)
    first_bad: int | None = None
    values: list[int] = field(default_factory=list)
    writes: list[tuple[int, int, int, int]] = field(default_factory=list)
    ends: list[tuple[int, int, int]] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    irq: int | None = None

    @property
    def n_outstanding(self) -> int:
        """Lines that were requested and did not arrive."""
        return self.n_requested - len(self.arrivals)

    @property
    def last_arrival(self) -> int:
        """Clock of the last beat."""
        return self.arrivals[-1] if self.arrivals else 0


class Memory:
    """Answers the beats of the weight bus: late, or with an error, if it is asked to."""

    def __init__(self, dut, rng: random.Random) -> None:
        self._clk = dut.clk
        self._rng = rng
        self.regions: list[tuple[int, bytes]] = []
        self.scratch: tuple[int, bytearray] = (0, bytearray())
        """What can be written, and where."""
        self.n_written = 0
        """Bytes."""
        self.late = 0.0
        """Probability that a beat comes late."""
        self.bad: int | None = None
        """Address of a beat that is answered with an error."""

    async def read(self, address: int, length: int) -> bytes:
        """Called for every beat of a burst."""
        if self.late and self._rng.random() < self.late:
            await ClockCycles(self._clk, self._rng.choice((1, 2, 5, 40)))
        for base, data in (*self.regions, self.scratch):
            if base <= address < base + len(data) and address != self.bad:
                return bytes(data[address - base :][:length])
        raise LookupError(f"no memory at {address:#x}")

    async def write(self, address: int, data: bytes) -> None:
        """Called for bytes of a beat that follow each other."""
        base, contents = self.scratch
        first = address - base
        if not 0 <= first <= len(contents) - len(data) or self.bad in range(
            address, address + len(data)
        ):
            raise LookupError(f"no memory at {address:#x}")
        contents[first : first + len(data)] = data
        self.n_written += len(data)


class Chip:
    """The bus models, the golden machine, and a watch on everything that MARS does.

    Parameters
    ----------
    dut : kenyon
    config : ChipConfig
    master : AxiLiteMaster, optional
        The host's bus model, if the bench already has one; then it also makes clock and reset.
    """

    def __init__(self, dut, config: ChipConfig, master: AxiLiteMaster | None = None) -> None:
        self.dut = dut
        self.config = config.mars
        self.map = register_map(config)
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.is_alone = master is None
        self.master = master or AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst
        )
        self.memory = Memory(dut, self.rng)
        bus = AxiReadBus.from_prefix(dut, "m_axi_weights")
        self.slave = AxiSlaveRead(bus, dut.clk, dut.rst, self.memory)
        written = AxiWriteBus.from_prefix(dut, "m_axi_weights")
        self.writes = AxiSlaveWrite(written, dut.clk, dut.rst, self.memory)
        logging.getLogger("cocotb.kenyon").setLevel(logging.ERROR)
        self.golden = Machine(self.config)
        self.clock = 0
        self.n_prepared = 0
        self.may_restart = False
        """The next request behind the end of a frame is that of another one."""
        self.in_chunks = False
        """Frames take their time steps in chunks, from each of which the trace counts clocks."""
        self.record = Record()

    def pause(self, probability: float, late: float = 0.0) -> None:
        """Random pauses on all channels of the weight bus, and late beats."""
        writes = self.writes
        channels = (self.slave.ar_channel, self.slave.r_channel)
        for channel in (*channels, writes.aw_channel, writes.w_channel, writes.b_channel):
            if probability:
                channel.set_pause_generator(_pauses(self.rng, probability))
            else:
                channel.clear_pause_generator()
                channel.pause = False
        self.memory.late = late

    async def begin_bench(self) -> None:
        """Clock and reset."""
        if self.is_alone:
            Clock(self.dut.clk, CLOCK_NS, "ns").start()
            self.dut.rst.value = 1
            await ClockCycles(self.dut.clk, 4)
            self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)
        cocotb.start_soon(self._watch())

    async def set(self, name: str, value: int) -> None:
        """Write a register of MARS; it must accept."""
        data = value.to_bytes(4, "little")
        answer = await self.master.write(self.map[f"mars.{name}"], data)
        assert answer.resp == AxiResp.OKAY, f"{name} refused {value:#x}"

    async def get(self, name: str) -> int:
        """Read a register of MARS; it must answer."""
        answer = await self.master.read(self.map[f"mars.{name}"], 4)
        assert answer.resp == AxiResp.OKAY, f"{name} refused to be read"
        return int.from_bytes(answer.data, "little")

    async def features(self, macro: int, address: int, n_words: int) -> Ints:
        """Words of a feature memory."""
        first = self.map[f"features[{macro}]"] + 8 * address
        answer = await self.master.read(first, 8 * n_words)
        assert answer.resp == AxiResp.OKAY, f"feature memory refused to be read at {address}"
        return np.frombuffer(bytes(answer.data), "<u8").astype(np.uint64)

    async def features_of_all(self, n_words: int) -> Ints:
        """The first words of all feature memories."""
        return np.stack([await self.features(m, 0, n_words) for m in range(self.config.n_macros)])

    async def prepare(self, frame: Frame, *, keep: bool = False) -> None:
        """Put a frame into memory, anywhere, beside the last one if asked, and say where it is."""
        before = self.memory.regions if keep else []
        self.n_prepared += 1
        bases = [base + REGION * (self.n_prepared % 2) for base in (INPUT_BASE, PROGRAM_BASE)]
        bases = [base + 512 * self.rng.randrange(1 << 10) for base in bases]
        self.memory.regions = [*zip(bases, (frame.packet, frame.program), strict=True), *before]
        for part, base, n_lines in zip(("INPUT", "PROGRAM"), bases, frame.n_lines, strict=True):
            await self.set(f"{part}_BASE", base)
            await self.set(f"{part}_LINES", n_lines)

    async def begin(self, control: int = START | IRQ_ENABLE) -> Record:
        """Start what was prepared; returns the record that is being filled."""
        assert not self.dut.m_axi_weights_arvalid.value, "a request between frames"
        record = self.record = Record()
        await self.set("CONTROL", control)
        return record

    async def at(self, clock: int) -> None:
        """Wait for a clock of the frame that was started."""
        record = self.record
        while record.start is None:
            await ClockCycles(self.dut.clk, 1)
        if record.start + clock > self.clock:
            await ClockCycles(self.dut.clk, record.start + clock - self.clock)

    async def end(self) -> int:
        """Wait for the end of the frame; returns its flags and clears them."""
        if not self.dut.irq.value:
            await RisingEdge(self.dut.irq)
        await ClockCycles(self.dut.clk, 1)
        record = self.record
        check("outstanding lines at the end", 0, record.n_outstanding)
        flags = await self.get("STATUS")
        await self.set("STATUS", flags)
        check("STATUS after its flags were cleared", 0, await self.get("STATUS"))
        assert not self.dut.irq.value
        return flags

    async def check_frame(self, frame: Frame, where: str) -> None:
        """Compute a frame and check it."""
        await self.prepare(frame)
        record = await self.begin()
        flags = await self.end()
        check(f"{where}: STATUS", DONE, flags)
        await self.check(frame, record, where)

    def golden_frame(self, frame: Frame) -> list[tuple[Pass, PassResult]]:
        """The passes of a frame on the golden machine; its memory is changed."""
        packet = frame.image.packet(frame.features)
        return list(self.golden.frame(packet, frame.image.passes))

    async def check(self, frame: Frame, record: Record, where: str) -> None:
        """Everything that a frame did, its clocks, and its result in the feature memory."""
        passes = self.golden_frame(frame)
        when = clocks(frame, record)
        if not frame.behind:
            check(f"{where}: lines", sum(frame.n_lines), len(record.arrivals))
            offers = expected_offers(frame, record, self.config.line_buffer)
            check(f"{where}: clocks of requests", offers, record.offers)
        check_prefix(passes, record, where)
        check(f"{where}: passes", len(passes), len(record.ends))
        n_values = sum(len(result.values) for _, result in passes)
        n_writes = sum(len(result.writes.row) for _, result in passes)
        check(f"{where}: values", n_values, len(record.values))
        check(f"{where}: writes", n_writes, len(record.writes))
        check(f"{where}: ends of passes", [one.end for one in when], [e[0] for e in record.ends])
        await self.check_counters(when, where)
        end = when[-1].end
        if self.is_alone:
            check(f"{where}: clock of irq", flag_clock(frame, record, end), record.irq)
        image = frame.image
        words = await self.features(0, image.contents.output_address, image.output_words)
        result = image.output.from_words(words)
        expected = reference.run(frame.network, frame.features)[frame.network.layers[-1].name]
        np.testing.assert_array_equal(result, expected.reshape(result.shape), f"{where}: result")

    async def check_counters(self, when: list[PassClocks], where: str) -> None:
        """The registers that count clocks."""
        stalls = ("weight_stalls", "drain_stalls", "layer_stalls")
        expected = [when[-1].end, *(sum(getattr(p, name) for p in when) for name in stalls)]
        check(f"{where}: {COUNTERS}", expected, [await self.get(name) for name in COUNTERS])

    async def _watch(self) -> None:
        """Fills the record, clock by clock."""
        edge = RisingEdge(self.dut.clk)
        command = self.dut.s_axil_wready
        requests, answers, results = self._requests(), self._answers(), self._results()
        while True:
            await edge
            self.clock += 1
            if command.value:
                self.record.commands.append(self.clock)
            for watch in (requests, answers, results):
                next(watch)

    def _requests(self) -> Iterator[None]:
        """Watches the address channel of the weight bus."""
        names = ("arvalid", "arready", "araddr", "arlen")
        valid, ready, addr, length = (getattr(self.dut, f"m_axi_weights_{n}") for n in names)
        n_beats = self.config.beats_per_line
        offered = None
        while True:
            record = self.record
            if valid.value:
                request = int(addr.value), int(length.value)
                if offered is None:
                    record = self._offer(record)
                else:
                    check("request while it waits", offered, request)
                offered = request
                if ready.value:
                    assert (request[1] + 1) % n_beats == 0, f"ARLEN {request[1]}: no whole lines"
                    n_lines = (request[1] + 1) // n_beats
                    record.requests.append((self.clock - (record.start or 0), n_lines))
                    record.n_requested += n_lines
                    offered = None
            else:
                assert offered is None, "ARVALID was withdrawn"
            yield

    def _offer(self, record: Record) -> Record:
        """A request begins; the first one behind the end of a frame begins the next one."""
        if record.irq is not None:
            assert self.may_restart, "a request behind the end of the frame"
            self.may_restart = False
            record = self.record = Record()
        if record.start is None:
            record.start = self.clock - FIRST_OFFER
            if record.commands and self.is_alone:
                delay = record.start - record.commands[0]
                check("clocks from write to start", START_AFTER, delay)
        record.offers.append(self.clock - record.start)
        return record

    def _answers(self) -> Iterator[None]:
        """Watches the data channel of the weight bus, and the interrupt."""
        names = ("rvalid", "rready", "rresp")
        valid, ready, response = (getattr(self.dut, f"m_axi_weights_{name}") for name in names)
        irq = self.dut.irq
        n_beats = self.config.beats_per_line
        beats = 0
        was_set = False
        while True:
            record = self.record
            now = self.clock - (record.start or 0)
            if valid.value:
                assert ready.value, "a beat has to wait"
                assert record.irq is None, "a beat behind the end of the frame"
                beats += 1
                if response.value and record.first_bad is None:
                    record.first_bad = now
                if beats % n_beats == 0:
                    record.arrivals.append(now)
            is_set = bool(irq.value)
            if self.is_alone and is_set and not was_set:
                record.irq = now
            was_set = is_set
            yield

    def _results(self) -> Iterator[None]:
        """Watches the trace."""

        def port(name: str):
            return getattr(self.dut, f"trace_mars_{name}")

        value, write, done = (port(name) for name in ("value_valid", "write", "pass_done"))
        word = [port(f"write_{name}") for name in ("row", "offset", "data", "halves")]
        while True:
            record = self.record
            if value.value:
                record.values.append(int(port("values").value))
            if write.value:
                record.writes += _words(*(int(part.value) for part in word))
            if done.value:
                now = self.clock - (record.start or 0)
                if not self.in_chunks:
                    check("clock at the end of a pass", now, int(port("clock").value))
                record.ends.append((now, len(record.values), len(record.writes)))
            yield


def _pauses(rng: random.Random, probability: float):
    """Pause patterns for the bus models: long and short bursts."""
    while True:
        paused = rng.random() < probability
        yield from itertools.repeat(paused, rng.randint(1, 5))


def _works(frame: Frame) -> list[Work]:
    """What decides the clocks of a frame's passes."""
    passes = [Pass(frame.image.input_descriptor, ()), *frame.image.passes]
    return [work_of(one, frame.image.config) for one in passes]


def clocks(frame: Frame, record: Record, ahead: Ahead | None = None) -> list[PassClocks]:
    """What the passes of a frame take if its lines arrive as they did."""
    ahead = ahead or frame.image.config.ahead
    return simulate(_works(frame), RecordedLines(record.arrivals), ahead)


class _Fetches(RecordedLines):
    """Also keeps in which clock each line was fetched out of the buffer."""

    def __init__(self, arrivals: list[int]) -> None:
        super().__init__(arrivals)
        self._ready = [arrival + BUFFER_LATENCY for arrival in arrivals]
        self._last_taken = 0
        self.fetches: list[int] = []

    def take(self, clock_ready: int) -> int:
        self.fetches.append(max(self._ready[len(self.fetches)], self._last_taken))
        self._last_taken = super().take(clock_ready)
        return self._last_taken


def expected_offers(frame: Frame, record: Record, line_buffer: int) -> list[int]:
    """First clocks of the requests, if each is taken when it was, as `LineReader` promises."""
    source = _Fetches(record.arrivals)
    simulate(_works(frame), source, frame.image.config.ahead)
    n_input, _ = frame.n_lines
    offers = []
    n_lines = decided = taken = 0
    for clock, n_burst in record.requests:
        decided += 1 + (n_lines == n_input)
        n_lines += n_burst
        if n_lines > line_buffer:
            decided = max(decided, source.fetches[n_lines - line_buffer - 1] + 1)
        decided = max(decided, taken)
        offers.append(decided + 1)
        taken = clock
    return offers


def flag_clock(frame: Frame, record: Record, last_clock: int) -> int:
    """Clock in which `irq` rises if a frame ended, or was ended, in some clock."""
    failed = record.first_bad is not None and record.first_bad < last_clock
    gives_up = not failed and record.n_requested < sum(frame.n_lines)
    return max(last_clock + 1 + gives_up, record.last_arrival + 1) + 1


def check_prefix(passes: list[tuple[Pass, PassResult]], record: Record, where: str) -> None:
    """All values and writes that there are, and with how many of them passes ended.

    What no bank stores, the upper lanes of 8-bit weights and unwritten halves, is not looked at.
    """
    n_values = n_writes = 0
    for k, (one, result) in enumerate(passes):
        lanes = HALF if one.descriptor.wide else KERNELS
        values = [_lanes(bits, lanes) for bits in record.values[n_values:][: len(result.values)]]
        expected = result.values[: len(values), :lanes].tolist()
        _compare(f"{where}: pass {k}: values", expected, values)
        n_values += len(result.values)
        columns = (getattr(result.writes, name) for name in ("row", "offset", "word", "halves"))
        words = list(zip(*(column.tolist() for column in columns), strict=True))
        actual = [_stored(*write) for write in record.writes[n_writes:][: len(words)]]
        _compare(f"{where}: pass {k}: write", words[: len(actual)], actual)
        n_writes += len(words)
        if k < len(record.ends):
            ended = record.ends[k][1:]
            check(f"{where}: pass {k}: values and writes at its end", (n_values, n_writes), ended)
    assert len(record.values) <= n_values, f"{where}: values behind the last pass"
    assert len(record.writes) <= n_writes, f"{where}: writes behind the last pass"


def _words(row: int, offset: int, data: int, halves: int) -> list[tuple[int, int, int, int]]:
    """The words of a write: one or two."""
    words = [(row, offset, data & ((1 << WORD_BITS) - 1), halves & 3)]
    if halves >> 2:
        words.append((row, offset + 1, data >> WORD_BITS, halves >> 2))
    return words


def _lanes(bits: int, n: int) -> list[int]:
    """The first values of a pixel."""
    return [signed(bits >> ACC_WIDTH * k & ((1 << ACC_WIDTH) - 1), ACC_WIDTH) for k in range(n)]


def _stored(row: int, offset: int, word: int, halves: int) -> tuple[int, int, int, int]:
    """A write without the half that is not written."""
    mask = sum(0xFFFF_FFFF << 32 * half for half in range(2) if halves >> half & 1)
    return row, offset, word & mask, halves


def _compare(name: str, expected: list, actual: list) -> None:
    """Equality, with the first difference in the message."""
    for k, (right, seen) in enumerate(zip(expected, actual, strict=True)):
        check(f"{name} {k}", right, seen)
