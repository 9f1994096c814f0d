"""Models that cannot read a scan are told from its header, with the reason, and come last."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_package import MANIFEST, toy_package

from H3DELandmarksLib.core.geometry import Grid
from H3DELandmarksLib.models.fit import MAX_CROPS, ScanFacts, crop_count, fitting_first, tiles_along, why_unfit

OWN = ScanFacts((200, 200, 150), (0.5, 0.5, 0.6), "CT")


@pytest.fixture
def package(tmp_path):
    """Looks for 128 mm in voxels of 1 mm at most."""
    return toy_package(tmp_path / "toy", max_spacing_mm=1.0)


def turned(tmp_path):
    stage = {**MANIFEST["stages"][0], "poses": "cube-rotations", "spacing_mm": 0.5}
    return toy_package(tmp_path / "turned", id="turned", stages=[stage], max_spacing_mm=1.0)


def test_a_scan_of_the_model_s_own_kind_fits(package):
    assert why_unfit(package, OWN) == ""


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"shape": (300, 1, 200)}, "volumes"),
        ({"spacing": (4.0, 4.0, 2.0)}, "4.0 mm|3.2 mm"),
        ({"spacing": (0.05, 0.05, 0.05)}, "128 mm"),
        ({"modality": "MR"}, "MRI"),
        ({"modality": "us"}, "ultrasound"),
    ],
)
def test_the_reason_names_what_does_not_fit(package, changes, word):
    facts = ScanFacts(**{**vars(OWN), **changes})
    reason = why_unfit(package, facts)
    assert any(part in reason for part in word.split("|")) and "'toy'" in reason


def test_voxels_that_are_somewhat_too_coarse_may_still_fit(package):
    assert why_unfit(package, ScanFacts(OWN.shape, (2.0, 2.0, 2.0))) == ""


def test_a_scan_much_larger_than_the_anatomy_does_not_fit_where_all_poses_are_searched(tmp_path, package):
    body = ScanFacts((500, 500, 800), (1.0, 1.0, 1.0))
    assert "500 x 500 x 800" in why_unfit(turned(tmp_path), body)
    assert why_unfit(package, body) == ""


def test_a_model_of_unknown_modality_reads_whatever_comes(tmp_path):
    assert why_unfit(toy_package(tmp_path / "any", modality=""), ScanFacts((90, 90, 90), (1, 1, 1), "MR")) == ""
    assert (
        why_unfit(toy_package(tmp_path / "mri", modality="MRI of heads"), ScanFacts((90,) * 3, (1, 1, 1), "MR")) == ""
    )


def test_models_that_fit_come_first_in_their_old_order(tmp_path, package):
    others = [toy_package(tmp_path / name, id=name, max_spacing_mm=limit) for name, limit in (("a", 0.01), ("b", 2.0))]
    pairs = fitting_first([*others, package], OWN)
    assert [made.id for made, _ in pairs] == ["b", "toy", "a"]
    assert [bool(reason) for _, reason in pairs] == [False, False, True]


def test_the_bundled_models_tell_each_other_s_scans_apart():
    """Names of what fits, by the headers of a planning CT, a mouse, a jaw and a radiograph."""
    from H3DELandmarksLib.models import available_models

    packages = [entry.package for entry in available_models() if entry.package]

    def fits(*facts):
        return {made.id for made, reason in fitting_first(packages, ScanFacts(*facts)) if not reason}

    assert fits((128, 128, 128), (5.0, 5.0, 2.5)) == {"head-neck-ct"}
    assert "mouse-skull" in fits((170, 170, 143), (0.14, 0.14, 0.14))
    assert "head-neck-ct" not in fits((170, 170, 143), (0.14, 0.14, 0.14))
    assert "mouse-skull" not in fits((188, 188, 188), (0.6, 0.6, 0.6)), "a jaw of 113 mm would take five minutes"
    assert "mandibular-molar-phantom" in fits((512, 512, 600), (0.98, 0.98, 1.0)), "of head, neck and chest"
    assert fits((968, 1200, 1), (0.2, 0.2, 1.0)) == {"cephalogram", "spine"}, "pixels of spines have no known size"
    assert fits((256, 256, 180), (1.0, 1.0, 1.0), "MR") == set()


@given(st.integers(1, 3000), st.integers(4, 200))
def test_tiles_cover_every_voxel_and_overlap(size, tile):
    count = tiles_along(size, tile)
    assert count == 1 if size <= tile else (count - 1) * 0.75 * tile + tile >= size - 1e-9
    assert count == 1 or (count - 2) * 0.75 * tile + tile < size


def test_crops_are_counted_over_all_poses(tmp_path, package):
    stage = package.manifest.stages[0]
    assert crop_count(stage, [128, 128, 128]) == 1 and crop_count(stage, [129, 128, 128]) == 2
    all_poses = turned(tmp_path).manifest.stages[0]
    assert crop_count(all_poses, [32, 32, 32]) == 24
    assert crop_count(all_poses, [300, 300, 300]) > MAX_CROPS


def test_facts_come_from_a_grid_and_leave_out_the_axis_of_one_pixel():
    affine = np.diag([0.5, 3.0, 0.25, 1.0])
    facts = ScanFacts.of(Grid(affine, (100, 1, 200)), "CR")
    assert facts == ScanFacts((100, 1, 200), (0.5, 3.0, 0.25), "CR")
    assert facts.extent.tolist() == [50.0, 50.0]
