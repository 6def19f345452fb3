"""Condensation on a quantised transformer: frozen integers, and prompts that learn in their steps.

The prompts are shallow: tokens before the others at the input of the first block. What is trained
computes the integers that are exported, as `firmware_tools.quantize` does everywhere.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.mars.bench import measure
from firmware_tools.mars.inference import on_model
from firmware_tools.prompts import condensation
from firmware_tools.prompts.condensation import DECAY, RATE, Prompts
from firmware_tools.prompts.tasks import Task
from firmware_tools.quantize.digits import Part
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.layers import Product
from firmware_tools.quantize.token_layers import ConstantTokens
from firmware_tools.quantize.training import (
    Plan,
    StagedTraining,
    accuracy,
    load,
    load_result,
)
from firmware_tools.quantize.twin import Twin
from firmware_tools.quantize.vit import VisionTransformer, VitSettings
from model.mars import reference
from model.mars.config import MarsConfig
from model.mars.mapper import compile_network
from model.mars.network import Ints, LayerNorm, QuantizedNetwork

PROMPTS_MAX = 128


class Prompted(nn.Module):
    """A quantised transformer that stands still, with prompts and a head that learn.

    Parameters
    ----------
    settings : VitSettings
        Of the transformer.
    backbone : Twin
    n_prompts, classes, seed : int
    """

    def __init__(
        self, settings: VitSettings, backbone: Twin, n_prompts: int, classes: int, seed: int
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.twin = settings.twin(VisionTransformer(classes, n_prompts))
        self._n_prompts = n_prompts
        known = {layer.name: layer for layer in backbone.steps()}
        own = {self.head, self._tokens}
        for layer in self.twin.steps():
            if layer not in own:
                layer.load_state_dict(known[layer.name].state_dict())
        self.twin.inputs.load_state_dict(backbone.inputs.state_dict())
        self.twin.input_shape.copy_(backbone.input_shape)
        self.twin.requires_grad_(False)
        for one in self.parameters_of_task():
            one.requires_grad_(True)
        self.head.weights.start(self.head.weight)

    @property
    def prompts(self) -> Prompts:
        """Of the first block."""
        return () if self._tokens is None else (self._tokens.values,)

    @property
    def head(self) -> Product:
        """The dense layer that says the class."""
        return self.twin.products()[-1]

    @property
    def _tokens(self) -> ConstantTokens | None:
        """The layer behind the class token's."""
        found = [layer for layer in self.twin.steps() if isinstance(layer, ConstantTokens)]
        return found[-1] if self._n_prompts else None

    def parameters_of_task(self) -> list[Tensor]:
        """What is learned."""
        return [*self.prompts, self.head.weight, self.head.bias]

    def forward(self, images: Tensor) -> Tensor:
        """Logits; in training the head's scale is always that of the least error."""
        if self.training:
            self.head.weights.start(self.head.weight)
        return self.twin(images)  # type: ignore[no-any-return]

    def logits(self, images: Tensor) -> Tensor:
        """The same, for `condensation`."""
        return self(images)  # type: ignore[no-any-return]

    def take(self, other: "Prompted", chosen: Tensor) -> None:
        """Another one's head, and these of its prompts."""
        assert self._tokens is not None
        with torch.no_grad():
            self._tokens.values.copy_(other.prompts[0][chosen])
        self.head.load_state_dict(other.head.state_dict())


@dataclass(frozen=True, kw_only=True)
class Condensing(Plan):
    """What a condensation is.

    Parameters
    ----------
    seed : int
        Of prompts, head and order.
    task : str
    n_prompts : int
        1..128.
    keep : float
        Share of them that is kept, above 0, up to 1; at least one is.
    epochs, more_epochs : int
        Of all prompts; then of what is kept, and of all for comparison.
    backbone : str
        Tells transformers apart.
    """

    task: str = "rotated"
    n_prompts: int = 20
    keep: float = 0.3
    epochs: int = 10
    more_epochs: int = 5
    backbone: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.n_prompts <= PROMPTS_MAX:
            raise QuantizationError(f"prompts must be 1..{PROMPTS_MAX}, not {self.n_prompts}")
        if not 0 < self.keep <= 1:
            raise QuantizationError(f"keep must be above 0, up to 1, not {self.keep:g}")
        super().__post_init__()

    @property
    def n_kept(self) -> int:
        """Prompts that are left."""
        return condensation.n_kept(self.n_prompts, self.keep)

    @property
    def stages(self) -> dict[str, int]:
        """Epochs of each stage, in order."""
        return {"prompts": self.epochs, "condensed": self.more_epochs, "all": self.more_epochs}

    def fingerprint(self) -> str:
        """JSON text that tells condensations apart."""
        return json.dumps({"condensation": asdict(self)}, sort_keys=True)


class _Both(nn.Module):
    """All prompts, those that are kept, and which they are."""

    scores: Tensor

    def __init__(self, everything: Prompted, few: Prompted, n_prompts: int) -> None:
        super().__init__()
        self.everything, self.few = everything, few
        self.register_buffer("scores", torch.zeros(n_prompts))


