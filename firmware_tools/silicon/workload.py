"""What a chip does while its energy is measured."""

from dataclasses import dataclass, replace

import numpy as np

from firmware_tools.npu.backends import simulate
from firmware_tools.npu.examples import LEFT_LOOMS, decision_network
from model.mars import frame
from model.mars.config import KERNELS, WORD_LINES, MarsConfig
from model.mars.group_sets import choose_sets, clear_sets
from model.mars.image import Image, join_steps
from model.mars.layout import STEPS_PER_WORD
from model.mars.mapper import compile_network
from model.mars.network import INPUT, Conv, FeatureType, QuantizedNetwork
from model.mars.neuron import Neuron
from model.mars.reference import convolve
from model.npu.config import NPUConfig
from model.npu.network import Connections, Ints, Network, Neurons, Segment
from tb.cosim import beats_of
from tb.mars.tb_activity import LATENCY, FrameJob
from tb.tb_activity import NetworkJob

SEED = 180
DENSE = "dense"
WARM_UP, N_STEPS = 40, 10
"""Time steps before the measurement, and in it."""
AXON_RATE = 0.1
WEIGHT_SPREAD = 6
"""Standard deviation of the dense network's weights."""
BIAS = (10, 36)
"""Range of the dense network's biases: about one neuron in ten fires in a time step."""
CHANNELS, SIDE, TAPS = 32, 8, 3
"""Channels, rows and columns, and size of the kernels of the convolution."""
SHAPE = (CHANNELS, SIDE, SIDE)
INSIDE = (TAPS * SIDE - 2) ** 2
"""Taps of a channel that are not padding."""
SPIKE_RATE = 1 / 8
"""Of the inputs of the spiking convolution, in a time step."""
SPARSITY = 0.5
"""Share of the convolution's group-sets that are all zero."""


@dataclass(frozen=True)
class Work:
    """Counts of the measured time steps.

    Attributes
    ----------
    steps, synaptic_operations, existing, updates : int
        Time steps; weights of the rows that came, zero or not; those that are not zero; neurons
        that were updated.
    firing : float
        Spikes per neuron and time step.
    """

    steps: int
    synaptic_operations: int
    existing: int
    updates: int
    firing: float


def work(network: Network) -> Work:
    """What a network does in the last segment of its session, by the golden model."""
    traces = list(simulate(network, "fast"))
    steps = network.session[-1].steps
    rows = np.concatenate([trace.rows for trace in traces])[-steps:]
    spikes = np.concatenate([trace.spikes for trace in traces])[-steps - 1 :]
    events = network.events_at(network.n_steps - steps, network.n_steps)
    recurrent, external = (
        np.bincount(part.pre[part.weight != 0], minlength=n_rows)
        for part, n_rows in (
            (network.recurrent, network.n_neurons),
            (network.external, sum(network.axons)),
        )
    )
    return Work(
        steps,
        int((rows @ np.array(network.populations)).sum()),
        int((spikes[:-1] @ recurrent).sum() + external[events[:, 1]].sum()),
        steps * network.n_neurons,
        float(spikes[1:].mean()),
    )


def job(config: NPUConfig, network: Network) -> NetworkJob:
    """A network for the bench, with the spikes that the golden model gives."""
    traces = simulate(network, "fast")
    return NetworkJob(config, network, [beat for one in traces for beat in beats_of(network, one)])


def dense_network(config: NPUConfig) -> Network:
    """Every neuron and every connection that the chip has; about one neuron in ten fires."""
    rng = np.random.default_rng(SEED)
    n, count = config.n_neurons, config.n_populations
    total = n * count
    neurons = [np.arange(p * n, (p + 1) * n) for p in range(count)]
    axons = [np.arange(p * config.n_axons, (p + 1) * config.n_axons) for p in range(count)]
    pairs = [(p, p) for p in range(count)] + list(config.links)
    bias = dict(enumerate(rng.integers(*BIAS, total).tolist()))
    n_steps = WARM_UP + N_STEPS
    return Network(
        populations=(n,) * count,
        neurons=Neurons(
            rest=np.full(total, 60),
            threshold=np.full(total, 100),
            reset=np.full(total, 20),
            a=np.full(total, 2),
            b=np.full(total, 2),
            noise=np.full(total, 24),
            tau=np.full(total, 4),
        ),
        recurrent=Connections.join([_all(rng, neurons[a], neurons[b]) for a, b in pairs]),
        axons=(config.n_axons,) * count,
        external=Connections.join([_all(rng, axons[p], neurons[p]) for p in range(count)]),
        noise_seeds=tuple(range(1, count + 1)),
        session=(Segment(WARM_UP, bias), Segment(N_STEPS)),
        events=np.argwhere(rng.random((n_steps, count * config.n_axons)) < AXON_RATE),
        name=DENSE,
    )


def decision() -> Network:
    """The example's decision, measured while something looms on the left."""
    first = LEFT_LOOMS.start + WARM_UP
    network = decision_network()
    return replace(
        network,
        session=(Segment(first), Segment(N_STEPS)),
        events=network.events[network.events[:, 0] < first + N_STEPS],
    )


