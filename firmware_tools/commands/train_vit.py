"""`kenyon train vit`."""

from pathlib import Path
from typing import Annotated

from firmware_tools import trainings
from firmware_tools.console import Json, Report, Seed, Terminal, examples
from firmware_tools.trainings import ActBits, Bits, Epochs, FloatEpochs, Quantizer, WeightBits

EXAMPLES = examples(
    "kenyon train vit --weight-bits 4 --act-bits 8 -o vit.npz",
    "kenyon prompts condense vit.npz",
)


def command(
    bits: Bits = 8,
    weight_bits: WeightBits = None,
    act_bits: ActBits = None,
    quantizer: Quantizer = None,
    seed: Seed = 0,
    epochs: Epochs = None,
    float_epochs: FloatEpochs = None,
    output: Annotated[Path, trainings.OUTPUT] = Path("vit.npz"),
    report: Report = None,
    json: Json = False,
) -> None:
    """A vision transformer for scikit-learn's digits.

    Beside OUT.npz are float network and quantised twin (OUT.pt), for kenyon diff and kenyon prompts
    condense.

    After Ctrl-C the same command goes on from the last epoch and ends with the same weights. Exit
    code 1 if a layer's integers are not those of the training on all test images.
    """
    trainings.check(report, output)
    from firmware_tools.quantize import digits
    from firmware_tools.quantize.vit import VitSettings, VitTraining

    options = trainings.given(
        weight_bits=weight_bits or bits,
        act_bits=act_bits or bits,
        quantizer=quantizer,
        seed=seed,
        epochs=epochs,
        float_epochs=float_epochs,
    )
    data = digits.load()
    training = VitTraining(VitSettings(**options), data, trainings.checkpoint_of(output))
    trainings.quantised(training, data.test, output, report, Terminal(json=json))
