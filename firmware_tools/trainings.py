"""What verbs that train have in common: the way through the epochs, the files at the end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_tools.console import Terminal

if TYPE_CHECKING:
    from firmware_tools.quantize.training import StagedTraining


def checkpoint_of(output: Path) -> Path:
    """Where a training that writes a network is kept meanwhile."""
    return output.with_name(f"{output.name}.checkpoint")


def run(training: "StagedTraining", terminal: Terminal) -> None:
    """All epochs that are left, with their progress.

    Raises
    ------
    KeyboardInterrupt
        With what has been done and how to go on.
    """
    if training.done:
        terminal.err.print(f"going on after epoch {training.done} of {len(training)}")
    try:
        with terminal.progress("epochs", len(training)) as advance:
            advance(training.done)
            for _stage, done in training.run():
                advance(done)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after epoch {training.done} of {len(training)}; "
            "the same command goes on from there"
        ) from None


def write_tests(output: Path, images: Any, labels: Any) -> None:
    """Test images as the network takes them, and their classes, beside the network."""
    import numpy as np

    np.save(output.with_name(f"{output.stem}-images.npy"), images)
    np.save(output.with_name(f"{output.stem}-labels.npy"), labels.numpy())


def write_network(result: Any, test: Any, output: Path) -> int:
    """Write network and tests; the number of integers in which the written network differs.

    Parameters
    ----------
    result : Result or PerceptionResult
    test : Part
    output : Path
    """
    import numpy as np

    from firmware_tools.quantize.difference import differences
    from model.mars import network_file

    network_file.dump(result.network, output)
    write_tests(output, result.twin.image_ints(test.images).astype(np.int16), test.labels)
    rows = differences(result.model, result.twin, network_file.load(output), test.images)
    return sum(row.unequal for row in rows)
