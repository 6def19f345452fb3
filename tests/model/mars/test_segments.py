"""Networks whose maps do not fit: the reference's results, and what lies where in memory."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars import frame, reference
from model.mars.config import CONFIGS, MarsConfig
from model.mars.frame import ONWARD_CLOCKS, starts
from model.mars.image import Image, PassContents, read_image, write_image
from model.mars.layout import Ints
from model.mars.lowering import FitError, lower
from model.mars.machine import Machine
from model.mars.mapper import compile_network
from model.mars.memory import Region
from model.mars.network import INPUT, FeatureType, MaxPool, QuantizedNetwork, Select
from model.mars.random_network import random_input, random_network
from model.mars.random_spiking import random_spiking_network
from model.mars.segments import segments
from model.mars.zoo.builder import Builder

TINY = CONFIGS["mars-tiny"]
SMALL = MarsConfig(name="small", feature_words=256, weight_sram=64, weight_bus=128)
"""Eight macros whose memories are small."""
WIDE = MarsConfig(name="wide", n_cores=2, feature_words=256, wide_multiplier=True, weight_bus=256)


def result(image: Image, features: Ints) -> Ints:
    """What the host finds, in memory or in the first feature memory."""
    machine = Machine(image.config)
    for _ in machine.frame(image.packet(features), image.passes):
        pass
    words = machine.maps if image.contents.stored else machine.banks[0]
    first = image.contents.output_address
    return image.output.from_words(words[first : first + image.output_words])


def check(network: QuantizedNetwork, image: Image, seed: int) -> None:
    """Every layer that can be seen, and the result."""
    features = random_input(network, seed)[0]
    assert compare_model(network, image, features, Compared()) is None, network.name
    expected = reference.run(network, features)[network.output][0]
    np.testing.assert_array_equal(result(image, features), expected, network.name)


@pytest.mark.parametrize(
    ("config", "max_size", "first", "n"),
    [(TINY, 36, 0, 22), (SMALL, 28, 100, 12), (WIDE, 26, 200, 10)],
    ids=lambda value: getattr(value, "name", None),
)
def test_random_networks(config: MarsConfig, max_size: int, first: int, n: int) -> None:
    """All kinds of layers, in bands or whole, with one map or two read from memory."""
    found = {"bands": 0, "result in memory": 0, "result in macro 0": 0}
    found |= {"part of a map": 0, "middle of a line": 0, "several passes": 0}
    for seed in range(first, first + n):
        network = random_network(seed, max_size=max_size, max_layers=8, wide=config.wide_multiplier)
        try:
            image = compile_network(network, config)
        except FitError:
            continue
        if len(image.segments) == 1:
            continue
        check(network, image, seed)
        stores = [one.descriptor for one in image.passes if one.descriptor.is_store]
        found["bands"] += any(d.map_word % d.n_words for d in stores)
        found["result in memory" if image.contents.stored else "result in macro 0"] += 1
        found["part of a map"] += any(d.kept_end - d.kept_word < d.pixel_words for d in stores)
        found["middle of a line"] += any(one.descriptor.first_word for one in image.passes)
        found["several passes"] += any(
            sum(bool(one.blocks) for one in part.passes) > 1 for part in image.segments
        )
    if config is TINY:
        assert min(found.values()) > 0, found


def plain(shape: tuple[int, int, int]) -> Builder:
    """A network that grows, of 4 bit."""
    return Builder(shape, 0.0, 4, 4, 0)


def residual() -> QuantizedNetwork:
    """Maps of 40 x 40 pixels and 2 words, read by the next layer and by a residual behind it."""
    builder = plain((32, 40, 40))
    first = builder.conv("a", INPUT, 32)
    inner = builder.conv("b", first, 32)
    builder.conv("c", inner, 32, skip=first)
    return builder.network("residual")


def test_residual_over_a_cut() -> None:
    """Two maps are read, from one segment to another and over one between them."""
    builder = plain((32, 40, 40))
    first = builder.conv("a", INPUT, 32)
    second = builder.conv("b", first, 32)
    third = builder.conv("c", second, 32, skip=first)
    builder.conv("d", third, 32, skip=second)
    network = builder.network("residuals")
    image = compile_network(network, TINY)
    check(network, image, 0)
    loads = [[one.source for one in part if one.move == "load"] for part in parts_of(image)]
    assert {tuple(part) for part in loads} == {(), ("input",), ("a",), ("b", "a"), ("c", "b")}


def parts_of(image: Image) -> list[list[PassContents]]:
    """The passes of each segment, the first one's input left out."""
    contents = iter(image.contents.passes)
    n_passes = [len(one.passes) - (k == 0) for k, one in enumerate(image.segments)]
    return [[next(contents) for _ in range(n)] for n in n_passes]


