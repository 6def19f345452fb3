"""`kenyon train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from firmware_tools import trainings
from firmware_tools.console import DIFFERENCE, Json, Report, Seed, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder
from firmware_tools.mars.inputs import refuse_others
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.avoid.training import PerceptionResult, PerceptionSettings
    from firmware_tools.quantize.digits import Data as DigitsData
    from firmware_tools.quantize.policy import PolicyResult
    from firmware_tools.quantize.spiking import SpikingTwin
    from firmware_tools.quantize.spiking_training import SpikingSettings
    from firmware_tools.quantize.training import Result, Settings, StagedTraining, Training

Data = Literal["digits", "avoid", "vit"]
QuantizerName = Literal["lg-lsq", "lsq", "ste", "pact", "ewgs"]
ShareName = Literal["layer", "channel", "both"]
EXAMPLES = examples(
    "kenyon train digits --bits 3",
    "kenyon train digits --bits 4 --sparsity 0.75 -o sparse.npz",
    "kenyon train digits --weight-bits 2 --act-bits 4 --quantizer lsq --seed 1 --json",
    "kenyon train digits --spiking --exit confidence:0.8 -o spiking.npz",
    "kenyon train digits --spiking --policy policy.npz -o spiking.npz",
    "kenyon train digits --spiking --events --epochs 6 -o events.npz",
    "kenyon train digits --report digits.html",
    "kenyon train digits --spiking --steps 2 --membrane-bits 2 --share channel",
    "kenyon train avoid -o avoid.npz",
    "kenyon train vit --weight-bits 4 --act-bits 8 -o vit.npz",
)
SUFFIX = ".npz"
BITS, SPIKING_BITS = 3, 4


def _bits(what: str) -> Any:
    return typer.Option(min=2, max=8, help=f"Bits of {what}. Default: --bits.", show_default=False)


def _spiking_option(help_text: str, *names: str, **limits: Any) -> Any:
    """An option for --spiking only; its default is in its help text."""
    return typer.Option(*names, help=f"--spiking: {help_text}", show_default=False, **limits)


def command(
    data: Annotated[
        Data,
        typer.Argument(
            help="What is learned: scikit-learn's digits, what kenyon avoid sees with, or vit: "
            "the digits by a vision transformer."
        ),
    ],
    bits: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=8,
            help="Bits of weights, activations and images. Default: 3; avoid and --spiking: 4; "
            "vit: 8.",
            show_default=False,
        ),
    ] = None,
    weight_bits: Annotated[int | None, _bits("weights")] = None,
    act_bits: Annotated[int | None, _bits("activations and images")] = None,
    quantizer: Annotated[
        QuantizerName | None,
        typer.Option(
            help="LG-LSQ (reconstructed), or one of the baselines. Default: lg-lsq.",
            show_default=False,
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Share of the group-sets that shall be zero. Default: 0.",
            show_default=False,
        ),
    ] = None,
    spiking: Annotated[
        bool, typer.Option("--spiking", help="Neurons that spike in place of activations.")
    ] = False,
    steps: Annotated[int | None, _spiking_option("time steps. Default: 4.", min=1, max=64)] = None,
    membrane_bits: Annotated[
        int | None, _spiking_option("bits of membranes. Default: 4.", min=2, max=16)
    ] = None,
    share: Annotated[
        ShareName | None,
        _spiking_option(
            "who uses one membrane memory: layers with membranes of one shape, two groups of "
            "channels, or both."
        ),
    ] = None,
    stop: Annotated[
        str | None,
        _spiking_option(
            "when no more steps are taken: confidence:THRESHOLD or entropy:THRESHOLD, 0 to 1.",
            "--exit",
            metavar="METRIC:X",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        _spiking_option(
            "also train a network that chooses the time steps of an image.", metavar="POLICY.npz"
        ),
    ] = None,
    events: Annotated[
        bool,
        typer.Option("--events", help="--spiking: spikes of a moving camera in place of images."),
    ] = False,
    seed: Seed = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Quantised epochs.", show_default=False)
    ] = None,
    float_epochs: Annotated[
        int | None, typer.Option(min=1, help="Float epochs before.", show_default=False)
    ] = None,
    one_step_epochs: Annotated[
        int | None,
        _spiking_option("epochs of one time step with real weights, after the float ones.", min=1),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NET.npz",
            help="The quantised network. Default: digits.npz, avoid.npz or vit.npz.",
            show_default=False,
        ),
    ] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Train a network with quantised weights and activations, and export its integers.

    Beside NET.npz it writes the test images as the network takes them (NET-images.npy), their
    classes (NET-labels.npy), and float network and quantised twin (NET.pt, for kenyon diff).

    With --spiking weights and membranes of a layer share one scale, the image counts in every time
    step, and the accuracy is that after each step; with an exit also that where it stops, and the
    mean of the steps taken. Bits of activations are those of the images only. A policy is trained
    behind it (SEENN-II), by policy gradient; kenyon infer --policy takes it.

    After Ctrl-C the same command goes on from the last epoch and ends with the same weights. Exit
    code 1 if a layer's integers are not those of the training on all test images.
    """
    terminal = Terminal(json=json)
    page.check(report)
    output = output or Path(f"{data}{SUFFIX}")
    for path in (output, policy):
        if path is not None:
            if path.suffix != SUFFIX:
                raise UserError(f"{path}: network file must end in {SUFFIX}")
            check_folder(path)
    for_spiking = {
        "--steps": steps,
        "--membrane-bits": membrane_bits,
        "--share": share,
        "--exit": stop,
        "--one-step-epochs": one_step_epochs,
        "--policy": policy,
        "--events": events or None,
    }
    if events:
        refuse_others("--events", {"--policy": policy, "--act-bits": act_bits})
    if not spiking:
        refuse_others("training without --spiking", for_spiking)
    else:
        refuse_others("--spiking", {"--quantizer": quantizer, "--sparsity": sparsity})
    if data != "digits":
        refuse_others(data, {"--spiking": spiking or None, "--sparsity": sparsity})
    common = _given(
        weight_bits=bits if weight_bits is None else weight_bits,
        seed=seed,
        float_epochs=float_epochs,
    )
    images = bits if act_bits is None else act_bits
    if spiking:
        from firmware_tools.quantize.spiking_training import SpikingSettings, stop_of

        chosen = SpikingSettings(
            **common,
            events=events,
            **_given(
                input_bits=images,
                time_steps=steps,
                membrane_bits=membrane_bits,
                share=share,
                stop=None if stop is None else stop_of(stop),
                one_step_epochs=one_step_epochs,
                epochs=epochs,
            ),
        )
        _train_spiking(data, chosen, output, policy, report, terminal)
        return
    more = _given(act_bits=images, quantizer=quantizer, sparsity=sparsity, epochs=epochs)
    if data == "avoid":
        from firmware_tools.avoid.training import PerceptionSettings

        _train_perception(PerceptionSettings(**common, **more), output, report, terminal)
        return
    if data == "vit":
        from firmware_tools.quantize.vit import VitSettings, VitTraining

        _train_quantised(VitSettings(**common, **more), VitTraining, output, report, terminal)
        return
    from firmware_tools.quantize.training import Settings, Training

    _train_quantised(Settings(**common, **more), Training, output, report, terminal)


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _train_quantised(
    settings: "Settings",
    kind: "type[Training]",
    output: Path,
    report: Path | None,
    terminal: Terminal,
) -> None:
    from firmware_tools.quantize import digits

    data = digits.load()
    training = kind(settings, data, trainings.checkpoint_of(output))
    trainings.run(training, terminal)
    result = training.finish()
    lines = [
        f"float accuracy      {result.float_accuracy:8.2%}",
        f"quantised accuracy  {result.accuracy:8.2%}",
        f"zero group-sets     {result.group_sparsity:8.2%}",
    ]
    _finish(settings.name, training, result, data.test, lines, output, report, terminal)


