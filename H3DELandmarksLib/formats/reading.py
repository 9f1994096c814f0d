"""One way of reading and writing the JSON files of this software: bytes to a typed record, refused in one sentence.

A format is a frozen standard-library dataclass whose fields say what a file may hold. Where pydantic is installed it
checks types, ranges and choices; in a Slicer in which nothing has been installed yet, the same record is built from the
same type hints, so that models can be listed there. Either way the words for what is wrong are found here. What
entries demand of others stands in ``__post_init__`` of the dataclass and raises ValueError. Entries that a format does
not know are refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import operator
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.image_plane import LengthUnit, in_unit, named_in_mm
from H3DELandmarksLib.core.text import nearest, shown

# Records whose lengths may be pixels name the attribute that says so as ``__lengths__``; their entries in a file, and
# those of the records in them, are then called ``..._px`` in place of ``..._mm``.
LENGTHS = "__lengths__"
LARGEST_BYTES = 64 * 2**20
DEEPEST, MOST_DIGITS = 100, 20
MAX_SHOWN = 200  # characters of an entry's place in a sentence
Record = TypeVar("Record")


class Limits:
    """Limits of a number, text or list, for `Annotated`; the names are those of pydantic's core schemas."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(source), **self.limits}


class OrNull:
    """For `Annotated`: a number for which the file has null where there is none.

    Attributes:
        missing: what stands for null in memory, such as NaN.
    """

    def __init__(self, missing: float) -> None:
        self.missing = missing

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        function = {"type": "no-info", "function": lambda value: self.missing if value is None else value}
        return {"type": "function-before", "function": function, "schema": handler(source)}


