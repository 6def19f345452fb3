"""One population in lockstep with the golden model: every retirement at its clock."""

import itertools

import cocotb
import numpy as np

from model.npu import layout, noise
from model.npu.clocks import PIPELINE_LATENCY, WALK_LATENCY, filled_blocks
from model.npu.engine import Engine
from model.npu.image import records
from model.npu.random_network import random_network
from model.npu.registers import register_map
from model.npu.trace import Trace
from tb.bench import Block, check, packed
from tb.blocks import CONFIG, POPULATION

LANES = CONFIG.n_lanes
OUTPUTS = (
    "busy",
    "saturated",
    "spikes",
    *(f"trace_{n}" for n in ("valid", "group", "v", "i_syn", "spike", "noise", "saturated")),
)
IDLE = (
    "start",
    "commit",
    "clear",
    "axon_event",
    "noise_load",
    "neuron_bus_valid",
    "weight_bus_valid",
    "linked_spikes",
    "links",
    "n_groups",
)
NETWORKS = 12
SATURATED_BEFORE = 3
"""Clocks from the report of a saturation to the retirement of its group."""
REGION_SIZE = 0x10000
FULL_WORD = 0xFFFF_FFFF


async def load(block: Block, network, addresses) -> dict[str, int]:
    """Write the memories over the host buses; returns the register values of the population."""
    registers = {}
    for record in records(network, CONFIG):
        for region in ("neurons", "weights"):
            base = addresses[f"{region}[{POPULATION}]"]
            if base <= record.address < base + REGION_SIZE:
                bus = region[:-1] + "_bus"
                for k, word in enumerate(record.words.tolist()):
                    block.set(
                        **{
                            f"{bus}_valid": 1,
                            f"{bus}_write": 1,
                            f"{bus}_addr": record.address - base + 4 * k,
                            f"{bus}_w_data": word,
                            f"{bus}_w_strb": 15,
                        }
                    )
                    await block.tick()
                    # At most every second clock has a request.
                    block.set(**{f"{bus}_valid": 0})
                    await block.tick()
        for name in ("N_GROUPS", "LINKS", "NOISE_STATE"):
            if record.address == addresses[f"population[{POPULATION}].{name}"]:
                registers[name] = int(record.words[0])
    return registers


def retirement(network, trace: Trace, group: int) -> dict[str, int]:
    """What the trace port must show for one group of the population."""
    own = network.neuron_slice(POPULATION)

    def lanes(values: np.ndarray) -> np.ndarray:
        padded = np.zeros(CONFIG.n_neurons, values.dtype)
        padded[: own.stop - own.start] = values[0, own]
        return padded[group * LANES : (group + 1) * LANES]

    return {
        "group": group,
        "v": packed(lanes(trace.v), 8),
        "i_syn": packed(lanes(trace.i_syn), 16),
        "spike": packed(lanes(trace.spikes), 1),
        "noise": packed(lanes(trace.noise), 8),
    }


async def step(block: Block, network, engine: Engine, filled: np.ndarray, where: str) -> None:
    """One time step, clock by clock; `filled` are the blocks that are not all zero."""
    before = engine.spikes.copy()
    axons = network.events_at(engine.step_index, engine.step_index + 1)[:, 1]
    own_axons = network.axon_slice(POPULATION)
    for axon in axons.tolist():
        if own_axons.start <= axon < own_axons.stop:
            block.set(axon_event=1, axon=axon - own_axons.start)
            await block.tick()
    linked = before[network.neuron_slice(0)]
    block.set(axon_event=0, start=1, linked_spikes=packed(linked, 1))
    trace = engine.step(axons)
    rows = np.concatenate([np.flatnonzero(before), network.n_neurons + axons])
    ends = np.cumsum(filled[rows].sum(axis=0) + 1).tolist()
    due = {
        WALK_LATENCY + slots - 1 + PIPELINE_LATENCY: retirement(network, trace, group)
        for group, slots in enumerate(ends)
    }
    end = WALK_LATENCY + ends[-1] + PIPELINE_LATENCY
    saturated = False
    for clock in range(end + 1):
        out = await block.tick()
        block.set(start=0)
        check(f"{where}, clock {clock}: busy", int(0 < clock < end), out["busy"])
        check(f"{where}, clock {clock}: trace_valid", int(clock in due), out["trace_valid"])
        if out["saturated"]:
            check(f"{where}, clock {clock}: saturated", True, clock + SATURATED_BEFORE in due)
        if clock in due:
            actual = {name: out[f"trace_{name}"] for name in due[clock]}
            check(f"{where}, clock {clock}", due[clock], actual)
            saturated |= bool(out["trace_saturated"])
    check(f"{where}: saturated", bool(trace.saturated[0, POPULATION]), saturated)
    block.set(commit=1)
    out = await block.tick()
    check(f"{where}: spikes of the step before", packed(before[own(network)], 1), out["spikes"])
    block.set(commit=0)


