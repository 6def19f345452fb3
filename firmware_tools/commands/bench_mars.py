"""`kenyon bench mars`."""

from typing import Annotated, Literal

import typer

from firmware_tools.console import Jobs, Json, On, Report, Seed, Terminal, examples
from firmware_tools.jobs.choice import executor
from firmware_tools.mars.inputs import (
    DEFAULT,
    DEFAULT_MHZ,
    Benched,
    ClockMHz,
    ConfigName,
    ZooActBits,
    ZooSparsity,
    ZooWeightBits,
    mars_config,
    refuse_others,
)
from firmware_tools.report import page

Backend = Literal["model", "rtl"]
EXAMPLES = examples(
    "kenyon bench mars",
    "kenyon bench mars --network resnet18 --sparsity 0.75 --weight-bus 128",
    "kenyon bench mars --network net.npz --backend rtl -c mars-tiny",
    "kenyon bench mars --spiking --exit-mean 1.46",
    "kenyon bench mars --table --clock-mhz 200",
    "kenyon bench mars --json > vgg16.json && kenyon plot vgg16.json",
    "kenyon bench mars --report vgg16.html",
)


def command(
    network: Benched = None,
    sparsity: ZooSparsity = None,
    weight_bits: ZooWeightBits = None,
    act_bits: ZooActBits = None,
    spiking: Annotated[
        bool, typer.Option("--spiking", help="Of the zoo: with neurons instead of activations.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, max=8, help="Time steps of --spiking. Default: 4.")
    ] = None,
    exit_mean: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=8,
            help="Also orders with an exit, for so many steps of --steps in the mean.",
        ),
    ] = None,
    weight_bus: Annotated[
        int | None,
        typer.Option(help="Bits of the weight bus, 64 to 512. Default: as configured."),
    ] = None,
    config: ConfigName = DEFAULT,
    backend: Annotated[
        Backend | None,
        typer.Option(help="Golden machine (default), or simulated hardware as well."),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="vgg16 and resnet18, sparsities 0, 0.5 and 0.75.")
    ] = False,
    clock_mhz: ClockMHz = DEFAULT_MHZ,
    seed: Seed = 0,
    jobs: Jobs = None,
    on: On = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Clocks, bound and stalls of the layers on MARS.

    Those of a frame, with stored bits and events; on our reconstruction, not at the paper's clock
    or sparsity. The bound of a layer is the larger of computing, G*P*c/M clocks, and loading,
    16*G/M (G kept group-sets, P pixels, c accesses, M macros). With --backend rtl every value and
    every clock must be the golden machine's: exit code 1 if not. The rows of --table are jobs.
    """
    terminal = Terminal(json=json)
    page.check(report)
    if table:
        alone = {"--network": network, "--sparsity": sparsity, "--backend": backend}
        refuse_others("--table", {**alone, "--exit-mean": exit_mean})
    else:
        refuse_others("bench mars without --table", {"-j": jobs, "--on": on})
    if not spiking:
        neurons = {"--steps": steps, "--exit-mean": exit_mean}
        refuse_others("bench mars without --spiking", neurons)
    chip = mars_config(config, weight_bus)
    from firmware_tools.mars.bench_report import DEFAULT_STEPS, Choice, bench, bench_table

    choice = Choice(
        config=chip,
        network=network,
        sparsity=sparsity,
        weight_bits=weight_bits,
        act_bits=act_bits,
        time_steps=(steps or DEFAULT_STEPS) if spiking else 0,
        seed=seed,
        clock_mhz=clock_mhz,
    )
    if table:
        bench_table(choice, executor(jobs, on), report, terminal)
    else:
        on_rtl = backend == "rtl"
        bench(choice, on_rtl=on_rtl, exit_mean=exit_mean, report=report, terminal=terminal)
