"""Networks group by group: who is joined to whom, what is refused, and the page that shows it."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.npu.building import (
    Network,
    Neuron,
    all_to_all,
    all_to_others,
    at_random,
    explicit,
    normal,
    one_to_one,
    ring,
    uniform,
)
from model.npu.config import CONFIGS
from model.npu.network import NetworkError, Segment
from model.npu.network_file import load

PAGE = Path(__file__).parents[3] / "docs" / "building.md"


def two_groups(seed: int = 0, size: int = 4):
    net = Network("net", seed=seed)
    first, second = net.population("first"), net.population("second")
    return net, first.neurons("a", size), second.neurons("b", size)


def synapses(net: Network) -> set[tuple[int, int, int]]:
    made = net.build().recurrent
    return set(zip(made.pre.tolist(), made.post.tolist(), made.weight.tolist(), strict=True))


@pytest.mark.parametrize(
    ("rule", "pairs"),
    [
        (one_to_one, {(0, 4), (1, 5), (2, 6), (3, 7)}),
        (all_to_all, {(i, 4 + j) for i in range(4) for j in range(4)}),
        (all_to_others, {(i, 4 + j) for i in range(4) for j in range(4) if i != j}),
        (ring(1), {(i, 4 + (i + d) % 4) for i in range(4) for d in (1, 3)}),
        (ring(2, least=2), {(0, 6), (1, 7), (2, 4), (3, 5)}),
        (explicit([(3, 0), (0, 2)]), {(3, 4), (0, 6)}),
    ],
    ids=["one", "all", "others", "ring", "far ring", "explicit"],
)
def test_rules(rule, pairs) -> None:
    net, a, b = two_groups()
    net.connect(a, b, rule, -7)
    assert synapses(net) == {(*pair, -7) for pair in pairs}


def test_random_follows_the_seed() -> None:
    def made(seed: int) -> set[tuple[int, int, int]]:
        net, a, b = two_groups(seed, 40)
        net.connect(a, b, at_random(0.25), normal(0, 100))
        net.connect(b, b, all_to_all, uniform(-2, 2))
        return synapses(net)

    assert made(1) == made(1) != made(2)
    crossing = [weight for pre, _, weight in made(1) if pre < 40]
    assert 300 < len(crossing) < 500
    assert {min(crossing), max(crossing)} == {-128, 127}
    assert {weight for pre, _, weight in made(1) if pre >= 40} == {-2, -1, 0, 1, 2}


def test_groups_are_numbered_through_the_network() -> None:
    net, a, b = two_groups()
    c = net.populations[0].neurons("c", 3, Neuron(rest=1, noise=9))
    x, y = net.populations[0].axons("x", 2), net.populations[1].axons("y", 5)
    assert [net.numbers(group) for group in (a, c, b)] == [range(4), range(4, 7), range(7, 11)]
    assert [net.numbers(group) for group in (x, y)] == [range(2), range(2, 7)]
    net.connect(y, b, explicit([(4, 3)]), 5)
    made = net.build([Segment(10, {4: 3})], [(3, 6), (2, 0)])
    assert (made.populations, made.axons, made.noise_seeds) == ((7, 4), (2, 5), (0, 1))
    assert made.neurons.rest.tolist() == [60] * 4 + [1] * 3 + [60] * 4
    assert (made.external.pre[0], made.external.post[0]) == (6, 10)
    assert made.events.tolist() == [[2, 0], [3, 6]]
    assert made.session == (Segment(10, {4: 3}),)


def test_what_fits() -> None:
    net, a, b = two_groups(size=17)
    net.connect(b, a, one_to_one, 1)
    assert net.on_chip("tiny").problem.startswith("population 0 has 17 neurons, tiny has room for")
    assert "no link 1 -> 0" in net.on_chip(CONFIGS["poppins"]).problem
    net, a, b = two_groups(size=16)
    net.connect(a, b, one_to_one, 1)
    room = net.on_chip("tiny")
    assert room.fits
    assert str(room) == "tiny: 2 of 2 populations, 16 of 16 neurons, 0 of 8 axons"


def test_mistakes() -> None:
    net, a, b = two_groups()
    c = net.populations[1].neurons("c", 3)
    x = net.populations[0].axons("x", 4)
    for pre, post, rule, weight, text in (
        (a, c, one_to_one, 1, "'a' to 'c': one_to_one must have groups of one size, not 4 and 3"),
        (a, c, ring(1), 1, "'a' to 'c': ring must have groups of one size, not 4 and 3"),
        (a, c, explicit([(0, 3)]), 1, "'a' to 'c': pair must be 0..3, 0..2, not 0, 3"),
        (a, b, all_to_all, 128, "'a' to 'b': weight must be -128..127, not 128"),
        (a, x, all_to_all, 1, "'a' to 'x' must end at neurons, not axons"),
        (x, b, all_to_all, 1, "'x' to 'b' must stay in population 'first'"),
    ):
        with pytest.raises(NetworkError, match=re.escape(text)):
            net.connect(pre, post, rule, weight)
    with pytest.raises(NetworkError, match=r"probability must be 0\.\.1, not 1\.5"):
        at_random(1.5)
    with pytest.raises(NetworkError, match="'second' must have groups of different names"):
        net.populations[1].neurons("b", 2)
    with pytest.raises(NetworkError, match="group 'd' must have at least 1 of axons"):
        net.populations[1].axons("d", 0)
    with pytest.raises(NetworkError, match="populations must have different names"):
        net.population("first")
    net.connect(a, b, one_to_one, 1)
    net.connect(a, b, explicit([(2, 2)]), 3)
    with pytest.raises(NetworkError, match="both join 2 to 6"):
        net.build()
    net, *_ = two_groups()
    net.population("third")
    with pytest.raises(NetworkError, match="population 'third' must have neurons"):
        net.build()


def test_the_page(kenyon, capsys) -> None:
    names: dict[str, object] = {}
    for language, text in re.findall(r"```(\w*)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if language == "python":
            exec(compile(text, PAGE.name, "exec"), names)
            shown = capsys.readouterr().out
        elif text.startswith("kenyon"):
            line = shlex.split(text.splitlines()[0])
            assert kenyon(*line[1:]).exit_code == 0
        else:
            assert shown == text
    network = load(Path("turn.json"))
    assert network.populations == (32, 2)
    spikes = np.load("turn.npz")["spikes"]
    assert spikes[50:150, 33].sum() > 5 * max(spikes[50:150, 32].sum(), 1)
    assert spikes[150:, 32].sum() > 0
