"""What is refused, naming the node, and files that are no NIR graphs."""

import random
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from firmware_tools.nir_import import Choices, NirError, load

CHOICES = Choices(time_steps=4, dt=0.5)


def refused(path: Path, choices: Choices = CHOICES) -> str:
    with pytest.raises(NirError) as error:
        load(path, choices)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def affine(n_out: int = 2, n_in: int = 3) -> nir.Affine:
    return nir.Affine(np.ones((n_out, n_in)), np.zeros(n_out))


def fires(n: int = 2, **fields: float) -> nir.IF:
    return nir.IF(*(np.full(n, fields.get(key, 1.0)) for key in ("r", "v_threshold")))


def leaks(n: int = 2, **fields: float) -> nir.LIF:
    values = {"tau": 1.0, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, **fields}
    return nir.LIF(**{key: np.full(n, value) for key, value in values.items()})


def conv(n_out: int = 2, n_in: int = 3, **fields: object) -> nir.Conv2d:
    values = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **fields}
    return nir.Conv2d((4, 4), np.ones((n_out, n_in, 2, 2)), bias=np.zeros(n_out), **values)


def pool(kind: type = nir.SumPool2d, kernel: int = 2, padding: int = 0) -> nir.NIRNode:
    return kind(np.array([kernel] * 2), np.array([kernel] * 2), np.array([padding] * 2))