def concatenated() -> QuantizedNetwork:
    """Two maps that are read as one, which is too large for the memory."""
    network = plain((16, 48, 48))
    network.conv("a", INPUT, 16)
    network.conv("b", "a", 20)
    built = network.network("concatenated")
    both = Select(name="both", inputs=("b", "a"), channels=tuple(range(30)))
    pool = MaxPool(name="pool", input="both", kernel=(3, 2), stride=(2, 1), padding=(1, 0, 0, 1))
    return replace(built, layers=(*built.layers, both, pool))


def test_parts_of_a_map() -> None:
    """Each part is written beside the other one."""
    network = concatenated()
    image = compile_network(network, TINY)
    check(network, image, 1)
    stores = [one.descriptor for one in image.passes if one.descriptor.is_store]
    parts = {(d.pixel_words, d.kept_word, d.kept_end) for d in stores}
    assert {(3, 0, 2), (3, 2, 3)} <= parts


def test_chain_of_segments() -> None:
    """What a segment reads is what the store before says; the program is read once, in order."""
    image = compile_network(residual(), TINY)
    first, *others = image.segments
    assert first.regions == (
        Region(0, image.n_input_lines),
        Region(0, image.n_program_lines),
    )
    at = image.n_program_lines
    for segment in others:
        *loads, rest = segment.regions
        for descriptor, lines in zip(loads[::2], loads[1::2], strict=True):
            assert descriptor == Region(at, 2)
            assert lines.n_lines > 0
            at += 2
        assert rest.first == at
        at += rest.n_lines
        assert 1 <= len(loads) // 2 <= 2
    assert at == len(image.lines)
    assert [one.passes[-1].descriptor.is_last for one in image.segments] == [1] * (1 + len(others))
    assert sum(image.starts_segment) == len(image.segments)


def test_clocks_of_segments_add_up() -> None:
    network = residual()
    image = compile_network(network, TINY)
    features = random_input(network, 2)[0]
    done = frame.run_frame(image, features)
    (runs,) = done.chunks
    ends = [one.clocks.end for one in runs if one.program.descriptor.is_last]
    assert len(ends) == len(image.segments)
    assert done.clocks == sum(ends) + ONWARD_CLOCKS * (len(ends) - 1)
    assert done.clocks == starts(runs)[-1] + runs[-1].clocks.end
    assert sum(one.clocks.clocks for one in runs) == sum(ends)


def test_image_file() -> None:
    network = concatenated()
    image = compile_network(network, TINY)
    again = read_image(write_image(image))
    assert again.contents == image.contents
    assert again.segments[1].regions == image.segments[1].regions
    assert (again.scratch_bytes, again.bytes_read) == (image.scratch_bytes, image.bytes_read)
    # Both maps beside each other, what is selected of them, and the result.
    words = 48 * 48 * 3 + 48 * 48 * 2 + 24 * 48 * 2
    assert image.bytes_written == image.scratch_bytes == 8 * words


def test_average_of_a_layer_that_does_not_fit() -> None:
    """The layer is computed in bands, the average behind it by itself."""
    builder = plain((16, 60, 60))
    builder.last("fc", builder.average("gap", builder.conv("a", INPUT, 16, stride=2)), 4)
    network = builder.network("average")
    image = compile_network(network, TINY)
    check(network, image, 3)
    assert ("gap",) in [one.layers for one in image.contents.passes]


def test_quickest_way() -> None:
    """Cuts are where the clocks say; a segment that takes too long is not chosen."""
    lowered = lower(residual())

    def cost(part: object) -> int | None:
        passes, stores = len(part.passes), len(part.stores)  # type: ignore[attr-defined]
        banded = part.passes[0].band is not None  # type: ignore[attr-defined]
        return None if banded or passes == 3 else 100 * passes + 10 * stores

    parts = segments(lowered, [1, 1, 1], cost)
    # a, then b and c, which would have to store a as well as b in the other order.
    assert [[one.label for one in part.passes] for part in parts] == [["a"], ["b", "c"]]
    assert [sorted(part.stores) for part in parts] == [["a"], []]
    assert [part.loads for part in parts] == [("input",), ("a",)]


def test_time_stays_on_the_chip() -> None:
    """Spiking networks are refused as before."""
    config = replace(TINY, feature_words=256)
    for seed in range(40):
        network = random_spiking_network(seed, max_size=16)
        try:
            image = compile_network(network, config)
        except FitError as error:
            if "must leave the maps in use" in str(error):
                return
        else:
            assert len(image.segments) == 1
    raise AssertionError("no network was too large")


def test_what_fits_is_not_cut() -> None:
    network = QuantizedNetwork(
        FeatureType((16, 8, 8), 4, signed=False),
        (MaxPool(name="p", input=INPUT, kernel=(2, 2), stride=(2, 2)),),
        "small",
    )
    image = compile_network(network, TINY)
    assert len(image.segments) == 1
    assert (image.scratch_bytes, image.bytes_written, image.bytes_read) == (0, 0, 0)
