"""The program image: everything a chip needs to hold a network, as words for its address map.

```
0   4s  magic "KNYI"
4   u32 version of the format
8   u32 fingerprint of the configuration
12  u32 length of the whole image in bytes
16  u32 CRC-32 of the whole image, these four bytes taken as 0
20  ... records: u32 byte address, u32 number of words, the words
```
All numbers are little-endian. A loader writes the records in order, word by word.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.npu import layout, noise
from model.npu.clocks import used_groups
from model.npu.config import CONFIGS, NPUConfig
from model.npu.layout import Words
from model.npu.network import Connections, Network, Neurons, Segment
from model.npu.registers import register_map

MAGIC = b"KNYI"
VERSION = 1
HEADER = struct.Struct("<4s4I")
RECORD = struct.Struct("<2I")
CLEAR = 1 << 5
"""CONTROL.clear: what an earlier network left behind is forgotten."""


class ImageError(ValueError):
    """The bytes are no image that this software and this chip can use."""


class FitError(ValueError):
    """The network does not fit the configuration; the text says by how much."""


@dataclass(frozen=True)
class Record:
    """Words for consecutive addresses."""

    address: int
    words: Words

    @property
    def writes(self) -> list[tuple[int, int]]:
        """(address, word), one after the other."""
        return [(self.address + 4 * k, word) for k, word in enumerate(self.words.tolist())]


def check_fit(network: Network, config: NPUConfig) -> None:
    """Raise `FitError` naming the first thing that the configuration does not have room for."""
    n = len(network.populations)
    if n > config.n_populations:
        raise FitError(
            f"network has {n} populations, {config.name} has {config.n_populations}: "
            f"{n - config.n_populations} too many"
        )
    for what, sizes, room in (
        ("neurons", network.populations, config.n_neurons),
        ("axons", network.axons, config.n_axons),
    ):
        for p, size in enumerate(sizes):
            if size > room:
                raise FitError(
                    f"population {p} has {size} {what}, {config.name} has room for {room}: "
                    f"{size - room} too many"
                )
    for p in range(n):
        for source in network.sources(p):
            if source not in config.sources(p):
                raise FitError(
                    f"population {source} has connections to population {p}, "
                    f"{config.name} has no link {source} -> {p} (links: "
                    f"{', '.join(f'{f} -> {t}' for f, t in config.links) or 'none'})"
                )


def smallest_config(network: Network) -> NPUConfig:
    """The first named configuration that the network fits."""
    reasons = []
    for config in CONFIGS.values():
        try:
            check_fit(network, config)
        except FitError as error:
            reasons.append(str(error))
        else:
            return config
    raise FitError("network fits no configuration: " + "; ".join(reasons))


def records(network: Network, config: NPUConfig) -> list[Record]:
    """What to write where, so that the chip holds the network in its initial state."""
    check_fit(network, config)
    addresses = register_map(config)

    def word(name: str, value: int) -> Record:
        return Record(addresses[name], np.array([value], np.uint32))

    result = [word("CONTROL", CLEAR), word("STEP", 0)]
    unused = range(len(network.populations), config.n_populations)
    result += [word(f"population[{p}].N_GROUPS", 0) for p in unused]
    for p, n_groups in enumerate(used_groups(network, config).tolist()):
        in_use = network.sources(p)
        mask = sum(1 << k for k, link in enumerate(config.sources(p)[1:]) if link in in_use)
        state = noise.seed_state(network.noise_seeds[p])
        neurons = network.neurons[network.neuron_slice(p)]
        result += [
            word(f"population[{p}].N_GROUPS", n_groups),
            word(f"population[{p}].LINKS", mask),
            word(f"population[{p}].NOISE_STATE", state),
            word(f"population[{p}].SATURATED", 1),
            Record(
                addresses[f"neurons[{p}]"], layout.neuron_words(neurons, n_groups * config.n_lanes)
            ),
            *_weight_records(network, config, p, n_groups, addresses[f"weights[{p}]"]),
        ]
    return result


def bias_records(network: Network, config: NPUConfig, bias: Mapping[int, int]) -> list[Record]:
    """What to write where, so that these neurons have other external stimuli."""
    addresses = register_map(config)
    result = []
    for neuron, value in bias.items():
        p = int(network.population_of(np.array(neuron)))
        index = neuron - network.neuron_slice(p).start
        word = index * layout.WORDS_PER_NEURON + layout.BIAS_WORD
        address = addresses[f"neurons[{p}]"] + 4 * word
        result.append(Record(address, np.array([layout.bias_word(value)], np.uint32)))
    return result


def _weight_records(
    network: Network, config: NPUConfig, population: int, n_groups: int, address: int
) -> list[Record]:
    """The weights of all rows that can be walked, group by group."""
    words = layout.weight_words(network, config, population, n_groups)
    row_bytes = config.n_lanes
    return [
        Record(
            address + (group * config.n_rows(population) + rows.start) * row_bytes,
            words[group, rows].reshape(-1),
        )
        for group in range(n_groups)
        for rows in layout.rows_in_use(network, config, population)
    ]


def compile_image(network: Network, config: NPUConfig) -> bytes:
    """The program image of a network for a configuration."""
    body = b"".join(
        RECORD.pack(r.address, len(r.words)) + r.words.astype("<u4").tobytes()
        for r in records(network, config)
    )
    length = HEADER.size + len(body)
    blank = HEADER.pack(MAGIC, VERSION, config.fingerprint, length, 0)
    crc = zlib.crc32(blank + body)
    return HEADER.pack(MAGIC, VERSION, config.fingerprint, length, crc) + body


def read_image(image: bytes) -> tuple[NPUConfig, list[Record]]:
    """Check an image completely and split it into its records.

    Raises
    ------
    ImageError
        Cut, longer than it says, flipped anywhere, or for a configuration that has no name here.
    """
    if len(image) < HEADER.size:
        raise ImageError(f"image must be at least {HEADER.size} bytes, not {len(image)}: cut short")
    magic, version, fingerprint, length, crc = HEADER.unpack_from(image)
    if magic != MAGIC:
        raise ImageError(f"image must begin with {MAGIC.decode()}, not {magic!r}: no Kenyon image")
    if length != len(image):
        raise ImageError(f"image must be {length} bytes, as its header says, not {len(image)}")
    blank = HEADER.pack(magic, version, fingerprint, length, 0)
    if zlib.crc32(blank + image[HEADER.size :]) != crc:
        raise ImageError("image must match its CRC-32: it was damaged; compile the network again")
    if version != VERSION:
        raise ImageError(f"image version must be {VERSION}, not {version}; compile it again")
    for config in CONFIGS.values():
        if config.fingerprint == fingerprint:
            return config, _split(image)
    known = ", ".join(f"{c.name} {c.fingerprint:08x}" for c in CONFIGS.values())
    raise ImageError(f"image configuration must be one of {known}, not {fingerprint:08x}")


def _split(image: bytes) -> list[Record]:
    result = []
    at = HEADER.size
    while at < len(image):
        if at + RECORD.size > len(image):
            raise ImageError(f"image record at byte {at} must have a header")
        address, n_words = RECORD.unpack_from(image, at)
        at += RECORD.size
        if at + 4 * n_words > len(image):
            raise ImageError(f"image record at byte {at} must end inside the image")
        words = np.frombuffer(image, "<u4", n_words, at).astype(np.uint32)
        result.append(Record(address, words))
        at += 4 * n_words
    return result


def decompile(image: bytes) -> tuple[NPUConfig, Network]:
    """The network that an image holds, as the chip knows it.

    tau is the power of two that the chip uses, weights of 0 are no connections, axons end with the
    last one that has a connection, and the stimulus is not part of an image: the session is one
    step without bias.
    """
    config, parts = read_image(image)
    addresses = register_map(config)
    words = {part.address: part.words for part in parts}
    try:
        used = [
            p
            for p in range(config.n_populations)
            if words[addresses[f"population[{p}].N_GROUPS"]][0]
        ]
        neurons = [_without_padding(words[addresses[f"neurons[{p}]"]]) for p in used]
        matrices = [layout.read_weights(_weights(parts, config, p), config, p) for p in used]
        states = [int(words[addresses[f"population[{p}].NOISE_STATE"]][0]) for p in used]
    except (KeyError, IndexError, ValueError) as error:
        raise ImageError(f"image must have words for all memories in use: {error}") from None

    sizes = tuple(len(part) for part in neurons)
    recurrent: list[Connections] = []
    external: list[Connections] = []
    n_axons: list[int] = []
    for p, matrix in zip(used, matrices, strict=True):
        first_axon = config.n_neurons * len(config.sources(p))
        own = matrix[:, : sizes[p]]
        for k, source in enumerate(config.sources(p)):
            if source in used:
                block = own[k * config.n_neurons :][: sizes[source]]
                recurrent.append(Connections.of(block, sum(sizes[:source]), sum(sizes[:p])))
        axon_rows = own[first_axon:]
        external.append(Connections.of(axon_rows, sum(n_axons), sum(sizes[:p])))
        n_axons.append(int(np.flatnonzero(axon_rows.any(axis=1)).max(initial=-1)) + 1)
    return config, Network(
        populations=sizes,
        neurons=Neurons.join(neurons),
        recurrent=Connections.join(recurrent),
        axons=tuple(n_axons),
        external=Connections.join(external),
        noise_seeds=tuple(noise.state_seed(state) for state in states),
        session=(Segment(1),),
        events=np.zeros((0, 2), np.int64),
        name="image",
    )


def _weights(parts: list[Record], config: NPUConfig, population: int) -> Words:
    """The whole weight memory after loading; what no record writes is 0."""
    base = register_map(config)[f"weights[{population}]"]
    memory = np.zeros(config.weight_words(population) * config.n_lanes // 4, np.uint32)
    for part in parts:
        first = (part.address - base) // 4
        if 0 <= first < len(memory):
            memory[first : first + len(part.words)] = part.words
    return memory


def _without_padding(words: Words) -> Neurons:
    """Neurons up to the last one with a slope: those that fill a group have none."""
    neurons = layout.read_neurons(words)
    used = np.flatnonzero(neurons.a + neurons.b)
    return neurons[: int(used.max(initial=-1)) + 1]
