import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.costs.constants import constants
from firmware_tools.jobs.local import Local
from firmware_tools.search.devices import Search, Settings, layers_on, options_of, reductions_of
from firmware_tools.search.devices import write as write_files
from firmware_tools.search.errors import SearchError
from firmware_tools.search.measuring import measurement, noise, task
from firmware_tools.search.methods import fill
from firmware_tools.search.reduction import (
    AS_IT_IS,
    Reduction,
    effective,
    producer,
    reduced,
    requantised,
)
from firmware_tools.search.space import Archive, Option, Space
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.frame import run_frame
from model.mars.group_sets import by_tap, kept_sets
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, FeatureType, MaxPool, QuantizedNetwork

NOISY = "fefet:rows=64,cell_bits=2,program_noise=0.02"
RNG = np.random.default_rng


def network(seed: int = 0) -> QuantizedNetwork:
    """A convolution, a pool, two convolutions with a residual around the second, a dense layer."""
    rng = RNG(seed)

    def conv(name: str, source: str, n_in: int, **others: object) -> Conv:
        return Conv(
            name=name,
            input=source,
            weight=rng.integers(-7, 8, (32, n_in, 3, 3)),
            bias=rng.integers(-40, 40, 32),
            mult=np.full(32, 3 << 10),
            shift=np.full(32, 18),
            padding=(1, 1, 1, 1),
            weight_bits=4,
            out_bits=4,
            out_signed=False,
            **others,
        )

    dense = Dense(
        name="dense",
        input="c",
        weight=rng.integers(-7, 8, (10, 32 * 9)),
        bias=np.zeros(10, int),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    return QuantizedNetwork(
        name="small",
        input_type=FeatureType((16, 6, 6), 4, signed=False),
        layers=(
            conv("a", "input", 16),
            MaxPool(name="pool", input="a"),
            conv("b", "pool", 32),
            conv("c", "b", 32, skip="b", skip_mult=1 << 15),
            dense,
        ),
        scales={"a": 0.5, "dense": 0.25},
    )


def images(n: int = 6) -> np.ndarray:
    return RNG(9).integers(0, 16, (n, 16, 6, 6))


def test_requantised_weights_have_the_scale_of_least_error():
    weight = np.array([-6, -6, -3, 0, 3, 3, 3])
    fewer, step = requantised(weight, 2)
    assert fewer.tolist() == [-2, -2, -1, 0, 1, 1, 1]
    assert step == 3
    values = RNG(0).integers(-8, 8, (20, 5, 5))
    fewer, step = requantised(values, 3)
    steps = 8 / 3 * 2.0 ** -(np.arange(24) / 8)
    own = [np.clip(np.floor(values / one + 0.5), -4, 3) for one in steps]
    errors = [np.mean((values - n * one) ** 2) for n, one in zip(own, steps, strict=True)]
    best = int(np.argmin(errors))
    assert step == pytest.approx(steps[best])
    assert np.array_equal(fewer, own[best])


def test_what_a_layer_reads_alone():
    one = network()
    assert producer(one, one.layer("b")).name == "a"
    assert producer(one, one.layer("c")) is None  # b is a residual, too
    assert producer(one, one.layer("a")) is None  # images come as they are
    assert producer(one, one.layer("dense")).name == "c"
    wanted = Reduction(4, 3, 0.25)
    assert effective(one, "b", wanted) == Reduction(None, 3, 0.25)
    assert effective(one, "c", wanted) == Reduction(None, None, 0.25)
    assert effective(one, "b", Reduction(5, 4)) == AS_IT_IS
    assert reduced(one, {"a": AS_IT_IS, "b": Reduction(8)}) is one


def test_exact_halves_stay_exact():
    """Even weights and a range of 15 to 3: nothing is rounded, so nothing but scales changes."""
    one = network()
    dense = one.layer("dense")
    even = replace(dense, weight=4 * np.sign(dense.weight))
    one = replace(one, layers=(*one.layers[:-1], even))
    exact = reference.run(one, images())
    two = reduced(one, {"dense": Reduction(weight_bits=2)})
    assert two.layer("dense").weight_bits == 2
    seen = reference.run(two, images())
    assert np.array_equal(4 * seen["dense"], exact["dense"])
    assert two.scales == {"a": 0.5, "dense": 1.0}
    three = reduced(one, {"b": Reduction(activation_bits=2)})
    assert three.types["pool"].bits == 2
    seen = reference.run(three, images())
    wanted = np.clip(np.floor(exact["a"] / 5 + 0.5), 0, 3)
    # Results of a were rounded before; rounded once, they are at most one step away.
    assert np.abs(seen["a"] - wanted).max() <= 1
    assert three.scales["a"] == 2.5
    # The layer that reads them makes of them what it made of five times as much.
    wanted = reference.run_layer(one.layer("b"), one.types, {**exact, "pool": 5 * seen["pool"]})
    assert np.abs(seen["b"] - wanted).max() <= 1
    assert np.mean(seen["b"] == wanted) > 0.9


def test_the_smallest_group_sets_are_cleared():
    one = network()
    layer = one.layer("b")
    weight = layer.weight.copy()
    weight[:16, :16, 1, 2] = np.sign(weight[:16, :16, 1, 2])
    one = replace(one, layers=(*one.layers[:2], replace(layer, weight=weight), *one.layers[3:]))
    few = reduced(one, {"b": Reduction(sparsity=1 / 36)})
    changed = few.layer("b").weight.copy()
    assert not changed[:16, :16, 1, 2].any()
    changed[:16, :16, 1, 2] = weight[:16, :16, 1, 2]
    assert np.array_equal(changed, weight)
    for share, kept in ((0.5, 18), (0.99, 1)):
        few = reduced(one, {"b": Reduction(sparsity=share)}).layer("b")
        assert kept_sets(by_tap(few, one.types["pool"]), 4).sum() == kept


def test_reduced_networks_run_on_the_chip():
    """Reference and golden machine agree; 3 images, all layers reduced."""
    few = reduced(network(), dict.fromkeys("abc", Reduction(3, 2, 0.3)) | {"dense": Reduction(2)})
    image = compile_network(few, CONFIGS["mars-tiny"])
    results = reference.run(few, images(3))["dense"]
    for one, result in zip(images(3), results, strict=True):
        assert np.array_equal(run_frame(image, one).result.ravel(), result.ravel())


def test_columns_of_each_option():
    one = network()
    reductions = reductions_of((3, 4), (2, 4), (0.0, 0.5))
    assert len(reductions) == 8
    options = options_of(("sram", "pcm"), (64,), (), reductions)
    assert len(options) == 16
    layers = layers_on(one, options)
    assert layers.n_macs == layers_on(one, options[:1]).n_macs
    for k, option in enumerate(options):
        own = option.reduction
        assert layers.weight_bits[:, k].tolist() == [own.weight_bits] * 4
        # Of b and dense; a reads images, c what is a residual.
        assert layers.in_bits[:, k].tolist() == [4, own.activation_bits, 4, own.activation_bits]
        assert layers.sets[1, k] == 36 * (1 - own.sparsity)


def test_links_carry_the_bits_that_are_read():
    one = network()
    options = options_of(("sram", "pcm"), (64,), (), reductions_of((), (2, 4), ()))
    space = Space(layers_on(one, options), options, np.zeros((4, 4)), "energy", constants())
    alike = np.array([[2, 2, 2, 2], [2, 3, 2, 2]])
    crossing = np.array([[0, 2, 2, 2], [0, 3, 2, 2]])
    own = space.system.table.energy
    bits = []
    for choice in crossing:
        total = space.totals(choice[np.newaxis]).energy[0] - own[range(4), choice].sum()
        bits.append(total / space.system.crossing()[1])
    assert bits == pytest.approx([2 * 32 * 9, 4 * 32 * 9])
    assert space.totals(alike).energy == pytest.approx(own[range(4), alike].sum(1))


@pytest.mark.parametrize("objective", ["tops-per-mm2", "energy", "edp"])
def test_gradient_finds_every_optimum_with_all_axes(objective):
    """16 options of device, bits and sparsity for each of four layers: 65,536 networks."""
    reductions = reductions_of((2, 4), (2, 4), (0.0, 0.5))
    options = options_of(("sram", "fefet"), (64,), (), reductions)
    layers = layers_on(network(), options)
    for seed in range(2):
        noise_table = RNG(seed).lognormal(-5, 1, (4, 16))
        noise_table[:, 7] = 0
        space = Space(layers, options, noise_table, objective, constants())
        truth, found = Archive(space), Archive(space)
        for archive, method in ((truth, "exhaustive"), (found, "gradient")):
            for _ in fill(archive, method, seed):
                pass
        assert truth.n_priced == 16**4
        assert np.array_equal(found.cost, truth.cost)
        assert np.array_equal(found.noise, truth.noise)


@pytest.fixture
def settings(tmp_path) -> Settings:
    network_file.dump(network(), tmp_path / "small.npz")
    options = (Option("sram"), Option(NOISY), Option(NOISY, Reduction(2)))
    job = task(tmp_path / "small.npz", None, None, 12, 0)
    return Settings(job, options, "energy", allowed=20, trials=1, measurements=32)


def test_two_phases_find_what_measuring_everything_finds(settings):
    truth = Search(replace(settings, measurements=3**4), Local(1)).run()
    found = Search(settings, Local(1)).run()
    assert len(truth.measured) == 3**4
    assert len(found.measured) <= 32
    assert truth.best.cost == min(o.cost for o in truth.measured.values() if o.drop <= 20)
    assert found.best == truth.best
    assert len(set(truth.best.choice)) == 3


def test_measurement_is_what_the_written_network_computes(settings, tmp_path):
    found = Search(replace(settings, measurements=6), Local(1)).run()
    paths = write_files(found, settings, tmp_path)
    assert [path.suffix for path in paths[:2]] == [".json", ".npz"]
    written = network_file.load(tmp_path / "front-00.npz")
    one = found.front()[0]
    options = {n: settings.options[k] for n, k in zip("abc", one.choice, strict=False)}
    options["dense"] = settings.options[one.choice[3]]
    devices = json.loads((tmp_path / "front-00.json").read_text())["devices"]
    assert devices == {name: option.text for name, option in options.items()}
    for name, option in options.items():
        assert written.layer(name).weight_bits == (option.reduction.weight_bits or 4)
    exact = {name: Option("sram", option.reduction) for name, option in options.items()}
    job = measurement(settings.task, exact, 0, 0, "selection")
    inputs = RNG((0, 0)).integers(0, 16, (12, 16, 6, 6))
    before = reference.run(network(), inputs)["dense"]
    after = reference.run(written, inputs)["dense"]
    assert job.run()["noise"] == noise(before, after)


def test_what_cannot_be_reduced_is_refused():
    for wrong, message in (
        ({"weight_bits": 1}, r"--weight-bits must be 2..8, not 1"),
        ({"activation_bits": 9}, r"--activation-bits must be 2..8, not 9"),
        ({"sparsity": 1.0}, r"--sparsity must be 0 to below 1, not 1"),
        ({"sparsity": -0.5}, r"--sparsity must be 0 to below 1, not -0.5"),
    ):
        with pytest.raises(SearchError, match=message):
            Reduction(**wrong)


def test_command_writes_networks_that_infer_and_bench_run(kenyon):
    network_file.dump(network(), "small.npz")
    options = ("--weight-bits", "2", "--activation-bits", "3", "--sparsity", "0,0.5")
    quick = ("--images", "4", "--chips", "1", "--measurements", "5", "-j", "1")
    devices = ("--device", "sram", "--device", "fefet")
    search = ("search", "devices", "small.npz", *devices, *quick, "--accuracy-drop", "100")
    result = kenyon(*search, *options, "-o", "found", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert len(values["options"]) == 2 * 2
    assert "sram (weights 2, activations 3, sparsity 0.5)" in values["options"]
    own = ("found/best.npz", "--device", "found/best.json", "--json")
    bench = kenyon("bench", "devices", "--network", *own)
    assert bench.exit_code == 0, bench.output
    total = json.loads(bench.stdout)["total"]["with_converters"]
    assert total["area_mm2"] == pytest.approx(values["best"]["area_mm2"])
    assert total["energy_uj"] == pytest.approx(values["best"]["energy_uj"])
    np.save("x.npy", images(2))
    assert kenyon("infer", own[0], "--input", "x.npy", *own[1:]).exit_code == 0
    chip = ("--backend", "model", "-c", "mars-tiny")
    assert kenyon("infer", own[0], "--input", "x.npy", *chip).exit_code == 0
    for wrong, message in (
        (("--weight-bits", "9"), "--weight-bits must be 2..8, not 9"),
        (("--sparsity", "half"), "--sparsity must be numbers with commas between them, not half"),
        (("--sparsity", "1"), "--sparsity must be 0 to below 1, not 1"),
    ):
        result = kenyon(*search, *wrong)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
    assert Path("found/best.npz").is_file()
