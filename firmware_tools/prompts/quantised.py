"""Condensation on a quantised transformer: frozen integers, and prompts that learn in their steps.

Prompts are shallow, tokens before the others at the input of the first block, or deep: each block
has its own, which are left out behind it. What is trained computes the integers that are exported,
as `firmware_tools.quantize` does everywhere.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.avoid.energy import PJ_PER_MAC
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
from firmware_tools.quantize.vit import DEPTH, WIDTH, VisionTransformer, VitSettings
from model.mars import reference
from model.mars.config import KERNELS, LINE_BYTES, WORD_LINES, MarsConfig
from model.mars.image import Image
from model.mars.mapper import ADDRESS_MASK, compile_network
from model.mars.network import Ints, QuantizedNetwork, Softmax

PROMPTS_MAX = 128


class Prompted(nn.Module):
    """A quantised transformer that stands still, with prompts and a head that learn.

    Parameters
    ----------
    settings : VitSettings
        Of the transformer.
    backbone : Twin
    counts : sequence of int
        Prompts of each block, as of `VisionTransformer`.
    classes, seed : int
    """

    def __init__(
        self,
        settings: VitSettings,
        backbone: Twin,
        counts: Sequence[int],
        classes: int,
        seed: int,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.twin = settings.twin(VisionTransformer(classes, counts))
        self.counts = tuple(counts)
        known = {layer.name: layer for layer in backbone.steps()}
        own = {self.head, *self._tokens()}
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
        """Of each block that may have some."""
        layers, found, before = iter(self._tokens()), [], 0
        for n in self.counts:
            found.append(next(layers).values if before + n else torch.empty(0, WIDTH))
            before = n
        return tuple(found)

    @property
    def head(self) -> Product:
        """The dense layer that says the class."""
        return self.twin.products()[-1]

    def _tokens(self) -> list[ConstantTokens]:
        """The layers behind the class token's: prompts come, or are left out."""
        return [layer for layer in self.twin.steps() if isinstance(layer, ConstantTokens)][1:]

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

    def take(self, other: "Prompted", chosen: Sequence[Tensor]) -> None:
        """Another one's head, and these of its prompts of each block."""
        with torch.no_grad():
            for mine, its, own in zip(self.prompts, other.prompts, chosen, strict=True):
                mine.copy_(its[own])
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
        1..128; deep ones 1..512, of all blocks together.
    deep : bool
        Whether each block has its own.
    keep : float
        Share of them that is kept, above 0, up to 1; at least one is.
    epochs, more_epochs : int
        Of all prompts; then of what is kept, and of all for comparison.
    backbone : str
        Tells transformers apart.
    """

    task: str = "rotated"
    n_prompts: int = 20
    deep: bool = False
    keep: float = 0.3
    epochs: int = 10
    more_epochs: int = 5
    backbone: str = ""

    def __post_init__(self) -> None:
        most = PROMPTS_MAX * (DEPTH if self.deep else 1)
        if not 1 <= self.n_prompts <= most:
            raise QuantizationError(f"prompts must be 1..{most}, not {self.n_prompts}")
        if not 0 < self.keep <= 1:
            raise QuantizationError(f"keep must be above 0, up to 1, not {self.keep:g}")
        super().__post_init__()

    @property
    def counts(self) -> tuple[int, ...]:
        """All prompts of each block that may have some."""
        return condensation.spread(self.n_prompts) if self.deep else (self.n_prompts,)

    @property
    def stages(self) -> dict[str, int]:
        """Epochs of each stage, in order."""
        return {"prompts": self.epochs, "condensed": self.more_epochs, "all": self.more_epochs}

    def fingerprint(self) -> str:
        """JSON text that tells condensations apart."""
        return json.dumps({"condensation": asdict(self)}, sort_keys=True)


class _Both(nn.Module):
    """All prompts, those that are kept, and what each is worth.

    Parameters
    ----------
    make : callable
        A transformer with so many prompts of each block.
    settings : Condensing
    """

    scores: Tensor

    def __init__(self, make: Callable[[Sequence[int]], Prompted], settings: "Condensing") -> None:
        super().__init__()
        self._make, self._settings = make, settings
        self.everything = make(settings.counts)
        self.register_buffer("scores", torch.zeros(settings.n_prompts))
        self._choose(self.scores)

    @property
    def chosen(self) -> tuple[Tensor, ...]:
        """Which prompts of each block are kept."""
        return condensation.kept(self.scores_by_block, self._settings.keep)

    @property
    def scores_by_block(self) -> tuple[Tensor, ...]:
        """As of `condensation.scores`."""
        return tuple(torch.split(self.scores, list(self._settings.counts)))

    def condense(self, scores: Sequence[Tensor]) -> None:
        """Keep the best."""
        self._choose(torch.cat(list(scores)))
        self.few.take(self.everything, self.chosen)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        self._choose(state_dict["scores"])
        return super().load_state_dict(state_dict, *args, **options)

    def _choose(self, scores: Tensor) -> None:
        self.scores.copy_(scores)
        self.few = self._make([len(own) for own in self.chosen])


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
        def make(counts: Sequence[int]) -> Prompted:
            return Prompted(vit, backbone, counts, task.classes, settings.seed)

        super().__init__(settings, task.data, checkpoint, _Both(make, settings))

    @property
    def test(self) -> Part:
        """What is measured with."""
        return self._data.test

    def finish(self) -> "Condensed":
        """What came out, measured on the test set."""
        both = self.model.eval()
        return Condensed(
            everything=both.everything,
            few=both.few,
            scores=[own.tolist() for own in both.scores_by_block],
            kept=[own.tolist() for own in both.chosen],
            accuracy_of_all=accuracy(both.everything, self.test),
            accuracy=accuracy(both.few, self.test),
        )

    def _module(self, stage: str) -> nn.Module:
        return self.model.few if stage == "condensed" else self.model.everything

    def _begin(self, stage: str) -> None:
        if stage == "condensed":
            self.model.train()
            self.model.condense(condensation.scores(self.model.everything, self._data.training))
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
    scores : list of list of float
        Of all prompts, by block.
    kept : list of list of int
        Which are left of each block.
    accuracy_of_all, accuracy : float
        Share of the test images that are right with all prompts and with those.
    """

    everything: Prompted
    few: Prompted
    scores: list[list[float]]
    kept: list[list[int]]
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
    prompts : int
    tokens : list of int
        Of each block.
    clocks : int
        Of a frame on the golden machine.
    bound : float
        In closed form: every macro, and the unit of softmax and normalisation, always busy.
    macs : int
        Multiply-accumulates of 4 x 4 bit that the macros make.
    program_bytes : int
        In memory: weights, headers, descriptors.
    feature_words : int
        Of 64 bits, up to which the feature memory of a macro is used.
    """

    prompts: int
    tokens: list[int]
    clocks: int
    bound: float
    macs: int
    program_bytes: int
    feature_words: int

    @property
    def ratio(self) -> float:
        """Clocks over the bound."""
        return self.clocks / self.bound

    @property
    def tokens_text(self) -> str:
        """Tokens of all blocks, or of each."""
        return " ".join(map(str, self.tokens if len(set(self.tokens)) > 1 else self.tokens[:1]))

    @property
    def energy_uj(self) -> float:
        """An estimate: what a convolution took for each of its products, softmax left out."""
        return self.macs * PJ_PER_MAC / 1e6

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {**asdict(self), "ratio": self.ratio, "energy_uj": self.energy_uj}


def cost(network: QuantizedNetwork, n_prompts: int, config: MarsConfig, features: Ints) -> Cost:
    """What an image of a network with so many prompts costs."""
    image = compile_network(network, config)
    figures = measure(image, features)
    attended = [layer for layer in network.layers if isinstance(layer, Softmax)]
    return Cost(
        n_prompts,
        [network.types[layer.name].shape[1] for layer in attended],
        figures.clocks,
        figures.total("bound"),
        WORD_LINES * KERNELS * figures.total("accesses"),
        len(image.lines) * LINE_BYTES,
        _feature_words(image),
    )


def _feature_words(image: Image) -> int:
    """The end of the last row that a pass writes into any macro."""
    written = (one.descriptor for one in image.passes)
    return max(
        base + end * d.out_row_pitch & ADDRESS_MASK
        for d in written
        for base, first, end in zip(d.out_base, d.out_first_row, d.out_end_row, strict=True)
        if first < end
    )


def is_equal_on_machine(network: QuantizedNetwork, config: MarsConfig, inputs: Ints) -> bool:
    """Whether the golden machine's results of images are the reference's."""
    wanted = reference.run(network, inputs)[network.output]
    found = on_model(compile_network(network, config), inputs)
    return all(
        np.array_equal(one.output, result) for one, result in zip(found, wanted, strict=True)
    )
