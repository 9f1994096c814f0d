"""The audit of a folder: planted faults are told with both names, right sets are quiet."""

import csv
import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from H3DELandmarksLib.cases.exchanged_points import exchanged_points, misplaced_points, small_picture
from H3DELandmarksLib.cases.findings import IssueKind
from H3DELandmarksLib.cases.point_check import CheckedPoints, check_shapes
from H3DELandmarksLib.cases.same_picture import PARTS, WORD, coarse_looks, fingerprint, repeated_pictures, resized
from H3DELandmarksLib.cli.main import main
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.reading import read_record
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.markups import read_markups, write_markups
from H3DELandmarksResearch.cases.audit import AuditRecord, audit_folder, scheme_of_folder, subsets_of
from H3DELandmarksResearch.cases.case_folder import write_readers
from H3DELandmarksResearch.cases.shared_pictures import kept_fingerprint, refuse_shared


def picture(seed: int, size=(180, 210)) -> np.ndarray:
    """A radiograph of one anatomy, with the fine structure of a subject."""
    rng, head = np.random.default_rng(seed), np.hypot(*np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j])
    coarse = ndimage.gaussian_filter(rng.normal(size=size), 12) * 90
    fine = ndimage.gaussian_filter(rng.normal(size=size), 3) * 20
    return 120 * (head < 0.85) + 20 * coarse + 8 * fine * (head < 0.85)


def volume_of(array: np.ndarray) -> Volume:
    array = array if array.ndim == 3 else array[:, :, None]
    return Volume(np.ascontiguousarray(array), np.eye(4))


COPIES = {
    "copied": lambda a: a.copy(),
    "negative": lambda a: 255 - a,
    "other gamma": lambda a: ((a - a.min()) / np.ptp(a)) ** 2,
    "other window": lambda a: np.clip(a, *np.percentile(a, [25, 85])),
    "half size": lambda a: ndimage.zoom(a, 0.5, order=1),
    "cut": lambda a: a[9:-9, 10:-10],
    "noise": lambda a: a + np.random.default_rng(0).normal(0, 3, a.shape),
    "mirrored": lambda a: a[::-1],
}


