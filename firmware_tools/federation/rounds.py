"""A federation: rounds of sampling, local training and aggregation, that can be interrupted."""

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_tools.errors import UserError
from firmware_tools.federation import supernet
from firmware_tools.federation.aggregation import Update, aggregate
from firmware_tools.federation.client import ClientJob, packed, unpacked
from firmware_tools.federation.partition import DataName, client_images
from firmware_tools.federation.sampling import Sampler, least_distance, sample
from firmware_tools.federation.space import GENES, Genome, Subnet
from firmware_tools.federation.supernet import Weights
from firmware_tools.interrupts import uninterrupted
from firmware_tools.jobs.campaign import results
from firmware_tools.jobs.job import JSON, Executor

RATE = 0.2
VERSION = 1
"""Counts changes of what settings mean."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a federation is.

    Parameters
    ----------
    data : str
        digits or mnist.
    clients : int
    alpha : float
        Of the Dirichlet distribution that shares out each class.
    rounds : int
    sampler : str
        diverse, hadamard, uniform, or full: every client trains all sub-networks of a round.
    samples : int
        Sub-networks of a round; client c trains number ``c % samples``.
    epochs : int
        Of local training in a round.
    prune : float
        Share of the units that could go which a client prunes, 0..1.
    seed : int
    """

    data: DataName = "digits"
    clients: int = 16
    alpha: float = 0.3
    rounds: int = 40
    sampler: Sampler = "diverse"
    samples: int = 8
    epochs: int = 2
    prune: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.prune < 1:
            raise UserError(f"prune must be 0..1, below 1, not {self.prune:g}")
        if self.sampler != "full" and self.samples > self.clients:
            raise UserError(
                f"samples must be at most {self.clients}, a client each, not {self.samples}"
            )
        self.genomes(0)
        client_images(self.data, self.clients, self.alpha, self.seed)

    def genomes(self, k: int) -> list[Genome]:
        """The sub-networks of round k."""
        return sample(self.sampler, GENES, self.samples, k, self.rounds, self.seed)

    def rate(self, k: int) -> float:
        """Learning rate of round k: half a cosine, down to 0."""
        return RATE * (1 + math.cos(math.pi * k / self.rounds)) / 2

    def fingerprint(self) -> str:
        """JSON text that tells federations apart."""
        return json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)


@dataclass(frozen=True)
class Work:
    """What clients have done.

    Attributes
    ----------
    macs : int
        Multiply-accumulates of the forward passes, times images and epochs.
    bytes : int
        Weights to the clients and back.
    """

    macs: int = 0
    bytes: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.bytes + other.bytes)

    @property
    def total(self) -> int:
        """Both, a byte as much as a multiply-accumulate."""
        return self.macs + self.bytes


@dataclass(frozen=True)
class Round:
    """What is known of a round.

    Attributes
    ----------
    distance : int
        The least one of two of its sub-networks.
    work : Work
        Of its clients.
    """

    distance: int
    work: Work


class Federation:
    """The rounds, with the supernet's weights between them.

    Parameters
    ----------
    settings : Settings
    executor : Executor
        Runs the clients.
    checkpoint : Path, optional
        Written after every round, read if it is there.

    Attributes
    ----------
    weights : (N,) float32
    history : list of Round

    Raises
    ------
    UserError
        The checkpoint is another federation's, or damaged.
    """

    def __init__(
        self, settings: Settings, executor: Executor, checkpoint: Path | None = None
    ) -> None:
        self.settings = settings
        self._executor = executor
        self._checkpoint = checkpoint
        self.weights = supernet.initial(settings.seed)
        self.history: list[Round] = []
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    @property
    def work(self) -> Work:
        """Of all rounds."""
        return sum((one.work for one in self.history), Work())

    def run(self) -> Iterator[int]:
        """Go on until all rounds are done; yields how many are after each."""
        while len(self.history) < self.settings.rounds:
            weights, done = self._round(len(self.history))
            with uninterrupted():
                self.weights = weights
                self.history.append(done)
                self._save()
            yield len(self.history)

    def discard_checkpoint(self) -> None:
        """Remove the checkpoint, once the result is safe."""
        if self._checkpoint is not None:
            self._checkpoint.unlink(missing_ok=True)

    def _round(self, k: int) -> tuple[Weights, Round]:
        genomes = self.settings.genomes(k)
        jobs = self._jobs(genomes, k)
        found = {(job.client, job.number): result for job, result in self._run(jobs)}
        inorder = [(job, found[job.client, job.number]) for job in jobs]
        weights = aggregate(self.weights, [_update(job, result) for job, result in inorder])
        work = sum((Work(result["macs"], result["bytes"]) for _, result in inorder), Work())
        return weights, Round(least_distance(genomes), work)

    def _run(self, jobs: list[ClientJob]) -> Iterator[tuple[ClientJob, JSON]]:
        for done in results(jobs, self._executor):
            yield done.job, done.result

    def _jobs(self, genomes: list[Genome], k: int) -> list[ClientJob]:
        s = self.settings
        texts = [packed(self.weights[supernet.positions(Subnet.of(one))]) for one in genomes]
        return [
            ClientJob(
                data=s.data,
                n_clients=s.clients,
                alpha=s.alpha,
                seed=s.seed,
                client=client,
                k=k,
                number=number,
                genome=genomes[number],
                weights=texts[number],
                epochs=s.epochs,
                rate=s.rate(k),
                prune=s.prune,
            )
            for client in range(s.clients)
            for number in (range(s.samples) if s.sampler == "full" else (client % s.samples,))
        ]

    def _save(self) -> None:
        if self._checkpoint is None:
            return
        about = {
            "settings": self.settings.fingerprint(),
            "history": [[one.distance, one.work.macs, one.work.bytes] for one in self.history],
        }
        part = self._checkpoint.with_name(f"{self._checkpoint.name}.part")
        with part.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), weights=self.weights)
        part.replace(self._checkpoint)

    def _resume(self, path: Path) -> None:
        about, weights = _read(path)
        if about["settings"] != self.settings.fingerprint():
            raise UserError(
                f"{path}: must be a checkpoint of the same settings; remove it to start anew"
            )
        self.weights = weights
        self.history = [
            Round(distance, Work(macs, n_bytes)) for distance, macs, n_bytes in about["history"]
        ]


def _read(path: Path) -> tuple[dict[str, Any], Weights]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            about, weights = json.loads(str(file["about"])), file["weights"]
        if weights.shape == (supernet.size(),) and weights.dtype == np.float32:
            return about, weights
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    raise UserError(f"{path}: must be the checkpoint of a federation, cut or damaged?")


def _update(job: ClientJob, result: JSON) -> Update:
    units = tuple(tuple(own) for own in result["units"])
    held = supernet.positions(Subnet(job.genome, units))
    return Update(held, unpacked(result["weights"]), result["n_images"])
