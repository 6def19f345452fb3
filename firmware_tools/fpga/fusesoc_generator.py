"""A generator for FuseSoC: the Verilog of a configuration (see kenyon_generator.core).

FuseSoC runs this file in the folder for its output, with a description of the job as argument. Its
`python3` must have both FuseSoC and Kenyon installed.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The modules beside this file must not hide others of the same name.
    sys.path[0] = str(Path(__file__).parents[2])

    from fusesoc.capi2.generator import Generator  # type: ignore[import-not-found]

    from firmware_tools.errors import UserError
    from firmware_tools.generator import generate
    from firmware_tools.inputs import named_chip

    job = Generator()
    try:
        chip = named_chip(job.config["config"])
    except UserError as error:
        sys.exit(f"error: {error}")
    verilog, *_ = generate(chip, Path("kenyon.v"))
    job.add_files([verilog.name], file_type="verilogSource")
    job.write()
