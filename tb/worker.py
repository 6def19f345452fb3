"""Runs the simulator of one configuration in a process of its own (`tb.cosim` starts it)."""

import os
import pickle
import sys
from pathlib import Path

from model.config import ChipConfig
from tb import cosim, simulator


def main() -> None:
    """Arguments: a pickled configuration, the folder for log and waves, the kind of waves."""
    config_file, folder, waves = sys.argv[1:]
    config = pickle.loads(Path(config_file).read_bytes())
    simulator.run(
        cosim.chip(ChipConfig.alone(config)),
        "tb.serve",
        Path(folder),
        waves=waves,
        plusargs=(f"+trace_file={os.environ['KENYON_TRACE']}",),
    )


if __name__ == "__main__":
    main()
