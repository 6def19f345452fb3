"""The RTL against the vectors of the authors' simulator, and against the model."""

from pathlib import Path

import numpy as np
import pytest

from firmware_tools.npu.backends import simulate as simulate_model
from firmware_tools.npu.difference import first_difference
from model.config import CHIPS
from model.npu import network_file
from model.npu.config import CONFIGS, NPUConfig
from model.npu.image import FitError, smallest_config
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.trace import Trace
from tb import cosim, simulator

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "iqif").glob("*.json"))
NETWORKS_PER_CONFIG = 6


def run_rtl(network: Network, config: NPUConfig, **pressure: float) -> Trace:
    """The whole session on the RTL."""
    return Trace.join(list(cosim.simulate(network, config, **pressure)))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    """Every v, spike and current of the authors' simulator, on the smallest chip that fits."""
    network = network_file.load(path)
    trace = run_rtl(network, smallest_config(network))
    expected = np.load(path.with_suffix(".npz"))
    for name in ("v", "spikes", "i_syn"):
        np.testing.assert_array_equal(getattr(trace, name), expected[name], name)


@pytest.mark.parametrize("seed", range(NETWORKS_PER_CONFIG))
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=[pytest.mark.full] if name == "large" else [])
        for name, config in CONFIGS.items()
    ],
)
def test_random_network(config: NPUConfig, seed: int) -> None:
    """Every state and every clock of a random network, every other one under back pressure."""
    network = random_network(np.random.default_rng(seed), config)
    expected = Trace.join(list(simulate_model(network, "model", config)))
    actual = run_rtl(network, config, seed=seed, pause=0.4 * (seed % 2))
    assert first_difference(network, expected, actual) is None


def test_fits_or_says_so() -> None:
    """A network that does not fit is refused before anything is built."""
    network = random_network(np.random.default_rng(0), CONFIGS["odin"])
    while network.n_neurons <= CONFIGS["tiny"].n_neurons:
        network = random_network(np.random.default_rng(network.n_steps), CONFIGS["odin"])
    with pytest.raises(FitError, match="tiny has room for"):
        next(cosim.simulate(network, CONFIGS["tiny"]))


def test_closing_early_ends_the_simulation() -> None:
    """A caller that stops in the middle leaves no process behind, and the next run works."""
    network = network_file.load(VECTORS[0].with_name("class1.json"))
    run = cosim.simulate(network, CONFIGS["tiny"])
    first = next(run)
    run.close()
    again = run_rtl(network, CONFIGS["tiny"])
    np.testing.assert_array_equal(first.v, again.v[: len(first)])


def test_second_build_compiles_nothing() -> None:
    """The simulator of the same content is found again."""
    design = cosim.chip(CHIPS["tiny"])
    folder = simulator.build(design)
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert simulator.is_built(design)
    assert simulator.build(design) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_a_stand_in_that_is_missing_is_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What takes a simulator's place is made by others."""
    missing = tmp_path / "simulator"
    monkeypatch.setenv(simulator.STAND_IN, str(missing))
    with pytest.raises(simulator.BuildError, match="must name a simulator that is there"):
        simulator.build(cosim.chip(CHIPS["tiny"]))
    assert not missing.exists()