class Condensation(StagedTraining):
    """All prompts are trained and ranked, the best of them trained further.

    Parameters
    ----------
    settings : Condensing
    vit : VitSettings
        Of the transformer that stands still.
    backbone : Twin
    task : Task
    checkpoint : Path or None
        As of `StagedTraining`.
    """

    settings: Condensing
    model: _Both
    real_stages: ClassVar[frozenset[str]] = frozenset({"prompts", "condensed", "all"})

    def __init__(
        self,
        settings: Condensing,
        vit: VitSettings,
        backbone: Twin,
        task: Task,
        checkpoint: Path | None = None,
    ) -> None:
        everything, few = (
            Prompted(vit, backbone, n, task.classes, settings.seed)
            for n in (settings.n_prompts, settings.n_kept)
        )
        both = _Both(everything, few, settings.n_prompts)
        super().__init__(settings, task.data, checkpoint, both)

    @property
    def test(self) -> Part:
        """What is measured with."""
        return self._data.test

    @property
    def chosen(self) -> Tensor:
        """Which prompts are kept."""
        (own,) = condensation.kept([self.model.scores], self.settings.keep)
        return own

    def finish(self) -> "Condensed":
        """What came out, measured on the test set."""
        both = self.model.eval()
        return Condensed(
            everything=both.everything,
            few=both.few,
            scores=both.scores.tolist(),
            kept=self.chosen.tolist(),
            accuracy_of_all=accuracy(both.everything, self.test),
            accuracy=accuracy(both.few, self.test),
        )

    def _module(self, stage: str) -> nn.Module:
        return self.model.few if stage == "condensed" else self.model.everything

    def _begin(self, stage: str) -> None:
        if stage == "condensed":
            self.model.train()
            self.model.scores.copy_(
                condensation.scores(self.model.everything, self._data.training)[0]
            )
            self.model.few.take(self.model.everything, self.chosen)
        super()._begin(stage)

    def _batch(
        self, images: Tensor, labels: Tensor, _generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """As they are: what is turned must not be moved besides."""
        return images, labels

    def _loss(self, _stage: str, outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, labels)

    def _real_optimizer(self, stage: str) -> torch.optim.Optimizer:
        own = self._module(stage)
        assert isinstance(own, Prompted)
        return torch.optim.AdamW(own.parameters_of_task(), lr=RATE, weight_decay=DECAY)


@dataclass(frozen=True)
class Condensed:
    """What came out.

    Attributes
    ----------
    everything, few : Prompted
    scores : list of float
        Of all prompts.
    kept : list of int
        Which are left.
    accuracy_of_all, accuracy : float
        Share of the test images that are right with all prompts and with those.
    """

    everything: Prompted
    few: Prompted
    scores: list[float]
    kept: list[int]
    accuracy_of_all: float
    accuracy: float


def load_transformer(path: Path) -> tuple[VitSettings, Twin, str]:
    """Settings and twin out of a file of `kenyon train vit`, and what tells it from others."""
    try:
        settings = VitSettings.of_fingerprint(str(load(path)["settings"]))
    except (TypeError, ValueError, KeyError):
        raise QuantizationError(f"{path}: must be what kenyon train vit wrote") from None
    twin = load_result(path, (VitSettings,))[1]
    digest = hashlib.sha256()
    for name, value in twin.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return settings, twin, digest.hexdigest()[:16]


def n_unequal(twin: Twin, network: QuantizedNetwork, images: Tensor) -> int:
    """Integers of all layers and images that are not the reference's."""
    ours, images_ints = twin.integers(images), twin.image_ints(images)
    values = reference.run(network, images_ints)
    return sum(int((ints != values[name]).sum()) for name, ints in ours.items() if name in values)


@dataclass(frozen=True)
class Cost:
    """What a network costs on the chip.

    Attributes
    ----------
    prompts, tokens : int
    clocks : int
        Of a frame on the golden machine.
    bound : float
        In closed form: every macro, and the unit of softmax and normalisation, always busy.
    """

    prompts: int
    tokens: int
    clocks: int
    bound: float

    @property
    def ratio(self) -> float:
        """Clocks over the bound."""
        return self.clocks / self.bound


def cost(network: QuantizedNetwork, n_prompts: int, config: MarsConfig, features: Ints) -> Cost:
    """What an image of a network with so many prompts costs."""
    figures = measure(compile_network(network, config), features)
    norm = next(layer for layer in network.layers if isinstance(layer, LayerNorm))
    tokens = network.types[norm.name].shape[1]
    return Cost(n_prompts, tokens, figures.clocks, figures.total("bound"))


def is_equal_on_machine(network: QuantizedNetwork, config: MarsConfig, inputs: Ints) -> bool:
    """Whether the golden machine's results of images are the reference's."""
    wanted = reference.run(network, inputs)[network.output]
    found = on_model(compile_network(network, config), inputs)
    return all(
        np.array_equal(one.output, result) for one, result in zip(found, wanted, strict=True)
    )
