"""Selection by flags of which at most one is set."""

from amaranth.hdl import Cat


def selected(flags, values):
    """The value whose flag is set, or 0: an AND for every bit, and a tree of ORs.

    Nothing behind the ANDs toggles while no flag is set.
    """
    masked = (value & flag.replicate(len(value)) for flag, value in zip(flags, values, strict=True))
    return Cat(Cat(column).any() for column in zip(*masked, strict=True))
