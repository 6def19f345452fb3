"""Starts a scheduler and workers, and puts new ones in the place of those that die."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import dask
from distributed import Scheduler

from firmware_tools.errors import UserError
from firmware_tools.jobs import node
from firmware_tools.jobs.address import Address
from firmware_tools.jobs.worker import PRIVATE

THREADS = (
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
"""One each: workers fill the cores, and sums come in one order."""
SCHEDULER = {
    "distributed.scheduler.allowed-failures": 1,  # of workers, before a job is to blame
}
YOUNG_SECONDS = 15
"""A worker that ends sooner will do so again."""
Say = Callable[[str], None]


class Crew:
    """Workers of this node.

    Parameters
    ----------
    address : Address
        Of the scheduler.
    say : callable
        Takes what people should know.
    """

    def __init__(self, address: Address, say: Say) -> None:
        self._address = address
        self._say = say

    async def run(self, n_workers: int) -> None:
        """Keep so many workers until the scheduler ends.

        Raises
        ------
        UserError
            A worker does not even begin.
        """
        tasks = [asyncio.create_task(self._keep()) for _ in range(n_workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            begin = time.monotonic()
            number, code = await self._one()
            if code == 0:
                return  # the scheduler has ended
            if time.monotonic() - begin < YOUNG_SECONDS and code > 0:
                raise UserError(f"{self._address}: a worker could not begin (exit code {code})")
            self._say(f"worker {number} died ({_reason(code)}); another one takes its place")

    async def _one(self) -> tuple[int, int]:
        """A worker's life: number of its process, and exit code."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "firmware_tools.jobs.worker", str(self._address)),
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
            start_new_session=True,  # Ctrl-C is for us; with a worker its simulators end
        )
        try:
            return process.pid, await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


async def serve(
    address: Address, n_workers: int, begun: Callable[[Address], None], say: Say
) -> None:
    """Run a scheduler, and some workers beside it, until the task is cancelled.

    Parameters
    ----------
    address : Address
        Where it listens; port 0 is any that is free.
    n_workers : int
    begun : callable
        Takes where it listens as soon as it does.
    say : callable
        Takes what people should know.
    """
    node.versions()  # of the code that is loaded now
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters, `say` says
    with dask.config.set(SCHEDULER):
        try:
            scheduler = await Scheduler(
                host=address.host,
                port=address.port,
                protocol=address.scheme,
                security=address.security(),
                dashboard=False,
                dashboard_address=PRIVATE,
            )
        except OSError as error:
            raise UserError(f"{address}: cannot listen there ({error})") from None
        async with scheduler:
            where = Address.parse(scheduler.address)
            begun(where)
            crew = asyncio.create_task(Crew(where, say).run(n_workers))
            try:
                if n_workers:
                    await crew
                await scheduler.finished()
            finally:
                crew.cancel()
                await asyncio.gather(crew, return_exceptions=True)


async def join(address: Address, n_workers: int, say: Say) -> None:
    """Work for a scheduler until it ends."""
    address.check()
    await Crew(address, say).run(n_workers)
