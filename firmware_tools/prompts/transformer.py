"""A small vision transformer with prompts in front of every block.

Prompts are tokens that are learned while everything else stands still. These are deep ones: each
belongs to one block and is taken out behind it.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

SIDE, PATCH = 8, 2
"""Pixels of an image and of a patch, per axis: 16 patches."""
WIDTH, HIDDEN, DEPTH, HEADS = 48, 96, 4, 4
EMBEDDING_SPREAD = 0.02
"""Of positions, class token and prompts when they begin."""


class Attention(nn.Module):
    """Self-attention of all tokens, in heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.qkv(x).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        scores = query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5
        mixed = scores.softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(n, tokens, width))  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Attention and two dense layers, each behind a normalisation and added to what came in."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Patches of 2x2 pixels, a class token, blocks, and a dense layer on the class token.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        n_tokens = 1 + (SIDE // PATCH) ** 2
        self.class_token = nn.Parameter(EMBEDDING_SPREAD * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(EMBEDDING_SPREAD * torch.randn(1, n_tokens, WIDTH))
        self.blocks = nn.ModuleList(TransformerBlock(WIDTH, HIDDEN, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (N, 1, 8, 8), without prompts."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
        """What the class token has become, (N, WIDTH).

        Parameters
        ----------
        images : (N, 1, 8, 8) float
        prompts : sequence of (n, WIDTH) float
            Deep prompts of each block, of any number each; none if it is empty.
        """
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], 1) + self.positions
        n_tokens = x.shape[1]
        for own, block in zip_longest(prompts, self.blocks):
            if own is not None:
                x = torch.cat([x, own.expand(len(x), -1, -1)], 1)
            x = block(x)[:, :n_tokens]
        return self.norm(x[:, 0])  # type: ignore[no-any-return]
