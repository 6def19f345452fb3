"""Quantised transformers: the twin's integers are the accelerator's; what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_tools.mars.pass_difference import Compared, compare_model
from firmware_tools.quantize import (
    QUANTIZERS,
    UnsupportedError,
    calibrate,
    differences,
    export,
    quantize,
)
from firmware_tools.quantize.quantizers import Quantizer
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, Softmax, Tokens

WIDTH, HEADS, N_PATCHES = 12, 3, 9


class Hand(nn.Module):
    """A block by hand: `nn.MultiheadAttention`, a tuple's first, ReLU instead of GELU."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.before, self.behind = nn.LayerNorm(WIDTH, bias=bias), nn.LayerNorm(WIDTH, eps=1e-2)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 20), nn.ReLU(), nn.Linear(20, WIDTH))

    def forward(self, x):
        normed = self.before(x)
        x = self.attention(normed, normed, normed, need_weights=False)[0] + x
        return x + self.mlp(self.behind(x))


class ViT(nn.Module):
    """Constant tokens before and behind the positions; the head reads one token, or the mean."""

    def __init__(self, encoder: nn.Module, *, n_prompts: int = 2, mean: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, WIDTH, 3, stride=3)
        self.class_token = nn.Parameter(0.5 * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(0.5 * torch.randn(1, 1 + N_PATCHES, WIDTH))
        self.prompts = nn.Parameter(0.5 * torch.randn(n_prompts, WIDTH))
        has_norm = isinstance(encoder, nn.TransformerEncoder)
        self.encoder, self.norm = encoder, nn.Identity() if has_norm else nn.LayerNorm(WIDTH)
        self.head, self.mean, self.place = nn.Linear(WIDTH, 5), mean, n_prompts

    def forward(self, images):
        x = torch.flatten(self.patches(images), 2).permute(0, 2, 1)
        x = torch.cat((self.class_token.expand(images.size(0), -1, -1), x), dim=1)
        prompts = self.prompts[None].expand(images.shape[0], -1, -1)
        x = torch.cat([prompts, self.positions + x], 1)
        x = self.norm(self.encoder(x))
        return self.head(x.mean(dim=1) if self.mean else x[:, self.place])


def layer(**options):
    usual = {"dropout": 0.1, "activation": "gelu", "batch_first": True, "norm_first": True}
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 20, **usual | options)


def encoder(**options):
    return nn.TransformerEncoder(layer(**options), 2, nn.LayerNorm(WIDTH), False)


def by_hand():
    return nn.Sequential(Hand(bias=True), Hand(bias=False))


def stacked():
    return nn.Sequential(layer(), layer(activation=nn.GELU("tanh"), bias=False))


def made(make, seed=0, **options):
    """A network whose normalisations are not as they begin."""
    torch.manual_seed(seed)
    model = ViT(make(), **options)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, 1, 0.6)  # some are negative
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def images(n=4, seed=1):
    return torch.rand(n, 2, 9, 9, generator=torch.Generator().manual_seed(seed))


def calibrated(model, *bits, **options):
    twin = quantize(model, *bits, **options)
    calibrate(twin, images())
    return twin.eval()


def assert_exact(twin, x):
    """Every output of every layer, evaluated and in training, is the exported network's."""
    network = export(twin)
    wanted = reference.run(network, twin.image_ints(x))
    found = twin.integers(x)
    twin.train()
    trained = twin.features(x)
    twin.eval()
    for name in found.keys() - {"input"}:
        assert np.array_equal(found[name], wanted[name]), name
        assert np.array_equal(trained[name].ints.detach().numpy(), wanted[name]), name
    own = {name for name in wanted if name.endswith((".pixel", ".last", ".constant"))}
    assert wanted.keys() - found.keys() == own
    return network