@pytest.fixture(scope="module")
def pictures():
    return [picture(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def prints(pictures):
    return [fingerprint(volume_of(p)) for p in pictures]


def test_pictures_of_different_subjects_are_not_repeats(prints):
    assert repeated_pictures(prints) == []
    assert repeated_pictures(prints[:1]) == [] == repeated_pictures([])


@pytest.mark.parametrize("change", COPIES)
def test_a_changed_copy_is_the_same_picture(pictures, prints, change):
    found = repeated_pictures([*prints, fingerprint(volume_of(COPIES[change](pictures[2])))])
    assert [(r.first, r.second, r.mirrored) for r in found] == [(2, 6, change == "mirrored")]


def test_a_cut_scan_in_another_axis_order_is_the_same():
    scans = [ndimage.gaussian_filter(np.random.default_rng(n).normal(size=(44, 50, 40)), 2) for n in range(4)]
    turned = Volume(
        np.flip(scans[1][3:, :, 2:].transpose(2, 0, 1), 0), np.eye(4)[:, [2, 0, 1, 3]] @ np.diag([-1, 1, 1, 1.0])
    )
    found = repeated_pictures([fingerprint(volume_of(s)) for s in scans] + [fingerprint(turned)])
    assert [(r.first, r.second) for r in found] == [(1, 4)]


@pytest.mark.parametrize("shape", [(60, 47), (33, 20, 28), (9, 30, 1)])
def test_coarse_looks_of_parts_are_those_of_parts_that_were_cut_out(shape):
    picture = np.random.default_rng(0).random(shape, np.float32)
    edge = WORD[len(shape)]
    for look, part in zip(coarse_looks(picture, PARTS), product(PARTS, repeat=len(shape)), strict=True):
        cut = picture[tuple(slice(round(a * n), max(round(b * n), 1)) for (a, b), n in zip(part, shape))]
        expected = resized(cut, [edge] * len(shape)).ravel()
        expected -= expected.mean()
        np.testing.assert_allclose(look, expected / np.linalg.norm(expected), atol=1e-6)


def test_blank_pictures_and_mixtures_do_no_harm(prints):
    blank = fingerprint(volume_of(np.zeros((30, 40))))
    assert repeated_pictures([*prints, blank, blank, fingerprint(volume_of(np.zeros((9, 8, 7))))]) == []


def test_a_shared_split_is_refused_by_both_names(prints):
    twice = repeated_pictures([*prints[:3], prints[1]])
    names = ["a", "b", "c", "d"]
    refuse_shared(names, twice, {"a": "train", "b": "train", "c": "test", "d": "train"})
    with pytest.raises(InputError, match=r"'b' \(train\) and 'd' \(test\)"):
        refuse_shared(names, twice, {"a": "train", "b": "train", "c": "test", "d": "test"})


def test_fingerprints_are_kept_until_the_file_changes(tmp_path, pictures):
    path, reads = tmp_path / "a.nrrd", []

    def read(p):
        reads.append(p)
        return read_volume(p)

    write_volume(path, volume_of(pictures[0].astype(np.int16)))
    first = kept_fingerprint(path, tmp_path / "kept", read)
    assert np.array_equal(kept_fingerprint(path, tmp_path / "kept", read), first) and len(reads) == 1
    write_volume(path, volume_of(pictures[1][:-3].astype(np.int16)))
    assert not np.array_equal(kept_fingerprint(path, tmp_path / "kept", read), first) and len(reads) == 2


def shape_scheme(count, pairs=()):
    marks = tuple(LandmarkDefinition(f"p{k}", "") for k in range(count))
    return LandmarkScheme("s", "1", marks, tuple((f"p{a}", f"p{b}") for a, b in pairs))


def told(points, scheme):
    found = check_shapes([CheckedPoints(str(n), p) for n, p in enumerate(points)], scheme)
    return [(int(f.case), f.kind, f.landmark) for f in found]


def test_few_or_coplanar_points_are_quiet():
    """At most 2 % of right cases; 10 sets of 12 cases with 4 points, which have no handedness."""
    scheme = shape_scheme(4, [(0, 1), (2, 3)])
    base = np.array([[-25.0, 3, 2], [25, 3, 2], [-20, -18, 0], [20, -18, 0]])
    false = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        points = base * rng.normal(1, 0.05, (12, 1, 1)) + rng.normal(0, 0.6, (12, 4, 3))
        false += len({case for case, _, _ in told(points, scheme)})
    assert false <= 0.02 * 10 * 12


def column(seed):
    """(24, 3) corners of six blocks in a curved row, as vertebrae in a radiograph."""
    rng = np.random.default_rng(seed)
    y = np.arange(6) * 30.0
    x = rng.normal(0, 4) * np.sin(y / 60) + rng.normal(0, 3)
    corners = [[x[k] + sx * 18, y[k] + sy * 10, 0] for k in range(6) for sy in (-1, 1) for sx in (-1, 1)]
    return (
        np.array(corners) * rng.normal(1, 0.06)
        + np.append(rng.normal(0, 0.8, 2), 0)
        + rng.normal(0, 0.8, (24, 3)) * [1, 1, 0]
    )


@pytest.mark.parametrize("order", [(4, 5), (4, 6, 5), (0, 3, 1, 2), (8, 12)])
def test_wrong_order_of_repeated_structures_is_one_finding(order):
    points = np.stack([column(seed) for seed in range(20)])
    assert told(points, shape_scheme(24)) == []
    wrong = points.copy()
    wrong[7, list(order)] = points[7, list(np.roll(order, 1))]
    assert told(wrong, shape_scheme(24)) == [(7, IssueKind.SWAP, f"p{min(order)}")]


@pytest.fixture
def folder(tmp_path):
    """Eight cases; case 5 has the picture of case 1 in another window, case 6 a point far away."""
    cases = tmp_path / "cases"
    cases.mkdir()
    names = tuple(f"p{k}" for k in range(8))
    base = np.append(np.random.default_rng(5).uniform(50, 150, (8, 2)), np.zeros((8, 1)), axis=1)
    for n in range(8):
        rng = np.random.default_rng(n)
        points = base + np.append(rng.normal(0, 0.8, (8, 2)), np.zeros((8, 1)), axis=1)
        points[3] += [25, 25, 0] if n == 6 else 0
        array = picture(1 if n == 5 else n)
        array = np.clip(array, *np.percentile(array, [20, 90])) if n == 5 else array
        write_volume(cases / f"c{n}.nrrd", volume_of((10 * array).astype(np.int16)))
        write_markups(cases / f"c{n}.mrk.json", LandmarkSet(names, points))
    (cases / "split.json").write_text(json.dumps({"train": ["c0", "c1", "c2"], "test": ["c5", "c6"]}))
    return cases


def test_a_split_that_tests_with_cases_of_the_training_is_refused(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"test1": ["b"], "train": ["a"], "test": ["b"], "validation": []}), encoding="utf-8")
    assert subsets_of(path) == {"a": "train", "b": "test"}
    path.write_text(json.dumps({"test1": ["b"], "train": ["a", "b"], "test": ["b"]}), encoding="utf-8")
    with pytest.raises(InputError, match="'b' in train and in test"):
        subsets_of(path)


