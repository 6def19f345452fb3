"""`kenyon train digits`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from firmware_tools import trainings
from firmware_tools.console import Json, Report, Seed, Terminal, examples
from firmware_tools.mars.inputs import refuse_others
from firmware_tools.trainings import ActBits, Bits, Epochs, FloatEpochs, Quantizer, WeightBits

EXAMPLES = examples(
    "kenyon train digits --bits 3",
    "kenyon train digits --bits 4 --sparsity 0.75 -o sparse.npz",
    "kenyon train digits --weight-bits 2 --act-bits 4 --quantizer lsq --seed 1 --json",
    "kenyon train digits --spiking --exit confidence:0.8 -o spiking.npz",
    "kenyon train digits --spiking --policy policy.npz -o spiking.npz",
    "kenyon train digits --spiking --events --epochs 6 -o events.npz",
    "kenyon train digits --report digits.html",
    "kenyon train digits --spiking --steps 2 --membrane-bits 2 --share channel",
)


def _spiking(help_text: str, *names: str, **limits: Any) -> Any:
    """An option for --spiking only; its default is in its help text."""
    return typer.Option(*names, help=f"--spiking: {help_text}", **limits)


def command(
    bits: Bits = None,
    weight_bits: WeightBits = None,
    act_bits: ActBits = None,
    quantizer: Quantizer = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.99, help="Share of the group-sets that shall be zero. Default: 0."
        ),
    ] = None,
    spiking: Annotated[
        bool, typer.Option("--spiking", help="Neurons that spike in place of activations.")
    ] = False,
    steps: Annotated[int | None, _spiking("time steps. Default: 4.", min=1, max=64)] = None,
    membrane_bits: Annotated[
        int | None, _spiking("bits of membranes. Default: 4.", min=2, max=16)
    ] = None,
    share: Annotated[
        Literal["layer", "channel", "both"] | None,
        _spiking(
            "who uses one membrane memory: layers with membranes of one shape, two groups of "
            "channels, or both."
        ),
    ] = None,
    stop: Annotated[
        str | None,
        _spiking(
            "when no more steps are taken: confidence:THRESHOLD or entropy:THRESHOLD, 0 to 1.",
            "--exit",
            metavar="METRIC:X",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        _spiking(
            "also train a network that chooses the time steps of an image.", metavar="POLICY.npz"
        ),
    ] = None,
    events: Annotated[
        bool, _spiking("spikes of a moving camera in place of images.", "--events")
    ] = False,
    seed: Seed = 0,
    epochs: Epochs = None,
    float_epochs: FloatEpochs = None,
    one_step_epochs: Annotated[
        int | None,
        _spiking("epochs of one time step with real weights, after the float ones.", min=1),
    ] = None,
    output: Annotated[Path, trainings.OUTPUT] = Path("digits.npz"),
    report: Report = None,
    json: Json = False,
) -> None:
    """A network, spiking or not, for scikit-learn's digits.

    Beside OUT.npz are float network and quantised twin (OUT.pt), for kenyon diff. There are 3 bits
    if nothing else is said, with --spiking 4.

    With --spiking weights and membranes of a layer share one scale, the image counts in every time
    step, and the accuracy is that after each step; with an exit also that where it stops, and the
    mean of the steps taken. Bits of activations are those of the images only. A policy is trained
    behind it (SEENN-II), by policy gradient; kenyon infer --policy takes it.

    After Ctrl-C the same command goes on from the last epoch and ends with the same weights. Exit
    code 1 if a layer's integers are not those of the training on all test images.
    """
    terminal = Terminal(json=json)
    trainings.check(report, output, policy)
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
    if spiking:
        refuse_others("--spiking", {"--quantizer": quantizer, "--sparsity": sparsity})
    else:
        refuse_others("training without --spiking", for_spiking)
    common = trainings.given(
        weight_bits=weight_bits or bits, seed=seed, epochs=epochs, float_epochs=float_epochs
    )
    if spiking:
        from firmware_tools.quantize import spiking_report
        from firmware_tools.quantize.spiking_training import SpikingSettings, stop_of

        neurons = trainings.given(
            input_bits=act_bits or bits,
            time_steps=steps,
            membrane_bits=membrane_bits,
            share=share,
            stop=None if stop is None else stop_of(stop),
            one_step_epochs=one_step_epochs,
        )
        settings = SpikingSettings(events=events, **common, **neurons)
        spiking_report.train(settings, output, policy, report, terminal)
        return
    from firmware_tools.quantize import digits
    from firmware_tools.quantize.training import Settings, Training

    layers = trainings.given(act_bits=act_bits or bits, quantizer=quantizer, sparsity=sparsity)
    data = digits.load()
    training = Training(Settings(**common, **layers), data, trainings.checkpoint_of(output))
    trainings.quantised(training, data.test, output, report, terminal)