@pytest.mark.parametrize(
    ("make", "bits", "mean", "quantizer"),
    [
        (by_hand, (8, 8), True, "lg-lsq"),
        (stacked, (3, 3), True, "lg-lsq"),
        *((stacked, (4, 8), False, quantizer) for quantizer in QUANTIZERS),
    ],
)
def test_integers_before_and_behind_training(make, bits, mean, quantizer):
    twin = calibrated(made(make, mean=mean), *bits, quantizer=quantizer)
    assert_exact(twin, images(seed=2))
    # Not all scales are learned; a key's bias changes no probability.
    keys = [f"layers.{k}.bias" for k, one in enumerate(twin.steps()) if one.name.endswith("key")]
    before = {
        name: one.detach().clone()
        for name, one in twin.named_parameters()
        if not name.endswith("alpha") and name not in keys
    }
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-2)
    twin.train()
    for seed in range(3):
        optimizer.zero_grad()
        twin(images(seed=seed)).square().mean().backward()
        optimizer.step()
    for name, one in before.items():
        assert not torch.equal(one, twin.get_parameter(name)), name
    assert_exact(twin.eval(), images(seed=2))


def test_many_tokens_of_large_values_on_the_file_and_the_golden_machine(tmp_path):
    twin = calibrated(made(encoder, n_prompts=5), 8, 8)
    network = assert_exact(twin, images(seed=2))
    network_file.dump(network, tmp_path / "vit.npz")
    network = network_file.load(tmp_path / "vit.npz")
    image = compile_network(network, CONFIGS["mars"])
    assert compare_model(network, image, twin.image_ints(images(1))[0], Compared()) is None


