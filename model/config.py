"""Which accelerators a chip has: neural processing units, MARS or both."""

from dataclasses import dataclass
from typing import Self

from model.mars.config import CONFIGS as MARS
from model.mars.config import MarsConfig
from model.npu.config import CONFIGS as NPU
from model.npu.config import NPUConfig


@dataclass(frozen=True, kw_only=True)
class ChipConfig:
    """One chip.

    Parameters
    ----------
    name : str
        What the chip is called.
    npu : NPUConfig, optional
    mars : MarsConfig, optional
        At least one of the two.
    """

    name: str
    npu: NPUConfig | None = None
    mars: MarsConfig | None = None

    def __post_init__(self) -> None:
        if not self.accelerators:
            raise ValueError(f"chip must have npu, mars or both, {self.name} has neither")

    @classmethod
    def alone(cls, config: NPUConfig | MarsConfig) -> Self:
        """The chip that has one accelerator and its name."""
        if isinstance(config, NPUConfig):
            return cls(name=config.name, npu=config)
        return cls(name=config.name, mars=config)

    @property
    def accelerators(self) -> tuple[NPUConfig | MarsConfig, ...]:
        """Those that the chip has."""
        return tuple(config for config in (self.npu, self.mars) if config is not None)

    @property
    def has_bridge(self) -> bool:
        """Whether results of MARS can go to the populations (model/bridge.py)."""
        return self.npu is not None and self.mars is not None


CHIPS: dict[str, ChipConfig] = {
    chip.name: chip
    for chip in (
        *map(ChipConfig.alone, NPU.values()),
        *map(ChipConfig.alone, MARS.values()),
        ChipConfig(name="kenyon-tiny", npu=NPU["tiny"], mars=MARS["mars-tiny"]),
        ChipConfig(name="kenyon", npu=NPU["poppins"], mars=MARS["mars"]),
    )
}
"""Named chips; those with one accelerator are called like its configuration."""
