"""What a proof is made of: a block whose inputs are free, and statements about it."""

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.asserts import AnyConst, AnySeq
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Cover, Module, Signal, Value
from amaranth.lib.wiring import Component, In

TOP = "proof"
BLOCK = "dut"
PREFIX = "statement_"
LOGIC = "smtbmc z3"
"""Engine for control: incremental, so that many short steps are cheap."""
ARITHMETIC = "smtbmc --stbv --unroll z3 -- --noincr"
"""Engine for arithmetic: a new solver for each step, which simplifies before it searches; that made
the soma's proof take seconds instead of more than ten minutes."""
MEMORY = "smtbmc --nomem --stbv --unroll z3 -- --noincr"
"""Engine for small memories, which become registers."""


def _implied(test, when):
    """Whether the test is true, or `when` is not."""
    return ~Value.cast(when).bool() | Value.cast(test).bool()


class Harness:
    """A block under proof with everything that is said about it.

    There is no reset: registers begin with their reset values, which is what a reset does.
    """

    def __init__(self) -> None:
        self.m = Module()
        self.probes: dict[str, str] = {}
        self.cuts: list[str] = []
        self.covers: list[str] = []
        self._ports: dict[str, tuple[Value, None]] = {}
        domain = ClockDomain("sync", reset_less=True)
        self.m.domains.sync = domain
        # Without the clock among the ports nothing would ever happen, and every proof hold.
        self._ports["clk"] = (domain.clk, None)

    def block(self, component: Component, **inputs) -> Component:
        """Add the block; inputs that are not given may have any value in any clock."""
        self.m.submodules[BLOCK] = component
        for path, member, value in component.signature.flatten(component):
            if member.flow == In:
                port = Value.cast(value)
                name = "_".join(map(str, path))
                self.m.d.comb += port.eq(inputs.pop(name, AnySeq(port.shape())))
        if inputs:
            raise ValueError(f"inputs must be ports of the block, not {', '.join(inputs)}")
        return component

    def free(self, name: str, shape) -> Signal:
        """Any value in any clock."""
        return self.define(name, AnySeq(shape), shape)

    def fixed(self, name: str, shape) -> Signal:
        """Any value, the same in all clocks."""
        return self.define(name, AnyConst(shape), shape)

    def define(self, name: str, value, shape=None) -> Signal:
        """A named value, as wide as it needs to be or of a given shape."""
        value = Value.cast(value)
        signal = Signal(value.shape() if shape is None else shape, name=name)
        self.m.d.comb += signal.eq(value)
        return signal

    def past(self, value, clocks: int = 1) -> Signal:
        """The value so many clocks ago, 0 before the first clock."""
        value = Value.cast(value)
        name = getattr(value, "name", "value")
        for age in range(1, clocks + 1):
            older = Signal(value.shape(), name=f"{name}_ago_{age}")
            self.m.d.sync += older.eq(value)
            value = older
        return value

    def register(self, name: str, shape, init: int = 0) -> Signal:
        """A register of the specification; `next` says what it becomes."""
        return Signal(shape, name=name, init=init)

    def next(self, register: Signal, value, when=1) -> None:
        """Give a register its next value in clocks in which `when` is true."""
        with self.m.If(when):
            self.m.d.sync += register.eq(value)

    def probe(self, path: str, shape) -> Signal:
        """A signal inside of the block, by its name there: for invariants of an induction."""
        name = f"probe_{path.replace('.', '_')}"
        signal = Signal(shape, name=name)
        self._ports[name] = (signal, None)
        self.probes[name] = f"{BLOCK}.{path}"
        return signal

    def cut(self, path: str) -> None:
        """Let a signal inside of the block have any value: what drives it does not matter."""
        self.cuts.append(f"{BLOCK}.{path}")

    def always(self, name: str, test, when=1) -> None:
        """State that the test is true in every clock in which `when` is."""
        self._state(Assert, name, _implied(test, when))

    def assume(self, name: str, test, when=1) -> None:
        """Look only at inputs for which the test is true in every clock in which `when` is."""
        self._state(Assume, name, _implied(test, when))

    def reached(self, name: str, test) -> None:
        """State that the test can become true: what keeps a proof from holding for nothing."""
        self.covers.append(name)
        self._state(Cover, name, Value.cast(test).bool())

    def _state(self, kind, name: str, test) -> None:
        """Add a statement in a module of its own, whose name is what the tools report."""
        inner = Module()
        inner.d.comb += kind(self.define(name, test))
        self.m.submodules[f"{PREFIX}{name}"] = inner

    def holds(self, name: str, valid, ready, *payload) -> None:
        """State that a stream's offer stays as it is until it is taken."""
        waiting = self.past(self.define(f"{name}_waits", valid & ~ready))
        self.always(f"{name}_valid_stays", valid, waiting)
        for k, value in enumerate(payload):
            part = self.define(f"{name}_payload_{k}", value)
            self.always(f"{name}_payload_{k}_stays", part == self.past(part), waiting)

    def rtlil(self) -> str:
        """The design as Yosys' own text."""
        return rtlil.convert(self.m, name=TOP, ports=self._ports, emit_src=False)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A proof, by name.

    Parameters
    ----------
    name, says : str
        What is proved, in one line.
    state : callable
        Adds block and statements to a `Harness`.
    depth : int
        Clocks of the induction, or of a bounded proof.
    reach : int
        Clocks within which covers must be reached and mutants are looked at.
    bounded : bool
        Not every clock, but the first `depth` ones after reset.
    engine : str
    seed : int
        Of the mutants.
    broken : str
        Yosys selection of the cells that mutants break: those that the statements speak of.
    """

    name: str
    says: str
    state: Callable[[Harness], None]
    depth: int
    reach: int
    bounded: bool = False
    engine: str = LOGIC
    seed: int = 1
    broken: str = f"{TOP}.{BLOCK}*"

    @property
    def kind(self) -> str:
        """For how long after reset it holds."""
        return f"first {self.depth} clocks" if self.bounded else "unbounded"

    def harness(self) -> Harness:
        """The block with the statements."""
        harness = Harness()
        self.state(harness)
        return harness
