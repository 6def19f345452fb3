"""Registers one behind the other."""

from amaranth.hdl import Signal


def delayed(m, name, shape, value, clocks, *, reset_less=False):
    """A value now and in each of so many clocks; its registers are called `name_1`, `name_2` ..."""
    stages = [value]
    for stage in range(clocks):
        after = Signal(shape, name=f"{name}_{stage + 1}", reset_less=reset_less)
        m.d.sync += after.eq(stages[-1])
        stages.append(after)
    return stages
