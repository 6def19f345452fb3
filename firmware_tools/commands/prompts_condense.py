"""`kenyon prompts condense`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from firmware_tools import trainings
from firmware_tools.console import DIFFERENCE, Json, Report, Seed, Terminal, examples
from firmware_tools.mars.inputs import DEFAULT, SUFFIX, ConfigName, load_network, mars_config
from firmware_tools.report import page

if TYPE_CHECKING:
    from firmware_tools.prompts.quantised import Cost

TaskName = Literal["rotated", "negative", "shuffled", "parity", "photograph", "orientation"]
EXAMPLES = examples(
    "kenyon train vit -o vit.npz",
    "kenyon prompts condense vit.npz --keep 0.3",
    "kenyon prompts condense vit.npz --task negative --deep --prompts 40 --report prompts.html",
    "kenyon infer vit-condensed.npz --input vit-condensed-images.npy",
)
N_ON_MACHINE = 5
"""Test images that the golden machine computes too."""


def command(
    network_file: Annotated[
        Path, typer.Argument(metavar="NET.npz", help="What kenyon train vit wrote.")
    ],
    keep: Annotated[float, typer.Option(help="Share of the prompts that is kept.")] = 0.3,
    task: Annotated[TaskName, typer.Option(help="What it is adapted to.")] = "rotated",
    prompts: Annotated[
        int, typer.Option(help="Prompts before the first block, or of all blocks together.")
    ] = 20,
    deep: Annotated[
        bool, typer.Option("--deep", help="Each block has its own, left out behind it.")
    ] = False,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Of all prompts.")] = 10,
    more_epochs: Annotated[
        int, typer.Option(min=1, help="Then of those that are kept, and of all beside them.")
    ] = 5,
    config: ConfigName = DEFAULT,
    output: Annotated[Path | None, trainings.OUTPUT] = None,
    report: Report = None,
    json: Json = False,
) -> None:
    """Adapt a transformer to another task by few prompts.

    Its quantised layers stand still. Prompts and a new head are trained with the chip's integers;
    then a share of the prompts is kept, those of all blocks with the largest product of prompt and
    gradient, and trained further, as all are for comparison. OUT.npz, by default
    NET-condensed.npz, is the network with what is kept. Clocks are exact, energy is an estimate;
    the bound has every macro always busy (docs/prompts.md).

    NET.pt must be beside NET.npz. After Ctrl-C the same command goes on from the last epoch. Exit
    code 1 if an integer is not that of the training: all layers on the reference with all test
    images, results on the golden machine with the first ones.
    """
    terminal = Terminal(json=json)
    output = output or network_file.with_name(f"{network_file.stem}-condensed{SUFFIX}")
    trainings.check(report, output)
    chip = mars_config(config)
    plain = load_network(network_file)
    from firmware_tools.prompts import likeness, quantised, tasks
    from firmware_tools.quantize.twin import export
    from model.mars import network_file as files

    vit, backbone, digest = quantised.load_transformer(network_file.with_suffix(".pt"))
    settings = quantised.Condensing(
        seed=seed,
        task=task,
        n_prompts=prompts,
        deep=deep,
        keep=keep,
        epochs=epochs,
        more_epochs=more_epochs,
        backbone=digest,
    )
    training = quantised.Condensation(
        settings, vit, backbone, tasks.target(task), trainings.checkpoint_of(output)
    )
    trainings.run(training, terminal)
    done = training.finish()
    test = training.test
    few = export(done.few.twin, "condensed")
    files.dump(few, output)
    inputs = done.few.twin.image_ints(test.images)
    trainings.write_tests(output, inputs.astype("int16"), test.labels)
    few, everything = files.load(output), export(done.everything.twin, "all prompts")
    with terminal.busy("golden machine"):
        n_unequal = quantised.n_unequal(done.few.twin, few, test.images)
        on_machine = quantised.is_equal_on_machine(few, chip, inputs[:N_ON_MACHINE])
        costs = [
            quantised.cost(network, n_prompts, chip, inputs[0])
            for network, n_prompts in (
                (plain, 0),
                (few, sum(map(len, done.kept))),
                (everything, prompts),
            )
        ]
    with terminal.busy("similarity"):
        cka = likeness.cka_by_block(few, everything, inputs)
    training.discard_checkpoint()
    is_equal = not n_unequal and on_machine
    _, kept, of_all = costs
    saved, bound_saved = of_all.clocks - kept.clocks, of_all.bound - kept.bound
    values = {
        "task": task,
        "seed": seed,
        "prompts": prompts,
        "deep": deep,
        "kept": done.kept,
        "scores": done.scores,
        "accuracy_of_all": done.accuracy_of_all,
        "accuracy": done.accuracy,
        "configuration": chip.name,
        "costs": [one.as_json() for one in costs],
        "clocks_saved": saved,
        "bound_saved": bound_saved,
        "cka": cka,
        "n_test": len(test),
        "equal": is_equal,
        "output": str(output),
    }
    terminal.result(values)
    accuracies = (None, done.accuracy, done.accuracy_of_all)
    terminal.print(_table(list(zip(("none", "kept", "all"), costs, accuracies, strict=True))))
    for number, own in enumerate(done.kept):
        place = f"in block {number + 1}" if deep else f"of {prompts}"
        terminal.print(f"kept {place}: {', '.join(map(str, own)) or 'none'}")
    if bound_saved:
        share = f"{saved / bound_saved:.2f} times what the bound loses"
        terminal.print(f"saved: {saved:,} clocks of a frame, {share}")
    terminal.print(_verdict(n_unequal, len(test), on_machine=on_machine))
    stem = output.with_suffix("")
    terminal.print(escape(f"wrote {output}, {stem}-images.npy, {stem}-labels.npy"))
    if report is not None:
        from firmware_tools.report.prompts import sections

        maps = likeness.attention(done.few.twin, test.images[:1])
        parts = sections(values, training.losses, maps)
        page.write(report, f"Prompts for {task}", parts, terminal, chip)
    if not is_equal:
        raise typer.Exit(DIFFERENCE)


def _verdict(n_unequal: int, n_test: int, *, on_machine: bool) -> str:
    if n_unequal:
        return f"[red]{n_unequal:,} integers of the reference differ from the training[/red]"
    if not on_machine:
        return "[red]results of the golden machine differ from the reference[/red]"
    return (
        f"every layer's integers equal on {n_test} test images, results of the golden machine on "
        f"{N_ON_MACHINE}"
    )


def _table(rows: "list[tuple[str, Cost, float | None]]") -> Table:
    table = Table("prompts")
    for title in ("tokens", "accuracy", "clocks", "bound", "ratio", "uJ", "bytes", "words"):
        table.add_column(title, justify="right")
    for name, one, accuracy in rows:
        table.add_row(
            f"{one.prompts} ({name})",
            one.tokens_text,
            "" if accuracy is None else f"{accuracy:.2%}",
            f"{one.clocks:,}",
            f"{one.bound:,.0f}",
            f"{one.ratio:.3f}",
            f"{one.energy_uj:.1f}",
            f"{one.program_bytes:,}",
            f"{one.feature_words:,}",
        )
    return table
