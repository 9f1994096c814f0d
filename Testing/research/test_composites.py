"""Composites on a made head: exact points in the voxels, what is missing absent, reproducible, parted by patient."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_jaw import bars, covering_grid, draw

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, transform_points
from H3DELandmarksResearch.composites import generate_composite, read_patient
from H3DELandmarksResearch.composites.fit import fit_jaw
from H3DELandmarksResearch.composites.patient import patient_of
from H3DELandmarksResearch.composites.scanner import coarsened
from H3DELandmarksResearch.composites.training_cases import composite_cases
from H3DELandmarksResearch.phantom.anatomy import draw_anatomy
from H3DELandmarksResearch.phantom.scheme import MOLARS
from H3DELandmarksResearch.training.configuration import find_configuration, read_configuration

REAL = Path(os.environ.get("H3DE_DATA", "../shared/data")) / "head-neck-ct"
PLANNING = (3.9, 3.9, 2.5)


def head(tilt_degrees=0.0, shift=(0.0, 0.0, 0.0)):
    """CT and labels of a head: an ellipsoid of soft tissue in air around a jaw of bars."""
    parts, _ = bars(tilt_degrees=tilt_degrees)
    affine, shape = covering_grid(PLANNING, (-95.0, -50.0, -75.0), (95.0, 170.0, 115.0))
    labels = draw(parts, affine, shape)
    labels.affine[:3, 3] += shift
    x, y, z = np.moveaxis(labels.grid.lps_from_ijk(np.indices(shape).reshape(3, -1).T) - shift, 1, 0)
    inside = ((x / 85) ** 2 + ((y - 60) / 95) ** 2 + ((z - 15) / 95) ** 2 < 1).reshape(shape)
    scan = np.where(labels.array > 0, 900, np.where(inside, 40, -1000)).astype(np.int16)
    return Volume(scan, labels.affine), labels


@pytest.fixture(scope="module")
def patient():
    return patient_of("made", *head())


@pytest.fixture(scope="module")
def case(patient):
    """A small view of the molars of one side, none of which is missing."""
    return generate_composite(patient, 57, 0.8, missing=())


def test_the_jaw_is_found_where_the_head_lies(patient):
    jaw = draw_anatomy(1).jaw
    there = patient_of("elsewhere", *head(shift=(40.0, -25.0, 300.0)))
    first, second = (fit_jaw(p, jaw, np.random.default_rng(0)) for p in (patient, there))
    assert first.residual < 4
    np.testing.assert_allclose(second.pose[:3, 3] - first.pose[:3, 3], (40, -25, 300), atol=3)
    tilted = fit_jaw(patient_of("tilted", *head(tilt_degrees=15.0)), jaw, np.random.default_rng(0))
    up = [fit.pose[:3, 2] / np.linalg.norm(fit.pose[:3, 2]) for fit in (first, tilted)]
    assert np.degrees(np.arccos(up[0] @ up[1])) == pytest.approx(15, abs=6)


def test_points_are_those_of_the_teeth_in_the_voxels(case):
    found = dict(zip(case.landmarks.names, case.landmarks.positions))
    exact = {n: transform_points(case.pose, p) for n, p in case.anatomy.landmarks().items()}
    for name, point in found.items():
        if np.isfinite(point).all():
            assert case.landmarks.present[case.landmarks.names.index(name)]
            np.testing.assert_allclose(point, exact[name], atol=1e-9)
            assert case.volume.grid.contains(point)
    values = case.volume.array.astype(float)
    for tooth in case.anatomy.lower:
        if tooth.name not in MOLARS or tooth.restoration:
            continue
        enamel = transform_points(case.pose, tooth.to_jaw([tooth.crown.contour[0] * 0.75, 0, tooth.crown.height / 2]))
        if case.volume.grid.contains(enamel, margin=3):
            i, j, k = np.round(case.volume.grid.ijk_from_lps(enamel)).astype(int)
            around = values[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3]
            assert np.percentile(around, 90) > np.percentile(values, 98)


def test_missing_molars_are_absent_and_the_same_numbers_give_the_same_case(patient, case):
    seen = {name for name, there in zip(case.landmarks.names, case.landmarks.present) if there}
    side = min(seen)[0]
    assert {f"{side}0", f"{side}d"} <= seen and {name[0] for name in seen} == {side}
    fewer = generate_composite(patient, 57, 0.8, missing=(f"{side}-M3",))
    left = {name for name, there in zip(fewer.landmarks.names, fewer.landmarks.present) if there}
    assert left == seen - {f"{side}{letter}" for letter in "def"}
    assert (fewer.landmarks.presence[~fewer.landmarks.present] == 0).all()
    again = generate_composite(patient, 57, 0.8, missing=())
    np.testing.assert_array_equal(again.volume.array, case.volume.array)
    np.testing.assert_array_equal(again.landmarks.positions, case.landmarks.positions)
    assert (fewer.volume.array != case.volume.array).any()


def test_a_composite_is_a_plausible_scan(case):
    array = case.volume.array
    assert array.dtype == np.int16
    assert (array > 800).mean() > 0.002
    assert 0.1 < ((array > -400) & (array < 500)).mean() < 0.99


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), spacing=st.tuples(*[st.sampled_from([0.4, 0.7, 1.0])] * 3))
def test_coarse_voxels_lie_where_what_they_average_lay(seed, spacing):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-20, 5, 300)
    shape = (37, 29, 31)
    place = Volume(np.zeros(shape, np.int16), affine).grid.lps_from_ijk(np.indices(shape).transpose(1, 2, 3, 0))
    ramp = Volume((100 * place[..., 0] + 30 * place[..., 2]).round().astype(np.int16), affine)
    coarse = coarsened(ramp, np.random.default_rng(seed))
    assert (coarse.spacing[:2] > 1.1).all() and (coarse.spacing < 4.6).all()
    assert coarse.grid.contains(place[[0, -1], [0, -1], [0, -1]]).all()
    inner = tuple(slice(0, n - 1) for n in coarse.array.shape)
    centers = coarse.grid.lps_from_ijk(np.indices(coarse.array.shape).transpose(1, 2, 3, 0))
    there = 100 * centers[..., 0] + 30 * centers[..., 2]
    np.testing.assert_allclose(coarse.array[inner], there[inner], atol=1.5)


def test_patients_whose_jaws_cannot_hold_teeth_are_refused():
    scan, labels = head()
    nothing = Volume(np.zeros_like(labels.array), labels.affine)
    with pytest.raises(InputError, match="contour"):
        patient_of("bare", scan, nothing)
    erased = Volume(np.where(labels.array > 0, scan.array, -1024).astype(np.int16), scan.affine)
    with pytest.raises(InputError, match="erased"):
        patient_of("erased", erased, labels)
    part = Volume(np.where(np.arange(labels.array.shape[0])[:, None, None] < 20, labels.array, 0), labels.affine)
    with pytest.raises(InputError, match="fragment"):
        patient_of("part", scan, part)


def test_subsets_share_neither_patients_nor_phantoms():
    configuration = read_configuration(find_configuration("mandibular-molar-phantom"))
    data = configuration.record.data
    split = read_configuration(configuration.path.parent / data.patients).split()
    assert set(data.composites) == set(data.seeds) == set(split)
    for parts in (split.values(), [range(*ends) for ends in data.seeds.values()]):
        assert sum(map(len, parts)) == len(set().union(*parts))


def test_cases_are_kept_and_unusable_patients_passed_over(tmp_path):
    import SimpleITK as sitk

    for name, drop in (("a", False), ("b", True)):
        scan, labels = head()
        for kind, volume in (("ct", scan), ("organs", labels)):
            array = volume.array * 0 if drop and kind == "organs" else volume.array
            image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
            image.SetSpacing(PLANNING)
            image.SetOrigin(volume.affine[:3, 3].tolist())
            sitk.WriteImage(image, str(tmp_path / f"{name}_{kind}.nii.gz"))
    cases = list(composite_cases(tmp_path, ["b", "a"], 1, [1.0], tmp_path / "kept", first=12))
    assert [case.name for case in cases] == ["composite-a-13"]
    again = list(composite_cases(tmp_path, ["b", "a"], 1, [1.0], tmp_path / "kept", first=12))
    for case, kept in zip(cases, again):
        np.testing.assert_array_equal(case.volume.array, kept.volume.array)
        np.testing.assert_array_equal(case.landmarks.positions, kept.landmarks.positions)
    with pytest.raises(InputError, match="too few"):
        list(composite_cases(tmp_path, ["b"], 1, [1.0], tmp_path / "kept"))


def test_a_wrong_folder_is_not_remembered_as_an_unusable_patient(tmp_path):
    with pytest.raises(InputError, match="pt_1_ct"):
        list(composite_cases(tmp_path, ["pt_1"], 1, [1.0], tmp_path / "kept"))
    assert not list(tmp_path.rglob("*.txt"))


@pytest.mark.skipif(not REAL.exists(), reason=f"there is no {REAL}")
def test_a_real_jaw_holds_the_phantoms_teeth():
    case = generate_composite(read_patient(REAL, "pt_1"), 28, 0.8, missing=())
    assert case.fit_mm < 2
    sizes = np.linalg.norm(case.pose[:3, :3], axis=0)
    assert (sizes > 0.82).all() and (sizes < 1.2).all()
    assert case.landmarks.present.sum() >= 4
