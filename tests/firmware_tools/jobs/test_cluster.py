"""A cluster of processes of this machine: who dies, who is refused, and that results are equal."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from firmware_tools.errors import UserError
from firmware_tools.jobs import campaign, cluster, node
from firmware_tools.jobs.address import CERTIFICATES, Address
from firmware_tools.jobs.cluster import Cluster, status
from firmware_tools.jobs.job import Executor
from firmware_tools.jobs.local import Local
from firmware_tools.jobs.store import Store
from tests.firmware_tools.jobs.conftest import Square

ROOT = Path(__file__).parents[3]
KENYON = (sys.executable, "-c", "from firmware_tools.cli import main; main()")
LISTENING = ("env", "--default-signal=INT")
"""Tests in the background of a shell would hand down that Ctrl-C is ignored."""
REGRESS = ("regress", "--only", "quantised", "-c", "mars-tiny", "--count", "6", "--json")
Node = subprocess.Popen[str]
PATIENCE = 120
"""Seconds after which what hangs is given up, however busy the machine is."""


def begin(folder: Path, *arguments: str) -> Node:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(
            [*LISTENING, *KENYON, "cluster", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def address_of(one: Node) -> str:
    assert one.stdout is not None
    return str(json.loads(one.stdout.readline())["address"])


def end(one: Node) -> None:
    one.send_signal(signal.SIGINT)
    one.communicate(timeout=PATIENCE)


def wait(until: Callable[[], bool]) -> None:
    for _ in range(10 * PATIENCE):
        if until():
            return
        time.sleep(0.1)
    raise TimeoutError


def workers_of(one: Node) -> list[psutil.Process]:
    return psutil.Process(one.pid).children()


def n_registered(address: str) -> int:
    try:
        return len(status(address)["workers"])
    except UserError:
        return 0


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The node of the scheduler, with one worker."""
    one = begin(tmp_path_factory.mktemp("first"), "start", "tcp://127.0.0.1:0", "-j", "1", "--json")
    yield one
    end(one)


@pytest.fixture(scope="module")
def address(first: Node) -> str:
    return address_of(first)


