"""Every address: memories, and the holes between them."""

import itertools

import cocotb
import numpy as np
from cocotbext.axi import AxiResp

from model.npu import layout
from model.npu.image import records
from tb.bus.master import bridge_holes
from tb.npu.chip import CHIP, CONFIG, TEST_TIMEOUT_US, Bus, run_session, some_network


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def memories(dut) -> None:
    """Both ends of every memory and random places, all bytes; one word beyond is refused."""
    bus = Bus(dut, pause=0.2)
    await bus.start()
    for p in range(CONFIG.n_populations):
        weights = bus.map[f"weights[{p}]"]
        size = CONFIG.weight_words(p) * CONFIG.n_lanes
        places = [0, size - 32, *(bus.rng.randrange(size - 32) for _ in range(6))]
        for place in places:
            data = bus.rng.randbytes(bus.rng.randint(1, 32))
            _, before = await bus.read(weights + place, 32)
            assert await bus.write(weights + place, data) == AxiResp.OKAY
            _, after = await bus.read(weights + place, 32)
            assert after == data + before[len(data) :], f"weights[{p}] at {place:#x}"
        neurons = bus.map[f"neurons[{p}]"]
        masks = [
            sum(((1 << width) - 1) << low for low, width in fields.values())
            for fields in layout.WORD_FIELDS
        ]
        expected = {}
        for index in (0, 1, CONFIG.n_lanes, CONFIG.n_neurons - 1):
            for word, mask in enumerate(masks):
                value = bus.rng.getrandbits(32)
                address = neurons + 16 * index + 4 * word
                expected[address] = value & mask
                assert await bus.write(address, value.to_bytes(4, "little")) == AxiResp.OKAY
        for address, value in expected.items():
            _, data = await bus.read(address)
            assert int.from_bytes(data, "little") == value, f"{address:#x}"
            assert await bus.write(address, b"\0\0") == AxiResp.SLVERR
            _, data = await bus.read(address)
            assert int.from_bytes(data, "little") == value, f"{address:#x} after a refused write"


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def out_of_map(dut) -> None:
    """Reads and writes outside the map answer SLVERR and change nothing."""
    bus = Bus(dut)
    await bus.start()
    network = some_network(np.random.default_rng(cocotb.RANDOM_SEED), with_events=False)
    await bus.load(network)
    holes = [0x28, 0xFC, 0x100, 0xFFC, 0x1000 + 0x10 * CONFIG.n_populations, 0xF_FFFC]
    holes += [0x7FFC, 0x7FFF_FFFC, 0xFFFF_FFFC, *bridge_holes(CHIP)]
    if CHIP.mars is None:
        holes += [0x8000, 0x9000, 0x8000_0000]
    for p in range(CONFIG.n_populations):
        holes.append(bus.map[f"neurons[{p}]"] + 16 * CONFIG.n_neurons)
        holes.append(bus.map[f"weights[{p}]"] + CONFIG.weight_words(p) * CONFIG.n_lanes)
    holes.append(bus.map["neurons[0]"] + 0x10000 * CONFIG.n_populations)
    holes.append(bus.map["weights[0]"] + 0x100_0000 * CONFIG.n_populations)
    for hole in holes:
        assert await bus.write(hole, b"\xff\xff\xff\xff") == AxiResp.SLVERR, f"{hole:#x}"
        response, data = await bus.read(hole)
        assert (response, data) == (AxiResp.SLVERR, b"\0\0\0\0"), f"{hole:#x}"
    for record in records(network, CONFIG)[1:]:
        response, data = await bus.read(record.address, 4 * len(record.words))
        expected = record.words.astype("<u4").tobytes()
        if record.address in saturated_addresses(bus):
            expected = bytes(4)
        assert (response, data) == (AxiResp.OKAY, expected), f"{record.address:#x} has changed"
    await run_session(bus, network)


@cocotb.test(timeout_time=TEST_TIMEOUT_US, timeout_unit="us")
async def every_address_bit(dut) -> None:
    """A legal address with any other upper bit is another place, or SLVERR."""
    bus = Bus(dut)
    await bus.start()
    legal = [range(0x1_0000)]
    if CHIP.mars is not None:
        legal.append(range(0x8000_0000, 0x1_0000_0000))
    starts = [bus.map["STATUS"], bus.map["population[0].N_GROUPS"]]
    for p in range(CONFIG.n_populations):
        sizes = {
            f"neurons[{p}]": 16 * CONFIG.n_neurons,
            f"weights[{p}]": CONFIG.weight_words(p) * CONFIG.n_lanes,
        }
        legal += [range(bus.map[name], bus.map[name] + size) for name, size in sizes.items()]
        starts += [bus.map[name] for name in sizes]
    for start, bit in itertools.product(starts, range(32)):
        address = start ^ (1 << bit)
        if any(address in own for own in legal):
            continue
        response, data = await bus.read(address)
        assert (response, data) == (AxiResp.SLVERR, b"\0\0\0\0"), f"{address:#x}"


def saturated_addresses(bus: Bus) -> set[int]:
    """Registers whose record clears them."""
    return {bus.map[f"population[{p}].SATURATED"] for p in range(CONFIG.n_populations)}
