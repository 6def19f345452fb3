"""Time steps in chunks: membranes that wait in feature memory, and that layers share."""

from dataclasses import replace

import numpy as np
import pytest

from model.mars import frame, reference
from model.mars.clocks import simulate, work_of
from model.mars.config import CONFIGS, MarsConfig
from model.mars.lowering import FitError
from model.mars.mapper import compile_network
from model.mars.memory import LineSource
from model.mars.network import Conv, Dense, FeatureType, QuantizedNetwork, SumPool
from model.mars.neuron import Neuron
from model.mars.random_network import random_input
from model.mars.random_spiking import random_spiking_network
from model.mars.zoo import ZOO
from model.mars.zoo.spiking import as_spiking

TINY, MARS = CONFIGS["mars-tiny"], CONFIGS["mars"]


def assert_same(network: QuantizedNetwork, config: MarsConfig, chunk: int, seed: int = 0) -> None:
    """Results and membranes of all steps are the reference's, logits those of each chunk."""
    image = compile_network(network, config, chunk)
    features = random_input(network, seed)[0]
    right = reference.run_steps(network, features)
    done, logits = 0, np.int64(0)
    for _, *runs in frame.run_chunks(image, features):
        n = min(image.contents.chunk, network.time_steps - done)
        steps = slice(done, done + n)
        for one, contents in zip(runs, image.contents.passes, strict=True):
            d, first = one.program.descriptor, contents.layers[0]
            rows = frame.rows_of(d, contents)
            for layer, values in frame.layer_outputs(d, contents, one).items():
                expected = right.values[layer][0][..., rows[layer], :][..., : values.shape[-1]]
                if network.types[layer].time_steps:
                    expected = expected[steps]
                    values = values[:n]  # noqa: PLW2901
                    if d.raw:
                        values = values + logits  # noqa: PLW2901
                        logits = values[-1]
                np.testing.assert_array_equal(values, expected, f"{network.name} {layer} {done}")
            left = frame.membranes_of(d, contents, one)
            if left is not None and first in right.membranes and n == image.contents.chunk:
                expected = right.membranes[first][0][done + n - 1][:, rows[first]]
                np.testing.assert_array_equal(left[0], expected[..., : left.shape[-1]], first)
        done += n
    assert done == network.time_steps


def n_same(config: MarsConfig, seeds: range, max_size: int) -> int:
    n = 0
    for seed in seeds:
        shares = seed % 2 == 1
        net = random_spiking_network(seed, max_size=max_size, share_layers=shares)
        chunk = 1 if shares else 1 + seed // 2 % 4
        try:
            compile_network(net, config, chunk)
        except FitError:
            continue
        assert_same(net, config, chunk, seed)
        n += 1
    return n


@pytest.mark.parametrize("config", [TINY, MARS], ids=lambda config: config.name)
@pytest.mark.parametrize("first", range(0, 32, 8))
def test_random_networks(config: MarsConfig, first: int) -> None:
    assert n_same(config, range(first, first + 8), 7) >= 7


@pytest.mark.full
@pytest.mark.parametrize(("config", "n_networks"), [(TINY, 230), (MARS, 210)])
def test_200_random_networks(config: MarsConfig, n_networks: int) -> None:
    assert n_same(config, range(2000, 2000 + n_networks), 9) >= 200


def conv(name: str, source: str, channels: int, n: int, one: Neuron, stride: int = 1) -> Conv:
    weight = np.zeros((n, channels, 3, 3), np.int64)
    weight[::16, ::16, 1, 1] = 1
    return Conv(
        name=name,
        input=source,
        weight=weight,
        bias=np.zeros(n, np.int64),
        stride=(stride, stride),
        padding=(1, 1, 1, 1),
        weight_bits=4,
        out_bits=1,
        out_signed=False,
        neuron=one,
    )


def resnet19(*, by_layer: bool, groups: int) -> QuantizedNetwork:
    """Its shapes for 3x32x32: 17 layers with neurons in four sizes."""
    layers: list[Conv | SumPool | Dense] = []

    def add(name: str, source: str, n: int, stride: int, membrane: str | None) -> str:
        channels = 3
        for layer in layers:
            if isinstance(layer, Conv) and layer.name == source:
                channels = len(layer.weight)
        one = Neuron(
            bits=4,
            threshold=np.ones(n, np.int64),
            reset="hard",
            membrane=membrane,
            groups=groups,
        )
        layers.append(conv(name, source, channels, n, one, stride))
        return name

    last = add("conv1", "input", 128, 1, None)
    for stage, (n, blocks) in enumerate(((256, 3), (512, 3), (512, 2))):
        membrane = f"stage {stage}" if by_layer else None
        for k in range(2 * blocks):
            last = add(f"s{stage}_{k}", last, n, 2 if k == 0 else 1, membrane)
    layers.append(SumPool(name="sum", input=last, kernel=(4, 4)))
    layers.append(
        Dense(
            name="fc",
            input="sum",
            weight=np.ones((10, 512), np.int64),
            bias=np.zeros(10, np.int64),
            weight_bits=4,
            out_bits=32,
            out_signed=True,
        )
    )
    return QuantizedNetwork(FeatureType((3, 32, 32), 4, signed=False), tuple(layers), time_steps=4)


