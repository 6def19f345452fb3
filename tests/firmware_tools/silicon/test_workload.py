import numpy as np
import pytest

from firmware_tools.silicon import workload
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.npu.config import CONFIGS


def test_dense_network_uses_all_that_there_is() -> None:
    config = CONFIGS["poppins"]
    network = workload.dense_network(config)
    assert network.populations == (config.n_neurons,) * config.n_populations
    assert len(network.recurrent) == 3 * config.n_neurons**2
    assert len(network.external) == 2 * config.n_axons * config.n_neurons
    work = workload.work(network)
    assert work.updates == workload.N_STEPS * 256
    assert 0.05 < work.firing < 0.2


def test_decision_is_measured_while_something_looms() -> None:
    work = workload.work(workload.decision())
    assert work.steps == workload.N_STEPS
    assert 0 < work.existing < work.synaptic_operations / 4


def test_convolution_skips_half_of_its_group_sets() -> None:
    layer = workload.convolution(MARS_CONFIGS["mars-tiny"])
    (contents,) = layer.image.contents.passes
    assert (contents.kept_sets, contents.total_sets) == (18, 36)
    # Every pixel meets every kept group-set, of 16 channels and 16 kernels; the padding too.
    assert layer.work.macs == 18 * 64 * 16 * 16
    # A tap beside the middle misses one row or column of eight.
    assert layer.work.layer_macs == 32 * 32 * (8 + 7 + 7) ** 2
    share_of_zeros = np.mean(layer.job.result == 0)
    assert 0.2 < share_of_zeros < 0.8


def test_spiking_convolution_counts_by_hand() -> None:
    layer = workload.spiking_convolution(MARS_CONFIGS["mars-tiny"])
    spikes = layer.job.features
    assert spikes.shape == (4, 32, 8, 8)
    assert spikes.mean() == pytest.approx(1 / 8, abs=0.01)
    (one,) = layer.image.passes
    weight = workload._weight(np.random.default_rng(workload.SEED))  # noqa: SLF001
    padded = np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    effective = sum(
        int((padded[step, :, row + y, col + x] * (weight[k, :, y, x] != 0)).sum())
        for step in range(4)
        for k in range(32)
        for row in range(8)
        for col in range(8)
        for y in range(3)
        for x in range(3)
    )
    assert layer.work.effective == effective
    assert layer.work.dense == 4 * 32 * 32 * 22 * 22
    assert one.descriptor.fires
    assert 0.05 < np.mean([layer.job.result >> t & 1 for t in range(4)]) < 0.5
