"""Images: there and back, and whatever damage is an ImageError."""

import struct
import zlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.mars.config import CONFIGS, MarsConfig
from model.mars.image import BLANK_CRC, HEADER, Image, ImageError, n_planes, read_image, write_image
from model.mars.mapper import compile_network
from model.mars.network import Conv, FeatureType, QuantizedNetwork
from model.mars.random_network import random_input, random_network
from model.mars.random_spiking import random_spiking_network


@cache
def small() -> bytes:
    """The image of one convolution."""
    weight = np.ones((1, 1, 1, 1), np.int64)
    conv = Conv(
        name="conv",
        input="input",
        weight=weight,
        bias=np.zeros(1, np.int64),
        mult=np.ones(1, np.int64),
        shift=np.ones(1, np.int64),
        weight_bits=2,
        out_bits=4,
        out_signed=False,
    )
    network = QuantizedNetwork(FeatureType((1, 2, 2), 4, False), (conv,), "small")
    return write_image(compile_network(network, CONFIGS["mars-tiny"]))


def with_crc(data: bytes) -> bytes:
    """The same bytes with length and CRC that match."""
    result = bytearray(data)
    result[12:16] = struct.pack("<I", len(data))
    result[BLANK_CRC] = bytes(4)
    result[BLANK_CRC] = struct.pack("<I", zlib.crc32(result))
    return bytes(result)


def assert_equal(expected: Image, actual: Image) -> None:
    assert actual.config == expected.config
    assert actual.contents == expected.contents
    assert actual.input_descriptor == expected.input_descriptor
    np.testing.assert_array_equal(actual.lines, expected.lines)


@pytest.mark.parametrize("seed", range(30))
def test_there_and_back(seed: int) -> None:
    config = list(CONFIGS.values())[seed % 3]
    network = random_network(seed, max_size=6, wide=config.wide_multiplier)
    image = compile_network(network, config)
    again = read_image(write_image(image))
    assert_equal(image, again)
    features = random_input(network, seed)[0]
    np.testing.assert_array_equal(again.packet(features), image.packet(features))


def test_header_by_hand() -> None:
    data = small()
    text = read_image(data).contents.model_dump_json().encode()
    fingerprint = CONFIGS["mars-tiny"].fingerprint
    crc = zlib.crc32(data[:16] + bytes(4) + data[20:])
    assert data[:24] == struct.pack("<4s5I", b"KMRS", 4, fingerprint, len(data), crc, len(text))
    assert data[24 : 24 + len(text)] == text
    # Descriptor of the input; descriptor, header, codes and one group-set of the convolution.
    assert len(data) == 24 + len(text) + 64 * (2 + 2 + 2 + 1 + 2)


def test_every_cut() -> None:
    data = small()
    for n in range(len(data)):
        with pytest.raises(ImageError):
            read_image(data[:n])


def test_every_byte_flipped() -> None:
    data = small()
    for n in range(len(data)):
        damaged = bytearray(data)
        damaged[n] ^= 1 << n % 8
        with pytest.raises(ImageError):
            read_image(bytes(damaged))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_anything_else(data: bytes) -> None:
    for damaged in (data, small() + data + b"\0", data + small()):
        if damaged != small():
            with pytest.raises(ImageError):
                read_image(damaged)


@settings(deadline=None)
@given(st.data())
def test_damage_with_a_crc_that_matches(data: st.DataObject) -> None:
    """Then it is an image or an ImageError, and nothing else."""
    damaged = bytearray(small())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        image = read_image(with_crc(bytes(damaged)))
    except ImageError:
        return
    assert len(image.passes) >= 1


@settings(deadline=None)
@given(st.integers(HEADER.size, 10_000))
def test_cut_with_a_crc_that_matches(n: int) -> None:
    data = small()
    if n < len(data):
        with pytest.raises(ImageError):
            read_image(with_crc(data[:n]))


def header_with(offset: int, value: int) -> bytes:
    data = bytearray(small())
    data[offset : offset + 4] = struct.pack("<I", value)
    return with_crc(bytes(data))


def test_texts() -> None:
    data = small()
    known = ", ".join(f"{c.name} {c.fingerprint:08x}" for c in CONFIGS.values())
    cases = {
        b"": "image must be at least 24 bytes, not 0: cut short",
        data[:23]: "image must be at least 24 bytes, not 23: cut short",
        b"PNG." + data[4:]: "image must begin with KMRS, not b'PNG.': no MARS image",
        data[:-1]: f"image must be {len(data)} bytes, as its header says, not {len(data) - 1}",
        data + b"x": f"image must be {len(data)} bytes, as its header says, not {len(data) + 1}",
        data[:-1] + b"x": (
            "image must match its CRC-32: it was damaged; compile the network again"
        ),
        header_with(4, 9): "image version must be 4, not 9; compile it again",
        header_with(8, 0xABC): f"image configuration must be one of {known}, not 00000abc",
        with_crc(data[:-64]): "image must hold a program: program must go on for 2 lines, not 1",
        with_crc(data + bytes(64)): (
            "image must hold a program: program must end with its last pass, not go on for 1 lines"
        ),
        with_crc(data + bytes(1)): (
            "image must hold a program: program must be whole lines of 64 bytes"
        ),
    }
    for damaged, text in cases.items():
        with pytest.raises(ImageError) as error:
            read_image(damaged)
        assert str(error.value) == text


def test_contents_that_are_none() -> None:
    data = small()
    for damaged in (
        data.replace(b'"name"', b'"nome"'),
        data.replace(b'"bits":4', b'"bits":9'),
        data.replace(b'"output_address":', b'"output_address":"').replace(
            b',"passes"', b'","passes"'
        ),
        header_with(20, 3),
        header_with(20, 1 << 31),
    ):
        with pytest.raises(ImageError, match="image must hold a program: "):
            read_image(with_crc(damaged))


def test_configuration_without_a_name() -> None:
    image = read_image(small())
    other = replace(image, config=MarsConfig(name="other", feature_words=512))
    with pytest.raises(ImageError, match="image configuration must be one of mars-tiny"):
        read_image(write_image(other))


def test_planes() -> None:
    assert [n_planes(bits) for bits in (1, 4, 5, 8, 32)] == [1, 1, 2, 2, 8]


@pytest.mark.parametrize("seed", [1, 8, 9])
def test_spiking_networks_with_their_exit(seed: int) -> None:
    network = random_spiking_network(seed, max_size=6)
    assert network.exit is not None
    image = compile_network(network, CONFIGS["mars"])
    again = read_image(write_image(image))
    assert_equal(image, again)
    assert again.contents.exit == network.exit
    assert again.exit_registers == image.exit_registers
