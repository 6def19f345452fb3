"""`kenyon prompts condense`: what stands still, what is kept, what it costs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firmware_tools.avoid.energy import PJ_PER_MAC
from firmware_tools.commands import prompts_condense
from firmware_tools.prompts import condensation, tasks
from firmware_tools.prompts.quantised import Condensation, Condensing, Prompted, load_transformer
from firmware_tools.quantize import calibrate
from firmware_tools.quantize.digits import Data, Part
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.training import save_result
from firmware_tools.quantize.twin import Twin, export
from firmware_tools.quantize.vit import WIDTH, VisionTransformer, VitSettings
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import Tokens

VIT = VitSettings(float_epochs=1, epochs=1)
PLAN = Condensing(task="parity", n_prompts=4, keep=0.5, epochs=1, more_epochs=1)
OPTIONS = ("--task", "parity", "--prompts", "4", "--keep", "0.5", "--epochs", "1")
MARS = CONFIGS["mars"]
COMMAND = ("prompts", "condense", "vit.npz", *OPTIONS, "--more-epochs", "1", "--json")


@pytest.fixture(scope="module")
def task() -> tasks.Task:
    whole = tasks.target("parity")
    parts = (
        Part(part.images[:n], part.labels[:n])
        for part, n in ((whole.data.training, 96), (whole.data.test, 16))
    )
    return replace(whole, data=Data(*parts))


@pytest.fixture(scope="module")
def transformer(task: tasks.Task) -> tuple[VisionTransformer, Twin]:
    """One that has learned nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = VisionTransformer()
    twin = VIT.twin(model)
    calibrate(twin, task.data.training.images[:16])
    return model, twin.eval()


@pytest.fixture
def backbone(
    transformer: tuple[VisionTransformer, Twin], task: tasks.Task, monkeypatch: pytest.MonkeyPatch
) -> Twin:
    """Its twin, and the files of it."""
    model, twin = transformer
    network_file.dump(export(twin, "vit"), "vit.npz")
    save_result(VIT, model, twin, Path("vit.pt"))
    monkeypatch.setattr(tasks, "target", lambda _name: task)
    monkeypatch.setattr(prompts_condense, "N_ON_MACHINE", 1)
    return twin


@pytest.mark.usefixtures("backbone")
def test_a_network_is_condensed(kenyon, monkeypatch) -> None:
    whole = kenyon(*COMMAND, "--report", "page.html")
    assert whole.exit_code == 0, whole.output
    figures = json.loads(whole.stdout)
    assert figures["equal"]
    (scores,) = figures["scores"]
    assert figures["kept"] == [sorted(sorted(range(4), key=lambda k: -scores[k])[:2])]
    none, kept, everything = figures["costs"]
    assert [one["prompts"] for one in figures["costs"]] == [0, 2, 4]
    assert [one["tokens"] for one in figures["costs"]] == [[17] * 4, [19] * 4, [21] * 4]
    for name in ("clocks", "macs"):
        assert none[name] < kept[name] < everything[name]
    for one in figures["costs"]:  # how maps are spread over macros may differ
        assert 0 < one["feature_words"] <= MARS.feature_words
        assert one["energy_uj"] == one["macs"] * PJ_PER_MAC / 1e6
    assert list(figures["cka"]) == [f"block {k}" for k in range(1, 5)] + ["logits"]
    assert figures["bound_saved"] == everything["bound"] - kept["bound"] > 0
    for one in figures["costs"]:
        assert 1 < one["ratio"] < 3
    assert "prompt 3" in Path("page.html").read_text()

    before, after = (network_file.load(f"vit{end}.npz") for end in ("", "-condensed"))
    (prompts,) = {one.name for one in after.layers} - {one.name for one in before.layers}
    layer = after.layer(prompts)
    assert isinstance(layer, Tokens)
    assert layer.values.shape == (WIDTH, 2)
    assert kept["program_bytes"] == compile_network(after, MARS).lines.nbytes
    for one in before.layers[:-1]:  # weights stand still
        for name in ("weight", "bias", "mult", "table", "values"):
            assert np.array_equal(getattr(one, name, 0), getattr(after.layer(one.name), name, 0))
    images = np.load("vit-condensed-images.npy")
    hits = reference.run(after, images)[after.output].reshape(16, -1).argmax(1)
    assert (hits == np.load("vit-condensed-labels.npy")).mean() == figures["accuracy"]

    original = Condensation._epoch  # noqa: SLF001

    def interrupted(self, stage, epoch):
        if stage == "all":
            raise KeyboardInterrupt
        original(self, stage, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Condensation, "_epoch", interrupted)
        assert kenyon(*COMMAND).exit_code == 130
    resumed = kenyon(*COMMAND)
    assert "going on after epoch 2 of 3" in resumed.stderr
    assert resumed.stdout == whole.stdout


