"""Texts of strangers in terminals and spreadsheets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from H3DELandmarksLib.core.text import csv_text, from_csv, shown


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text):
    assert all(c.isprintable() or c in "\n\t" for c in shown(text))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Nasion 1\n\tµ 鼻", "Nasion 1\n\tµ 鼻"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("not\udcffUTF-8", "not\\udcffUTF-8"),
        ("over\rwritten", "over\\rwritten"),
    ],
)
def test_what_a_terminal_shows(text, seen):
    assert shown(text) == seen


@given(st.text() | st.text("='+-@\t\r a", max_size=6))
def test_no_cell_is_a_formula_and_each_is_read_back(text):
    assert not csv_text(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv(csv_text(text)) == text