@dataclass(frozen=True)
class ConvolutionWork:
    """Counts of a frame.

    Attributes
    ----------
    macs : int
        Multiply-accumulates of 4 by 4 bit that the macros made: 256 in each access.
    layer_macs : int
        Those of the convolution, with its zeros and without the padding.
    """

    macs: int
    layer_macs: int


@dataclass(frozen=True)
class Convolution:
    """A convolution for an accelerator.

    Attributes
    ----------
    image : Image
    job : FrameJob
        For the bench: a frame and its result by the golden machine.
    work : ConvolutionWork
    """

    image: Image
    job: FrameJob
    work: ConvolutionWork


@dataclass(frozen=True)
class SpikingWork:
    """Counts of a frame with neurons.

    Attributes
    ----------
    effective : int
        Synaptic operations: a spike meets a weight that is not 0.
    dense : int
        Weights of the layer in all time steps, zeros and silent inputs counted, without padding.
    """

    effective: int
    dense: int


@dataclass(frozen=True)
class SpikingConvolution:
    """A convolution with neurons; as `Convolution`."""

    image: Image
    job: FrameJob
    work: SpikingWork


def convolution(config: MarsConfig) -> Convolution:
    """3 x 3 kernels of 4 bit over 32 channels of 4 bit, half of its group-sets zero."""
    rng = np.random.default_rng(SEED)
    layer = Conv(
        name="convolution",
        input=INPUT,
        weight=_weight(rng),
        bias=np.zeros(CHANNELS, np.int64),
        mult=np.full(CHANNELS, 1 << 10),
        shift=np.full(CHANNELS, 15),
        padding=(1, 1, 1, 1),
        weight_bits=4,
        out_bits=4,
        out_signed=False,
    )
    network = QuantizedNetwork(FeatureType(SHAPE, 4, signed=False), (layer,), "convolution")
    image = compile_network(network, config)
    # Rectified: half of the activations are 0.
    features = np.rint(rng.normal(0, 5, SHAPE)).astype(np.int64).clip(0, 15)
    job, macs = _job(image, features)
    return Convolution(image, job, ConvolutionWork(macs, CHANNELS**2 * INSIDE))


def spiking_convolution(config: MarsConfig) -> SpikingConvolution:
    """The same shape and zeros with neurons, four time steps, one spike in eight."""
    rng = np.random.default_rng(SEED)
    weight = _weight(rng)
    layer = Conv(
        name="spiking convolution",
        input=INPUT,
        weight=weight,
        bias=np.zeros(CHANNELS, np.int64),
        padding=(1, 1, 1, 1),
        weight_bits=4,
        out_bits=1,
        out_signed=False,
        neuron=Neuron(bits=8, threshold=np.full(CHANNELS, 12), reset="soft", leak=1),
    )
    network = QuantizedNetwork(
        FeatureType(SHAPE, 1, signed=False),
        (layer,),
        "spiking convolution",
        time_steps=STEPS_PER_WORD,
        coding="spikes",
    )
    image = compile_network(network, config)
    features = (rng.random((STEPS_PER_WORD, *SHAPE)) < SPIKE_RATE).astype(np.int64)
    job, _ = _job(image, features)
    connected = (weight != 0).astype(np.int64)
    effective = int(convolve(features, connected, padding=layer.padding).sum())
    dense = STEPS_PER_WORD * CHANNELS**2 * INSIDE
    return SpikingConvolution(image, job, SpikingWork(effective, dense))


def _weight(rng: np.random.Generator) -> Ints:
    weight = np.rint(rng.normal(0, 8 / 3, (CHANNELS, CHANNELS, TAPS**2))).astype(np.int64)
    weight = weight.clip(-8, 7)
    weight = clear_sets(weight, 4, choose_sets(rng, weight, 4, SPARSITY))
    return weight.reshape(CHANNELS, CHANNELS, TAPS, TAPS)


def _job(image: Image, features: Ints) -> tuple[FrameJob, int]:
    """A frame of one layer, and the multiply-accumulates of the macros in it."""
    runs = list(frame.run(image, features, LATENCY))
    (outputs,) = (
        frame.layer_outputs(one.descriptor, contents, run)
        for one, contents, run in zip(image.passes, image.contents.passes, runs[1:], strict=True)
    )
    (result,) = outputs.values()
    if result.ndim > len(SHAPE):
        result = join_steps(result)
    job = FrameJob(image, features, result, runs[-1].clocks.end)
    return job, sum(run.counters.accesses for run in runs) * WORD_LINES * KERNELS


def _all(rng: np.random.Generator, pre: Ints, post: Ints) -> Connections:
    rows, columns = np.meshgrid(pre, post, indexing="ij")
    weights = np.rint(rng.normal(0, WEIGHT_SPREAD, rows.size)).astype(np.int64).clip(-128, 127)
    return Connections(rows.ravel(), columns.ravel(), weights)
