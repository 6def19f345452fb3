"""JSON that people write: errors say where, and a field that is given twice is one."""

import json

SHOWN_LENGTH = 40
LONGEST_INTEGER = 64


class JSONTextError(ValueError):
    """The text is no JSON, or not one that can be meant; the message says where."""


def parse(text: str) -> object:
    """The value of a JSON text.

    Raises
    ------
    JSONTextError
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        message = error.msg[0].lower() + error.msg[1:]
        raise JSONTextError(
            f"line {error.lineno} column {error.colno} must be JSON: {message}"
        ) from None
    except RecursionError:
        raise JSONTextError("must be JSON of a few levels, but is nested too deeply") from None
    except JSONTextError:
        raise
    except ValueError:  # Python's limit on the digits of an integer; it does not say where
        raise JSONTextError("integers must be short, but one has thousands of digits") from None


def shown(value: object) -> str:
    """A short name of a JSON value, for error texts."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and value.bit_length() > LONGEST_INTEGER:
        return f"one of {value.bit_length()} bits"
    text = json.dumps(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    fields.clear()
    for name, value in pairs:
        if name in fields:
            raise JSONTextError(
                f"field {name!r} must be given once, not twice in one object "
                f"({shown(fields[name])} and {shown(value)})"
            )
        fields[name] = value
    return fields
