"""`kenyon search devices`."""

import string
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Jobs, Json, On, Report, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.jobs.choice import executor
from firmware_tools.mars.inputs import Quantised, is_quantised
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.search.devices import Search, Settings

Objective = Literal["tops-per-mm2", "energy", "edp"]
Method = Literal["gradient", "exhaustive", "nsga2", "tpe"]
DEVICES = ("sram", "pcm", "fefet")
LETTERS = string.ascii_lowercase
EXAMPLES = examples(
    "kenyon search devices digits.npz -o found",
    "kenyon search devices digits.npz --objective energy --accuracy-drop 0.5 --report search.html",
    "kenyon search devices vgg16.npz --images 4 --chips 1 --method exhaustive --json",
    "kenyon search devices net.npz --device sram --device pcm:age=1e6 --arrays 64,128",
    "kenyon search devices digits.npz --weight-bits 2,3,4 --sparsity 0,0.5 -o found",
    "kenyon infer digits.npz --input x.npy --device found/best.json",
    "kenyon bench devices --network digits.npz --device found/best.json",
)


def command(
    network: Quantised,
    objective: Annotated[
        Objective, typer.Option(help="What the network should be best in.")
    ] = "tops-per-mm2",
    accuracy_drop: Annotated[
        float,
        typer.Option(min=0, max=100, help="Points of accuracy that may be lost to the devices."),
    ] = 1.0,
    method: Annotated[
        Method,
        typer.Option(help="How phase 1 fills the front; nsga2 and tpe are Optuna's."),
    ] = "gradient",
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="A device that a layer may have, once for each (docs/hyde.md). Default: "
            f"{', '.join(DEVICES)}.",
        ),
    ] = None,
    arrays: Annotated[
        str, typer.Option(metavar="N,...", help="Word lines and bit lines of analogue arrays.")
    ] = "64",
    adc_bits: Annotated[
        str,
        typer.Option(metavar="N,...", help="Bits of converters. Default: the device's own."),
    ] = "",
    weight_bits: Annotated[
        str,
        typer.Option(metavar="N,...", help="Bits of weights, fewer than they have; not trained."),
    ] = "",
    activation_bits: Annotated[
        str,
        typer.Option(
            metavar="N,...",
            help="Bits of what a layer reads, if it is read by no other one, fewer than it has.",
        ),
    ] = "",
    sparsity: Annotated[
        str,
        typer.Option(metavar="SHARE,...", help="Shares of a layer's group-sets that are cleared."),
    ] = "",
    images: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="X.npy",
            help="Images: one half chooses, the other one reports. Default: digits for a network "
            "that takes them, else random images.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="L.npy",
            help="Classes of --input. Without them a point is lost for each percent of the images "
            "whose class is not the exact network's.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--images", min=2, max=100_000, help="Images to choose with, at most.")
    ] = 256,
    chips: Annotated[
        int, typer.Option(min=1, max=1000, help="Chips whose mean a measurement is.")
    ] = 2,
    measurements: Annotated[
        int, typer.Option(min=1, max=100_000, help="Networks that phase 2 measures, at most.")
    ] = 64,
    seed: Seed = 0,
    jobs: Jobs = None,
    on: On = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Write best.json and the networks of the front, for kenyon infer --device and "
            "kenyon bench devices; where bits or group-sets were chosen best.npz, too, which is to "
            "be run. Also after Ctrl-C.",
        ),
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Give each layer a device, so that a network costs least.

    And still is right: phase 1 fills the front of cost and expected noise by a differentiable
    choice for each layer; phase 2 measures networks along it on simulated chips, and changes the
    cheapest that is allowed as long as that pays. The best one is measured again on other chips and
    other images.

    Costs are those of 180 nm: digital SRAM from our synthesis, all else from published figures by
    stated rules (firmware_tools/costs/constants.toml); every figure is there for arrays alone, too.

    The same seed gives the same results on any number of workers. After Ctrl-C the front that was
    found so far is written.
    """
    terminal = Terminal(json=json)
    page.check(report)
    if labels is not None and images is None:
        raise UserError("--labels must be left out without --input")
    for path in (network, images, labels):
        if path is not None and not path.is_file():
            raise UserError(f"{path}: must be a file")
    if not is_quantised(network):
        raise UserError(f"{network}: quantised network must end in .npz, .tflite or .onnx")
    if output is not None:
        if output.exists() and not output.is_dir():
            raise UserError(f"{output}: must be a folder, not a file")
        check_folder(output / "best.json" if output.is_dir() else output)
    from firmware_tools.jobs.store import Store
    from firmware_tools.search.devices import Search, Settings, options_of, reductions_of
    from firmware_tools.search.measuring import task

    reductions = reductions_of(
        _numbers("--weight-bits", weight_bits),
        _numbers("--activation-bits", activation_bits),
        _shares("--sparsity", sparsity),
    )
    options = options_of(
        device or DEVICES,
        _numbers("--arrays", arrays),
        _numbers("--adc-bits", adc_bits),
        reductions,
    )
    settings = Settings(
        task(network, images, labels, count, seed),
        options,
        objective,
        accuracy_drop,
        method,
        seed,
        chips,
        measurements,
    )
    with terminal.stages() as begin:

        def say(what: str, done: int, of: int) -> None:
            begin(f"{what}: {done:,}" + (f" of {of:,}" if of else ""))

        search = Search(settings, executor(jobs, on), Store(), say)
        try:
            search.run()
        except KeyboardInterrupt:
            where = "" if output is None else f"; {output} holds the front"
            _finish(search, settings, output, report, terminal, finished=False)
            n = len(search.found.measured)
            raise KeyboardInterrupt(f"interrupted after {n} networks measured{where}") from None
    _finish(search, settings, output, report, terminal)


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise UserError(f"{name} must be integers with commas between them, not {text}") from None


def _shares(name: str, text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise UserError(f"{name} must be numbers with commas between them, not {text}") from None


def _finish(
    search: "Search",
    settings: "Settings",
    output: Path | None,
    report: Path | None,
    terminal: Terminal,
    *,
    finished: bool = True,
) -> None:
    """Say and write what there is; how much constants matter only of a whole search."""
    from firmware_tools.search.devices import write
    from firmware_tools.search.results import as_json, sensitivity

    values = as_json(search.found, settings)
    values["sensitivity"] = []
    if finished and (terminal.json or report is not None):
        with terminal.busy("moving each constant to the ends of its range"):
            values["sensitivity"] = sensitivity(search.found, settings)
    values["output"] = None if output is None else str(output)
    terminal.result(values)
    _print(terminal, values)
    if output is not None:
        output.mkdir(exist_ok=True)
        paths = write(search.found, settings, output)
        terminal.print(f"wrote {len(paths)} files into {escape(str(output))}")
    if report is not None:
        from firmware_tools.report.search import sections

        title = f"Devices for {values['network']}"
        page.write(report, title, sections(values), terminal)


def _print(terminal: Terminal, values: Mapping[str, Any]) -> None:
    terminal.print(
        f"[bold]{escape(values['network'])}[/bold], {values['objective']}: "
        f"{values['networks_priced']:,} networks priced, {values['networks_measured']:,} measured "
        f"with {values['image_count']:,} {escape(values['images'])}, {values['chips']} chips each"
    )
    for letter, text in zip(LETTERS, values["options"], strict=False):
        terminal.print(f"  {letter}: {escape(text)}")
    table = Table()
    table.add_column("", no_wrap=True)
    for title in ("points lost", "mm2", "uJ", "ms", "TOPS/mm2", "arrays only"):
        table.add_column(title, justify="right")
    table.add_column("layers", no_wrap=True)
    for name in ("front", "homogeneous"):
        for one in values[name]:
            table.add_row(name if name == "front" else "one device", *_cells(one, values))
    if values["best"] is not None:
        table.add_row("best", *_cells(values["best"], values))
    terminal.print(table)
    for one in values.get("at_equal_noise", ()):
        terminal.print(
            f"no noisier than all {escape(one['noise_of'])}: {one['gain']:.3f} times the best "
            f"single device, {one['gain_arrays_only']:.3f} times with arrays alone: "
            f"{_letters(one, values)}"
        )
    best = values["best"]
    if best is None:
        lost = values["allowed_drop"]
        terminal.print(f"no network was found that loses at most {lost:g} points")
        return
    if "reported_drop" in best:
        terminal.print(f"best, other chips and images: {best['reported_drop']:.2f} points lost")
    if "gain" in values:
        terminal.print(
            f"{values['gain']:.3f} times the best single device in {values['objective']}, "
            f"{values['gain_arrays_only']:.3f} times with arrays alone"
        )


def _cells(one: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    names = ("area_mm2", "energy_uj", "time_ms", "tops_per_mm2", "tops_per_mm2_arrays_only")
    return [f"{one['drop']:.2f}", *(f"{one[name]:.4g}" for name in names), _letters(one, values)]


def _letters(one: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """A letter for each layer's option; numbers where there are too many."""
    numbers = [values["options"].index(text) for text in one["devices"]]
    if len(values["options"]) > len(LETTERS):
        return " ".join(map(str, numbers))
    return "".join(LETTERS[k] for k in numbers)