class Deep(nn.Module):
    """Prompts of each block are left out behind it."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, WIDTH, 3, stride=3)
        self.first, self.second = layer(), layer()
        self.one = nn.Parameter(0.5 * torch.randn(1, 3, WIDTH))
        self.other = nn.Parameter(0.5 * torch.randn(1, 2, WIDTH))
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.first(torch.cat([self.one.expand(images.shape[0], -1, -1), x], 1))
        x = self.second(torch.cat([self.other.expand(images.shape[0], -1, -1), x[:, 3:]], 1))
        return self.head(x[:, 2])


@pytest.mark.parametrize("bits", [(8, 8), (3, 4)])
def test_tokens_are_left_out_behind_a_block(bits):
    torch.manual_seed(0)
    model = Deep().eval()
    twin = calibrated(model, *bits)
    network = assert_exact(twin, images(seed=2))
    found = [one for one in network.layers if isinstance(one, Tokens)]
    assert [(one.first, one.values.shape[1]) for one in found] == [(0, 3), (3, 2)]
    assert [network.types[one.name].shape[1] for one in found] == [12, 11]
    image = compile_network(network, CONFIGS["mars"])
    assert compare_model(network, image, twin.image_ints(images(1))[0], Compared()) is None
    twin.smooth()
    torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_layers_are_those_of_the_module():
    network = export(calibrated(made(encoder), 4, 8))
    names = [one.name for one in network.layers]
    assert "encoder.layers.1.self_attn.attended" in names
    query = network.layer("encoder.layers.0.self_attn.query")
    assert isinstance(query, Conv)
    assert (query.weight.shape, query.weight_bits) == ((WIDTH, WIDTH, 1, 1), 4)
    softmax = network.layer("encoder.layers.0.self_attn.softmax")
    assert isinstance(softmax, Softmax)
    assert (softmax.heads, softmax.out_bits) == (HEADS, 8)
    assert network.scales[softmax.name] == 2.0**-8
    prompts = network.layer("cat_1")
    assert isinstance(prompts, Tokens)
    assert prompts.values.shape == (WIDTH, 2)
    head = network.layer("head")
    assert isinstance(head, Dense)
    by_token = head.weight.reshape(5, WIDTH, -1)
    assert by_token[:, :, 2].any()
    assert not np.delete(by_token, 2, axis=2).any()


def test_the_twin_is_near_the_float_network():
    model = made(encoder)
    twin = calibrated(model, 8, 8)
    rows = differences(model, twin, export(twin), images())
    assert [row.name for row in rows] == [one.name for one in twin.steps()]
    assert not sum(row.unequal for row in rows)
    assert min(row.cosine for row in rows) > 0.99
    assert rows[-1].largest < 0.1


def test_smooth_twins_compute_what_the_float_network_does():
    for make, mean in ((by_hand, True), (encoder, False)):
        model = made(make, mean=mean)
        twin = calibrated(model, 8, 8)
        twin.smooth()
        torch.testing.assert_close(twin(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_scales_that_are_calibrated_again_leave_probabilities_alone():
    twin = calibrated(made(stacked), 8, 8)
    calibrate(twin, images(), again=True)
    steps = {one.name: one.activation for one in twin.steps()}
    softmax = steps["encoder.0.self_attn.softmax"]
    assert isinstance(softmax, Quantizer)
    assert float(softmax.step) == 2.0**-8
    assert_exact(twin.eval(), images(seed=2))


def test_one_layer_alone_is_a_network():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.layer = nn.Conv2d(2, WIDTH, 3, stride=3), layer()

        def forward(self, images):
            return self.layer(self.patches(images).flatten(2).transpose(1, 2))

    torch.manual_seed(0)
    assert_exact(calibrated(Block().eval(), 8, 8), images())


class Changed(ViT):
    """The network with another forward."""

    def __init__(self, forward) -> None:
        super().__init__(layer())
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.changed = forward

    def forward(self, images):
        return self.changed(self, self.patches(images).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ViT(encoder(norm_first=False)), "encoder.layers.0: norm_first=False is not"),
        (lambda: ViT(layer(batch_first=False)), "encoder.self_attn: batch_first=False is not"),
        (
            lambda: Changed(lambda own, x: own.attention(own.norm(x), x, x)[0]),
            "attention: cross attention is not supported",
        ),
        (
            lambda: Changed(lambda own, x: own.attention(x, x, x, attn_mask=own.positions)[0]),
            "attention: a mask is not supported",
        ),
        (
            lambda: Changed(lambda own, x: own.encoder(x, src_mask=own.positions)),
            "encoder: a mask is not supported",
        ),
        (
            lambda: Changed(lambda own, x: own.head(x) + own.norm(x)),
            "norm: LayerNorm, read by head, is not supported; the accelerator takes Linear",
        ),
        (lambda: Changed(lambda own, x: own.norm(x)), "norm: LayerNorm, read by nothing, is not"),
        (
            lambda: Changed(lambda own, x: own.norm(x).mean(1)),
            "norm: LayerNorm, read by nothing, is not",
        ),
        (lambda: Changed(lambda own, x: own.head(x[:, 1:])), r"\[.*\] is not supported; .* one"),
        (
            lambda: Changed(lambda own, x: own.head(torch.cat([own.class_token, x[:, -2:]], 1))),
            r"\[.*\] is not supported; .* from one on, \[:, k:\], behind constant",
        ),
        (
            lambda: Changed(lambda own, x: own.head(torch.cat([own.class_token, x[:, :2]], 1))),
            r"\[.*\] is not supported; .* from one on",
        ),
        (
            lambda: Changed(lambda own, x: own.head(torch.cat([own.class_token, x[1:]], 1))),
            r"\[.*\] is not supported; .* from one on",
        ),
        (
            lambda: Changed(
                lambda own, x: own.head(torch.cat([own.class_token, x[:, 1:][:, 1:]], 1))
            ),
            r"\[.*\] is not supported; .* from one on",
        ),
        (lambda: Changed(lambda own, x: own.head(x.mean(2))), "a mean along 2 is not supported"),
        (
            lambda: Changed(lambda own, x: own.head(torch.cat([x, own.class_token], 1))),
            "cat along 1 is not supported; the accelerator takes constant tokens before",
        ),
        (
            lambda: Changed(lambda own, x: own.head(own.patches(x))),
            "patches: a convolution after Flatten is not supported",
        ),
        (
            lambda: Changed(lambda own, x: own.head(x.transpose(1, 2))),
            "transpose_1: transpose of .* is not supported",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm(4)),
            "1: layernorm of what is no token is not supported",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(2, 4, 4, stride=2)),
            r"0: a kernel of \(4, 4\) is not supported; .* patches side by side",
        ),
    ],
)
def test_what_is_refused(make, text):
    with pytest.raises(UnsupportedError, match=text):
        quantize(make(), 8, 8)
