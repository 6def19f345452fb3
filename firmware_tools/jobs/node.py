"""What runs on the workers of a cluster."""

import platform
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from firmware_tools.jobs import code
from firmware_tools.jobs.job import JSON, Job, timed
from firmware_tools.jobs.store import Store


class OtherVersionError(RuntimeError):
    """A worker is not what the one who asks is; the text says in what."""


@lru_cache
def versions() -> dict[str, str]:
    """What must be the same everywhere, as it was when this process asked first."""
    return {
        "kenyon": version("kenyon"),
        "code": code.everything()[:8],
        "Python": platform.python_version(),
        "dask.distributed": version("distributed"),
    }


def difference(own: dict[str, str], other: dict[str, str]) -> str:
    """In what two differ, as text, empty if in nothing."""
    return ", ".join(
        f"{what} must be {own[what]}, not {other.get(what)}"
        for what in own
        if own[what] != other.get(what)
    )


def perform(job: Job, expected: dict[str, str], *, fresh: bool) -> tuple[JSON, float]:
    """The result of a job and its seconds, from the store of this node if it is there.

    It is written before it is sent: a worker that dies afterwards has not worked for nothing.

    Parameters
    ----------
    job : Job
    expected : {str: str}
        Versions of whoever asks.
    fresh : bool
        Run it in any case.

    Raises
    ------
    OtherVersionError
        This worker has others.
    """
    other = difference(expected, versions())
    if other:
        raise OtherVersionError(other)
    store = Store()
    known = None if fresh else store.get(job.key)
    if known is not None:
        return known, store.seconds(job.key)
    done = timed(job)
    if job.keeps(done.result):
        store.put(job.key, done.result)
        store.took(job.key, done.seconds)
    return done.result, done.seconds


def census(dask_scheduler: Any) -> dict[str, Any]:
    """Who works for a scheduler and on how much; dask fills in the parameter by its name."""
    workers = [
        {"worker": state.address, "busy": len(state.processing)}
        for state in dask_scheduler.workers.values()
    ]
    return {"workers": workers, "waiting": len(dask_scheduler.queued)}