def test_a_folder_is_audited_by_one_command(folder, tmp_path, capsys):
    assert main(["audit", str(folder), "--output", str(tmp_path / "out"), "--progress", "none"]) == 2
    text = capsys.readouterr().out
    assert "c1" in text and "'train'" in text and "'test'" in text
    record = read_record(AuditRecord, tmp_path / "out" / "audit.json", what="audit")
    assert [(f.case, f.kind, f.other, f.landmark) for f in record.findings] == [
        ("c5", "same image", "c1", None),
        ("c6", "outlier", None, "p3"),
    ]
    rows = list(csv.DictReader((tmp_path / "out" / "audit.csv").open(encoding="utf-8")))
    assert [row["case"] for row in rows] == ["c5", "c6"] and float(rows[1]["value"]) > 20
    assert main(["audit", str(folder), "--output", str(tmp_path / "out"), "--progress", "none"]) == 2  # not overwritten
    assert "overwrite" in capsys.readouterr().err


def subject(seed: int):
    """A radiograph of dark and bright structures, each at its landmark, that lie elsewhere in every subject."""
    rng = np.random.default_rng(seed)
    points = np.append(
        np.random.default_rng(5).uniform(30, 150, (8, 2)) + rng.normal(0, 7, (8, 2)), np.zeros((8, 1)), 1
    )
    grid = np.stack(np.mgrid[:180, :190], axis=-1)
    array = ndimage.gaussian_filter(rng.normal(size=(180, 190)), 3) * 3
    for k, point in enumerate(points):
        array += (-1) ** k * np.exp(-np.sum((grid - point[:2]) ** 2, axis=-1) / (2 * (4 + k) ** 2))
    return small_picture(volume_of(array), points)


@pytest.mark.parametrize("planted", [[], [(2, 9)], [(0, 1), (5, 12)]])
def test_point_lists_of_two_cases_that_were_exchanged_are_told(planted):
    cases = [subject(seed) for seed in range(16)]
    for a, b in planted:
        cases[a], cases[b] = replace(cases[a], points=cases[b].points), replace(cases[b], points=cases[a].points)
    found = exchanged_points(cases)
    assert [(a, b) for a, b, _ in found] == planted
    assert exchanged_points(cases[:9]) == []


@pytest.mark.parametrize("planted", [[], [4], [0, 11]])
def test_a_point_list_that_lies_elsewhere_on_its_radiograph_is_told(planted):
    cases = [subject(seed) for seed in range(24)]
    for n in planted:
        cases[n] = replace(cases[n], points=cases[n].points + [25, 15, 0])
    assert [n for n, fit, usual in misplaced_points(cases) if fit < usual] == planted
    assert misplaced_points(cases[:12]) == []


