"""The scheme of a project on disk, and schemes that users name: a model's, a configuration's or a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from H3DELandmarksLib.cohort import strict_json as strict
from H3DELandmarksLib.cohort.record import MOST_LANDMARKS, TOKEN
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme

FORMAT, FORMAT_VERSION = "h3delandmarks-cases", 1


def scheme_bytes(scheme: LandmarkScheme) -> bytes:
    """What a project keeps of a scheme.

    Raises:
        InputError: its id or version cannot be kept.
    """
    content = strict.dump({"format": FORMAT, "format_version": FORMAT_VERSION, "scheme": scheme.to_dict()})
    try:
        read_scheme_bytes(content)
    except strict.Malformed as error:
        raise InputError(
            f"The scheme '{scheme.id}' cannot be used ({error}): give it an id and a version of letters, digits, dots "
            "and hyphens, and names of one line."
        ) from error
    return content


def read_scheme_bytes(content: bytes) -> LandmarkScheme:
    """Read the form written by `scheme_bytes`; raises Malformed."""
    entry = strict.fields(strict.parse(content), ("format", "format_version", "scheme"))
    if entry["format"] != FORMAT or entry["format_version"] != FORMAT_VERSION:
        raise strict.Malformed("another format")
    return _scheme(entry["scheme"])


def scheme_of_file(path: Path) -> LandmarkScheme:
    """The scheme in a JSON file, or under "scheme" in it, as configurations and manifests of models have it.

    Raises:
        InputError: the file holds no scheme.
    """
    try:
        data = strict.load(path)
        data = data.get("scheme", data) if isinstance(data, dict) else data
        return _scheme({**data, "pairs": data.get("pairs", []), "lateral": data.get("lateral", [])})
    except (OSError, strict.Malformed, AttributeError, TypeError, KeyError) as error:
        if isinstance(error.__cause__, InputError):
            raise InputError(f"The scheme in '{path}' cannot be used: {_misnamed(data) or error}") from error
        raise InputError(
            f"'{path}' holds no scheme: give a JSON file with id, version and landmarks (name, definition each)."
        ) from error


def _misnamed(data: dict) -> str | None:
    """What is wrong with the names of a scheme that is complete otherwise."""
    names = [landmark["name"] for landmark in data["landmarks"]]
    sides = [*(name for pair in data.get("pairs", []) for name in pair), *data.get("lateral", [])]
    for name in names:
        if names.count(name) > 1:
            return f"two of its landmarks are called '{name}', give each a name of its own."
    for name in sides:
        if name not in names:
            return f"'{name}' is listed under 'pairs' or 'lateral', but is none of its landmarks, add or remove it."
        if sides.count(name) > 1:
            return f"'{name}' is listed twice under 'pairs' and 'lateral', keep one place."
    return None


def _scheme(data: Any) -> LandmarkScheme:
    entry = strict.fields(data, ("id", "version", "landmarks", "pairs", "lateral"))
    for name in ("id", "version"):
        if not TOKEN.fullmatch(strict.text(entry[name], 64)):
            raise strict.Malformed(f"its {name}")
    for landmark in strict.listed(entry["landmarks"], MOST_LANDMARKS):
        strict.text(strict.fields(landmark, ("name", "definition"))["name"], 200)
        if not isinstance(landmark["definition"], str) or len(landmark["definition"]) > 4000:
            raise strict.Malformed("a definition")
    for pair in strict.listed(entry["pairs"], MOST_LANDMARKS):
        if len([strict.text(name, 200) for name in strict.listed(pair, 2)]) != 2:
            raise strict.Malformed("a pair")
    for name in strict.listed(entry["lateral"], MOST_LANDMARKS):
        strict.text(name, 200)
    try:
        return LandmarkScheme.from_dict(entry)
    except InputError as error:
        raise strict.Malformed(str(error)) from error
