"""The twin's integers are the accelerator's; what it refuses."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from firmware_tools.quantize import (
    QUANTIZERS,
    CalibrationError,
    QuantizationError,
    UnsupportedError,
    calibrate,
    differences,
    export,
    quantize,
)
from model.mars import network_file, reference
from model.mars.network import Conv, Dense

SHAPE = (3, 9, 8)


class Residual(nn.Module):
    """All that is supported: shortcuts, both kinds of pools, a residual without ReLU."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        )
        self.a = nn.Conv2d(6, 10, 3, stride=2, padding=1, bias=False)
        self.bn_a = nn.BatchNorm2d(10)
        self.b = nn.Conv2d(10, 10, 3, padding=1, bias=False)
        self.bn_b = nn.BatchNorm2d(10, affine=False)
        self.short = nn.Conv2d(6, 10, 1, stride=2, bias=False)
        self.bn_short = nn.BatchNorm2d(10)
        self.c = nn.Conv2d(10, 10, 1)
        self.pool = nn.MaxPool2d(2)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(10, 7)
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x):
        x = self.stem(x)
        y = functional.relu(self.bn_a(self.a(x)))
        y = self.bn_b(self.b(y))
        y += self.bn_short(self.short(x))
        y = torch.relu(y)
        y = y + self.c(y)
        y = self.gap(self.pool(y))
        y = self.fc1(self.drop(torch.flatten(y, 1)))
        return self.fc2(y.relu())


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 5, 3, stride=2, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(10, 4),
    )


def randomised(model, seed=0):
    """A network whose normalisations have seen something."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.3, 2)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.5)  # some are negative
                nn.init.normal_(module.bias, 0, 0.5)
    return model.eval()


def images(n=6, seed=1):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def calibrated(model, *bits, **options):
    twin = quantize(model, *bits, **options)
    calibrate(twin, images())
    return twin.eval()


def assert_exact(twin, x):
    """Every output of every layer, evaluated and in training, is the exported network's."""
    network = export(twin)
    wanted = reference.run(network, twin.image_ints(x))
    twin.eval()
    found = twin.integers(x)
    twin.train()
    trained = twin.features(x)
    twin.eval()
    assert list(wanted) == list(found)[1:]
    for name, ints in wanted.items():
        assert np.array_equal(found[name], ints), name
        assert np.array_equal(trained[name].ints.detach().numpy(), ints), name
    last = network.output
    real = twin(x).detach().numpy().reshape(wanted[last].shape)
    assert np.array_equal(real, wanted[last] * network.scales[last])


@pytest.mark.parametrize("make", [Residual, chain])
@pytest.mark.parametrize("bits", [(2, 2), (3, 5), (8, 8), (5, 3)])
@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_integers(make, bits, quantizer):
    twin = calibrated(randomised(make()), *bits, quantizer=quantizer)
    assert_exact(twin, images(seed=2))
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-3)
    twin.train()
    for seed in range(3):
        optimizer.zero_grad()
        twin(images(seed=seed)).square().mean().backward()
        optimizer.step()
    assert_exact(twin, images(seed=2))


@pytest.mark.parametrize("per_channel", [True, False])
def test_signed_images_and_other_widths(per_channel):
    model = randomised(Residual(), seed=4)
    twin = quantize(
        model, 4, 4, input_bits=8, input_signed=True, average_bits=8, per_channel=per_channel
    )
    calibrate(twin, [images() - 0.5, images(seed=5) - 0.5])
    assert_exact(twin, images(seed=3) - 0.5)
    network = export(twin)
    assert (network.input_type.bits, network.input_type.signed) == (8, True)
    assert network.types["gap"].bits == 8
    shifts = network.layer("a").shift
    assert per_channel == (len(set(network.layer("a").mult.tolist())) > 1)
    assert len(shifts) == 10


