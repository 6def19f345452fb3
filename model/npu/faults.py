"""Wrong bits of the weight memories of populations.

Weights are written once and read through whatever is wrong with their memory, so a network with
other weights says it all: engines and RTL run it as any other one.
"""

from dataclasses import replace

import numpy as np

from model.mars.devices.device import DeviceError
from model.mars.devices.faults import Faults
from model.npu import layout
from model.npu.clocks import used_groups
from model.npu.config import NPUConfig
from model.npu.network import Connections, Network

WORD_BITS = 32


def with_faults(
    network: Network, config: NPUConfig, faults: Faults, *, seed: int, trial: int = 0
) -> Network:
    """The network as memories with wrong bits give it back.

    Weights of 0, which are no connections, may become some.

    Raises
    ------
    DeviceError
        The faults are in another memory.
    """
    if faults.memory != "weights":
        raise DeviceError(
            f"device bits: memory must be weights for populations, not {faults.memory!r}"
        )
    recurrent, external = [], []
    for p, n_groups in enumerate(used_groups(network, config).tolist()):
        words = layout.weight_words(network, config, p, n_groups).astype(np.uint64)
        read = faults.corrupt(words, WORD_BITS, seed=seed, trial=trial, place=p)
        matrix = layout.read_weights(read.astype(np.uint32), config, p)
        own = network.neuron_slice(p)
        matrix = matrix[:, : own.stop - own.start]
        walked = network.sources(p)
        for k, source in enumerate(config.sources(p)):
            if source in walked:
                pre = network.neuron_slice(source)
                block = matrix[k * config.n_neurons :][: pre.stop - pre.start]
                recurrent.append(Connections.of(block, pre.start, own.start))
        axons = network.axon_slice(p)
        block = matrix[config.n_rows(p) - config.n_axons :][: axons.stop - axons.start]
        external.append(Connections.of(block, axons.start, own.start))
    return replace(
        network, recurrent=Connections.join(recurrent), external=Connections.join(external)
    )
