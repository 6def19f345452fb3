"""The golden machine: passes worked out by hand, and against the reference, memory included."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from model.mars import reference
from model.mars.bands import BAND
from model.mars.config import CONFIGS, KERNELS, MarsConfig
from model.mars.image import Features, Image, PassContents
from model.mars.layout import Descriptor, Header, Ints
from model.mars.machine import Counters, Machine, from_planes, nibble_plane, walk
from model.mars.mapper import FitError, compile_network
from model.mars.network import (
    INPUT,
    AvgPool,
    Conv,
    Dense,
    FeatureType,
    Layer,
    MaxPool,
    QuantizedNetwork,
    output_type,
)
from model.mars.program import KernelBlock, Pass, encode_input
from model.mars.random_network import random_input, random_network

TINY = CONFIGS["mars-tiny"]
MARS = CONFIGS["mars"]
PAIR = MarsConfig(name="pair", n_cores=1, macros_per_core=2, feature_words=2048)
QUAD = MarsConfig(name="quad", n_cores=2, macros_per_core=2, feature_words=2048, weight_bus=128)


def one_set(weight: int, code: int = 0, n_entries: int = 1) -> KernelBlock:
    """Kernel 0 multiplies channel 0 by a number, in each entry; bias 1, mult 1, shift 1."""
    words = np.zeros((n_entries, 1, 16), np.uint64)
    words[:, 0, 0] = weight & 0xF
    ones = np.ones(KERNELS, np.int64)
    header = Header(ones, ones, ones, np.zeros(KERNELS, np.int64))
    return KernelBlock(header, np.full((n_entries, 1), code), words)


def run_pass(
    d: Descriptor, blocks: list[KernelBlock], image: list[list[int]], table: Ints | None = None
):
    """A pass that reads channel 0 of a map at address 0 and writes from 512 on."""
    rows, cols = len(image), len(image[0])
    machine = Machine(TINY)
    stored = Descriptor(is_input=1, n_rows=rows, out_row_pitch=cols, out_end_row=(rows, *[0] * 7))
    packet = encode_input(stored, np.array(image, np.uint64).reshape(-1))
    d = replace(
        d,
        in_height=rows,
        in_width=cols,
        in_row_step=cols * d.row_stride,
        in_col_step=d.col_stride,
        tap_row_pitch=cols * d.row_dilation,
        tap_col_pitch=d.col_dilation,
        out_base=(512, *[0] * 7),
        out_end_row=(255, *[0] * 7),
        n_kernel_blocks=len(blocks),
    )
    results = list(machine.frame(packet, (Pass(d, tuple(blocks), table),)))
    return results[0][1], results[1][1], machine.banks[0]


def test_pass_by_hand() -> None:
    d = Descriptor(
        rows_per_team=2, n_rows=2, n_cols=2, out_row_pitch=2, out_col_pitch=1, high=15, is_last=1
    )
    stored, result, bank = run_pass(d, [one_set(3)], [[1, 2], [4, 15]])
    assert stored.counters == Counters(feature_writes=4)
    # (3 x + 1 + 1) >> 1, and 1 of the bias alone.
    assert result.values[:, 0].tolist() == [2, 4, 7, 15]
    assert (result.values[:, 1:] == 1).all()
    ones = 0x1111_1111_1111_1110
    assert bank[512:516].tolist() == [ones + 2, ones + 4, ones + 7, ones + 15]
    assert bank[:4].tolist() == [1, 2, 4, 15]
    assert not bank[4:512].any()
    assert result.writes.row.tolist() == [0, 0, 1, 1]
    assert result.writes.offset.tolist() == [0, 1, 2, 3]
    assert result.counters == Counters(
        accesses=4, feature_reads=4, feature_writes=4, requantisations=64
    )


def test_padding_is_not_read() -> None:
    """Tap (0, 0) of a padded kernel sees one pixel of four; the other reads are left out."""
    d = Descriptor(
        rows_per_team=2,
        n_rows=2,
        n_cols=2,
        out_row_pitch=2,
        out_col_pitch=1,
        high=15,
        dx_width=2,
        pad_top=1,
        pad_left=1,
        in_base=((-2 - 1) & 0xFFFF, *[0] * 7),
    )
    _, result, _ = run_pass(d, [one_set(3, 0, n_entries=2)], [[5, 1], [1, 1]])
    assert result.values[:, 0].tolist() == [1, 1, 1, 15]  # (2 * 3 * 5 + 2) >> 1 is 16
    assert result.counters == Counters(
        accesses=8, feature_reads=2, feature_writes=4, requantisations=64
    )


def test_pad_value_stride_and_dilation() -> None:
    """Tap (1, 1) of a kernel with dilation 2: two rows down, three columns right."""
    d = Descriptor(
        rows_per_team=1,
        n_rows=1,
        n_cols=2,
        out_row_pitch=2,
        out_col_pitch=1,
        high=15,
        dx_width=1,
        row_stride=2,
        col_stride=2,
        row_dilation=2,
        col_dilation=3,
        pad_value=6,
    )
    image = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 5]]
    _, result, _ = run_pass(d, [one_set(2, 0b11)], image)
    assert result.values[:, 0].tolist() == [6, 7]  # (2*5 + 2) >> 1, (2*6 + 2) >> 1
    assert result.counters.feature_reads == 1


def test_largest_by_hand() -> None:
    """Two taps of signed values; what is around the map is the least value."""
    d = Descriptor(
        rows_per_team=1,
        n_rows=1,
        n_cols=3,
        out_row_pitch=3,
        out_col_pitch=1,
        low=-8,
        high=7,
        dx_width=1,
        maximum=1,
        in_signed=1,
        pad_value=8,
    )
    taps = one_set(2, n_entries=2)
    taps.codes[1] = 1
    _, result, _ = run_pass(d, [taps], [[0xB, 0xD, 0x3]])  # -5, -3, 3
    assert result.values[:, 0].tolist() == [-2, 4, 4]  # (2*max + 2) >> 1


def test_lookup_before_the_average() -> None:
    d = Descriptor(
        rows_per_team=1,
        n_rows=1,
        n_cols=2,
        high=15,
        gap=1,
        gap_bias=3,
        gap_mult=1,
        gap_shift=1,
        gap_low=-20,
        gap_high=20,
        gap_offset=4,
        lookup=1,
        lookup_signed=1,
        out_planes_log2=1,
    )
    table = np.zeros(256, np.int64)
    table[[2, 3]] = -20, 9
    _, result, bank = run_pass(d, [one_set(2)], [[1, 2]], table)
    # -20 + 9 + 3 = -8, (-8 + 1) >> 1 = -4, and 4.
    assert int(bank[512]) & 0xF == 0
    assert result.values[:, 0].tolist() == [2, 3]


def test_residual_less_its_zero() -> None:
    d = Descriptor(
        rows_per_team=1,
        n_rows=1,
        n_cols=2,
        out_row_pitch=2,
        out_col_pitch=1,
        low=-2,
        high=13,
        offset=2,
        has_skip=1,
        skip_mult=4,
        skip_zero=3,
        skip_col_pitch=1,
    )
    _, result, _ = run_pass(d, [one_set(0)], [[3, 5]])
    # (1 + 0 + 1) >> 1 = 1 and (1 + 4*2 + 1) >> 1 = 5, and 2.
    assert result.values[:, 0].tolist() == [3, 7]


def test_pool_by_hand() -> None:
    """Values come in quads; the largest of each is written."""
    d = Descriptor(
        rows_per_team=2, n_rows=2, n_cols=4, out_row_pitch=2, out_col_pitch=1, high=15, pool=1
    )
    _, result, bank = run_pass(d, [one_set(2)], [[1, 2, 3, 4], [5, 0, 7, 6]])
    assert result.values[:, 0].tolist() == [2, 3, 6, 1, 4, 5, 8, 7]
    assert (bank[512:514] & np.uint64(0xF)).tolist() == [6, 8]
    assert result.writes.offset.tolist() == [0, 1]
    assert result.counters == Counters(
        accesses=8, feature_reads=8, feature_writes=2, requantisations=128
    )


def test_average_by_hand() -> None:
    d = Descriptor(
        rows_per_team=2, n_rows=2, n_cols=2, high=15, gap=1, gap_mult=1, gap_shift=2, gap_high=15
    )
    _, result, bank = run_pass(d, [one_set(2)], [[1, 2], [3, 4]])
    # 2 + 3 + 4 + 5 = 14, (14 + 2) >> 2 = 4; the others (4 + 2) >> 2 = 1.
    assert int(bank[512]) == 0x1111_1111_1111_1114
    assert result.writes.row.tolist() == [0]
    assert result.counters.feature_writes == 1


def test_walk() -> None:
    rows, cols = walk(Descriptor(rows_per_team=2, n_cols=3))
    assert list(zip(rows.tolist(), cols.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    rows, cols = walk(Descriptor(rows_per_team=2, n_cols=4, pool=1))
    assert list(zip(rows.tolist(), cols.tolist(), strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)
    ]  # fmt: skip


def test_planes_there_and_back() -> None:
    rng = np.random.default_rng(1)
    for signed in (False, True):
        for planes in (1, 2, 8):
            bits = 4 * planes
            low = -(1 << (bits - 1)) if signed else 0
            values = rng.integers(low, low + (1 << bits), (50, 16))
            words = np.stack([nibble_plane(values, p) for p in range(planes)], axis=-1)
            np.testing.assert_array_equal(from_planes(words, signed=signed), values)
    assert int(nibble_plane(np.arange(16), 0)) == 0xFEDC_BA98_7654_3210
    assert int(nibble_plane(np.full(16, -2), 1)) == 0xFFFF_FFFF_FFFF_FFFF


class Builder:
    """Layers with random weights, one behind the other unless told otherwise."""

    def __init__(self, channels: int, rows: int, cols: int, bits: int = 4, **kind: Any) -> None:
        self.input = FeatureType((channels, rows, cols), bits, kind.get("signed", False))
        self.types = {INPUT: self.input}
        self.layers: list[Layer] = []
        self.rng = np.random.default_rng(channels * rows + cols)

    def _add(self, layer: Layer) -> "Builder":
        self.types[layer.name] = output_type(layer, self.types)
        self.layers.append(layer)
        return self

    @property
    def last(self) -> str:
        return self.layers[-1].name if self.layers else INPUT

    def _products(self, n: int, shape: tuple[int, ...], weight_bits: int) -> dict[str, Any]:
        half = 1 << (weight_bits - 1)
        return {
            "weight": self.rng.integers(-half, half, (n, *shape)),
            "bias": self.rng.integers(-300, 300, n),
            "mult": self.rng.integers(1, 2000, n),
            "shift": self.rng.integers(10, 17, n),
            "weight_bits": weight_bits,
        }

    def conv(
        self,
        n: int,
        size: int = 3,
        *,
        source: str | None = None,
        weight_bits: int = 4,
        out_bits: int = 4,
        signed: bool = False,
        **fields: Any,
    ) -> "Builder":
        source = source or self.last
        products = self._products(n, (self.types[source].shape[0], size, size), weight_bits)
        if out_bits == 32:
            products |= {"mult": None, "shift": None}
        fields = {"padding": size // 2, **fields}
        name = f"conv{len(self.layers)}"
        return self._add(
            Conv(
                name=name,
                input=source,
                out_bits=out_bits,
                out_signed=signed or out_bits == 32,
                **products,
                **fields,
            )
        )

    def dense(self, n: int, *, weight_bits: int = 4, out_bits: int = 8) -> "Builder":
        kind = self.types[self.last]
        products = self._products(n, (kind.size,), weight_bits)
        if out_bits == 32:
            products |= {"mult": None, "shift": None}
        return self._add(
            Dense(
                name=f"dense{len(self.layers)}",
                input=self.last,
                out_bits=out_bits,
                out_signed=out_bits == 32,
                **products,
            )
        )

    def pool(self, source: str | None = None) -> "Builder":
        return self._add(MaxPool(name=f"pool{len(self.layers)}", input=source or self.last))

    def average(self, *, source: str | None = None, bits: int = 8) -> "Builder":
        return self._add(
            AvgPool(
                name=f"average{len(self.layers)}",
                input=source or self.last,
                mult=700,
                shift=12,
                out_bits=bits,
                out_signed=False,
            )
        )

    def build(self, name: str) -> QuantizedNetwork:
        return QuantizedNetwork(self.input, tuple(self.layers), name)


DIRECTED = [
    Builder(3, 7, 5).conv(20).conv(17, stride=2).build("odd maps"),
    Builder(3, 9, 11).conv(16, padding=0, stride=2).conv(40, 1, stride=2).build("no padding"),
    Builder(3, 9, 7).conv(16).pool().pool().conv(3).build("pool of a pool"),
    Builder(16, 6, 6).pool().conv(16).build("pool of the input"),
    Builder(16, 6, 6).average().dense(3).build("average of the input"),
    Builder(16, 6, 6).conv(16, skip=INPUT, skip_mult=4096).build("residual of the input"),
    Builder(16, 6, 6, 8, signed=True)
    .conv(16, out_bits=8, signed=True, skip=INPUT, skip_mult=900)
    .build("signed residual of two nibbles"),
    Builder(3, 8, 8)
    .conv(16, out_bits=8)
    .conv(16, out_bits=8, signed=True)
    .conv(16, out_bits=8, skip="conv0", skip_mult=5000)
    .conv(16, out_bits=6, skip="conv1", skip_mult=3000, source="conv2")
    .build("residual in place, another sign"),
    Builder(3, 8, 8)
    .conv(16)
    .conv(16, 1)
    .conv(16, source="conv0", skip="conv1", skip_mult=4096)
    .conv(8, source="conv2", skip=None)
    .build("two consumers"),
    Builder(3, 8, 8)
    .conv(16)
    .conv(16, source="conv0", skip="conv0", skip_mult=4096)
    .conv(16, source="conv1", skip="conv0", skip_mult=4096)
    .build("residual of the source and again later"),
    Builder(3, 6, 6)
    .conv(24, weight_bits=8)
    .conv(9, weight_bits=8, out_bits=8)
    .conv(33, weight_bits=5, out_bits=8, signed=True)
    .build("halves"),
    Builder(3, 6, 6)
    .conv(24, weight_bits=8)
    .conv(24, 1, weight_bits=8, out_bits=4)
    .conv(24, weight_bits=8, source="conv0", skip="conv1", skip_mult=2048)
    .build("halves with residual"),
    Builder(3, 6, 4).conv(20).dense(30).dense(10, out_bits=32).build("flatten"),
    Builder(5, 3, 3, 8).dense(10, weight_bits=8, out_bits=32).build("dense alone"),
    Builder(3, 8, 8).conv(20).pool().average().dense(10, out_bits=32).build("average of a pool"),
    Builder(3, 8, 8).conv(20, out_bits=8).average(bits=4).conv(5, 1).build("average of a layer"),
    Builder(3, 6, 6).conv(20, out_bits=32).build("raw map"),
    Builder(3, 6, 6).conv(20, out_bits=32, weight_bits=8).build("raw halves"),
    Builder(1, 1, 1).conv(1, 1).build("one pixel"),
    Builder(3, 1, 12).conv(16).conv(16).build("one row"),
    Builder(3, 12, 1).conv(16).conv(16, stride=2).build("one column"),
    Builder(64, 4, 4, 8).conv(8).conv(8).build("36 addresses of a macro"),
    Builder(64, 4, 4).dense(16, out_bits=32).build("all addresses of a macro"),
]


@dataclass(frozen=True)
class Stored:
    """Rows of a map that a pass has stored: which pass, of which type, the values."""

    descriptor: Descriptor
    kind: Features
    values: Ints


def assert_stored(machine: Machine, stored: Stored, name: str) -> None:
    """Every memory has the rows that it should have; what fills up channels may be anything."""
    d, kind = stored.descriptor, stored.kind
    n_channels, n_rows, n_cols = stored.values.shape
    n_words = kind.blocks * kind.planes
    pitch = d.out_col_pitch or n_words  # that of the input
    place = np.arange(n_cols)[:, np.newaxis] * pitch + np.arange(n_words)
    for m in range(machine.config.n_macros):
        rows = np.arange(d.out_first_row[m], min(d.out_end_row[m], n_rows))
        if not len(rows):
            continue
        team, row = np.divmod(rows, n_rows if d.is_input else d.rows_per_team >> d.pool)
        first = d.out_base[m] + team * d.team_out_pitch + row * d.out_row_pitch
        address = (first[:, np.newaxis, np.newaxis] + place) % machine.banks.shape[1]
        seen = replace(kind, shape=(n_channels, len(rows), n_cols))
        values = seen.from_words(machine.banks[m, address].reshape(-1))
        np.testing.assert_array_equal(values, stored.values[:, rows], name)


def assert_right(network: QuantizedNetwork, image: Image, features: Ints) -> None:
    """Every map in every feature memory, when it is written and as long as it is needed."""
    right = reference.run(network, features)
    machine = Machine(image.config)
    stored: dict[str, list[Stored]] = {}

    def add(name: str, d: Descriptor, kind: Features, values: Ints) -> None:
        kind = replace(kind, shape=values.shape)
        stored.setdefault(name, []).append(Stored(d, kind, values))
        check(name)

    def check(name: str) -> None:
        for part in stored.get(name, []):
            assert_stored(machine, part, name)

    frame = machine.frame(image.packet(features), image.passes)
    one, _ = next(frame)
    packing = image.contents.packing
    packed = features if packing is None else packing.pack(features)
    add(INPUT, one.descriptor, image.contents.input, packed)
    passes = image.contents.passes
    sources = [contents.source for contents in passes[1:]] + [""]
    for contents, next_source in zip(passes, sources, strict=True):
        check(contents.source)
        if not contents.partial and contents.team_rows[0] <= 0:
            skip = getattr(network.layer(contents.layers[0]), "skip", None)
            check(skip or contents.source)
        one, _ = next(frame)
        if contents.partial:
            continue
        name, d = contents.layers[-1], one.descriptor
        rows = np.array(contents.team_rows)[:, np.newaxis] + np.arange(d.rows_per_team)
        rows = rows.reshape(-1)[: d.n_rows : 1 + d.pool] >> d.pool
        # Rows outside the map are computed and not stored.
        values = right[name][0]
        values = values if d.gap else values[:, np.clip(rows, 0, values.shape[1] - 1)]
        # Bands between two passes live only until the second one has read them.
        place = next_source if BAND in next_source else name
        add(place, d, contents.outputs[-1], values)
    result = machine.banks[0, image.contents.output_address :][: image.output_words]
    np.testing.assert_array_equal(image.output.from_words(result), right[network.output][0])


@pytest.mark.parametrize("config", [TINY, PAIR, QUAD, MARS], ids=lambda config: config.name)
@pytest.mark.parametrize("network", DIRECTED, ids=lambda network: network.name)
def test_directed(network: QuantizedNetwork, config: MarsConfig) -> None:
    for seed in range(2):
        features = random_input(network, seed)[0]
        assert_right(network, compile_network(network, config), features)


def test_what_directed_networks_cover() -> None:
    images = [compile_network(network, MARS) for network in DIRECTED]
    passes = [one for image in images for one in image.passes]
    assert {one.descriptor.split for one in passes} == {1, 2, 4, 8}
    assert max(one.descriptor.n_teams for one in passes) == 8
    (full,) = compile_network(DIRECTED[-1], TINY).passes
    assert full.blocks[0].n_entries == 64


@pytest.mark.parametrize("config", [TINY, PAIR, MARS], ids=lambda config: config.name)
def test_memory_of_random_networks(config: MarsConfig) -> None:
    """Nothing overwrites a map that is still needed, whatever is put in whose place.

    Frames of several segments are test_segments' business.
    """
    in_place = 0
    for seed in range(600):
        network = random_network(1000 + seed)
        try:
            image = compile_network(network, config)
        except FitError:
            continue
        if len(image.segments) > 1:
            continue
        assert_right(network, image, random_input(network, seed)[0])
        in_place += any(
            one.descriptor.has_skip and one.descriptor.skip_base[0] == one.descriptor.out_base[0]
            for one in image.passes
        )
    assert in_place > 10


def runs_of(config: MarsConfig) -> Iterator[tuple[PassContents | None, Pass, Counters]]:
    for seed in range(40):
        network = random_network(seed, max_size=8)
        image = compile_network(network, config)
        machine = Machine(config)
        features = random_input(network, seed)[0]
        contents = [None, *image.contents.passes]
        frame = machine.frame(image.packet(features), image.passes)
        for what, (one, result) in zip(contents, frame, strict=True):
            yield what, one, result.counters


@pytest.mark.parametrize("config", [TINY, MARS], ids=lambda config: config.name)
def test_counters_add_up(config: MarsConfig) -> None:
    for contents, one, counters in runs_of(config):
        d = one.descriptor
        if contents is None:
            assert counters.accesses == counters.feature_reads == counters.requantisations == 0
            continue
        rounds = d.rows_per_team * d.n_cols * d.n_teams
        accesses = sum(block.codes.size for block in one.blocks) * d.in_planes * rounds
        assert counters.accesses == accesses
        skips = len(one.blocks) * rounds * d.skip_planes
        assert skips <= counters.feature_reads <= accesses + skips
        last_row = (d.n_rows - 1) * d.row_stride + (contents.kernel[0] - 1) * d.row_dilation
        last_col = (d.n_cols - 1) * d.col_stride + (contents.kernel[1] - 1) * d.col_dilation
        is_inside = last_row - d.pad_top < d.in_height and last_col - d.pad_left < d.in_width
        if (
            is_inside
            and d.pad_top <= 0
            and not d.pad_left
            and d.n_rows == d.rows_per_team * d.n_teams
        ):
            assert counters.feature_reads == accesses + skips
        lanes = 8 if d.wide else 16
        assert counters.requantisations == d.n_rows * d.n_cols * len(one.blocks) * lanes
        pixels = 1 if d.gap else d.n_rows * d.n_cols >> 2 * d.pool
        words = pixels * len(one.blocks) * d.out_planes
        assert counters.feature_writes <= words * config.n_macros
        if config.n_macros == 1 and d.is_last:
            assert counters.feature_writes == words


def test_features_of_input() -> None:
    kind = Features(shape=(17, 2, 3), bits=8, signed=True)
    assert (kind.blocks, kind.planes, kind.col_pitch, kind.row_pitch) == (2, 2, 4, 12)
    values = np.random.default_rng(1).integers(-128, 128, kind.shape)
    words = kind.to_words(values)
    assert len(words) == 24
    # Pixel (1, 2), block 1 has only channel 16: lower and upper nibble.
    low, high = int(values[16, 1, 2]) & 0xF, int(values[16, 1, 2]) >> 4 & 0xF
    assert words[-2:].tolist() == [low, high]
    np.testing.assert_array_equal(kind.from_words(words), values)
