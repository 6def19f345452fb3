"""The cocotb side of `tb.board.cosim`: joins the pins of a board to a socket."""

import contextlib
import os
import socket

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, Timer

from model.board.config import MIN_DIVIDER
from model.board.protocol import BREAK_BITS
from tb.bench import CLOCK_NS
from tb.board.cosim import BREAK, BUTTON, WRONG_STOP, symbol
from tb.board.wire import Sender

TEMPO = 1.01
"""How much longer a bit of this end is."""


async def hear(dut, line: socket.socket, bit_ps: float) -> None:
    """Hand on every byte that the board sends."""
    falls = FallingEdge(dut.tx)

    async def wait(bits: float) -> int:
        await Timer(round(bits * bit_ps), "ps")
        return int(dut.tx.value)

    while True:
        await falls
        if await wait(0.5):
            continue  # a reset cuts bytes
        bits = [await wait(1) for _ in range(8)]
        if not await wait(1):
            bits = []  # a host hears 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.sendall(symbol(sum(bit << k for k, bit in enumerate(bits))))


async def act(dut, line: socket.socket, sender: Sender, wanted: int) -> None:
    """Do what the other side of the socket wants."""
    if wanted == BREAK:
        await sender.hold(0, 1.2 * BREAK_BITS)
        line.sendall(symbol(BREAK))
        await sender.hold(1, 2)
    elif wanted == BUTTON:
        dut.button.value = 1
        await ClockCycles(dut.clk, 5)
        dut.button.value = 0
    else:
        await sender.send(bytes([wanted & 0xFF]), stop=0 if wanted & WRONG_STOP else 1)
        if wanted & WRONG_STOP:
            await sender.hold(1, 2)


@cocotb.test()
async def serve(dut) -> None:
    """Until the other side closes the socket."""
    Clock(dut.clk, CLOCK_NS, "ns").start()
    dut.button.value = 0
    sender = Sender(dut.rx, MIN_DIVIDER, TEMPO)
    line = socket.socket(socket.AF_UNIX)
    line.connect(os.environ["KENYON_LINE"])
    hearing = cocotb.start_soon(hear(dut, line, sender.bit_ps))
    rest = b""
    with line, contextlib.suppress(ConnectionResetError):
        while True:
            try:
                data = line.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                await sender.hold(1, 20)
                continue
            if not data:
                break
            rest += data
            whole = len(rest) // 2 * 2
            for at in range(0, whole, 2):
                await act(dut, line, sender, int.from_bytes(rest[at : at + 2], "little"))
            rest = rest[whole:]
    hearing.cancel()
