"""The registers and memories of MARS, on whatever chip it is."""

from model import registers
from model.config import ChipConfig
from model.mars.config import MarsConfig


def register_map(config: MarsConfig) -> registers.RegisterMap:
    """What `registers.rdl` describes for a configuration."""
    return registers.register_map(ChipConfig.alone(config))
