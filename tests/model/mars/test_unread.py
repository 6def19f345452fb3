"""Pixels that nobody reads are not computed: what is left, and that results stay as they are."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars import mapper, reference
from model.mars.config import CONFIGS, MarsConfig
from model.mars.frame import run_frame
from model.mars.mapper import compile_network, prepared
from model.mars.network import (
    Dense,
    FeatureType,
    Layer,
    LayerNorm,
    QuantizedNetwork,
    Tokens,
)
from model.mars.random_attention import random_attention_network
from model.mars.random_network import random_input
from model.mars.unread import without_unread
from tests.model.mars.attention_layers import linear, matmul, norm, softmax

MARS, TINY = CONFIGS["mars"], CONFIGS["mars-tiny"]
WIDTH, N_TOKENS = 20, 7


def prompts(name: str, source: str, n: int, first: int = 0) -> Tokens:
    rng = np.random.default_rng(n)
    return Tokens(name=name, input=source, values=rng.integers(-99, 99, (WIDTH, n)), first=first)


def block(name: str, source: str) -> list[Layer]:
    """Attention of two heads behind a normalisation, and the residual."""
    n, q, k, v, s, p, o = (f"{name}.{part}" for part in ("norm", *"qkvspo"))
    return [
        norm(WIDTH, n, source, bias=np.arange(WIDTH) * 100),
        *(linear(part, n, WIDTH, WIDTH, seed) for seed, part in enumerate((q, k, v))),
        matmul(s, q, k, transposed=True, heads=2, shift=8),
        softmax(p, s, heads=2),
        matmul(o, p, v, heads=2, shift=8),
        linear(name, o, WIDTH, WIDTH, skip=source, skip_mult=1 << 14),
    ]


def head(source: str, token: int, n_tokens: int) -> Dense:
    """Reads one token."""
    weight = np.zeros((3, WIDTH, n_tokens), np.int64)
    weight[:, :, token] = np.random.default_rng(1).integers(-8, 8, (3, WIDTH))
    return Dense(
        name="head",
        input=source,
        weight=weight.reshape(3, -1),
        weight_bits=4,
        bias=np.zeros(3, np.int64),
        mult=None,
        shift=None,
        out_bits=32,
        out_signed=True,
    )


def network(*layers: Layer, shape: tuple[int, int, int] = (WIDTH, N_TOKENS, 1)) -> QuantizedNetwork:
    return QuantizedNetwork(FeatureType(shape, 8, signed=True), layers)


def deep(first: int, second: int) -> QuantizedNetwork:
    """Two blocks with prompts of their own; the head reads the first of the other tokens."""
    return network(
        prompts("p1", "input", first),
        *block("b1", "p1"),
        prompts("p2", "b1", second, first),
        *block("b2", "p2"),
        head("b2", second, second + N_TOKENS),
    )


def shapes(net: QuantizedNetwork) -> dict[str, tuple[int, ...]]:
    return {name: kind.shape[1:] for name, kind in net.types.items()}


def assert_equal(net: QuantizedNetwork, cut: QuantizedNetwork) -> None:
    """The same results, layers without their first pixels included."""
    features = random_input(net, 3)
    expected, found = reference.run(net, features), reference.run(cut, features)
    assert np.array_equal(expected[net.output], found[net.output])
    for name, values in found.items():
        whole, _, begin = name.partition(" (from pixel ")
        first = int(begin.removesuffix(")")) if begin else 0
        if name != "input":
            wanted = expected[whole]
            flat = (*wanted.shape[:2], -1)
            assert np.array_equal(wanted.reshape(flat)[..., first:], values.reshape(flat)), name


def check(net: QuantizedNetwork, config: MarsConfig) -> int:
    """Reference = golden machine; returns the clocks."""
    features = random_input(net, 3)[0]
    image = compile_network(net, config)
    assert compare_model(net, image, features, Compared()) is None
    frame = run_frame(image, features)
    assert np.array_equal(frame.result, reference.run(net, features)[net.output][0])
    return frame.clocks


@pytest.mark.parametrize("config", [MARS, TINY], ids=lambda config: config.name)
def test_of_deep_prompts_only_keys_and_values_are_computed(config: MarsConfig) -> None:
    net = deep(5, 11)
    cut = without_unread(net)
    assert_equal(net, cut)
    rows = {name: rows for name, (rows, _) in shapes(cut).items()}
    for name, n in (("b1", 5), ("b2", 11)):
        for part in ("k", "v", "norm"):
            assert rows[f"{name}.{part}"] == n + N_TOKENS
        for part in (".norm", ".q", ".s", ".p", ".o", ""):
            assert rows[f"{name}{part} (from pixel {n})"] == N_TOKENS
    assert "p1" not in rows
    assert "p2" not in rows
    check(net, config)


def test_normalised_prompts_are_constants() -> None:
    net = deep(2, 3)
    cut = without_unread(net)
    layer = cut.layer("b1.norm")
    assert isinstance(layer, Tokens)
    expected = reference.run(net, random_input(net, 3))["b1.norm"][0, :, :2, 0]
    assert np.array_equal(layer.values, expected)
    assert sum(isinstance(one, LayerNorm) for one in cut.layers) == 2
    assert [one.name for one in prepared(net).layers if isinstance(one, Tokens)] == [
        "b1.norm",
        "b2.norm",
    ]


def test_prompts_that_stay_are_computed() -> None:
    """Shallow ones: the last block has them, though the head does not read them."""
    net = network(
        prompts("p1", "input", 4),
        *block("b1", "p1"),
        *block("b2", "b1"),
        head("b2", 4, 4 + N_TOKENS),
    )
    assert without_unread(net) is net
    for plain in (network(*block("b", "input")), network(linear("l", "input", WIDTH, WIDTH))):
        assert without_unread(plain) is plain


def test_a_head_reads_only_what_its_weights_are_for() -> None:
    """The prompts of the last block are not behind it; a head that reads all needs them."""
    own = [prompts("p", "input", 4), *block("b", "p")]
    net = network(*own, head("b", 4, 4 + N_TOKENS))
    cut = without_unread(net)
    assert_equal(net, cut)
    assert shapes(cut)["b (from pixel 4)"] == (N_TOKENS, 1)
    dense = cut.layer("head")
    assert isinstance(dense, Dense)
    assert dense.weight.shape == (3, WIDTH * N_TOKENS)
    first = network(*own, head("b", 0, 4 + N_TOKENS))
    assert without_unread(first) is first


def test_some_prompts_are_left_out_and_others_stay() -> None:
    """Of five prompts three are left out, then other two; so a block's first one begins later."""
    net = network(
        prompts("p1", "input", 5),
        *block("b1", "p1"),
        prompts("p2", "b1", 2, 3),
        linear("last", "p2", WIDTH, WIDTH),
    )
    cut = without_unread(net)
    assert_equal(net, cut)
    assert shapes(cut)["b1"] == (5 + N_TOKENS, 1)  # the normalisation has no pixels to spare
    check(net, MARS)


