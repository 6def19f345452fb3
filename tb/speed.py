"""How fast the RTL runs: under cocotb as `tb.cosim` uses it, and in a bare C++ loop."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.npu.config import NPUConfig
from model.npu.image import bias_records, records
from model.npu.network import Network
from model.npu.registers import register_map
from tb import cosim, simulator
from tb.simulator import BuildError

SOURCE = Path(__file__).with_name("bare_loop.cpp")


@dataclass(frozen=True)
class Speed:
    """Clocks of a whole run and the seconds of wall time that they took."""

    clocks: int
    seconds: float

    @property
    def clocks_per_second(self) -> float:
        return self.clocks / self.seconds


def cocotb_speed(network: Network, config: NPUConfig) -> Speed:
    """Run the session on the RTL as `kenyon run --backend rtl` does."""
    return Speed(*cosim.timed_run(network, config))


def bare_speed(network: Network, config: NPUConfig) -> Speed:
    """Run the session, which must have one segment and no events, in a bare C++ loop."""
    if len(network.session) != 1 or len(network.events):
        raise ValueError("network for a bare loop must have one segment and no events")
    addresses = register_map(config)
    segment = network.session[0]
    writes = [
        write
        for record in (
            *records(network, config),
            *bias_records(network, config, segment.bias),
        )
        for write in record.writes
    ]
    writes.append((addresses["RUN_STEPS"], segment.steps))
    writes.append((addresses["CONTROL"], 1 << 0 | 1 << 4))
    with tempfile.NamedTemporaryFile(suffix=".script") as script:
        script.write(np.array(writes, "<u4").tobytes())
        script.flush()
        command = [str(_build_bare_loop(config)), script.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    clocks, seconds = output.split()
    return Speed(int(clocks), float(seconds))


def _build_bare_loop(config: NPUConfig) -> Path:
    """Link the bare loop with the model that cocotb uses."""
    folder = cosim.build(config)
    program = folder / "bare_loop"
    if not program.exists():
        root = simulator.verilator_root()
        runtime = [str(path) for path in sorted(folder.glob("verilated*.o"))]
        command = ["g++", "-O2", "-std=c++17", f"-I{folder}", f"-I{root / 'include'}"]
        command += [f"-I{root / 'include' / 'vltstd'}", str(SOURCE)]
        command += [str(folder / "Vtop__ALL.a"), *runtime, "-lpthread", "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"linking the bare loop failed:\n{done.stderr}")
    return program