@pytest.mark.usefixtures("backbone")
def test_deep_prompts_are_condensed(kenyon, monkeypatch) -> None:
    command = ("prompts", "condense", "vit.npz", "--deep", "--task", "parity", "--prompts", "6")
    command += ("--keep", "0.5", "--epochs", "1", "--more-epochs", "2", "--json")
    whole = kenyon(*command, "--report", "page.html")
    assert whole.exit_code == 0, whole.output
    figures = json.loads(whole.stdout)
    assert figures["equal"]
    scores = {(b, k): one for b, own in enumerate(figures["scores"]) for k, one in enumerate(own)}
    assert [len(own) for own in figures["scores"]] == [2, 2, 1, 1]
    best = sorted(scores, key=lambda one: -scores[one])[:3]
    kept = [sorted(k for b, k in best if b == block) for block in range(4)]
    assert figures["kept"] == kept
    tokens = [17 + len(own) for own in kept]
    assert [one["tokens"] for one in figures["costs"]] == [[17] * 4, tokens, [19, 19, 18, 18]]
    page = Path("page.html").read_text()
    assert f"block {best[0][0] + 1}, prompt {best[0][1]}" in page
    after = network_file.load("vit-condensed.npz")
    found = [layer for layer in after.layers if isinstance(layer, Tokens)][2:]
    counts = [(layer.first, layer.values.shape[1]) for layer in found]
    own = [len(one) for one in kept]
    assert counts == [both for both in zip([0, *own], own, strict=False) if any(both)]

    original = Condensation._epoch  # noqa: SLF001

    def interrupted(self, stage, epoch):
        if (stage, epoch) == ("condensed", 1):
            raise KeyboardInterrupt
        original(self, stage, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Condensation, "_epoch", interrupted)
        assert kenyon(*command).exit_code == 130
    assert kenyon(*command).stdout == whole.stdout


def test_only_prompts_and_head_learn(backbone: Twin, task: tasks.Task) -> None:
    condensing = Condensation(PLAN, VIT, backbone, task)
    for model in (condensing.model.everything, condensing.model.few):
        learned = {id(one) for one in model.parameters_of_task()}
        assert len(learned) == 3
        for parameter in model.parameters():
            assert parameter.requires_grad == (id(parameter) in learned)
    first = [one.detach().clone() for one in condensing.model.everything.parameters_of_task()]
    next(condensing.run())
    for one, old in zip(condensing.model.everything.parameters_of_task(), first, strict=True):
        assert not torch.equal(one, old)


def test_what_is_kept_is_what_was_trained(backbone: Twin) -> None:
    counts = ((4, 1, 0, 2), (2, 0, 0, 1))
    everything, few = (Prompted(VIT, backbone, n, 2, seed=k) for k, n in enumerate(counts))
    chosen = [torch.tensor(own, dtype=torch.int64) for own in ([1, 3], [], [], [1])]
    few.take(everything, chosen)
    assert torch.equal(few.prompts[0], everything.prompts[0][[1, 3]])
    assert torch.equal(few.prompts[3], everything.prompts[3][[1]])
    assert [len(own) for own in few.prompts] == [2, 0, 0, 1]
    assert few.prompts[0].data_ptr() != everything.prompts[0].data_ptr()
    for name, value in everything.head.state_dict().items():
        assert torch.equal(few.head.state_dict()[name], value)


def test_scores_are_of_the_integers_that_are_exported(backbone: Twin, task) -> None:
    """Training and evaluation compute the same; so do the prompts' scores."""
    model = Prompted(VIT, backbone, (3, 0, 1), 2, seed=0)
    trained = condensation.scores(model.train(), task.data.training)
    evaluated = condensation.scores(model.eval(), task.data.training)
    assert [len(own) for own in trained] == [3, 0, 1]
    for one, other in zip(trained, evaluated, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-7)
    assert float(torch.cat(trained).min()) > 0


@pytest.mark.parametrize("counts", [(3,), (2, 0, 0, 1), (0, 3, 3, 0)])
def test_prompts_are_in_the_integers_of_the_file(backbone: Twin, task, counts) -> None:
    """Shallow ones, deep ones, blocks without any, and one behind which none comes."""
    model = Prompted(VIT, backbone, counts, 2, seed=0)
    model.train()(task.data.training.images[:16])
    network = export(model.eval().twin)
    ours = model.twin.integers(task.data.test.images)
    values = reference.run(network, model.twin.image_ints(task.data.test.images))
    for name, ints in list(ours.items())[1:]:
        assert np.array_equal(ints, values[name]), name
    tokens = [layer for layer in network.layers if isinstance(layer, Tokens)][2:]
    own = np.concatenate([one.detach().numpy() for one in model.prompts])
    found = np.concatenate([layer.values.T for layer in tokens])
    scale = [network.scales[layer.name] for layer in tokens for _ in range(layer.values.shape[1])]
    assert np.abs(found - own / np.array(scale)[:, None]).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--keep", "0"), "keep must be above 0, up to 1, not 0"),
        (("--keep", "1.5"), "keep must be above 0, up to 1, not 1.5"),
        (("--prompts", "0"), "prompts must be 1..128, not 0"),
        (("--prompts", "513", "--deep"), "prompts must be 1..512, not 513"),
        (("-o", "x.txt"), "x.txt: network file must end in .npz"),
        (("-c", "big"), "configuration must be one of"),
    ],
)
@pytest.mark.usefixtures("backbone")
def test_refused(kenyon, options, text: str) -> None:
    result = kenyon("prompts", "condense", "vit.npz", *options)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.usefixtures("backbone")
def test_other_networks_are_refused(kenyon) -> None:
    torch.save({"settings": json.dumps({"version": 1})}, "vit.pt")
    result = kenyon("prompts", "condense", "vit.npz")
    assert result.exit_code == 2
    assert "vit.pt: must be what kenyon train vit wrote" in result.stderr
    Path("vit.pt").unlink()
    assert "vit.pt: no such file" in kenyon("prompts", "condense", "vit.npz").stderr
    with pytest.raises(QuantizationError, match=r"nowhere\.pt: no such file"):
        load_transformer(Path("nowhere.pt"))
