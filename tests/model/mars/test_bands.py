"""Maps in bands of rows: which rows of which team, and frames that are equal with them."""

from typing import Any

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars.bands import BAND, in_bands
from model.mars.config import MarsConfig
from model.mars.lowering import Band, lower
from model.mars.mapper import FitError, compile_network
from model.mars.network import INPUT, Conv, FeatureType, QuantizedNetwork
from model.mars.placement import Shape
from model.mars.random_network import random_input
from model.mars.zoo.builder import Builder


def chain(rng: np.random.Generator) -> QuantizedNetwork:
    """Convolutions and pools on a map that is large for a small memory."""
    size = int(rng.integers(17, 40))
    builder = Builder((int(rng.integers(1, 20)), size, int(rng.integers(16, 30))), 0.0, 4, 4, 0)
    last = builder.conv("first", INPUT, 16, size=1)
    for k in range(int(rng.integers(2, 5))):
        stride = int(rng.integers(1, 3)) if k else 1
        kernel = (int(rng.integers(1, 6)), 3)
        last = builder.conv(
            f"conv{k}",
            last,
            int(rng.integers(16, 49)),
            size=kernel,
            stride=stride,
            padding=(2, 1, 2, 1),
        )
        if rng.random() < 0.3:
            last = builder.pool(f"pool{k}", last)
        elif rng.random() < 0.3:
            last = builder.pool(f"pool{k}", last, size=3, padding=1)
    builder.last("fc", builder.average("gap", builder.conv("end", last, 16)), 4)
    return builder.network("chain")


@pytest.mark.parametrize("n_macros", [1, 2, 4, 8])
def test_frames_in_bands(n_macros: int) -> None:
    n_banded = 0
    for seed in range(25):
        network = chain(np.random.default_rng(seed))
        for words in (256, 512, 1024, 2048, 4096, 8192):
            config = MarsConfig(
                name="small", n_cores=1, macros_per_core=n_macros, feature_words=words
            )
            try:
                image = compile_network(network, config)
            except FitError:
                continue
            if len(image.segments) > 1:
                continue  # with maps in memory: test_segments
            n_banded += any(BAND in one.source for one in image.contents.passes)
            features = random_input(network, seed)[0]
            assert compare_model(network, image, features, Compared()) is None, seed
            break
    assert n_banded > 0


def test_rows_of_teams() -> None:
    """Of 14 rows the four teams have 4, 4, 4 and 2; each band has two of them, with halo before."""
    builder = Builder((16, 14, 8), 0.0, 4, 4, 0)
    last = builder.conv("b", builder.conv("a", INPUT, 16), 16)
    builder.last("fc", builder.average("gap", builder.conv("c", last, 16)), 4)
    banded = in_bands(lower(builder.network("net")), {0: 2}, [4, 8, 8, 8])
    assert [(one.layers[0], one.band) for one in banded.passes[:4]] == [
        ("a", Band(n_teams=4, pitch=4, first=-1, rows=4)),
        ("b", Band(n_teams=4, pitch=4, first=0, rows=2)),
        ("a", Band(n_teams=3, pitch=4, first=1, rows=4)),
        ("b", Band(n_teams=3, pitch=4, first=2, rows=2)),
    ]
    assert banded.passes[1].source == banded.passes[0].output == f"a{BAND}1"


@pytest.mark.parametrize(
    ("first", "end", "rows"),
    [
        (0, 2, (0, 2)),
        (1, 5, (1, 3)),  # rows 1 and 4: 2 and 3 are in the next band
        (4, 6, (2, 4)),
        (2, 4, (2, 2)),
        (0, 14, (0, 8)),
    ],
)
def test_stored_rows(first: int, end: int, rows: tuple[int, int]) -> None:
    shape = Shape(split=2, n_teams=4, rows_per_team=2, n_rows=8, n_cols=8, first=0, pitch=4)
    assert shape.team_rows == (0, 4, 8, 12)
    assert shape.stored_rows(first, end, pool=False) == rows
    quads = Shape(split=2, n_teams=4, rows_per_team=4, n_rows=16, n_cols=8, first=0, pitch=8)
    assert quads.stored_rows(first, end, pool=True) == rows


def test_stored_rows_with_halo() -> None:
    """Each macro takes those of its own team, although the next one computes some of them too."""
    shape = Shape(split=1, n_teams=3, rows_per_team=4, n_rows=12, n_cols=8, first=-1, pitch=2)
    assert shape.stored_rows(0, 3, pool=False) == (1, 4)
    assert shape.stored_rows(3, 7, pool=False) == (8, 12)


def test_rows_of_all_teams_are_counted() -> None:
    """Eight teams with a halo of 60 rows each would have more rows than a descriptor can count."""
    kind = FeatureType((1, 250, 4), 4, signed=False)
    fields: dict[str, Any] = {"weight_bits": 4, "out_bits": 8, "out_signed": False}
    rng = np.random.default_rng(1)
    first = Conv(
        name="a",
        input=INPUT,
        weight=rng.integers(-8, 8, (64, 1, 1, 1)),
        bias=np.zeros(64, np.int64),
        mult=np.full(64, 500),
        shift=np.full(64, 8),
        **fields,
    )
    second = Conv(
        name="b",
        input="a",
        weight=rng.integers(-8, 8, (1, 64, 16, 1)),
        bias=np.zeros(1, np.int64),
        mult=np.array([500]),
        shift=np.array([16]),
        dilation=(4, 1),
        **fields,
    )
    network = QuantizedNetwork(kind, (first, second), "halo")
    config = MarsConfig(name="eight", n_cores=4, feature_words=4096)
    image = compile_network(network, config)
    counted = [one.descriptor.n_rows for one in image.passes if not one.descriptor.is_last]
    assert len(counted) > 1
    assert 128 < max(counted) <= 255
    assert compare_model(network, image, random_input(network, 1)[0], Compared()) is None
