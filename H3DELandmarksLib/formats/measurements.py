"""Definitions of measurements that come with the software, for schemes that define none themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksLib.core.measurements import Measurements
from H3DELandmarksLib.core.resources import resource_folder
from H3DELandmarksLib.core.text import nearest
from H3DELandmarksLib.formats.reading import Text, read_record

FOLDER = "Measurements"


@dataclass(frozen=True)
class MeasurementsRecord:
    """``Resources/Measurements/SCHEME.json``.

    Attributes:
        scheme: id of the scheme, of any version, that the definitions are for.
        by_names: whether points of unknown origin that have all names are taken for those of the scheme: not where the
            names say too little, such as numbers.
        definitions: what is measured.
    """

    format: Literal["h3delandmarks-measurements"]
    format_version: Literal[1]
    scheme: Text
    by_names: bool
    definitions: Measurements

    @property
    def landmarks(self) -> set[str]:
        """Names of all landmarks that are used."""
        return {name for part in self.definitions.measurements for name in self.definitions.landmarks_of(part.name)}


@cache
def bundled_measurements() -> dict[str, MeasurementsRecord]:
    """Definitions that come with the software, by the id of their scheme."""
    paths = sorted(resource_folder(FOLDER).glob("*.json"))
    records = [read_record(MeasurementsRecord, path, what="measurement definition") for path in paths]
    return {record.scheme: record for record in records}


def measurements_of(scheme: LandmarkScheme) -> Measurements | None:
    """What is measured on the landmarks of a scheme: what it says itself, else what comes with the software.

    Of a version that has lost landmarks, what can still be measured; None where nothing is defined.
    """
    if scheme.measurements is not None:
        return scheme.measurements
    record = bundled_measurements().get(scheme.id)
    return record.definitions.adapted(scheme.names) if record else measurements_of_names(scheme.names)


def measurements_of_names(names: Iterable[str]) -> Measurements | None:
    """What is measured on points of unknown origin: the definitions that know most of them; None where none fits."""
    given = set(names)
    fitting = [r for r in bundled_measurements().values() if r.by_names and r.landmarks <= given]
    return max(fitting, key=lambda record: len(record.landmarks)).definitions if fitting else None


def bundled_definitions(scheme: str) -> Measurements:
    """The definitions for a scheme by its id; raises InputError where there are none."""
    known = bundled_measurements()
    if scheme not in known:
        raise InputError(f"No measurements come with the software for '{scheme}': {nearest(scheme, known)}.")
    return known[scheme].definitions
