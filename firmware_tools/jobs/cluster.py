"""Jobs on a cluster of dask.distributed: the side of whoever asks."""

import contextlib
import itertools
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from firmware_tools.errors import UserError
from firmware_tools.jobs import node
from firmware_tools.jobs.address import Address
from firmware_tools.jobs.job import Done, JobT

if TYPE_CHECKING:
    from distributed import Client

SECONDS = 10
"""In which a scheduler must answer."""
LOOK_SECONDS = 1
"""From one look whether workers have joined to the next."""
MISSING = "dask.distributed is missing: pip install 'kenyon[cluster]'"


class Cluster:
    """An executor of the workers of a cluster, each with one job at a time.

    Parameters
    ----------
    address : str
        Of its scheduler.
    fresh : bool
        Run jobs although a node has kept their results.
    """

    def __init__(self, address: str, *, fresh: bool = False) -> None:
        self._address = Address.parse(address)
        self._fresh = fresh

    def map(self, jobs: Sequence[JobT]) -> Iterator[Done[JobT]]:
        """As any executor.

        Raises
        ------
        UserError
            There is no such cluster, it runs something else, it went away, or every worker that
            had begun a job died of it. Results of the others have come by then.
        """
        lost = []
        with connected(self._address) as client:
            _check(client, self._address)
            campaign = _Campaign(client, jobs, fresh=self._fresh)
            try:
                for job, status, found in campaign.outcomes():
                    if status == "finished":
                        yield Done(job, *found)
                    elif status != "error":
                        raise UserError(f"{self._address}: cluster went away; what came is kept")
                    elif isinstance(found[1], campaign.killed):
                        lost.append(job)
                    elif isinstance(found[1], node.OtherVersionError):
                        raise UserError(f"{self._address}: a worker's {found[1]}")
                    else:
                        raise found[1]
            finally:
                campaign.cancel()
        if lost:
            raise UserError(f"{self._address}: every worker died that ran {lost[0]}")


class _Campaign(Generic[JobT]):
    """Jobs on their way: no more than there are workers.

    The next one begins once the result of another is here, so a worker never dies with more than
    one that is not.
    """

    def __init__(self, client: "Client", jobs: Sequence[JobT], *, fresh: bool) -> None:
        from distributed import KilledWorker, as_completed

        self.killed = KilledWorker
        self._client = client
        self._todo = iter(jobs)
        self._submit = partial(client.submit, node.perform, expected=own_versions(), fresh=fresh)
        self._coming = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self._running: dict[Any, JobT] = {}
        self._n_workers = 1
        self._looked = 0.0

    def outcomes(self) -> Iterator[tuple[JobT, str, Any]]:
        """Jobs as they end, with dask's word for how, and the result or the exception."""
        self._refill()
        for future, found in self._coming:
            job, status = self._running.pop(future), future.status
            future.release()
            self._refill()
            yield job, status, found

    def cancel(self) -> None:
        """Give up what runs."""
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self._client.cancel(list(self._running))

    def _refill(self) -> None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            # A scheduler that went away is told by the jobs that run.
            with contextlib.suppress(OSError):
                self._n_workers = max(1, len(self._client.nthreads()))
            self._looked = time.monotonic()
        for job in itertools.islice(self._todo, max(0, self._n_workers - len(self._running))):
            future = self._submit(job, key=f"kenyon-{job.key}")
            self._running[future] = job
            self._coming.add(future)


@contextlib.contextmanager
def connected(address: Address) -> "Iterator[Client]":
    """A client of a cluster.

    Raises
    ------
    UserError
        It cannot be reached, or is none.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError(MISSING) from None
    security = address.security()
    address.check()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions: they are compared right afterwards
            client = Client(str(address), timeout=SECONDS, security=security, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise UserError(f"{address}: must be a cluster's scheduler ({error})") from None
    try:
        yield client
    finally:
        with contextlib.suppress(OSError):  # the scheduler may be gone
            client.close(timeout=SECONDS)


def own_versions() -> dict[str, str]:
    """What a cluster must be."""
    return node.versions()


def _check(client: "Client", address: Address) -> None:
    """Refuse a cluster of another version, or without workers."""
    try:
        found = {"scheduler": client.run_on_scheduler(node.versions), **client.run(node.versions)}
    except (ImportError, AttributeError) as error:
        raise UserError(f"{address}: must run this version of Kenyon ({error})") from None
    for who, other in found.items():
        text = node.difference(own_versions(), other)
        if text:
            raise UserError(f"{address}, {who}: {text}; start it again with the same")
    if len(found) == 1:
        raise UserError(f"{address}: cluster must have workers; kenyon cluster join adds some")


def status(address: str) -> dict[str, Any]:
    """Workers, jobs that wait, and versions of a cluster."""
    where = Address.parse(address)
    with connected(where) as client:
        _check(client, where)
        census: dict[str, Any] = client.run_on_scheduler(node.census)
        return {"address": str(where), **census, "versions": own_versions()}
