"""`kenyon compare`."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from firmware_tools.console import (
    DIFFERENCE,
    Iqif,
    IqifColumns,
    Json,
    Report,
    Seed,
    Terminal,
    examples,
)
from firmware_tools.inputs import fitting_config, load_network
from firmware_tools.mars.inputs import (
    AnyConfig,
    AnyNetwork,
    Chunk,
    is_quantised,
    refuse_others,
)
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.npu.lockstep import Agreement
    from firmware_tools.report.run import Gathered
    from model.npu.config import NPUConfig
    from model.npu.network import Network
    from model.npu.trace import Trace

EXAMPLES = examples(
    "kenyon compare examples/decision.json",
    "kenyon compare examples/decision.json -c large --pause 0.3 --seed 7",
    "kenyon compare network.json -c tiny --waves build/network.fst",
    "kenyon compare examples/decision.json --report decision.html",
    "kenyon compare net.npz --input digits.npy --images 10",
    "kenyon compare net.npz -c mars-tiny --seed 7",
    "kenyon compare net.npz --bridge bridge.json --populations network.json -c kenyon-tiny",
)


def command(
    network_file: AnyNetwork = None,
    iqif: Iqif = None,
    iqif_columns: IqifColumns = None,
    config: AnyConfig = None,
    images: Annotated[
        Path | None,
        typer.Option("--input", metavar="X.npy", help="Images for NET.npz. Default: random ones."),
    ] = None,
    n_images: Annotated[
        int | None,
        typer.Option(
            "--images",
            metavar="N",
            min=1,
            help="Only the first N images of X.npy, or N random ones. Default: all, or 1.",
        ),
    ] = None,
    chunk: Chunk = None,
    bridge: Annotated[
        Path | None,
        typer.Option(
            metavar="BRIDGE.json",
            help="Take the results of NET.npz to populations (docs/bridge.md), on kenyon or "
            "kenyon-tiny.",
        ),
    ] = None,
    populations: Annotated[
        Path | None, typer.Option(metavar="NETWORK.json", help="The network behind the bridge.")
    ] = None,
    pause: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Probability that the spike stream is not taken in a clock."
        ),
    ] = 0.0,
    seed: Seed = 0,
    waves: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.fst",
            help="Write the waves of all signals, as FST or VCD, and views of them for GTKWave and "
            "Surfer that open on the first difference (docs/waves.md).",
        ),
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Run a network on model and RTL; compare every value and every clock; exit code 1 if unequal.

    NETWORK.json runs in lockstep on the RTL of the NPU; --seed is that of the pauses. NET.npz runs
    on the reference, on the model and on the RTL of MARS: results of all layers, stored words, and
    clocks of all passes; --seed is that of random images.

    With --bridge each frame's results stimulate the populations, which run by themselves: model and
    RTL of the whole chip, every value of both halves, biases, counts, winner, and all clocks.
    """
    terminal = Terminal(json=json)
    page.check(report)
    if is_quantised(network_file) and iqif is None:
        assert network_file is not None
        refuse_others("NET.npz", {"--pause": pause or None})
        refuse_others("NET.npz", {"--iqif-columns": iqif_columns})
        if bridge is not None or populations is not None:
            from firmware_tools.joint import compare as joint_compare

            sources = joint_compare.Files(network_file, bridge, populations, images)
            joint_compare.compare(sources, config, chunk, n_images, seed, waves, terminal)
            return
        from firmware_tools.mars import compare as mars_compare

        mars_compare.compare(
            network_file, config, chunk, images, n_images, seed, waves, report, terminal
        )
    else:
        refuse_others("NPU networks", {"--input": images, "--images": n_images, "--chunk": chunk})
        refuse_others("NPU networks", {"--bridge": bridge, "--populations": populations})
        network = load_network(network_file, iqif, iqif_columns, terminal)
        files = ["--iqif", *map(str, iqif)] if iqif else [str(network_file)]
        if iqif_columns:
            files += ["--iqif-columns", iqif_columns]
        _lockstep(network, files, config, pause, seed, waves, report, terminal)


def _lockstep(
    network: "Network",
    files: list[str],
    config: str | None,
    pause: float,
    seed: int,
    waves: Path | None,
    report: Path | None,
    terminal: Terminal,
) -> None:
    from firmware_tools.npu import rtl
    from firmware_tools.npu.lockstep import Agreement, lockstep, moment_of
    from firmware_tools.waves import check, views_of_failure, write_views
    from model.config import ChipConfig
    from tb.cosim import Recording
    from tb.cosim import chip as design_of

    chip = fitting_config(config, network)
    rtl.build(chip, terminal, check(waves))
    recording, design = Recording(waves) if waves else None, design_of(ChipConfig.alone(chip))
    traces = rtl.simulate(network, chip, seed=seed, pause=pause, recording=recording)
    gathered = _gathered(network, chip) if report else None
    with (
        views_of_failure(waves, design),
        terminal.progress("time steps", network.n_steps) as advance,
    ):

        def on_equal(trace: "Trace") -> None:
            advance(trace.first_step + len(trace))
            if gathered is not None:
                gathered.add(trace)

        result = lockstep(network, chip, traces, on_equal=on_equal)
    views = write_views(waves, design, moment_of(recording, chip, result))
    about = {"network": network.name, "configuration": chip.name, "pause": pause, "seed": seed}
    again = shlex.join(
        ["kenyon", "compare", *files, "-c", chip.name, "--pause", f"{pause}", "--seed", f"{seed}"]
    )
    if isinstance(result, Agreement):
        values = {**about, "equal": True, **result.as_json()}
    else:
        values = {**about, "equal": False, "difference": asdict(result), "command": again}
    terminal.result(values)
    if report is not None and gathered is not None:
        from firmware_tools.report.compare import verdict

        sections = [verdict(values), *gathered.sections("rtl")]
        page.write(report, f"Model and RTL on {network.name}", sections, terminal, chip)
    for view in views:
        terminal.print(f"waves: {escape(view)}")
    if isinstance(result, Agreement):
        print_agreement(terminal, network.name, chip.name, result)
        return
    terminal.print(f"[red]model and RTL of {chip.name} differ[/red]: {escape(str(result))}")
    terminal.print(f"again, with waves: {escape(again)} --waves difference.fst")
    raise typer.Exit(DIFFERENCE)


def _gathered(network: "Network", chip: "NPUConfig") -> "Gathered":
    from firmware_tools.report.run import Gathered

    return Gathered(network, chip)


def print_agreement(
    terminal: Terminal, network_name: str, config_name: str, agreement: "Agreement"
) -> None:
    """Say what was compared and how fast the RTL was."""
    neurons = "neuron" if agreement.neurons == 1 else "neurons"
    terminal.print(
        f"[green]model and RTL of {config_name} agree[/green] on {escape(network_name)}: "
        f"{agreement.steps:,} time steps of {agreement.neurons:,} {neurons}"
    )
    terminal.print(
        f"compared: {agreement.values:,} values (potentials, currents, spikes, noise, saturation), "
        f"and the clocks of every time step, {agreement.clocks:,} in all"
    )
    terminal.print(
        f"RTL: {agreement.seconds:.1f} s, {agreement.clocks_per_second / 1000:,.0f} k clocks/s"
    )
