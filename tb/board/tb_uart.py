"""Receiver, transmitter and line: every byte, clocks that differ, what is no byte."""

import random

import cocotb
from cocotb.triggers import ClockCycles, First, RisingEdge

from tb.bench import Block, check, known
from tb.blocks import LINE_DEPTH, UART_DIVIDERS
from tb.board.wire import FRAME_BITS, Sender, frame

TEMPOS = (0.98, 1.0, 1.02)
"""How much longer a bit of the sender is."""
BYTE_LOST = 1 << 8


class Receiver(Block):
    """A receiver, and what came out of it."""

    def __init__(self, dut, divider: int) -> None:
        super().__init__(dut, f"uart_receiver_{divider}", ())
        self.divider = divider
        self.got: list[int | None] = []
        """Bytes, None for a wrong one."""

    async def begin(self, tempo: float = 1.0) -> Sender:
        """Start, and watch from now on."""
        sender = Sender(self.port("rx"), self.divider, tempo)
        await self.start()
        cocotb.start_soon(self._watch())
        await sender.hold(1, 2)
        return sender

    async def _watch(self) -> None:
        valid, wrong = RisingEdge(self.port("valid")), RisingEdge(self.port("wrong"))
        while True:
            right = await First(valid, wrong) is valid
            self.got.append(known(self.port("data").value) if right else None)


@cocotb.test()
@cocotb.parametrize(divider=UART_DIVIDERS, tempo=TEMPOS)
async def every_byte(dut, divider: int, tempo: float) -> None:
    """All bytes back to back, in several orders, begun anywhere between two clocks."""
    receiver = Receiver(dut, divider)
    sender = await receiver.begin(tempo)
    rng = random.Random(divider)
    data = bytes(rng.sample(range(256), 256)) + b"\0\xff" * 8
    for part in (data[:40], data[40:150], data[150:]):
        await sender.hold(1, rng.uniform(0.01, 3))
        await sender.send(part)
    await sender.hold(1, 2)
    check("bytes", list(data), receiver.got)


@cocotb.test()
@cocotb.parametrize(divider=UART_DIVIDERS)
async def glitches(dut, divider: int) -> None:
    """A pulse shorter than half a bit begins no byte, and hides none."""
    receiver = Receiver(dut, divider)
    sender = await receiver.begin()
    for clocks in range(1, divider // 2):
        await sender.hold(0, clocks / divider)
        await sender.hold(1, 1)
        await sender.send(bytes([clocks]))
    await sender.hold(1, 2)
    check("bytes", list(range(1, divider // 2)), receiver.got)


@cocotb.test()
@cocotb.parametrize(divider=UART_DIVIDERS)
async def wrong_stop_bits(dut, divider: int) -> None:
    """Such a byte is reported once, however long the line stays low; the next one is right."""
    receiver = Receiver(dut, divider)
    sender = await receiver.begin()
    for low in (0, 1, 25, 300):
        await sender.send(b"\x5a", stop=0)
        await sender.hold(0, low)
        await sender.hold(1, 1)
        await sender.send(b"\xc3\x3c")
    await sender.hold(1, 2)
    check("bytes", [None, 0xC3, 0x3C] * 4, receiver.got)


@cocotb.test()
@cocotb.parametrize(divider=UART_DIVIDERS)
async def transmitter(dut, divider: int) -> None:
    """Every clock of the line, with bytes that wait and bytes that come late."""
    block = Block(dut, f"uart_transmitter_{divider}", ("tx", "bytes_ready"))
    rng = random.Random(divider)
    data = [*b"\0\xff\x55\xaa", *(rng.randrange(256) for _ in range(30))]
    await block.start(bytes_valid=0)
    expected: list[int] = []
    for byte in data:
        gap = rng.choice((0, 0, 1, 7, 60))
        for _ in range(gap):
            out = await block.tick()
            check("line at rest", 1, out["tx"])
            check("ready at rest", 1, out["bytes_ready"])
        block.set(bytes_valid=1, bytes_payload=byte)
        out = await block.tick()
        check("line before a byte", (1, 1), (out["tx"], out["bytes_ready"]))
        # The next byte may wait all the time; it is not taken before this one's end.
        block.set(bytes_valid=rng.randrange(2), bytes_payload=~byte)
        expected = [bit for bit in frame(byte) for _ in range(divider)]
        line = [await block.tick() for _ in expected]
        check(f"line of {byte:#x}", expected, [out["tx"] for out in line])
        check("ready", 0, sum(out["bytes_ready"] for out in line))
        block.set(bytes_valid=0)


class Line(Block):
    """The line with its queue."""

    def __init__(self, dut) -> None:
        outputs = ("received_valid", "received_payload", "sent_ready", "tx", "damaged")
        super().__init__(dut, "line", outputs)
        self.got: list[int | None] = []
        self.rng = random.Random(1)
        self.ready = 1.0
        """How often what was received is taken."""
        self.damaged: int | None = 0

    async def begin(self) -> Sender:
        """Start, and take what is received."""
        sender = Sender(self.port("rx"), UART_DIVIDERS[0])
        await self.start(sent_valid=0)
        cocotb.start_soon(self._take())
        return sender

    async def _take(self) -> None:
        while True:
            taken = int(self.rng.random() < self.ready)
            self.set(received_ready=taken)
            out = await self.tick()
            self.damaged = out["damaged"]
            if out["received_valid"] and taken:
                word = out["received_payload"]
                self.got.append(None if word is None or word & BYTE_LOST else word)


@cocotb.test()
async def line_keeps_order(dut) -> None:
    """A wrong byte leaves its mark in its place; without one nothing is damaged."""
    line = Line(dut)
    sender = await line.begin()
    line.ready = 0.1
    await sender.send(b"abc")
    await sender.hold(1, 5)
    check("damaged", 0, line.damaged)
    await sender.send(b"x", stop=0)
    await sender.hold(1, 1)
    await sender.send(b"de")
    await sender.hold(1, 40)
    check("bytes", [*b"abc", None, *b"de"], line.got)
    check("damaged", 1, line.damaged)


@cocotb.test()
async def line_overflows(dut) -> None:
    """What finds no room is lost with one mark behind what was kept, and it works again."""
    line = Line(dut)
    sender = await line.begin()
    data = bytes(range(LINE_DEPTH + 4))
    line.ready = 0
    await sender.send(data[:LINE_DEPTH])
    await sender.hold(1, 2)
    check("damaged", 0, line.damaged)
    await sender.send(data[LINE_DEPTH:])
    await sender.hold(1, 2)
    check("damaged", 1, line.damaged)
    line.ready = 1
    await sender.hold(1, FRAME_BITS)
    await sender.send(b"z")
    await sender.hold(1, 4)
    check("bytes", [*data[:LINE_DEPTH], None, *b"z"], line.got)


@cocotb.test()
async def line_sends(dut) -> None:
    """What it is given to send comes back where both ends are joined."""
    line = Line(dut)
    await line.begin()
    line.ready = 0.3

    async def join() -> None:
        while True:
            line.set(rx=(await line.tick())["tx"] or 0)

    cocotb.start_soon(join())
    data = [line.rng.randrange(256) for _ in range(40)]
    for byte in data:
        line.set(sent_valid=1, sent_payload=byte)
        while not (await line.tick())["sent_ready"]:
            pass
        line.set(sent_valid=0)
        for _ in range(line.rng.choice((0, 0, 20))):
            await line.tick()
    await ClockCycles(dut.clk, 40 * UART_DIVIDERS[0])
    check("bytes", data, line.got)
