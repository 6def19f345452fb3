"""A small vision transformer that learns the digits, with real weights and then quantised."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.training import DECAY, Settings, Training, descent, parameter_groups

SIDE, PATCH = 8, 2
"""Pixels of an image and of a patch, per axis: 16 patches."""
N_TOKENS = 1 + (SIDE // PATCH) ** 2
"""The class token and the patches."""
WIDTH, HIDDEN, DEPTH, HEADS = 48, 96, 4, 4
EMBEDDING_SPREAD = 0.5
"""Of positions, class token and prompts when they begin: as large as patches are."""
FLOAT_RATE, FLOAT_DECAY = 4e-3, 1e-2
"""Of AdamW, with real weights."""
QUANTISED_RATE = 1e-3


class VisionTransformer(nn.Module):
    """Patches of 2x2 pixels, a class token, blocks, and a dense layer on the class token.

    Parameters
    ----------
    classes : int
    prompts : sequence of int
        Learned tokens before the others at the input of each block, none for the blocks that are
        left out. Those of a block stay until one that is not left out comes: so prompts of the
        first block alone are shallow ones, prompts of every block deep ones.
    """

    def __init__(self, classes: int = 10, prompts: Sequence[int] = ()) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(EMBEDDING_SPREAD * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(EMBEDDING_SPREAD * torch.randn(1, N_TOKENS, WIDTH))
        self.blocks = nn.ModuleList(_block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        self.prompts = nn.ParameterList(random_prompts(n) for n in prompts)
        self._counts = tuple(prompts)  # which tracing sees as numbers

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (N, 1, 8, 8)."""
        x, n = self.embedded(images), 0
        for k, block in enumerate(self.blocks):
            if k < len(self._counts) and n + self._counts[k]:
                own = self.prompts[k][None].expand(images.shape[0], -1, -1)
                x, n = torch.cat([own, x[:, n:]], 1), self._counts[k]
            x = block(x)
        return self.head(self.norm(x)[:, n])  # type: ignore[no-any-return]

    def embedded(self, images: Tensor) -> Tensor:
        """Class token and patches, (N, 17, WIDTH), positions added."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(images.shape[0], -1, -1)
        return torch.cat([class_token, patches], 1) + self.positions


def random_prompts(n: int) -> nn.Parameter:
    """So many tokens (n, WIDTH) to begin with."""
    return nn.Parameter(EMBEDDING_SPREAD * torch.randn(n, WIDTH))


def _block() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


@dataclass(frozen=True, kw_only=True)
class VitSettings(Settings):
    """What a training of the transformer is; as `Settings`, without sparsity."""

    weight_bits: int = 8
    act_bits: int = 8
    float_epochs: int = 60
    epochs: int = 4

    def __post_init__(self) -> None:
        if self.sparsity:
            raise QuantizationError(f"sparsity of a transformer must be 0, not {self.sparsity:g}")
        super().__post_init__()

    @property
    def name(self) -> str:
        """Of the network."""
        return "vit"

    def fingerprint(self) -> str:
        """JSON text that tells trainings apart."""
        return json.dumps({"data": "vit", "training": super().fingerprint()})

    @staticmethod
    def of_fingerprint(text: str) -> "VitSettings":
        """The settings that have this fingerprint; TypeError if it is another network's."""
        fields = json.loads(text)
        if fields.get("data") != "vit":
            raise TypeError("another network's")
        return VitSettings(**vars(Settings.of_fingerprint(fields["training"])))

    def new_model(self) -> nn.Module:
        return VisionTransformer()


class VitTraining(Training):
    """The training of the transformer; parameters as of `StagedTraining`."""

    def _real_optimizer(self, _stage: str) -> torch.optim.Optimizer:
        parameters = self.model.parameters()
        return torch.optim.AdamW(parameters, lr=FLOAT_RATE, weight_decay=FLOAT_DECAY)

    def _twin_optimizer(self, _stage: str) -> torch.optim.Optimizer:
        assert self.twin is not None
        groups = parameter_groups(self.twin, QUANTISED_RATE)
        return descent(groups, QUANTISED_RATE, DECAY)
