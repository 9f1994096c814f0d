"""Cases come in from other forms and go out again as the same scans, points and decisions."""

import json
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk
from sample_cases import NAMES, SCHEME, placed, points_of, scan_of, set_of

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksResearch.cases.exchange import export_cases, import_cases
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME
from H3DELandmarksResearch.planning.folder_cases import look_through

OBLIQUE = np.array([[0.9, -0.1, 0.0, -20.0], [0.1, 0.9, 0.0, 13.0], [0.0, 0.0, 1.3, 5.0], [0, 0, 0, 1]])


def quiet(fraction, message):
    pass


@pytest.fixture
def project(tmp_path):
    """Three cases: one complete, one with an absent and an unreviewed landmark, one oblique."""
    project = create_project(tmp_path / "project", SCHEME)
    project.add(scan_of(0), placed(points_of(0)))
    landmarks = placed(points_of(1))
    landmarks[2] = CaseLandmark(NAMES[2], ReviewState.ABSENT, None, points_of(1)[2])
    landmarks[3] = CaseLandmark(NAMES[3], ReviewState.PROPOSED, points_of(1)[3], points_of(1)[3], 1.0, 0.5, 2.0)
    project.add(scan_of(1), landmarks, ModelName("m", "1"))
    moved = scan_of(2)
    oblique = Volume(moved.array, OBLIQUE)
    project.add(oblique, placed(oblique.grid.lps_from_ijk(moved.grid.ijk_from_lps(points_of(2)))))
    return project


def corrected_of(project):
    return {case.id: case.revision().corrected(SCHEME) for case in project.cases()}


@pytest.mark.parametrize("form", ["folder", "nnlandmark"])
def test_scans_and_points_come_back(project, tmp_path, form):
    assert len(export_cases(project, form, tmp_path / "out", quiet).written) == 3
    other = create_project(tmp_path / "other", SCHEME)
    assert len(import_cases(other, form, tmp_path / "out", quiet).new) == 3
    before, after = corrected_of(project), corrected_of(other)
    assert set(before) == set(after), "the same scans have the same ids"
    for case, landmarks in before.items():
        np.testing.assert_allclose(after[case].positions, landmarks.positions, atol=1e-4)
        kept = landmarks.presence if form == "folder" else np.where(landmarks.present, 1, np.nan)
        np.testing.assert_array_equal(after[case].presence, kept)
    assert len(import_cases(project, form, tmp_path / "out", quiet).new) == 0


def test_the_folder_form_keeps_what_the_model_said_apart(project, tmp_path):
    export_cases(project, "folder", tmp_path / "out", quiet)
    with_model = next(case.id for case in project.cases() if case.revision().model)
    proposed = read_markups(tmp_path / "out" / "proposed" / f"{with_model}.mrk.json")
    np.testing.assert_allclose(proposed.positions[2:4], points_of(1)[2:4])
    assert read_markups(tmp_path / "out" / f"{with_model}.mrk.json").unknown[3]


def test_whose_each_scan_is_comes_back(project, tmp_path):
    one, two, three = (case.id for case in project.cases())
    landmarks = placed(points_of(7))
    added = project.add(scan_of(7), landmarks, subject=one)
    project.add(project.case(one).volume(), project.case(one).revision().landmarks, subject=three)
    export_cases(project, "folder", tmp_path / "out", quiet)
    planned = {case.name: case.subject for case in look_through(tmp_path / "out").cases}
    assert planned == {one: three, two: two, three: three, added.case: three}
    other = create_project(tmp_path / "other", SCHEME)
    import_cases(other, "folder", tmp_path / "out", quiet)
    subjects = {case.id: other.subject_of(case) for case in other.cases()}
    assert len({subjects[case] for case in (one, three, added.case)}) == 1 and subjects[two] == two


def test_names_of_bids_and_tables_say_whose_scans_come_in(tmp_path):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(["sub-01_ses-1", "sub-01_ses-2", "before", "after", "sub-02"]):
        write_volume(tmp_path / "in" / f"{name}.nrrd", scan_of(seed))
        write_markups(tmp_path / "in" / f"{name}.mrk.json", set_of(points_of(seed)))
    (tmp_path / "in" / "Subjects.csv").write_text("case,subject\nbefore,p\nafter.nrrd,p\n", encoding="utf-8")
    project = create_project(tmp_path / "project", SCHEME)
    import_cases(project, "folder", tmp_path / "in", quiet)
    assert sorted(Counter(map(project.subject_of, project.cases())).values()) == [1, 2, 2]
    assert "sub-0" not in "".join(p.read_text(encoding="utf-8") for p in project.folder.rglob("*.json"))


def test_nothing_is_written_over(project, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="not an empty folder"):
        export_cases(project, "folder", tmp_path / "out", quiet)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_bad_case_is_skipped_with_a_sentence(tmp_path):
    (tmp_path / "in").mkdir()
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        write_volume(tmp_path / "in" / f"{name}.nrrd", scan_of(seed))
        write_markups(tmp_path / "in" / f"{name}.mrk.json", set_of(points_of(seed)))
    (tmp_path / "in" / "b.nrrd").write_bytes(b"")
    points = read_markups(tmp_path / "in" / "c.mrk.json")
    write_markups(tmp_path / "in" / "c.mrk.json", type(points)(tuple("1234567890"), points.positions))
    summary = import_cases(create_project(tmp_path / "p", SCHEME), "folder", tmp_path / "in", quiet)
    assert (len(summary.new), len(summary.skipped)) == (1, 2)
    assert "empty" in summary.skipped[0] and "no point with a name of the scheme" in summary.skipped[1]