@pytest.mark.parametrize(
    ("by_layer", "groups", "n_membranes", "times"),
    [
        (False, 1, 753_664, "1.00"),
        (True, 1, 237_568, "3.17"),
        (False, 2, 376_832, "2.00"),
        (True, 2, 118_784, "6.34"),
    ],
)
def test_memory_of_shared_membranes(
    by_layer: bool, groups: int, n_membranes: int, times: str
) -> None:
    """Words of 16 membranes of 4 bit that the allocator gives away."""
    large = replace(MARS, name="large", feature_words=16384)
    image = compile_network(resnet19(by_layer=by_layer, groups=groups), large, 1)
    words = image.contents.membrane_words
    assert 16 * sum(words.values()) == n_membranes
    assert f"{753_664 / n_membranes:.2f}" == times
    if by_layer:
        assert list(words) == [
            "layer conv1",
            "membrane stage 0",
            "membrane stage 1",
            "membrane stage 2",
        ]


def test_all_at_once_stores_nothing() -> None:
    net = resnet19(by_layer=False, groups=2)
    assert not compile_network(net, MARS).contents.membrane_words
    assert not compile_network(net, MARS, 4).contents.membrane_words  # one chunk has all steps


@pytest.mark.parametrize("chunk", [2, 4])
def test_several_steps_of_shared_membranes_are_refused(chunk: int) -> None:
    with pytest.raises(
        FitError,
        match="layer s0_1 must not use the membrane 'stage 0' of layer s0_0 unless the network is "
        "compiled for chunks of 1 step",
    ):
        compile_network(resnet19(by_layer=True, groups=1), MARS, chunk)


@pytest.mark.parametrize("chunk", [-1, 5])
def test_other_chunks_are_refused(chunk: int) -> None:
    with pytest.raises(FitError, match=rf"chunk must be 1\.\.4 time steps, not {chunk}"):
        compile_network(resnet19(by_layer=False, groups=1), MARS, chunk)
    with pytest.raises(FitError, match="chunk must be left out, not 1: no layer has neurons"):
        compile_network(ZOO["lenet5"].make(), MARS, 1)


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "sparsity", "most"),
    [
        ("vgg16", 0.0, 1.15),
        ("vgg16", 0.5, 1.15),
        ("vgg16", 0.75, 1.15),
        ("resnet18", 0.0, 1.15),
        ("resnet18", 0.5, 1.15),
        ("resnet18", 0.75, 1.2),
    ],
)
def test_clocks_of_chunks(name: str, sparsity: float, most: float) -> None:
    """T = 8 with an exit at a mean of 1.3 chunks of 4, and T = 4 step by step."""
    bounds = {
        ("vgg16", 0.0): 198_208,
        ("vgg16", 0.5): 101_440,
        ("vgg16", 0.75): 53_056,
        ("resnet18", 0.0): 275_008,
        ("resnet18", 0.5): 139_840,
        ("resnet18", 0.75): 72_256,
    }
    net = as_spiking(ZOO[name].make(sparsity, seed=1), 8, membrane_bits=4)
    image = random_input(net, 0)[0]
    for chunk, weights in ((4, (1, 0.3)), (1, (1, 3))):
        chunks = frame.run_chunks(compile_network(net, MARS, chunk), image)
        clocks = [next(chunks)[-1].clocks.end, next(chunks)[-1].clocks.end]
        total = np.dot(clocks, weights)
        assert total <= most * sum(weights) * bounds[name, sparsity]


@pytest.mark.full
def test_where_the_clocks_of_a_chunk_go() -> None:
    """ResNet18 at .75: what its first and later chunks take without this work, and that besides."""
    net = as_spiking(ZOO["resnet18"].make(0.75, seed=1), 8, membrane_bits=4)
    (segment,) = compile_network(net, MARS, 4).segments

    def clocks(*, first_chunk: bool, **less: int) -> int:
        passes = [work_of(one, MARS, first_chunk=first_chunk) for one in segment.passes]
        works = [passes[0], *(replace(work, **less) for work in passes[1:])]
        return simulate(works, LineSource(MARS, segment.regions, frame.LATENCY), MARS.ahead)[-1].end

    assert clocks(first_chunk=True) == 82_283
    reading = clocks(first_chunk=False)
    writing = clocks(first_chunk=False, u_load=0)
    adding = clocks(first_chunk=False, u_load=0, u_store=0)
    draining = clocks(first_chunk=False, u_load=0, u_store=0, skip_planes=0)
    steps = clocks(first_chunk=False, u_load=0, u_store=0, skip_planes=0, n_teams=1)
    assert [reading, writing, adding, draining, steps] == [87_823, 82_283, 80_507, 77_563, 71_459]
