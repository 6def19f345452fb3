"""`kenyon compare` with a bridge: golden model of the whole chip = RTL."""

import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import DIFFERENCE, Terminal
from firmware_tools.errors import UserError
from firmware_tools.joint.difference import Compared, compare_pair
from firmware_tools.mars.compare import inputs_of
from firmware_tools.mars.inputs import compiled, load_model
from firmware_tools.waves import check, views_of_failure, write_views
from model import bridge_file
from model.chip import Chip, Outcome
from model.config import CHIPS, ChipConfig
from model.npu import network_file
from tb import simulator
from tb.cosim import chip as design_of
from tb.joint import cosim
from tb.joint.cosim import Pair

NAMES = [name for name, chip in CHIPS.items() if chip.has_bridge]
DEFAULT = "kenyon"


@dataclass(frozen=True)
class Files:
    """What the user names: both networks, the bridge, and the images, if they are not random."""

    network: Path
    bridge: Path | None
    populations: Path | None
    images: Path | None


def compare(
    files: Files,
    config: str | None,
    chunk: int | None,
    n_images: int | None,
    seed: int,
    waves: Path | None,
    terminal: Terminal,
) -> None:
    """Compare frames and their decisions in one simulation; exit code 1 if they differ.

    Parameters
    ----------
    files : Files
    config : str, optional
        Name of the chip; the default one.
    chunk : int, optional
        Time steps for which the program is run at once; what is best.
    n_images : int, optional
        Only the first ones of the file (all), or how many random ones (1).
    seed : int
        Of random images.
    waves : Path, optional
        Waves to write.
    terminal : Terminal
    """
    if files.bridge is None or files.populations is None:
        raise UserError("--bridge BRIDGE.json and --populations NETWORK.json must go together")
    chip, kind = _chip(config), check(waves)
    bridge = bridge_file.load(files.bridge)
    populations = network_file.load(files.populations)
    assert chip.mars is not None
    model = load_model(files.network, chip.mars)
    image = compiled(model.network, chip.mars, terminal, chunk)
    pair = Pair(image, populations, bridge, inputs_of(model, files.images, n_images, seed))
    golden = Chip(chip, image, populations, bridge)
    design = design_of(chip)
    if not simulator.is_built(design, kind):
        with terminal.busy(f"building the simulator of {chip.name}, once, some minutes"):
            simulator.build(design, kind)
    compared = Compared()
    begin = time.perf_counter()
    running = f"frames on the RTL of {chip.name}: {len(pair.inputs)}"
    with views_of_failure(waves, design), terminal.busy(running):
        (traces,) = cosim.run(chip, [pair], recorded=waves)
        difference = compare_pair(chip, model.network, pair, traces, compared)
    for view in write_views(waves, design, difference.moment if difference else None):
        terminal.print(f"waves: {escape(view)}")
    about = {
        "network": model.network.name,
        "populations": populations.name,
        "configuration": chip.name,
        "input": str(files.images) if files.images else None,
        "seed": None if files.images else seed,
    }
    if difference:
        _differs(files, chip, chunk, len(pair.inputs), seed, about, str(difference), terminal)
    outcomes = [golden.frame(features) for features in pair.inputs]
    seconds = time.perf_counter() - begin
    terminal.result(
        {
            **about,
            "equal": True,
            "frames": [_as_json(outcome) for outcome in outcomes],
            **asdict(compared),
            "seconds": seconds,
        }
    )
    terminal.print(
        f"[green]model and RTL of {chip.name} agree[/green] on {escape(model.network.name)} and "
        f"{escape(populations.name)}: {len(outcomes)} frames"
    )
    mars = compared.mars
    terminal.print(
        f"compared: {mars.values:,} results of layers, {mars.drained:,} drained values and "
        f"{mars.words:,} stored words; {compared.values:,} values of neurons in {compared.steps:,} "
        f"time steps; {compared.biases:,} biases, {compared.counts:,} counts and the winners; all "
        f"clocks, {compared.clocks:,} from the starts of frames to their decisions"
    )
    terminal.print(_table(outcomes))


def _chip(name: str | None) -> ChipConfig:
    name = DEFAULT if name is None else name
    if name not in NAMES:
        raise UserError(f"configuration must be one of {', '.join(NAMES)} for a bridge, not {name}")
    return CHIPS[name]


def _differs(
    files: Files,
    chip: ChipConfig,
    chunk: int | None,
    n_images: int,
    seed: int,
    about: dict[str, str | int | None],
    difference: str,
    terminal: Terminal,
) -> None:
    words = ["kenyon", "compare", str(files.network), "-c", chip.name]
    words += ["--bridge", str(files.bridge), "--populations", str(files.populations)]
    words += ["--input", str(files.images)] if files.images else ["--seed", str(seed)]
    words += ["--chunk", str(chunk)] if chunk else []
    again = shlex.join([*words, "--images", str(n_images)])
    terminal.result({**about, "equal": False, "difference": difference, "command": again})
    terminal.print(f"[red]model and RTL of {chip.name} differ[/red]: {escape(difference)}")
    terminal.print(f"again, with waves: {escape(again)} --waves difference.fst")
    raise typer.Exit(DIFFERENCE)


def _as_json(outcome: Outcome) -> dict[str, object]:
    decision = outcome.decision
    return {
        "neuron": decision.neuron if decision else None,
        "count": decision.count if decision else None,
        "frame_clocks": outcome.frame.clocks,
        "bridge_clocks": outcome.clocks,
        "clocks": outcome.total_clocks,
    }


def _table(outcomes: list[Outcome]) -> Table:
    """Decisions, frame by frame."""
    table = Table()
    for title in ("frame", "winner", "count", "clocks of MARS", "clocks of the bridge", "clocks"):
        table.add_column(title, justify="right")
    for k, outcome in enumerate(outcomes):
        decision = outcome.decision
        won = (str(decision.neuron), str(decision.count)) if decision else ("-", "-")
        clocks = (outcome.frame.clocks, outcome.clocks, outcome.total_clocks)
        table.add_row(str(k), *won, *(f"{n:,}" for n in clocks))
    return table
