"""Scores of prompts, what is kept of them, and what stands still meanwhile."""

import pytest
import torch
from torch.nn import functional

from firmware_tools.prompts import condensation, tasks
from firmware_tools.prompts.condensation import (
    Adapted,
    accuracy,
    fresh,
    kept,
    of,
    scores,
    spread,
    train,
)
from firmware_tools.quantize.digits import Part
from firmware_tools.quantize.vit import VisionTransformer


@pytest.fixture
def backbone() -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return VisionTransformer(10).requires_grad_(False)


@pytest.fixture
def part() -> Part:
    training = tasks.source().data.training
    return Part(training.images[:64], training.labels[:64])


def test_score_is_the_derivative_by_a_factor_before_the_prompt(backbone, part) -> None:
    adapted = fresh(backbone, (2, 0, 3, 1), 10, seed=1)
    found = scores(adapted, part)
    factors = [torch.ones(len(one), 1, requires_grad=True) for one in adapted.prompts]
    masked = [one * factor for one, factor in zip(adapted.prompts, factors, strict=True)]
    logits = Adapted(backbone, tuple(masked), adapted.head).logits(part.images)
    loss = functional.cross_entropy(logits, part.labels)
    wanted = torch.autograd.grad(loss, factors)
    for own, gradient in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, gradient[:, 0].abs())
    assert [len(own) for own in found] == [2, 0, 3, 1]
    assert min(float(own.min()) for own in found if len(own)) > 0


def test_absolute_values_are_averaged_over_the_batches(backbone, part, monkeypatch) -> None:
    adapted = fresh(backbone, (1, 1, 1, 1), 10, seed=1)
    halves = [Part(part.images[own], part.labels[own]) for own in (slice(32), slice(32, None))]
    wanted = [scores(adapted, half) for half in halves]
    monkeypatch.setattr(condensation, "BATCH", 32)
    for own, first, second in zip(scores(adapted, part), *wanted, strict=True):
        torch.testing.assert_close(own, (first + second) / 2)


@pytest.mark.parametrize(
    ("share", "wanted"),
    [
        (1.0, [[0, 1, 2], [], [0, 1]]),
        (0.6, [[0, 2], [], [1]]),
        (0.4, [[0], [], [1]]),
        (0.01, [[], [], [1]]),
    ],
)
def test_the_best_of_all_blocks_are_kept(share, wanted) -> None:
    ranks = (torch.tensor([2.0, 0.5, 2.0]), torch.empty(0), torch.tensor([1.0, 3.0]))
    assert [own.tolist() for own in kept(ranks, share)] == wanted


def test_only_prompts_and_head_learn(backbone, part) -> None:
    before = {name: one.clone() for name, one in backbone.state_dict().items()}
    adapted = fresh(backbone, spread(5), 10, seed=1)
    first = [one.detach().clone() for one in adapted.parameters()]
    train(adapted, part, 1, seed=0)
    for name, one in backbone.state_dict().items():
        assert torch.equal(one, before[name])
    for one, old in zip(adapted.parameters(), first, strict=True):
        assert not torch.equal(one, old)


def test_what_is_kept_is_a_copy(backbone, part) -> None:
    adapted = fresh(backbone, (2, 2, 2, 2), 10, seed=1)
    few = of(adapted, kept(scores(adapted, part), 0.5))
    old = [one.detach().clone() for one in adapted.parameters()]
    assert sum(map(len, few.prompts)) == 4
    train(few, part, 1, seed=0)
    for one, before in zip(adapted.parameters(), old, strict=True):
        assert torch.equal(one, before)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (3, 0, 2, 1), (0, 0, 0, 2)])
def test_prompts_are_left_out_behind_their_block(backbone, part, counts) -> None:
    """What is trained computes what a transformer does that has prompts as tokens."""
    adapted = fresh(backbone, counts, 10, seed=1)
    whole = VisionTransformer(10, counts)
    whole.load_state_dict(backbone.state_dict(), strict=False)
    with torch.no_grad():
        for mine, its in zip(whole.prompts, adapted.prompts, strict=True):
            mine.copy_(its)
        whole.head.load_state_dict(adapted.head.state_dict())
        torch.testing.assert_close(adapted.logits(part.images), whole(part.images))
        changed = [torch.zeros_like(one) for one in adapted.prompts]
        other = Adapted(backbone, tuple(changed), adapted.head).logits(part.images)
        difference = float((other - whole(part.images)).abs().max())
        assert (difference > 1e-3) == (sum(counts) > 0)


def test_prompts_are_spread_over_the_blocks() -> None:
    assert spread(0) == (0, 0, 0, 0)
    assert spread(6) == (2, 2, 1, 1)


def test_accuracy_is_the_share_of_right_images(backbone, part) -> None:
    adapted = fresh(backbone, spread(0), 10, seed=1)
    said = adapted.logits(part.images).argmax(1)
    labels = said.clone()
    labels[:16] = (labels[:16] + 1) % 10
    assert accuracy(adapted, Part(part.images, labels)) == 0.75
