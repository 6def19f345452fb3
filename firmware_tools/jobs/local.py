"""Jobs in threads of this process."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from firmware_tools.jobs.job import Done, JobT, timed


class Local:
    """An executor of threads: jobs that wait for programs, as simulators are, fill the cores.

    Parameters
    ----------
    threads : int
    stop : callable, optional
        Ends the programs of jobs that are given up, which Ctrl-C does not reach.
    """

    def __init__(self, threads: int, stop: Callable[[], None] = lambda: None) -> None:
        self._threads = threads
        self._stop = stop

    def map(self, jobs: Sequence[JobT]) -> Iterator[Done[JobT]]:
        pool = ThreadPoolExecutor(self._threads)
        try:
            futures = [pool.submit(timed, job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        finally:
            self._stop()
            pool.shutdown(cancel_futures=True)