def own(network) -> slice:
    """The population's neurons."""
    return network.neuron_slice(POPULATION)


@cocotb.test()
async def lockstep(dut) -> None:
    """Random networks with links, axons, noise and saturation."""
    block = Block(dut, "population", OUTPUTS)
    addresses = register_map(CONFIG)
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    await block.start(**dict.fromkeys(IDLE, 0))
    done = 0
    while done < NETWORKS:
        network = random_network(rng, CONFIG)
        if len(network.populations) <= POPULATION:
            continue
        registers = await load(block, network, addresses)
        block.set(clear=1)
        await block.tick()
        block.set(clear=0)
        block.set(
            n_groups=registers["N_GROUPS"],
            links=registers["LINKS"],
            noise_load=1,
            noise_load_value=registers["NOISE_STATE"],
        )
        await block.tick()
        block.set(noise_load=0)
        engine = Engine(network)
        filled = filled_blocks(network, CONFIG, POPULATION)
        for _, segment in network.segments():
            for neuron, bias in segment.bias.items():
                if own(network).start <= neuron < own(network).stop:
                    word = 16 * (neuron - own(network).start) + 8
                    await access(block, "neuron", write=1, addr=word, w_data=bias)
            engine.set_bias(segment.bias)
            for _ in range(min(segment.steps, 30)):
                await step(
                    block, network, engine, filled, f"{network.name} step {engine.step_index}"
                )
        done += 1


@cocotb.test()
async def host(dut) -> None:
    """Each bit of both memories reads back as it was written; behind the last word is an error."""
    outputs = [f"{bus}_bus_{name}" for bus in ("neuron", "weight") for name in ("r_data", "error")]
    block = Block(dut, "population", tuple(outputs))
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    await block.start(**dict.fromkeys(IDLE, 0))
    fields = [sum(((1 << n) - 1) << low for low, n in word.values()) for word in layout.WORD_FIELDS]
    masks = {
        "neuron": fields * CONFIG.n_neurons,
        "weight": [FULL_WORD] * (CONFIG.weight_words(POPULATION) * LANES // 4),
    }
    for bus, mask in masks.items():
        values = rng.integers(0, FULL_WORD + 1, len(mask)).tolist()
        for invert in (0, FULL_WORD):
            for k, value in enumerate(values):
                out = await access(block, bus, write=1, addr=4 * k, w_data=value ^ invert)
                check(f"{bus} word {k}: error", 0, out[f"{bus}_bus_error"])
            for k, value in enumerate(values):
                out = await access(block, bus, write=0, addr=4 * k)
                check(f"{bus} word {k}", (value ^ invert) & mask[k], out[f"{bus}_bus_r_data"])
        for write in (0, 1):
            out = await access(block, bus, write=write, addr=4 * len(mask), w_data=0)
            check(f"{bus}: error behind the last word", 1, out[f"{bus}_bus_error"])


async def access(block: Block, bus: str, **request: int) -> dict[str, int]:
    """One host access; returns the outputs of the clock of its answer."""
    inputs = {f"{bus}_bus_{name}": value for name, value in request.items()}
    block.set(**{f"{bus}_bus_valid": 1, f"{bus}_bus_w_strb": 15}, **inputs)
    await block.tick()
    block.set(**{f"{bus}_bus_valid": 0})
    await block.tick()
    return await block.tick()


@cocotb.test()
async def noise_state(dut) -> None:
    """The state that the host sees: as it was loaded, and a time step further after each commit."""
    block = Block(dut, "population", ("noise_state",))
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    await block.start(**dict.fromkeys(IDLE, 0))
    for state in (1, 0xFFFF_FFFF, int(rng.integers(1, 1 << 32))):
        block.set(noise_load=1, noise_load_value=state)
        await block.tick()
        block.set(noise_load=0, commit=1)
        for expected in itertools.accumulate(range(20), lambda s, _: noise.jump(s), initial=state):
            out = await block.tick()
            check("noise_state", expected, out["noise_state"])
        block.set(commit=0)
