"""Random pairs of networks with a bridge between them: golden model = RTL."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_tools.joint.difference import Compared, compare_pair
from firmware_tools.mars import regression as mars
from model import bridge_file
from model.bridge import BridgeError
from model.bridge_registers import kind_of
from model.chip import numbers
from model.config import ChipConfig
from model.mars import network_file
from model.mars.frame import run_frame
from model.mars.network import QuantizedNetwork
from model.mars.random_network import random_input
from model.npu import network_file as npu_file
from model.npu.random_network import random_network
from model.random_bridge import random_bridge
from tb.joint import cosim
from tb.joint.cosim import Pair
from tb.simulator import BenchFailure

N_FRAMES = 2
"""The populations go on where they were."""
SEEDS = 1 << 20
"""From one candidate of a pair to the next."""


@dataclass(frozen=True)
class Case:
    """A random pair, compiled, and the network of its MARS."""

    network: QuantizedNetwork
    pair: Pair

    def save(self, folder: Path) -> None:
        """Leave both networks, the bridge and the inputs in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        network_file.dump(self.network, folder / "network.npz")
        (folder / "populations.json").write_text(npu_file.dump(self.pair.network))
        (folder / "bridge.json").write_text(bridge_file.dumps(self.pair.bridge))
        np.save(folder / "input.npy", self.pair.inputs)

    def command(self, folder: Path, config: ChipConfig) -> str:
        """Compares what `save` left."""
        files = [str(folder / "network.npz"), "--bridge", str(folder / "bridge.json")]
        files += ["--populations", str(folder / "populations.json")]
        files += ["--input", str(folder / "input.npy"), "-c", config.name]
        chunk = self.pair.image.contents.chunk
        files += ["--chunk", str(chunk)] if chunk else []
        return shlex.join(["kenyon", "compare", *files])


def random_case(config: ChipConfig, seed: int) -> Case:
    """The pair of a seed; every second one has a spiking network on MARS."""
    assert config.npu is not None
    assert config.mars is not None
    rng = np.random.default_rng(seed)
    draw = mars.random_spiking_case if seed % 2 else mars.random_case
    for candidate in range(seed, seed + 100 * SEEDS, SEEDS):
        made = draw(config.mars, candidate)
        try:
            kind_of(made.image)
        except BridgeError:  # spikes, or time steps of which a frame has only some
            continue
        inputs = random_input(made.network, seed, N_FRAMES)
        outputs = numbers(made.image, run_frame(made.image, inputs[0]))
        network = random_network(rng, config.npu)
        bridge = random_bridge(rng, outputs, network)
        return Case(made.network, Pair(made.image, network, bridge, inputs))
    raise BenchFailure(f"a network for the bridge must be among the candidates of seed {seed}")


def on_rtl(config: ChipConfig, cases: Sequence[Case]) -> Iterator[tuple[str, Compared]]:
    """Pair by pair in one simulation: the first difference, if any, and how much was equal."""
    traces = cosim.run(config, [case.pair for case in cases])
    for case, of_pair in zip(cases, traces, strict=True):
        compared = Compared()
        difference = compare_pair(config, case.network, case.pair, of_pair, compared)
        yield str(difference or ""), compared
