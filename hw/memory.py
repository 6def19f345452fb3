"""Memories behind the interface of a foundry macro: nothing else knows how they are made."""

from amaranth.hdl import Module, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2


class SinglePortMemory(Component):
    """SRAM with one port for reading or writing; on an FPGA it becomes block RAM.

    **Latency**: `r_data` is valid 1 clock after a read and stays until the next read.
    **Throughput**: one access per clock. **Reset**: contents are not reset.

    Parameters
    ----------
    depth, width : int
        Words and bits per word.
    granularity : int
        Bits that one bit of `w_mask` writes.

    Members
    -------
    enable, addr : In
        An access.
    w_mask, w_data : In
        Parts to write; the access is a read if no bit of the mask is set.
    r_data : Out(width)
    """

    def __init__(self, *, depth, width, granularity):
        self.depth = depth
        self.width = width
        self.granularity = granularity
        super().__init__(
            {
                "enable": In(1),
                "addr": In(ceil_log2(depth)),
                "w_mask": In(width // granularity),
                "w_data": In(width),
                "r_data": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = Memory(
            shape=unsigned(self.width), depth=self.depth, init=[], attrs={"ram_style": "block"}
        )
        write = array.write_port(granularity=self.granularity)
        read = array.read_port()
        m.d.comb += [
            write.addr.eq(self.addr),
            write.data.eq(self.w_data),
            write.en.eq(self.w_mask & self.enable.replicate(len(self.w_mask))),
            read.addr.eq(self.addr),
            read.en.eq(self.enable & ~self.w_mask.any()),
            self.r_data.eq(read.data),
        ]
        return m


class TwoPortMemory(Component):
    """Register file with a port for reading and one for writing.

    A read of the word that is being written gives the old one. Otherwise as `SinglePortMemory`.

    Members
    -------
    r_enable, r_addr, r_data : In, In, Out
    w_mask, w_addr, w_data : In
    """

    def __init__(self, *, depth, width, granularity):
        self.depth = depth
        self.width = width
        self.granularity = granularity
        super().__init__(
            {
                "r_enable": In(1),
                "r_addr": In(ceil_log2(depth)),
                "r_data": Out(width),
                "w_mask": In(width // granularity),
                "w_addr": In(ceil_log2(depth)),
                "w_data": In(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = Memory(shape=unsigned(self.width), depth=self.depth, init=[])
        write = array.write_port(granularity=self.granularity)
        read = array.read_port()
        m.d.comb += [
            write.addr.eq(self.w_addr),
            write.data.eq(self.w_data),
            write.en.eq(self.w_mask),
            read.addr.eq(self.r_addr),
            read.en.eq(self.r_enable),
            self.r_data.eq(read.data),
        ]
        return m
