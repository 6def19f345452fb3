"""Runs jobs unless their results are known."""

from collections.abc import Iterator, Sequence

from firmware_tools.jobs.job import Done, Executor, JobT
from firmware_tools.jobs.store import Store


def results(
    jobs: Sequence[JobT], executor: Executor, store: Store | None = None
) -> Iterator[Done[JobT]]:
    """Results of all jobs: those that are known at once, the others as they come.

    Jobs of the same key run once. What has come is kept, whatever happens afterwards.

    Parameters
    ----------
    jobs : sequence of Job
    executor : Executor
    store : Store, optional
        Without one all jobs run.
    """
    todo: dict[str, list[JobT]] = {}
    for job in jobs:
        known = store.get(job.key) if store and job.key not in todo else None
        if store and known is not None:
            yield Done(job, known, store.seconds(job.key))
        else:
            todo.setdefault(job.key, []).append(job)
    for done in executor.map([same[0] for same in todo.values()]) if todo else ():
        if store and done.job.keeps(done.result):
            store.put(done.job.key, done.result)
            store.took(done.job.key, done.seconds)
        for job in todo[done.job.key]:
            yield Done(job, done.result, done.seconds)
