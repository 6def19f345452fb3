"""What the figures are made of is what the RTL does and counts."""

from pathlib import Path

import numpy as np
import pytest

from firmware_tools.mars.inference import frames_on_rtl, pass_outputs
from firmware_tools.neurobench import mars, poppins
from firmware_tools.npu.backends import simulate
from model.mars import network_file
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.mars.mapper import compile_network
from model.mars.reference import SpikingRun
from model.npu.config import CONFIGS
from model.npu.random_network import random_network
from tb import cosim
from tb.mars import cosim as mars_cosim

VECTORS = Path(__file__).parents[2] / "vectors" / "neurobench"
STALLS = ("weight_stalls", "drain_stalls", "layer_stalls")


@pytest.mark.parametrize("name", ["integrate_and_fire", "spiking_2"])
def test_spiking_network(name: str) -> None:
    network = network_file.load(VECTORS / f"{name}.npz")
    inputs = np.load(VECTORS / f"{name}.npy").astype(np.int64)[:2]
    config = MARS_CONFIGS["mars-tiny"]
    mars_cosim.build(config)
    image = compile_network(network, config)
    frames = frames_on_rtl(image, inputs)
    chip = mars.on_chip(image, inputs[0])
    assert chip.clocks == frames[0].result.frame_clocks
    registers = {stall: getattr(frames[0].result, stall) for stall in STALLS}
    assert {stall: chip.counters[stall] for stall in STALLS} == registers
    # Every count but those of membranes, from the spikes that the RTL wrote.
    outputs = [pass_outputs(image, frame.passes) for frame in frames]
    golden = mars.run_layers(network, inputs)
    values = {name: np.stack([one[name] for one in outputs]) for name in golden.values}
    ours = mars.count(network, inputs, golden)
    assert mars.count(network, inputs, SpikingRun(values, golden.membranes, golden.steps)) == ours
    assert sum(one.acs for one in ours.values()) > 0


def test_populations() -> None:
    config = CONFIGS["tiny"]
    network = random_network(np.random.default_rng(4), config)
    on_rtl = poppins.measure(network, cosim.simulate(network, config), config)
    golden = poppins.measure(network, simulate(network, "fast", config), config)
    assert on_rtl == golden
    assert golden.total.acs > 0
