"""`kenyon train avoid`."""

from pathlib import Path
from typing import Annotated

from firmware_tools import trainings
from firmware_tools.console import Json, Report, Seed, Terminal, examples
from firmware_tools.trainings import ActBits, Bits, Epochs, FloatEpochs, Quantizer, WeightBits

EXAMPLES = examples("kenyon train avoid -o avoid.npz", "kenyon train avoid --bits 3 --seed 1")


def command(
    bits: Bits = 4,
    weight_bits: WeightBits = None,
    act_bits: ActBits = None,
    quantizer: Quantizer = None,
    seed: Seed = 0,
    epochs: Epochs = None,
    float_epochs: FloatEpochs = None,
    output: Annotated[Path, trainings.OUTPUT] = Path("avoid.npz"),
    report: Report = None,
    json: Json = False,
) -> None:
    """What kenyon avoid sees with, for motion and what looms.

    Beside OUT.npz are float network and quantised twin (OUT.pt), for kenyon diff.

    After Ctrl-C the same command goes on from the last epoch and ends with the same weights. Exit
    code 1 if a layer's integers are not those of the training on all test images.
    """
    terminal = Terminal(json=json)
    trainings.check(report, output)
    from firmware_tools.avoid.training import PerceptionSettings, PerceptionTraining, load

    options = trainings.given(
        weight_bits=weight_bits or bits,
        act_bits=act_bits or bits,
        quantizer=quantizer,
        seed=seed,
        epochs=epochs,
        float_epochs=float_epochs,
    )
    settings = PerceptionSettings(**options)
    with terminal.busy("rendering what is seen"):
        data = load()
    training = PerceptionTraining(settings, data, trainings.checkpoint_of(output))
    trainings.run(training, terminal)
    result = training.perception()
    lines = [
        f"{what:9}  motion {seen.mode:8.2%}  direction {seen.direction:8.2%}"
        for what, seen in (("float", result.float_accuracy), ("quantised", result.accuracy))
    ]
    trainings.finish("avoid", training, result, data.test, lines, output, report, terminal)
