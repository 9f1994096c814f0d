"""All versions of a project's scheme, and what each review says under the newest one.

Reviews stay on disk as they were written. Whoever reads one sees it through every change of the scheme that came after:
a landmark that was added is unknown, one that was dropped is left out, a renamed one keeps its points, and where a
definition changed, the old decision is a proposal that somebody has to look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from H3DELandmarksLib.cohort import strict_json as strict
from H3DELandmarksLib.cohort.record import MOST_LANDMARKS, CaseLandmark, ReviewState, Revision
from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.landmarks import LandmarkScheme, LandmarkSet

FORMAT, FORMAT_VERSION = "h3delandmarks-migration", 1


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
        return strict.dump({
            "format": FORMAT, "format_version": FORMAT_VERSION,
            "renamed": [list(pair) for pair in sorted(self.renamed.items())], "same_points": sorted(self.same_points),
        })  # fmt: skip

    @classmethod
    def from_bytes(cls, content: bytes) -> SchemeStep:
        """Read the form written by `to_bytes`; raises Malformed."""
        entry = strict.fields(strict.parse(content), ("format", "format_version", "renamed", "same_points"))
        if entry["format"] != FORMAT or entry["format_version"] != FORMAT_VERSION:
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
            raise InputError(f"A review follows the scheme '{'@'.join(revision.scheme)}', which the project does not "
                             "have: restore the project's folder 'schemes' from a backup.")
        for step, old, new in zip(self.steps[number:], self.schemes[number:], self.schemes[number + 1:]):
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
