"""Prompts are trained, ranked by what the loss owes to each, and all but a share taken away.

2305.17223 states that few prompts do: a gradient-based score ranks them and about 30 % are kept.
Score and schedule are a reconstruction: the score of a prompt is the derivative of the loss with
respect to a factor in front of it, the inner product of prompt and gradient; its absolute value is
averaged over the batches, and prompts of all blocks are ranked together.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.quantize.digits import Part
from firmware_tools.quantize.vit import DEPTH, WIDTH, VisionTransformer, random_prompts

BATCH = 64
RATE, DECAY = 4e-2, 1e-4

Prompts = tuple[Tensor, ...]
"""Deep prompts (n, WIDTH) of each block."""


class Learner(Protocol):
    """What is adapted to a task by prompts."""

    @property
    def prompts(self) -> Prompts:
        """What is ranked."""

    def logits(self, images: Tensor) -> Tensor:
        """Of each class, (N, classes)."""


@dataclass
class Adapted:
    """What a task has of its own, all else is the frozen transformer's.

    Attributes
    ----------
    backbone : VisionTransformer
    prompts : Prompts
    head : nn.Linear
    """

    backbone: VisionTransformer
    prompts: Prompts
    head: nn.Linear

    def logits(self, images: Tensor) -> Tensor:
        """What the transformer says with these prompts and this head."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """What the class token becomes with these prompts, (N, WIDTH)."""
        x = self.backbone.embedded(images)
        n_results = (x.shape[1],) * (DEPTH - 1) + (1,)  # of the last block the class token
        for block, own, n in zip(self.backbone.blocks, self.prompts, n_results, strict=True):
            x = prompted(block, x, own, n)
        return self.backbone.norm(x[:, 0])  # type: ignore[no-any-return]

    def parameters(self) -> list[Tensor]:
        """What is learned."""
        return [*self.prompts, *self.head.parameters()]


def prompted(block: Any, x: Tensor, prompts: Tensor, n_results: int) -> Tensor:
    """What a TransformerEncoderLayer makes of the first of (N, T, WIDTH), with prompts (n, WIDTH).

    Of prompts only keys and values are computed, once for all images: what a block makes of them is
    left out behind it.
    """
    heads = (block.self_attn.num_heads, -1)
    weight, bias = block.self_attn.in_proj_weight, block.self_attn.in_proj_bias

    def key_value(tokens: Tensor) -> Tensor:
        """(2, N, heads, T, WIDTH / heads)."""
        both = functional.linear(tokens, weight[WIDTH:], bias[WIDTH:])
        return both.unflatten(2, (2, *heads)).permute(2, 0, 3, 1, 4)  # type: ignore[no-any-return]

    normed, x = block.norm1(x), x[:, :n_results]
    own = key_value(block.norm1(prompts)[None]).expand(-1, len(x), -1, -1, -1)
    key, value = torch.cat([own, key_value(normed)], 3)
    query = functional.linear(normed[:, :n_results], weight[:WIDTH], bias[:WIDTH])
    query = query.unflatten(2, heads).transpose(1, 2)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)
    x = x + block.self_attn.out_proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    return x + block.linear2(block.activation(block.linear1(block.norm2(x))))  # type: ignore[no-any-return]


def fresh(backbone: VisionTransformer, counts: Sequence[int], classes: int, seed: int) -> Adapted:
    """So many random prompts for each block, and a new head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prompts = tuple(random_prompts(n) for n in counts)
        return Adapted(backbone, prompts, nn.Linear(WIDTH, classes))


def train(adapted: Adapted, part: Part, epochs: int, seed: int) -> None:
    """Learn prompts and head; the transformer's own parameters stand still.

    Without prompts what it makes of the images stands still, too.
    """
    with torch.no_grad():
        known = None if any(map(len, adapted.prompts)) else adapted.features(part.images)

    def loss_of(batch: Tensor) -> Tensor:
        if known is None:
            return _loss(adapted, part, batch)
        return functional.cross_entropy(adapted.head(known[batch]), part.labels[batch])

    descend(
        adapted.parameters(),
        loss_of,
        len(part),
        epochs,
        torch.Generator().manual_seed(seed),
        (RATE, DECAY),
    )


def descend(
    parameters: Iterable[Tensor],
    loss_of: Callable[[Tensor], Tensor],
    n_images: int,
    epochs: int,
    generator: torch.Generator,
    rate_and_decay: tuple[float, float],
) -> None:
    """Every image once an epoch, in batches, with AdamW; the rate falls by half a cosine."""
    rate, decay = rate_and_decay
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    n_steps = epochs * math.ceil(n_images / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(epochs):
        for batch in torch.randperm(n_images, generator=generator).split(BATCH):
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _loss(learner: Learner, part: Part, batch: Tensor) -> Tensor:
    logits = learner.logits(part.images[batch])
    return functional.cross_entropy(logits, part.labels[batch])


def scores(learner: Learner, part: Part) -> tuple[Tensor, ...]:
    """What the loss owes to each prompt: the mean over the batches of |prompt . gradient|.

    Returns
    -------
    tuple of (n,) float
        Of each block.
    """
    total: list[Tensor] = [torch.zeros(len(one)) for one in learner.prompts]
    batches = torch.arange(len(part)).split(BATCH)
    for batch in batches:
        loss = _loss(learner, part, batch)
        gradients = torch.autograd.grad(loss, learner.prompts)
        owed = [
            (prompts.detach() * gradient).sum(1).abs()
            for prompts, gradient in zip(learner.prompts, gradients, strict=True)
        ]
        total = [before + one / len(batches) for before, one in zip(total, owed, strict=True)]
    return tuple(total)


def kept(ranks: Sequence[Tensor], share: float) -> tuple[Tensor, ...]:
    """Which prompts are among the best of all blocks together; of equal ones the first.

    Returns
    -------
    tuple of (k,) int64
        Indices for each block, ascending.
    """
    flat = torch.cat(list(ranks))
    n = n_kept(len(flat), share)
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[torch.sort(flat, descending=True, stable=True).indices[:n]] = True
    return tuple(part.nonzero()[:, 0] for part in chosen.split([len(one) for one in ranks]))


def n_kept(n_prompts: int, share: float) -> int:
    """How many prompts a share is, at least one."""
    return max(1, round(share * n_prompts))


def of(adapted: Adapted, chosen: Sequence[Tensor]) -> Adapted:
    """A copy with these prompts only."""
    head = nn.Linear(WIDTH, adapted.head.out_features)
    head.load_state_dict(adapted.head.state_dict())
    prompts = tuple(
        all_of[own].detach().clone().requires_grad_()
        for all_of, own in zip(adapted.prompts, chosen, strict=True)
    )
    return Adapted(adapted.backbone, prompts, head)


def accuracy(learner: Learner, part: Part) -> float:
    """Share of the images that are classified rightly."""
    with torch.no_grad():
        hits = learner.logits(part.images).argmax(1) == part.labels
    return float(hits.double().mean())


def spread(n: int) -> tuple[int, ...]:
    """So many prompts over the blocks, the first ones one more if they do not divide."""
    return tuple(n // DEPTH + (k < n % DEPTH) for k in range(DEPTH))
