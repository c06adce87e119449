"""Tables: alignment, number formats, and what each kind of stream gets."""

import io
import math

import jax.numpy as jnp
import numpy as np
import pytest

from drigm.report.tables import Score, format_table, markdown_table

ROWS = [
    {"method": "QMIX", "Tucson": Score(0.93216, 0.00249), "steps": 172800},
    {"method": "QMIX-TV", "Tucson": Score(0.9), "steps": 9, "note": "one seed"},
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_table_is_aligned_with_numbers_to_the_right():
    text = format_table(ROWS, ["method", "Tucson", "steps"], stream=io.StringIO())
    assert text.splitlines() == [
        "method          Tucson   steps",
        "QMIX     0.932 ± 0.002  172800",
        "QMIX-TV          0.900       9",
    ]


def test_columns_default_to_every_key_and_missing_cells_read_dash():
    header, first, second = format_table(ROWS, stream=io.StringIO()).splitlines()
    assert header.split() == ["method", "Tucson", "steps", "note"]
    assert first.endswith("-")
    assert second.endswith("one seed")


def test_headings_and_title():
    text = format_table(ROWS, {"steps": "env steps"}, title="Runs", stream=io.StringIO())
    assert text.splitlines() == ["Runs", "env steps", "   172800", "        9"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"),
        (np.float32(0.5), "0.500"),
        (jnp.float32(0.5), "0.500"),
        (np.int64(7), "7.000"),
        (-812.34, "-812.3"),
        (123456.7, "123457"),
        (math.nan, "-"),
        (None, "-"),
        (True, "True"),
        (3, "3"),
    ],
)
def test_numbers(value, shown):
    assert format_table([{"x": value}], stream=io.StringIO()).split() == ["x", shown]


def test_no_rows_leave_the_headings():
    assert format_table([], ["method", "score"], stream=io.StringIO()) == "method  score"


def test_terminal_gets_a_rule_and_every_cell(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    text = format_table([{"method": "QMIX [bold]", "score": 0.9}], stream=Terminal())
    assert "─" in text
    assert "QMIX [bold]" in text  # brackets are no markup
    assert "0.900" in text


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_file_gets_plain_text_whatever_the_environment_says(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    assert "\x1b" not in format_table(ROWS, stream=io.StringIO())


def test_dumb_terminal_gets_plain_text(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert format_table(ROWS, stream=Terminal()) == format_table(ROWS, stream=io.StringIO())


def test_c_locale_gets_ascii():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    text = format_table(ROWS, ["Tucson"], stream=stream)
    assert "0.932 +- 0.002" in text
    assert text.isascii()


def test_markdown():
    rows = [{"a|b": "x|y", "score": Score(0.5, 0.1)}, {"a|b": "z", "score": Score(0.25, 0.05)}]
    assert markdown_table(rows).splitlines() == [
        r"| a\|b |         score |",
        "| ---- | ------------: |",
        r"| x\|y | 0.500 ± 0.100 |",
        "| z    | 0.250 ± 0.050 |",
    ]
