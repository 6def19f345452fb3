"""`kenyon zoo`."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.mars import network_file
from model.mars.network import Conv, Dense
from model.mars.zoo import ZOO


def test_list(kenyon) -> None:
    result = kenyon("zoo", "--json")
    assert result.exit_code == 0
    (networks,) = json.loads(result.stdout).values()
    assert [one["name"] for one in networks] == list(ZOO)
    assert networks[0]["size"] == {"layers": 14, "weights": 14_715_584, "macs": 313_201_664}
    table = kenyon("zoo").stdout
    for text in ("mobilenetv1-025", "224x224x3", "0.208", "1,814.1"):
        assert text in table


def test_writes_a_network(kenyon) -> None:
    options = ("--weight-bits", "8", "--act-bits", "3", "--seed", "5", "--sparsity", "0.5")
    result = kenyon("zoo", "lenet5", "-o", "net.npz", *options, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["file"] == "net.npz"
    written, made = network_file.load(Path("net.npz")), ZOO["lenet5"].make(0.5, 8, 3, 5)
    assert written.input_type == made.input_type
    for one, same in zip(written.layers, made.layers, strict=True):
        assert type(one) is type(same)
        if isinstance(one, Conv | Dense) and isinstance(same, Conv | Dense):
            np.testing.assert_array_equal(one.weight, same.weight)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("alexnet", "-o", "net.npz"), f"NAME must be one of {', '.join(ZOO)}, not alexnet"),
        (("sww",), "--output must be given: the file to which the network is written"),
        (("-o", "net.npz"), "NAME must be given with --output"),
        (("sww", "-o", "net.img"), "net.img: quantised network must end in .npz"),
    ],
)
def test_wrong_options(kenyon, options: tuple[str, ...], error: str) -> None:
    result = kenyon("zoo", *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"
