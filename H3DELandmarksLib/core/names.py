"""Names that people write in more ways than one."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection


def same_names(found: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Which known name is meant by a found one that differs from it in case, blanks or the form of accents alone.

    Returns:
        Known names by found ones, without those that are equal; where two names could be meant, or one by two, none is.
    """
    exact = set(found) & set(known)
    wanted = {name: _key(name) for name in known}
    others = {name: _key(name) for name in found if name not in exact}
    by_key = {key: name for name, key in wanted.items() if name not in exact}
    once = Counter(wanted.values()), Counter(others.values())
    return {
        name: by_key[key] for name, key in others.items() if key in by_key and all(count[key] == 1 for count in once)
    }


def _key(name: str) -> str:
    return "".join(unicodedata.normalize("NFC", name).split()).casefold()
