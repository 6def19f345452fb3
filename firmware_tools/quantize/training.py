"""Training in stages that can be interrupted: float, then quantised, sparse if wanted.

Whatever is random comes from a generator seeded by seed, stage and epoch, and learning rates follow
from the number of the step, so a checkpoint after an epoch is all that has to be kept, and what is
resumed ends with the same weights.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.interrupts import uninterrupted
from firmware_tools.quantize.digits import Data, DigitsNet, Part, augmented
from firmware_tools.quantize.errors import QuantizationError
from firmware_tools.quantize.quantizers import Quantizer
from firmware_tools.quantize.sparsity import group_lasso, group_sparsity, prune
from firmware_tools.quantize.twin import Twin, calibrate, export, quantize
from model.mars.network import QuantizedNetwork

BATCH = 64
MOMENTUM = 0.9
FLOAT_RATE, FLOAT_DECAY = 0.03, 1e-4
RATE, DECAY = 0.02, 1e-4
SPARSE_RATE = 0.01
"""While group-sets are pruned: what is left must not lose its way."""
SCALE_SHARE = 2.5
"""Learning rate of the scales, relative to that of the weights."""
SMOOTHING = 0.1
"""Of the labels, in the float training."""
CALIBRATION_IMAGES = 256
PRUNING_SHARE = 0.7
"""Of the sparse epochs, after each of which more is pruned."""
VERSION = 1
"""Counts changes of what settings mean."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trainings have in common.

    Parameters
    ----------
    seed : int
    float_epochs : int
        Of the network with real weights, the first stage.
    """

    seed: int = 0
    float_epochs: int = 30

    def __post_init__(self) -> None:
        for name, epochs in self.stages.items():
            if epochs < 1:
                # Stages have the names of their fields, but for "quantised".
                what = "epochs" if name == "quantised" else f"{name}_epochs"
                raise QuantizationError(f"{what} must be at least 1, not {epochs}")

    @property
    def stages(self) -> dict[str, int]:
        """Epochs of each stage, in order; the first one is "float"."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """JSON text that tells trainings apart."""
        raise NotImplementedError

    @staticmethod
    def of_fingerprint(text: str) -> "Plan":
        """The settings that have this fingerprint; ValueError if it is of another version."""
        raise NotImplementedError

    def new_model(self) -> nn.Module:
        """The network with real weights that the first stage trains."""
        return DigitsNet()

    def twin(self, model: nn.Module) -> Twin:
        """The twin of a float network."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Settings(Plan):
    """What a training of a quantised network is.

    Parameters
    ----------
    weight_bits, act_bits : int
        2..8.
    quantizer : str
        lg-lsq, lsq, ste, pact or ewgs.
    sparsity : float
        Share of the group-sets that is to be zero, 0..1.
    seed : int
    float_epochs, sparse_epochs, epochs : int
        Of the float network; quantised with the group lasso, only if sparsity is wanted;
        quantised, with what has been pruned fixed.
    lasso : float
        Factor of the group lasso.
    options : (str, bool) pairs
        For the quantiser: ssg, asr, mde, three_valued.
    """

    weight_bits: int = 3
    act_bits: int = 3
    quantizer: str = "lg-lsq"
    sparsity: float = 0.0
    sparse_epochs: int = 20
    epochs: int = 15
    lasso: float = 1e-4
    options: tuple[tuple[str, bool], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise QuantizationError(f"sparsity must be 0..1, below 1, not {self.sparsity:g}")
        super().__post_init__()

    @property
    def name(self) -> str:
        """Of the network."""
        return "digits"

    @property
    def stages(self) -> dict[str, int]:
        """Epochs of each stage, in order."""
        sparse = {"sparse": self.sparse_epochs} if self.sparsity else {}
        return {"float": self.float_epochs, **sparse, "quantised": self.epochs}

    def fingerprint(self) -> str:
        """JSON text that tells trainings apart."""
        fields = {"version": VERSION, **asdict(self)}
        if not self.sparsity:
            del fields["sparse_epochs"], fields["lasso"]
        return json.dumps(fields, sort_keys=True)

    @staticmethod
    def of_fingerprint(text: str) -> "Settings":
        """The settings that have this fingerprint; ValueError if it is of another version."""
        fields = json.loads(text)
        if fields.pop("version") != VERSION:
            raise ValueError("another version's")
        named = fields.pop("options", ())
        options = tuple((str(name), bool(value)) for name, value in named)
        return Settings(**fields, options=options)

    def twin(self, model: nn.Module) -> Twin:
        """The quantised twin of a float network."""
        return quantize(
            model, self.weight_bits, self.act_bits, self.quantizer, **dict(self.options)
        )


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes
    ----------
    model : nn.Module
        The float network.
    twin : Twin
    network : QuantizedNetwork
    float_accuracy, accuracy : float
        Share of the test images that the float network and the exported one get right.
    group_sparsity : float
        Of the exported network.
    """

    model: nn.Module
    twin: Twin
    network: QuantizedNetwork
    float_accuracy: float
    accuracy: float
    group_sparsity: float

    def as_json(self) -> dict[str, object]:
        """The figures."""
        return {
            "float_accuracy": self.float_accuracy,
            "accuracy": self.accuracy,
            "group_sparsity": self.group_sparsity,
        }


def parameter_groups(twin: Twin, rate: float = RATE) -> list[dict[str, Any]]:
    """Groups for an optimiser: scales have their own rate and no weight decay."""
    scales = {
        id(parameter)
        for module in twin.modules()
        if isinstance(module, Quantizer)
        for parameter in module.parameters(recurse=False)
    }
    parameters = list(twin.parameters())
    return [
        {"params": [p for p in parameters if id(p) not in scales], "lr": rate},
        {
            "params": [p for p in parameters if id(p) in scales],
            "lr": rate * SCALE_SHARE,
            "weight_decay": 0.0,
        },
    ]


def accuracy(model: nn.Module, part: Part) -> float:
    """Share of the images that are classified rightly."""
    model.eval()
    with torch.no_grad():
        hits = model(part.images).argmax(1) == part.labels
    return float(hits.double().mean())


class StagedTraining:
    """A training, epoch by epoch.

    Parameters
    ----------
    settings : Plan
    data : Data
    checkpoint : Path or None
        Written after every epoch, read if it is there, removed by `finish`.
    model : nn.Module or None
        A float network that has been trained already, in place of the first stage.

    Attributes
    ----------
    losses : list of (str, float)
        Stage and mean loss of the epochs that have been done.

    Raises
    ------
    QuantizationError
        The checkpoint is another training's, or damaged.
    """

    real_stages: ClassVar[frozenset[str]] = frozenset({"float"})
    """Those that train the network with real weights."""

    def __init__(
        self,
        settings: Plan,
        data: Data,
        checkpoint: Path | None = None,
        model: nn.Module | None = None,
    ) -> None:
        self.settings = settings
        self._data = data
        self._checkpoint = checkpoint
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = settings.new_model() if model is None else model
        # A torch module's stubs do not know the faster order of a map's values.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._schedule = [
            (stage, epoch)
            for stage, epochs in settings.stages.items()
            for epoch in range(epochs)
            if stage != "float" or model is None
        ]
        self.twin: Twin | None = None
        self.done = 0
        self.losses: list[tuple[str, float]] = []
        self._optimizer: torch.optim.Optimizer | None = None
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def __len__(self) -> int:
        """Epochs in all."""
        return len(self._schedule)

    def run(self) -> Iterator[tuple[str, int]]:
        """Train; after every epoch the stage, and how many epochs have been done in all."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums depend on the number of threads
        try:
            while self.done < len(self):
                stage, epoch = self._schedule[self.done]
                self._epoch(stage, epoch)
                with uninterrupted():
                    self.done += 1
                    self._save()
                yield stage, self.done
        finally:
            torch.set_num_threads(threads)

    def discard_checkpoint(self) -> None:
        """Remove the checkpoint, once the result is safe."""
        if self._checkpoint is not None:
            self._checkpoint.unlink(missing_ok=True)

    def _epoch(self, stage: str, epoch: int) -> None:
        if epoch == 0:
            self._begin(stage)
        module = self._module(stage)
        assert self._optimizer is not None
        module.train()
        generator = torch.Generator().manual_seed(self._epoch_seed(stage, epoch))
        part = self._data.training
        order = torch.randperm(len(part), generator=generator).split(BATCH)
        total = 0.0
        for k, batch in enumerate(order):
            self._set_rate((epoch + k / len(order)) / self.settings.stages[stage])
            images, labels = self._batch(part.images[batch], part.labels[batch], generator)
            loss = self._loss(stage, module(images), labels)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            total += loss.item() * len(batch)
        self.losses.append((stage, total / len(part)))
        self._after(stage, epoch)

    def _batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Images and labels as they are learned from: augmented."""
        return augmented(images, generator), labels

    def _first_images(self) -> Tensor:
        """What scales start from."""
        return self._data.training.images[:CALIBRATION_IMAGES]

    def _after(self, stage: str, epoch: int) -> None:
        """What follows an epoch."""

    def _loss(self, stage: str, outputs: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def _module(self, stage: str) -> nn.Module:
        if stage in self.real_stages:
            return self.model
        assert self.twin is not None
        return self.twin

    def _begin(self, stage: str) -> None:
        """A stage has its own optimiser; the first quantised one makes the twin."""
        if stage not in self.real_stages and self.twin is None:
            self.model.eval()
            self.twin = self.settings.twin(self.model)
            calibrate(self.twin, self._first_images())
        self._enter(stage)
        self._optimizer = self._new_optimizer(stage)

    def _enter(self, stage: str) -> None:
        """What a stage changes before it begins, or goes on."""

    def _new_optimizer(self, stage: str) -> torch.optim.Optimizer:
        is_real = stage in self.real_stages
        optimizer = self._real_optimizer(stage) if is_real else self._twin_optimizer(stage)
        for group in optimizer.param_groups:
            group["first_lr"] = group["lr"]
        return optimizer

    def _real_optimizer(self, _stage: str) -> torch.optim.Optimizer:
        return descent([{"params": list(self.model.parameters())}], FLOAT_RATE, FLOAT_DECAY)

    def _twin_optimizer(self, stage: str) -> torch.optim.Optimizer:
        raise NotImplementedError

    def _set_rate(self, progress: float) -> None:
        """Half a cosine, from the first rate down to 0."""
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = group["first_lr"] * (1 + math.cos(math.pi * progress)) / 2

    def _epoch_seed(self, stage: str, epoch: int) -> int:
        text = f"{self.settings.seed} {stage} {epoch}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        assert self._optimizer is not None
        state = {
            "settings": self.settings.fingerprint(),
            "done": self.done,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "twin": None if self.twin is None else self.twin.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        save(state, self._checkpoint)

    def _resume(self, path: Path) -> None:
        state = load(path)
        if state.get("settings") != self.settings.fingerprint():
            raise QuantizationError(
                f"{path}: must be a checkpoint of the same settings; remove it to start anew"
            )
        self.done = state["done"]
        # Of a checkpoint of an earlier version they are not known.
        self.losses = [(stage, loss) for stage, loss in state.get("losses", ())]
        self.model.load_state_dict(state["model"])
        if state["twin"] is not None:
            self.twin = self.settings.twin(self.model)
            self.twin.load_state_dict(state["twin"])
        stage = self._schedule[self.done - 1][0]
        self._enter(stage)
        self._optimizer = self._new_optimizer(stage)
        self._optimizer.load_state_dict(state["optimizer"])


def descent(groups: list[dict[str, Any]], rate: float, decay: float) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov's momentum."""
    return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, weight_decay=decay, nesterov=True)


