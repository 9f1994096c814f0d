"""Changing the scheme of a project: a new version beside the old ones; no case is touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from H3DELandmarksLib.cases.shape_check import check_sides
from H3DELandmarksLib.cases.store import MIGRATION, SCHEME, SCHEMES, CaseProject, folder_aside, numbered
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import take_place
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.formats.case_record import Revision
from H3DELandmarksLib.formats.schemes import SchemeHistory, SchemeStep, definition_of, is_redefined, scheme_bytes


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
            for p in old.landmarks
            if p.name in name_now
        ]
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


Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Change:
    """What happens to one landmark.

    Attributes:
        kind: "added", "dropped", "renamed", "redefined" or "reworded".
        name: in the newer version; the older name of a dropped one.
        old_name: in the older version; None for an added one.
        cases: in how many cases somebody has decided about it; all cases for an added one.
    """

    kind: str
    name: str
    old_name: str | None
    cases: int

    def sentence(self) -> str:
        """For people."""
        cases = _counted(self.cases, "case")
        what = {
            "added": f"'{self.name}' is added: nobody has decided about it in {cases}",
            "dropped": f"'{self.name}' is dropped: reviews in {cases} stay on disk, but are not seen any more",
            "renamed": f"'{self.old_name}' becomes '{self.name}': reviews in {cases} are carried over",
            "redefined": f"'{self.name}' has another definition: points in {cases} become proposals to be reviewed "
            "(if only its words changed, say so with --same-points)",
            "reworded": f"'{self.name}' has other words for the same point: reviews in {cases} stay valid",
        }
        return what[self.kind]


@dataclass(frozen=True)
class Migration:
    """A change of a project's scheme that is checked and can be done.

    Attributes:
        project: whose scheme.
        history: versions so far.
        scheme: the new version.
        step: what the person says about the change.
        changes: landmark by landmark; those that stay are left out.
        cases: cases that can be read.
        to_review: how many of them have points to be reviewed again, or for the first time, because of the change.
        unreadable: one sentence for every case that cannot be read, and that the change leaves as it is.
    """

    project: CaseProject
    history: SchemeHistory
    scheme: LandmarkScheme
    step: SchemeStep
    changes: tuple[Change, ...]
    cases: int
    to_review: int
    unreadable: tuple[str, ...]

    def sentences(self) -> list[str]:
        """For people."""
        old = self.history.newest
        first = f"Scheme '{old.id}' {old.version} ({len(old)} landmarks) -> {self.scheme.version} ({len(self.scheme)})"
        last = f"{self.to_review} of {_counted(self.cases, 'case')} will have points that wait for a review"
        return [first, *(change.sentence() for change in self.changes), last, *self.unreadable]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "from": self.history.newest.version,
            "to": self.scheme.version,
            "cases": self.cases,
            "cases_to_review": self.to_review,
            "unreadable": list(self.unreadable),
            "changes": [
                {"kind": c.kind, "landmark": c.name, "old_name": c.old_name, "cases": c.cases} for c in self.changes
            ],
        }


def plan_migration(
    project: CaseProject,
    scheme: LandmarkScheme,
    renamed: Mapping[str, str] | None = None,
    same_points: Iterable[str] = (),
    progress: Progress | None = None,
) -> Migration:
    """Check a new version of a project's scheme and count what it means for the cases; nothing is changed.

    Args:
        project: whose scheme.
        scheme: the new version.
        renamed: new names of landmarks by their old ones.
        same_points: landmarks, by old or new name, whose definition changed in words only.
        progress: receives the fraction done and the id of the case at hand.

    Raises:
        InputError: the new version does not follow from the newest one; the sentence says why.
    """
    history, renamed = project.history(), dict(renamed or {})
    scheme_bytes(scheme)
    old = history.newest
    _check_version(old, scheme)
    _check_names(old, scheme, renamed)
    step = SchemeStep(renamed, _same_points(old, scheme, renamed, same_points))
    check_sides(old, scheme, step)
    seen, unreadable = _reviews(project, history, progress or (lambda fraction, message: None))
    following = SchemeHistory((*history.schemes, scheme), (*history.steps, step))
    waiting = sum(_must_be_seen_again(review, following) for review in seen)
    changes = tuple(_changes(old, scheme, step, seen))
    return Migration(project, history, scheme, step, changes, len(seen), waiting, tuple(unreadable))


def migrate(migration: Migration) -> None:
    """Put the new version into the project, in one step.

    Raises:
        InputError: somebody changed the scheme since the plan was made, or the project cannot be written to; nothing
            has changed then.
    """
    project, number = migration.project, len(migration.history.schemes) + 1
    with folder_aside(project.folder) as aside:
        (aside / "scheme").mkdir()
        (aside / "scheme" / SCHEME).write_bytes(scheme_bytes(migration.scheme))
        (aside / "scheme" / MIGRATION).write_bytes(migration.step.to_bytes())
        if project.history() != migration.history or not take_place(
            aside / "scheme", project.folder / SCHEMES / numbered(number)
        ):
            raise InputError(
                "Somebody has changed the scheme of this project meanwhile: look at the new one with "
                "'cases scheme', and try again."
            )


def is_newer(version: str, than: str) -> bool:
    """Whether a version comes after another: numbers by their value, words by the alphabet."""
    return _version_key(version) > _version_key(than)


def next_version(version: str) -> str:
    """A version that comes after another: its last number is counted up, or one is added."""
    match = re.fullmatch(r"(.*?)(\d+)(\D*)", version)
    return f"{match[1]}{int(match[2]) + 1}{match[3]}" if match else f"{version}.1"


def _version_key(version: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    # The end comes after words and before numbers, so that 1.0-rc.1 < 1.0 < 1.0.1.
    return [*((2, int(part), "") if part.isdigit() else (0, 0, part) for part in parts), (1, 0, "")]


def _check_version(old: LandmarkScheme, new: LandmarkScheme) -> None:
    if new.id != old.id:
        raise InputError(f"The project's scheme is '{old.id}', not '{new.id}': keep its id, or start another project.")
    if not is_newer(new.version, old.version):
        raise InputError(
            f"The project has the scheme '{old.id}' {old.version}, and {new.version} is not newer: give "
            f"the new one a higher version, for example {next_version(old.version)}."
        )


def _check_names(old: LandmarkScheme, new: LandmarkScheme, renamed: Mapping[str, str]) -> None:
    """Every renaming leads from a landmark to one that no other leads to."""
    if len(set(renamed.values())) != len(renamed):
        raise InputError("Two landmarks cannot be renamed to the same name: give each its own.")
    for old_name, name in renamed.items():
        if old_name not in old.names:
            raise InputError(f"The scheme has no landmark '{old_name}' to rename: choose among {', '.join(old.names)}.")
        if name not in new.names:
            raise InputError(f"'{old_name}' cannot become '{name}', which the new scheme does not have: add it there.")
        if old_name in new.names and old_name not in renamed.values():
            raise InputError(
                f"'{old_name}' is renamed to '{name}' but also in the new scheme: remove it there, or do not rename it."
            )
        if name in old.names and name not in renamed:
            raise InputError(
                f"'{old_name}' cannot become '{name}', which is another landmark of the old scheme: "
                "rename that one too, or choose another name."
            )


def _same_points(
    old: LandmarkScheme, new: LandmarkScheme, renamed: Mapping[str, str], given: Iterable[str]
) -> frozenset[str]:
    names = frozenset(renamed.get(name, name) for name in given)
    stayed = SchemeStep(renamed).old_names(old, new)
    for name in sorted(names):
        if stayed.get(name) is None:
            raise InputError(
                f"'{name}' is not in both the old and the new scheme, so it has no points to stay the "
                "same: leave it out of --same-points."
            )
    return names


def _reviews(project: CaseProject, history: SchemeHistory, progress: Progress) -> tuple[list[Revision], list[str]]:
    """The newest review of every case under the newest version so far, and sentences for those that are damaged."""
    seen: list[Revision] = []
    unreadable = []
    cases = project.cases()
    for number, case in enumerate(cases):
        progress(number / len(cases), case.id)
        try:
            seen.append(history.now(case.revision()))
        except InputError as error:
            unreadable.append(" ".join(str(error).split()))
    progress(1.0, "done")
    return seen, unreadable


def _changes(
    old: LandmarkScheme, new: LandmarkScheme, step: SchemeStep, reviews: Collection[Revision]
) -> Iterable[Change]:
    def decided(name: str) -> int:
        return sum(p.name == name and p.state.is_decided for review in reviews for p in review.landmarks)

    names = step.old_names(old, new)
    for name, old_name in names.items():
        if old_name is None:
            yield Change("added", name, None, len(reviews))
            continue
        if name != old_name:
            yield Change("renamed", name, old_name, decided(old_name))
        if is_redefined(name, old_name, step, old, new):
            yield Change("redefined", name, old_name, decided(old_name))
        elif definition_of(new, name) != definition_of(old, old_name):
            yield Change("reworded", name, old_name, decided(old_name))
    kept = set(names.values())
    for name in old.names:
        if name not in kept:
            yield Change("dropped", name, name, decided(name))


def _must_be_seen_again(review: Revision, following: SchemeHistory) -> bool:
    """Whether something that did not wait for a review does so after the last step."""

    def waiting(seen: Revision) -> set[str]:
        return {p.name for p in seen.landmarks if not p.state.is_decided}

    renamed = following.steps[-1].renamed
    return bool(waiting(following.now(review)) - {renamed.get(name, name) for name in waiting(review)})


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
