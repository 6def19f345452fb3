"""Which executor a verb works with."""

import os
from collections.abc import Callable

from firmware_tools.errors import UserError
from firmware_tools.jobs.job import Executor
from firmware_tools.jobs.local import Local


def executor(
    threads: int | None,
    on: str | None = None,
    *,
    stop: Callable[[], None] = lambda: None,
    fresh: bool = False,
) -> Executor:
    """What the options of a verb ask for.

    Parameters
    ----------
    threads : int, optional
        Of this machine; its cores if nothing is said.
    on : str, optional
        Address of a cluster that runs the jobs instead.
    stop : callable
        Ends what local jobs leave behind at Ctrl-C.
    fresh : bool
        Have the cluster run jobs although it has kept their results.
    """
    if on is None:
        return Local(threads or os.cpu_count() or 1, stop)
    if threads is not None:
        raise UserError("-j must be left out: a cluster has as many workers as were started")
    from firmware_tools.jobs.cluster import Cluster

    return Cluster(on, fresh=fresh)
