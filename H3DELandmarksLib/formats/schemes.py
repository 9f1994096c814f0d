"""All versions of a project's scheme, and what each review says under the newest one.

Reviews stay on disk as they were written. Whoever reads one sees it through every change of the scheme that came after:
a landmark that was added is unknown, one that was dropped is left out, a renamed one keeps its points, and where a
definition changed, the old decision is a proposal that somebody has to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Literal

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme, LandmarkSet, ReviewState
from H3DELandmarksLib.formats.case_record import (
    MAX_LANDMARKS,
    TOKEN,
    CaseLandmark,
    LandmarkName,
    Revision,
    require_printable,
)
from H3DELandmarksLib.formats.reading import Limits, build, parse_json, to_json

MAX_NAME, MAX_DEFINITION = 200, 4000


@dataclass(frozen=True)
class SchemeRecord:
    """``scheme.json`` of a folder of cases."""

    format: Literal["h3delandmarks-cases"]
    format_version: Literal[1]
    scheme: LandmarkScheme

    def __post_init__(self) -> None:
        check_texts(self.scheme)


@dataclass(frozen=True)
class MigrationRecord:
    """``migration.json``: what a person says about the change from the version before.

    Attributes:
        renamed: pairs of old and new name.
        same_points: see `SchemeStep`.
    """

    format: Literal["h3delandmarks-migration"]
    format_version: Literal[1]
    renamed: Annotated[tuple[tuple[LandmarkName, LandmarkName], ...], Limits(max_length=MAX_LANDMARKS)]
    same_points: Annotated[tuple[LandmarkName, ...], Limits(max_length=MAX_LANDMARKS)]

    def __post_init__(self) -> None:
        require_printable(*(name for pair in self.renamed for name in pair), *self.same_points)


def scheme_bytes(scheme: LandmarkScheme) -> bytes:
    """The file of a scheme.

    Raises:
        InputError: its id or version cannot be kept.
    """
    try:
        return to_json(SchemeRecord("h3delandmarks-cases", 1, scheme))
    except ValueError as error:
        raise InputError(
            f"The scheme '{scheme.id}' cannot be used ({error}): give it an id and a version of letters, digits, dots "
            "and hyphens, and names of one line."
        ) from error


def read_scheme_bytes(content: bytes) -> LandmarkScheme:
    """Read the form written by `scheme_bytes`; raises FormatError."""
    return build(SchemeRecord, parse_json(content)).scheme


def check_texts(scheme: LandmarkScheme) -> None:
    """Refuse what a folder of cases does not keep; raises ValueError."""
    for name, text in (("id", scheme.id), ("version", scheme.version)):
        if not TOKEN.fullmatch(text):
            raise ValueError(f"its {name} '{text[:64]}' is not made of letters, digits, dots and hyphens")
    if len(scheme) > MAX_LANDMARKS:
        raise ValueError(f"it has more than {MAX_LANDMARKS} landmarks")
    require_printable(*scheme.names)
    for landmark in scheme.landmarks:
        if not 0 < len(landmark.name) <= MAX_NAME or len(landmark.definition) > MAX_DEFINITION:
            raise ValueError(f"the landmark '{landmark.name[:MAX_NAME]}' has no name, or too long a text")


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
        """The file of it; the same step gives the same bytes."""
        renamed = tuple(sorted(self.renamed.items()))
        return to_json(MigrationRecord("h3delandmarks-migration", 1, renamed, tuple(sorted(self.same_points))))

    @classmethod
    def from_bytes(cls, content: bytes) -> SchemeStep:
        """Read the form written by `to_bytes`; raises FormatError."""
        record = build(MigrationRecord, parse_json(content))
        return cls(dict(record.renamed), frozenset(record.same_points))


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

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every name that a landmark has or had, those that hold now first."""
        return tuple(dict.fromkeys(name for scheme in reversed(self.schemes) for name in scheme.names))

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
    old_names = step.old_names(old, new)
    new_names = {o: n for n, o in old_names.items() if o is not None}
    for name, old_name in old_names.items():
        before = given.get(old_name) if old_name is not None else None
        if before is None or old_name is None:
            landmarks.append(CaseLandmark(name, ReviewState.UNKNOWN))
        elif is_redefined(name, old_name, step, old, new):
            landmarks.append(_to_look_at(name, before))
        else:
            landmarks.append(replace(before, name=name).revised(before.revised_by, new_names))
    kept = {o: n for n, o in old_names.items() if o is not None and not is_redefined(n, o, step, old, new)}
    readers = {reader: _kept_points(points, kept) for reader, points in revision.readers.items()}
    return replace(revision, landmarks=tuple(landmarks), scheme=(new.id, new.version), readers=readers)


def _kept_points(points: LandmarkSet, new_names: Mapping[str, str]) -> LandmarkSet:
    """What a reader said of the landmarks that mean the same in the newer version, by their new names."""
    mine = points.ordered_as(tuple(name for name in points.names if name in new_names))
    return replace(mine, names=tuple(new_names[name] for name in mine.names))


def _to_look_at(name: str, before: CaseLandmark) -> CaseLandmark:
    """What was said under another definition: a place to begin from, about which nobody has decided."""
    if before.position is not None:
        return CaseLandmark(name, ReviewState.PROPOSED, before.position)
    doubtful = before.state in (ReviewState.ABSENT, ReviewState.PROPOSED_ABSENT)
    return CaseLandmark(name, ReviewState.PROPOSED_ABSENT if doubtful else ReviewState.UNKNOWN)
