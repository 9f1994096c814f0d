"""One drawn head: teeth of both jaws, bone and soft tissue as parameters, before anything is turned into voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.phantom.curves import PlanarCurve
from H3DELandmarksResearch.phantom.face import Face, draw_face
from H3DELandmarksResearch.phantom.jaw import Jaw, draw_jaw
from H3DELandmarksResearch.phantom.maxilla import Maxilla, draw_maxilla, hung_up
from H3DELandmarksResearch.phantom.placement import (
    Person,
    draw_arch,
    draw_person,
    draw_restorations,
    draw_row,
    draw_third_molar,
    tilted,
    widened,
)
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME, MOLARS
from H3DELandmarksResearch.phantom.teeth import Tooth
from H3DELandmarksResearch.phantom.toothshapes import jitter

_STREAMS = (
    *("person", "lower", "third", "jaw", "restorations", "upper", "face"),
    *("loss", "missing", "framing", "scanner", "texture", "noise", "room"),
)


def random_streams(seed: int) -> dict[str, np.random.Generator]:
    """Independent random streams of one case, so that fixing one property leaves the others as the seed drew them."""
    children = np.random.SeedSequence(seed).spawn(len(_STREAMS))
    return {name: np.random.default_rng(child) for name, child in zip(_STREAMS, children)}


@dataclass(frozen=True)
class Anatomy:
    """A drawn head in jaw coordinates (mm; x to the left, y to the back, z up, origin at the lower incisal edges).

    Attributes:
        person: shared traits.
        arch: the lower dental arch.
        lower, upper: the teeth that exist.
        jaw, maxilla, face: bone and soft tissue.
        missing: which of `MOLARS` are missing.
        gap: mm between the tooth rows at the incisors.
    """

    person: Person
    arch: PlanarCurve
    lower: tuple[Tooth, ...]
    upper: tuple[Tooth, ...]
    jaw: Jaw
    maxilla: Maxilla
    face: Face
    missing: tuple[str, ...]
    gap: float

    def landmarks(self) -> dict[str, np.ndarray]:
        """Positions (3,) in jaw coordinates of the landmarks of all molars that exist, by name."""
        found = {name: point for tooth in self.lower for name, point in tooth.landmarks().items()}
        return {name: found[name] for name in MOLAR_SCHEME.names if name in found}


def draw_anatomy(
    seed: int, missing: Sequence[str] | None = None, wide: bool = False, less_room_mm: float = 0.0
) -> Anatomy:
    """Draw a head; cheap, no voxels.

    Args:
        seed: of the case.
        missing: names from `MOLARS` to leave out; None lets the seed draw them. Teeth that exist do not depend on this,
            except that a third molar drifts and leans to mesial where the second molar of its side is missing.
        wide: let the lower molars vary as widely as in patients, see `draw_wide_molar`; bundled figures and samples are
            of the narrow variety.
        less_room_mm: up to so many mm, drawn for each side, the ramus is nearer where a third molar is missing.

    Raises:
        InputError: `missing` names something else than a lower second or third molar.
    """
    rng = random_streams(seed)
    person, arch, row = draw_lower_row(rng, wide)
    row = draw_restorations(row, rng["restorations"])
    drawn = draw_missing(rng["missing"])
    absent = drawn if missing is None else checked_missing(missing)
    lost = _other_losses(rng["loss"])
    resorbed = {name: depth for name, depth in _resorption(rng["loss"]).items() if name in (*absent, *lost)}
    less = {f"{side}-M3": less_room_mm * rng["room"].random() for side in "RL"}
    around = with_less_room(row, {name: room for name, room in less.items() if name in absent})
    jaw = draw_jaw(around, resorbed, person, arch_scale(arch), rng["jaw"])
    row = _with_drift(row, absent, rng["loss"])
    gap = 0.3 if rng["upper"].random() < 0.45 else 1 + 9 * rng["upper"].random()
    upper_arch = widened(arch, 2.0 + jitter(rng["upper"], 0.4), 1.8 + jitter(rng["upper"], 1.0))
    upper = draw_restorations(draw_row(upper_arch, person, True, rng["upper"]), rng["upper"])
    maxilla = draw_maxilla(upper_arch, upper, gap, rng["upper"])
    return Anatomy(
        person=person,
        arch=arch,
        lower=tuple(tooth for tooth in row if tooth.name not in (*absent, *lost)),
        upper=tuple(hung_up(tooth, gap) for tooth in _thinned(upper, rng["upper"])),
        jaw=jaw,
        maxilla=maxilla,
        face=draw_face(jaw, gap, rng["face"]),
        missing=absent,
        gap=gap,
    )


def draw_lower_row(
    rng: Mapping[str, np.random.Generator], wide: bool = False
) -> tuple[Person, PlanarCurve, list[Tooth]]:
    """Draw somebody's traits, lower arch and all 16 lower teeth from the streams of a case."""
    person, arch = draw_person(rng["person"]), draw_arch(rng["lower"])
    row = draw_row(arch, person, False, rng["lower"], wide)
    return person, arch, _with_third_molars(row, rng["third"])


