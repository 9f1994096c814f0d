"""Changing the scheme of a folder of cases: a new version beside the old ones; no case is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from H3DELandmarksLib.cases.store import MIGRATION, SCHEME, SCHEMES, CaseProject, staging_folder
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.files import append_numbered
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme
from H3DELandmarksLib.core.text import same_names
from H3DELandmarksLib.formats.case_record import Revision
from H3DELandmarksLib.formats.reading import FormatError, build, parse_json
from H3DELandmarksLib.formats.schemes import (
    SchemeHistory,
    SchemeStep,
    check_texts,
    definition_of,
    is_redefined,
    scheme_bytes,
)
from H3DELandmarksLib.formats.versions import next_version, version_order


@dataclass(frozen=True)
class SchemeEdit:
    """What to change.

    Attributes:
        added: names of new landmarks of the midline, which come last.
        definitions: new words by name; every new landmark needs some.
        dropped: names of landmarks to leave out; the other one of a pair becomes lateral.
        renamed: new names by old ones.
    """

    added: Sequence[str] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    dropped: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)

    def applied_to(self, old: LandmarkScheme) -> LandmarkScheme:
        """The new version, with the old version number counted up; definitions may name landmarks as they are then.

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
        _require_known(self.definitions, [landmark.name for landmark in landmarks])
        pairs, lateral = [], [name_now[name] for name in old.lateral if name in name_now]
        for pair in old.pairs:
            sides = [name_now[name] for name in pair if name in name_now]
            if len(sides) == 2:
                pairs.append((sides[0], sides[1]))
            else:
                lateral += sides
        names = [landmark.name for landmark in landmarks]
        for name in (*self.added, *self.renamed.values()):
            _check_new_name(name, [other for other in names if other != name])
        measured = old.measurements.adapted(names, self.renamed) if old.measurements else None
        return LandmarkScheme(
            old.id, next_version(old.version), tuple(landmarks), tuple(pairs), tuple(lateral), measured
        )

    def _check(self, old: LandmarkScheme) -> None:
        _require_known([*self.dropped, *self.renamed], old.names)
        for name in self.dropped:
            if name in self.renamed:
                raise InputError(f"'{name}' cannot be dropped and renamed at once: choose one of both.")
        for name in self.added:
            if not self.definitions.get(name):
                raise InputError(f"The new landmark '{name}' needs words that say where it lies: give --define.")