@pytest.mark.parametrize("edge, unit", [(1.0, "px"), (0.5, "mm")])
def test_lengths_are_pixels_where_their_size_is_not_known(folder, edge, unit):
    """The value and the sentence say one unit, and one length, whatever the case's size; outside points, too."""
    for n in range(8):
        volume = read_volume(folder / f"c{n}.nrrd")
        write_volume(folder / f"c{n}.nrrd", Volume(volume.array, np.diag([edge, edge, 1, 1])))
        size = edge * (1.3 if n == 6 else 1.0)
        points = size * read_markups(folder / f"c{n}.mrk.json").positions
        points[0] -= [300 if n == 3 else 0, 0, 0]
        write_markups(folder / f"c{n}.mrk.json", LandmarkSet(tuple(f"p{k}" for k in range(8)), points))
    _, findings = audit_folder(folder, scheme_of_folder(folder), {}, lambda fraction, text: None)
    lengths = [f for f in findings if f.unit not in ("%", "")]
    assert {f.kind for f in lengths} == {IssueKind.OUTSIDE, IssueKind.OUTLIER}
    assert {f.unit for f in lengths} == {unit}
    assert all(f"{f.value:.1f} {unit} " in f.reason for f in lengths)
    far = next(f for f in lengths if (f.case, f.landmark) == ("c6", "p3"))
    assert far.value == pytest.approx(1.3 * edge * 25 * 2**0.5, rel=0.15)


def test_a_right_folder_ends_with_0_and_a_damaged_case_is_told(folder):
    for name in ("c5", "c6"):
        (folder / f"{name}.nrrd").unlink()
        (folder / f"{name}.mrk.json").unlink()
    assert main(["audit", str(folder), "--progress", "none"]) == 0
    (folder / "c2.nrrd").write_bytes(b"NRRD0004\n")
    _, findings = audit_folder(folder, scheme_of_folder(folder), {}, lambda fraction, text: None)
    assert [(f.case, f.kind) for f in findings] == [("c2", IssueKind.UNREADABLE)]


def test_a_scheme_of_other_points_is_told(folder, capsys):
    assert main(["audit", str(folder), "--scheme", "mouse-skull", "--progress", "none"]) == 2
    assert "No point in" in capsys.readouterr().err


def test_readers_and_a_model_are_compared_in_a_folder(folder, tmp_path, capsys):
    """Reader b's points lie 6 mm higher throughout, which is a habit; case c2 has a slip of reader a."""
    (tmp_path / "found").mkdir()
    for n in range(8):
        points = read_markups(folder / f"c{n}.mrk.json")
        rng = np.random.default_rng(100 + n)
        lists = {"a": points.positions, "b": points.positions + [0, 6, 0], "found": points.positions + [0, -2, 0]}
        lists = {who: p + rng.normal(0, 0.3, p.shape) * [1, 1, 0] for who, p in lists.items()}
        lists["a"][4] += [20 if n == 2 else 0, 0, 0]
        write_markups(tmp_path / "found" / f"c{n}.mrk.json", LandmarkSet(points.names, lists.pop("found")))
        write_readers(folder, f"c{n}", {who: LandmarkSet(points.names, p) for who, p in lists.items()})
    for path in [
        folder / "c3.mrk.json",
        *sorted((folder / "readers").rglob("c2.*")),
        tmp_path / "found" / "c2.mrk.json",
    ]:
        points = read_markups(path)
        write_markups(path, LandmarkSet(tuple(name.upper() for name in points.names), points.positions))
    (tmp_path / "found" / "c7.mrk.json").unlink()
    words = ["audit", str(folder), "--predictions", str(tmp_path / "found"), "--json", "--progress", "none"]
    assert main(words) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["cases"] == 8 and "has no points of c7:" in str(document["warnings"])
    findings = document["findings"]
    told = [(f["case"], f["landmark"], "the model" in f["reason"]) for f in findings if f["kind"] == "readers differ"]
    assert told == [("c2", "p4", False), ("c2", "p4", True)]
