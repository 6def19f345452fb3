"""`kenyon regress`."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import (
    DIFFERENCE,
    INTERRUPTED,
    Jobs,
    Json,
    On,
    Report,
    Seed,
    Terminal,
    examples,
)
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.jobs.choice import executor
from firmware_tools.mars.inputs import refuse_others
from firmware_tools.report import page
from model.config import CHIPS, ChipConfig
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.mars.config import MarsConfig
from model.npu.config import CONFIGS as NPU_CONFIGS
from model.npu.config import NPUConfig

if TYPE_CHECKING:
    from firmware_tools.jobs.job import Executor
    from firmware_tools.regression import Case, Config, Outcome

EXAMPLES = examples(
    "kenyon regress",
    "kenyon regress -c tiny -c poppins --count 200 --seed 1 -j 2 --junit regress.xml",
    "kenyon regress -c tiny --only random --seed 17 --count 1 --waves",
    "kenyon regress -c tiny --gates --count 20",
    "kenyon regress --simulator icarus",
    "kenyon regress --only mars --report regress.html",
    "kenyon regress --only quantised --count 5000",
    "kenyon regress -c kenyon-tiny --only joint --count 100",
    "kenyon regress --on tcp://127.0.0.1:8786 --count 400",
)
CONFIGS: dict[str, NPUConfig | MarsConfig | ChipConfig] = {
    **NPU_CONFIGS,
    **MARS_CONFIGS,
    **{name: chip for name, chip in CHIPS.items() if chip.has_bridge},
}
LARGE = ("kenyon",)
"""Whose simulator takes so long to build that it is run only by its name."""
ON_ICARUS = ("tiny", "mars-tiny")
"""What runs there unless it is told; it is a hundred times slower than Verilator."""
FOLDER = Path("build") / "regress"


def command(
    configs: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            "-c",
            metavar="CONFIG",
            help=f"{', '.join(CONFIGS)}; may be repeated. Default: all but {', '.join(LARGE)}; on "
            f"Icarus {', '.join(ON_ICARUS)}.",
        ),
    ] = None,
    jobs: Jobs = None,
    on: On = None,
    seed: Seed = 1,
    count: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Random networks of each accelerator, over its configurations. Default: 20 of "
            "the NPU, of MARS 200 quantised ones, 200 spiking ones, 200 with attention, 20 pairs; "
            "on Icarus 10.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only npu, mars, joint, a directed bench, random, quantised, quantised-rtl, "
            "spiking, spiking-rtl, attention or attention-rtl; may be repeated.",
        ),
    ] = None,
    waves: Annotated[
        bool,
        typer.Option(
            "--waves",
            help="Write waves of every case but networks of MARS, and views of them "
            "(docs/waves.md).",
        ),
    ] = False,
    gates: Annotated[
        bool,
        typer.Option(
            "--gates",
            help="On the netlist in 180 nm cells instead of the RTL: the chip's bench and random "
            "networks of one configuration of the NPU.",
        ),
    ] = False,
    simulator: Annotated[
        Literal["verilator", "icarus"],
        typer.Option(
            help="icarus: in four states, registers begin as X, and no X reaches a port after the "
            "reset. Needs Debian's iverilog.",
        ),
    ] = "verilator",
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the outcomes as JUnit XML.")
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Run the directed benches and random networks on the RTL; exit code 1 if any fails.

    Random networks of the NPU have random parameters, links, self connections, events, noise and
    back pressure. RTL, fast engine and model must agree in every value and every clock.

    Quantised networks have all kinds of layers, bit widths, strides, residuals and sparsities.
    Reference and golden machine of MARS must agree in every value, and on three in ten also the RTL
    in every value, stored word and clock. --only quantised or quantised-rtl runs all on one.
    Spiking networks have all kinds of neurons, resets, groups, pools and numbers of steps; they are
    compared likewise, membranes included. So are those with attention: products of two maps, heads,
    softmax, normalisation, tokens.

    Pairs are a network on MARS, one in the populations, and a bridge between them (joint): every
    value of both, biases, counts, winner, and clocks from the frame's start to the decision.

    Logs, waves and networks that failed go to the folder build/regress. Ctrl-C reports what is
    done. What passed is kept in build/jobs and is not run again until its code changes.
    """
    from firmware_tools import regression

    terminal = Terminal(json=json)
    page.check(report)
    icarus = simulator == "icarus"
    chips = _chips(configs, icarus=icarus)
    if junit is not None:
        check_folder(junit)
    _refuse(on, icarus=icarus, gates=gates, waves=waves)
    if icarus:
        only, count = _on_icarus(only, count)
    todo = regression.cases(chips, _names(only), seed, count)
    if gates:
        _check_gates(chips)
        todo = [case for case in todo if case.name in (regression.CHIP, regression.RANDOM)]
    if not todo:
        raise UserError("--only, --config and --count must leave something to run")
    with _simulator(chips[0], terminal, gates=gates, icarus=icarus):
        outcomes = _run(todo, executor(jobs, on), terminal, waves=waves, here=on is None)
    if junit is not None:
        junit.write_text(regression.junit(outcomes))
    failed, not_run = sum(bool(o.failure) for o in outcomes), len(todo) - len(outcomes)
    passed = len(outcomes) - failed
    values = {
        "seed": seed,
        "passed": passed,
        "failed": failed,
        "not_run": not_run,
        "outcomes": [outcome.as_json() for outcome in outcomes],
    }
    terminal.result(values)
    terminal.print(_table(outcomes))
    for line in [*_quantised(outcomes), *_joint(outcomes)]:
        terminal.print(line)
    interrupted = f"; interrupted, {not_run} not run" if not_run else ""
    terminal.print(f"{passed} passed, {failed} failed{interrupted}")
    if report is not None:
        from firmware_tools.report.regress import sections

        timed = [{**one.as_json(), "seconds": one.seconds} for one in outcomes]
        page.write(report, "Regression", sections({**values, "outcomes": timed}), terminal)
    if not_run:
        raise typer.Exit(INTERRUPTED)
    if failed:
        raise typer.Exit(DIFFERENCE)


