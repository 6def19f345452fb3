"""Root and reciprocal are their definitions, for every value of reduced width.

Squares and products of full width are out of reach of the solver. All digits come out of the same
logic, whatever the width; at full width there are the vectors of the bench.
"""

from hw.mars.row_unit import DIGITS, Reciprocal, Root
from tb.formal.harness import ARITHMETIC, Harness, Proof

ROOT_WIDTH = 16
DIVISOR_WIDTH, QUOTIENT_WIDTH = 9, 7


def _age(h: Harness, start, n_clocks: int):
    """Clocks since the last start, 0 before it, and when there is a result; what is left."""
    age = h.register("age", range(n_clocks + 2))
    left = h.probe("left", range(n_clocks + 1))
    ready = h.define("ready", age == n_clocks + 1)
    h.next(age, age + 1, (age != 0) & ~ready)
    h.next(age, 1, start)
    h.always("ages_end", age <= n_clocks + 1)
    h.always("left_is_counted", left == n_clocks + 1 - age, age != 0)
    h.always("nothing_left_before", left == 0, age == 0)
    return ready


def root(h: Harness) -> None:
    """``root^2 <= value < (root + 1)^2``."""
    unit = h.block(Root(ROOT_WIDTH))
    ready = _age(h, unit.start, ROOT_WIDTH // (2 * DIGITS))
    value = h.register("of", ROOT_WIDTH)
    h.next(value, unit.value, unit.start)
    found = unit.root
    h.always("root_right", (found * found <= value) & (value < (found + 1) * (found + 1)), ready)
    h.always("done_once", unit.done == (ready & ~h.past(ready)))
    h.reached("square", ready & (found * found == value) & (found > 100))
    h.reached("below_a_square", ready & (found == (1 << ROOT_WIDTH // 2) - 1) & value.all())


def reciprocal(h: Harness) -> None:
    """``quotient * divisor <= 2^n - 1 < (quotient + 1) * divisor``."""
    unit = h.block(Reciprocal(DIVISOR_WIDTH, QUOTIENT_WIDTH))
    ready = _age(h, unit.start, (QUOTIENT_WIDTH + 1) // DIGITS)
    divisor = h.register("of", DIVISOR_WIDTH)
    h.next(divisor, unit.divisor, unit.start)
    h.assume("divisor_is_shifted_up", unit.divisor[-1], unit.start)
    most = (1 << (DIVISOR_WIDTH - 1 + QUOTIENT_WIDTH)) - 1
    found = unit.quotient
    h.always("quotient_right", (found * divisor <= most) & (most < (found + 1) * divisor), ready)
    h.reached("largest", ready & found.all())
    h.reached("smallest", ready & divisor.all())


PROOFS = (
    Proof(
        name="row_root",
        says="the root of every value of 16 bit is its definition's, whatever starts when",
        state=root,
        depth=7,
        reach=8,
        engine=ARITHMETIC,
    ),
    Proof(
        name="row_reciprocal",
        says="the reciprocal of every divisor of 9 bit is its definition's, 7 bits of it, "
        "whatever starts when",
        state=reciprocal,
        depth=7,
        reach=8,
        engine=ARITHMETIC,
    ),
)
