"""Products of two maps, softmax and normalisation: checks, files, heads, golden machine, clocks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools.mars.pass_difference import Compared, compare_model
from model.mars import network_file, reference
from model.mars.clocks import Work, simulate
from model.mars.config import CONFIGS, MarsConfig
from model.mars.frame import run_frame
from model.mars.heads import by_head
from model.mars.image import read_image, write_image
from model.mars.layout import NORMALISATION, OPERAND, SOFTMAX
from model.mars.mapper import FitError, compile_network, prepared
from model.mars.memory import RecordedLines
from model.mars.network import (
    FeatureType,
    Layer,
    NetworkError,
    QuantizedNetwork,
    Select,
    Tokens,
)
from model.mars.random_attention import random_attention_network
from model.mars.random_network import random_input
from model.mars.rows import NORM_MAX, SOFTMAX_MAX
from tests.model.mars.attention_layers import linear, matmul, norm, softmax

MARS, TINY, WIDE = CONFIGS["mars"], CONFIGS["mars-tiny"], CONFIGS["mars-wide"]


def network(shape: tuple[int, int, int], *layers: Layer, signed: bool = True) -> QuantizedNetwork:
    return QuantizedNetwork(FeatureType(shape, 8, signed), layers)


def attention(shape: tuple[int, int, int], heads: int, d: int) -> QuantizedNetwork:
    """Self-attention with a residual and a normalisation."""
    n = shape[0]
    return network(
        shape,
        norm(n),
        linear("q", "n", heads * d, n, 1),
        linear("k", "n", heads * d, n, 2),
        linear("v", "n", heads * d, n, 3),
        matmul("scores", "q", "k", transposed=True, heads=heads, shift=9),
        softmax("p", "scores", heads=heads),
        matmul("o", "p", "v", heads=heads, shift=8),
        linear("out", "o", n, heads * d, 4, skip="input", skip_mult=1 << 15),
    )


def check(net: QuantizedNetwork, config: MarsConfig, seed: int = 1) -> Compared:
    """Reference = golden machine, from an image that was written and read; and by head."""
    features = random_input(net, seed)[0]
    apart = prepared(net)
    expected, split = reference.run(net, features), reference.run(apart, features)
    for name in expected.keys() & split.keys():
        assert np.array_equal(expected[name], split[name])
    image = read_image(write_image(compile_network(net, config)))
    compared = Compared()
    assert compare_model(net, image, features, compared) is None
    result = run_frame(image, features).result
    assert np.array_equal(result, expected[net.output][0])
    return compared


def test_products_by_hand() -> None:
    source = np.arange(12).reshape(1, 4, 3, 1) - 5
    operand = np.arange(12).reshape(1, 4, 3, 1) % 5 - 2
    scores = reference.multiply(matmul(transposed=True, heads=2), source, operand)
    assert scores.shape == (1, 6, 3, 1)
    # Head 1, token 2 of the operand, token 0 of the input: channels 2 and 3.
    a, b = source[0, 2:, 0, 0], operand[0, 2:, 2, 0]
    assert scores[0, 5, 0, 0] == a[0] * b[0] + a[1] * b[1]
    values = reference.multiply(matmul(heads=2), scores, operand)
    assert values.shape == (1, 4, 3, 1)
    # Head 0, channel 1, token 2 of the input: its probabilities are channels 0 to 2.
    assert values[0, 1, 2, 0] == sum(scores[0, t, 2, 0] * operand[0, 1, t, 0] for t in range(3))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: matmul(heads=0), "layer 'm': heads must be 1..64, not 0"),
        (lambda: matmul(transposed=1), "layer 'm': transposed must be True or False, not 1"),
        (lambda: matmul(out_bits=32), "out_bits must be 1..8, not 32"),
        (lambda: softmax(octaves=0), "layer 's': octaves must be 1..1048575, not 0"),
        (lambda: softmax(out_bits=9), "layer 's': out_bits must be 1..8 or 32, not 9"),
        (lambda: norm(3, epsilon=-1), "layer 'n': epsilon must be 0..4294967295, not -1"),
        (lambda: norm(3, mult=np.full(2, 1)), "layer 'n': mult must have the shape"),
        (lambda: norm(3, shift=np.full(3, 0)), r"layer 'n': shift\[0\] must be 1..40, not 0"),
    ],
)
def test_wrong_parameters(layer: Any, text: str) -> None:
    with pytest.raises(NetworkError, match=text):
        layer()


@pytest.mark.parametrize(
    ("shape", "layers", "text"),
    [
        (
            (10, 4, 1),
            (matmul(transposed=True, heads=3),),
            "layer 'm': heads must divide the 10 channels of input 'input', not be 3",
        ),
        (
            (12, 4, 1),
            (softmax(heads=5),),
            "layer 's': heads must divide the 12 channels of input 'input', not be 5",
        ),
        (
            (4, 5, 1),
            (matmul(),),
            "layer 'm': input must have 5 channels, 5 tokens a head, not 4",
        ),
        (
            (4, 5, 1),
            (linear("q", "input", 8, 4), matmul("m", "q", "input", transposed=True)),
            "layer 'm': input must have 4 channels, those of the operand, not 8",
        ),
        ((SOFTMAX_MAX + 1, 1, 1), (softmax(),), "a head must have at most 512 channels, not 513"),
        ((3, 1, 1), (norm(4),), "layer 'n': bias must be for 3 channels, those of 'input', not 4"),
        (
            (NORM_MAX + 1, 1, 1),
            (norm(NORM_MAX + 1),),
            "layer 'n': input must have at most 1024 channels, not 1025",
        ),
    ],
)
def test_wrong_networks(shape: tuple[int, int, int], layers: tuple[Layer, ...], text: str) -> None:
    with pytest.raises(NetworkError, match=text):
        network(shape, *layers)


def test_an_operand_is_signed_as_weights_are() -> None:
    with pytest.raises(NetworkError, match="operand must be signed, as weights are, which 'input'"):
        network((4, 2, 1), matmul(transposed=True), signed=False)


def test_there_and_back(tmp_path: Path) -> None:
    net = attention((20, 6, 1), heads=2, d=5)
    path = tmp_path / "net.npz"
    network_file.dump(net, path)
    features = random_input(net, 3)
    again = network_file.load(path)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in net.layers]
    expected, found = reference.run(net, features), reference.run(again, features)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_heads_come_one_after_the_other() -> None:
    names = [layer.name for layer in by_head(attention((20, 6, 1), heads=2, d=5)).layers]
    first = [f"{name} (head 1 of 2)" for name in ("q", "k", "v", "scores", "p", "o")]
    second = [name.replace("head 1", "head 2") for name in first]
    assert names == ["n", *first, *second, "o", "out"]
    plain = attention((20, 6, 1), heads=1, d=5)
    assert by_head(plain) is plain


def test_what_others_read_is_selected() -> None:
    """A map that a convolution reads too is not split, and scores that are the output are whole."""
    net = network(
        (12, 3, 2),
        linear("q", "input", 8, 12, 1),
        linear("again", "q", 8, 8, 2),
        matmul("m", "again", "q", transposed=True, heads=2),
    )
    apart = by_head(net)
    selects = [layer.name for layer in apart.layers if isinstance(layer, Select)]
    assert selects == ["q (head 1 of 2)", "q (head 2 of 2)", "m"]
    check(net, MARS)


@pytest.mark.parametrize("config", [MARS, TINY, WIDE], ids=lambda config: config.name)
@pytest.mark.parametrize(
    ("heads", "d", "grid"), [(1, 16, (16, 1)), (3, 7, (3, 6)), (2, 20, (1, 5))]
)
def test_attention_on_the_golden_machine(
    config: MarsConfig, heads: int, d: int, grid: tuple[int, int]
) -> None:
    check(attention((24, *grid), heads, d), config)


@pytest.mark.parametrize("config", [MARS, TINY], ids=lambda config: config.name)
@pytest.mark.parametrize("grid", [(5, 3), (9, 1), (1, 7)])
def test_constant_tokens_come_first(config: MarsConfig, grid: tuple[int, int]) -> None:
    values = np.arange(-30, 30).reshape(20, 3)
    net = network(
        (4, *grid),
        linear("embed", "input", 20, 4),
        Tokens(name="t", input="embed", values=values),
        norm(20, source="t"),
        linear("k", "n", 20, 20),
        matmul("m", "n", "k", transposed=True, shift=8),
        matmul("o", "m", "k", shift=8),
        linear("out", "o", 20, 20, skip="t", skip_mult=1 << 14),
    )
    features = random_input(net, 1)
    tokens = reference.run(net, features)["t"]
    assert tokens.shape == (1, 20, 3 + grid[0] * grid[1], 1)
    assert np.array_equal(tokens[0, :, :3, 0], values)
    check(net, config)


@pytest.mark.parametrize("config", [MARS, TINY], ids=lambda config: config.name)
@pytest.mark.parametrize(("n", "first"), [(3, 2), (2, 3), (2, 2), (0, 1), (0, 14), (1, 14)])
@pytest.mark.parametrize("grid", [(5, 3), (15, 1)])
def test_the_first_pixels_of_a_map_are_left_out(
    config: MarsConfig, grid: tuple[int, int], n: int, first: int
) -> None:
    """As the prompts of a block are behind it, when those of the next one come."""
    values = np.arange(-30, 30)[: 20 * n].reshape(20, n)
    net = network(
        (4, *grid),
        linear("embed", "input", 20, 4),
        Tokens(name="t", input="embed", values=values, first=first),
        linear("k", "t", 20, 20),
        matmul("m", "t", "k", transposed=True, shift=8),
        matmul("o", "m", "k", shift=8),
        linear("out", "o", 20, 20, skip="t", skip_mult=1 << 14),
    )
    result = reference.run(net, random_input(net, 1))
    assert result["t"].shape == (1, 20, n + 15 - first, 1)
    for k in range(n):
        assert np.array_equal(result["t"][0, :, k, 0], values[:, k])
    for k in range(15 - first):
        at = divmod(first + k, grid[1])
        assert np.array_equal(result["t"][0, :, n + k, 0], result["embed"][0, :, *at])
    check(net, config)


@pytest.mark.parametrize("n", [0, 2])
def test_what_is_left_out_is_in_the_file(tmp_path: Path, n: int) -> None:
    values = np.arange(-20, 20)[: 20 * n].reshape(20, n)
    tokens = Tokens(name="t", input="input", values=values, first=3)
    network_file.dump(network((20, 3, 2), tokens, norm(20, source="t")), tmp_path / "net.npz")
    found = network_file.load(tmp_path / "net.npz").layer("t")
    assert isinstance(found, Tokens)
    assert found.first == 3
    assert np.array_equal(found.values, values)


def test_what_is_left_out_is_less_than_all() -> None:
    one = np.zeros((2, 1), np.int64)
    for first in (-1, 4, 1.0, True):
        with pytest.raises(
            NetworkError, match=rf"layer 't': first must be 0\.\.(3|255), not {first}"
        ):
            network((2, 2, 2), Tokens(name="t", input="input", values=one, first=first))
    with pytest.raises(NetworkError, match=r"first must be 0\.\.255, not 256"):
        network((2, 20, 20), Tokens(name="t", input="input", values=one, first=256))
    with pytest.raises(
        NetworkError, match=r"values must have the shape \(C, n\), n at least 1 where no pixel is"
    ):
        network((2, 2, 2), Tokens(name="t", input="input", values=one[:, :0]))


def test_tokens_are_values_of_the_map() -> None:
    with pytest.raises(NetworkError, match=r"layer 't': values\[1, 0\] must be -128..127, not 128"):
        network((2, 1, 1), Tokens(name="t", input="input", values=np.array([[0], [128]])))
    with pytest.raises(
        NetworkError, match="values must be for 2 channels, those of 'input', not 3"
    ):
        network((2, 1, 1), Tokens(name="t", input="input", values=np.zeros((3, 1), np.int64)))
    with pytest.raises(NetworkError, match="layer 't': must be read by another layer: constants"):
        network((2, 1, 1), Tokens(name="t", input="input", values=np.zeros((2, 1), np.int64)))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_operands_of_any_width(bits: int) -> None:
    """Up to 4 bit an operand takes one entry for 16 channels, else two."""
    net = network(
        (20, 5, 4),
        linear("k", "input", 20, 20, out_bits=bits),
        matmul("m", "input", "k", transposed=True),
        matmul("o", "m", "k", out_bits=5),
    )
    check(net, MARS)
    entries = [one.n_sets for one in compile_network(net, MARS).passes if one.descriptor.function]
    assert all(n % (1 + (bits > 4)) == 0 for n in entries)


def test_rows_beside_each_other_and_results_of_few_bits() -> None:
    net = network(
        (33, 7, 3),
        norm(33, "a", out_bits=4),
        softmax("b", "a", out_bits=3, out_signed=True, offset=-4),
        linear("c", "b", 33, 33, skip="a", skip_mult=100),
        softmax("d", "c", octaves=1),
    )
    check(net, MARS)


def test_random_blocks() -> None:
    for seed in range(6):
        check(random_attention_network(seed, max_tokens=40, max_channels=40), MARS, seed)
    for seed in range(6, 10):
        check(random_attention_network(seed, max_tokens=20, max_channels=20), TINY, seed)


@pytest.mark.full
def test_a_hundred_random_blocks() -> None:
    """Up to 256 tokens; a few of those with a long row of tokens do not fit."""
    n_equal = 0
    for seed in range(105):
        config = WIDE if seed % 5 == 4 else MARS
        net = random_attention_network(seed, wide=config.wide_multiplier)
        try:
            check(net, config, seed)
        except FitError:
            continue
        n_equal += 1
    assert n_equal >= 100


def test_clocks_of_products_with_a_map() -> None:
    """16 clocks for each entry, 2 until the first access, 16 more if it is transposed."""
    lines = [1] * 40
    usual = {"n_input_lines": 0, "split": 2, "entries": (4, 4), "n_rounds": 10, "in_planes": 2}
    for transposed in (False, True):
        work = Work(**usual, function=OPERAND, transposed=transposed)
        (one,) = simulate([work], RecordedLines(lines), MARS.ahead)
        filling = 2 * (4 * 16)
        assert one.steps == 2 * 10 * 4 * 2 + filling
        first, second = one.blocks
        assert first.last_step - first.first_step + 1 == 64 + 2 + 16 * transposed + 80
        assert second.first_step == first.last_step + 1
        waits = one.clocks - one.steps - one.drain_stalls - one.layer_stalls
        assert one.weight_stalls == waits


@pytest.mark.parametrize(
    ("function", "n_blocks", "turns", "steps"),
    [
        (SOFTMAX, 13, 1, (20 + 2) * 3 * 13),
        (SOFTMAX, 2, 1, (20 + 3) * 3 * 2),
        (SOFTMAX, 1, 1, (20 + 5) * 3),
        (SOFTMAX, 1, 4, (20 + 2) * 12),
        (NORMALISATION, 12, 1, (20 + 1) * 2 * 12),
        (NORMALISATION, 9, 1, (20 + 2) * 2 * 9),
        (NORMALISATION, 5, 1, (20 + 2) * 2 * 5),
        (NORMALISATION, 3, 1, (20 + 4) * 2 * 3),
        (NORMALISATION, 2, 1, (20 + 4) * 5),
        (NORMALISATION, 2, 4, (20 + 1) * 19),
        (NORMALISATION, 3, 4, (20 + 1) * 2 * 3 * 4),
    ],
)
def test_clocks_of_rows(function: int, n_blocks: int, turns: int, steps: int) -> None:
    """Three or two pixels are in a phase at once, others wait for their divider."""
    for config, n_headers in ((MARS, 13), (TINY, 4)):
        headers = (0,) * n_headers
        work = Work(0, 1, headers, n_rounds=20, function=function, row_blocks=n_blocks)
        work = replace(work, turns=turns)
        (one,) = simulate([work], RecordedLines([1] * 40), config.ahead)
        (first, *_), last = one.blocks, one.blocks[-1].last_step
        assert one.steps == steps == last - first.first_step + 1
        assert one.end == last + 9 + 8
        assert first.first_step > one.blocks[-1].loaded


def test_what_does_not_fit_is_named() -> None:
    text = "layer n must have at most 64 channels to fit mars-tiny, .* not 80"
    with pytest.raises(FitError, match=text):
        compile_network(network((80, 2, 1), norm(80)), TINY)
    long_row = network((16, 1, 255), matmul(transposed=True), matmul("o", "m", "input"))
    with pytest.raises(FitError, match=r"layer .* must have rows that fit"):
        compile_network(long_row, TINY)


@pytest.mark.parametrize("config", [MARS, TINY], ids=lambda config: config.name)
@pytest.mark.parametrize("rows", [(3, 17), (17, 3), (1, 16), (16, 1)])
def test_tokens_that_others_attend_to(config: MarsConfig, rows: tuple[int, int]) -> None:
    """As many rows of queries as there are, of other keys and values."""
    first, second = rows
    net = network(
        (20, 17, 1),
        linear("x", "input", 20, 20),
        *(
            Tokens(name=name, input="x", values=np.zeros((20, 0), np.int64), first=17 - n)
            if n < 17
            else linear(name, "x", 20, 20, 1)
            for name, n in (("q", first), ("k", second))
        ),
        matmul("m", "q", "k", transposed=True, heads=2, shift=9),
        softmax("p", "m", heads=2),
        matmul("o", "p", "k", heads=2, shift=8),
    )
    assert net.types["o"].shape == (20, first, 1)
    check(net, config)


@pytest.mark.parametrize("config", [MARS, TINY], ids=lambda config: config.name)
def test_constants_in_a_map_that_others_share(config: MarsConfig) -> None:
    """Channels of two results that are read together lie in one map."""
    tokens = {"values": np.arange(40).reshape(20, 2)}
    net = network(
        (20, 5, 1),
        Tokens(name="t", input="input", **tokens),
        linear("l", "t", 12, 20),
        Select(name="both", inputs=("l", "t"), channels=tuple(range(5, 30))),
        linear("out", "both", 8, 25),
    )
    check(net, config)
    (constants,) = (one for one in compile_network(net, config).passes if one.words is not None)
    assert len(constants.words) == 2 * 2 * 2


def test_constants_are_written_by_one_pass() -> None:
    """However many: two words a clock, and a line is eight."""

    def clocks(n: int) -> int:
        values = np.zeros((20, n), np.int64)
        net = network(
            (20, 5, 1), Tokens(name="t", input="input", values=values), norm(20, source="t")
        )
        image = compile_network(net, MARS)
        (number,) = (k for k, one in enumerate(image.passes) if one.words is not None)
        return run_frame(image, random_input(net, 1)[0]).passes[number + 1].clocks.clocks

    assert clocks(34) - clocks(18) == 16 * 4 // 2


@pytest.mark.parametrize(
    ("n_macros", "words", "n_passes", "n_segments"), [(1, 2048, 8, 1), (4, 1024, 1, 3)]
)
def test_constants_of_maps_that_do_not_fit(
    n_macros: int, words: int, n_passes: int, n_segments: int
) -> None:
    """In bands each has those of its rows; in memory they are stored with all others."""
    net = network(
        (4, 12, 16),
        linear("embed", "input", 20, 4),
        Tokens(name="t", input="embed", values=np.arange(-400, 400).reshape(20, 40) // 4),
        linear("wide", "t", 64, 20),
        linear("wider", "wide", 80, 64),
        linear("narrow", "wider", 8, 80),
    )
    config = MarsConfig(
        name="small", n_cores=1, macros_per_core=n_macros, feature_words=words, weight_sram=256
    )
    image = compile_network(net, config)
    assert sum(one.words is not None for one in image.passes) == n_passes
    assert len(image.segments) == n_segments
    assert compare_model(net, image, random_input(net, 1)[0], Compared()) is None
