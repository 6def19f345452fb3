"""Phase 1: logits for each layer's options, moved by the gradient of what the choice costs.

Forward, each layer takes the option of its largest logit; backward, the gradient goes through the
softmax (straight-through). Of area, energy and time, which the objective is made of, the gradient
of a choice is known exactly: sums over layers, links that join two, a core for each kind of
chiplet.

    ``loss = log cost + PENALTY * max(0, log(noise/target))``

is minimised for many targets at once, one network each. What logits cannot decide, one or two
layers that change together, is then tried for all of the front.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from firmware_tools.costs.system import Choices
from firmware_tools.search.space import Archive, Space

Numbers = NDArray[np.float64]
TARGETS, STEPS = 64, 200
RATE, BETAS, EPSILON = 0.1, (0.9, 0.99), 1e-8
PENALTY = 4.0
SPREAD = 0.5
"""Standard deviation of the first logits."""
FLOOR = 1e-9
"""Noise that is taken to be none."""
MEMBERS, NEIGHBOURS = 256, 4096
"""Of the front, whose neighbours are tried at once, and neighbours of each, at most."""
ROUNDS = 60


def search(archive: Archive, seed: int) -> Iterator[int]:
    """Fill an archive; yields what has been priced."""
    rng = np.random.default_rng(seed)
    archive.add(archive.space.homogeneous())
    yield archive.n_priced
    for choices in descend(archive.space, rng):
        archive.add(choices)
        yield archive.n_priced
    yield from improve(archive, rng)


def descend(space: Space, rng: np.random.Generator) -> Iterator[Choices]:
    """The networks of all targets, step by step, (targets, layers)."""
    n_layers, n_options = space.shape
    total = space.noise_table.max(axis=1).sum()
    least = max(FLOOR, float(space.noise_table[space.noise_table > 0].min(initial=1.0)) / 2)
    targets = np.geomspace(least, max(total, 2 * least), TARGETS)
    logits = SPREAD * rng.standard_normal((TARGETS, n_layers, n_options))
    mean, square = np.zeros_like(logits), np.zeros_like(logits)
    for step in range(1, STEPS + 1):
        choices = logits.argmax(axis=-1)
        yield choices
        slope = gradient(space, choices, targets)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        slope = shares * (slope - (shares * slope).sum(axis=-1, keepdims=True))
        mean = BETAS[0] * mean + (1 - BETAS[0]) * slope
        square = BETAS[1] * square + (1 - BETAS[1]) * slope**2
        moved = mean / (1 - BETAS[0] ** step)
        logits -= RATE * moved / (np.sqrt(square / (1 - BETAS[1] ** step)) + EPSILON)


def gradient(space: Space, choices: Choices, targets: Numbers) -> Numbers:
    """Of the loss by the gate of each option, (networks, layers, options)."""
    totals, table, system = space.totals(choices), space.system.table, space.system
    kinds = system.options.kind
    area, energy, time = (
        np.repeat(one[np.newaxis], len(choices), axis=0)
        for one in (table.area, table.energy, table.time)
    )
    end, pj, ns = system.crossing()
    taken = kinds[choices]
    for begin, to, sizes in system.links:
        for here, there in ((begin, to), (to, begin)):
            bits = sizes if here == to else sizes[choices[:, to], np.newaxis]
            crossing = bits * (kinds != taken[:, there, np.newaxis])
            energy[:, here] += crossing * pj
            time[:, here] += crossing * ns
    users = (taken[:, :, np.newaxis] == np.arange(system.n_kinds)).sum(axis=1)
    others = users[:, np.newaxis, :] - (taken[:, :, np.newaxis] == np.arange(system.n_kinds))
    area += (system.core_area + end) * (others == 0)[:, :, kinds]
    weigh = {"tops-per-mm2": (1, 0, 1), "energy": (0, 1, 0), "edp": (0, 1, 1)}[space.objective]
    pairs = ((area, totals.area), (energy, totals.energy), (time, totals.time))
    slope = np.zeros_like(area)
    for weight, (part, whole) in zip(weigh, pairs, strict=True):
        slope += weight * part / whole[:, np.newaxis, np.newaxis]
    noise = space.noise(choices)
    is_over = np.where(noise > targets, PENALTY / np.maximum(noise, FLOOR), 0.0)
    return slope + is_over[:, np.newaxis, np.newaxis] * space.noise_table


def improve(archive: Archive, rng: np.random.Generator) -> Iterator[int]:
    """Change one or two layers of the front's networks, until nothing is gained by it."""
    changes = _changes(archive.space, rng)
    n_options = archive.space.shape[1]
    tried: set[bytes] = set()
    for _ in range(ROUNDS):
        fresh = [one for one in archive.choices if one.tobytes() not in tried]
        if not fresh:
            return
        every = -(-len(fresh) // MEMBERS)
        for member in fresh[::every]:
            tried.add(member.tobytes())
        neighbours = [(one + changes) % n_options for one in fresh[::every]]
        archive.add(np.concatenate(neighbours))
        yield archive.n_priced


def _changes(space: Space, rng: np.random.Generator) -> Choices:
    """How far each layer's option moves, of all single changes and of pairs, (N, layers)."""
    n_layers, n_options = space.shape
    each = np.eye(n_layers, dtype=np.int64)
    rows = [each[layer] * shift for layer in range(n_layers) for shift in range(1, n_options)]
    n_singles = len(rows)
    for a, b in combinations(range(n_layers), 2):
        rows += [
            rows[a * (n_options - 1) + i] + rows[b * (n_options - 1) + j]
            for i in range(n_options - 1)
            for j in range(n_options - 1)
        ]
    found = np.stack(rows) if rows else np.zeros((0, n_layers), np.int64)
    if len(found) > NEIGHBOURS:
        pairs = n_singles + rng.permutation(len(found) - n_singles)[: NEIGHBOURS - n_singles]
        found = np.concatenate([found[:n_singles], found[np.sort(pairs)]])
    return found % n_options
