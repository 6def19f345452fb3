"""The command `kenyon`."""

from importlib import import_module
from importlib.metadata import version
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from firmware_tools import commands
from firmware_tools.console import BAD_INPUT, DIFFERENCE, INTERRUPTED, Invocation, invoked
from firmware_tools.errors import UserError


class _Group(TyperGroup):
    """Turns the errors that a user can cause into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            _fail(str(interrupt) or "interrupted", INTERRUPTED)
        except BrokenPipeError:
            raise  # typer ends quietly when nobody reads on
        except (OSError, MemoryError, UserError, ValueError, RuntimeError, AssertionError) as error:
            code = exit_code(error)
            if code is None:
                raise
            _fail(f"error: {describe(error)}", code)


class _Verb(TyperCommand):
    """Remembers how it was called, for reports."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = ("kenyon", *ctx.command_path.split()[1:], *args)
        rest = super().parse_args(ctx, args)
        options = {_spelling(one): ctx.params[one.name] for one in self.params if one.expose_value}
        invoked(Invocation(words, options))
        return rest


def _spelling(parameter: Any) -> str:
    """An option's long name, or what help calls an argument."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper())


def _fail(text: str, code: int) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(code)


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that the user should understand; none for a mistake of ours."""
    if isinstance(error, OSError | MemoryError | UserError):
        return BAD_INPUT
    if isinstance(error, _bad_input()):
        return BAD_INPUT
    if isinstance(error, RuntimeError | AssertionError):
        from tb.cosim import BenchFailure, BuildError

        if isinstance(error, BenchFailure | BuildError):
            return DIFFERENCE
    return None


def _bad_input() -> tuple[type[Exception], ...]:
    # Only now: these modules take longer to import than `kenyon --help` may.
    from hw.asic.osu018 import MissingLibrary
    from hw.yosys import YosysError
    from model import bridge
    from model.mars import image as mars_image
    from model.mars import mapper, program
    from model.mars import network as mars_network
    from model.mars.devices.device import DeviceError
    from model.npu import image, network

    return (
        bridge.BridgeError,
        DeviceError,
        image.FitError,
        image.ImageError,
        network.NetworkError,
        mapper.FitError,
        mars_image.ImageError,
        mars_network.NetworkError,
        program.ProgramError,
        MissingLibrary,
        YosysError,
    )


def describe(error: Exception) -> str:
    """The text of an error, in the words of the house if it is the system's."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {reason}" if error.filename else reason
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})"
    return str(error)


app = typer.Typer(
    cls=_Group,
    name="kenyon",
    help="An open neuromorphic processor: golden model, RTL and co-simulation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kenyon {version('kenyon')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """An open neuromorphic processor: golden model, RTL and co-simulation."""


def _register(group: typer.Typer, name: str, module: str) -> None:
    verb = import_module(f"{commands.__name__}.{module}")
    paragraphs = cleandoc(verb.command.__doc__ or "").split("\n\n")
    group.command(
        name=name,
        help="\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs),
        epilog=verb.EXAMPLES,
        cls=_Verb,
    )(verb.command)


class _Subjects(TyperGroup):
    """A verb whose subjects have options of their own; they are imported when it is called."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        verb = str(self.name)
        group = commands.GROUPS[verb]
        subjects = typer.Typer(rich_markup_mode="rich")
        for subject in group.subjects:
            _register(subjects, subject, f"{verb}_{subject.replace('-', '_')}")
        self.commands = typer.main.get_group(subjects).commands
        is_named = args and (args[0] == "--help" or not args[0].startswith("-"))
        if group.default and not is_named:
            args = [group.default, *args]
        return super().parse_args(ctx, args)


def _register_group(name: str, group: commands.Group) -> None:
    default = f"\n\nWithout a subject it is {group.default}." if group.default else ""
    verb = typer.Typer(
        cls=_Subjects,
        name=name,
        help=group.about + default,
        no_args_is_help=True,
        subcommand_metavar="SUBJECT [ARGS]...",
        rich_markup_mode="rich",
    )
    app.add_typer(verb)


for _name in commands.NAMES:
    if _name in commands.GROUPS:
        _register_group(_name, commands.GROUPS[_name])
    else:
        _register(app, _name, _name)


def main() -> None:
    """Run the command line."""
    app()
