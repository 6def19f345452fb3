"""One thread: the tests' tensors are small, and sums depend on the number of threads."""

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
