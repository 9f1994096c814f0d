"""A simulated radiograph: a one-slice volume at the detector, with the landmarks that fall into its field."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.radiographs.attenuation import attenuation_of
from H3DELandmarksResearch.radiographs.collimator import FULLY_OPEN, Collimator, open_collimator
from H3DELandmarksResearch.radiographs.cone_beam import ConeBeam, aimed_beam
from H3DELandmarksResearch.radiographs.exposure import Display, Exposure, develop, expose
from H3DELandmarksResearch.radiographs.line_integrals import line_integrals
from H3DELandmarksResearch.radiographs.recipe import Recipe


@dataclass(frozen=True)
class Subject:
    """What is laid before the X-ray source.

    Attributes:
        name: identifier.
        volume: its scan.
        landmarks: LPS mm.
        axes: (3, 3) whose columns are the subject's left, posterior and superior directions in LPS.
        center: (3,) LPS mm, what views aim at.
    """

    name: str
    volume: Volume
    landmarks: LandmarkSet
    axes: np.ndarray
    center: np.ndarray


@dataclass(frozen=True)
class Radiograph:
    """A radiograph with its exact points.

    Attributes:
        volume: (X, Y, 1) gray values, bones bright; a flat picture along L and P, mm at the detector.
        landmarks: their shadows, S = 0; presence 0 where a landmark is absent or outside the field.
        beam: the geometry, in the space of the subject.
    """

    volume: Volume
    landmarks: LandmarkSet
    beam: ConeBeam


def make_radiograph(subject: Subject, recipe: Recipe, view: str, rng: np.random.Generator) -> Radiograph:
    """Take a radiograph; the same state of `rng` gives the same picture.

    Args:
        subject: what to take it of.
        recipe: ranges of everything that is drawn.
        view: name of one of the recipe's views.
        rng: the only source of chance.
    """
    beam = draw_beam(subject, recipe, view, rng)
    collimator = _draw_collimator(recipe, beam, rng)
    exposure, display = Exposure(**recipe.draw("exposure", rng)), _draw_display(recipe, rng)
    attenuation = attenuation_of(subject.volume, recipe.draw("attenuation", rng))
    grid = beam.image_grid
    field = collimator.transmission(grid)
    counts = expose(line_integrals(attenuation, beam), field, beam.spacing, exposure, rng)
    picture = develop(counts, field >= FULLY_OPEN, exposure.photons, display)
    landmarks = project_landmarks(subject.landmarks, beam, collimator)
    return Radiograph(Volume(picture[:, :, None], grid.affine), landmarks, beam)


def project_landmarks(landmarks: LandmarkSet, beam: ConeBeam, collimator: Collimator) -> LandmarkSet:
    """The shadows of landmarks in the frame of the radiograph; those beside detector or field are absent."""
    shadows = beam.project(landmarks.positions)
    seen = beam.image_grid.contains(shadows) & collimator.contains(shadows)
    presence = np.where(landmarks.unknown, np.nan, (landmarks.present & seen).astype(float))
    return replace(landmarks, positions=shadows, presence=presence, confidence=None, radius=None)


def draw_beam(subject: Subject, recipe: Recipe, view: str, rng: np.random.Generator) -> ConeBeam:
    """Source and detector of a view, turned by chance about the subject."""
    nominal, drawn = recipe.values["views"][view], recipe.draw("beam", rng)
    turn = Rotation.from_rotvec(rng.uniform(-1, 1, 3) * recipe.values["spread_degrees"], degrees=True).as_matrix()
    aim = np.asarray(nominal.get("aim", (0, 0, 0))) + rng.uniform(-1, 1, 3) * drawn["off_center_mm"]
    pixels = np.array(recipe.values["pixels"])
    step = drawn["field_mm"] * drawn["magnification"] / pixels.max()
    stretch = np.sqrt(drawn["pixel_aspect"])
    return aimed_beam(
        subject.center + subject.axes @ aim,
        subject.axes @ turn @ nominal["toward"],
        subject.axes @ turn @ nominal["up"],
        drawn["source_to_object_mm"],
        drawn["source_to_object_mm"] * drawn["magnification"],
        step * np.array([stretch, 1 / stretch]),
        tuple(int(n) for n in pixels),
    )


def _draw_collimator(recipe: Recipe, beam: ConeBeam, rng: np.random.Generator) -> Collimator:
    drawn = recipe.draw("collimator", rng)
    extent = beam.spacing * beam.shape
    center = extent / 2 + rng.uniform(-1, 1, 2) * drawn["off_center"] * extent - beam.spacing / 2
    half = extent / 2 * rng.uniform(*recipe.values["collimator_open"], 2)
    angle = np.radians(rng.uniform(-1, 1) * drawn["tilt_degrees"])
    closed = rng.random() < drawn["chance"]
    return Collimator(center, half, float(angle), drawn["penumbra_mm"]) if closed else open_collimator()


def _draw_display(recipe: Recipe, rng: np.random.Generator) -> Display:
    drawn = recipe.draw("display", rng)
    return Display(
        low=drawn["low"],
        high=drawn["high"],
        gamma=drawn["gamma"],
        bits=int(rng.choice(recipe.values["bits"])),
        shutter=bool(rng.random() < drawn["shutter_chance"]),
    )
