"""Registers, decoded as `model/registers.rdl` describes them."""

import re

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

from hw.bus.host_bus import HostBusSignature

FULL_WORD = 0b1111


def member(register, field, suffix=""):
    """Member of a field: `population[1].N_GROUPS`, `value` -> `population_1_N_GROUPS_value`."""
    path = re.sub(r"\W+", "_", register.name)
    return f"{path}_{field.name}{suffix}"


class RegisterBank(Component):
    """All registers whose addresses lie in one region.

    **Latency**: as `HostBusSignature`. A write is visible in the clock after it. A write that is
    not a full word, or to a register without a writable field, answers `error`.

    Parameters
    ----------
    registers : list of model.registers.Register
    base : int
        Byte address at which the region begins.

    Members
    -------
    bus : In(HostBusSignature())
    REGISTER_FIELD : Out
        Value of a field that the host writes; one clock long for a pulse.
    REGISTER_FIELD_set : In(1)
        For a flag that the host clears by writing 1: sets it.
    REGISTER_FIELD_now : In
        For a field that the hardware keeps: its value.
    REGISTER_FIELD_load, REGISTER_FIELD_load_value : Out
        For a field that the hardware keeps and the host can write.
    """

    def __init__(self, registers, base):
        self.registers = registers
        self.base = base
        members = {"bus": In(HostBusSignature())}
        for register in registers:
            for field in register.fields:
                name = member(register, field)
                if field.write_one_clears:
                    members |= {name: Out(1, init=field.reset), name + "_set": In(1)}
                elif field.from_hardware:
                    members[name + "_now"] = In(field.width)
                    if field.writable:
                        members |= {
                            name + "_load": Out(1),
                            name + "_load_value": Out(field.width),
                        }
                elif field.writable:
                    members[name] = Out(field.width, init=field.reset)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        error = Signal()
        r_data = Signal.like(bus.r_data)
        m.d.comb += [bus.r_data.eq(r_data), bus.error.eq(error)]
        with m.If(bus.valid):
            m.d.sync += [error.eq(1), r_data.eq(0)]
        for register in self.registers:
            hit = Signal(name=f"hit_{register.name}")
            write = Signal(name=f"write_{register.name}")
            writable = any(field.writable for field in register.fields)
            m.d.comb += [
                hit.eq(bus.valid & (bus.addr == register.address - self.base)),
                write.eq(hit & bus.write & (bus.w_strb == FULL_WORD) & writable),
            ]
            with m.If(hit):
                m.d.sync += error.eq(bus.write & ~write)
            for field in register.fields:
                bits = slice(field.low, field.low + field.width)
                value = self._field(m, register, field, write, bus.w_data[bits])
                if field.readable:
                    with m.If(hit):
                        m.d.sync += r_data[bits].eq(value)
        return m

    def _field(self, m, register, field, write, written):
        """Adds the logic of a field; returns what the host reads."""
        name = member(register, field)
        if field.write_one_clears:
            flag = getattr(self, name)
            with m.If(getattr(self, name + "_set")):
                m.d.sync += flag.eq(1)
            with m.Elif(write & written.any()):
                m.d.sync += flag.eq(0)
            return flag
        if field.from_hardware:
            if field.writable:
                m.d.comb += [
                    getattr(self, name + "_load").eq(write),
                    getattr(self, name + "_load_value").eq(written),
                ]
            return getattr(self, name + "_now")
        if not field.writable:
            return field.reset
        value = getattr(self, name)
        if field.pulse:
            m.d.sync += value.eq(0)
        with m.If(write):
            m.d.sync += value.eq(written)
        return value