def _chips(names: list[str] | None, *, icarus: bool) -> "list[Config]":
    """Those that the user names, or those that are run without a name."""
    defaults = ON_ICARUS if icarus else [name for name in CONFIGS if name not in LARGE]
    return [_config(name) for name in dict.fromkeys(names or defaults)]


def _config(name: str) -> NPUConfig | MarsConfig | ChipConfig:
    if name not in CONFIGS:
        raise UserError(f"configuration must be one of {', '.join(CONFIGS)}, not {name}")
    return CONFIGS[name]


def _check_gates(chips: "list[Config]") -> None:
    if len(chips) != 1 or not isinstance(chips[0], NPUConfig):
        raise UserError(f"--gates must go with one -c of {', '.join(NPU_CONFIGS)}")


def _on_icarus(only: list[str] | None, count: int | None) -> tuple[list[str], int]:
    """What to run: only what is RTL, and less of it."""
    from firmware_tools.regression import COUNT_ON_ICARUS, ON_MODEL
    from tb import simulator

    if not simulator.has_icarus():
        package = simulator.ICARUS_PACKAGE
        raise UserError(f"iverilog is missing; on Debian: apt-get install {package}")
    names = [name for name in _names(only) if name not in ON_MODEL]
    return names, COUNT_ON_ICARUS if count is None else count


def _refuse(on: str | None, *, icarus: bool, gates: bool, waves: bool) -> None:
    """Options that do not go together."""
    others = {"--gates": gates or None, "--waves": waves or None}
    if icarus:
        refuse_others("--simulator icarus", others)
    if on is not None:
        others["--simulator icarus"] = icarus or None
        refuse_others("cases on a cluster", others)


@contextlib.contextmanager
def _simulator(
    config: "Config", terminal: Terminal, *, gates: bool, icarus: bool
) -> Iterator[None]:
    """What runs in place of the RTL on Verilator, if anything does."""
    from tb import simulator

    if gates:
        with _netlist(config, terminal):
            yield
    elif icarus:
        with simulator.icarus():
            yield
    else:
        yield


