"""Teeth given as meshes in place of the phantom's: shapes, points and names, on teeth that the test makes itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import vtk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksResearch.phantom.anatomy import Anatomy, draw_anatomy
from H3DELandmarksResearch.phantom.mesh_teeth import (
    CROWN_HEIGHT,
    MeshTooth,
    anatomy_around,
    mirrored,
    read_mesh_teeth,
    universal_name,
)
from H3DELandmarksResearch.studies.real_teeth import taken_for_another

APEX_OFF, ROOT_END, ROOF = 2.2, -12.0, -5.0


def _sphere_union(spheres: list[tuple[tuple[float, float, float], float]]) -> vtk.vtkPolyData:
    """A closed surface around spheres (center, radius), marched at 0.5 mm."""
    solid = vtk.vtkImplicitBoolean()
    solid.SetOperationTypeToUnion()
    for center, radius in spheres:
        sphere = vtk.vtkSphere()
        sphere.SetCenter(*center)
        sphere.SetRadius(radius)
        solid.AddFunction(sphere)
    sample = vtk.vtkSampleFunction()
    sample.SetImplicitFunction(solid)
    sample.SetModelBounds(-8, 8, -8, 8, -16, 10)
    sample.SetSampleDimensions(33, 33, 53)
    surface = vtk.vtkContourFilter()
    surface.SetInputConnection(sample.GetOutputPort())
    surface.SetValue(0, 0.0)
    surface.Update()
    return surface.GetOutput()


def _molar() -> vtk.vtkPolyData:
    """A crown of four cusps around a basin, on a mesial (-y) and a distal root; z is occlusal."""
    cusps = [((x, y, 3.0), 3.0) for x in (-2.2, 2.2) for y in (-2.2, 2.2)]
    trunk = [((0.0, 0.0, z), 4.2) for z in (0.0, -0.6)]
    roots = [
        ((0.0, s * (1.6 + 0.6 * t), -3 + t * (ROOT_END + 1.2 + 3)), 1.6 - 0.4 * t)
        for s in (-1, 1)
        for t in np.linspace(0, 1, 16)
    ]
    return _sphere_union([*cusps, *trunk, *roots])


def _peg() -> vtk.vtkPolyData:
    return _sphere_union([((0.0, 0.0, z), 2.6 - 0.1 * abs(z)) for z in np.linspace(-11, 4, 20)])


def _write(surface: vtk.vtkPolyData, move: tuple[float, float, float], path: Path, upper: bool) -> None:
    """Write a mesh, upside down for the upper jaw, at its place."""
    change = vtk.vtkTransform()
    change.Translate(*move)
    if upper:
        change.RotateY(180)
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputData(surface)
    moved.SetTransform(change)
    writer = vtk.vtkSTLWriter()
    writer.SetFileName(str(path))
    writer.SetFileTypeToBinary()
    writer.SetInputConnection(moved.GetOutputPort())
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.Write()


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of meshes: the lower arch and four upper teeth, with the axes of the lower second molars."""
    folder, molar, peg = tmp_path_factory.mktemp("person"), _molar(), _peg()
    axes: dict[str, str] = {}
    for number in (3, 8, 9, 14, *range(17, 33)):
        name = universal_name(number)
        place = ("I1", "I2", "C", "P1", "P2", "M1", "M2", "M3").index(name.split("-")[1])
        side = 1.0 if name.split("-")[0][-1] == "L" else -1.0
        x = side * (2.6, 7.5, 12.0, 15.5, 19.0, 22.0, 24.5, 26.5)[place]
        y = (0.0, 1.6, 5.5, 11.0, 17.0, 25.0, 35.0, 45.0)[place]
        upper = name.startswith("U")
        spot = (50.0 + x, 20.0 + y, 82.0 if upper else 70.0)
        jaw = "maxilla" if upper else "mandible"
        _write(molar if name[-2] == "M" else peg, spot, folder / jaw / "teeth" / f"tooth_{number}.stl", upper)
        if number in (18, 31):
            c = np.array(spot)
            ends = {"c": c, "x": c + (0, 1, 0), "y": c + (side, 0, 0), "z": c + (0, 0, 1)}
            axes[str(number)] = "{" + ", ".join(f'"{k}": {list(map(float, v))}' for k, v in ends.items()) + "}"
    text = "{" + ", ".join(f'"{key}": {value}' for key, value in axes.items()) + "}"
    (folder / "mandible" / "teeth_axes_mandible.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def teeth(person: Path) -> list[MeshTooth]:
    return read_mesh_teeth(person)


def test_universal_numbers_have_the_phantoms_names() -> None:
    assert [universal_name(k) for k in (1, 8, 9, 16, 17, 18, 24, 25, 31, 32)] == [
        "UR-M3",
        "UR-I1",
        "UL-I1",
        "UL-M3",
        "L-M3",
        "L-M2",
        "L-I1",
        "R-I1",
        "R-M2",
        "R-M3",
    ]
    with pytest.raises(InputError, match="33"):
        universal_name(33)


def test_points_of_a_molar_lie_where_its_mesh_was_made(teeth: list[MeshTooth]) -> None:
    by_name = {tooth.name: tooth for tooth in teeth}
    for name, side in (("L-M2", 1.0), ("R-M2", -1.0)):
        tooth = by_name[name]
        points = {key[1]: (value - tooth.origin) @ tooth.axes for key, value in tooth.landmarks().items()}
        cervix = 6.0 - CROWN_HEIGHT["M"]  # the cusps end at z = 6
        assert abs(points["0"][0]) < 0.7 and abs(points["0"][1]) < 0.7
        np.testing.assert_allclose(points["b"], [APEX_OFF, 0, ROOT_END - cervix], atol=0.6)
        np.testing.assert_allclose(points["c"], [-APEX_OFF, 0, ROOT_END - cervix], atol=0.6)
        assert abs(points["a"][0]) < 0.8 and points["a"][2] > points["b"][2] + 4
        assert tooth.origin[0] * side > 20
        assert tooth.depths(*np.float32([[0.0], [0.0], [0.0]])).solid[0] > 2


def test_a_molar_whose_roots_are_grown_together_has_a_fossa_alone(teeth: list[MeshTooth]) -> None:
    premolar = next(tooth for tooth in teeth if tooth.name == "L-P2")
    assert set(replace(premolar, name="L-M2").landmarks()) == {"L0"}


def test_a_mirror_exchanges_the_sides(teeth: list[MeshTooth]) -> None:
    left = next(tooth for tooth in teeth if tooth.name == "L-M2")
    other = next(tooth for tooth in mirrored(teeth) if tooth.name == "R-M2")
    np.testing.assert_allclose(other.landmarks()["Rb"], left.landmarks()["Lb"] * (-1, 1, 1))


def test_bone_is_drawn_around_the_roots(teeth: list[MeshTooth]) -> None:
    anatomy = anatomy_around(teeth, seed=5)
    for tooth in anatomy.lower:
        if tooth.kind == "M2":
            x, y, z = (np.array([c]) for c in tooth.to_jaw(np.array([0.0, 0.0, -6.0])))
            assert anatomy.jaw.depths(x, y, z).outer[0, 0, 0] > 1
    assert len(anatomy.lower) == 16 and anatomy.missing == ()


def _room(anatomy: Anatomy, side: str) -> float:
    """Along the jaw from the second molar to where the ramus rises above the level of z = -3, mm."""
    molar = next(tooth for tooth in anatomy.lower if tooth.name == f"{side}-M2")
    arc = abs(float(anatomy.jaw.midline.project(molar.origin[None, :2])[0][0]))
    behind = arc + np.arange(0, 40, 0.1)
    return float(behind[np.argmax(anatomy.jaw.ramus(behind * (1 if side == "L" else -1)) > -3)] - arc)


def test_bone_leaves_the_usual_room_behind_a_row_without_third_molars_however_large_its_teeth(
    teeth: list[MeshTooth],
) -> None:
    usual = draw_anatomy(6, ())  # lacks a premolar, too
    row = [tooth for tooth in teeth if tooth.name[0] in "LR" and tooth.kind not in ("P2", "M3")]
    larger = [replace(tooth, origin=tooth.origin * (1.3, 1.3, 1)) for tooth in row]
    anatomies = [anatomy_around(row, 6), anatomy_around(larger, 6), anatomy_around(larger, 6, 6.0)]
    for side in "LR":
        room, of_larger, of_less = (_room(anatomy, side) for anatomy in anatomies)
        assert room == pytest.approx(_room(usual, side), abs=2.5) and 14 < room < 26
        assert of_larger == pytest.approx(room, abs=2.5)
        assert of_less == pytest.approx(of_larger - 6, abs=1.5)


@pytest.mark.parametrize("shift, is_off", [(0.6, False), (13.0, True)])
def test_a_second_molar_whose_points_lie_half_a_tooth_away_is_taken_for_another(shift: float, is_off: bool) -> None:
    names = ("L0", "La", "Lb", "Lc", "R0", "Ra")
    places = np.arange(18.0).reshape(6, 3)
    known = np.arange(6) < 5
    truth = LandmarkSet(names, np.where(known[:, None], places, np.nan), np.where(known, 1.0, np.nan))
    moved = places + np.array([0, shift, 0]) * (np.arange(6) < 4)[:, None]
    found = LandmarkSet(names, moved, np.ones(6), confidence=np.linspace(0.2, 0.7, 6))
    sides, confidences = taken_for_another(found, truth)
    assert sides == [is_off, False]
    np.testing.assert_allclose(confidences, [0.2, 0.3, 0.4, 0.5] if is_off else [])


def test_upper_teeth_are_the_phantoms_where_none_are_given(teeth: list[MeshTooth]) -> None:
    lower = [tooth for tooth in teeth if not tooth.name.startswith("U")]
    anatomy = anatomy_around(lower, seed=5)
    assert [tooth.name for tooth in anatomy.lower] == [tooth.name for tooth in lower]
    assert len(anatomy.upper) >= 14 and not any(isinstance(tooth, MeshTooth) for tooth in anatomy.upper)
    x, y, z = (np.array([c]) for c in anatomy.upper[0].to_jaw(np.array([0.0, 0.0, -6.0])))
    assert anatomy.maxilla.depths(x, y, z).bone[0, 0, 0] > 0


def test_a_folder_without_incisors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="incisor"):
        read_mesh_teeth(tmp_path)