def test_older_point_lists_and_labels_in_other_letters_come_in(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    for number, seed in enumerate((0, 1)):
        write_volume(tmp_path / "in" / f"{seed}.nrrd", scan_of(seed))
        names = [(name, f" {name.upper()}")[number] for name in NAMES[:-1]] + ["stranger"]
        rows = [
            f"{k},{x!r},{y!r},{z!r},0,0,0,1,1,1,0,{n},,"
            for k, (n, (x, y, z)) in enumerate(zip(names, points_of(seed).tolist()))
        ]
        (tmp_path / "in" / f"{seed}.fcsv").write_text("# CoordinateSystem = LPS\n" + "\n".join(rows))
    project = create_project(tmp_path / "p", SCHEME)
    summary = import_cases(project, "folder", tmp_path / "in", quiet)
    assert (len(summary.new), summary.left_out, summary.unknown_names) == (2, 2, {"stranger": 2})
    assert "'stranger'" in caplog.text and f"' {NAMES[0].upper()}'" in caplog.text
    found = {case.id: case.revision().corrected(SCHEME).positions[:-1] for case in project.cases()}
    for seed in (0, 1):
        np.testing.assert_allclose(found[project.find(scan_of(seed)).id], points_of(seed)[:-1], atol=1e-9)


def test_two_point_lists_of_a_case_are_refused_and_the_others_come_in(tmp_path):
    (tmp_path / "in").mkdir()
    for seed in (0, 1):
        write_volume(tmp_path / "in" / f"{seed}.nrrd", scan_of(seed))
        write_markups(tmp_path / "in" / f"{seed}.mrk.json", set_of(points_of(seed)))
    (tmp_path / "in" / "0.fcsv").write_text("a,1,2,3\n")
    summary = import_cases(create_project(tmp_path / "p", SCHEME), "folder", tmp_path / "in", quiet)
    assert len(summary.new) == 1 and "more than one point list" in summary.skipped[0]


def test_nnlandmark_files_say_what_its_readme_demands(project, tmp_path):
    out = tmp_path / "out"
    export_cases(project, "nnlandmark", out, quiet)
    values = json.loads((out / "name_to_label.json").read_text())
    assert values == {name: k for k, name in enumerate(NAMES, 1)}
    dataset = json.loads((out / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, **values} and dataset["numTraining"] == 3
    points, spacings = (json.loads((out / f"{n}.json").read_text()) for n in ("all_landmarks_voxel", "spacing"))
    for case in project.cases():
        image = sitk.ReadImage(str(out / "imagesTr" / f"{case.id}_0000.nii.gz"))
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "labelsTr" / f"{case.id}.nii.gz"))).T
        np.testing.assert_allclose(image.GetSpacing(), spacings[case.id]["image_spacing"], rtol=1e-6)
        corrected = case.revision().corrected(SCHEME)
        assert set(points[case.id]) == {n for n, there in zip(NAMES, corrected.present) if there}
        for name, ijk in points[case.id].items():
            voxels = np.argwhere(labels == values[name])
            assert len(voxels) == 27
            np.testing.assert_array_equal(voxels.mean(axis=0), np.round(ijk))


def test_cubes_of_close_landmarks_share_voxels_fairly_and_keep_their_middles(tmp_path):
    points = points_of(0)
    points[:2] = [[20.0, 20, 20], [21.0, 20, 20]]
    project = create_project(tmp_path / "p", SCHEME)
    added = project.add(scan_of(0), placed(points))
    export_cases(project, "nnlandmark", tmp_path / "out", quiet)
    labels = read_volume(tmp_path / "out" / "labelsTr" / f"{added.case}.nii.gz").array
    assert (labels[20, 20, 20], labels[21, 20, 20]) == (1, 2)
    points[1] = points[0] + 0.1
    project.add(scan_of(0), placed(points))
    with pytest.raises(InputError, match="one voxel"):
        export_cases(project, "nnlandmark", tmp_path / "again", quiet)


def molar_case(seed):
    from H3DELandmarksResearch.phantom import generate_phantom

    case = generate_phantom(seed, spacing=2.0)
    states = [ReviewState.PLACED if there else ReviewState.ABSENT for there in case.landmarks.present]
    landmarks = [
        CaseLandmark(name, state, position if state is ReviewState.PLACED else None)
        for name, state, position in zip(MOLAR_SCHEME.names, states, case.landmarks.positions)
    ]
    return case.volume, landmarks


def test_mml_comes_back_but_for_the_pose(tmp_path):
    """The form has no directions: distances between points and to voxels are what it keeps."""
    project = create_project(tmp_path / "p", MOLAR_SCHEME)
    for seed in range(2):
        project.add(*molar_case(seed))
    export_cases(project, "mml", tmp_path / "out", quiet)
    other = create_project(tmp_path / "other", MOLAR_SCHEME)
    assert len(import_cases(other, "mml", tmp_path / "out", quiet).new) == 2
    for case in project.cases():
        again = next(c for c in other.cases() if c.content().same_voxels(case.content()))
        mine, theirs = (c.revision().corrected(MOLAR_SCHEME).positions for c in (case, again))
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(theirs))
        np.testing.assert_allclose(
            np.linalg.norm(mine[:, None] - mine, axis=2), np.linalg.norm(theirs[:, None] - theirs, axis=2), atol=1e-3
        )


def test_mml_is_for_its_own_scheme_only(project, tmp_path):
    with pytest.raises(InputError, match="choose another form"):
        export_cases(project, "mml", tmp_path / "out", quiet)
