import numpy as np
import pytest
import torch

from firmware_tools.federation import supernet
from firmware_tools.federation.client import SCORED_IMAGES, _scores, pruned, train_epoch
from firmware_tools.federation.partition import load
from firmware_tools.federation.sampling import sample
from firmware_tools.federation.space import (
    BLOCKS,
    GENES,
    LARGEST,
    N_GENOMES,
    SMALLEST,
    UNIT,
    Subnet,
)
from firmware_tools.quantize.digits import Part

GROUPED = Subnet.of((1, 2, 1, 1, 0, 0, 0, 1, 2, 1, 2, 3, 1, 2, 1, 0))


def some(n: int) -> list[Subnet]:
    return [Subnet.of(one) for one in sample("uniform", GENES, n, 0, 1, 0)]


def alive() -> supernet.Weights:
    """Weights of which none is 0, so that blocks do something."""
    weights = supernet.initial(0)
    weights[weights == 0] = 0.5
    return weights


def part(n: int) -> Part:
    training = load("digits").training
    return Part(training.images[:n], training.labels[:n])


def test_largest_subnet_holds_what_has_its_kernels_and_all_hold_the_whole() -> None:
    everything = np.concatenate(
        [supernet.positions(one) for one in [Subnet.of(LARGEST), *some(60)]]
    )
    assert set(everything) == set(range(supernet.size()))
    assert np.prod(GENES) == N_GENOMES


@pytest.mark.parametrize("subnet", [Subnet.of(SMALLEST), Subnet.of(LARGEST), GROUPED, *some(4)])
def test_macs_are_those_that_torch_does(subnet: Subnet) -> None:
    counted = [0]

    def count(layer: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        weights = int((layer.weight != 0).sum())
        counted[0] += weights * (output[0, 0].numel() if output.dim() == 4 else 1)

    network = supernet.module(subnet, alive())
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    network(part(2).images)
    assert counted[0] == subnet.macs


@pytest.mark.parametrize("subnet", [GROUPED, *some(4)])
def test_weights_come_back_as_they_went(subnet: Subnet) -> None:
    weights = alive()
    held = supernet.positions(subnet)
    assert len(set(held)) == len(held)
    network = supernet.module(subnet, weights)
    assert np.array_equal(supernet.learned(subnet, network), weights[held])
    assert len(held) == sum(int((p != 0).sum()) for p in network.parameters())


def test_zeros_between_groups_stay_in_training() -> None:
    network = supernet.module(GROUPED, alive())
    train_epoch(network, part(32), 0.1, torch.Generator().manual_seed(0))
    masks = supernet.masks(GROUPED)
    assert masks
    for name, mask in masks.items():
        weight = network.get_submodule(name).weight
        assert mask.mean() < 0.6
        assert torch.equal(weight != 0, mask != 0)


def test_narrow_subnet_is_the_wide_one_with_the_other_units_zero() -> None:
    wide = Subnet.of(LARGEST)
    genome = list(LARGEST)
    genome[-2] = 1
    narrow = Subnet.of(tuple(genome))
    weights = alive()
    cut = weights.copy()
    only = np.setdiff1d(supernet.positions(wide), supernet.positions(narrow))
    cut[only] = 0
    images = part(16).images
    a, b = (supernet.module(one, cut).eval()(images) for one in (wide, narrow))
    assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)  # sums of other lengths
    assert not torch.allclose(a, supernet.module(wide, weights).eval()(images), atol=1e-2)


def test_pruning_takes_the_share_and_leaves_every_block_a_unit() -> None:
    whole, images = Subnet.of(LARGEST), part(SCORED_IMAGES)
    weights = alive()
    could = sum(len(own) - 1 for own in whole.units[1:])
    for share in (0, 0.25, 0.99):
        subnet = pruned(whole, weights, images, share)
        gone = sum(map(len, whole.units)) - sum(map(len, subnet.units))
        assert gone == int(share * could)
        assert all(subnet.units)
        assert set(supernet.positions(subnet)) <= set(supernet.positions(whole))
        assert (subnet.macs < whole.macs) == (gone > 0)


def test_pruning_takes_units_that_do_nothing_first() -> None:
    whole, images = Subnet.of(LARGEST), part(SCORED_IMAGES)
    weights = alive()
    for one in supernet.held(whole):
        if one.name.startswith("block5_in_norm."):
            weights[one.positions[2 * UNIT : 3 * UNIT]] = 0
    subnet = pruned(whole, weights, images, 1.5 / 10)
    assert subnet.units[5] == (0, 1, 3)
    assert sum(map(len, subnet.units)) == sum(map(len, whole.units)) - 1


def test_score_is_the_first_order_change_of_the_loss() -> None:
    whole, images = Subnet.of(LARGEST), part(SCORED_IMAGES)
    weights = alive()
    network = supernet.module(whole, weights).double().train()
    loss = torch.nn.functional.cross_entropy(network(images.images.double()), images.labels)
    loss.backward()
    scores = _scores(network, BLOCKS[2])
    norm, step = network.get_submodule("block3_in_norm"), 1e-5
    for unit, score in enumerate(scores):
        with torch.no_grad():
            for values in norm.parameters():
                values[UNIT * unit : UNIT * (unit + 1)] *= 1 - step
            after = torch.nn.functional.cross_entropy(
                network(images.images.double()), images.labels
            )
            for values in norm.parameters():
                values[UNIT * unit : UNIT * (unit + 1)] /= 1 - step
        assert abs(float(after - loss.detach())) / step == pytest.approx(score, rel=1e-2)