def _check_new_name(name: str, others: Sequence[str]) -> None:
    """Refuse a name that readers of point lists could take for another landmark's."""
    if name != name.strip() or not name:
        raise InputError(f"'{name}' begins or ends with a blank, or is empty: choose another name.")
    for other in same_names([name], others).values():
        raise InputError(
            f"'{name}' differs from '{other}' in case, blanks or the form of accents alone, so that points of one "
            "would be taken for the other: choose another name."
        )


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
        cases = f"{self.cases} case" if self.cases == 1 else f"{self.cases} cases"
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
        unreadable: one sentence for every case that cannot be read, and that the change leaves as it is.
    """

    project: CaseProject
    history: SchemeHistory
    scheme: LandmarkScheme
    step: SchemeStep
    changes: tuple[Change, ...]
    unreadable: tuple[str, ...]

    def sentences(self) -> list[str]:
        """For people."""
        old = self.history.newest
        first = f"Scheme '{old.id}' {old.version} ({len(old)} landmarks) -> {self.scheme.version} ({len(self.scheme)})"
        return [first, *(change.sentence() for change in self.changes), *self.unreadable]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "from": self.history.newest.version,
            "to": self.scheme.version,
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
) -> Migration:
    """Check a new version of a project's scheme and count what it means for the cases; nothing is changed.

    Args:
        project: whose scheme.
        scheme: the new version.
        renamed: new names of landmarks by their old ones.
        same_points: landmarks, by old or new name, whose definition changed in words only.

    Raises:
        InputError: the new version does not follow from the newest one; the sentence says why.
    """
    history, renamed = project.history(), dict(renamed or {})
    scheme_bytes(scheme)
    old = history.newest
    _check_version(old, scheme)
    _check_names(old, scheme, renamed)
    step = SchemeStep(renamed, frozenset(renamed.get(name, name) for name in same_points))
    for name in sorted(step.same_points):
        if step.old_names(old, scheme).get(name) is None:
            raise InputError(f"'{name}' is not in both the old and the new scheme: leave it out of --same-points.")
    reviews, unreadable = _newest_reviews(project, history)
    return Migration(project, history, scheme, step, tuple(_changes(old, scheme, step, reviews)), tuple(unreadable))


def migrate(migration: Migration) -> None:
    """Put the new version into the project, in one step.

    Raises:
        InputError: somebody changed the scheme since the plan was made, or the project cannot be written to; nothing
            has changed then.
    """
    project = migration.project

    def prepare(folder: Path) -> bool:
        if project.history() != migration.history:
            raise InputError(
                "Somebody has changed the scheme of this project meanwhile: look at the new one with "
                "'cases scheme', and try again."
            )
        (folder / SCHEME).write_bytes(scheme_bytes(migration.scheme))
        (folder / MIGRATION).write_bytes(migration.step.to_bytes())
        return True

    with staging_folder(project.folder) as staging:
        append_numbered(project.folder / SCHEMES, staging / "scheme", prepare)


def is_newer(version: str, than: str) -> bool:
    """Whether a version comes after another: numbers by their value, words by the alphabet."""
    return version_order(version) > version_order(than)


def _require_known(names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"The scheme has no landmark '{name}': choose among {', '.join(known)}.")


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
    _require_known(renamed, old.names)
    _require_known(renamed.values(), new.names)
    if len(set(renamed.values())) != len(renamed):
        raise InputError("Two landmarks cannot be renamed to the same name: give each its own.")
    for old_name, name in renamed.items():
        if old_name in new.names and old_name not in renamed.values():
            raise InputError(
                f"'{old_name}' is renamed to '{name}' but also in the new scheme: remove it there, or do not rename it."
            )
        if name in old.names and name not in renamed:
            raise InputError(
                f"'{old_name}' cannot become '{name}', which is another landmark of the old scheme: "
                "rename that one too, or choose another name."
            )


def _newest_reviews(project: CaseProject, history: SchemeHistory) -> tuple[list[Revision], list[str]]:
    """The newest review of every case under the newest version so far, and sentences for those that are damaged."""
    reviews, unreadable = [], []
    for case in project.cases():
        try:
            reviews.append(history.now(case.revision()))
        except InputError as error:
            unreadable.append(" ".join(str(error).split()))
    return reviews, unreadable


def _changes(
    old: LandmarkScheme, new: LandmarkScheme, step: SchemeStep, reviews: Sequence[Revision]
) -> Iterator[Change]:
    def decided(name: str) -> int:
        return sum(p.name == name and p.state.is_decided for review in reviews for p in review.landmarks)

    old_names = step.old_names(old, new)
    for name, old_name in old_names.items():
        if old_name is None:
            yield Change("added", name, None, len(reviews))
            continue
        if name != old_name:
            yield Change("renamed", name, old_name, decided(old_name))
        if is_redefined(name, old_name, step, old, new):
            yield Change("redefined", name, old_name, decided(old_name))
        elif definition_of(new, name) != definition_of(old, old_name):
            yield Change("reworded", name, old_name, decided(old_name))
    for name in old.names:
        if name not in old_names.values():
            yield Change("dropped", name, name, decided(name))


def scheme_of_file(path: Path) -> LandmarkScheme:
    """The scheme in a JSON file, or under "scheme" in it, as configurations and manifests of models have it.

    Raises:
        InputError: the file holds no scheme.
    """
    try:
        content = parse_json(path.read_bytes())
        content = content.get("scheme", content) if isinstance(content, dict) else content
        if not isinstance(content, dict) or not {"id", "version", "landmarks"} <= set(content):
            raise FormatError("entries are missing")
    except (OSError, FormatError) as error:
        raise InputError(
            f"'{path}' holds no scheme: give a JSON file with id, version and landmarks (name, definition each)."
        ) from error
    try:
        scheme = build(LandmarkScheme, content)
        check_texts(scheme)
    except ValueError as error:
        raise InputError(f"The scheme in '{path}' cannot be used: {error}.") from error
    return scheme
