"""Which executor a verb works with."""

import os
from collections.abc import Callable

from firmware_tools.jobs.job import Executor
from firmware_tools.jobs.local import Local


def executor(threads: int | None, stop: Callable[[], None] = lambda: None) -> Executor:
    """What the options of a verb ask for.

    Parameters
    ----------
    threads : int, optional
        Of this machine; its cores if nothing is said.
    stop : callable, optional
        Ends what local jobs leave behind at Ctrl-C.
    """
    return Local(threads or os.cpu_count() or 1, stop)
