from itertools import product

import numpy as np
import pytest

from firmware_tools.costs.constants import constants
from firmware_tools.costs.layers import Layers
from firmware_tools.search import gradient
from firmware_tools.search.errors import SearchError
from firmware_tools.search.front import hypervolume, nondominated
from firmware_tools.search.methods import fill
from firmware_tools.search.results import volume
from firmware_tools.search.space import Archive, Option, Space

OPTIONS = [Option(text) for text in ("sram", "pcm:rows=64,columns=64", "fefet:rows=64,columns=64")]


def space(seed: int, n_layers: int = 8, objective: str = "tops-per-mm2") -> Space:
    """A chain of random layers; noise as of PCM and FeFET, of layers that differ."""
    rng = np.random.default_rng(seed)
    rows, kernels = 9 * 2.0 ** rng.integers(2, 10, n_layers), 2.0 ** rng.integers(4, 10, n_layers)
    pixels = 4.0 ** rng.integers(0, 6, n_layers)
    ones = np.ones(n_layers)
    sets = np.ceil(rows / 16) * np.ceil(kernels / 16)
    links = tuple((k, k + 1, float(kernels[k] * pixels[k]), 0.0) for k in range(n_layers - 1))
    layers = Layers(
        tuple(f"layer{k}" for k in range(n_layers)),
        ones,
        rows,
        kernels,
        pixels,
        4 * ones,
        4 * ones,
        sets,
        ones,
        ones / 4,
        rows * kernels * pixels,
        links,
    )
    noise = np.stack([0 * ones, rng.lognormal(-5, 1, n_layers), rng.lognormal(-4, 1, n_layers)], 1)
    return Space(layers, OPTIONS, noise, objective, constants())


def filled(method: str, one: Space, seed: int = 0) -> Archive:
    archive = Archive(one)
    for _ in fill(archive, method, seed):
        pass
    return archive


@pytest.mark.parametrize("objective", ["tops-per-mm2", "energy", "edp"])
def test_gradient_finds_every_optimum_of_3_to_the_8(objective):
    for seed in range(3):
        one = space(seed, objective=objective)
        truth, found = filled("exhaustive", one), filled("gradient", one, seed)
        assert truth.n_priced == 3**8
        # The whole front: for any noise that may be allowed the optimum is the same.
        assert np.array_equal(found.cost, truth.cost)
        assert np.array_equal(found.noise, truth.noise)
        for limit in truth.noise:
            assert np.array_equal(found.cheapest(limit), truth.cheapest(limit))


def test_exhaustive_is_brute_force():
    one = space(5, n_layers=3)
    archive = filled("exhaustive", one)
    every = np.array(list(product(range(3), repeat=3)))
    cost, noise = one.cost(every), one.noise(every)
    best = {
        (cost[k], noise[k])
        for k in range(27)
        if not any(
            (cost[j] <= cost[k] and noise[j] < noise[k])
            or (cost[j] < cost[k] and noise[j] <= noise[k])
            for j in range(27)
        )
    }
    assert set(zip(archive.cost, archive.noise, strict=True)) == best


def test_gradient_of_the_gates_is_what_one_change_costs():
    one = space(3)
    choices = np.zeros((1, 8), int) + 1
    totals, table = one.totals(choices), one.system.table
    slope = gradient.gradient(one, choices, np.array([1e9]))
    # Of all that does not depend on the others: area and time of a layer.
    own = table.area[4, 1] / totals.area[0] + table.time[4, 1] / totals.time[0]
    assert np.isclose(slope[0, 4, 1], own)
    end = one.system.crossing()[0]
    alone = (table.area[4, 2] + one.system.core_area + end) / totals.area[0]
    bits = sum(4 * size for a, b, size, _ in one.layers.links if 4 in (a, b))
    alone += (table.time[4, 2] + bits * one.system.crossing()[2]) / totals.time[0]
    assert np.isclose(slope[0, 4, 2], alone)
    over = gradient.gradient(one, choices, np.array([1e-12]))
    assert np.allclose(over - slope, gradient.PENALTY / one.noise(choices)[0] * one.noise_table)


def test_logits_alone_go_down():
    for seed in range(3):
        one = space(seed)
        truth = filled("exhaustive", one)
        steps = list(gradient.descend(one, np.random.default_rng(0)))
        shares = []
        for choices in (steps[0], steps[-1]):
            archive = Archive(one)
            archive.add(choices)
            shares.append(volume(one, archive) / volume(one, truth))
        assert shares[0] < 0.85
        assert shares[1] > 0.95


@pytest.mark.parametrize(("method", "least"), [("nsga2", 0.9), ("tpe", 0.5)])
def test_optuna_behind_the_same_interface(method, least, monkeypatch):
    from firmware_tools.search import sampled

    monkeypatch.setattr(sampled, "TRIALS", {"nsga2": 400, "tpe": 110})
    one = space(1, n_layers=4)
    truth, found = filled("exhaustive", one), filled(method, one)
    reference = truth.cost.max() * 1.1, truth.noise.max() * 1.1
    share = found.hypervolume(reference) / truth.hypervolume(reference)
    assert least < share <= 1
    assert np.array_equal(filled(method, one).choices, found.choices)


def test_same_seed_same_front():
    one = space(2, n_layers=14)
    first, second = filled("gradient", one, 7), filled("gradient", one, 7)
    assert first.choices.tobytes() == second.choices.tobytes()
    assert first.n_priced == second.n_priced < one.size / 10


def test_too_many_for_exhaustive():
    with pytest.raises(SearchError, match=r"at most 8,388,608 networks to price, not 3\^20"):
        filled("exhaustive", space(0, n_layers=20))


def test_fronts_by_hand():
    x, y = np.array([1.0, 2, 2, 3, 1]), np.array([5.0, 3, 3, 4, 5])
    assert nondominated(x, y).tolist() == [0, 1]
    assert hypervolume(x, y, (4, 6)) == 1 * 1 + 2 * 3
    assert hypervolume(x, y, (1, 6)) == 0
