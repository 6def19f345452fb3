"""Make `expected.json` and the networks and inputs beside it: NeuroBench's own figures of them.

Made with neurobench 2.3.0, snntorch 1.0.0, torch 2.13.0. They are no dependencies of the project:
neurobench asks for packages that pin another torch. In an environment with the project and torch:

    pip install --no-deps neurobench==2.3.0 snntorch==1.0.0 tonic==1.7.0
    python tests/vectors/neurobench/make.py

Layers of the networks become torch's: convolutions and dense layers in float64, which compute, and
whose sums are held to the reference; neurons of the chip's arithmetic as a class of snnTorch (one
network has snnTorch's own `Leaky`); clamps as `ReLU`. NeuroBench's harness then hooks and counts.
A metric that fails gives 0.0 there, so what it prints is looked at.
"""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import snntorch as snn
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import (
    ActivationSparsity,
    ClassificationAccuracy,
    MembraneUpdates,
    NeuronOperations,
    SynapticOperations,
)
from neurobench.models import SNNTorchModel, TorchModel
from torch import nn

from firmware_tools import imported
from firmware_tools.neurobench.mars import is_activation, run_layers
from firmware_tools.neurobench.zeros import zeros_of
from model.mars import network_file
from model.mars.network import (
    INPUT,
    RAW_BITS,
    Conv,
    Dense,
    FeatureType,
    Lookup,
    QuantizedNetwork,
    neuron_of,
)
from model.mars.neuron import Exit, Neuron
from model.mars.random_network import random_input, random_network
from model.mars.random_spiking import random_spiking_network
from model.mars.reference import run_layer
from model.npu import network_file as npu_file

HERE = Path(__file__).parent
KERAS = HERE.parent / "keras"
IQIF = HERE.parent / "iqif"
N_IMAGES = 6
SEED = 7


class PaddedConv(nn.Conv2d):
    """A convolution with other padding on each side."""

    def __init__(self, layer: Conv) -> None:
        n_kernels, n_channels, *size = layer.weight.shape
        super().__init__(
            n_channels * layer.groups,
            n_kernels,
            tuple(size),
            layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=False,
        )
        top, left, bottom, right = layer.padding
        self.around = (left, right, top, bottom)
        self.weight = nn.Parameter(torch.tensor(layer.weight, dtype=torch.float64))

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(source, self.around))


class Flat(nn.Linear):
    """A dense layer, which flattens what it reads."""

    def __init__(self, layer: Dense) -> None:
        super().__init__(layer.weight.shape[1], layer.weight.shape[0], bias=False)
        self.weight = nn.Parameter(torch.tensor(layer.weight, dtype=torch.float64))

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        return super().forward(source.flatten(1))[..., None, None]


class Memory:
    """Membranes that one or several layers use."""

    def __init__(self) -> None:
        self.mem = torch.zeros(0)


class Leaky(snn.SpikingNeuron):
    """The chip's neuron. NeuroBench's table of costs knows it by the name of its class."""

    def __init__(self, neuron: Neuron, shape: tuple[int, ...], memory: Memory) -> None:
        reset = {"hard": "zero", "soft": "subtract"}[neuron.reset]
        super().__init__(init_hidden=True, reset_mechanism=reset)
        self.neuron, self.shape, self.memory = neuron, shape, memory

    @property
    def mem(self) -> torch.Tensor:
        return self.memory.mem

    def start(self, n_images: int) -> None:
        """Membranes before the first step."""
        n_own = self.shape[0] // self.neuron.groups
        initial = self.neuron.initial
        first = torch.zeros(n_own) if initial is None else torch.tensor(initial)
        shape = (n_images, n_own, *self.shape[1:])
        self.memory.mem = first.double()[:, None, None].expand(shape).clone()

    def forward(self, charge: torch.Tensor) -> torch.Tensor:
        n_own = charge.shape[1] // self.neuron.groups
        threshold = torch.tensor(self.neuron.threshold)[:, None, None]
        limit, spikes = self.neuron.limit, []
        for added, level in zip(charge.split(n_own, 1), threshold.split(n_own), strict=True):
            charged = self.memory.mem + added
            fires = (charged >= level).double()
            after = charged * 0 if self.neuron.reset == "hard" else charged - level
            rest = torch.where(fires > 0, after, charged)
            self.memory.mem = torch.trunc(rest / 2**self.neuron.leak).clamp(-limit, limit)
            spikes.append(fires)
        return torch.cat(spikes, 1)


