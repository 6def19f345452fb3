"""The register map that `registers.rdl` describes."""

from itertools import pairwise

import pytest

from model.bridge import MAX_ENTRIES, WORDS_PER_ENTRY
from model.config import CHIPS, ChipConfig
from model.mars import registers as mars_registers
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.mars.config import MarsConfig
from model.mars.early_exit import TABLES
from model.npu import registers as npu_registers
from model.npu.config import CONFIGS as NPU_CONFIGS
from model.npu.config import NPUConfig
from model.npu.layout import WORDS_PER_NEURON
from model.registers import Field, RegisterMap, register_map

NPU = {
    "ID": 0x00,
    "FINGERPRINT": 0x04,
    "GEOMETRY": 0x08,
    "CONTROL": 0x0C,
    "STATUS": 0x10,
    "RUN_STEPS": 0x14,
    "TIMER_PERIOD": 0x18,
    "STEP": 0x1C,
    "STEP_CLOCKS": 0x20,
    "STALL_CLOCKS": 0x24,
}
POPULATION = {"N_GROUPS": 0x0, "LINKS": 0x4, "NOISE_STATE": 0x8, "SATURATED": 0xC}
MARS = {
    "mars.ID": 0x8000,
    "mars.FINGERPRINT": 0x8004,
    "mars.GEOMETRY": 0x8008,
    "mars.CONTROL": 0x800C,
    "mars.STATUS": 0x8010,
    "mars.INPUT_BASE": 0x8014,
    "mars.INPUT_LINES": 0x8018,
    "mars.PROGRAM_BASE": 0x801C,
    "mars.PROGRAM_LINES": 0x8020,
    "mars.FRAME_CLOCKS": 0x8024,
    "mars.WEIGHT_STALLS": 0x8028,
    "mars.DRAIN_STALLS": 0x802C,
    "mars.LAYER_STALLS": 0x8030,
    "mars.TIME": 0x8034,
    "mars.INPUT_STRIDE": 0x8038,
    "mars.EXIT": 0x803C,
    "mars.EXIT_LOGITS": 0x8040,
    "mars.EXIT_LIMIT": 0x8044,
    "mars.STEPS_TAKEN": 0x8048,
    "mars.SCRATCH_BASE": 0x804C,
}
BRIDGE = {
    "bridge.CONTROL": 0xA000,
    "bridge.STATUS": 0xA004,
    "bridge.RESULT": 0xA008,
    "bridge.BURST": 0xA00C,
    "bridge.WINNER": 0xA010,
    "bridge.CLOCKS": 0xA014,
}
chips = pytest.mark.parametrize("chip", CHIPS.values(), ids=list(CHIPS))
npus = pytest.mark.parametrize("npu", NPU_CONFIGS.values(), ids=list(NPU_CONFIGS))
marses = pytest.mark.parametrize("mars", MARS_CONFIGS.values(), ids=list(MARS_CONFIGS))


def field(registers: RegisterMap, register: str, name: str) -> Field:
    """A field by its name."""
    fields = {field.name: field for field in registers.registers[register].fields}
    return fields[name]


def resets(registers: RegisterMap, register: str) -> dict[str, int]:
    """What the fields of a register hold after a reset."""
    return {field.name: field.reset for field in registers.registers[register].fields}


@chips
def test_addresses(chip: ChipConfig) -> None:
    """Software that was compiled for the map of this version goes on working."""
    registers = register_map(chip)
    words: dict[str, int] = {}
    memories: dict[str, int] = {}
    if chip.npu is not None:
        words |= NPU
        for p in range(chip.npu.n_populations):
            for name, offset in POPULATION.items():
                words[f"population[{p}].{name}"] = 0x1000 + 0x10 * p + offset
            memories[f"neurons[{p}]"] = 0x100000 + 0x10000 * p
            memories[f"weights[{p}]"] = 0x1000000 * (1 + p)
    if chip.mars is not None:
        words |= MARS
        memories["exit_tables"] = 0x9000
        for macro in range(chip.mars.n_macros):
            memories[f"features[{macro}]"] = 0x8000_0000 + 0x20000 * macro
    if chip.has_bridge:
        words |= BRIDGE
        memories |= {"bridge_entries": 0xA800, "bridge_counts": 0xC000}
    assert {name: r.address for name, r in registers.registers.items()} == words
    assert {name: m.address for name, m in registers.memories.items()} == memories
    assert all(registers[name] == address for name, address in (words | memories).items())


@chips
def test_nothing_overlaps(chip: ChipConfig) -> None:
    registers = register_map(chip)
    regions = [(r.address, r.address + 4) for r in registers.registers.values()]
    regions += [(m.address, m.address + 4 * m.n_words) for m in registers.memories.values()]
    regions.sort()
    for (_, end), (start, _) in pairwise(regions):
        assert end <= start


@chips
def test_fields_do_not_overlap_and_fit_a_word(chip: ChipConfig) -> None:
    for register in register_map(chip).registers.values():
        bits = [b for f in register.fields for b in range(f.low, f.low + f.width)]
        assert len(bits) == len(set(bits))
        assert max(bits) < 32
        assert all(f.reset < 1 << f.width for f in register.fields)


