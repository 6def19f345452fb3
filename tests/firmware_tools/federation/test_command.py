"""`kenyon search architecture` on a few images."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools.federation import partition, search, training
from firmware_tools.federation.rounds import Federation
from firmware_tools.federation.search import Search
from firmware_tools.quantize import digits
from model.mars import network_file

WORDS = (
    *("search", "architecture", "digits", "--clients", "2", "--alpha", "5", "--rounds", "2"),
    *("--samples", "2", "--epochs", "1", "-c", "mars-tiny", "-o", "net.npz", "-j", "1", "--json"),
)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = {held_out: digits.load(held_out=held_out) for held_out in (False, True)}
    small = {
        held_out: digits.Data(
            *(digits.Part(p.images[:48], p.labels[:48]) for p in (d.training, d.test))
        )
        for held_out, d in real.items()
    }
    monkeypatch.setattr(digits, "load", lambda *, held_out=False: small[held_out])
    monkeypatch.setattr(training, "EPOCHS", 2)
    monkeypatch.setattr(search, "GENERATIONS", 1)
    monkeypatch.setattr(search, "N_FIRST", 2)
    monkeypatch.setattr(search, "OFFSPRING", 2)
    for cached in (partition.load, partition.client_images):
        cached.cache_clear()
    yield
    for cached in (partition.load, partition.client_images):
        cached.cache_clear()


def test_search_writes_a_network_and_goes_on_after_an_interrupt(
    kenyon, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = kenyon(*WORDS, "--report", "page.html")
    assert straight.exit_code == 0, straight.stderr
    values = json.loads(straight.stdout)
    network = network_file.load("net.npz")
    assert values["equal"]
    assert values["n_test"] == 48
    assert [one["distance"] for one in values["rounds"]]
    assert sum(one["macs"] for one in values["rounds"]) == values["macs"]
    assert values["winner"] in values["front"]
    assert values["winner"]["clocks"] >= values["clocks"]
    assert "Hamming distance" in Path("page.html").read_text()
    words = ("--input", "net-images.npy", "--images", "1", "-c", "mars-tiny")
    compared = kenyon("compare", "net.npz", *words)
    assert compared.exit_code == 0, compared.output  # every value, word and clock of the RTL

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    run = Federation.run
    monkeypatch.setattr(
        Federation, "run", lambda self: (k for k in [next(run(self))] if interrupted(k))
    )
    stopped = kenyon(*WORDS)
    assert stopped.exit_code == 130
    assert "interrupted after round 1 of 2; the same command goes on from there" in stopped.stderr
    monkeypatch.setattr(Federation, "run", run)

    look = Search._look  # noqa: SLF001
    monkeypatch.setattr(
        Search,
        "_look",
        lambda self, genome: look(self, genome) if len(self.candidates) < 2 else interrupted(self),
    )
    stopped = kenyon(*WORDS)
    assert stopped.exit_code == 130
    assert "going on after round 1 of 2" in stopped.stderr
    assert "this is the front so far" in stopped.stderr
    monkeypatch.setattr(Search, "_look", look)

    again = kenyon(*WORDS)
    assert "going on after round 2 of 2" in again.stderr
    assert json.loads(again.stdout) == values
    other = network_file.load("net.npz")
    for a, b in zip(network.layers, other.layers, strict=True):
        assert getattr(a, "weight", None) is None or (a.weight == b.weight).all()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--alpha", "0"), "alpha must be above 0, not 0"),
        (("--clients", "1297"), "clients must be 1..48, as there are images, not 1297"),
        (("--clients", "40", "--alpha", "0.01"), "has no image at alpha 0.01"),
        (("--samples", "17"), "samples must be at most 16, a client each, not 17"),
        (("--samples", "5000000", "--sampler", "full"), "as there are networks, not 5000000"),
        (("--sampler", "hadamard", "--samples", "0"), "samples"),
        (("--prune", "1"), "prune must be 0..1, below 1, not 1"),
        (("-o", "net.json"), "net.json: network file must end in .npz"),
        (("-c", "large"), "configuration must be one of"),
        (("--on", "tcp://127.0.0.1:1", "-j", "2"), "-j must be left out"),
    ],
)
def test_bad_input(kenyon, words: tuple[str, ...], text: str) -> None:
    result = kenyon("search", "architecture", "digits", *words)
    assert result.exit_code == 2
    assert text in result.stderr.replace("\n", " ")
