"""Program images: what fits, the way there and back, and damage of every kind."""

import re
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.npu.config import CONFIGS, NPUConfig
from model.npu.image import (
    HEADER,
    MAGIC,
    RECORD,
    VERSION,
    FitError,
    ImageError,
    check_fit,
    compile_image,
    decompile,
    read_image,
    records,
    smallest_config,
)
from model.npu.network import NEURON_LIMITS, Connections, Network
from model.npu.noise import seed_state
from model.npu.random_network import random_network
from model.npu.registers import register_map

TINY = CONFIGS["tiny"]
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))


@pytest.fixture
def small(build) -> Network:
    """Two neurons: the smallest image that has everything in it."""
    return build(
        [{"tau": 5}, {"noise": 3}],
        axons=(2,),
        recurrent=[(0, 1, 7), (1, 1, -8)],
        external=[(1, 0, 100)],
        noise_seeds=(9,),
    )


@pytest.fixture(scope="module")
def random_image() -> bytes:
    """The image of a random network."""
    return compile_image(random_network(np.random.default_rng(3), TINY), TINY)


def resealed(image: bytes, **header: int) -> bytes:
    """The image with other numbers in its header and a CRC-32 that fits."""
    magic, version, fingerprint, length, _ = HEADER.unpack_from(image)
    body = image[HEADER.size :]
    fields = {"version": version, "fingerprint": fingerprint, "length": length, **header}
    blank = HEADER.pack(magic, *fields.values(), 0)
    return HEADER.pack(magic, *fields.values(), zlib.crc32(blank + body)) + body


def with_body(body: bytes, config: NPUConfig = TINY) -> bytes:
    """A sealed image out of any records."""
    length = HEADER.size + len(body)
    header = HEADER.pack(MAGIC, VERSION, config.fingerprint, length, 0)
    return resealed(header + body)


def refused(image: bytes, text: str) -> None:
    """Reading and decompiling both refuse the image with this text."""
    for read in (read_image, decompile):
        with pytest.raises(ImageError, match=f"^{re.escape(text)}$"):
            read(image)


def as_chip_knows_it(network: Network) -> Network:
    """What can come back: tau as powers of two, no zero weights, no unused axons at the end."""

    def without_zeros(c: Connections) -> Connections:
        order = np.lexsort((c.post, c.pre))
        order = order[c.weight[order] != 0]
        return Connections(c.pre[order], c.post[order], c.weight[order])

    tau = network.neurons.tau
    powers = np.where(tau == 0, 0, 1 << np.floor(np.log2(np.maximum(tau, 1))).astype(np.int64))
    return replace(
        network,
        neurons=replace(network.neurons, tau=powers),
        recurrent=without_zeros(network.recurrent),
        external=without_zeros(network.external),
    )


def connections(c: Connections) -> set[tuple[int, int, int]]:
    return set(zip(c.pre.tolist(), c.post.tolist(), c.weight.tolist(), strict=True))


def axon_connections(network: Network) -> set[tuple[int, int, int]]:
    """External synapses, the axons counted within their populations."""
    first = np.array([network.axon_slice(p).start for p in range(len(network.populations))])
    axon = network.external.pre
    own = axon - first[network.population_of_axon(axon)] if len(axon) else axon
    return connections(replace(network.external, pre=own))


@configs
@pytest.mark.parametrize("seed", range(8))
def test_round_trip(config: NPUConfig, seed: int) -> None:
    network = random_network(np.random.default_rng(seed), config)
    found, back = decompile(compile_image(network, config))
    expected = as_chip_knows_it(network)
    assert found == config
    assert back.populations == expected.populations
    for seed_back, noise_seed in zip(back.noise_seeds, expected.noise_seeds, strict=True):
        assert seed_state(seed_back) == seed_state(noise_seed)
    for name in NEURON_LIMITS:
        np.testing.assert_array_equal(
            getattr(back.neurons, name), getattr(expected.neurons, name), name
        )
    assert connections(back.recurrent) == connections(expected.recurrent)
    assert axon_connections(back) == axon_connections(expected)
    assert all(n <= m for n, m in zip(back.axons, expected.axons, strict=True))
    assert len(back.events) == 0
    assert compile_image(back, config) == compile_image(network, config)


def test_header(small: Network) -> None:
    image = compile_image(small, TINY)
    magic, version, fingerprint, length, crc = struct.unpack("<4s4I", image[:20])
    assert (magic, version) == (b"KNYI", 1)
    assert fingerprint == TINY.fingerprint
    assert length == len(image)
    assert crc == zlib.crc32(image[:16] + bytes(4) + image[20:])


def test_records_are_the_body(small: Network) -> None:
    image = compile_image(small, TINY)
    config, found = read_image(image)
    assert config == TINY
    expected = records(small, TINY)
    assert [(r.address, r.words.tolist()) for r in found] == [
        (r.address, r.words.tolist()) for r in expected
    ]


@configs
def test_records_stay_in_the_map(config: NPUConfig) -> None:
    """Every word has a register or a memory to go to."""
    registers = register_map(config)
    rooms = [(r.address, 1) for r in registers.registers.values()]
    rooms += [(m.address, m.n_words) for m in registers.memories.values()]
    network = random_network(np.random.default_rng(0), config)
    for record in records(network, config):
        last = record.address + 4 * len(record.words)
        assert [a for a, n in rooms if a <= record.address < last <= a + 4 * n]


