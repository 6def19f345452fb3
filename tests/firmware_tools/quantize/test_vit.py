"""`kenyon train vit`: on a few images; on all of them, up to the golden machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from firmware_tools.mars.inference import on_model
from firmware_tools.quantize import digits
from firmware_tools.quantize.spiking_training import load_result
from firmware_tools.quantize.training import Training
from firmware_tools.quantize.vit import VisionTransformer
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import Conv, LayerNorm, MatMul, Tokens

SHORT = ("--float-epochs", "1", "--epochs", "1", "-o", "vit.npz", "--json")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> digits.Data:
    whole = digits.load()
    parts = (
        digits.Part(part.images[:n], part.labels[:n])
        for part, n in ((whole.training, 64), (whole.test, 16))
    )
    data = digits.Data(*parts)
    monkeypatch.setattr("firmware_tools.quantize.digits.load", lambda **_: data)
    return data


def test_the_command_is_interrupted_and_goes_on(kenyon, few, monkeypatch) -> None:
    command = ("train", "vit", *SHORT, "--weight-bits", "4")
    whole = kenyon(*command)
    assert whole.exit_code == 0, whole.output
    figures = json.loads(whole.stdout)
    assert (figures["data"], figures["equal"]) == ("vit", True)
    assert (figures["weight_bits"], figures["act_bits"]) == (4, 8)
    network = network_file.load("vit.npz")
    outputs = reference.run(network, network_file.load_input("vit-images.npy", network))
    _, twin = load_result(Path("vit.pt"))
    for name, values in list(twin.integers(few.test.images).items())[1:]:
        assert np.array_equal(values, outputs[name]), name
    result = kenyon("diff", "vit.npz", "--count", "8", "--json")
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(result.stdout)["layers"]}
    assert rows["norm"]["cosine"] > 0.95

    original = Training._epoch  # noqa: SLF001

    def interrupted(self, stage, epoch):
        if stage == "quantised":
            raise KeyboardInterrupt
        original(self, stage, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_epoch", interrupted)
        assert kenyon(*command).exit_code == 130
    resumed = kenyon(*command)
    assert "going on after epoch 1 of 2" in resumed.stderr
    assert resumed.stdout == whole.stdout


def test_prompts_come_before_the_other_tokens() -> None:
    torch.manual_seed(0)
    plain, prompted = VisionTransformer().eval(), VisionTransformer(prompts=(3,)).eval()
    prompted.load_state_dict(plain.state_dict(), strict=False)
    images = digits.load().test.images[:4]
    assert not torch.allclose(plain(images), prompted(images))
    x = torch.cat([prompted.prompts[0].expand(4, -1, -1), plain.embedded(images)], 1)
    for block in plain.blocks:
        x = block(x)
    torch.testing.assert_close(prompted(images), plain.head(plain.norm(x[:, 3])))


@pytest.mark.full
def test_the_whole_training(kenyon) -> None:
    """8 bit: at most a point below float; twin = reference = golden machine."""
    result = kenyon("train", "vit", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["equal"]
    assert figures["float_accuracy"] > 0.95
    assert figures["accuracy"] > figures["float_accuracy"] - 0.01

    network = network_file.load("vit.npz")
    assert sum(isinstance(one, MatMul) for one in network.layers) == 8
    assert sum(isinstance(one, LayerNorm) for one in network.layers) == 9
    assert {one.weight_bits for one in network.layers if isinstance(one, Conv)} == {2, 8}
    assert sum(isinstance(one, Tokens) for one in network.layers) == 2
    inputs = network_file.load_input("vit-images.npy", network)[:50]
    wanted = reference.run(network, inputs)[network.output]
    found = on_model(compile_network(network, CONFIGS["mars"]), inputs)
    for one, logits in zip(found, wanted, strict=True):
        assert np.array_equal(one.output, logits)
