"""Bit layouts of the chip's memories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.npu import layout
from model.npu.config import CONFIGS
from model.npu.network import NEURON_LIMITS, Neurons
from model.npu.random_network import random_network

FIELDS = {name: field for fields in layout.WORD_FIELDS for name, field in fields.items()}


def neurons_of(**values: int) -> Neurons:
    """One neuron."""
    return Neurons(**{name: np.array([values.get(name, 0)]) for name in NEURON_LIMITS})


@pytest.mark.parametrize("fields", layout.WORD_FIELDS)
def test_fields_do_not_overlap(fields: dict[str, tuple[int, int]]) -> None:
    bits = [bit for low, width in fields.values() for bit in range(low, low + width)]
    assert len(bits) == len(set(bits))
    assert max(bits) < 32


@pytest.mark.parametrize("fields", layout.WORD_FIELDS)
@given(data=st.data())
def test_unpack_undoes_pack(fields: dict[str, tuple[int, int]], data: st.DataObject) -> None:
    values = {
        name: np.array(
            data.draw(st.lists(st.integers(0, (1 << width) - 1), min_size=3, max_size=3))
        )
        for name, (_, width) in fields.items()
    }
    unpacked = layout.unpack(fields, layout.pack(fields, values))
    assert {k: v.tolist() for k, v in unpacked.items()} == {
        k: v.tolist() for k, v in values.items()
    }


@pytest.mark.parametrize(("name", "field"), FIELDS.items())
def test_one_field_at_a_time(name: str, field: tuple[int, int]) -> None:
    """All ones in one field, zeros in the others: the bits are where the documentation says."""
    fields = next(fields for fields in layout.WORD_FIELDS if name in fields)
    low, width = field
    values = {other: np.array([0]) for other in fields}
    values[name] = np.array([(1 << width) - 1])
    assert layout.pack(fields, values).tolist() == [((1 << width) - 1) << low]


def test_words_of_a_neuron() -> None:
    """The four words of the register map's description, by hand."""
    words = layout.neuron_words(
        neurons_of(rest=1, threshold=2, reset=3, a=1, b=3, noise=0x55, tau=9), 1
    )
    # v_branch = (1 * 1 + 3 * 2) // 4 = 1; floor(log2 9) = 3; v begins at rest
    assert words.tolist() == [0x01_03_02_01, 0x0055_0331, 0, 0x0000_0001]


@pytest.mark.parametrize(
    ("tau", "no_decay", "tau_log2"),
    [(0, 1, 0), (1, 0, 0), (2, 0, 1), (3, 0, 1), (4, 0, 2), (32767, 0, 14), (32768, 0, 15)],
)
def test_tau(tau: int, no_decay: int, tau_log2: int) -> None:
    words = layout.neuron_words(neurons_of(a=1, tau=tau), 1)
    fields = layout.unpack(layout.SLOPES_FIELDS, words[layout.SLOPES_WORD :][:1])
    assert (fields["no_decay"][0], fields["tau_log2"][0]) == (no_decay, tau_log2)
    back = layout.read_neurons(words).tau[0]
    assert back == (0 if no_decay else 1 << tau_log2)


def test_neurons_come_back() -> None:
    rng = np.random.default_rng(1)
    values = {name: rng.integers(0, high + 1, 300) for name, high in NEURON_LIMITS.items()}
    values["tau"] = 1 << rng.integers(0, 16, 300)
    neurons = Neurons(**values)
    back = layout.read_neurons(layout.neuron_words(neurons, 304))
    for name in NEURON_LIMITS:
        assert getattr(back, name).tolist() == [*values[name].tolist(), *[int(name == "tau")] * 4]


@pytest.mark.parametrize(
    ("value", "width", "expected"),
    [(0, 8, 0), (127, 8, 127), (128, 8, -128), (255, 8, -1), (0x800, 12, -2048), (0x7FF, 12, 2047)],
)
def test_to_signed(value: int, width: int, expected: int) -> None:
    assert layout.to_signed(np.array([value]), width).tolist() == [expected]


@pytest.mark.parametrize(("bias", "word"), [(0, 0), (2047, 0x7FF), (-1, 0xFFF), (-2048, 0x800)])
def test_bias_word(bias: int, word: int) -> None:
    assert layout.bias_word(bias) == word
    assert layout.to_signed(np.array([word]), 12).tolist() == [bias]


def test_place_of_a_weight(build) -> None:
    """Byte ((j // n_lanes) * n_rows + r) * n_lanes + j % n_lanes, as the register map says."""
    config = CONFIGS["tiny"]
    network = build(
        [{}] * 14,
        populations=(6, 8),
        axons=(1, 3),
        recurrent=[(1, 5, 11), (2, 6, 22), (13, 13, -33)],
        external=[(3, 12, 44)],
    )
    n_rows, n_groups = 16 + 16 + 8, 2
    expected = np.zeros(n_groups * n_rows * 4, np.int8)
    for row, neuron, weight in ((7, 7, -33), (16 + 2, 0, 22), (32 + 2, 6, 44)):
        expected[((neuron // 4) * n_rows + row) * 4 + neuron % 4] = weight
    words = layout.weight_words(network, config, 1, n_groups)
    assert words.astype("<u4").reshape(-1).view(np.int8).tolist() == expected.tolist()
    assert layout.read_weights(words, config, 1)[7, 7] == -33


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_come_back(name: str) -> None:
    config = CONFIGS[name]
    network = random_network(np.random.default_rng(4), config)
    for p, n in enumerate(network.populations):
        n_groups = -(-n // config.n_lanes)
        words = layout.weight_words(network, config, p, n_groups)
        matrix = layout.read_weights(words, config, p)
        assert matrix.shape == (config.n_rows(p), n_groups * config.n_lanes)
        into = network.population_of(network.recurrent.post) == p
        total = network.recurrent.weight[into].sum()
        into = network.population_of(network.external.post) == p
        assert matrix.sum(dtype=np.int64) == total + network.external.weight[into].sum()
