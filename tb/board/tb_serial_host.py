"""The serial host between bytes and models of AXI4-Lite and AXI4-Stream that pause at random."""

import random
from collections import deque

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteSlave,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from model.board import protocol
from tb.bench import Block, check, pauses

PAUSE = 0.4
N_REQUESTS = 300
REFUSED = 0x80
"""Addresses with this bit answer SLVERR."""
SLVERR = 2
TIMEOUT_CLOCKS = 60_000
LOST = 1 << 8


class Memory:
    """What the AXI4-Lite slave stands before, with a record of what was asked of it."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.accesses: list[tuple[int, int | None]] = []
        """Address, and the word that was written."""

    async def write(self, address: int, data: bytes, **_: object) -> None:
        """All four bytes at once."""
        assert len(data) == 4
        word = int.from_bytes(data, "little")
        self.accesses.append((address, word))
        if address & REFUSED:
            raise ValueError(f"{address:#x} refuses")
        self.words[address] = word

    async def read(self, address: int, length: int, **_: object) -> bytes:
        """What was written, or the address."""
        assert length == 4
        self.accesses.append((address, None))
        if address & REFUSED:
            raise ValueError(f"{address:#x} refuses")
        return self.words.get(address, address).to_bytes(4, "little")


class Host(Block):
    """Bytes in and out, and the chip's ports as models."""

    def __init__(self, dut) -> None:
        super().__init__(dut, "serial_host", ("received_ready", "sent_valid", "sent_payload"))
        self.dut = dut
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.memory = Memory()
        bus = AxiLiteBus.from_prefix(dut, "serial_host_axil")
        self.slave = AxiLiteSlave(bus, dut.clk, dut.rst, target=self.memory)
        stream = AxiStreamBus.from_prefix(dut, "serial_host_events")
        self.events = AxiStreamSink(stream, dut.clk, dut.rst)
        stream = AxiStreamBus.from_prefix(dut, "serial_host_spikes")
        self.spikes = AxiStreamSource(stream, dut.clk, dut.rst)
        for log in (self.slave.write_if.log, self.slave.read_if.log):
            log.setLevel("CRITICAL")
        write, read = self.slave.write_if, self.slave.read_if
        for channel in (
            write.aw_channel,
            write.w_channel,
            write.b_channel,
            read.ar_channel,
            read.r_channel,
            self.events,
            self.spikes,
        ):
            channel.set_pause_generator(pauses(self.rng, PAUSE))
        self.input: deque[int] = deque()
        self.packets: list[bytes] = []
        self._rest = b""

    async def begin(self) -> None:
        """Start; from then on bytes flow, with gaps on both sides."""
        await self.start(received_valid=0, sent_ready=0, irq=0)
        cocotb.start_soon(self._flow())

    async def _flow(self) -> None:
        """Offer a byte until it is taken; be ready at random."""
        offered = None
        while True:
            if offered is None and self.input and self.rng.random() < 0.8:
                offered = self.input.popleft()
            ready = int(self.rng.random() < 0.7)
            self.set(received_valid=int(offered is not None), sent_ready=ready)
            if offered is not None:
                self.set(received_payload=offered)
            out = await self.tick()
            if out["received_ready"]:
                offered = None
            if out["sent_valid"] and ready:
                self._collect(out["sent_payload"])

    def _collect(self, byte: int | None) -> None:
        """Cut what comes into packets; a byte that begins none fails the bench."""
        assert byte is not None
        self._rest += bytes([byte])
        kind = self._rest[:1]
        assert kind in protocol.SIZE, f"packet begins with {kind!r} behind {self.packets[-3:]}"
        if len(self._rest) == protocol.SIZE[kind]:
            self.packets.append(self._rest)
            self._rest = b""

    def of(self, *kinds: bytes) -> list[bytes]:
        """Packets of these kinds."""
        return [one for one in self.packets if one[:1] in kinds]

    def events_taken(self) -> list[int]:
        """Beats that the chip has taken."""
        result = []
        while not self.events.empty():
            result.append(int.from_bytes(bytes(self.events.recv_nowait().tdata), "little"))
        return result

    async def until(self, count: int, *kinds: bytes) -> None:
        """Wait for so many packets of these kinds."""
        for _ in range(TIMEOUT_CLOCKS // 20):
            if len(self.of(*kinds)) >= count:
                return
            await ClockCycles(self.dut.clk, 20)
        raise AssertionError(f"{kinds} must come {count} times, not {len(self.of(*kinds))}")


def random_beat(rng: random.Random) -> int:
    """A beat with any bits that an event may have."""
    return rng.getrandbits(57)


@cocotb.test()
async def requests_and_all_else(dut) -> None:
    """Requests of all kinds, spikes and interrupts at once: each in its order, none lost."""
    host = Host(dut)
    rng = host.rng
    await host.begin()
    expected_accesses, expected_answers, beats = [], [], []
    words: dict[int, int] = {}
    for _ in range(N_REQUESTS):
        kind = rng.choice("WRE")
        address = rng.randrange(0, 0x100, 4) | rng.getrandbits(24) << 8
        address = rng.choice((address, rng.randrange(0, 0x40, 4)))
        word = rng.getrandbits(32)
        resp = SLVERR if address & REFUSED else 0
        if kind == "W":
            host.input.extend(protocol.write(address, word))
            expected_accesses.append((address, word))
            expected_answers.append(protocol.WRITTEN + bytes([resp]))
            if not resp:
                words[address] = word
        elif kind == "R":
            host.input.extend(protocol.read(address))
            expected_accesses.append((address, None))
            content = 0 if resp else words.get(address, address)
            expected_answers.append(
                protocol.WAS_READ + bytes([resp]) + content.to_bytes(4, "little")
            )
        else:
            beats.append(random_beat(rng))
            host.input.extend(protocol.event(beats[-1]))

    spikes, sent = [], []
    for _ in range(40):
        step = [rng.getrandbits(protocol.LAST_BIT) for _ in range(rng.randint(1, 5))]
        sent.append(b"".join(beat.to_bytes(8, "little") for beat in step))
        spikes += [beat | (k == len(step) - 1) << protocol.LAST_BIT for k, beat in enumerate(step)]
    for data in sent:
        await host.spikes.send(AxiStreamFrame(data))

    n_irqs = 12
    for k in range(n_irqs):
        await ClockCycles(dut.clk, rng.randint(1, 200))
        host.set(irq=1)
        await host.until(k + 1, protocol.IRQ)
        host.set(irq=0)
        await ClockCycles(dut.clk, 1)
    answers = (protocol.WRITTEN, protocol.WAS_READ)
    await host.until(len(expected_answers), *answers)
    await host.until(len(beats), protocol.TAKEN)
    await host.until(len(spikes), protocol.SPIKE)
    await ClockCycles(dut.clk, 400)

    check("accesses", expected_accesses, host.memory.accesses)
    check("answers", expected_answers, host.of(*answers))
    check("events taken", len(beats), len(host.of(protocol.TAKEN)))
    check("events", beats, host.events_taken())
    expected = [protocol.SPIKE + beat.to_bytes(8, "little") for beat in spikes]
    check("spikes", expected, host.of(protocol.SPIKE))
    check("interrupts", n_irqs, len(host.of(protocol.IRQ)))
    check("greetings", [protocol.GREETING * 9], host.of(protocol.GREETING))
    check("first packet", protocol.GREETING, host.packets[0][:1])
    check("unknown", [], host.of(protocol.UNKNOWN))


@cocotb.test()
@cocotb.parametrize(
    broken=[
        [ord("w")],
        [0],
        [ord("?")],
        [LOST | ord("W")],
        [*protocol.write(8, 1)[:8], LOST | 0],
        [*protocol.write(8, 1)[:4], LOST | 0],
        [*protocol.event(5)[:8], LOST | 0],
        [*protocol.read(8)[:4], LOST | 0],
    ]
)
async def deaf_after_an_error(dut, broken: list[int]) -> None:
    """What is no request is said to be none, once, and nothing behind it is done until a reset."""
    host = Host(dut)
    await host.begin()
    good = [*protocol.write(4, 0x12345678), *protocol.event(3)]
    host.input.extend([*good, *broken, *good, *broken, *good])
    await host.until(1, protocol.UNKNOWN)
    await host.spikes.send(AxiStreamFrame(bytes(8)))
    await host.until(1, protocol.SPIKE)
    await ClockCycles(dut.clk, 300)
    check("input", 0, len(host.input))
    check("accesses", [(4, 0x12345678)], host.memory.accesses)
    check("answers", [b"w\0"], host.of(protocol.WRITTEN, protocol.WAS_READ))
    check("taken", 1, len(host.of(protocol.TAKEN)))
    check("unknown", 1, len(host.of(protocol.UNKNOWN)))

    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await host.until(2, protocol.GREETING)
    host.input.extend(protocol.read(4))
    await host.until(1, protocol.WAS_READ)
    check("answer", [b"r\0" + (0x12345678).to_bytes(4, "little")], host.of(protocol.WAS_READ))


@cocotb.test()
async def events_wait_behind_nobody(dut) -> None:
    """As many events as the window holds wait while the chip takes none; requests are served."""
    host = Host(dut)
    await host.begin()
    host.events.clear_pause_generator()
    host.events.pause = True
    room = protocol.WINDOW - len(protocol.write(0, 0)) - len(protocol.read(0))
    beats = [random_beat(host.rng) for _ in range(room // len(protocol.event(0)))]
    for beat in beats:
        host.input.extend(protocol.event(beat))
    host.input.extend(protocol.write(0x10, 7) + protocol.read(0x10))
    await host.until(1, protocol.WAS_READ)
    check("answers", [b"w\0", b"r\0\7\0\0\0"], host.of(protocol.WRITTEN, protocol.WAS_READ))
    check("taken", 0, len(host.of(protocol.TAKEN)))
    host.events.pause = False
    await host.until(len(beats), protocol.TAKEN)
    await ClockCycles(dut.clk, 100)
    check("taken", len(beats), len(host.of(protocol.TAKEN)))
    check("events", beats, host.events_taken())


@cocotb.test()
async def slow_receiver_stalls_spikes(dut) -> None:
    """A spike is offered until its packet begins: of many at most one has left the chip."""
    host = Host(dut)
    await host.start(received_valid=0, sent_ready=1, irq=0)
    host.spikes.clear_pause_generator()
    host.spikes.pause = False
    await ClockCycles(dut.clk, 30)
    host.set(sent_ready=0)
    await host.spikes.send(AxiStreamFrame(bytes(8 * 5)))
    taken = 0
    for _ in range(100):
        await RisingEdge(dut.clk)
        taken += int(dut.serial_host_spikes_tvalid.value and dut.serial_host_spikes_tready.value)
    check("spikes taken", 1, taken)


@cocotb.test()
async def every_rise_is_told(dut) -> None:
    """Of an interrupt that rises again while it is told of the first time, too."""
    host = Host(dut)
    await host.start(received_valid=0, sent_ready=1, irq=0)
    host.spikes.clear_pause_generator()
    host.spikes.pause = False
    await ClockCycles(dut.clk, 30)
    for gap in range(1, 16):
        await host.spikes.send(AxiStreamFrame(bytes(8)))  # the first time has to wait for it
        while not (await host.tick())["sent_valid"]:
            pass
        host.set(irq=1)
        await host.tick()
        host.set(irq=0)
        for _ in range(gap):
            await host.tick()
        host.set(irq=1)
        told = -1
        for clock in range(30):
            out = await host.tick()
            if out["sent_valid"] and out["sent_payload"] == ord(protocol.IRQ):
                told = clock
        assert told >= 2, f"rise {gap} clocks after the first: last told {told} clocks later"
        host.set(irq=0)
        await ClockCycles(dut.clk, 4)