FLAT = nir.Flatten(np.array([3]), 0)
LARGE = nir.Conv2d((40, 40), np.ones((1, 1, 20, 20)), 1, 0, 1, 1, np.zeros(1))
VARIED = fires()
VARIED.v_threshold = np.array([1.0, np.nan])
CHAINS = {
    "cuba": (
        ((3,), affine(), nir.CubaLIF(*(np.ones(2) for _ in range(5)))),
        "node 'CubaLIF_1' (CubaLIF) is not supported: its synaptic current is a second state",
    ),
    "delay": (
        ((3,), affine(), nir.Delay(np.ones(2)), fires()),
        "node 'Delay_1' (Delay) is not supported: spikes arrive in the step in which they are",
    ),
    "integrator": (
        ((3,), affine(), nir.LI(*(np.ones(2) for _ in range(3)))),
        "node 'LI_1' (LI) is not supported: a membrane that never fires",
    ),
    "not finite": (
        ((3,), affine(), VARIED),
        "node 'IF_1' (IF): v_threshold must be finite, not nan",
    ),
    "two products": (
        ((3, 4, 4), conv(), conv(2, 2), fires()),
        "node 'Conv2d_1' (Conv2d): neurons must stand between node 'Conv2d_0' (Conv2d) and it",
    ),
    "not flat": (
        ((3, 4, 4), affine(2, 48), fires()),
        "node 'Affine_0' (Affine): must read a vector of 48, not (3, 4, 4) (Flatten before)",
    ),
    "other channels": (
        ((3, 4, 4), conv(2, 5), fires()),
        "node 'Conv2d_0' (Conv2d): weight (2, 5, 2, 2) in 1 groups must be for the 3 channels",
    ),
    "stride": (
        ((3, 4, 4), conv(dilation=0), fires()),
        "node 'Conv2d_0' (Conv2d): kernel, stride and dilation must be at least 1",
    ),
    "padded pool": (
        ((3, 4, 4), pool(padding=1), affine(), fires()),
        "node 'SumPool2d_0' (SumPool2d): padding must be 0, not (1, 1)",
    ),
    "pool of counts": (
        ((3, 4, 4), pool(), pool(nir.AvgPool2d)),
        "node 'AvgPool2d_1' (AvgPool2d): must read spikes, not the counts of 'SumPool2d_0'",
    ),
    "pool too large": (
        ((3, 4, 4), pool(kernel=5)),
        "node 'SumPool2d_0' (SumPool2d): kernel and stride must be at least 1 and fit in 4x4",
    ),
    "neurons of a channel": (
        ((2, 3, 1), nir.IF(np.ones((2, 3, 1)), np.arange(6.0).reshape(2, 3, 1))),
        "node 'IF_0' (IF): v_threshold must be the same all over a channel, but in channel 0 it "
        "is 0 to 2",
    ),
    "shape of neurons": (
        ((3,), affine(), fires(7)),
        "node 'IF_1' (IF): v_threshold must have the shape of what it reads, (2,), not (7,)",
    ),
    "leak": (
        ((3,), affine(), leaks(tau=0.8)),
        "node 'LIF_1' (LIF): a step must leave 1/2, 1/4, 1/8 ... of a membrane, not 1 - dt/tau = "
        "0.375 (dt 0.5, tau 0.8); what would fit: dt 0.4 or tau 1 (0.5) or dt 0.6 or tau 0.666667",
    ),
    "tau": (
        ((3,), affine(), leaks(tau=-1)),
        "node 'LIF_1' (LIF): tau must be one positive number, not -1 to -1",
    ),
    "dt": (
        ((3,), affine(), leaks(tau=0.4)),
        "node 'LIF_1' (LIF): dt must be at most tau, 0.4, not 0.5",
    ),
    "no layer": (((3,), FLAT), "the graph must have a layer between Input and"),
    "axes": (
        ((3, 4, 4), nir.Flatten(np.array([3, 4, 4]), 0, 5), affine()),
        "node 'Flatten_0' (Flatten): start_dim and end_dim must be axes of (3, 4, 4) in order",
    ),
    "spikes times a scale": (
        ((3,), affine(), fires(), nir.Scale(np.full(2, 2.0))),
        "node 'output' (Output): must read spikes or products, not spikes times a scale",
    ),
    "map": (((2, 2, 2, 2), affine()), "node 'input' (Input): shape must be (C, H, W), (C, L) or"),
    "large map": (
        ((60_000, 60_000), affine()),
        "node 'input' (Input): a map must have at most 33554432 values, not 3600000000",
    ),
    "large kernel": (
        ((1, 40, 40), LARGE, fires(1)),
        "layer 'Conv2d_0': kernels must be 1x1 to 16x16, not 20x20",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_chain(write, name) -> None:
    (shape, *chain), text = CHAINS[name]
    assert refused(write(shape, *chain)).startswith(text)


def test_soft_reset_to_another_value(write) -> None:
    neurons = nir.IF(np.ones(2), np.ones(2), np.full(2, 0.25))
    text = refused(write((3,), affine(), neurons), Choices(time_steps=4, reset="soft"))
    assert text.startswith("node 'IF_1' (IF): v_reset must be 0 with a soft reset")
    assert text.endswith("not 0.25")


def test_cycle(write) -> None:
    edges = [("input", "a"), ("a", "n"), ("n", "b"), ("b", "n"), ("n", "output")]
    path = write((2,), edges=edges, a=affine(2, 2), b=affine(2, 2), n=fires())
    text = refused(path)
    ways = ("'n' -> 'b' -> 'n'", "'b' -> 'n' -> 'b'")
    assert text.startswith(tuple(f"nodes {way} make a cycle" for way in ways))
    assert "the populations, which have recurrent synapses, have IQIF neurons" in text


def test_sums(write) -> None:
    edges = [("input", "a"), ("input", "b"), ("a", "n"), ("b", "n"), ("n", "output")]
    path = write((2,), edges=edges, a=affine(2, 2), b=affine(2, 2), n=fires())
    assert refused(path) == (
        "node 'n' (IF): must read one node, or, as neurons, one product and the spikes of a "
        "residual, not the sum of 'a', 'b'"
    )


def test_ends(write) -> None:
    edges = [("input", "a"), ("other", "b"), ("a", "output")]
    other = nir.Input({"input": np.array([3])})
    path = write((3,), edges=edges, a=affine(), b=affine(), other=other)
    assert refused(path) == "the graph must have one Input, not 2: 'input', 'other'"
    edges = [("input", "a"), ("a", "nothing")]
    assert refused(write((3,), edges=edges, a=affine())) == (
        "edge 'a' -> 'nothing': there is no node 'nothing'"
    )


def test_choices(write) -> None:
    path = write((3,), affine(), fires())
    assert refused(path, Choices(time_steps=65)) == "time steps must be 1..64, not 65"
    assert refused(path, Choices()).startswith("time steps must be given (--time-steps)")
    assert refused(path, Choices(time_steps=2, dt=-1.0)).startswith("dt must be a positive number")
    events = np.zeros((1, 4, 5), np.int64)
    assert refused(path, Choices(events=events)) == (
        "events: shape must be (N, 4, 3), not (1, 4, 5)"
    )
    assert refused(path, Choices(events=np.zeros((1, 4, 3)))) == (
        "events must be integers, not float64"
    )


def test_metadata(write) -> None:
    for metadata, text in (
        ({"reset": "weak"}, "reset of its metadata must be 'hard' or 'soft', not 'weak'"),
        ({"weight_bits": 9}, "weight_bits of its metadata must be 2..8, not"),
        ({"membrane_bits": 1, "weight_bits": 8}, "membrane_bits of its metadata must be 2..16"),
        ({"scale": -1.0}, "scale of its metadata must be positive"),
        ({"scale": np.ones(5)}, "scale of its metadata must be 2 real numbers, or one"),
    ):
        neurons = fires()
        neurons.metadata = metadata
        assert text in refused(write((3,), affine(), neurons))
    path = write((3,), affine(), fires(), metadata={"time_steps": "many"})
    assert refused(path, Choices()) == "metadata: time_steps must be a number, not 'many'"


# Files


def test_other_files(tmp_path) -> None:
    path = tmp_path / "net.nir"
    for data in (b"", b"PK\3\4 and more", bytes(100)):
        path.write_bytes(data)
        assert refused(path).startswith("must be a NIR file, HDF5, which begins with")
    assert refused(tmp_path) == "must be a file, not a folder"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    assert refused(path) == "must be a NIR file: HDF5 with a group 'node'"
    nir.write(path, affine())
    assert refused(path) == "must hold a graph, not a single Affine"


def test_unknown_node(write) -> None:
    path = write((3,), affine(), fires())
    with h5py.File(path, "r+") as file:
        del file["node/nodes/IF_1/type"]
        file["node/nodes/IF_1/type"] = "Izhikevich"
    assert refused(path).startswith(
        "node 'IF_1' (Izhikevich) is not supported: must be among Input, Output, Affine"
    )


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("Conv2d_0/padding", "reflect", "node 'Conv2d_0' (Conv2d): must be as NIR defines it: pad"),
        ("Conv2d_0/bias", None, "node 'Conv2d_0' (Conv2d): must be as NIR defines it: Conv2d.__"),
        ("IF_1/r", np.ones(3), "node 'IF_1' (IF): must be as NIR defines it: All parameters must"),
        ("input/shape", np.array([3, np.nan, 4]), "node 'input' (Input): shape must be integers"),
        ("input/shape", "3x4x4", "node 'input' (Input): shape must be integers, not ['3x4x4']"),
    ],
)
def test_nodes_that_are_none_of_nir(write, place, value, text) -> None:
    """It is said which, not that the file is damaged."""
    path = write((3, 4, 4), conv(), fires())
    with h5py.File(path, "r+") as file:
        del file["node/nodes"][place]
        if value is not None:
            file["node/nodes"][place] = value
    assert refused(path).startswith(text)


def test_arrays_that_would_take_all_memory(write) -> None:
    path = write((3,), affine(), fires())
    with h5py.File(path, "r+") as file:
        file.create_dataset("node/nodes/more", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10))
    assert refused(path).startswith("arrays must take at most 268,435,456 bytes, not 4,398,046,51")


def test_cut_files(sinabs, tmp_path) -> None:
    data = sinabs.read_bytes()
    path = tmp_path / "cut.nir"
    for n in (8, 100, 1000, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:n])
        assert refused(path).startswith("must be a whole NIR file: cut or damaged? (")


def test_damaged_files_never_surprise(norse, tmp_path) -> None:
    rng = random.Random(1)
    data = norse.read_bytes()
    path = tmp_path / "damaged.nir"
    n_refused = 0
    for _ in range(120):
        bad = bytearray(data[:8] + rng.randbytes(2000) if rng.random() < 0.1 else data)
        for _ in range(rng.choice((1, 4, 20, 200))):
            bad[rng.randrange(8, len(bad))] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            load(path, Choices(time_steps=4, dt=0.00125))
        except NirError as error:
            n_refused += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 1200  # noqa: PT017
    assert 20 < n_refused < 120
