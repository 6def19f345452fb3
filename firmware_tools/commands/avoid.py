"""`kenyon avoid`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Report, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.avoid.clips import Clip
    from firmware_tools.avoid.decision import Decision
    from firmware_tools.avoid.measuring import Setup

Source = Literal["cnn", "flow"]
Backend = Literal["fast", "model", "rtl"]
Mode = Literal[
    "up", "down", "left", "right", "forward", "backward", "clockwise", "counter-clockwise"
]
EXAMPLES = examples(
    "kenyon avoid",
    "kenyon avoid --source flow --json",
    "kenyon avoid --clips 3 --backend rtl -c kenyon-tiny",
    "kenyon avoid --worlds 100",
    "kenyon avoid --worlds 1 --seed 4 --film flight.gif",
    "kenyon avoid --input video.mp4",
    "kenyon avoid --report avoid.html",
)


def command(
    clips: Annotated[int, typer.Option(min=1, help="Clips that are rendered.")] = 64,
    mode: Annotated[
        Mode | None, typer.Option(help="Only clips of this motion. Default: all in turn.")
    ] = None,
    seed: Seed = 0,
    source: Annotated[
        Source, typer.Option(help="What sees: the network on MARS, or optical flow on the host.")
    ] = "cnn",
    backend: Annotated[
        Backend,
        typer.Option(help="Fast engines, golden model of the whole chip, or simulated hardware."),
    ] = "fast",
    config: Annotated[
        str, typer.Option("--config", "-c", metavar="CONFIG", help="kenyon or kenyon-tiny.")
    ] = "kenyon",
    network: Annotated[
        Path | None,
        typer.Option(
            metavar="NET.npz",
            help="What kenyon train avoid wrote. Default: the one that comes along.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="PATH", help="A folder of PNGs or a video, instead of clips."
        ),
    ] = None,
    worlds: Annotated[
        int | None,
        typer.Option(
            min=1, help="Instead of clips: fly through so many worlds, steered and straight on."
        ),
    ] = None,
    film: Annotated[
        Path | None,
        typer.Option(
            metavar="FILM.gif",
            help="--worlds: film of the first flight; FILM.png holds six frames of it.",
        ),
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """See motion and what looms, and decide where to fly.

    A camera looks at photographs that were not used for training; a small network on MARS takes
    each frame with the one before it, its results become the bias of two populations, and their
    spikes in 50 time steps are the decision. Reported are what was right, and frames, clocks,
    microseconds and energy that a decision takes. After Ctrl-C what is finished counts.

    With --worlds the decisions steer a craft through balls, and collisions are counted against a
    straight flight through the same worlds. With --input each frame's decision is listed.
    """
    terminal = Terminal(json=json)
    if worlds is not None and pictures is not None:
        raise UserError("--input must be left out with --worlds")
    if film is not None:
        from firmware_tools.avoid import film as films

        if worlds is None:
            raise UserError("--film must be left out without --worlds")
        films.check(film)
        check_folder(film)
    if backend != "fast" and (source == "flow" or worlds is not None):
        what = "--source flow, which runs on the host" if source == "flow" else "--worlds"
        raise UserError(f"--backend must be fast for {what}")
    page.check(report)
    from firmware_tools.avoid import measuring

    setup = measuring.setup(source, config, network)
    if worlds is not None:
        _fly(setup, worlds, seed, film, report, terminal)
    elif pictures is not None:
        _watch(setup, backend, pictures, report, terminal)
    else:
        _judge(setup, backend, clips, mode, seed, report, terminal)


def _judge(
    setup: "Setup",
    backend: Backend,
    n: int,
    mode: str | None,
    seed: int,
    file: Path | None,
    terminal: Terminal,
) -> None:
    from firmware_tools.avoid import MODES, clips, report

    only = None if mode is None else MODES.index(mode)
    made = clips.generate(n, seed, "test", only)
    done: list[report.Judged] = []
    try:
        with terminal.progress("clips", n) as advance:
            for clip, decisions in _decided(setup, backend, made, terminal):
                done.append(report.Judged(clip, decisions))
                advance(len(done))
    except KeyboardInterrupt:
        if not done:
            raise
        terminal.warn(f"interrupted after {len(done)} of {n} clips; these count")
    result = report.figures(done)
    work = setup.work(done[0].decisions)
    values = {
        "source": setup.source,
        "backend": backend,
        "configuration": setup.config.name,
        "clips": len(done),
        "seed": seed,
        **result.as_json(),
        "perception_nj": None if work is None else work.perception_nj,
        "populations_nj": None if work is None else work.populations_nj,
    }
    if file is not None:
        from firmware_tools.report.avoid import of_clips

        page.write(file, "Avoidance", of_clips(values, done), terminal, setup.config)
    terminal.result(values)
    terminal.print(
        f"[bold]avoid[/bold], source {setup.source}, backend {backend}, "
        f"configuration {setup.config.name}: {len(done)} clips"
    )
    for table in report.tables(result):
        terminal.print(table)
    for line in report.lines(result, work):
        terminal.print(line)


def _decided(
    setup: "Setup", backend: Backend, made: Iterator["Clip"], terminal: Terminal
) -> Iterator[tuple["Clip", "list[Decision]"]]:
    """Clips with their decisions."""
    if backend != "rtl":
        for clip in made:
            yield clip, setup.decide(clip.frames, backend)
        return
    setup.build_rtl(terminal)
    # One clip a simulation, so that Ctrl-C loses no more than one.
    for clip in made:
        yield clip, setup.on_rtl(clip.frames)


def _watch(
    setup: "Setup", backend: Backend, path: Path, file: Path | None, terminal: Terminal
) -> None:
    from firmware_tools.avoid import CELLS, MODES, footage, report

    frames = footage.load(path)
    if backend == "rtl":
        setup.build_rtl(terminal)
    with terminal.busy(f"deciding about {len(frames):,} frames"):
        decisions = setup.on_rtl(frames) if backend == "rtl" else setup.decide(frames, backend)
    values = {
        "source": setup.source,
        "backend": backend,
        "input": str(path),
        "decisions": [
            {
                "mode": (*MODES, None)[one.mode],
                "cell": (*CELLS, None)[one.cell],
                "mode_counts": one.mode_counts.tolist(),
                "cell_counts": one.cell_counts.tolist(),
                "clocks": one.clocks,
            }
            for one in decisions
        ],
    }
    if file is not None:
        from firmware_tools.report.avoid import of_pictures

        sections = of_pictures(values, frames, decisions)
        page.write(file, f"Avoidance: {path.name}", sections, terminal, setup.config)
    terminal.result(values)
    terminal.print(f"[bold]{escape(str(path))}[/bold]: {len(frames):,} frames")
    terminal.print(report.frame_table(decisions))


def _fly(
    setup: "Setup",
    n: int,
    seed: int,
    film: Path | None,
    file: Path | None,
    terminal: Terminal,
) -> None:
    from firmware_tools.avoid import film as films
    from firmware_tools.avoid.flying import Moment, fly
    from firmware_tools.avoid.measuring import world

    steered: list[int] = []
    straight: list[int] = []
    try:
        with terminal.progress("worlds", n) as advance:
            for k in range(n):
                straight.append(setup.collisions(seed + k, steers=False))
                steered.append(setup.collisions(seed + k, steers=True))
                advance(k + 1)
    except KeyboardInterrupt:
        if not steered:
            raise
        straight = straight[: len(steered)]
        terminal.warn(f"interrupted after {len(steered)} of {n} worlds; these count")
    flight: list[Moment] = []
    if film is not None or file is not None:
        with terminal.busy(f"filming {film or 'the first flight'}"):
            flight = list(fly(world("rgb_array"), seed, setup.pilot()))
    if film is not None:
        films.write(flight, film)
    rows: dict[str, list[int]] = {"straight on": straight, setup.source: steered}
    values = {
        "source": setup.source,
        "worlds": len(steered),
        "seed": seed,
        "collisions": sum(steered),
        "straight_collisions": sum(straight),
        "hit_worlds": sum(map(bool, steered)),
        "straight_hit_worlds": sum(map(bool, straight)),
        "film": None if film is None else str(film),
    }
    if file is not None:
        from firmware_tools.report.avoid import of_worlds

        sections = of_worlds(values, steered, straight, flight)
        page.write(file, "Avoidance: flights", sections, terminal, setup.config)
    terminal.result(values)
    terminal.print(_collisions(rows))
    if film is not None:
        terminal.print(f"wrote {escape(str(film))}")


def _collisions(rows: dict[str, list[int]]) -> Table:
    table = Table(title=f"{len(next(iter(rows.values())))} worlds")
    table.add_column("steered by")
    for title in ("collisions", "worlds with one"):
        table.add_column(title, justify="right")
    for name, counts in rows.items():
        values: tuple[Any, ...] = (sum(counts), sum(map(bool, counts)))
        table.add_row(name, *map(str, values))
    return table
