"""A worker of a cluster, a process of its own: `python -m firmware_tools.jobs.worker ADDRESS`."""

import asyncio
import logging
import os
import signal
import sys
import threading

import dask
from distributed import Worker

from firmware_tools.jobs import node
from firmware_tools.jobs.address import Address

PRIVATE = "127.0.0.1:0"
"""Where the web page of a scheduler or a worker is, which cannot be left out: not reachable."""


async def work(address: Address) -> None:
    """Work until the scheduler ends."""
    worker = Worker(
        str(address),
        nthreads=1,
        memory_limit=0,  # jobs are no more than a verb's own would be; none is paused or killed
        host=address.own_host,
        security=address.security(),
        dashboard=False,
        dashboard_address=PRIVATE,
        death_timeout=30,
    )
    async with worker:
        await worker.finished()


def _end_with_parent() -> None:
    """Whoever started this holds the other end of standard input; with it all here ends."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Argument: the scheduler's address."""
    node.versions()  # of the code that is loaded now
    logging.getLogger("distributed").setLevel(logging.ERROR)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        asyncio.run(work(Address.parse(sys.argv[1])))


if __name__ == "__main__":
    main()
