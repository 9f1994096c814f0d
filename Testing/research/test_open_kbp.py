"""OpenKBP's published form: sparse tables in its own axis order become scans in place with derived landmarks."""

import numpy as np
import pytest
from synthetic_jaw import bars, draw, flesh, truth

from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups
from H3DELandmarksResearch.converters.open_kbp import read_published

SPACING = (3.9, 3.9, 2.5)


@pytest.fixture(scope="module")
def patient():
    """Scan and mandible of a patient whose head fills a part of the 128 x 128 x 128 grid; axes to left, back, up."""
    affine = np.diag([*SPACING, 1.0])
    parts, turn = bars(tilt_degrees=10)
    shift = np.array([250.0, 200, 150])
    labels = draw([(a + shift, b + shift, r) for a, b, r in parts], affine, (128, 128, 128))
    scan = np.full((128, 128, 128), -1024, np.int16)
    box = (slice(40, 90), slice(38, 95), slice(40, 110))
    scan[box] = flesh(labels).array[box]
    return Volume(scan, affine), labels, {name: point + shift for name, point in truth(turn).items()}


def publish(folder, scan, labels):
    """Write ct.csv, Mandible.csv and voxel_dimensions.csv: front to back, right to left, top to bottom; HU + 1024."""
    folder.mkdir(parents=True)

    def flat(volume):
        return volume.array[:, :, ::-1].transpose(1, 0, 2).ravel()

    values = flat(scan).astype(int) + 1024
    rows = [f"{i},{values[i]}.0" for i in np.flatnonzero(values)]
    (folder / "ct.csv").write_text("\n".join([",data", *rows]) + "\n")
    rows = [f"{i}," for i in np.flatnonzero(flat(labels))]
    (folder / "Mandible.csv").write_text("\n".join([",data", *rows]) + "\n")
    (folder / "voxel_dimensions.csv").write_text("\n".join(map(str, SPACING)) + "\n")


def test_a_published_patient_becomes_a_case_with_its_scan_and_points(tmp_path, patient):
    scan, labels, points = patient
    publish(tmp_path / "provided-data" / "train-pats" / "pt_1", scan, labels)
    assert main(["convert", "open-kbp", str(tmp_path / "provided-data"), str(tmp_path / "cases")]) == 0
    written = read_volume(tmp_path / "cases" / "pt_1.nrrd")
    np.testing.assert_array_equal(written.array, scan.array)
    np.testing.assert_allclose(written.affine, scan.affine)
    found = read_markups(tmp_path / "cases" / "pt_1.mrk.json")
    by_name = dict(zip(found.names, found.positions))
    for name, point in points.items():
        assert np.linalg.norm(by_name[name] - point) < 4, name
    assert found.unknown[found.names.index("larynx")]


def test_pairs_of_scan_and_organs_give_the_same_points_as_the_published_form(tmp_path, patient):
    scan, labels, _ = patient
    publish(tmp_path / "published" / "pt_2", scan, labels)
    (tmp_path / "pairs").mkdir()
    write_volume(tmp_path / "pairs" / "pt_2_ct.nii.gz", scan)
    write_volume(tmp_path / "pairs" / "pt_2_organs.nii.gz", labels)
    for kind in ("published", "pairs"):
        assert main(["convert", "open-kbp", str(tmp_path / kind), str(tmp_path / f"{kind}-cases")]) == 0
    one, other = (read_markups(tmp_path / f"{kind}-cases" / "pt_2.mrk.json") for kind in ("published", "pairs"))
    # Where a voxel's corner lies exactly on the contour, rounding of the header decides whether it counts.
    np.testing.assert_allclose(one.positions, other.positions, atol=0.05)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("voxel_dimensions.csv", "3.9\n2.5\n", "three voxel sizes"),
        ("ct.csv", ",data\n2097152,5\n", "of another set"),
        ("ct.csv", ",data\nsky,5\n", "download it again"),
    ],
)
def test_damaged_files_are_refused_with_one_sentence(tmp_path, name, text, words):
    folder = tmp_path / "pt_1"
    folder.mkdir()
    (folder / "voxel_dimensions.csv").write_text("3.9\n3.9\n2.5\n")
    (folder / "ct.csv").write_text(",data\n0,5\n")
    read_published(folder)
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_published(folder)
