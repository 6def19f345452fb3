import pytest

from model import json_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b" 2}', "line 2 column 6 must be JSON: expecting ':' delimiter"),
        ("[" * 100_000, "must be JSON of a few levels, but is nested too deeply"),
        ("1" * 5000, "integers must be short, but one has thousands of digits"),
        ('{"a": [1], "a": {}}', "field 'a' must be given once, not twice in one object "),
    ],
)
def test_what_is_no_json(text: str, message: str) -> None:
    with pytest.raises(json_text.JSONTextError) as caught:
        json_text.parse(text)
    assert str(caught.value).startswith(message)


def test_parse() -> None:
    assert json_text.parse('{"a": [1, "x"], "b": {"a": null}}') == {"a": [1, "x"], "b": {"a": None}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2], "a list of 2"),
        ({}, "an object"),
        (1 << 64, "one of 65 bits"),
        ("x" * 50, '"' + 36 * "x" + "..."),
    ],
)
def test_shown(value: object, text: str) -> None:
    assert json_text.shown(value) == text
