"""`kenyon inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools.console import Json, Terminal, examples
from firmware_tools.errors import UserError
from firmware_tools.inputs import check_folder

if TYPE_CHECKING:
    from model.npu.config import NPUConfig
    from model.npu.network import Network

EXAMPLES = examples(
    "kenyon inspect decision.img",
    "kenyon inspect decision.img -o decision.json",
    "kenyon inspect net.img --json",
)


def command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image of kenyon compile.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="NETWORK.json", help="Write the network that the image holds."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check a binary image and show what it holds.

    Of an NPU's image: populations, synapses, neurons. It has no stimulus, its tau are powers of two
    and connections of weight 0 are gone: that is all the chip knows. Of an image of MARS: its
    passes with stride behind the kernel's size, spread (macros that share a kernel block x teams x
    rows of each), stored weights in kbit, and where macro 0 has the maps that are read (a residual
    below) and written in its feature memory. If maps do not fit, the network is a chain of
    segments, whose rows of maps are loaded from memory and stored there. A packed input has several
    pixels in a word; the kernel that reads it is that of such words.
    """
    from model.mars.image import MAGIC as MARS_MAGIC
    from model.npu.image import MAGIC as NPU_MAGIC

    terminal = Terminal(json=json)
    data = image.read_bytes()
    magic = data[: len(MARS_MAGIC)]
    if magic == MARS_MAGIC:
        if output is not None:
            raise UserError("--output must be left out: images of MARS hold no network file")
        _inspect_mars(image, data, terminal)
    elif magic == NPU_MAGIC:
        _inspect_npu(image, data, output, terminal)
    else:
        raise UserError(
            f"{image}: image must begin with {NPU_MAGIC.decode()} (NPU) or {MARS_MAGIC.decode()} "
            f"(MARS), not {magic!r}"
        )


def _inspect_mars(path: Path, data: bytes, terminal: Terminal) -> None:
    from firmware_tools.mars import inspect as mars_inspect
    from model.mars.image import ImageError, read_image

    try:
        image = read_image(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    about = _about(path, data, image.config.name, image.config.fingerprint)
    values = mars_inspect.describe(image)
    terminal.result({**about, **values})
    _print_about(terminal, about)
    terminal.print(
        f"network {escape(values['network'])}: {values['input']} to {values['output']}, "
        f"result at {values['output_address']}{' in memory' * values['output_stored']}"
    )
    if memory := mars_inspect.memory_text(values):
        terminal.print(memory)
    terminal.print(mars_inspect.table(values))
    terminal.print(mars_inspect.totals(values))


def _about(path: Path, data: bytes, config: str, fingerprint: int) -> dict[str, object]:
    return {
        "image": str(path),
        "bytes": len(data),
        "configuration": config,
        "fingerprint": f"{fingerprint:08x}",
    }


def _print_about(terminal: Terminal, about: dict[str, object]) -> None:
    terminal.print(
        f"{escape(str(about['image']))}: {about['bytes']:,} bytes for configuration "
        f"{about['configuration']} ({about['fingerprint']})"
    )


def _inspect_npu(path: Path, data: bytes, output: Path | None, terminal: Terminal) -> None:
    from model.npu.image import decompile
    from model.npu.network_file import dump

    if output is not None:
        check_folder(output)
    chip, network = decompile(data)
    populations = [_population(data, chip, network, p) for p in range(len(network.populations))]
    about = _about(path, data, chip.name, chip.fingerprint)
    terminal.result({**about, "populations": populations})
    _print_about(terminal, about)
    terminal.print(_table("Populations", populations))
    terminal.print(_table("Synapses", [_with_number(p, "synapses") for p in populations]))
    terminal.print(_table("Neurons", [_with_number(p, "parameters") for p in populations]))
    if output is not None:
        output.write_text(dump(network))
        terminal.print(f"wrote {escape(str(output))}")


def _population(
    data: bytes, chip: "NPUConfig", network: "Network", population: int
) -> dict[str, Any]:
    """What an image holds of a population."""
    from model.npu.clocks import used_groups
    from model.npu.image import read_image
    from model.npu.network import NEURON_LIMITS
    from model.npu.registers import register_map

    memories = register_map(chip).memories
    own = [memories[f"{memory}[{population}]"] for memory in ("neurons", "weights")]
    neurons = network.neurons[network.neuron_slice(population)]
    return {
        "population": population,
        "neurons": network.populations[population],
        "groups": int(used_groups(network, chip)[population]),
        "axons": network.axons[population],
        "noise_seed": network.noise_seeds[population],
        "bytes": sum(
            4 * len(record.words)
            for record in read_image(data)[1]
            if any(m.address <= record.address < m.address + 4 * m.n_words for m in own)
        ),
        "synapses": _synapses(network, population),
        "parameters": {
            name: [int(getattr(neurons, name).min()), int(getattr(neurons, name).max())]
            for name in NEURON_LIMITS
        },
    }


def _synapses(network: "Network", population: int) -> dict[str, int]:
    """Connections into a population, by where they come from."""
    recurrent, external = network.recurrent, network.external
    into = network.population_of(recurrent.post) == population
    source = network.population_of(recurrent.pre)
    own = into & (source == population)
    to_itself = recurrent.pre == recurrent.post
    return {
        "recurrent": int((own & ~to_itself).sum()),
        "self": int((own & to_itself).sum()),
        "linked": int((into & ~own).sum()),
        "axons": int((network.population_of(external.post) == population).sum()),
    }


def _with_number(population: dict[str, Any], part: str) -> dict[str, Any]:
    return {"population": population["population"], **population[part]}


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Rows of plain values; a pair is a range."""
    table = Table(title=title, title_justify="left")
    shown = [name for name, value in rows[0].items() if not isinstance(value, dict)]
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in shown))
    return table


def _cell(value: int | list[int]) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    low, high = value
    return f"{low}" if low == high else f"{low}..{high}"
