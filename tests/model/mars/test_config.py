"""Accelerators: which there can be, and what tells them apart."""

from dataclasses import replace

import pytest

from model.mars.config import CONFIGS, MarsConfig


def test_named_configurations() -> None:
    assert list(CONFIGS) == ["mars-tiny", "mars", "mars-wide"]
    tiny, mars, wide = CONFIGS.values()
    assert wide == replace(mars, name="mars-wide", wide_multiplier=True)
    assert len({config.fingerprint for config in CONFIGS.values()}) == 3
    assert (tiny.n_macros, tiny.feature_words, tiny.weight_bus, tiny.beats_per_line) == (
        1,
        1024,
        64,
        8,
    )
    assert (mars.n_macros, mars.weight_bus, mars.beats_per_line) == (8, 512, 1)
    assert [config.turns for config in (tiny, mars, wide)] == [4, 1, 1]


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
def test_macros(cores: int) -> None:
    assert MarsConfig(name="x", n_cores=cores, macros_per_core=1).n_macros == cores
    assert MarsConfig(name="x", n_cores=1, macros_per_core=cores).n_macros == cores


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"n_cores": 3}, "n_cores * macros_per_core must be 1, 2, 4 or 8, not 3 * 2"),
        ({"n_cores": 8}, "n_cores * macros_per_core must be 1, 2, 4 or 8, not 8 * 2"),
        ({"n_cores": 0}, "n_cores * macros_per_core must be 1, 2, 4 or 8, not 0 * 2"),
        (
            {"n_cores": -2, "macros_per_core": -2},
            "n_cores * macros_per_core must be 1, 2, 4 or 8, not -2 * -2",
        ),
        ({"feature_words": 128}, "feature_words must be a power of two 256..16384, not 128"),
        ({"feature_words": 300}, "feature_words must be a power of two 256..16384, not 300"),
        ({"feature_words": 32768}, "feature_words must be a power of two 256..16384, not 32768"),
        ({"line_buffer": 8}, "line_buffer must be a power of two 16..256, not 8"),
        ({"line_buffer": 512}, "line_buffer must be a power of two 16..256, not 512"),
        ({"weight_bus": 32}, "weight_bus must be 64, 128, 256 or 512, not 32"),
        ({"post_lanes": 8}, "post_lanes must be 4 or 16, not 8"),
    ],
)
def test_refused(fields: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        MarsConfig(name="x", **fields)
    assert str(error.value) == text


def test_fingerprint_is_that_of_what_an_image_means() -> None:
    base = MarsConfig(name="base")
    for same in (replace(base, name="other"), replace(base, post_lanes=4)):
        assert same.fingerprint == base.fingerprint
    others = [
        replace(base, n_cores=2),
        replace(base, n_cores=2, macros_per_core=4),
        replace(base, feature_words=4096),
        replace(base, weight_bus=128),
        replace(base, line_buffer=32),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
