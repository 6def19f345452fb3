"""Spiking twins against the reference, spike by spike, and their gradients by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from firmware_tools.quantize import calibrate, parameter_groups
from firmware_tools.quantize.errors import CalibrationError, QuantizationError
from firmware_tools.quantize.spiking import export_spiking, one_step, spike, step_loss
from firmware_tools.quantize.spiking_layers import WIDTH, NeuronKind, _Fire, one_bit_size
from firmware_tools.quantize.tracing import UnsupportedError
from model.mars import reference
from model.mars.config import CONFIGS
from model.mars.frame import layer_outputs, run_chunks
from model.mars.mapper import compile_network


class Residual(nn.Module):
    """Everything that a spiking network can have."""

    def __init__(self, pool: nn.Module, last: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = pool
        self.fc1 = nn.Linear(last, 6)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.conv3(y) + x)
        return self.fc2(torch.relu(self.fc1(torch.flatten(self.pool(x), 1))))


POOLS = {
    "or": (nn.MaxPool2d(2), 36),
    "sum": (nn.AvgPool2d(2), 36),
    "whole": (nn.AdaptiveAvgPool2d(1), 4),
}
NEURONS = [
    {},
    {"membrane_bits": 2, "weight_bits": 2},
    {"leak": 1, "reset": "hard", "membrane_bits": 8},
    {"leak": 2, "input_bits": 2},
    {"share": "channel", "leak": 1},
    {"share": "layer", "time_steps": 3},
    {"share": "both", "reset": "hard", "leak": 1},
]


def trained(pool="or", seed=0, **options):
    """A twin after a few steps of training; images that it has not seen."""
    torch.manual_seed(seed)
    model = Residual(*POOLS[pool])
    images = torch.rand(12, 1, 6, 6)
    twin = spike(model.eval(), **options)
    calibrate(twin, images)
    optimizer = torch.optim.Adam(parameter_groups(twin, 0.01))
    twin.train()
    for _ in range(3):
        optimizer.zero_grad()
        step_loss(twin(images), torch.arange(12) % 3).backward()
        optimizer.step()
    twin.eval()
    return twin, torch.rand(40, 1, 6, 6)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("options", NEURONS)
def test_exported_is_trained(pool, options):
    """Every spike, count and logit of every step, in evaluation and in training."""
    twin, images = trained(pool, **options)
    network = export_spiking(twin)
    values = reference.run(network, twin.image_ints(images))
    for mode in (True, False):
        twin.train(mode)
        ours = twin.integers(images)
        assert list(ours) == ["input", *values]
        for name, wanted in values.items():
            np.testing.assert_array_equal(ours[name], wanted, err_msg=name)
    logits = twin(images).detach()
    scale = network.scales[network.output]
    mean = values[network.output][..., 0, 0] * scale / np.arange(1, twin.time_steps + 1)[:, None]
    np.testing.assert_allclose(logits.transpose(0, 1), mean, rtol=1e-6)
    rates = [values[name].mean() for name in ("conv1", "conv2", "conv3")]
    assert all(0.02 < rate < 0.98 for rate in rates), rates


def logits_of(image, run):
    """Of the steps of a chunk, (steps, classes, 1, 1)."""
    contents = image.contents.passes[-1]
    values = layer_outputs(run.program.descriptor, contents, run)["fc2"]
    return values[: image.contents.chunk or None]


@pytest.mark.parametrize("share", ["layer", "channel", "both"])
def test_shared_membranes_on_the_golden_machine(share):
    """Step by step where layers share, in one chunk of all steps otherwise."""
    twin, images = trained(share=share)
    network = export_spiking(twin)
    neurons = {layer.name: layer.neuron for layer in network.layers if hasattr(layer, "neuron")}
    names = {name: neuron.membrane for name, neuron in neurons.items() if neuron is not None}
    groups = {neuron.groups for neuron in neurons.values() if neuron is not None}
    wanted = None if share == "channel" else f"{2 if share == 'both' else 4}x6x6"
    assert names == {"conv1": wanted, "conv2": wanted, "conv3": wanted, "fc1": None}
    assert groups == {1 if share == "layer" else 2}
    image = compile_network(network, CONFIGS["mars-tiny"], 0 if share == "channel" else 1)
    inputs = twin.image_ints(images[:3])
    values = reference.run(network, inputs)[network.output]
    for one, wanted_logits in zip(inputs, values, strict=True):
        logits = np.concatenate([logits_of(image, runs[-1]) for runs in run_chunks(image, one)])
        if share != "channel":
            logits = logits.cumsum(0)  # a chunk's own
        np.testing.assert_array_equal(logits, wanted_logits)


def test_gradients_by_hand():
    """Two steps of one neuron, soft reset, leak 1: what the formulas say."""
    kind = NeuronKind(bits=4, reset="soft", leak=1, groups=1, is_shared=False)
    charge = torch.tensor([5.0, 9.0, 40.0, -3.0]).reshape(4, 1, 1, 1).requires_grad_()
    threshold = torch.full((1, 1, 1), 6.0, requires_grad=True)
    spikes, left = _Fire.apply(charge, threshold, 4.0, kind)
    assert spikes.flatten().tolist() == [0, 1, 1, 0]
    assert left.flatten().tolist() == [2, 1, 7, -1]
    (spikes.sum() + 3 * left.sum()).backward()
    slope = [1 / (1 + (math.pi * (x - 6) / 4) ** 2) / 4 for x in (5, 9, 40, -3)]
    inside = [1, 1, 0, 1]  # the third membrane is clamped
    g_rest = [1.5 * k for k in inside]
    edge = [(1 - g * 6) * s for g, s in zip(g_rest, slope, strict=True)]
    wanted = [e + g for e, g in zip(edge, g_rest, strict=True)]
    assert charge.grad.flatten().tolist() == pytest.approx(wanted, rel=1e-5)
    fired = sum(g for g, s in zip(g_rest, (0, 1, 1, 0), strict=True) if s)
    assert float(threshold.grad) == pytest.approx(-sum(edge) - fired, rel=1e-5)


def test_hard_reset_by_hand():
    kind = NeuronKind(bits=4, reset="hard", leak=0, groups=1, is_shared=False)
    charge = torch.tensor([5.0, 9.0]).reshape(2, 1, 1, 1).requires_grad_()
    threshold = torch.full((1, 1, 1), 6.0, requires_grad=True)
    _, left = _Fire.apply(charge, threshold, 4.0, kind)
    assert left.flatten().tolist() == [5, 0]
    left.sum().backward()
    slope = [1 / (1 + (math.pi * (x - 6) / 4) ** 2) / 4 for x in (5, 9)]
    wanted = [1 - 5 * slope[0], -9 * slope[1]]
    assert charge.grad.flatten().tolist() == pytest.approx(wanted, rel=1e-5)


def test_one_spike():
    x = torch.tensor([0.4, 0.5, -3.0], requires_grad=True)
    graph = one_step(nn.Sequential(nn.ReLU()))
    spikes = graph(x)
    assert spikes.tolist() == [0, 1, 0]
    spikes.sum().backward()
    wanted = [1 / (1 + (math.pi * (v - 0.5) / WIDTH) ** 2) / WIDTH for v in (0.4, 0.5, -3)]
    assert x.grad.tolist() == pytest.approx(wanted)


def test_size_of_spikes():
    values = torch.tensor([-5.0, 0.1, 0.1, 1.9, 2.1])
    assert float(one_bit_size(values)) == pytest.approx(2)
    assert float(one_bit_size(-values.abs())) == 1


def test_normalisation_in_weights_and_thresholds():
    """A one-step network with real weights and its twin of 8 bits spike alike in the first step."""
    torch.manual_seed(3)
    model = one_step(Residual(*POOLS["or"]))
    images = torch.rand(200, 1, 6, 6).mul(255).round() / 255
    model.train()
    for _ in range(30):
        model(images)  # statistics
    model.eval()
    twin = spike(model, 1, 8, 8, input_bits=8)
    calibrate(twin, images)
    twin.eval()
    spikes = twin.integers(images)
    real = torch.relu(model.bn1(model.conv1(images))) >= 0.5
    assert (torch.from_numpy(spikes["conv1"][:, 0]) == real).double().mean() > 0.99
    hits = twin(images)[0].argmax(1) == model(images).argmax(1)
    assert hits.double().mean() > 0.9


def test_loss_of_every_step():
    logits = torch.randn(3, 5, 4)
    labels = torch.tensor([0, 1, 2, 3, 0])
    each = [nn.functional.cross_entropy(step, labels) for step in logits]
    assert float(step_loss(logits, labels)) == pytest.approx(float(sum(each)) / 3)


def chain(*layers):
    return nn.Sequential(*layers)


CONV = nn.Conv2d(1, 4, 3, padding=1)
HEAD = (nn.Flatten(), nn.Linear(144, 3))


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (chain(CONV, nn.ReLU(), *HEAD), {"time_steps": 0}, "time_steps must be 1..64, not 0"),
        (chain(CONV, nn.ReLU(), *HEAD), {"membrane_bits": 1}, "membrane_bits must be 2..16, not 1"),
        (chain(CONV, nn.ReLU(), *HEAD), {"weight_bits": 9}, "weight_bits must be 2..8, not 9"),
        (chain(CONV, nn.ReLU(), *HEAD), {"leak": 16}, "leak must be 0..15, not 16"),
        (chain(CONV, nn.ReLU(), *HEAD), {"share": "all"}, "share must be one of"),
        (chain(CONV, nn.ReLU(), *HEAD), {"reset": "no"}, "reset must be one of"),
        (chain(CONV, *HEAD), {}, "layer '0': must have a ReLU, in whose place neurons fire"),
        (chain(*HEAD), {}, "layer '1': must read spikes"),
        (chain(CONV, nn.ReLU()), {}, "layer '0': must read spikes|the last layer must be Linear"),
        (
            chain(nn.MaxPool2d(2), CONV, nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)),
            {},
            "layer '0': must read spikes",
        ),
        (
            chain(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3)),
            {"share": "channel"},
            "layer '0': channels must be a multiple of 2 to share membranes, not 3",
        ),
        (
            chain(CONV, nn.ReLU(), nn.AvgPool2d(16), *HEAD),
            {},
            r"2: a pool of \(16, 16\).* takes AvgPool2d\(2\) to AvgPool2d\(15\)",
        ),
        (chain(CONV, nn.Sigmoid(), *HEAD), {}, "1: Sigmoid is not supported; .*AvgPool2d"),
    ],
)
def test_refused(model, options, text):
    with pytest.raises((QuantizationError, UnsupportedError), match=text):
        spike(model, **options)


def test_refused_export():
    twin = spike(Residual(*POOLS["or"]))
    with pytest.raises(CalibrationError, match="must be calibrated first"):
        export_spiking(twin)
    calibrate(twin, torch.rand(4, 1, 6, 6))
    with pytest.raises(QuantizationError, match="must not be smooth"):
        twin.smooth()
    for threshold in (0.0, 1.0, -1.0):
        with pytest.raises(QuantizationError, match="exit: threshold must be between 0 and 1"):
            export_spiking(twin, stop=("confidence", threshold))
    leaky = spike(Residual(*POOLS["or"]), leak=15)
    calibrate(leaky, torch.rand(4, 1, 6, 6))
    with pytest.raises(QuantizationError, match=r"layer 'conv1': neuron.leak must leave something"):
        export_spiking(leaky)
    with torch.no_grad():
        twin.firing()[1].bias[2] = math.nan
    with pytest.raises(QuantizationError, match=r"layer 'conv2': bias\[2\] must be a finite"):
        export_spiking(twin)


def test_thresholds_out_of_reach_are_warnings():
    twin, _ = trained()
    with torch.no_grad():
        twin.firing()[1].threshold[2] = 1e6
        twin.firing()[0].threshold[1] = -1e6
    never, always = sorted(export_spiking(twin).warnings, reverse=True)
    assert "layer 'conv2': threshold" in never
    assert "of channel 2 can never be reached" in never
    assert "layer 'conv1': threshold" in always
    assert "of channel 1 is always reached" in always