def test_joint_chip_has_what_its_parts_have() -> None:
    chip = CHIPS["kenyon"]
    assert chip.npu is not None
    assert chip.mars is not None
    parts = [npu_registers.register_map(chip.npu), mars_registers.register_map(chip.mars)]
    joint = register_map(chip)
    own = {name: r for name, r in joint.registers.items() if name not in BRIDGE}
    assert own == parts[0].registers | parts[1].registers
    memories = dict(joint.memories)
    entries, counts = memories.pop("bridge_entries"), memories.pop("bridge_counts")
    assert memories == parts[0].memories | parts[1].memories
    assert (entries.n_words, entries.writable) == (MAX_ENTRIES * WORDS_PER_ENTRY, True)
    assert (counts.n_words, counts.writable) == (chip.npu.n_neurons, False)


@npus
def test_npu_memories_hold_the_configuration(npu: NPUConfig) -> None:
    memories = npu_registers.register_map(npu).memories
    for p in range(npu.n_populations):
        assert memories[f"neurons[{p}]"].n_words == npu.n_neurons * WORDS_PER_NEURON
        words = npu.weight_words(p) * npu.n_lanes // 4
        assert memories[f"weights[{p}]"].n_words >= words
    largest = max(memories[f"weights[{p}]"].n_words for p in range(npu.n_populations))
    assert largest == npu.max_rows * npu.n_neurons // 4
    assert all(memory.writable for memory in memories.values())


@npus
def test_npu_constants(npu: NPUConfig) -> None:
    registers = npu_registers.register_map(npu)
    assert resets(registers, "ID") == {"value": int.from_bytes(b"KNYN", "big")}
    assert resets(registers, "FINGERPRINT") == {"value": npu.fingerprint}
    assert resets(registers, "GEOMETRY") == {
        "n_neurons": npu.n_neurons,
        "n_lanes": npu.n_lanes,
        "n_populations": npu.n_populations,
    }


@marses
def test_mars_memories_hold_the_configuration(mars: MarsConfig) -> None:
    memories = dict(mars_registers.register_map(mars).memories)
    tables = memories.pop("exit_tables")
    assert tables.n_words == TABLES
    assert tables.writable
    assert {memory.n_words for memory in memories.values()} == {2 * mars.feature_words}
    assert not any(memory.writable for memory in memories.values())


@marses
def test_mars_constants(mars: MarsConfig) -> None:
    registers = mars_registers.register_map(mars)
    assert resets(registers, "mars.ID") == {"value": int.from_bytes(b"MARS", "big")}
    assert resets(registers, "mars.FINGERPRINT") == {"value": mars.fingerprint}
    assert resets(registers, "mars.GEOMETRY") == {
        "n_cores": mars.n_cores,
        "macros_per_core": mars.macros_per_core,
        "weight_bus_bytes": mars.weight_bus // 8,
        "feature_words": mars.feature_words,
    }


@pytest.mark.parametrize(("n_cores", "macros_per_core"), [(8, 1), (1, 8)])
def test_largest_mars(n_cores: int, macros_per_core: int) -> None:
    """Every size has room in its field, and the memories touch each other."""
    largest = MarsConfig(
        name="largest",
        n_cores=n_cores,
        macros_per_core=macros_per_core,
        feature_words=16384,
        weight_bus=512,
    )
    test_mars_constants(largest)
    test_nothing_overlaps(ChipConfig.alone(largest))
    test_fields_do_not_overlap_and_fit_a_word(ChipConfig.alone(largest))


@pytest.mark.parametrize(
    ("register", "name", "expected"),
    [
        ("ID", "value", {"readable": True, "writable": False}),
        ("CONTROL", "start", {"readable": False, "writable": True, "pulse": True}),
        ("CONTROL", "free_run", {"readable": True, "writable": True, "pulse": False}),
        ("STATUS", "done", {"write_one_clears": True, "from_hardware": True}),
        ("STATUS", "running", {"writable": False, "from_hardware": True}),
        ("STEP", "value", {"readable": True, "writable": True, "from_hardware": True}),
        ("population[1].NOISE_STATE", "value", {"reset": 1, "width": 32, "from_hardware": True}),
        ("population[1].SATURATED", "flag", {"write_one_clears": True, "width": 1}),
        ("mars.CONTROL", "abort", {"readable": False, "writable": True, "pulse": True}),
        ("mars.CONTROL", "irq_enable", {"readable": True, "writable": True, "pulse": False}),
        ("mars.STATUS", "bus_error", {"write_one_clears": True, "from_hardware": True}),
        ("mars.INPUT_BASE", "value", {"low": 9, "width": 23, "from_hardware": False}),
        ("mars.PROGRAM_LINES", "value", {"low": 0, "width": 24, "writable": True}),
        ("mars.FRAME_CLOCKS", "value", {"writable": False, "from_hardware": True}),
        ("mars.TIME", "chunk", {"low": 8, "width": 4, "writable": True}),
        ("mars.EXIT", "classes", {"low": 8, "width": 9, "writable": True}),
        ("mars.STEPS_TAKEN", "value", {"writable": False, "width": 7}),
        ("bridge.STATUS", "done", {"write_one_clears": True, "from_hardware": True}),
        ("bridge.RESULT", "entries", {"low": 0, "width": 9, "writable": True}),
        ("bridge.BURST", "steps", {"low": 0, "width": 16, "writable": True}),
        ("bridge.WINNER", "count", {"low": 16, "width": 16, "writable": False}),
    ],
)
def test_what_the_host_can_do(register: str, name: str, expected: dict[str, int]) -> None:
    found = field(register_map(CHIPS["kenyon-tiny"]), register, name)
    assert {key: getattr(found, key) for key in expected} == expected


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="NOTHING"):
        register_map(CHIPS["tiny"])["NOTHING"]
    with pytest.raises(KeyError, match=r"mars\.ID"):
        register_map(CHIPS["tiny"])["mars.ID"]
