"""Selection by flags of which at most one is set."""

from amaranth.hdl import Mux


def selected(flags, values):
    """The value whose flag is set, or 0: ANDs, and a balanced tree of ORs.

    Nothing behind the ANDs toggles while no flag is set.
    """
    terms = [Mux(flag, value, 0) for flag, value in zip(flags, values, strict=True)]
    while len(terms) > 1:
        rest = [terms.pop()] if len(terms) % 2 else []
        terms = [a | b for a, b in zip(terms[::2], terms[1::2], strict=True)] + rest
    return terms[0]
