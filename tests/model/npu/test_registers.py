"""The register map that `registers.rdl` describes."""

from itertools import pairwise

import pytest

from model.npu.config import CONFIGS, NPUConfig
from model.npu.layout import WORDS_PER_NEURON
from model.npu.registers import Field, RegisterMap, register_map

CHIP = {
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
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))


def field(registers: RegisterMap, register: str, name: str) -> Field:
    """A field by its name."""
    fields = {field.name: field for field in registers.registers[register].fields}
    return fields[name]


@configs
def test_addresses(config: NPUConfig) -> None:
    """Software that was compiled for the map of this version goes on working."""
    registers = register_map(config)
    expected = dict(CHIP)
    for p in range(config.n_populations):
        for name, offset in POPULATION.items():
            expected[f"population[{p}].{name}"] = 0x1000 + 0x10 * p + offset
    assert {name: r.address for name, r in registers.registers.items()} == expected
    assert {name: m.address for name, m in registers.memories.items()} == {
        **{f"neurons[{p}]": 0x100000 + 0x10000 * p for p in range(config.n_populations)},
        **{f"weights[{p}]": 0x1000000 * (1 + p) for p in range(config.n_populations)},
    }
    assert registers["STATUS"] == 0x10
    assert registers["weights[0]"] == 0x1000000


@configs
def test_nothing_overlaps(config: NPUConfig) -> None:
    registers = register_map(config)
    regions = [(r.address, r.address + 4) for r in registers.registers.values()]
    regions += [(m.address, m.address + 4 * m.n_words) for m in registers.memories.values()]
    regions.sort()
    for (_, end), (start, _) in pairwise(regions):
        assert end <= start


@configs
def test_memories_hold_the_configuration(config: NPUConfig) -> None:
    registers = register_map(config)
    for p in range(config.n_populations):
        assert registers.memories[f"neurons[{p}]"].n_words == config.n_neurons * WORDS_PER_NEURON
        words = config.weight_words(p) * config.n_lanes // 4
        assert registers.memories[f"weights[{p}]"].n_words >= words
    largest = max(registers.memories[f"weights[{p}]"].n_words for p in range(config.n_populations))
    assert largest == config.max_rows * config.n_neurons // 4


@configs
def test_constants_of_the_configuration(config: NPUConfig) -> None:
    registers = register_map(config)
    assert field(registers, "ID", "value").reset == int.from_bytes(b"KNYN", "big")
    assert field(registers, "FINGERPRINT", "value").reset == config.fingerprint
    geometry = {f.name: f.reset for f in registers.registers["GEOMETRY"].fields}
    assert geometry == {
        "n_neurons": config.n_neurons,
        "n_lanes": config.n_lanes,
        "n_populations": config.n_populations,
    }


@configs
def test_fields_do_not_overlap_and_fit_a_word(config: NPUConfig) -> None:
    for register in register_map(config).registers.values():
        bits = [b for f in register.fields for b in range(f.low, f.low + f.width)]
        assert len(bits) == len(set(bits))
        assert max(bits) < 32
        assert all(f.reset < 1 << f.width for f in register.fields)


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
    ],
)
def test_what_the_host_can_do(register: str, name: str, expected: dict[str, int]) -> None:
    found = field(register_map(CONFIGS["tiny"]), register, name)
    assert {key: getattr(found, key) for key in expected} == expected


def test_unknown_name() -> None:
    with pytest.raises(KeyError, match="NOTHING"):
        register_map(CONFIGS["tiny"])["NOTHING"]