def test_of_constants_those_that_are_read_are_kept() -> None:
    """One layer reads some of what a normalisation makes of them, another one nothing."""
    nothing = np.zeros((WIDTH, 0), np.int64)
    net = network(
        prompts("p", "input", 5),
        norm(WIDTH, "n", "p"),
        Tokens(name="some", input="n", values=nothing, first=2),
        Tokens(name="none", input="n", values=nothing, first=5),
        matmul("m", "none", "some", transposed=True, shift=8),
    )
    cut = without_unread(net)
    assert_equal(net, cut)
    assert shapes(cut) == {
        "input": (N_TOKENS, 1),
        "n (from pixel 5)": (N_TOKENS, 1),
        "n (from pixel 2)": (3 + N_TOKENS, 1),
        "m": (N_TOKENS, 1),
    }
    check(net, MARS)


def test_a_grid_of_patches_stays_behind_its_class_token() -> None:
    """Without it they would not be one column, as whoever reads them has it."""
    net = network(
        prompts("class", "input", 1),
        *block("b", "class"),
        prompts("rest", "b", 0, 1),
        linear("last", "rest", WIDTH, WIDTH),
        shape=(WIDTH, 3, 4),
    )
    assert without_unread(net) is net
    check(net, MARS)
    column = replace(net, input_type=FeatureType((WIDTH, 12, 1), 8, signed=True))
    assert without_unread(column) is not column


def test_what_is_computed_as_a_whole_is_not_more_than_must_be() -> None:
    """The block behind a class token is, the one with prompts of its own is not."""
    net = network(
        prompts("class", "input", 1),
        *block("b1", "class"),
        prompts("rest", "b1", 0, 1),
        prompts("p2", "rest", 5),
        *block("b2", "p2"),
        head("b2", 5, 5 + 12),
        shape=(WIDTH, 3, 4),
    )
    cut = without_unread(net)
    assert_equal(net, cut)
    assert shapes(cut)["b1"] == (13, 1)
    assert shapes(cut)["b2 (from pixel 5)"] == (12, 1)


def test_scales_go_with_their_maps() -> None:
    net = deep(2, 3)
    net = replace(net, scales={"input": 0.5, "p1": 0.5, "b1.norm": 0.25, "b1": 0.125})
    found = without_unread(net).scales
    assert found == {
        "input": 0.5,
        "b1.norm": 0.25,
        "b1.norm (from pixel 2)": 0.25,
        "b1 (from pixel 2)": 0.125,
    }


def test_random_networks() -> None:
    n_cut = 0
    for seed in range(200):
        net = random_attention_network(seed, max_tokens=20, max_channels=20)
        cut = without_unread(net)
        if cut is not net:
            n_cut += 1
            features = random_input(net, seed)
            expected, found = (reference.run(one, features)[net.output] for one in (net, cut))
            assert np.array_equal(expected, found)
    assert n_cut >= 20


def test_what_is_not_computed_takes_no_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    net = deep(9, 9)
    cut = check(net, MARS)
    monkeypatch.setattr(mapper, "without_unread", lambda network: network)
    assert (cut, check(net, MARS)) == (1608, 1925)
