"""The register map of a chip, read from `registers.rdl`."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from systemrdl import RDLCompiler
from systemrdl.node import AddrmapNode, FieldNode, MemNode, Node, RegNode, RootNode
from systemrdl.rdltypes import OnWriteType

from model.config import ChipConfig

RDL_FILE = Path(__file__).with_name("registers.rdl")


@dataclass(frozen=True)
class Field:
    """Bits of a register.

    Attributes
    ----------
    readable, writable : bool
        What the host can do.
    pulse : bool
        Lasts one clock after a 1 was written.
    write_one_clears : bool
        A sticky flag: the hardware sets it, the host clears it.
    from_hardware : bool
        The hardware can change it.
    """

    name: str
    low: int
    width: int
    reset: int
    readable: bool
    writable: bool
    pulse: bool
    write_one_clears: bool
    from_hardware: bool


@dataclass(frozen=True)
class Register:
    """A 32-bit word; `name` is the path, for example `population[1].N_GROUPS` or `mars.STATUS`."""

    name: str
    address: int
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class MemoryRegion:
    """A memory of `n_words` 32-bit words; `name` is for example `weights[0]`."""

    name: str
    address: int
    n_words: int
    writable: bool


@dataclass(frozen=True)
class RegisterMap:
    """Everything that the AXI4-Lite port can reach, by name."""

    registers: dict[str, Register]
    memories: dict[str, MemoryRegion]

    def __getitem__(self, name: str) -> int:
        """Byte address of a register or memory."""
        entry = self.registers.get(name) or self.memories[name]
        return entry.address

    def word(self, name: str, **fields: int) -> int:
        """What a register holds if its fields hold these, and others 0."""
        places = {field.name: field.low for field in self.registers[name].fields}
        return sum(value << places[field] for field, value in fields.items())


def elaborate(chip: ChipConfig) -> RootNode:
    """The compiled SystemRDL tree, for the PeakRDL exporters."""
    defines: dict[str, str] = {}
    parameters: dict[str, int] = {}
    if chip.npu is not None:
        defines["NPU"] = ""
        parameters |= {
            "P": chip.npu.n_populations,
            "N": chip.npu.n_neurons,
            "L": chip.npu.n_lanes,
            "WORDS": chip.npu.max_rows * chip.npu.n_groups,
            "NPU_FINGERPRINT": chip.npu.fingerprint,
        }
    if chip.mars is not None:
        defines["MARS"] = ""
        parameters |= {
            "CORES": chip.mars.n_cores,
            "MACROS": chip.mars.macros_per_core,
            "BUS_BYTES": chip.mars.weight_bus // 8,
            "FEATURES": chip.mars.feature_words,
            "MARS_FINGERPRINT": chip.mars.fingerprint,
        }
    if chip.has_bridge:
        defines["BRIDGE"] = ""
    compiler = RDLCompiler()
    compiler.compile_file(str(RDL_FILE), incl_search_paths=[str(RDL_FILE.parent)], defines=defines)
    return compiler.elaborate(parameters=dict(parameters))


@cache
def register_map(chip: ChipConfig) -> RegisterMap:
    """The register map of a chip."""
    registers: dict[str, Register] = {}
    memories: dict[str, MemoryRegion] = {}
    top = elaborate(chip).top
    _collect(top, top, registers, memories)
    return RegisterMap(registers, memories)


def _collect(
    node: Node,
    top: AddrmapNode,
    registers: dict[str, Register],
    memories: dict[str, MemoryRegion],
) -> None:
    for child in node.children(unroll=True):
        name = child.get_rel_path(top)
        if isinstance(child, RegNode):
            fields = tuple(_field(f) for f in child.fields())
            registers[name] = Register(name, child.absolute_address, fields)
        elif isinstance(child, MemNode):
            entries = child.get_property("mementries")
            memories[name] = MemoryRegion(
                name, child.absolute_address, entries, child.is_sw_writable
            )
        else:
            _collect(child, top, registers, memories)


def _field(node: FieldNode) -> Field:
    reset = node.get_property("reset")
    return Field(
        name=node.inst_name,
        low=node.low,
        width=node.width,
        reset=reset if isinstance(reset, int) else 0,
        readable=node.is_sw_readable,
        writable=node.is_sw_writable,
        pulse=bool(node.get_property("singlepulse")),
        write_one_clears=node.get_property("onwrite") is OnWriteType.woclr,
        from_hardware=node.is_hw_writable,
    )
