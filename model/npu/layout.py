"""Bit layouts of the chip's memories: parameters and state of neurons, synaptic weights.

The RTL takes the field positions from here, nothing else: arithmetic is written twice.
"""

import numpy as np
from numpy.typing import NDArray

from model.npu.config import BIAS_WIDTH, SLOPE_WIDTH, NPUConfig
from model.npu.network import Connections, Network, Neurons

Words = NDArray[np.uint32]
Ints = NDArray[np.int64]

WORDS_PER_NEURON = 4
SHAPE_WORD, SLOPES_WORD, BIAS_WORD, STATE_WORD = range(WORDS_PER_NEURON)

SHAPE_FIELDS = {"rest": (0, 8), "threshold": (8, 8), "reset": (16, 8), "v_branch": (24, 8)}
"""Field: (lowest bit, width)."""
SLOPES_FIELDS = {
    "a": (0, SLOPE_WIDTH),
    "b": (4, SLOPE_WIDTH),
    "tau_log2": (8, 4),
    "no_decay": (12, 1),
    "noise": (16, 8),
}
BIAS_FIELDS = {"bias": (0, BIAS_WIDTH)}
STATE_FIELDS = {"v": (0, 8), "spike": (8, 1), "i_syn": (16, 16)}
WORD_FIELDS = (SHAPE_FIELDS, SLOPES_FIELDS, BIAS_FIELDS, STATE_FIELDS)


def pack(fields: dict[str, tuple[int, int]], values: dict[str, Ints]) -> Words:
    """One 32-bit word per element out of the named fields; negative values wrap."""
    words = np.zeros(len(next(iter(values.values()))), np.int64)
    for name, (low, width) in fields.items():
        words |= (values[name] & ((1 << width) - 1)) << low
    return words.astype(np.uint32)


def unpack(fields: dict[str, tuple[int, int]], words: Words) -> dict[str, Ints]:
    """The named fields of each word, unsigned."""
    return {
        name: (words.astype(np.int64) >> low) & ((1 << width) - 1)
        for name, (low, width) in fields.items()
    }


def to_signed(values: Ints, width: int) -> Ints:
    """Reads `width`-bit two's complement."""
    return np.where(values >> (width - 1), values - (1 << width), values)


def bias_word(bias: int) -> int:
    """The word that holds one neuron's external stimulus."""
    return bias & ((1 << BIAS_WIDTH) - 1)


def neuron_words(neurons: Neurons, n_used: int) -> Words:
    """Parameters and initial state of a population, (n_used * 4,).

    The neurons behind the last one, up to `n_used`, are all zero: they stay silent.
    """
    tau_log2 = np.frexp(neurons.tau.astype(np.float64))[1].astype(np.int64) - 1
    n = len(neurons)
    zeros = np.zeros(n, np.int64)
    words = np.zeros((n_used, WORDS_PER_NEURON), np.uint32)
    values = {
        "rest": neurons.rest,
        "threshold": neurons.threshold,
        "reset": neurons.reset,
        "v_branch": neurons.v_branch,
        "a": neurons.a,
        "b": neurons.b,
        "tau_log2": np.maximum(tau_log2, 0),
        "no_decay": (neurons.tau == 0).astype(np.int64),
        "noise": neurons.noise,
        "bias": zeros,
        "v": neurons.rest,
        "spike": zeros,
        "i_syn": zeros,
    }
    for word, fields in enumerate(WORD_FIELDS):
        words[:n, word] = pack(fields, values)
    return words.reshape(-1)


def read_neurons(words: Words) -> Neurons:
    """Parameters of the neurons whose words these are; tau as the power of two below it."""
    table = words.reshape(-1, WORDS_PER_NEURON)
    shape = unpack(SHAPE_FIELDS, table[:, SHAPE_WORD])
    slopes = unpack(SLOPES_FIELDS, table[:, SLOPES_WORD])
    return Neurons(
        rest=shape["rest"],
        threshold=shape["threshold"],
        reset=shape["reset"],
        a=slopes["a"],
        b=slopes["b"],
        noise=slopes["noise"],
        tau=np.where(slopes["no_decay"], 0, 1 << slopes["tau_log2"]),
    )


def weight_words(network: Network, config: NPUConfig, population: int, n_groups: int) -> Words:
    """Weight memory of a population, its groups in use: (n_groups, n_rows, n_lanes / 4)."""
    n_rows = config.n_rows(population)
    matrix = np.zeros((n_rows, n_groups * config.n_lanes), np.int8)
    first_post = network.neuron_slice(population).start

    into = network.population_of(network.recurrent.post) == population
    pre_population = network.population_of(network.recurrent.pre)
    for k, source in enumerate(config.sources(population)):
        if source < len(network.populations):
            first_row = k * config.n_neurons - network.neuron_slice(source).start
            _place(
                matrix, network.recurrent, into & (pre_population == source), first_row, first_post
            )

    into = network.population_of(network.external.post) == population
    first_row = n_rows - config.n_axons - network.axon_slice(population).start
    _place(matrix, network.external, into, first_row, first_post)

    grouped = matrix.reshape(n_rows, n_groups, config.n_lanes).swapaxes(0, 1)
    return np.ascontiguousarray(grouped).view("<u4").astype(np.uint32)


def rows_in_use(network: Network, config: NPUConfig, population: int) -> list[slice]:
    """Rows of a population's weight memory that this network can walk."""
    sources = network.sources(population)
    result = [
        slice(k * config.n_neurons, k * config.n_neurons + network.populations[source])
        for k, source in enumerate(config.sources(population))
        if source in sources
    ]
    first_axon = config.n_rows(population) - config.n_axons
    # An event for an axon without connections is legal and must find weights of 0.
    return [*result, slice(first_axon, config.n_rows(population))]


def _place(
    matrix: NDArray[np.int8],
    connections: Connections,
    which: NDArray[np.bool_],
    first_row: int,
    first_post: int,
) -> None:
    rows, posts = connections.pre[which] + first_row, connections.post[which] - first_post
    matrix[rows, posts] = connections.weight[which]


def read_weights(words: Words, config: NPUConfig, population: int) -> NDArray[np.int8]:
    """The matrix W[row, neuron] that `weight_words` wrote."""
    lanes = words.astype("<u4").view(np.int8).reshape(-1, config.n_rows(population), config.n_lanes)
    return np.ascontiguousarray(lanes.swapaxes(0, 1)).reshape(config.n_rows(population), -1)
