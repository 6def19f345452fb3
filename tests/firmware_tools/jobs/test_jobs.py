"""The jobs of the verbs, as a cluster gets them: small, and the same in another process."""

import pickle
from functools import partial
from pathlib import Path

import pytest

from firmware_tools.commands import mutate
from firmware_tools.jobs.job import Job
from firmware_tools.mars.bench_report import Choice, Row
from firmware_tools.mutation.mutants import Mutant
from firmware_tools.mutation.score import Trial
from firmware_tools.proofs import Proving
from firmware_tools.regression import Case, Simulation
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.npu.config import CONFIGS

CASES = tuple(Case("quantised-rtl", MARS_CONFIGS["mars"], seed) for seed in range(10))
CHOICE = Choice(
    config=MARS_CONFIGS["mars"],
    network=None,
    sparsity=None,
    weight_bits=4,
    act_bits=None,
    time_steps=0,
    seed=0,
    clock_mhz=100.0,
)
MUTANT = Mutant("blocks", 7, "hw/npu/soma.py", "m", "c", "A", 0, "inv", "", "", "", "f")
JOBS = {
    "cases": Simulation(CASES, Path("build/regress"), "mars-system-1"),
    "case": Simulation((Case("soma", CONFIGS["tiny"], 1),), Path("build/regress")),
    "proof": Proving("soma", 3),
    "mutant": Trial(partial(mutate.campaign, 300, 1), MUTANT, ("soma",)),
    "line": Row(CHOICE, "vgg16", 0.5),
}


@pytest.mark.parametrize("name", JOBS)
def test_sent_to_another_process(name: str) -> None:
    job: Job = JOBS[name]
    text = pickle.dumps(job)
    assert len(text) < 3000
    assert pickle.loads(text).key == job.key


def test_keys_differ() -> None:
    assert len({job.key for job in JOBS.values()}) == len(JOBS)


def test_failures_are_not_kept() -> None:
    case = JOBS["case"]
    assert case.keeps([{"failure": ""}, {"failure": ""}])
    assert not case.keeps([{"failure": ""}, {"failure": "v must be 1, not 2"}])
    run = {"status": "PASS", "properties": ["a"], "trace": "", "seconds": 0.0}
    proof = JOBS["proof"]
    assert proof.keeps({"runs": [run, run], "covers": ["a"], "mutants": []})
    assert not proof.keeps({"runs": [run, run], "covers": ["a", "b"], "mutants": []})
    failed = {**run, "status": "FAIL"}
    assert not proof.keeps({"runs": [failed, run], "covers": ["a"], "mutants": []})
