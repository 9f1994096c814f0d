"""What is measured on the landmarks of a scheme: distances, angles, ratios, projections, planes, asymmetries.

A definition names what it is made of: landmarks, and points, lines and planes that are constructed of them. Every name
may only be used after it was defined, so that none depends on itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

from H3DELandmarksLib.core.text import nearest

POINT, LINE, PLANE, MEASURE = "a point", "a line", "a plane", "a measurement"
SURFACE = (LINE, PLANE)
MOST_PARTS, LONGEST_TEXT = 400, 500

# What each kind is made of: a place for each operand, several where either may stand there; the last may be repeated.
CONSTRUCTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "midpoint": ((POINT,), (POINT,)),
    "projection": ((POINT,), SURFACE),
    "line": ((POINT,), (POINT,)),
    "plane": ((POINT,), (POINT,), (POINT,)),
}
MEASURES: dict[str, tuple[tuple[str, ...], ...]] = {
    "distance": ((POINT,), (POINT,)),
    "directed distance": ((POINT,), (POINT,), (LINE,)),
    "projected distance": ((POINT,), (POINT,), SURFACE),
    "distance to": ((POINT,), SURFACE),
    "height above": ((POINT,), SURFACE, (POINT,)),
    "angle": ((POINT,), (POINT,), (POINT,)),
    "angle between": (SURFACE, SURFACE),
    "tilt": ((LINE,), (LINE,), (POINT,)),
    "asymmetry": ((POINT,), (POINT,), (PLANE,)),
    "ratio": ((MEASURE,), (MEASURE,)),
    "difference": ((MEASURE,), (MEASURE,)),
    "sum": ((MEASURE,), (MEASURE,)),
    "cobb": ((POINT,),) * 8,
    "cobb second": ((POINT,),) * 8,
    "cobb third": ((POINT,),) * 8,
}
REPEATED = {"midpoint": 1, "plane": 1, "sum": 1, "cobb": 4, "cobb second": 4, "cobb third": 4}
if TYPE_CHECKING:
    ConstructionKind = str
    MeasureKind = str
else:
    ConstructionKind, MeasureKind = Literal[tuple(CONSTRUCTIONS)], Literal[tuple(MEASURES)]
Unit = Literal["mm", "degrees", "ratio"]
_ANGLES = ("angle", "angle between", "tilt", "cobb", "cobb second", "cobb third")


@dataclass(frozen=True)
class Construction:
    """A point, line or plane made of landmarks or of what was constructed before.

    Attributes:
        name: of its own, different from all landmarks.
        kind: ``midpoint`` of two or more points; ``projection`` of a point onto a line or plane; ``line`` from one
            point to another; ``plane`` through three points, or fitted to more.
        of: names.
    """

    name: str
    kind: ConstructionKind
    of: tuple[str, ...]


@dataclass(frozen=True)
class Norm:
    """What is usual.

    Attributes:
        mean, sd: of the reference group, in the unit of the measurement.
        source: where they were published, and of whom.
        within_sd: up to so many standard deviations from the mean count as within the norm.
    """

    mean: float
    sd: float
    source: str
    within_sd: float = 2.0

    def __post_init__(self) -> None:
        if not (0 < self.sd < float("inf") and 0 < self.within_sd < float("inf") and abs(self.mean) < float("inf")):
            raise ValueError("sd: mean, standard deviation and its multiple must be finite, and the last two above 0")


@dataclass(frozen=True)
class ValueClass:
    """What values in a range are called; both limits belong to it, None where there is none."""

    name: str
    least: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a value is of this class."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Measurement:
    """One thing to measure.

    Attributes:
        name: short, as reports have it, such as ``SNA``.
        kind: how it is computed from its operands, see `docs/measurements.md`.
        of: names of points, lines, planes, or of measurements that stand before it.
        title: what it says, in words.
        norm: None where nobody gives one.
        classes: the first that holds a value names it.
    """

    name: str
    kind: MeasureKind
    of: tuple[str, ...]
    title: str = ""
    norm: Norm | None = None
    classes: tuple[ValueClass, ...] = ()

    def class_of(self, value: float) -> str | None:
        """The name of the class of a value; None where none holds it."""
        return next((known.name for known in self.classes if known.holds(value)), None)


Part = TypeVar("Part", Construction, Measurement)


@dataclass(frozen=True)
class Measurements:
    """What is measured on the landmarks of a scheme.

    Attributes:
        measurements: in the order in which they are told.
        constructions: points, lines and planes that they use.
        points_of: what the points must lie in; nothing is measured in a picture what is meant for volumes, as its
            projection is something else. None for either.
    """

    measurements: tuple[Measurement, ...]
    constructions: tuple[Construction, ...] = ()
    points_of: Literal["picture", "volume"] | None = None

    def check(self, landmarks: Iterable[str]) -> None:
        """Refuse definitions that these landmarks do not allow.

        Raises:
            ValueError: the sentence names the definition and the nearest name that is known.
        """
        self._check_size()
        known = dict.fromkeys(landmarks, POINT)
        for made in self.constructions:
            where = f"constructions: '{made.name}'"
            _check_name(where, made.name, known)
            _check_operands(where, made.kind, made.of, CONSTRUCTIONS, known)
            known[made.name] = {"line": LINE, "plane": PLANE}.get(made.kind, POINT)
        for measured in self.measurements:
            where = f"measurements: '{measured.name}'"
            _check_name(where, measured.name, known)
            _check_operands(where, measured.kind, measured.of, MEASURES, known)
            self._check_units(where, measured)
            known[measured.name] = MEASURE

    def adapted(self, landmarks: Iterable[str], renamed: Mapping[str, str] | None = None) -> Measurements | None:
        """What of it can be measured on other landmarks; None where nothing can.

        Args:
            landmarks: names that are there.
            renamed: new names of landmarks by the old ones.
        """
        known, new = set(landmarks), dict(renamed or {})

        def kept(parts: tuple[Part, ...]) -> tuple[Part, ...]:
            found = []
            for part in parts:
                of = tuple(new.get(name, name) for name in part.of)
                if known.issuperset(of):
                    found.append(replace(part, of=of))
                    known.add(part.name)
            return tuple(found)

        constructions, measurements = kept(self.constructions), kept(self.measurements)
        return replace(self, measurements=measurements, constructions=constructions) if measurements else None

    def unit(self, measured: Measurement) -> Unit:
        """The unit of its values, where positions are in mm."""
        if measured.kind == "ratio":
            return "ratio"
        if measured.kind in ("sum", "difference"):
            return self.unit(self.measurement(measured.of[0]))
        return "degrees" if measured.kind in _ANGLES else "mm"

    def measurement(self, name: str) -> Measurement:
        """The measurement of a name; KeyError where there is none."""
        return {measured.name: measured for measured in self.measurements}[name]

    def landmarks_of(self, name: str) -> tuple[str, ...]:
        """The landmarks that a measurement or construction depends on, in the order in which it names them."""
        return self._landmarks.get(name, (name,))

    def needs_space(self, name: str) -> bool:
        """Whether a measurement depends on a plane, which points of a picture do not have."""
        return name in self._spatial

    @cached_property
    def _landmarks(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name, of in self._parts:
            found[name] = tuple(dict.fromkeys(landmark for part in of for landmark in found.get(part, (part,))))
        return found

    @cached_property
    def _spatial(self) -> set[str]:
        found = {made.name for made in self.constructions if made.kind == "plane"}
        for name, of in self._parts:
            found |= {name} if found.intersection(of) else set()
        return found

    @property
    def _parts(self) -> list[tuple[str, tuple[str, ...]]]:
        """Name and operands of everything that is defined."""
        parts = [(made.name, made.of) for made in self.constructions]
        return parts + [(measured.name, measured.of) for measured in self.measurements]

    def _check_size(self) -> None:
        """Refuse more than anybody needs: definitions may come with a model from a stranger."""
        texts = [measured.title for measured in self.measurements]
        texts += [measured.norm.source for measured in self.measurements if measured.norm]
        texts += [known.name for measured in self.measurements for known in measured.classes]
        operands = [len(of) for _, of in self._parts]
        if len(operands) > MOST_PARTS or max(operands, default=0) > MOST_PARTS or len(texts) > 10 * MOST_PARTS:
            raise ValueError(f"measurements: there are more than {MOST_PARTS} parts or operands")
        if any(len(text) > LONGEST_TEXT or not text.isprintable() for text in (*texts, *(n for n, _ in self._parts))):
            raise ValueError(
                f"measurements: a text has more than {LONGEST_TEXT} characters, or cannot be shown in a line"
            )

    def _check_units(self, where: str, measured: Measurement) -> None:
        units = {self.unit(self.measurement(name)) for name in measured.of if measured.kind in ("sum", "difference")}
        if measured.kind == "ratio":
            units = {self.unit(self.measurement(name)) for name in measured.of}
        if len(units) > 1:
            raise ValueError(f"{where} puts {' and '.join(sorted(units))} together: use measurements of one unit")


def _check_name(where: str, name: str, known: Collection[str]) -> None:
    if not name.strip() or not name.isprintable() or name in known:
        raise ValueError(f"{where} needs a printable name that nothing else has")


def _check_operands(
    where: str, kind: str, given: tuple[str, ...], kinds: dict[str, tuple[tuple[str, ...], ...]], known: dict[str, str]
) -> None:
    wanted, step = kinds[kind], REPEATED.get(kind)
    more = len(given) - len(wanted)
    if more < 0 or (more and (not step or more % step)):
        counts = f"{len(wanted)}" + (f" and any multiple of {step} more" if step else "")
        raise ValueError(f"{where} is of the kind '{kind}', which needs {counts} names, not {len(given)}")
    for name, allowed in zip(given, (*wanted, *wanted[-1:] * more)):
        if name not in known:
            raise ValueError(f"{where} uses '{name}', which is not known there: {nearest(name, known)}")
        if known[name] not in allowed:
            raise ValueError(f"{where} uses '{name}', which is {known[name]}: give {' or '.join(allowed)}")
    if kind not in ("sum", "ratio", "difference") and len(set(given)) < len(given) and kind != "height above":
        raise ValueError(f"{where} uses a name twice: give different ones")
