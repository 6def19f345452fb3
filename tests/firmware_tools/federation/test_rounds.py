import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from firmware_tools.errors import UserError
from firmware_tools.federation import supernet
from firmware_tools.federation.aggregation import Update, aggregate
from firmware_tools.federation.client import BYTES, ClientJob, _generator, packed, train_epoch
from firmware_tools.federation.partition import client_images, load
from firmware_tools.federation.rounds import Federation, Settings, Work
from firmware_tools.federation.space import LARGEST, Genome, Subnet
from firmware_tools.jobs.local import Local

VECTORS = Path(__file__).parents[2] / "vectors" / "federation"
LITTLE: tuple[Genome, ...] = (
    (0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 1, 3, 0, 0, 0, 0),
    (1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 2, 1, 1, 0, 0, 0),
)
"""Networks that are trained quickly."""
SMALL = Settings(clients=3, alpha=10.0, rounds=2, samples=2, epochs=1, prune=0.5)


def run(settings: Settings, executor: object = None, checkpoint: Path | None = None) -> Federation:
    federation = Federation(settings, executor or Local(1), checkpoint)
    assert list(federation.run()) == list(range(1, settings.rounds + 1))
    return federation


@pytest.fixture(scope="module", autouse=True)
def _little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "genomes", lambda self, _k: list(LITTLE[: self.samples]))
        yield


@pytest.fixture(scope="module")
def small(_little: None) -> Federation:
    return run(SMALL)


@pytest.mark.parametrize("case", json.loads((VECTORS / "flwr.json").read_text())["cases"])
def test_aggregate_is_flwrs(case: dict[str, list[float]]) -> None:
    weights = np.array(case["weights"], np.float32)
    everything = np.arange(weights.shape[1])
    updates = [Update(everything, w, n) for w, n in zip(weights, case["images"], strict=True)]
    found = aggregate(np.zeros(weights.shape[1], np.float32), updates)
    assert np.array_equal(found, np.array(case["mean"]).astype(np.float32))


def test_aggregate_is_the_mean_over_those_that_held_a_weight() -> None:
    before = np.array([9, 9, 9, 9], np.float32)
    updates = [
        Update(np.array([0, 1]), np.array([1, 2], np.float32), 1),
        Update(np.array([2, 1]), np.array([5, 6], np.float32), 3),
    ]
    assert aggregate(before, updates).tolist() == [1, 5, 5, 9]
    assert before.tolist() == [9, 9, 9, 9]


def test_one_client_sends_what_it_has_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 10_000).astype(np.float32) * np.float32(10.0) ** rng.integers(
        -20, 20, 10_000
    )
    values = values.astype(np.float32)
    found = aggregate(np.ones_like(values), [Update(np.arange(10_000), values, 977)])
    assert np.array_equal(found, values)


def test_one_client_is_plain_gradient_descent() -> None:
    settings = Settings(clients=1, rounds=2, samples=1, epochs=2, prune=0, seed=4)
    found = run(settings)
    subnet, training = Subnet.of(LITTLE[0]), load("digits").training
    own = client_images("digits", 1, settings.alpha, 4)[0]
    assert np.array_equal(own, np.arange(len(training)))
    network = supernet.module(subnet, supernet.initial(4))
    torch.set_num_threads(1)
    for k in range(2):
        for epoch in range(2):
            train_epoch(network, training, settings.rate(k), _generator(4, k, 0, 0, epoch))
    expected = supernet.initial(4)
    expected[supernet.positions(subnet)] = supernet.learned(subnet, network)
    assert np.array_equal(found.weights, expected)


def test_threads_change_nothing(small: Federation) -> None:
    other = run(SMALL, Local(2))
    assert np.array_equal(other.weights, small.weights)
    assert other.history == small.history


def test_full_federation_has_every_client_train_every_network() -> None:
    settings = Settings(
        clients=2, alpha=10.0, rounds=1, samples=2, epochs=1, prune=0, sampler="full"
    )
    found = run(settings)
    networks = [Subnet.of(one) for one in settings.genomes(0)]
    macs = sum(one.macs for one in networks) * len(load("digits").training)
    n_bytes = 2 * 2 * BYTES * sum(len(supernet.positions(one)) for one in networks)
    assert found.work == Work(macs, n_bytes)


def test_work_is_counted() -> None:
    settings = Settings(clients=2, alpha=10.0, rounds=1, samples=1, epochs=3, prune=0)
    [genome] = settings.genomes(0)
    found = run(settings)
    held = len(supernet.positions(Subnet.of(genome)))
    assert found.work.macs == 3 * Subnet.of(genome).macs * len(load("digits").training)
    assert found.work.bytes == 2 * 2 * held * BYTES
    assert found.work.total == found.work.macs + found.work.bytes


def test_pruning_saves_work(small: Federation) -> None:
    whole = run(Settings(**{**SMALL.__dict__, "prune": 0.0}))
    assert small.work.bytes < whole.work.bytes


def test_interrupted_goes_on_with_the_same_weights(small: Federation, tmp_path: Path) -> None:
    path = tmp_path / "net.npz.rounds"
    first = Federation(SMALL, Local(1), path)
    assert next(first.run()) == 1
    second = Federation(SMALL, Local(1), path)
    assert len(second.history) == 1
    assert np.array_equal(second.weights, first.weights)
    assert list(second.run()) == [2]
    assert np.array_equal(second.weights, small.weights)
    assert second.history == small.history
    second.discard_checkpoint()
    assert not path.exists()


def test_checkpoint_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.npz.rounds"
    next(Federation(SMALL, Local(1), path).run())
    with pytest.raises(UserError, match="must be a checkpoint of the same settings"):
        Federation(Settings(**{**SMALL.__dict__, "seed": 1}), Local(1), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="must be the checkpoint of a federation"):
        Federation(SMALL, Local(1), path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rounds": 0}, "rounds must be at least 1, not 0"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"prune": 1.0}, "prune must be 0..1, below 1, not 1"),
        ({"samples": 17}, "samples must be at most 16, a client each, not 17"),
        ({"alpha": 0.0}, "alpha must be above 0, not 0"),
        ({"alpha": 0.01}, "has no image at alpha 0.01"),
    ],
)
def test_settings_are_checked(fields: dict[str, object], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Settings(**fields)


def test_key_is_of_all_that_decides() -> None:
    weights = packed(supernet.initial(0)[:3])
    one = {}
    one.update(
        data="digits",
        n_clients=2,
        alpha=1.0,
        seed=0,
        client=0,
        k=0,
        number=0,
        genome=LARGEST,
        weights=weights,
        epochs=1,
        rate=0.1,
        prune=0.0,
    )
    other = {
        "n_clients": 3,
        "alpha": 2.0,
        "seed": 1,
        "client": 1,
        "k": 1,
        "number": 1,
        "genome": LARGEST[::-1],
        "weights": weights[::-1],
        "epochs": 2,
        "rate": 0.2,
        "prune": 0.5,
    }
    keys = {ClientJob(**one).key, *(ClientJob(**{**one, name: x}).key for name, x in other.items())}
    assert len(keys) == 1 + len(other)
