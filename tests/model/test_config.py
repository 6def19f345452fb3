"""Which accelerators a chip has."""

import pytest

from model.config import CHIPS, ChipConfig
from model.mars.config import CONFIGS as MARS
from model.npu.config import CONFIGS as NPU


def test_named_chips() -> None:
    parts = {name: (chip.npu, chip.mars) for name, chip in CHIPS.items()}
    assert parts == {
        **{name: (config, None) for name, config in NPU.items()},
        **{name: (None, config) for name, config in MARS.items()},
        "kenyon-tiny": (NPU["tiny"], MARS["mars-tiny"]),
        "kenyon": (NPU["poppins"], MARS["mars"]),
    }


def test_something_must_be_on_it() -> None:
    with pytest.raises(ValueError, match="chip must have npu, mars or both, empty has neither"):
        ChipConfig(name="empty")


def test_accelerators() -> None:
    chip = CHIPS["kenyon"]
    assert chip.accelerators == (chip.npu, chip.mars)
    assert CHIPS["mars"].accelerators == (chip.mars,)
    assert [name for name, chip in CHIPS.items() if chip.has_bridge] == ["kenyon-tiny", "kenyon"]


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [("tiny", "d5f0815a"), ("poppins", "ea8f5559"), ("odin", "21e00e42"), ("large", "1cfa21ce")],
)
def test_images_of_this_version_go_on_working(name: str, fingerprint: str) -> None:
    assert f"{NPU[name].fingerprint:08x}" == fingerprint