def test_unused_populations_are_switched_off(small: Network) -> None:
    addresses = register_map(TINY)
    words = {r.address: r.words.tolist() for r in records(small, TINY)}
    assert words[addresses["population[0].N_GROUPS"]] == [1]
    assert words[addresses["population[1].N_GROUPS"]] == [0]


def test_every_single_bit_flip_is_refused(small: Network) -> None:
    image = compile_image(small, TINY)
    for bit in range(8 * len(image)):
        flipped = bytearray(image)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ImageError):
            read_image(bytes(flipped))


def test_every_truncation_is_refused(small: Network) -> None:
    image = compile_image(small, TINY)
    for length in range(len(image)):
        with pytest.raises(ImageError):
            read_image(image[:length])


@given(data=st.data())
def test_bit_flips_of_a_random_image_are_refused(random_image: bytes, data: st.DataObject) -> None:
    bits = data.draw(st.sets(st.integers(0, 8 * len(random_image) - 1), min_size=1, max_size=3))
    damaged = bytearray(random_image)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ImageError):
        decompile(bytes(damaged))


@given(data=st.data())
def test_truncations_of_a_random_image_are_refused(
    random_image: bytes, data: st.DataObject
) -> None:
    length = data.draw(st.integers(0, len(random_image) - 1))
    with pytest.raises(ImageError):
        decompile(random_image[:length])


@given(tail=st.binary(min_size=1, max_size=100))
@example(tail=b"\0")
def test_trailing_bytes_are_refused(random_image: bytes, tail: bytes) -> None:
    n = len(random_image)
    refused(
        random_image + tail, f"image must be {n} bytes, as its header says, not {n + len(tail)}"
    )


@given(junk=st.binary(max_size=200))
def test_anything_else_is_refused(junk: bytes) -> None:
    with pytest.raises(ImageError):
        read_image(junk)


@given(body=st.binary(max_size=60))
def test_sealed_nonsense_is_refused(body: bytes) -> None:
    """Records that no compiler wrote, with a CRC-32 that fits."""
    with pytest.raises(ImageError):
        decompile(with_body(body))


def test_what_is_wrong_is_said(small: Network) -> None:
    image = compile_image(small, TINY)
    refused(b"", "image must be at least 20 bytes, not 0: cut short")
    refused(image[:19], "image must be at least 20 bytes, not 19: cut short")
    refused(b"ELF!" + image[4:], "image must begin with KNYI, not b'ELF!': no Kenyon image")
    refused(
        image[:-1], f"image must be {len(image)} bytes, as its header says, not {len(image) - 1}"
    )
    damaged = image[:-1] + bytes([image[-1] ^ 1])
    refused(damaged, "image must match its CRC-32: it was damaged; compile the network again")
    refused(resealed(image, version=2), "image version must be 1, not 2; compile it again")
    known = ", ".join(f"{c.name} {c.fingerprint:08x}" for c in CONFIGS.values())
    refused(
        resealed(image, fingerprint=0x1234),
        f"image configuration must be one of {known}, not 00001234",
    )


def test_torn_records_are_said() -> None:
    refused(with_body(bytes(7)), "image record at byte 20 must have a header")
    body = RECORD.pack(0, 2) + bytes(4)
    refused(with_body(body), "image record at byte 28 must end inside the image")


def test_image_of_another_configuration(small: Network) -> None:
    """An image knows its configuration; the same records for another one are another image."""
    tiny, poppins = (compile_image(small, CONFIGS[name]) for name in ("tiny", "poppins"))
    assert read_image(tiny)[0].name == "tiny"
    assert read_image(poppins)[0].name == "poppins"
    assert tiny != poppins


def test_fingerprints_differ_but_not_by_name() -> None:
    assert len({config.fingerprint for config in CONFIGS.values()}) == len(CONFIGS)
    assert replace(TINY, name="other").fingerprint == TINY.fingerprint


@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        (
            {"populations": (1, 1, 1), "axons": (0, 0, 0)},
            "network has 3 populations, tiny has 2: 1 too many",
        ),
        (
            {"populations": (1, 19), "axons": (0, 0)},
            "population 1 has 19 neurons, tiny has room for 16: 3 too many",
        ),
        (
            {"populations": (1, 2), "axons": (0, 20)},
            "population 1 has 20 axons, tiny has room for 8: 12 too many",
        ),
    ],
)
def test_too_large_by_how_much(build, sizes: dict[str, tuple[int, ...]], error: str) -> None:
    network = build([{}] * sum(sizes["populations"]), **sizes)
    for attempt in (check_fit, records, compile_image):
        with pytest.raises(FitError, match=f"^{re.escape(error)}$"):
            attempt(network, TINY)


def test_missing_link(build) -> None:
    network = build([{}] * 2, populations=(1, 1), recurrent=[(1, 0, 5)])
    error = "population 1 has connections to population 0, tiny has no link 1 -> 0 (links: 0 -> 1)"
    with pytest.raises(FitError, match=f"^{re.escape(error)}$"):
        check_fit(network, TINY)


@pytest.mark.parametrize(
    ("populations", "name"),
    [((16, 16), "tiny"), ((17,), "poppins"), ((129,), "odin"), ((1, 1, 1), "large")],
)
def test_smallest_configuration(build, populations: tuple[int, ...], name: str) -> None:
    network = build([{}] * sum(populations), populations=populations)
    assert smallest_config(network).name == name


def test_no_configuration_fits(build) -> None:
    network = build([{}] * 257)
    with pytest.raises(FitError, match=r"^network fits no configuration: .*large has room for 256"):
        smallest_config(network)
