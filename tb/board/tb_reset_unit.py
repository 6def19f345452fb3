"""The reset of a board: from power on, by the button, by a break."""

import cocotb

from hw.board.reset import SETTLE
from tb.bench import Block, check
from tb.blocks import BREAK_CLOCKS


async def clocks_until(block: Block, level: int) -> int:
    """Clocks until the reset has a level."""
    for clocks in range(3 * SETTLE):
        if (await block.tick())["reset"] == level:
            return clocks
    raise AssertionError(f"reset must become {level}")


async def begin(dut) -> Block:
    """The first reset, from power on; nothing else resets the unit."""
    block = Block(dut, "reset_unit", ("reset",))
    await block.start(button=0, rx=1)
    await clocks_until(block, 0)
    return block


@cocotb.test()
async def power_on(dut) -> None:
    """It begins high and lasts."""
    block = Block(dut, "reset_unit", ("reset",))
    await block.start(button=0, rx=1)
    check("reset", 1, (await block.tick())["reset"])
    # Three clocks of `start` came before.
    check("clocks", SETTLE - 3, await clocks_until(block, 0))


@cocotb.test()
async def button(dut) -> None:
    """One clock of it is enough; while it is pressed nothing settles."""
    block = await begin(dut)
    for pressed in (1, 50, 2 * SETTLE):
        block.set(button=1)
        clocks = 0
        if pressed > 1:
            check("clocks to the reset", 3, await clocks_until(block, 1))
            clocks = 4
        for _ in range(pressed - clocks):
            await block.tick()
        block.set(button=0)
        if pressed == 1:
            check("clocks to the reset", 2, await clocks_until(block, 1))
            check("clocks of the reset", SETTLE, await clocks_until(block, 0))
        else:
            check("clocks of the reset", SETTLE + 3, await clocks_until(block, 0))


@cocotb.test()
async def a_break(dut) -> None:
    """A line that is low for long enough is one; a clock less is none, nor are many bytes."""
    block = await begin(dut)
    for low in (1, BREAK_CLOCKS - 1, BREAK_CLOCKS - 1):
        block.set(rx=0)
        for _ in range(low):
            check("reset", 0, (await block.tick())["reset"])
        block.set(rx=1)
        for _ in range(8):
            check("reset", 0, (await block.tick())["reset"])
    block.set(rx=0)
    check("clocks to the reset", BREAK_CLOCKS + 3, await clocks_until(block, 1))
    block.set(rx=1)
    check("clocks of the reset", SETTLE + 4, await clocks_until(block, 0))
