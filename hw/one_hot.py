"""Selection by flags of which at most one is set."""

from functools import reduce
from operator import or_

from amaranth.hdl import Mux


def selected(flags, values):
    """The value whose flag is set, or 0: ANDs and ORs, so that nothing toggles without a flag.

    The ORs are a chain: its wires are short where the values are far apart, as lanes are on an
    FPGA. Of a balanced tree nextpnr could not route all of them.
    """
    return reduce(or_, (Mux(flag, value, 0) for flag, value in zip(flags, values, strict=True)))
