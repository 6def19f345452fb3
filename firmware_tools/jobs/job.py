"""What a job is, what comes of it, and who runs jobs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

JSON = Any
"""What `json` can write: numbers, texts, lists, dictionaries with texts as keys, None."""


class Job(Protocol):
    """Work whose result is decided by what its key is made from.

    A job is sent to other processes, so it is small: it says what to draw or to read, and does not
    hold it.
    """

    @property
    def key(self) -> str:
        """A name for all that decides the result: the arguments, the seed and the code."""

    def run(self) -> JSON:
        """Work; the result has no time, place or order in it."""

    def keeps(self, result: JSON) -> bool:
        """Whether the result counts the next time, too; failures are looked at again."""


JobT = TypeVar("JobT", bound=Job)


@dataclass(frozen=True)
class Done(Generic[JobT]):
    """A job that has been run.

    Attributes
    ----------
    job : Job
    result : JSON
    seconds : float
        How long it took, now or when it ran.
    """

    job: JobT
    result: JSON
    seconds: float


class Executor(Protocol):
    """Runs jobs somewhere."""

    def map(self, jobs: Sequence[JobT]) -> Iterator[Done[JobT]]:
        """Results as they come; closing the iterator gives up what has not begun.

        An exception of a job is raised here.
        """


def timed(job: JobT) -> Done[JobT]:
    """Run a job in this thread."""
    begin = time.perf_counter()
    result = job.run()
    return Done(job, result, time.perf_counter() - begin)
