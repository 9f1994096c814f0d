"""Names of columns and entries by the unit of what they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from H3DELandmarksLib.core.image_plane import in_unit, length_unit, named_in, named_in_mm

NAMES = st.from_regex(r"[a-z]{1,5}(_mm)?", fullmatch=True)
CONTENT = st.recursive(
    st.none() | st.floats(-5, 5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=3),
    max_leaves=12,
)


@given(CONTENT)
def test_names_for_pixels_lead_back_to_those_for_mm(content):
    assert named_in(content, "mm") == content
    pixels = named_in(content, "px")
    assert "_mm'" not in repr(pixels) and named_in_mm(pixels) == content


@pytest.mark.parametrize(
    ("name", "pixels"), [("radius90_mm", "radius90_px"), ("presence", "presence"), ("mm_note", "mm_note")]
)
def test_only_lengths_are_renamed(name, pixels):
    assert (in_unit(name, "mm"), in_unit(name, "px")) == (name, pixels)


def test_an_entry_under_both_names_is_not_overwritten():
    assert named_in_mm({"a_mm": 1, "a_px": 2}) == {"a_mm": 1, "a_px": 2}


@pytest.mark.parametrize(
    ("shape", "spacing", "is_stated", "unit"),
    [
        ((40, 50, 1), (1.0, 1.0, 1.0), False, "px"),
        ((40, 50, 1), (1.0, 1.0, 1.0), True, "mm"),
        ((40, 50, 1), (0.1, 0.1, 1.0), False, "mm"),
        ((40, 50, 60), (1.0, 1.0, 1.0), False, "mm"),
    ],
)
def test_pixels_are_told_only_of_pictures_of_which_nobody_knows_more(shape, spacing, is_stated, unit):
    assert length_unit(shape, spacing, is_stated) == unit