@pytest.fixture(scope="module")
def second(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Another node, with a folder of its own."""
    one = begin(tmp_path_factory.mktemp("second"), "join", address, "-j", "1", "--json")
    wait(lambda: n_registered(address) == 2)
    yield one
    end(one)


def squares(executor: Executor, jobs: list[Square], store: Store) -> dict[int, int]:
    found = campaign.results(jobs, executor, store)
    return {done.job.number: done.result["square"] for done in found}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("results/*.json")}


def test_one_worker_and_versions(
    address: str, first: Node, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(lambda: n_registered(address) == 1)
    found = squares(Cluster(address), [Square(n, log) for n in range(20)], Store(tmp_path / "s"))
    assert found == {n: n**2 for n in range(20)}
    (worker,) = workers_of(first)
    environment = worker.environ()
    assert {environment[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")} == {"1"}
    own = node.versions()
    for what in own:
        monkeypatch.setattr(cluster, "own_versions", lambda what=what: {**own, what: "0"})
        with pytest.raises(
            UserError, match=rf"{address}, scheduler: {what} must be 0, not {own[what]}"
        ):
            list(Cluster(address).map([Square(1, log)]))
    monkeypatch.undo()
    with pytest.raises(node.OtherVersionError, match="code must be 0, not"):
        node.perform(Square(1, log), {**own, "code": "0"}, fresh=True)


@pytest.mark.usefixtures("second")
def test_results_are_equal_wherever_they_come_from(address: str, tmp_path: Path, log: Path) -> None:
    jobs = [Square(number, log) for number in range(100, 140)]
    here = squares(Local(2), jobs, Store(tmp_path / "here"))
    there = squares(Cluster(address), jobs, Store(tmp_path / "there"))
    assert here == there == {n: n**2 for n in range(100, 140)}
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert len(files(tmp_path / "here")) == 40


@pytest.mark.usefixtures("second")
def test_errors_of_jobs_arrive(address: str, log: Path) -> None:
    with pytest.raises(ValueError, match="number must be at least 0, not -7"):
        list(Cluster(address).map([Square(-7, log)]))


def test_killed_worker(address: str, first: Node, second: Node, tmp_path: Path, log: Path) -> None:
    """No result is lost, and one job at most runs twice."""
    jobs = [Square(number, log, seconds=0.05) for number in range(200, 260)]
    killed = threading.Timer(0.8, lambda: workers_of(second)[0].send_signal(signal.SIGKILL))
    killed.start()
    found = squares(Cluster(address), jobs, Store(tmp_path / "s"))
    killed.join()
    assert found == {n: n**2 for n in range(200, 260)}
    ran = log.read_text().split()
    assert set(ran) == {str(n) for n in range(200, 260)}
    assert len(ran) <= len(jobs) + 1
    wait(lambda: n_registered(address) == 2)  # another one has taken its place
    assert first.poll() is None
    errors = Path(f"/proc/{second.pid}/cwd/errors").read_text()
    assert "died (SIGKILL); another one takes its place" in errors


@pytest.mark.usefixtures("second")
def test_job_that_kills(address: str, tmp_path: Path, log: Path) -> None:
    """It is named once two workers died of it, and the others have come by then."""
    jobs = [Square(number, log, kills=number == 303) for number in range(300, 310)]
    store = Store(tmp_path / "s")
    with pytest.raises(UserError, match=r"every worker died that ran Square\(number=303"):
        squares(Cluster(address), jobs, store)
    assert log.read_text().split().count("303") == 2
    assert len(files(tmp_path / "s")) == 9
    wait(lambda: n_registered(address) == 2)


@pytest.mark.usefixtures("second")
def test_node_keeps_results(address: str, tmp_path: Path, log: Path) -> None:
    """Whoever asks may have died before a result came: the work is not lost."""
    for n, fresh in enumerate([False, False, True]):
        jobs = [Square(400, log)] * 2
        squares(Cluster(address, fresh=fresh), jobs, Store(tmp_path / str(n)))
    assert 2 <= log.read_text().split().count("400") <= 3  # either node may have run it


@pytest.mark.usefixtures("second")
def test_regression_on_two_nodes(address: str, kenyon) -> None:
    """As docs/cluster.md shows it."""
    there = kenyon(*REGRESS, "--on", address, "--junit", "there.xml")
    assert there.exit_code == 0, there.stderr
    stored = files(Path("build"))
    Path("build").rename("there")
    here = kenyon(*REGRESS, "-j", "2", "--junit", "here.xml")
    assert here.stdout == there.stdout
    assert Path("here.xml").read_bytes() == Path("there.xml").read_bytes()
    assert files(Path("build")) == stored
    assert len(stored) == 6


def test_only_this_machine_is_reached(first: Node, second: Node) -> None:
    processes = [psutil.Process(one.pid) for one in (first, second)]
    processes += [worker for one in (first, second) for worker in workers_of(one)]
    listening = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.usefixtures("second")
def test_status(address: str, kenyon) -> None:
    result = kenyon("cluster", "status", address, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["address"], len(found["workers"]), found["waiting"]) == (address, 2, 0)
    assert f"{address}: 0 jobs wait" in kenyon("cluster", "status", address).stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_node(address: str, tmp_path: Path, stop: signal.Signals) -> None:
    one = begin(tmp_path / "third", "join", address, "-j", "1", "--json")
    wait(lambda: bool(workers_of(one)) and n_registered(address) >= 2)
    workers = workers_of(one)
    one.send_signal(stop)
    one.communicate(timeout=PATIENCE)
    assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []


def test_scheduler_dies(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS", 2)
    one = begin(tmp_path / "node", "start", "tcp://127.0.0.1:0", "-j", "1", "--json")
    address = address_of(one)
    wait(lambda: n_registered(address) == 1)
    store = Store(tmp_path / "s")
    jobs = [Square(number, log, seconds=0.02) for number in range(500, 700)]
    found = campaign.results(jobs, Cluster(address), store)
    first = [next(found).job for _ in range(5)]
    one.kill()
    one.communicate()
    with pytest.raises(UserError, match=f"{address}: cluster went away; what came is kept"):
        list(found)
    assert all(store.get(job.key) for job in first)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("here", "address must be tcp://HOST:PORT or tls://HOST:PORT, not here"),
        (
            "tcp://127.0.0.1",
            "address must be tcp://HOST:PORT or tls://HOST:PORT, not tcp://127.0.0.1",
        ),
        ("tcp://127.0.0.1:x", "address must be tcp://HOST:PORT or tls://HOST:PORT, not .*:x"),
        ("http://127.0.0.1:1", "address must be tcp://HOST:PORT or tls://HOST:PORT, not http.*"),
        (
            "tcp://10.0.0.1:8786",
            "tcp://10.0.0.1:8786: address must be tls://10.0.0.1:8786, because",
        ),
        ("tcp://0.0.0.0:8786", "tcp://0.0.0.0:8786: address must be tls://0.0.0.0:8786, because"),
        ("tls://127.0.0.1:8786", f"tls://127.0.0.1:8786: {CERTIFICATES} must name the folder of"),
    ],
)
def test_bad_address(kenyon, monkeypatch: pytest.MonkeyPatch, text: str, error: str) -> None:
    monkeypatch.delenv(CERTIFICATES, raising=False)
    for words in (("regress", "--on", text), ("cluster", "start", text), ("cluster", "join", text)):
        result = kenyon(*words)
        assert result.exit_code == 2
        with pytest.raises(ValueError, match=f"^error: {error}"):
            raise ValueError(result.stderr)


def test_nobody_listens(kenyon) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    for words in (("regress", "--on", address), ("cluster", "join", address)):
        result = kenyon(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {address}: cluster cannot be reached (")


def test_something_else_listens(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_tools.jobs.address.SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        result = kenyon("regress", "--on", address)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {address}: must be a cluster's scheduler (")


def test_options_that_do_not_go_together(kenyon) -> None:
    result = kenyon("regress", "--on", "tcp://127.0.0.1:1", "-j", "2")
    assert result.stderr == (
        "error: -j must be left out: a cluster has as many workers as were started\n"
    )
    result = kenyon("regress", "--on", "tcp://127.0.0.1:1", "--waves")
    assert result.stderr == "error: --waves must be left out: it is not for cases on a cluster\n"
    result = kenyon("bench", "mars", "--on", "tcp://127.0.0.1:1")
    assert (
        result.stderr == "error: --on must be left out: it is not for bench mars without --table\n"
    )


def certificate(folder: Path) -> None:
    """As docs/cluster.md makes it."""
    folder.mkdir()
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=kenyon"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*words.split(), *files], check=True, capture_output=True)


def test_tls(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ours", "others"):
        certificate(tmp_path / name)
    monkeypatch.setenv(CERTIFICATES, str(tmp_path / "ours"))
    one = begin(tmp_path / "node", "start", "tls://127.0.0.1:0", "-j", "1", "--json")
    try:
        address = address_of(one)
        assert Address.parse(address).scheme == "tls"
        wait(lambda: n_registered(address) == 1)
        found = squares(Cluster(address), [Square(5, log)], Store(tmp_path / "s"))
        assert found == {5: 25}
        monkeypatch.setattr("firmware_tools.jobs.address.SECONDS", 0.5)
        monkeypatch.setenv(CERTIFICATES, str(tmp_path / "others"))
        with pytest.raises(UserError, match="must be a cluster's scheduler"):
            status(address)
        with pytest.raises(UserError, match="must be a cluster's scheduler"):
            status(address.replace("tls:", "tcp:"))
    finally:
        end(one)