Finite = Annotated[float, Limits(allow_inf_nan=False)]
Positive = Annotated[float, Limits(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Limits(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Limits(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Limits(ge=0)]
PositiveCount = Annotated[int, Limits(ge=1)]
Text = Annotated[str, Limits(min_length=1)]


class FormatError(ValueError):
    """The content is not what its format demands.

    Attributes:
        reason: why it cannot be used, without a full stop.
        entry: dotted path of the entry, for example ``stages[0].spacing_mm``; empty for the file as a whole.
    """

    def __init__(self, reason: str, entry: str = "") -> None:
        self.reason, self.entry = shown(reason), entry
        place = "".join(c if c.isprintable() else "?" for c in entry[:MAX_SHOWN])
        super().__init__(f"entry '{place}': {self.reason}" if entry else self.reason)


def parse_json(data: bytes, allow_nan: bool = False) -> Any:
    """The content of a JSON file.

    Args:
        data: bytes of the file, with or without a byte order mark.
        allow_nan: take NaN and Infinity, which are no JSON but written by Slicer, and numbers of any size; else they
            are refused.

    Raises:
        FormatError: it is not JSON, too large, too deeply nested, has a number that cannot be held or, unless NaN is
            taken, states an entry twice.
    """

    def refuse(constant: str) -> None:
        raise FormatError(f"it holds the number {constant}")

    if len(data) > LARGEST_BYTES:
        raise FormatError("it is too large")
    try:
        content = json.loads(
            data.decode("utf-8-sig"),
            parse_constant=None if allow_nan else refuse,
            parse_int=None if allow_nan else _integer,
            parse_float=None if allow_nan else _finite,
            object_pairs_hook=None if allow_nan else _entries,
        )
        _check_depth(content)
        return content
    except json.JSONDecodeError as error:
        raise FormatError(f"it is no JSON (line {error.lineno}: {error.msg})") from error
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError("it is no JSON") from error


def _entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise FormatError("it is stated twice", name)
    return entries


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise FormatError("it holds a number of too many digits")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise FormatError("it holds a number that is too large")
    return value


def _check_depth(content: Any) -> None:
    level = [content] if isinstance(content, (dict, list)) else []
    for _ in range(DEEPEST):
        entries = (entry.values() if isinstance(entry, dict) else entry for entry in level)
        level = [child for inside in entries for child in inside if isinstance(child, (dict, list))]
        if not level:
            return
    raise FormatError("it is nested too deeply")


def can_validate() -> bool:
    """Whether pydantic is there to check limits and types, and not only names and structure."""
    return find_spec("pydantic") is not None


def build(record: type[Record], content: Any) -> Record:
    """The typed record of a JSON object.

    Args:
        record: a dataclass of this room.
        content: what `parse_json` gives.

    Raises:
        FormatError: an entry is unknown, missing, of another type, out of range or contradicts another.
    """
    if hasattr(record, LENGTHS):
        content = named_in_mm(content)
    try:
        adapter = type_adapter(typing.cast(Any, record))
    except ImportError:
        return typing.cast(Record, _built(record, content, ""))
    try:
        # As JSON: there a list is a list, whatever the record keeps it as.
        return typing.cast(Record, adapter.validate_json(json.dumps(content, allow_nan=False)))
    except (ValueError, TypeError, RecursionError, InputError) as error:
        with contextlib.suppress(RecursionError):
            _built(record, content, "")  # has the words for what is wrong, and where
        raise FormatError("it is not what its format demands") from error


def read_record(
    record: type[Record],
    path: Path,
    *,
    what: str,
    advice: str = "correct it",
    upgrade: Callable[[Any], Any] | None = None,
) -> Record:
    """Read a file into a typed record.

    Args:
        record: a dataclass of this room.
        path: the file.
        what: how the sentence calls it, for example "configuration".
        advice: what to do about a file that cannot be used.
        upgrade: turns the content of an older format version into today's; may raise FormatError.

    Raises:
        InputError: one sentence that names the file, the entry and the reason.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as missing:
        raise InputError(f"The {what} '{path}' does not exist: check the path.") from missing
    except OSError as error:
        raise InputError(f"The {what} '{path}' cannot be read ({error.strerror}): check the permission.") from error
    try:
        content = parse_json(data)
        return build(record, upgrade(content) if upgrade else content)
    except FormatError as refused:
        raise InputError(f"The {what} '{path}' cannot be used, {refused}: {advice}.") from refused


def refuse_newer(content: Any, version: int, entry: str = "format_version") -> None:
    """Refuse content of a later version, as an entry states it, than this software knows; raises FormatError."""
    stated = content.get(entry) if isinstance(content, dict) else None
    if isinstance(stated, int) and stated > version:
        reason = "it is written by a newer version of this software: update the H3DELandmarks extension"
        raise FormatError(reason, entry)


def to_plain(value: Any, unit: LengthUnit = "mm") -> Any:
    """The JSON form of a record: what `build` reads. Optional entries that are None are left out.

    Args:
        value: the record, or what it holds.
        unit: of lengths, unless the record says another.
    """
    if dataclasses.is_dataclass(value):
        unit = getattr(value, getattr(value, LENGTHS, ""), unit)
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        kept = ((f, v) for f, v in pairs if f.init and not (v is None and f.default is None))
        return {in_unit(f.name, unit): to_plain(v, unit) for f, v in kept}
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry, unit) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(entry, unit) for entry in value]
    return value


def to_json(value: Any) -> bytes:
    """The bytes of a file; the same record gives the same bytes.

    Raises:
        ValueError: a number is not finite.
    """
    return (json.dumps(to_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


@cache
def type_adapter(record: Any) -> Any:
    """What pydantic makes of a record; raises ImportError where it is missing."""
    from pydantic import TypeAdapter

    _make_strict(record)
    return TypeAdapter(record)


def _make_strict(hint: Any) -> None:
    """Have pydantic take no entry that is not declared, and no text for a number, in a record and those in it."""
    parts = list(typing.get_args(hint))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and "__pydantic_config__" not in vars(hint):
        hint.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
        parts += typing.get_type_hints(hint, include_extras=True).values()
    for part in parts:
        _make_strict(part)


def _refused(place: str, error: Exception) -> FormatError:
    """What a record at a place refuses of itself, where it may have named the entry first."""
    reason = str(error).rstrip(".")
    named = _NAMED_ENTRY.fullmatch(reason)
    if named is None:
        return FormatError(reason, place)
    return FormatError(named[3], f"{place}.{named[1] or named[2]}".lstrip("."))


_NAMED_ENTRY = re.compile(r"(?:entry '([^']+)'|([a-z]\w*(?:\[\d+\]|\.\w+)*)): (.*)", re.DOTALL)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _built(hint: Any, value: Any, place: str) -> Any:
    """A value as its type hint says, without pydantic."""
    extras = getattr(hint, "__metadata__", ())
    for extra in extras:
        if isinstance(extra, OrNull) and value is None:
            return extra.missing
    built = _built_without_limits(typing.get_args(hint)[0] if extras else hint, value, place)
    for extra in extras:
        if isinstance(extra, Limits) and (reason := _why_beyond(built, extra.limits)):
            raise FormatError(f"{_shown(value)} {reason}", place)
    return built


def _why_beyond(value: Any, limits: Mapping[str, Any]) -> str:
    """What is wrong with a value that breaks a limit; empty where it keeps all."""
    for name, limit in limits.items():
        words, is_kept = _LIMITS[name]
        if not is_kept(value, limit):
            return f"should {words.format(limit)}"
    return ""


_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("be at least {}", operator.ge),
    "gt": ("be greater than {}", operator.gt),
    "le": ("be at most {}", operator.le),
    "lt": ("be less than {}", operator.lt),
    "allow_inf_nan": ("be a finite number", lambda value, is_allowed: is_allowed or math.isfinite(value)),
    "min_length": ("have at least {} entries or characters", lambda value, least: len(value) >= least),
    "max_length": ("have at most {} entries or characters", lambda value, most: len(value) <= most),
    # In Python `$` also stands before a line break at the end.
    "pattern": ("match the pattern {}", lambda value, form: bool(re.search(re.sub(r"\$$", r"\\Z", form), value))),
}


def _built_without_limits(hint: Any, value: Any, place: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _built_record(hint, value, place)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _built_alternative(arguments, value, place)
    if origin in (tuple, list):
        return origin(_built_list(hint, value, place))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise FormatError(f"{_shown(value)} should be an object", place)
        return {key: _built(arguments[1], entry, f"{place}.{key}".lstrip(".")) for key, entry in value.items()}
    if origin is typing.Literal and not any(value == a and type(value) is type(a) for a in arguments):
        advice = nearest(str(value), list(map(str, arguments)))
        raise FormatError(f"{_shown(value)} cannot stand there: {advice}", place)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise FormatError(f"{_shown(value)} is too large", place) from error
    is_other = isinstance(hint, type) and hint is not Any and not isinstance(value, hint)
    if is_other or (hint in (int, float) and isinstance(value, bool)):
        raise FormatError(f"{_shown(value)} should be of type {hint.__name__}", place)
    return value


def _built_list(hint: Any, value: Any, place: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise FormatError(f"{_shown(value)} should be a list", place)
    arguments = typing.get_args(hint)
    is_fixed = typing.get_origin(hint) is tuple and arguments[-1] is not Ellipsis
    if is_fixed and len(value) != len(arguments):
        raise FormatError(f"{_shown(value)} should have {len(arguments)} entries", place)
    hints = arguments if is_fixed else [arguments[0]] * len(value)
    return [_built(hint, entry, f"{place}[{i}]") for i, (hint, entry) in enumerate(zip(hints, value))]


def _built_alternative(hints: Sequence[Any], value: Any, place: str) -> Any:
    """A value as the first of several hints that it fits."""
    if value is None and type(None) in hints:
        return None
    hints = [hint for hint in hints if hint is not type(None)]
    for hint in hints[:-1]:
        try:
            return _built(hint, value, place)
        except FormatError:
            continue
    return _built(hints[-1], value, place)


def _built_record(record: type, value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise FormatError(f"{_shown(value)} should be an object", place)
    fields = {field.name: field for field in dataclasses.fields(record) if field.init}
    hints = typing.get_type_hints(record, include_extras=True)
    for name in value:
        if name not in fields:
            raise FormatError(f"there is no such entry: {nearest(name, fields)}", f"{place}.{name}".lstrip("."))
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in value:
            raise FormatError("it is missing", f"{place}.{name}".lstrip("."))
    entries = {name: _built(hints[name], entry, f"{place}.{name}".lstrip(".")) for name, entry in value.items()}
    try:
        return record(**entries)
    except (ValueError, InputError) as error:
        raise _refused(place, error) from error
