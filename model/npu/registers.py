"""The registers and memories of the neural processing units, on whatever chip they are."""

from model import registers
from model.config import ChipConfig
from model.npu.config import NPUConfig


def register_map(config: NPUConfig) -> registers.RegisterMap:
    """What `registers.rdl` describes for a configuration."""
    return registers.register_map(ChipConfig.alone(config))