class Training(StagedTraining):
    """The training of a quantised network; parameters as of `StagedTraining`."""

    settings: Settings

    def __init__(
        self,
        settings: Settings,
        data: Data,
        checkpoint: Path | None = None,
        model: nn.Module | None = None,
    ) -> None:
        super().__init__(settings, data, checkpoint, model)

    def finish(self) -> Result:
        """What came out, measured on the test set."""
        assert self.twin is not None
        self.twin.eval()
        network = export(self.twin, self.settings.name)
        test = self._data.test
        return Result(
            self.model,
            self.twin,
            network,
            accuracy(self.model, test),
            accuracy(self.twin, test),
            group_sparsity(network),
        )

    def _after(self, stage: str, epoch: int) -> None:
        """More and more is pruned, first much, then little, nothing at the end: it recovers."""
        if stage != "sparse":
            return
        assert self.twin is not None
        progress = (epoch + 1) / (PRUNING_SHARE * self.settings.sparse_epochs)
        rest = max(1 - progress, 0.0)
        prune(self.twin, self.settings.sparsity * (1 - rest**3))

    def _loss(self, stage: str, outputs: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(outputs, labels, label_smoothing=SMOOTHING)
        if stage != "sparse":
            return loss
        assert self.twin is not None
        return loss + self.settings.lasso * group_lasso(self.twin)

    def _begin(self, stage: str) -> None:
        super()._begin(stage)
        if stage == "quantised" and self.settings.sparsity:
            assert self.twin is not None
            images = self._data.training.images[:CALIBRATION_IMAGES]
            calibrate(self.twin, images, again=True)

    def _enter(self, stage: str) -> None:
        """Pruning works on real numbers; only what is left is rounded."""
        if self.twin is not None:
            self.twin.smooth(stage == "sparse")

    def _twin_optimizer(self, stage: str) -> torch.optim.Optimizer:
        assert self.twin is not None
        rate = SPARSE_RATE if stage == "sparse" else RATE
        return descent(parameter_groups(self.twin, rate), rate, DECAY)


def save(state: dict[str, Any], path: Path) -> None:
    """Write a file of tensors at once: what was there stays until the new one is complete."""
    part = path.with_name(f"{path.name}.part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a file of tensors, and nothing that could run."""
    try:
        state = torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise QuantizationError(f"{path}: no such file") from None
    except Exception:  # noqa: BLE001  (torch raises whatever the bytes lead it to)
        # torch's own texts advise to load what could run.
        raise QuantizationError(
            f"{path}: must be a file of kenyon train, cut or damaged?"
        ) from None
    if not isinstance(state, dict) or "settings" not in state:
        raise QuantizationError(f"{path}: must be a file of kenyon train")
    return state


def train(
    training: Training, on_epoch: Callable[[str, int], None] = lambda _stage, _done: None
) -> Result:
    """Run a training to its end."""
    for stage, done in training.run():
        on_epoch(stage, done)
    return training.finish()


def save_result(settings: Plan, model: nn.Module, twin: Twin, path: Path) -> None:
    """Write the float network and its twin."""
    state = {
        "settings": settings.fingerprint(),
        "model": model.state_dict(),
        "twin": twin.state_dict(),
    }
    save(state, path)


def _plan(text: str, plans: tuple[type[Plan], ...]) -> Plan:
    """The settings of a fingerprint; ValueError or TypeError if no kind of them has it."""
    for kind in plans[:-1]:
        with contextlib.suppress(TypeError):
            return kind.of_fingerprint(text)
    return plans[-1].of_fingerprint(text)


def load_result(path: Path, plans: tuple[type[Plan], ...] = (Settings,)) -> tuple[nn.Module, Twin]:
    """The float network and its twin out of a file, whose settings are of one of some kinds."""
    state = load(path)
    try:
        settings = _plan(state["settings"], plans)
        model = settings.new_model()
        model.load_state_dict(state["model"])
        model.eval()
        twin = settings.twin(model)
        twin.load_state_dict(state["twin"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise QuantizationError(
            f"{path}: must be what this version of kenyon train wrote ({reason})"
        ) from None
    twin.eval()
    return model, twin