@contextlib.contextmanager
def _netlist(config: "Config", terminal: Terminal) -> Iterator[None]:
    """The simulator of a configuration's netlist stands in for that of its RTL."""
    from tb import netlist, simulator

    assert not isinstance(config, ChipConfig)
    with terminal.busy(f"building {config.name} in gates, once, some minutes"):
        built = simulator.build(netlist.chip(ChipConfig.alone(config)))
    os.environ[simulator.STAND_IN] = str(built)
    try:
        yield
    finally:
        del os.environ[simulator.STAND_IN]


def _names(only: list[str] | None) -> list[str]:
    from firmware_tools.regression import names

    groups = names()
    known = [*groups, *(name for group in groups.values() for name in group)]
    for name in only or ():
        if name not in known:
            raise UserError(f"--only must be one of {', '.join(known)}, not {name}")
    return [part for name in only or groups for part in groups.get(name, [name])]


def _quantised(outcomes: "list[Outcome]") -> list[str]:
    """Where the networks of MARS ran, in words."""
    from firmware_tools.regression import KINDS

    parts = []
    for on_rtl, on_model in KINDS:
        for what, names in (
            ("reference = golden machine", (on_rtl, on_model)),
            ("also = RTL, values and clocks", (on_rtl,)),
        ):
            own = [o for o in outcomes if o.case.name in names]
            if own:
                counts = Counter(o.case.config.name for o in own)
                each = ", ".join(f"{n} on {name}" for name, n in counts.items())
                differences = sum(bool(o.failure) for o in own)
                parts.append(
                    f"{what}: {len(own)} {on_model} networks ({each}), {differences} differences"
                )
    return parts


def _joint(outcomes: "list[Outcome]") -> list[str]:
    """What became of pairs, in words."""
    from firmware_tools.regression import JOINT

    own = [o for o in outcomes if o.case.name == JOINT]
    if not own:
        return []
    counts = Counter(o.case.config.name for o in own)
    each = ", ".join(f"{n} on {name}" for name, n in counts.items())
    differences = sum(bool(o.failure) for o in own)
    return [
        f"golden model = RTL, frame to decision: {len(own)} pairs of networks ({each}), "
        f"{differences} differences"
    ]


def _run(
    todo: "list[Case]", executor: "Executor", terminal: Terminal, *, waves: bool, here: bool
) -> "list[Outcome]":
    """Outcomes in the order of the cases, up to Ctrl-C; failures are shown as they come.

    Simulators are built before if the cases run `here`; nodes of a cluster build theirs.
    """
    from firmware_tools.jobs.store import Store
    from firmware_tools.regression import Regression, design
    from tb import simulator

    kind: simulator.Waves = simulator.best_waves() if waves else ""
    for needed in {d.name: d for d in map(design, todo) if d and here}.values():
        if not simulator.is_built(needed, kind):
            with terminal.busy(f"building the simulator of {needed.name}, once, a minute or two"):
                simulator.build(needed, kind)
    outcomes = {}
    with contextlib.suppress(KeyboardInterrupt), terminal.progress("cases", len(todo)) as advance:
        store = None if waves else Store()
        for outcome in Regression(FOLDER, waves=waves).run(todo, executor, store):
            outcomes[outcome.case] = outcome
            if outcome.failure:
                terminal.print(f"[red]{escape(str(outcome.case))} failed[/red]")
                terminal.print(escape(outcome.failure))
                terminal.print(f"again: {escape(outcome.command)}")
            advance(len(outcomes))
    return [outcomes[case] for case in todo if case in outcomes]


def _table(outcomes: "list[Outcome]") -> Table:
    """Figures by configuration and name."""
    table = Table()
    for title in ("configuration", "case"):
        table.add_column(title)
    for title in ("passed", "failed", "steps", "values", "clocks"):
        table.add_column(title, justify="right")
    for group in dict.fromkeys((o.case.config.name, o.case.name) for o in outcomes):
        own = [o for o in outcomes if (o.case.config.name, o.case.name) == group]
        failed = sum(bool(o.failure) for o in own)
        figures = (
            len(own) - failed,
            failed,
            sum(o.steps for o in own),
            sum(o.values for o in own),
            sum(o.clocks for o in own),
        )
        table.add_row(*group, *(f"{figure:,}" if figure else "-" for figure in figures))
    return table
