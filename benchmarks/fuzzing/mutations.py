"""Changes of valid files: of bytes, of words, of JSON and of the members of zip files."""

from __future__ import annotations

import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

NUMBERS = [
    "0",
    "-1",
    "1e308",
    "-1e-308",
    "nan",
    "inf",
    "65536",
    "4294967295",
    "-2147483649",
    "1" + "0" * 400,
    "0.5",
    "1e9",
]
WORDS = ["", "\x00", "\x1b[2J", "\u202egpj", "../../secret", "/dev/zero", "=1+1", "a" * 5000, "\ud800", "%s%n"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    1e308,
    "",
    "text",
    "\x1b[31m",
    [],
    {},
    [[1]],
    {"a": 1},
    ["a", 1],
    2**63,
]
INTEGERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
Mutation = Callable[[random.Random, bytes], bytes]


def some_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, write over, cut out, repeat or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(changed)) if changed else 0
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(INTEGERS) % 256**size
            changed[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 2:
            del changed[place : place + rng.choice((1, 4, 100))]
        elif kind == 3:
            changed[place:place] = changed[place : place + rng.choice((1, 16, 300))] * rng.choice((1, 2, 50))
        elif kind == 4:
            changed[place:place] = rng.randbytes(rng.choice((1, 4, 64)))
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def head_bytes(rng: random.Random, data: bytes) -> bytes:
    """The same near the beginning, where headers lie."""
    size = min(len(data), rng.choice((16, 128, 512)))
    return some_bytes(rng, data[:size]) + data[size:]


def words(rng: random.Random, data: bytes) -> bytes:
    """Other numbers and words, and lines that are missing, doubled or exchanged, in the readable part of a file."""
    end = data.find(b"\n\n") + 2 if b"\n\n" in data[:4096] else len(data)
    text, rest = data[:end].decode("latin-1"), data[end:]
    if rng.random() < 0.4:
        lines = text.split("\n")
        first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(3)
        if kind == 0:
            del lines[first]
        elif kind == 1:
            lines.insert(second, lines[first])
        else:
            lines[first], lines[second] = lines[second], lines[first]
        return "\n".join(lines).encode("latin-1") + rest
    found = list(re.finditer(r"-?\d+(\.\d+)?" if rng.random() < 0.7 else r"\w+", text))
    if found:
        part = rng.choice(found)
        text = (
            text[: part.start()]
            + rng.choice(NUMBERS if part[0][-1].isdigit() else NUMBERS + WORDS)
            + text[part.end() :]
        )
    return text.encode("utf-8", "surrogatepass") + rest


def tree(rng: random.Random, data: bytes) -> bytes:
    """JSON in which entries are missing, doubled, of another kind, or nested without end."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return some_bytes(rng, data)
    if rng.random() < 0.02:
        return rng.choice(
            (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 20_000, b'{"format_version": 1' + b"0" * 5000 + b"}")
        )
    places: list[tuple[Any, Any]] = []
    _collect(content, places)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not places:
            break
        parent, key = rng.choice(places)
        if isinstance(parent, list) and key >= len(parent):
            continue
        kind = rng.randrange(4)
        if kind == 0 and isinstance(parent, dict):
            parent.pop(key, None)
        elif kind == 1:
            other, name = rng.choice(places)
            if not (isinstance(other, list) and name >= len(other)) and (isinstance(other, list) or name in other):
                parent[key] = json.loads(json.dumps(other[name]))
        elif kind == 2 and isinstance(parent, dict):
            parent[rng.choice((*WORDS[:-2], "more"))] = rng.choice(VALUES)
        else:
            parent[key] = rng.choice((*VALUES, rng.choice(WORDS[:-2])))
    return json.dumps(content).encode()


def _collect(content: Any, places: list[tuple[Any, Any]]) -> None:
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        places.append((content, key))
        _collect(value, places)


def members(rng: random.Random, data: bytes) -> bytes:
    """A zip file with another member, or one that is missing, doubled, renamed or packed otherwise."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except Exception:
        return some_bytes(rng, data)
    number = rng.randrange(len(files))
    name, content = files[number]
    kind = rng.randrange(5)
    if kind == 0:
        del files[number]
    elif kind == 1:
        files.append((name, content[::-1]))
    elif kind == 2:
        files[number] = (rng.choice(("../evil", "/evil", "a" * 300, name.upper(), "x/" + name, "con", "é")), content)
    else:
        change = tree if content[:1] in (b"{", b"[") else rng.choice((some_bytes, words))
        files[number] = (name, change(rng, content))
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", rng.choice((0, 8, 8, 12, 14))) as archive:
        warnings.simplefilter("ignore")
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue() if rng.random() < 0.9 else some_bytes(rng, packed.getvalue())