class Table(nn.ReLU):
    """An activation function that a table has computed."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


def torch_of(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pads_with(layer: Any) -> int | None:
    """What is around the map that a layer reads, if something is."""
    return layer.pad_value if isinstance(layer, Conv) and any(layer.padding) else None


class Twin(nn.Module):
    """A network in torch. What is neither product nor activation, pools for one, is the chip's."""

    def __init__(self, network: QuantizedNetwork, inputs: np.ndarray) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs
        self.zeros = zeros_of(network)
        self.products, self.activations = nn.ModuleDict(), nn.ModuleDict()
        self.calls, self.first, self.size = 0, 0, len(inputs)
        memories: dict[str, Memory] = {}
        for layer in network.layers:
            name, kind, neuron = layer.name, network.types[layer.name], neuron_of(layer)
            if isinstance(layer, Conv | Dense):
                self.products[name] = PaddedConv(layer) if isinstance(layer, Conv) else Flat(layer)
            if neuron is not None:
                shared = f"share {neuron.membrane}" if neuron.membrane is not None else name
                memory = memories.setdefault(shared, Memory())
                self.activations[name] = Leaky(neuron, kind.shape, memory)
            elif is_activation(layer, kind, self.zeros[name]):
                self.activations[name] = Table() if isinstance(layer, Lookup) else nn.ReLU()

    def take(self, first: int, size: int) -> None:
        """Which images come next."""
        self.first, self.size = first, size
        self.expected = run_layers(self.network, self.inputs[first : first + size])

    def reset(self) -> None:
        """Before the first step."""
        self.calls = 0
        self.logits: Any = 0
        for module in self.activations.values():
            if isinstance(module, Leaky):
                module.start(self.size)

    def forward(self, source: torch.Tensor) -> Any:
        network, now = self.network, self.calls
        if now == 0:
            self.values = {}
        self.values[INPUT] = source.numpy().astype(np.int64)
        for layer in network.layers:
            name, kind = layer.name, network.types[layer.name]
            if now == 0 or kind.time_steps:
                result = self.result(layer, now)
                wanted = self.expected.values[name]
                np.testing.assert_array_equal(result, wanted[:, now] if kind.time_steps else wanted)
                self.values[name] = result
        self.calls += 1
        result = torch_of(self.values[network.output])
        return (result, None) if network.time_steps else result

    def result(self, layer: Any, now: int) -> np.ndarray:
        name, kind = layer.name, self.network.types[layer.name]
        neuron = neuron_of(layer)
        acc = None
        if name in self.products:
            zero = self.zeros[layer.input]
            key = f"acc {name}"
            if (
                now == 0 or self.network.types[layer.input].time_steps
            ):  # what does not change in time is computed once
                read = torch_of(self.values[layer.input] - zero)
                self.values[key] = self.products[name](read)
            # What reads zero points has them in its bias.
            folded = layer.bias + zero * layer.weight.reshape(len(layer.weight), -1).sum(axis=1)
            acc = self.values[key] + torch_of(folded)[:, None, None]
        if neuron is not None:
            skip = getattr(layer, "skip", None)
            charge = acc if skip is None else acc + layer.skip_mult * torch_of(self.values[skip])
            return self.activations[name](charge).numpy().astype(np.int64)
        if kind.time_steps and kind.bits == RAW_BITS:
            self.logits = self.logits + acc
            return self.logits.numpy().astype(np.int64)
        given = run_layer(layer, self.network.types, self.values)
        if acc is not None and kind.bits == RAW_BITS and pads_with(layer) in (None, zero):
            np.testing.assert_array_equal(acc.numpy(), given)
        if name in self.activations:
            real = self.activations[name](torch_of(given - self.zeros[name]))
            return real.numpy().astype(np.int64) + self.zeros[name]
        return given


