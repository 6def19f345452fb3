"""Group-sets: the accelerator's own, the lasso's slope, what pruning leaves."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_tools.quantize import (
    CalibrationError,
    QuantizationError,
    calibrate,
    export,
    group_lasso,
    group_sparsity,
    prune,
    quantize,
)
from firmware_tools.quantize.sparsity import prunable
from model.mars.group_sets import by_tap, kept_sets
from model.mars.network import Conv, Dense


def twin(bits=4):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 20, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(20, 40, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(40, 24, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 24),
        nn.ReLU(),
        nn.Linear(24, 3),
    )
    result = quantize(model, bits, 4)
    calibrate(result, torch.rand(4, 1, 4, 4))
    return result.eval()


def kept(network):
    return {
        layer.name: kept_sets(by_tap(layer, network.types[layer.input]), layer.weight_bits)
        for layer in network.layers
        if isinstance(layer, Conv | Dense)
    }


@pytest.mark.parametrize("bits", [4, 5])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75])
def test_pruned_group_sets_are_those_of_the_accelerator(bits, share):
    net = twin(bits)
    n_sets = sum(flags.size for flags in kept(export(net)).values())
    found = prune(net, share)
    assert found == pytest.approx(np.ceil(share * n_sets) / n_sets)
    network = export(net)
    assert group_sparsity(network) == found
    flags = list(kept(network).values())
    assert flags[0].all()
    assert all(part.any() for part in flags)


def test_a_set_is_16_channels_at_a_tap_for_16_kernels():
    net = twin()
    layer = net.products()[1]
    with torch.no_grad():
        layer.weight[16:32, 16:20, 1, 2] = 0
    flags = kept(export(net))["2"]
    assert np.argwhere(~flags).tolist() == [[1, 1, 5]]
    with torch.no_grad():
        layer.weight[16:32, :16, 1, 2] = 1e-3
    n_sets = sum(part.size for part in kept(export(net)).values())
    prune(net, 2 / n_sets)
    assert np.argwhere(~kept(export(net))["2"]).tolist() == [[1, 0, 5], [1, 1, 5]]


def test_pruned_weights_stay_zero_in_training():
    net = twin()
    prune(net, 0.5)
    before = kept(export(net))
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (net(torch.rand(4, 1, 4, 4)).square().mean() + group_lasso(net)).backward()
        optimizer.step()
    for name, flags in kept(export(net)).items():
        assert not (flags & ~before[name]).any()


def test_lasso_is_the_closed_form():
    """Sets that are not full count with the weights that they have."""
    net = twin().double()
    weight = net.products()[1].weight.detach().numpy()
    wanted = 0.0
    for kernels in range(0, 40, 16):
        for channels in range(0, 20, 16):
            block = weight[kernels : kernels + 16, channels : channels + 16].reshape(-1, 9)
            wanted += np.sqrt(len(block)) * np.linalg.norm(block, axis=0).sum()
    only = [layer for layer in prunable(net) if layer.name == "2"]
    assert [layer.name for layer in prunable(net)] == ["2", "4", "8", "10"]
    with torch.no_grad():
        for layer in prunable(net):
            if layer not in only:
                layer.weight.zero_()
        assert group_lasso(net).item() == pytest.approx(wanted, rel=1e-6)


def test_lasso_slope():
    net = twin().double()
    group_lasso(net).backward()
    weight = net.products()[2].weight
    found = weight.grad[3, 20, 0, 0].item()
    values = []
    for change in (1e-6, -2e-6):
        with torch.no_grad():
            weight[3, 20, 0, 0] += change
            values.append(group_lasso(net).item())
    assert found == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_refused():
    with pytest.raises(QuantizationError, match=r"sparsity must be 0\.\.1, not 1\.5"):
        prune(twin(), 1.5)
    with pytest.raises(QuantizationError, match=r"sparsity must be at most 0\.\d+ for this"):
        prune(twin(), 0.99)
    with pytest.raises(CalibrationError, match="must be calibrated first"):
        prune(quantize(nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3))), 4, 4), 0.5)
