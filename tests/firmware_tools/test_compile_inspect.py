"""`kenyon compile` and `kenyon inspect`."""

import json
from pathlib import Path

from model.npu import network_file
from model.npu.config import CONFIGS
from model.npu.image import compile_image

TINY = CONFIGS["tiny"]


def test_compile(kenyon, pair) -> None:
    result = kenyon("compile", pair, "-o", "pair.img")
    assert result.exit_code == 0
    image = Path("pair.img").read_bytes()
    assert image == compile_image(network_file.load(pair), TINY)
    assert result.stdout == (
        f"wrote pair.img: {len(image):,} bytes for configuration tiny ({TINY.fingerprint:08x})\n"
    )


def test_compile_json(kenyon, pair) -> None:
    result = kenyon("compile", pair, "-o", "pair.img", "-c", "poppins", "--json")
    poppins = CONFIGS["poppins"]
    assert json.loads(result.stdout) == {
        "image": "pair.img",
        "bytes": Path("pair.img").stat().st_size,
        "configuration": "poppins",
        "fingerprint": f"{poppins.fingerprint:08x}",
    }


def test_compile_needs_a_folder(kenyon, pair) -> None:
    result = kenyon("compile", pair, "-o", "none/pair.img")
    assert result.exit_code == 2
    assert result.stderr == "error: none/pair.img: folder must exist: none\n"


def test_inspect_json(kenyon, pair) -> None:
    kenyon("compile", pair, "-o", "pair.img")
    result = kenyon("inspect", "pair.img", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    first, second = values.pop("populations")
    assert values == {
        "image": "pair.img",
        "bytes": Path("pair.img").stat().st_size,
        "configuration": "tiny",
        "fingerprint": f"{TINY.fingerprint:08x}",
    }
    n_groups = 2
    neuron_bytes = n_groups * TINY.n_lanes * 16
    parameters = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1, "noise": 0, "tau": 8}
    assert first == {
        "population": 0,
        "neurons": 2,
        "groups": n_groups,
        "axons": 1,
        "noise_seed": 0,
        # Rows of its two neurons and of all axons; the second also those of the two linked ones.
        "bytes": neuron_bytes + n_groups * TINY.n_lanes * (2 + TINY.n_axons),
        "synapses": {"recurrent": 1, "self": 1, "linked": 0, "axons": 1},
        "parameters": {name: [value, value] for name, value in parameters.items()},
    }
    assert second["synapses"] == {"recurrent": 0, "self": 0, "linked": 2, "axons": 1}
    assert second["parameters"]["noise"] == [0, 5]
    assert second["bytes"] == neuron_bytes + n_groups * TINY.n_lanes * (2 + 2 + TINY.n_axons)


def test_inspect_for_people(kenyon, pair) -> None:
    kenyon("compile", pair, "-o", "pair.img")
    result = kenyon("inspect", "pair.img")
    assert result.exit_code == 0
    for text in ("Populations", "Synapses", "Neurons", "0..5", "configuration tiny"):
        assert text in result.stdout


def test_inspect_gives_the_network_back(kenyon, pair) -> None:
    kenyon("compile", pair, "-o", "pair.img")
    result = kenyon("inspect", "pair.img", "-o", "back.json")
    assert result.stdout.splitlines()[-1] == "wrote back.json"
    kenyon("compile", "back.json", "-o", "again.img")
    assert Path("again.img").read_bytes() == Path("pair.img").read_bytes()


def test_inspect_refuses_a_damaged_image(kenyon, pair) -> None:
    kenyon("compile", pair, "-o", "pair.img")
    image = Path("pair.img").read_bytes()
    Path("cut.img").write_bytes(image[:-1])
    result = kenyon("inspect", "cut.img", "-o", "back.json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: image must be {len(image)} bytes, as its header says, not {len(image) - 1}\n"
    )
    assert not Path("back.json").exists()


def test_inspect_missing_image(kenyon) -> None:
    result = kenyon("inspect", "nothing.img")
    assert result.exit_code == 2
    assert result.stderr == "error: nothing.img: no such file or directory\n"


def test_schema(kenyon) -> None:
    result = kenyon("schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == network_file.schema()
    assert json.loads(kenyon("schema", "--json").stdout) == network_file.schema()
