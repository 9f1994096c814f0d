"""All versions of a project's scheme, and what each review says under the newest one.

Reviews stay on disk as they were written. Whoever reads one sees it through every change of the scheme that came after:
a landmark that was added is unknown, one that was dropped is left out, a renamed one keeps its points, and where a
definition changed, the old decision is a proposal that somebody has to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats import strict_json as strict
from H3DELandmarksLib.formats.case_record import MOST_LANDMARKS, TOKEN, CaseLandmark, ReviewState, Revision

SCHEME_FORMAT, SCHEME_FORMAT_VERSION = "h3delandmarks-cases", 1


def scheme_bytes(scheme: LandmarkScheme) -> bytes:
    """What a project keeps of a scheme.

    Raises:
        InputError: its id or version cannot be kept.
    """
    content = strict.dump(
        {"format": SCHEME_FORMAT, "format_version": SCHEME_FORMAT_VERSION, "scheme": scheme.to_dict()}
    )
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
    if entry["format"] != SCHEME_FORMAT or entry["format_version"] != SCHEME_FORMAT_VERSION:
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


MIGRATION_FORMAT, MIGRATION_FORMAT_VERSION = "h3delandmarks-migration", 1


@dataclass(frozen=True)
class SchemeStep:
    """What a person says about the change from one version of a scheme to the next.

    Attributes:
        renamed: new name of each renamed landmark by its old one.
        same_points: names, in the newer version, of landmarks whose definition changed in words only.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    same_points: frozenset[str] = frozenset()

    def old_names(self, old: LandmarkScheme, new: LandmarkScheme) -> dict[str, str | None]:
        """The older name of every landmark of the newer version; None for those that were added."""
        before = {name: old_name for old_name, name in self.renamed.items()}
        stayed = set(old.names) - set(self.renamed)
        return {name: before.get(name, name if name in stayed else None) for name in new.names}

    def to_bytes(self) -> bytes:
        """What a project keeps of it; the same step gives the same bytes."""
        return strict.dump(
            {
                "format": MIGRATION_FORMAT,
                "format_version": MIGRATION_FORMAT_VERSION,
                "renamed": [list(pair) for pair in sorted(self.renamed.items())],
                "same_points": sorted(self.same_points),
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> SchemeStep:
        """Read the form written by `to_bytes`; raises Malformed."""
        entry = strict.fields(strict.parse(content), ("format", "format_version", "renamed", "same_points"))
        if entry["format"] != MIGRATION_FORMAT or entry["format_version"] != MIGRATION_FORMAT_VERSION:
            raise strict.Malformed("another format")
        pairs = [strict.listed(pair, 2) for pair in strict.listed(entry["renamed"], MOST_LANDMARKS)]
        if any(len(pair) != 2 for pair in pairs):
            raise strict.Malformed("a renaming")
        renamed = {strict.text(old, 200): strict.text(new, 200) for old, new in pairs}
        names = strict.listed(entry["same_points"], MOST_LANDMARKS)
        return cls(renamed, frozenset(strict.text(name, 200) for name in names))


@dataclass(frozen=True)
class SchemeHistory:
    """The versions of a scheme, the oldest first.

    Attributes:
        schemes: at least one.
        steps: one fewer; ``steps[n]`` leads from ``schemes[n]`` to ``schemes[n + 1]``.
    """

    schemes: tuple[LandmarkScheme, ...]
    steps: tuple[SchemeStep, ...] = ()

    @property
    def newest(self) -> LandmarkScheme:
        """The version that holds now."""
        return self.schemes[-1]

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        return {(scheme.id, scheme.version): number for number, scheme in enumerate(self.schemes)}

    def knows(self, revision: Revision) -> bool:
        """Whether a review follows one of the versions, name by name."""
        number = self._numbers.get(revision.scheme)
        return number is not None and tuple(p.name for p in revision.landmarks) == self.schemes[number].names

    def now(self, revision: Revision) -> Revision:
        """A review as the newest version sees it; the review itself where it follows that version.

        Raises:
            InputError: it follows no version of this scheme.
        """
        number = self._numbers.get(revision.scheme)
        if number is None:
            raise InputError(
                f"A review follows the scheme '{'@'.join(revision.scheme)}', which the project does not "
                "have: restore the project's folder 'schemes' from a backup."
            )
        for step, old, new in zip(self.steps[number:], self.schemes[number:], self.schemes[number + 1 :]):
            revision = _through(step, old, new, revision)
        return revision

    def renamed(self, points: LandmarkSet) -> LandmarkSet:
        """Points that were named by an older version, by the names that hold now; other names stay as they are."""
        new = {name: self._newest_name(name) for name in points.names if name not in self.newest.names}
        taken = set(points.names) & set(self.newest.names)
        names = tuple(name if new.get(name, name) in taken else new.get(name, name) for name in points.names)
        return points if len(set(names)) != len(names) else replace(points, names=names)

    def _newest_name(self, name: str) -> str:
        for number in reversed(range(len(self.steps))):
            if name in self.schemes[number].names:
                for later in self.steps[number:]:
                    name = later.renamed.get(name, name)
                return name
        return name


def is_redefined(name: str, old_name: str, step: SchemeStep, old: LandmarkScheme, new: LandmarkScheme) -> bool:
    """Whether a landmark's definition changed in more than words.

    Args:
        name, old_name: of the landmark in the newer and the older version.
        step: between them.
        old, new: the versions.
    """
    return name not in step.same_points and definition_of(new, name) != definition_of(old, old_name)


def definition_of(scheme: LandmarkScheme, name: str) -> str:
    """The words for a landmark of a scheme."""
    return scheme.landmarks[scheme.names.index(name)].definition


def _through(step: SchemeStep, old: LandmarkScheme, new: LandmarkScheme, revision: Revision) -> Revision:
    """A review of the older version as the newer one sees it."""
    given = {landmark.name: landmark for landmark in revision.landmarks}
    landmarks = []
    for name, old_name in step.old_names(old, new).items():
        before = given.get(old_name) if old_name is not None else None
        if before is None:
            landmarks.append(CaseLandmark(name, ReviewState.UNKNOWN))
        elif is_redefined(name, old_name, step, old, new):
            landmarks.append(_to_look_at(name, before))
        else:
            landmarks.append(replace(before, name=name))
    return replace(revision, landmarks=tuple(landmarks), scheme=(new.id, new.version))


def _to_look_at(name: str, before: CaseLandmark) -> CaseLandmark:
    """What was said under another definition: a place to begin from, about which nobody has decided."""
    if before.position is not None:
        return CaseLandmark(name, ReviewState.PROPOSED, before.position)
    doubtful = before.state in (ReviewState.ABSENT, ReviewState.PROPOSED_ABSENT)
    return CaseLandmark(name, ReviewState.PROPOSED_ABSENT if doubtful else ReviewState.UNKNOWN)
