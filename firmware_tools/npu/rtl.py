"""The RTL for the verbs."""

from collections.abc import Generator

from firmware_tools.console import Terminal
from model.npu.config import NPUConfig
from model.npu.network import Network
from model.npu.trace import Trace
from tb import cosim
from tb.simulator import Waves


def build(config: NPUConfig, terminal: Terminal, waves: Waves = "") -> None:
    """Build the simulator of a configuration unless it is there."""
    if not cosim.is_built(config, waves):
        with terminal.busy(f"building the simulator of {config.name}, once, about a minute"):
            cosim.build(config, waves)


def simulate(
    network: Network,
    config: NPUConfig,
    *,
    seed: int = 0,
    pause: float = 0.0,
    recording: cosim.Recording | None = None,
) -> Generator[Trace, None, None]:
    """What `tb.cosim.simulate` yields; closing the generator ends the simulation."""
    yield from cosim.simulate(network, config, seed=seed, pause=pause, recording=recording)
