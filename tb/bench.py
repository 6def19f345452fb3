"""What benches share: a block's ports by their own names, a clock and a reset, pauses, checks."""

import itertools
import random
from collections.abc import Iterable, Mapping
from typing import Any

import cocotb
from amaranth.hdl import Shape
from amaranth.lib.data import Layout
from cocotb.clock import Clock
from cocotb.handle import ValueObjectBase
from cocotb.triggers import ClockCycles, RisingEdge, Timer

from model.mars.config import KERNELS

CLOCK_NS = 10


def post_lanes() -> int:
    """Lanes of post-processing in the block that a bench is run on."""
    return int(cocotb.plusargs.get("lanes", KERNELS))


def with_lanes(name: str) -> str:
    """What a block with so many lanes is called in `tb.blocks`."""
    return name if post_lanes() == KERNELS else f"{name}_in_turns"


class Block:
    """One block of `tb.blocks`, driven clock by clock.

    After `tick()` the inputs of the next clock can be set; what it returned are the outputs of the
    clock that has just ended.
    """

    def __init__(self, dut, name: str, outputs: tuple[str, ...]) -> None:
        self._dut = dut
        self._name = name
        self._outputs = {output: self.port(output) for output in outputs}
        self._inputs: dict[str, _Input] = {}
        self._edge = RisingEdge(dut.clk)

    def port(self, name: str):
        """Handle of a port."""
        return getattr(self._dut, f"{self._name}_{name}")

    def set(self, **inputs: int) -> None:
        """Drive inputs; negative values wrap."""
        for name, value in inputs.items():
            if name not in self._inputs:
                self._inputs[name] = _Input(self.port(name))
            self._inputs[name].set(value)

    async def start(self, **inputs: int) -> None:
        """Start the clock, reset and set the inputs."""
        Clock(self._dut.clk, CLOCK_NS, "ns", impl="gpi").start()
        await self._set_undriven()
        self.set(**inputs)
        self._dut.rst.value = 1
        await ClockCycles(self._dut.clk, 2)
        self._dut.rst.value = 0
        await self._edge

    async def _set_undriven(self) -> None:
        """Inputs that nobody drives are 0, as they are in a simulator of two states."""
        if cocotb.SIM_NAME.startswith("Icarus"):
            # At the very start nothing is driven, not even outputs that are constant.
            await Timer(1, "step")
            for handle in self._dut:
                if isinstance(handle, ValueObjectBase) and "Z" in str(handle.value):
                    handle.value = 0

    async def tick(self) -> dict[str, int | None]:
        """One clock; the outputs before its edge, None where there is an X."""
        await self._edge
        return {name: known(handle.value) for name, handle in self._outputs.items()}


class _Input:
    """An input that nobody else drives; it is only written if it changes."""

    def __init__(self, handle) -> None:
        self._handle = handle
        self._mask = (1 << len(handle)) - 1
        self._value: int | None = None

    def set(self, value: int) -> None:
        value &= self._mask
        if value != self._value:
            self._handle.value = self._value = value


class Fields:
    """Packs and reads numbers of a layout: `layout.const` and `from_bits` take far longer.

    Parameters
    ----------
    layout : Layout

    Attributes
    ----------
    size : int
        In bits.
    """

    def __init__(self, layout: Layout) -> None:
        self.size = layout.size
        self._places = {
            key: (field.offset, field.width, Shape.cast(field.shape).signed)
            for key, field in layout
        }

    def pack(self, values: Mapping[Any, int]) -> int:
        """Bits of a port; fields without a value are 0, values wrap."""
        bits = 0
        for key, value in values.items():
            offset, width, _ = self._places[key]
            bits |= (value & (1 << width) - 1) << offset
        return bits

    def read(self, bits: int) -> dict[Any, int]:
        """All fields of a port."""
        fields = {}
        for key, (offset, width, is_signed) in self._places.items():
            value = bits >> offset & (1 << width) - 1
            fields[key] = signed(value, width) if is_signed else value
        return fields


def known(value) -> int | None:
    """A value of a port; None, which equals nothing, if it has an X."""
    try:
        return int(value)
    except ValueError:
        return None


def signed(value: int, width: int) -> int:
    """Reads two's complement."""
    return value - (1 << width) if value >> (width - 1) else value


def packed(values: Iterable[int], width: int) -> int:
    """Values of so many bits beside each other, as ports have them; they wrap."""
    return sum((int(value) & (1 << width) - 1) << width * k for k, value in enumerate(values))


def pauses(rng: random.Random, probability: float):
    """Pause patterns for the bus models: long and short bursts."""
    while True:
        paused = rng.random() < probability
        yield from itertools.repeat(paused, rng.randint(1, 5))


def check(where: str, expected: object, actual: object) -> None:
    """Equality, with both sides in the message."""
    assert actual == expected, f"{where}: must be {expected}, not {actual}"