def test_wide_sums_are_exact():
    """Products of 8 bit that sum to more than 2^24, where float32 has no odd numbers."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 72, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[1].weight[0, ::2] = 0.99
    x = images() * 0.01 + 0.99
    wide = nn.Sequential(nn.Conv2d(600, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        wide[0].weight.uniform_(0.9, 1)
    y = torch.rand(2, 600, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.9
    for net, data in ((model, x), (wide, y)):
        twin = quantize(net, 8, 8)
        calibrate(twin, data)
        assert_exact(twin, data)
    largest = twin.features(y)["0"]
    weight = twin.products()[0].weight_ints()
    acc = reference.convolve(twin.image_ints(y), weight)
    assert acc.max() > 1 << 24
    assert (acc % 2).any()
    assert largest.ints.shape == (2, 4, 1, 1)


def test_structure():
    network = export(calibrated(randomised(Residual()), 3, 4))
    assert [layer.name for layer in network.layers] == [
        *("stem.0", "a", "short", "b", "c", "pool", "gap", "fc1", "fc2")
    ]
    assert network.layer("b").skip == "short"
    assert network.layer("c").skip == "b"
    assert network.types["short"].signed
    assert not network.types["b"].signed
    assert network.types["c"].signed
    assert isinstance(network.layer("fc1"), Dense)
    assert network.layer("fc2").out_bits == 32
    assert {layer.weight_bits for layer in network.layers if isinstance(layer, Conv)} == {3}


def test_fusion_is_what_the_float_network_computes():
    """At 8 bits the twin is close to the float network, layer by layer."""
    model = randomised(Residual())
    twin = calibrated(model, 8, 8)
    rows = differences(model, twin, export(twin), images())
    assert [row.name for row in rows] == [layer.name for layer in twin.steps()]
    for row in rows:
        assert row.cosine > 0.999
        assert not row.unequal


def test_smooth_is_the_float_network():
    model = randomised(Residual())
    twin = quantize(model, 2, 2)
    twin.smooth()
    calibrate(twin, images())
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-5)
    twin.smooth(False)
    with pytest.raises(CalibrationError, match="must be calibrated first"):
        export(twin)
    calibrate(twin, images(), again=True)
    assert_exact(twin, images(seed=2))


def test_gradients_are_nearly_those_of_the_float_network():
    model = chain()
    twin = calibrated(randomised(model), 8, 8, asr=False, mde=False)
    twin(images()).square().sum().backward()
    model(images()).square().sum().backward()
    fc, last = twin.products()[-1].weight.grad, model[-1].weight.grad
    assert functional.cosine_similarity(fc.flatten(), last.flatten(), 0) > 0.999
    factor = model[1].weight / torch.sqrt(model[1].running_var + model[1].eps)
    first = model[0].weight.grad / factor.detach()[:, None, None, None]
    cosine = functional.cosine_similarity(
        twin.products()[0].weight.grad.flatten(), first.flatten(), 0
    )
    assert cosine > 0.97


def test_the_file_is_the_network(tmp_path):
    twin = calibrated(randomised(Residual()), 4, 4)
    network_file.dump(export(twin), tmp_path / "net.npz")
    wanted = reference.run(network_file.load(tmp_path / "net.npz"), twin.image_ints(images()))
    assert np.array_equal(twin.integers(images())["fc2"], wanted["fc2"])


def test_the_model_stays_as_it_is():
    model = randomised(chain())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = calibrated(model, 2, 2)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_difference_is_found_where_it_is():
    model = randomised(chain())
    twin = calibrated(model, 4, 4)
    network = export(twin)
    with torch.no_grad():
        twin.products()[1].bias[2] += 20 * twin.products()[1].activation.step
    rows = differences(model, twin, network, images())
    assert [bool(row.unequal) for row in rows[:2]] == [False, True]
    assert rows[1].first[:2] == (0, 2)


def test_before_calibration():
    twin = quantize(chain(), 4, 4)
    for use in (lambda: export(twin), lambda: twin.eval()(images())):
        with pytest.raises(CalibrationError, match="must be calibrated first"):
            use()
    calibrate(twin, images())
    twin.products()[1].activation.calibrated.fill_(False)
    with pytest.raises(CalibrationError, match="layer '3' must be calibrated first"):
        export(twin)


@pytest.mark.parametrize("what", ["weight_bits", "act_bits", "input_bits", "average_bits"])
@pytest.mark.parametrize("bits", [1, 9, 3.0])
def test_widths(what, bits):
    widths = {"weight_bits": 4, "act_bits": 4, what: bits}
    with pytest.raises(QuantizationError, match=rf"{what} must be 2\.\.8, not {bits}"):
        quantize(chain(), **widths)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(value):
    model = chain()
    with torch.no_grad():
        model[3].weight[1, 2, 0, 1] = value
    with pytest.raises(
        QuantizationError, match=r"layer '3': weight\[1, 2, 0, 1\] must be a finite"
    ):
        quantize(model, 4, 4)


@pytest.mark.parametrize(
    ("name", "place"), [("weight", "weight[0, 0, 0, 0]"), ("bias", "bias[0]"), ("alpha", None)]
)
def test_weights_that_training_has_lost(name, place):
    """They are refused wherever they would become integers."""
    twin = calibrated(chain(), 4, 4)
    layer = twin.products()[1]
    with torch.no_grad():
        lost = layer.activation.alpha if name == "alpha" else getattr(layer, name)
        lost.view(-1)[0] = torch.nan
    text = f"layer '3': {place or 'activation.alpha'} must be a finite number, not nan"
    for use in (lambda: export(twin), lambda: calibrate(twin, images())):
        with pytest.raises(QuantizationError, match=re.escape(text)):
            use()


def test_smooth_is_not_exported():
    twin = calibrated(chain(), 4, 4)
    twin.smooth()
    with pytest.raises(QuantizationError, match=r"must compute with integers: call twin\.smooth"):
        export(twin)


def test_unknown_option():
    with pytest.raises(QuantizationError, match="options must be among asr, mde, ssg, three_val"):
        quantize(chain(), 4, 4, soft=True)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (np.zeros((2, *SHAPE)), "images must be a tensor, not ndarray"),
        ([(images(), 1)], "images must be a tensor, not tuple"),
        (images()[0], r"images must be \(N, C, H, W\), not \(3, 9, 8\)"),
        (images()[:0], r"images must be \(N, C, H, W\), not \(0, 3, 9, 8\)"),
    ],
)
def test_no_images(wrong, text):
    with pytest.raises(QuantizationError, match=text):
        calibrate(quantize(chain(), 4, 4), wrong)


def test_images_that_are_not_wanted():
    twin = calibrated(chain(), 4, 4)
    with pytest.raises(QuantizationError, match="images must not be negative"):
        calibrate(quantize(chain(), 4, 4), images() - 1)
    for use in (lambda x: calibrate(quantize(chain(), 4, 4), x), twin.image_ints):
        with pytest.raises(QuantizationError, match="images must be finite numbers"):
            use(images() * float("nan"))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.relu(self.conv(x)))


class Branch(Twice):
    def forward(self, x):
        if x.sum() > 0:
            return self.conv(x)
        return x


class ReluThenAdd(Twice):
    def forward(self, x):
        return torch.relu(self.conv(x)) + x


class Shared(Twice):
    def forward(self, x):
        y = self.conv(x)
        return torch.relu(y) + y


class Scaled(Twice):
    def forward(self, x):
        return torch.relu(self.conv(x)) * 2


def conv(**options):
    return nn.Conv2d(*(3, 6), **{"kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (nn.Sequential(conv(kernel_size=5)), r"0: a kernel of \(5, 5\) is not supported"),
        (nn.Sequential(conv(stride=4)), r"0: stride \(4, 4\) is not supported"),
        (nn.Sequential(conv(padding=2)), r"0: padding \(2, 2\)"),
        (nn.Sequential(conv(padding="same")), "0: padding 'same'"),
        (nn.Sequential(conv(kernel_size=1, padding=1)), "0: padding 1 around 1x1"),
        (nn.Sequential(conv(padding_mode="reflect")), "0: padding mode 'reflect'"),
        (nn.Sequential(conv(dilation=2)), r"0: dilation \(2, 2\)"),
        (nn.Sequential(conv(groups=3)), "0: a convolution in 3 groups"),
        (nn.Sequential(conv(), nn.Sigmoid()), "1: Sigmoid is not supported; the accelerator takes"),
        (nn.Sequential(conv(), nn.ReLU6()), "1: ReLU6"),
        (nn.Sequential(nn.BatchNorm2d(3), conv()), "0: BatchNorm2d after x|0: BatchNorm2d after"),
        (nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(6)), "2: BatchNorm2d after _1"),
        (nn.Sequential(conv(), nn.BatchNorm2d(6, track_running_stats=False)), "1: no running"),
        (nn.Sequential(conv(), nn.MaxPool2d(3)), r"1: a pool of \(3, 3\)"),
        (nn.Sequential(conv(), nn.MaxPool2d(2, ceil_mode=True)), "1: a pool of .*ceil_mode"),
        (nn.Sequential(conv(), nn.MaxPool2d(2, stride=1)), r"1: a pool of .*stride \(1, 1\)"),
        (nn.Sequential(conv(), nn.AdaptiveAvgPool2d(2)), "1: averages of size 2"),
        (nn.Sequential(conv(), nn.Linear(6, 2)), "1: Linear on a map"),
        (nn.Sequential(conv(), nn.Flatten(3), nn.Linear(6, 2)), r"1: Flatten of \(3, -1\)"),
        (nn.Sequential(conv(), nn.Flatten(2), nn.Linear(6, 2)), "2: Linear on a map is not"),
        (nn.Identity(), "must return one tensor, the result of a layer"),
        (Twice(), "conv: the name 'conv' again"),
        (Branch(), "Branch: must be traceable by torch.fx"),
        (ReluThenAdd(), "add: .* is not supported; the accelerator takes a convolution without"),
        (Shared(), "conv, used by relu, add is not supported"),
        (Scaled(), "mul: mul is not supported"),
    ],
)
def test_refused_by_name(model, text):
    with pytest.raises(UnsupportedError, match=text):
        quantize(model, 4, 4)
