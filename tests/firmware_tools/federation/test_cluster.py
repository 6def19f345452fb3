"""Clients on workers of a cluster, one of which is killed: the same weights, bit by bit."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.federation.rounds import Federation, Settings
from firmware_tools.jobs.cluster import Cluster
from firmware_tools.jobs.local import Local
from tests.firmware_tools.jobs.test_cluster import (
    Node,
    address_of,
    begin,
    end,
    n_registered,
    wait,
    workers_of,
)

SETTINGS = Settings(clients=8, alpha=10.0, rounds=3, samples=4, epochs=1, prune=0.25)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    one = begin(tmp_path / "node", "start", "tcp://127.0.0.1:0", "-j", "1", "--json")
    yield one
    end(one)


@pytest.mark.full
def test_one_worker_two_and_a_killed_one(node: Node, tmp_path: Path) -> None:
    address = address_of(node)
    wait(lambda: n_registered(address) == 1)
    expected = Federation(SETTINGS, Local(1))
    assert list(expected.run()) == [1, 2, 3]
    one = Federation(SETTINGS, Cluster(address))
    assert list(one.run()) == [1, 2, 3]
    assert np.array_equal(one.weights, expected.weights)

    other = begin(tmp_path / "other", "join", address, "-j", "1", "--json")
    try:
        wait(lambda: n_registered(address) == 2)
        two = Federation(SETTINGS, Cluster(address))
        rounds = two.run()
        next(rounds)
        victim = workers_of(other)[0]
        killed = threading.Timer(0.5, lambda: victim.send_signal(signal.SIGKILL))
        killed.start()
        assert list(rounds) == [2, 3]
        killed.join()
    finally:
        end(other)
    assert not victim.is_running()
    assert np.array_equal(two.weights, expected.weights)
    assert two.history == one.history == expected.history
