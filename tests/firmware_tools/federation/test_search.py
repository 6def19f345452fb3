from itertools import product

import numpy as np
import pytest
import torch

from firmware_tools.errors import UserError
from firmware_tools.federation import search, supernet, training
from firmware_tools.federation.evaluation import accuracies, clocks, normalised
from firmware_tools.federation.partition import Images, load
from firmware_tools.federation.search import TOLERANCE, Candidate, Search, front, winner
from firmware_tools.federation.space import LARGEST, SMALLEST, Genome, Subnet
from firmware_tools.federation.study import Run, pairs, plan
from firmware_tools.federation.training import SubnetTraining
from firmware_tools.quantize.digits import Part
from firmware_tools.quantize.training import accuracy
from model.mars.config import CONFIGS
from model.mars.frame import run_frame
from model.mars.group_sets import by_tap, kept_sets
from model.mars.mapper import FitError, compile_network

GROUPED: Genome = (1, 1, 0, 0, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
TINY = CONFIGS["mars-tiny"]


def few(n: int) -> Images:
    images = load("digits")
    return Images(
        *(Part(p.images[:n], p.labels[:n]) for p in (images.training, images.held_out, images.test))
    )


def test_front_is_what_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    drawn = [
        Candidate((k,), float(a), int(c))
        for k, (a, c) in enumerate(
            zip(rng.integers(0, 12, 60) / 12, rng.integers(0, 30, 60), strict=True)
        )
    ]
    found = front(drawn)
    beaten = {
        a
        for a, b in product(drawn, drawn)
        if b.accuracy >= a.accuracy
        and b.clocks <= a.clocks
        and (b.accuracy, -b.clocks) != (a.accuracy, -a.clocks)
    }
    points = {(one.accuracy, one.clocks) for one in drawn if one not in beaten}
    assert {(one.accuracy, one.clocks) for one in found} == points
    assert len(found) == len(points)


def test_winner_is_the_fastest_that_is_good_enough() -> None:
    best = Candidate((0,), 0.9, 1000)
    near, far = (
        Candidate((1,), 0.9 - TOLERANCE + 1e-9, 500),
        Candidate((2,), 0.9 - 2 * TOLERANCE, 10),
    )
    assert winner([best, near, far]) == near
    assert winner([best, far]) == best
    with pytest.raises(UserError, match="no network of the search fits"):
        winner([])


def test_normalisation_is_that_of_the_images() -> None:
    images = few(64).training.images
    network = normalised(Subnet.of(LARGEST), supernet.initial(0), images)
    maps = network.get_submodule("stem")(images)
    norm = network.get_submodule("stem_norm")
    assert torch.allclose(norm.running_mean, maps.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, maps.var((0, 2, 3)), atol=1e-5)
    part = few(64).held_out
    assert accuracies([LARGEST], supernet.initial(0), images, part) == [accuracy(network, part)]


def test_clocks_count_groups_and_layers() -> None:
    plain = (*GROUPED[:6], 0, *GROUPED[7:])
    assert (
        clocks(SMALLEST, TINY) < clocks(GROUPED, TINY) < clocks(plain, TINY) < clocks(LARGEST, TINY)
    )


def test_trained_network_is_equal_everywhere_and_as_fast_as_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    images, subnet = few(64), Subnet.of(GROUPED)
    trained = SubnetTraining(subnet, supernet.initial(0), images, 0)
    assert [stage for stage, _ in trained.run()] == ["quantised"]
    result = trained.finish()
    features = result.twin.image_ints(images.test.images[:4]).astype(np.int16)
    expected = result.twin.integers(images.test.images[:4])
    image = compile_network(result.network, TINY)
    for k, one in enumerate(features):
        done = run_frame(image, one)
        assert np.array_equal(done.result.ravel(), expected["dense"][k].ravel())
    assert done.clocks == clocks(GROUPED, TINY)
    by_name = {layer.name: layer for layer in result.network.layers}
    layer = by_name["block2_in"]
    kept = kept_sets(by_tap(layer, result.network.types[layer.input]), 4)
    assert kept.mean() == 0.5


def test_search_is_of_its_seed_and_finds_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "accuracies", lambda genomes, *_: [sum(genomes[0]) / 40])
    monkeypatch.setattr(search, "clocks", lambda genome, _chip: 100 * genome[1] + 10)

    def found(seed: int) -> Search:
        one = Search(supernet.initial(0), few(8), TINY, seed)
        assert list(one.run()) == list(range(1, len(one) + 1))
        return one

    first = found(0)
    assert first.candidates == found(0).candidates != found(1).candidates
    assert len({one.genome for one in first.candidates}) == len(first.candidates)
    drawn = Search(supernet.initial(0), few(8), TINY, 0)
    next(drawn.run())
    assert len(drawn.candidates) < len(first.candidates)
    assert front(first.candidates)[0].accuracy > front(drawn.candidates)[0].accuracy


def test_networks_that_do_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(*_: object) -> int:
        raise FitError("too large")

    monkeypatch.setattr(search, "clocks", stuck)
    one = Search(supernet.initial(0), few(8), TINY, 0)
    assert len(list(one.run())) == len(one)
    assert one.candidates == []


def test_study_compares_halves_with_the_whole_seed_by_seed() -> None:
    kinds = {(one.sampler, one.rounds, one.seed) for one in plan(2, 8)}
    halves = {
        (name, 4, seed) for name in ("uniform", "diverse", "hadamard", "full") for seed in (0, 1)
    }
    assert kinds == halves | {("uniform", 8, 0), ("uniform", 8, 1)}
    runs = [Run("uniform", 8, s, 0.9, 0.9, 990, 10) for s in (0, 1)]
    runs += [Run("diverse", 4, s, 0.9 + 0.01 * s, 0.9, 400 + 90 * s, 10) for s in (1, 0)]
    [_, diverse, _, _] = pairs(runs)
    assert diverse.work == (0.5, 0.41)
    assert diverse.points == pytest.approx((1.0, 0.0))
    assert diverse.confirmed