class Native(nn.Module):
    """Integrate-and-fire with a hard reset, all of it torch's and snnTorch's own."""

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        conv, dense, out = network.layers
        self.conv, self.dense, self.out = PaddedConv(conv), Flat(dense), Flat(out)
        self.first, self.second = self.neuron(conv), self.neuron(dense)
        self.biases = [torch_of(one.bias)[:, None, None] for one in network.layers]

    @staticmethod
    def neuron(layer: Any) -> snn.Leaky:
        level = torch_of(layer.neuron.threshold)[:, None, None] - 0.5  # it fires above, not at it
        return snn.Leaky(1.0, level, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    def forward(self, source: torch.Tensor) -> Any:
        spikes = self.first(self.conv(source) + self.biases[0]).double()
        spikes = self.second(self.dense(spikes) + self.biases[1]).double()
        return self.out(spikes) + self.biases[2], None


class Stored(nn.Module):
    """Arrays and membranes of a sample as torch keeps integers, for the footprint."""

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__()
        buffers: dict[str, torch.Tensor] = {}
        for number, layer in enumerate(network.layers):
            for name, kind in (
                *(("weight", torch.int8), ("bias", torch.int32), ("shift", torch.uint8)),
                *(("post_shift", torch.uint8), ("table", torch.int16)),
            ):
                self.keep(f"{name}{number}", getattr(layer, name, None), kind)
            mult = getattr(layer, "mult", None)
            if isinstance(mult, np.ndarray):
                self.keep(
                    f"mult{number}", mult, torch.uint32 if mult.max() > 65535 else torch.uint16
                )
            neuron = neuron_of(layer)
            if neuron is not None:
                self.keep(f"threshold{number}", neuron.threshold, torch.int32)
                self.keep(f"initial{number}", neuron.initial, torch.int16)
                channels, rows, columns = network.types[layer.name].shape
                kind = torch.int8 if neuron.bits <= 8 else torch.int16
                memory = torch.zeros((channels // neuron.groups, rows, columns), dtype=kind)
                if neuron.membrane is not None:
                    memory = buffers.setdefault(neuron.membrane, memory)
                self.register_buffer(f"membrane{number}", memory)

    def keep(self, name: str, values: Any, kind: torch.dtype) -> None:
        if isinstance(values, np.ndarray):
            tensor = torch.tensor(values).to(kind)
            setattr(self, name, nn.Parameter(tensor, requires_grad=False))


class Batches:
    """Images that come together, with as many time steps as they take."""

    def __init__(self, net: Any, data: list[tuple[int, torch.Tensor]], labels: np.ndarray) -> None:
        self.net, self.data, self.dataset = net, data, labels

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Any:
        for first, images in self.data:
            if hasattr(self.net, "take"):
                self.net.take(first, len(images))
                self.net.reset()
            yield images, torch.tensor(self.dataset[first : first + len(images)])


def harness(
    model: Any, loader: Any, static: list[Any], workload: list[Any], post: Callable[..., Any]
) -> dict[str, Any]:
    """What NeuroBench's harness says; it must not have swallowed an exception."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), torch.no_grad():
        results = Benchmark(model, loader, [], [post], [static, workload]).run()
    assert "Error" not in said.getvalue(), said.getvalue()
    return results


def figures(network: QuantizedNetwork, net: nn.Module, inputs: np.ndarray) -> dict[str, Any]:
    """NeuroBench's figures of a network of MARS, and the labels that were used."""
    run = run_layers(network, inputs)
    steps = network.time_steps
    data = torch_of(inputs)
    if steps and network.coding == "direct":
        data = data[:, None].repeat_interleave(steps, 1)
    batches = [(0, data)]
    if network.exit is not None:  # as many steps as each image takes
        batches = [(k, data[k : k + 1, :n]) for k, n in enumerate(run.steps.tolist())]
    results = run.values[network.output]
    n_classes = network.types[network.output].shape[0]
    labels = np.random.default_rng(SEED).integers(0, n_classes, len(inputs))
    right = results[:, -1] if steps else results
    is_vector = network.types[network.output].shape[1:] == (1, 1)
    if is_vector and network.exit is None:
        labels[::2] = right.reshape(len(inputs), -1).argmax(1)[::2]
    model = SNNTorchModel(net) if steps else TorchModel(net)
    workload: list[Any] = [SynapticOperations]
    if network.exit is None:
        workload += [ActivationSparsity]  # of batches of other sizes it is a mean of ratios
    if steps:
        workload += [MembraneUpdates]
        # It fails, and says 0.0, if a network has other activations than neurons.
        modules = model.activation_layers()
        if all(isinstance(one["layer"], snn.SpikingNeuron) for one in modules):
            workload += [NeuronOperations]
    if is_vector:
        workload += [ClassificationAccuracy]

    def post(results: torch.Tensor) -> torch.Tensor:
        last = results[:, -1] if steps else results
        if isinstance(net, Native):
            last = results.sum(1)
        return last.flatten(1).argmax(1)

    found = harness(model, Batches(net, batches, labels), [ConnectionSparsity], workload, post)
    stored = TorchModel(Stored(network))
    found["Footprint"] = Footprint()(stored)
    return {"labels": labels.tolist(), "figures": found}


def integrate_and_fire(rng: np.random.Generator) -> QuantizedNetwork:
    """Convolution, dense layer, logits: neurons that snnTorch has, too."""

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-4, 5, shape) * (rng.random(shape) < 0.7)

    def neuron(low: int, n: int) -> Neuron:
        return Neuron(bits=16, threshold=rng.integers(low, low + 6, n), reset="hard")

    common = {"weight_bits": 4, "out_bits": 1, "out_signed": False}
    return QuantizedNetwork(
        FeatureType((2, 8, 7), 1, signed=False),
        (
            Conv(
                name="conv",
                input=INPUT,
                weight=weight(5, 2, 3, 3),
                bias=rng.integers(-2, 3, 5),
                stride=2,
                padding=1,
                neuron=neuron(3, 5),
                **common,
            ),
            Dense(
                name="dense",
                input="conv",
                weight=weight(9, 80),
                bias=rng.integers(-2, 3, 9),
                neuron=neuron(4, 9),
                **common,
            ),
            Dense(
                name="out",
                input="dense",
                weight=weight(4, 9),
                bias=rng.integers(-2, 3, 4),
                weight_bits=4,
                out_bits=RAW_BITS,
                out_signed=True,
            ),
        ),
        name="integrate_and_fire",
        time_steps=5,
        coding="spikes",
    )


def dense_spiking(rng: np.random.Generator) -> QuantizedNetwork:
    """Direct coding, a soft reset with leak, an exit."""

    def layer(name: str, source: str, n_out: int, n_in: int, **fields: Any) -> Dense:
        weight = rng.integers(-7, 8, (n_out, n_in))
        return Dense(
            name=name,
            input=source,
            weight=weight,
            bias=rng.integers(-5, 6, n_out),
            weight_bits=4,
            **fields,
        )

    def spikes(n: int, low: int) -> dict[str, Any]:
        neuron = Neuron(bits=8, threshold=rng.integers(low, 2 * low, n), reset="soft", leak=1)
        return {"out_bits": 1, "out_signed": False, "neuron": neuron}

    return QuantizedNetwork(
        FeatureType((1, 4, 4), 4, signed=False),
        (
            layer("one", INPUT, 12, 16, **spikes(12, 30)),
            layer("two", "one", 10, 12, **spikes(10, 4)),
            layer("out", "two", 3, 10, out_bits=RAW_BITS, out_signed=True),
        ),
        name="dense_spiking",
        time_steps=6,
        exit=Exit(metric="confidence", mode="mean", threshold=0.7, scale=0.1),
    )


def populations(path: Path) -> dict[str, Any]:
    """NeuroBench's figures of a network of POPPINS, with the trace of the authors' simulator."""
    network = npu_file.load(path)
    trace = np.load(path.with_suffix(".npz"))
    n_steps = network.n_steps
    layers: list[tuple[nn.Linear, np.ndarray]] = []
    fired = np.vstack([np.zeros((1, network.n_neurons)), trace["spikes"][:-1]])
    events = np.zeros((n_steps, sum(network.axons)))
    events[tuple(network.events.T)] = 1
    for p in range(len(network.populations)):
        columns, axons = network.neuron_slice(p), network.axon_slice(p)
        blocks = [(network.recurrent, network.neuron_slice(q), fired) for q in network.sources(p)]
        if network.axons[p]:
            blocks.append((network.external, axons, events))
        for connections, rows, seen in blocks:
            whole = np.zeros((seen.shape[1], network.n_neurons))
            whole[connections.pre, connections.post] = connections.weight
            weight = torch_of(whole[rows, columns].T)
            layer = nn.Linear(*weight.shape[::-1], bias=False)
            layer.weight = nn.Parameter(weight)
            layers.append((layer, seen[:, rows]))

    class Replay(snn.SpikingNeuron):
        def __init__(self) -> None:
            super().__init__(init_hidden=True)
            self.mem = torch.zeros(0)

        def forward(self, step: int) -> torch.Tensor:
            self.mem = torch_of(trace["v"][step : step + 1])
            return torch_of(trace["spikes"][step : step + 1])

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([layer for layer, _ in layers])
            self.neurons = Replay()

        def reset(self) -> None:
            """Nothing is kept."""

        def forward(self, step: torch.Tensor) -> Any:
            now = int(step[0])
            for layer, (_, seen) in zip(self.layers, layers, strict=True):
                layer(torch_of(seen[now : now + 1]))
            return self.neurons(now), None

    loader = Batches(None, [(0, torch.arange(n_steps)[None])], np.zeros(1))
    workload = [SynapticOperations, ActivationSparsity, MembraneUpdates]
    return harness(SNNTorchModel(Net()), loader, [ConnectionSparsity], workload, lambda x: x)


def documented() -> dict[str, Any]:
    """The example of NeuroBench's documentation."""
    weight = [[1.3, 0, -3.2], [0, 1.2, -5.1], [-1.1, 2.7, 0]]
    layer = nn.Linear(3, 3, bias=False)
    layer.weight = nn.Parameter(torch.tensor(weight))
    loader = Batches(None, [(0, torch.tensor([[0, 1.3, -1]]))], np.zeros(1))
    net = nn.Sequential(layer)
    return harness(TorchModel(net), loader, [], [SynapticOperations], lambda x: x)


def cases() -> dict[str, tuple[QuantizedNetwork, np.ndarray]]:
    """Networks and inputs by name."""
    rng = np.random.default_rng(SEED)
    result = {}
    for made in (integrate_and_fire(rng), dense_spiking(rng)):
        result[made.name] = made, random_input(made, SEED, N_IMAGES)
    small = {"max_channels": 10, "max_size": 8}
    for seed in range(12):
        share = bool(seed % 2)
        network = random_spiking_network(seed, share_layers=share, **small)
        result[f"spiking_{seed}"] = network, random_input(network, seed, N_IMAGES)
    for seed in (0, 2, 3, 4, 5, 6):
        network = random_network(seed, **small)
        result[f"cnn_{seed}"] = network, random_input(network, seed, N_IMAGES)
    # Some images alone would be calls without multiplications.
    network, inputs = result["dense_spiking"]
    network = replace(network, exit=None, name="mixed")
    result["mixed"] = network, np.concatenate((inputs[:3].clip(0, 1), inputs[3:]))
    return result


def main() -> None:
    expected: dict[str, Any] = {"documented": documented(), "mars": {}, "models": {}}
    for name, (network, inputs) in cases().items():
        net = Native(network).double() if name == "integrate_and_fire" else Twin(network, inputs)
        expected["mars"][name] = figures(network, net, inputs)
        network_file.dump(network, HERE / f"{name}.npz")
        np.save(HERE / f"{name}.npy", inputs.astype(np.int16))
    for name in ("residual", "functions"):
        model = imported.load(KERAS / f"{name}.tflite", wide=True)
        with np.load(KERAS / f"{name}.npz") as arrays:
            inputs = model.to_network(arrays[arrays.files[0]])
        expected["models"][name] = figures(model.network, Twin(model.network, inputs), inputs)
    expected["poppins"] = {path.stem: populations(path) for path in sorted(IQIF.glob("*.json"))}
    text = json.dumps(expected, indent=1)
    (HERE / "expected.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