def _train_perception(
    settings: "PerceptionSettings", output: Path, report: Path | None, terminal: Terminal
) -> None:
    from firmware_tools.avoid import training as perception

    with terminal.busy("rendering what is seen"):
        data = perception.load()
    training = perception.PerceptionTraining(settings, data, trainings.checkpoint_of(output))
    trainings.run(training, terminal)
    result = training.perception()
    lines = [
        f"{what:9}  motion {seen.mode:8.2%}  direction {seen.direction:8.2%}"
        for what, seen in (("float", result.float_accuracy), ("quantised", result.accuracy))
    ]
    _finish("avoid", training, result, data.test, lines, output, report, terminal)


def _finish(
    data: str,
    training: "Training",
    result: "Result | PerceptionResult",
    test: Any,
    lines: list[str],
    output: Path,
    report: Path | None,
    terminal: Terminal,
) -> None:
    """Write what was trained and say how good it is, for people in `lines`."""
    from firmware_tools.quantize.training import save_result

    settings = training.settings
    save_result(settings, result.model, result.twin, output.with_suffix(".pt"))
    n_unequal = trainings.write_network(result, test, output)
    training.discard_checkpoint()
    values = {
        "data": data,
        **result.as_json(),
        "weight_bits": settings.weight_bits,
        "act_bits": settings.act_bits,
        "quantizer": settings.quantizer,
        "seed": settings.seed,
        "n_test": len(test),
        "equal": not n_unequal,
        "output": str(output),
    }
    terminal.result(values)
    for line in lines:
        terminal.print(line)
    if n_unequal:
        terminal.print(f"[red]{n_unequal:,} integers differ[/red]: kenyon diff {output}")
    else:
        terminal.print(f"every layer's integers equal on {len(test)} test images")
    stem = output.with_suffix("")
    terminal.print(escape(f"wrote {output}, {stem}.pt, {stem}-images.npy, {stem}-labels.npy"))
    _write_report(report, values, training, terminal)
    if n_unequal:
        raise typer.Exit(DIFFERENCE)


