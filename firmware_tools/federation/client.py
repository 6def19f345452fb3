"""A client's part of a round: prune the sub-network that it got, train it, send it back."""

import base64
import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.federation import supernet
from firmware_tools.federation.partition import DataName, client_images, load
from firmware_tools.federation.space import BLOCKS, UNIT, Genome, Place, Subnet
from firmware_tools.federation.supernet import Weights
from firmware_tools.jobs import code
from firmware_tools.jobs.job import JSON
from firmware_tools.quantize.digits import Part
from hw.cache import key

BATCH = 32
SCORED_IMAGES = 32
"""With which a client finds out which units it does without."""
BYTES = 4
"""Of a weight, on its way."""


@dataclass(frozen=True)
class ClientJob:
    """Local training; a job of an `Executor`.

    Attributes
    ----------
    data : str
    n_clients : int
    alpha : float
    seed : int
    client, k, number : int
        Client, round, and which of the round's sub-networks.
    genome : Genome
    weights : str
        What the client gets, as base64 of float32.
    epochs : int
    rate : float
        Of plain stochastic gradient descent.
    prune : float
        Share of the units that could go which do.
    """

    data: DataName
    n_clients: int
    alpha: float
    seed: int
    client: int
    k: int
    number: int
    genome: Genome
    weights: str
    epochs: int
    rate: float
    prune: float

    @property
    def key(self) -> str:
        fields = (f"{name}={value}" for name, value in asdict(self).items())
        return key(code.digest((__name__,)), torch.__version__, *fields)

    def __str__(self) -> str:
        return f"client {self.client} in round {self.k}"

    def keeps(self, result: JSON) -> bool:  # noqa: ARG002
        """A federation keeps its weights after every round, which is less."""
        return False

    def run(self) -> JSON:
        torch.set_num_threads(1)  # sums depend on the number of threads
        training = load(self.data).training
        own = client_images(self.data, self.n_clients, self.alpha, self.seed)[self.client]
        part = Part(training.images[own], training.labels[own])
        whole = Subnet.of(self.genome)
        weights = np.zeros(supernet.size(), np.float32)
        weights[supernet.positions(whole)] = unpacked(self.weights)
        subnet, macs = whole, 0
        if self.prune:
            some = Part(part.images[:SCORED_IMAGES], part.labels[:SCORED_IMAGES])
            subnet = pruned(whole, weights, some, self.prune)
            macs = whole.macs * len(some)
        network = supernet.module(subnet, weights)
        for epoch in range(self.epochs):
            order = _generator(self.seed, self.k, self.client, self.number, epoch)
            train_epoch(network, part, self.rate, order)
        learned = supernet.learned(subnet, network)
        return {
            "units": subnet.units,
            "weights": packed(learned),
            "n_images": len(part),
            "macs": macs + self.epochs * len(part) * subnet.macs,
            "bytes": BYTES * (len(supernet.positions(whole)) + len(learned)),
        }


def train_epoch(network: nn.Module, part: Part, rate: float, order: torch.Generator) -> None:
    """Every image once, in batches, by plain stochastic gradient descent."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    for batch in torch.randperm(len(part), generator=order).split(BATCH):
        optimizer.zero_grad()
        functional.cross_entropy(network(part.images[batch]), part.labels[batch]).backward()
        optimizer.step()


def pruned(subnet: Subnet, weights: Weights, part: Part, share: float) -> Subnet:
    """The sub-network without the units that a client's images need least.

    A unit's score is the first-order change of the loss if its 16 channels were 0, by the scales
    and shifts of their normalisation: ``|sum(gamma * dL/dgamma + beta * dL/dbeta)|``. Units inside
    all blocks are ranked together, and each block keeps one.

    Parameters
    ----------
    subnet : Subnet
    weights : (N,) float32
        Of the supernet.
    part : Part
        Images with which the loss is taken.
    share : float
        0..1, of the units that could go.
    """
    network = supernet.module(subnet, weights).train()
    functional.cross_entropy(network(part.images), part.labels).backward()
    units = [list(own) for own in subnet.units]
    ranked = sorted(
        (score, k + 1, unit)
        for k, place in enumerate(BLOCKS)
        if subnet.block(k)
        for unit, score in zip(units[k + 1], _scores(network, place), strict=True)
    )
    left = int(share * sum(len(own) - 1 for own in units[1:] if own))
    for _score, k, unit in ranked:
        if left and len(units[k]) > 1:
            units[k].remove(unit)
            left -= 1
    return Subnet(subnet.genome, tuple(map(tuple, units)))


def _scores(network: nn.Module, place: Place) -> list[float]:
    norm: Any = network.get_submodule(f"{place.name}_in_norm")
    change: Tensor = norm.weight * norm.weight.grad + norm.bias * norm.bias.grad
    return [float(x) for x in change.detach().reshape(-1, UNIT).sum(1).abs()]


def _generator(*numbers: int) -> torch.Generator:
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


def packed(weights: Weights) -> str:
    """Weights as text."""
    return base64.b64encode(weights.astype("<f4").tobytes()).decode()


def unpacked(text: str) -> Weights:
    """Weights out of their text."""
    return np.frombuffer(base64.b64decode(text), "<f4")
