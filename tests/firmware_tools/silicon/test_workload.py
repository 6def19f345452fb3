from firmware_tools.silicon import workload
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
    assert work.synaptic_operations > 0
