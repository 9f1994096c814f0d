"""A new version of a scheme made from single changes, for users who do not want to write the whole file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from H3DELandmarksLib.cohort.migration import next_version
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkDefinition, LandmarkScheme


@dataclass(frozen=True)
class SchemeEdit:
    """What to change.

    Attributes:
        added: names of new landmarks, which come last.
        definitions: new words by name; every new landmark needs some.
        dropped: names of landmarks to leave out, with their pair where both sides go.
        renamed: new names by old ones.
        pairs: (left, right) names that are a pair from now on.
        lateral: names of landmarks whose other side is not in the scheme from now on.
        version: of the new scheme; None counts the old one up.
    """

    added: Sequence[str] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    dropped: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str]] = ()
    lateral: Sequence[str] = ()
    version: str | None = None

    def applied_to(self, old: LandmarkScheme) -> LandmarkScheme:
        """The new version; later names may be used everywhere but in `dropped` and as keys of `renamed`.

        Raises:
            InputError: a change does not fit the scheme.
        """
        self._check(old)
        name_now = {name: self.renamed.get(name, name) for name in old.names if name not in self.dropped}
        landmarks = [
            LandmarkDefinition(name_now[p.name], self.definitions.get(name_now[p.name], p.definition))
            for p in old.landmarks if p.name in name_now
        ]  # fmt: skip
        landmarks += [LandmarkDefinition(name, self.definitions[name]) for name in self.added]
        names = [landmark.name for landmark in landmarks]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"Two landmarks would be called '{name}': give each a name of its own.")
        self._check_later(names)
        again = {name for pair in self.pairs for name in pair} | set(self.lateral)
        kept = [tuple(name_now[name] for name in pair) for pair in old.pairs if set(pair) <= set(name_now)]
        pairs = [*(pair for pair in kept if not set(pair) & again), *(tuple(pair) for pair in self.pairs)]
        lateral = [name_now[name] for name in old.lateral if name in name_now and name_now[name] not in again]
        version = self.version or next_version(old.version)
        return LandmarkScheme(old.id, version, tuple(landmarks), tuple(pairs), (*lateral, *self.lateral))

    def _check(self, old: LandmarkScheme) -> None:
        for name in [*self.dropped, *self.renamed]:
            if name not in old.names:
                raise InputError(f"The scheme has no landmark '{name}': choose among {', '.join(old.names)}.")
        for name in self.dropped:
            if name in self.renamed:
                raise InputError(f"'{name}' cannot be dropped and renamed at once: choose one of both.")
        for name in self.added:
            if not self.definitions.get(name):
                raise InputError(f"The new landmark '{name}' needs words that say where it lies: give --define.")
        if len(old) == len(set(self.dropped)) and not self.added:
            raise InputError("No landmark would be left: keep one at least.")

    def _check_later(self, names: Sequence[str]) -> None:
        """Refuse names that the new version does not have, or has at two places of `pairs` and `lateral`."""
        sides = [*(name for pair in self.pairs for name in pair), *self.lateral]
        for name in [*self.definitions, *sides]:
            if name not in names:
                raise InputError(f"The new scheme has no landmark '{name}': choose among {', '.join(names)}.")
            if sides.count(name) > 1:
                raise InputError(f"'{name}' cannot be on two sides: name it once with --pair or --lateral.")