def with_less_room(row: Sequence[Tooth], less: Mapping[str, float]) -> list[Tooth]:
    """The row around which bone is drawn: some third molars so many mm nearer to the second one of their side."""
    second, moved = {tooth.name[0]: tooth for tooth in row if tooth.kind == "M2"}, []
    for tooth in row:
        if tooth.name in less:
            forward = (second[tooth.name[0]].origin - tooth.origin) * (1, 1, 0)
            tooth = replace(tooth, origin=tooth.origin + less[tooth.name] * forward / np.linalg.norm(forward))
        moved.append(tooth)
    return moved


def arch_scale(arch: PlanarCurve) -> np.ndarray:
    """Width and depth of a drawn arch relative to the average, (2,)."""
    return arch.points[-1] / (28.2, 59.0)


def checked_missing(missing: Sequence[str]) -> tuple[str, ...]:
    """The given molar names in the order of `MOLARS`; raises InputError for other names."""
    names = [missing] if isinstance(missing, str) else list(missing)
    unknown = [str(name) for name in names if name not in MOLARS]
    if unknown:
        raise InputError(f"Unknown molar {', '.join(unknown)}: choose the missing molars from {', '.join(MOLARS)}.")
    return tuple(name for name in MOLARS if name in names)


def draw_missing(rng: np.random.Generator) -> tuple[str, ...]:
    """Which molars a case lacks: none in 55 %, else one to four, third molars far more often than second ones."""
    complete = rng.random() < 0.55
    count = rng.choice([1, 2, 3, 4], p=[0.46, 0.32, 0.13, 0.09])
    weight = [0.09 if name.endswith("M2") else 0.41 for name in MOLARS]
    chosen = rng.choice(len(MOLARS), size=count, replace=False, p=weight)
    return () if complete else tuple(name for k, name in enumerate(MOLARS) if k in chosen)


def _with_third_molars(row: list[Tooth], rng: np.random.Generator) -> list[Tooth]:
    """The row with its third molars standing as third molars do."""
    by_name = {tooth.name: tooth for tooth in row}
    for side in "RL":
        by_name[f"{side}-M3"] = draw_third_molar(by_name[f"{side}-M3"], by_name[f"{side}-M2"], rng)
    return list(by_name.values())


def _other_losses(rng: np.random.Generator) -> tuple[str, ...]:
    """Lower teeth other than the modeled molars that are missing: now and then a first molar or a second premolar."""
    chances = {"R-M1": 0.06, "L-M1": 0.06, "R-P2": 0.03, "L-P2": 0.03}
    return tuple(name for name, chance in chances.items() if rng.random() < chance)


def _resorption(rng: np.random.Generator) -> dict[str, float]:
    """How much lower the crest heals where a tooth is gone, in mm."""
    return {f"{side}-{kind}": 1.5 + 3.5 * rng.random() for side in "RL" for kind in ("P2", "M1", "M2", "M3")}


def _with_drift(row: list[Tooth], missing: tuple[str, ...], rng: np.random.Generator) -> list[Tooth]:
    """Third molars drifted and leaned into the gap of a missing second molar: at most 4 mm, so that a gap remains."""
    moved = []
    shifts = {side: (4 * rng.random(), 14 * rng.random()) for side in "RL"}
    for tooth in row:
        side = tooth.name[0]
        if tooth.kind == "M3" and f"{side}-M2" in missing and not tooth.buried:
            way, lean = shifts[side]
            tooth = replace(
                tooth, origin=tooth.origin + way * tooth.axes[:, 0] * (1, 1, 0), axes=tilted(tooth.axes, lean, 0, 0)
            )
        moved.append(tooth)
    return moved


def _thinned(upper: list[Tooth], rng: np.random.Generator) -> list[Tooth]:
    """The upper row without the teeth this person has lost; third molars are often gone."""
    return [tooth for tooth in upper if rng.random() > (0.45 if tooth.kind == "M3" else 0.04)]
