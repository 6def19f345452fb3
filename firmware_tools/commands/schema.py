"""`kenyon schema`."""

import json

import typer

from firmware_tools.console import Json, examples

EXAMPLES = examples("kenyon schema > network.schema.json")


def command(json_output: Json = False) -> None:
    """Print the JSON schema of network files; it is JSON with and without --json."""
    from model.npu import network_file

    typer.echo(json.dumps(network_file.schema(), indent=None if json_output else 2))
