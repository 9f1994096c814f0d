"""How files become records: what is no JSON is refused, the sentence names file, entry and the nearest known one."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats import reading
from H3DELandmarksLib.formats.reading import FormatError, Positive, build, parse_json, read_record, to_json
from H3DELandmarksResearch.schemas import FOLDER

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Inner:
    spacing: Positive


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Forms:
    shift: Positive | tuple[Positive, Positive] = 1.0
    split: str | dict[str, tuple[str, ...]] | None = None


@pytest.fixture(params=["pydantic", "bare Slicer"])
def any_python(request, monkeypatch):
    """With pydantic and without it."""

    def missing(record):
        raise ImportError("pydantic")

    if request.param == "bare Slicer":
        monkeypatch.setattr(reading, "type_adapter", missing)
    else:
        pytest.importorskip("pydantic")


@settings(deadline=None)
@given(st.text(), st.lists(st.floats(1e-3, 1e6), max_size=4), st.none() | st.text())
def test_what_is_written_is_read(name, spacings, note):
    record = Outer(name, tuple(Inner(spacing) for spacing in spacings), note)
    assert build(Outer, parse_json(to_json(record))) == record


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_no_json_is_refused(data):
    with pytest.raises(FormatError):
        parse_json(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"steps": 5, "rate": 1, "steps": 500}', "entry 'steps': it is stated twice"),
        (b'{"a": {"b": 1, "b": 1}}', "entry 'b': it is stated twice"),
        (b'{"a": NaN}', "it holds the number NaN"),
        (b'{"a": 1e999}', "it holds a number that is too large"),
        (b"[" * 200 + b"]" * 200, "it is nested too deeply"),
    ],
)
def test_what_is_json_but_of_no_use_is_refused_with_the_reason(data, words):
    with pytest.raises(FormatError, match=words):
        parse_json(data)


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ({"shift": [1.0, -2.0]}, "shift[1]"),
        ({"shift": -1.0}, "shift"),
        ({"split": {"train": ["a"], "test": "b"}}, "split.test"),
        ({"split": {"train": ["a", 5]}}, "split.train[1]"),
        ({"split": 5}, "split"),
    ],
)
def test_of_an_entry_with_several_forms_the_wrong_part_is_named(content, entry, any_python):
    with pytest.raises(FormatError) as refused:
        build(Forms, content)
    assert refused.value.entry == entry


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"nam": "x"}, ("nam", "name")),
        ({"name": "x", "inner": [{"spacing": 1.0}, {"spaceing": 1.0}]}, ("inner[1].spaceing", "spacing")),
        ({"name": "x", "inner": [{}]}, ("inner[0].spacing",)),
        ({"inner": []}, ("name",)),
        ({"name": 5}, ("name",)),
    ],
)
def test_the_sentence_names_file_entry_and_the_nearest_known_one(content, words, tmp_path, any_python):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as refused:
        read_record(Outer, path, what="list")
    assert all(word in str(refused.value) for word in ("file.json", *words))


def test_what_no_terminal_can_write_is_told_by_its_code(any_python):
    with pytest.raises(FormatError, match=r"name.*ud800") as refused:
        build(Outer, {"name": ["\ud800"]})
    assert str(refused.value).isprintable()


def test_limits_are_checked_where_pydantic_is(tmp_path):
    pytest.importorskip("pydantic")
    with pytest.raises(FormatError) as refused:
        build(Outer, {"name": "x", "inner": [{"spacing": 0.0}]})
    assert refused.value.entry == "inner[0].spacing"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_record(Outer, tmp_path / "nowhere.json", what="list")


def test_the_schemas_in_the_repository_are_those_of_the_formats():
    pytest.importorskip("pydantic", minversion="2.14", reason="older ones say the same in other words")
    # In a process of its own: in one that has read other types, Python may know "A or None" as "None or A".
    code = "import json; from H3DELandmarksResearch.schemas import schema_files; print(json.dumps(schema_files()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    written = json.loads(done.stdout)
    assert {path.name for path in FOLDER.glob("*.json")} == set(written)
    for name, text in written.items():
        assert json.loads((FOLDER / name).read_text(encoding="utf-8")) == json.loads(text), name
