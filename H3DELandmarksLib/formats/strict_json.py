"""JSON of projects: read as data that may be wrong or hostile, with no field that is not expected."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 64 * 2**20  # bytes; a revision of a thousand landmarks has a quarter of a MB


class Malformed(ValueError):
    """The content is not what its place demands."""


def load(path: Path) -> Any:
    """The content of a small JSON file.

    Raises:
        OSError: it cannot be read.
        Malformed: it is not JSON, or too large.
    """
    if path.stat().st_size > LARGEST:
        raise Malformed("too large")
    return parse(path.read_bytes())


def parse(content: bytes) -> Any:
    """The content of bytes; numbers that are not finite are refused."""

    def refuse(name: str) -> None:
        raise Malformed(f"the number {name}")

    try:
        return json.loads(content.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed("no JSON") from error


def dump(content: Any) -> bytes:
    """The bytes to write; the same content gives the same bytes."""
    return (json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def fields(data: Any, names: Collection[str]) -> dict[str, Any]:
    """The object itself, which has exactly these fields."""
    if not isinstance(data, dict) or set(data) != set(names):
        raise Malformed("other fields than expected")
    return data


def listed(data: Any, most: int) -> list:
    """The list itself, which has at most so many entries."""
    if not isinstance(data, list) or len(data) > most:
        raise Malformed("no list, or too long a one")
    return data


def text(data: Any, longest: int) -> str:
    """The text itself, which is not empty and printable."""
    if not isinstance(data, str) or not 0 < len(data) <= longest or not data.isprintable():
        raise Malformed("no text, or too long a one")
    return data


def number(data: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number within limits."""
    if isinstance(data, bool) or not isinstance(data, (int, float)) or not low <= data <= high or abs(data) > 1e12:
        raise Malformed("no number, or one out of range")
    return float(data)


def whole(data: Any, low: int, high: int) -> int:
    """A whole number within limits."""
    if isinstance(data, bool) or not isinstance(data, int) or not low <= data <= high:
        raise Malformed("no whole number, or one out of range")
    return data


def point(data: Any) -> np.ndarray | None:
    """(3,) or None."""
    return None if data is None else np.array([number(value, -1e6, 1e6) for value in _of_length(data, 3)])


def matrix(data: Any) -> np.ndarray:
    """(4, 4) of finite numbers."""
    return np.array([[number(value) for value in _of_length(row, 4)] for row in _of_length(data, 4)])


def _of_length(data: Any, count: int) -> list:
    if not isinstance(data, list) or len(data) != count:
        raise Malformed(f"no list of {count}")
    return data
