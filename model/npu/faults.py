"""Wrong bits of the memories of populations: synaptic weights, and parameters of neurons.

Both are written once and read through whatever is wrong with their memory, so a network with other
ones says it all: engines and RTL run it as any other one. Where the two lines of a neuron's force
meet, `v_branch`, is worked out of the wrong parameters: its own bits are right. Slopes that would
both be 0, which the neuron model does not define, stay as they were.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from model.mars.devices.device import DeviceError
from model.mars.devices.faults import POPULATIONS, Faults
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
        The faults are in a memory that populations do not have.
    """
    if faults.memory not in POPULATIONS:
        raise DeviceError(
            f"device bits: memory must be {' or '.join(POPULATIONS)} for populations, "
            f"not {faults.memory!r}"
        )
    corrupt = partial(faults.corrupt, n_bits=WORD_BITS, seed=seed, trial=trial)
    if faults.memory == "parameters":
        right = layout.neuron_words(network.neurons, network.n_neurons).astype(np.uint64)
        neurons = layout.read_neurons(corrupt(right, place=0).astype(np.uint32))
        flat = neurons.a + neurons.b == 0
        a = np.where(flat, network.neurons.a, neurons.a)
        b = np.where(flat, network.neurons.b, neurons.b)
        return replace(network, neurons=replace(neurons, a=a, b=b))
    recurrent, external = [], []
    for p, n_groups in enumerate(used_groups(network, config).tolist()):
        words = layout.weight_words(network, config, p, n_groups).astype(np.uint64)
        read = corrupt(words, place=p)
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