def _train_spiking(
    data: str,
    settings: "SpikingSettings",
    output: Path,
    policy: Path | None,
    report: Path | None,
    terminal: Terminal,
) -> None:
    from firmware_tools.quantize import spiking_report
    from firmware_tools.quantize.spiking_training import SpikingTraining

    loaded = settings.load()
    training = SpikingTraining(settings, loaded, trainings.checkpoint_of(output))
    trainings.run(training, terminal)
    result = training.finish()
    n_unequal = spiking_report.write(settings, result, loaded.test, output)
    stored, alone = spiking_report.membrane_bytes(result.network)
    chooses = None
    if policy is not None:
        chooses = _train_policy(result.twin, loaded, policy, settings.seed, terminal)
    training.discard_checkpoint()
    values = {
        "data": data,
        **result.as_json(),
        "time_steps": settings.time_steps,
        "weight_bits": settings.weight_bits,
        "membrane_bits": settings.membrane_bits,
        "input_bits": result.network.input_type.bits,
        "events": settings.events,
        "share": settings.share,
        "membrane_bytes": stored,
        "membrane_bytes_if_nothing_was_shared": alone,
        "policy": None if chooses is None else {**chooses.as_json(), "output": str(policy)},
        "exit": None if settings.stop is None else ":".join(map(str, settings.stop)),
        "seed": settings.seed,
        "n_test": len(loaded.test),
        "equal": not n_unequal,
        "output": str(output),
    }
    terminal.result(values)
    spiking_report.report(terminal, result, output, n_unequal, len(loaded.test))
    if chooses is not None:
        mean = f"{chooses.mean_steps:.2f} of {settings.time_steps} steps in the mean"
        terminal.print(f"with the policy     {chooses.accuracy:8.2%}, {mean}")
        terminal.print(escape(f"wrote {policy}"))
    _write_report(report, values, training, terminal)
    if n_unequal:
        raise typer.Exit(DIFFERENCE)


def _train_policy(
    spiking: "SpikingTwin", data: "DigitsData", path: Path, seed: int, terminal: Terminal
) -> "PolicyResult":
    from firmware_tools.quantize.policy import PolicyTraining
    from model.mars import network_file

    training = PolicyTraining(spiking, data, trainings.checkpoint_of(path), seed=seed)
    trainings.run(training, terminal)
    result = training.finish()
    network_file.dump(result.network, path)
    training.discard_checkpoint()
    return result


def _write_report(
    path: Path | None, values: dict[str, object], training: "StagedTraining", terminal: Terminal
) -> None:
    if path is None:
        return
    from firmware_tools.report.train import sections

    title = f"Training on {values['data']}"
    page.write(path, title, sections(values, training.losses), terminal)
