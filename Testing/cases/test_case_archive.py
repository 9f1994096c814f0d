"""A zip of cases adds to another site's project completely, or not at all where anything is wrong with it."""

import hashlib
import json
import shutil
import stat
import zipfile

import numpy as np
import pytest
from sample_cases import NAMES, SCHEME, placed, points_of, scan_of

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState, create_project
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.landmarks import LandmarkScheme
from H3DELandmarksResearch.cases.archive import add_archive, read_untrusted_nrrd, write_archive


def quiet(fraction, message):
    pass


@pytest.fixture
def archive(tmp_path):
    """Two cases, one of them reviewed twice."""
    project = create_project(tmp_path / "theirs", SCHEME)
    project.add(scan_of(0), placed(points_of(0)), ModelName("m", "1"))
    project.add(scan_of(0), placed(points_of(0) + 0.5))
    project.add(scan_of(1), [CaseLandmark("aL", ReviewState.ABSENT)])
    assert len(write_archive(project, tmp_path / "cases.zip", quiet).written) == 2
    return tmp_path / "cases.zip"


@pytest.fixture
def mine(tmp_path):
    return create_project(tmp_path / "mine", SCHEME)


def everything(project):
    return {str(p.relative_to(project.folder)): p.read_bytes() for p in project.folder.rglob("*") if p.is_file()}


def rewritten(path, change, manifest=True):
    """A copy of an archive whose files `change` has changed: a dictionary of names and bytes."""
    with zipfile.ZipFile(path) as source:
        files = {entry.filename: source.read(entry) for entry in source.infolist()}
    change(files)
    if manifest:
        content = json.loads(files["manifest.json"])
        content["files"] = {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
            if name != "manifest.json"
        }
        files["manifest.json"] = json.dumps(content).encode()
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def name_of(files, ending):
    return next(name for name in sorted(files) if name.endswith(ending))


def test_all_cases_and_revisions_arrive_exactly(archive, mine, tmp_path):
    assert len(add_archive(mine, archive, quiet).new) == 2
    theirs = create_project(tmp_path / "third", SCHEME)
    add_archive(theirs, archive, quiet)
    for case in mine.cases():
        assert [r.to_record() for r in case.revisions()] == [r.to_record() for r in theirs.case(case.id).revisions()]
    twice = mine.find(scan_of(0))
    assert twice.revision_numbers() == [1, 2] and twice.revision(1).model == ModelName("m", "1")
    np.testing.assert_array_equal(twice.volume().array, scan_of(0).array)


def test_adding_it_again_adds_nothing(archive, mine):
    add_archive(mine, archive, quiet)
    before = everything(mine)
    summary = add_archive(mine, archive, quiet)
    assert len(summary.unchanged) == 2 and everything(mine) == before


def test_their_reviews_of_my_case_become_revisions_behind_mine(archive, mine):
    mine.add(scan_of(0), placed(points_of(7)))
    summary = add_archive(mine, archive, quiet)
    assert (len(summary.new), len(summary.revised)) == (1, 1)
    case = mine.find(scan_of(0))
    assert case.revision_numbers() == [1, 2, 3]
    np.testing.assert_array_equal(case.revision(1).corrected(SCHEME).positions, points_of(7))


def test_an_existing_file_is_not_replaced(archive, mine):
    mine.add(scan_of(0), [])
    with pytest.raises(InputError, match="there already"):
        write_archive(mine, archive, quiet)


def test_a_case_that_no_project_would_take_is_left_out_and_the_others_arrive(tmp_path, mine):
    project = create_project(tmp_path / "theirs", SCHEME)
    ids = [project.add(scan_of(seed), placed(points_of(seed))).case for seed in range(4)]
    folders = [project.case(case).folder for case in ids]
    review = folders[0] / "000001" / "revision.json"
    review.write_text(review.read_text(encoding="utf-8").replace('"1.0"', '"7.0"'), encoding="utf-8")
    shutil.rmtree(folders[1] / "000001")
    folders[2].rename(folders[2].with_name("case-0123456789abcdef"))
    summary = write_archive(project, tmp_path / "cases.zip", quiet)
    assert summary.written == ids[3:] and len(summary.skipped) == 3
    assert add_archive(mine, tmp_path / "cases.zip", quiet).new == ids[3:]


def slip(files):
    files["../evil.json"] = b"{}"


def absolute(files):
    files["/tmp/evil.json"] = b"{}"


def stranger(files):
    files["cases/notes.txt"] = b"hello"


def other_voxels(files):
    images = [name for name in files if name.endswith("image.nrrd")]
    files[images[0]], files[images[1]] = files[images[1]], files[images[0]]


def extra_field(files):
    name = name_of(files, "revision.json")
    files[name] = json.dumps({**json.loads(files[name]), "patient": "x"}).encode()


def not_a_number(files):
    name = name_of(files, "revision.json")
    files[name] = files[name].replace(b'"presence": null', b'"presence": NaN', 1)


def wrong_landmarks(files):
    name = name_of(files, "revision.json")
    content = json.loads(files[name])
    files[name] = json.dumps({**content, "landmarks": content["landmarks"][1:]}).encode()


def without_scan(files):
    del files[name_of(files, "image.nrrd")]


def without_review(files):
    for name in [n for n in files if n.endswith("revision.json")]:
        del files[name]


def refers_to_a_file(files):
    name = name_of(files, "image.nrrd")
    header, _, _ = files[name].partition(b"\n\n")
    files[name] = header + b"\ndata file: /etc/passwd\n\n"


def huge_scan(files):
    name, record = name_of(files, "image.nrrd"), name_of(files, "image.json")
    files[name] = files[name].replace(b"sizes: 40 40 40", b"sizes: 60000 60000 60000")
    files[record] = json.dumps({**json.loads(files[record]), "shape": [60000] * 3}).encode()


def key_with_text(files):
    name = name_of(files, "image.nrrd")
    files[name] = files[name].replace(b"\n\n", b"\nPatientName:=Erika\n\n", 1)


def deep_json(files):
    files[name_of(files, "revision.json")] = b"[" * 100_000


def no_manifest(files):
    del files["manifest.json"]


def twice_the_same_scan(files):
    for name in [n for n in files if n.startswith("cases/")]:
        case = name.split("/")[1]
        files[name.replace(case, f"{case}-2")] = files[name]


@pytest.mark.parametrize(
    "change",
    [
        slip,
        absolute,
        stranger,
        other_voxels,
        extra_field,
        not_a_number,
        wrong_landmarks,
        without_scan,
        without_review,
        refers_to_a_file,
        huge_scan,
        key_with_text,
        deep_json,
        no_manifest,
        twice_the_same_scan,
    ],
)
def test_what_no_export_writes_is_refused_and_nothing_is_written(archive, mine, tmp_path, change):
    mine.add(scan_of(5), placed(points_of(5)))
    before, outside = everything(mine), sorted(p.name for p in tmp_path.iterdir())
    changed = rewritten(archive, change, manifest=change is not no_manifest)
    with pytest.raises(InputError) as told:
        add_archive(mine, changed, quiet)
    assert str(told.value).count(". ") == 0 and "nothing was added" in str(told.value)
    assert everything(mine) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*outside, "changed.zip"])


def test_a_changed_byte_is_noticed(archive, mine):
    def change(files):
        name = name_of(files, "revision.json")
        files[name] = files[name].replace(b'"aL"', b'"aX"', 1)

    with pytest.raises(InputError, match="changed"):
        add_archive(mine, rewritten(archive, change, manifest=False), quiet)
    assert mine.cases() == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_half_a_download_is_refused(archive, mine, tmp_path, share):
    content = archive.read_bytes()
    (tmp_path / "half.zip").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError):
        add_archive(mine, tmp_path / "half.zip", quiet)
    assert mine.cases() == []


def test_a_name_twice_is_refused(archive, mine, tmp_path):
    """Even where both are the same, since programs differ in which one they read."""
    with zipfile.ZipFile(archive) as source:
        scheme = source.read("scheme.json")
    with zipfile.ZipFile(archive, "a") as changed, pytest.warns(UserWarning, match="Duplicate"):
        changed.writestr("scheme.json", scheme)
    with pytest.raises(InputError, match="holds a file twice"):
        add_archive(mine, archive, quiet)


HEADER = (
    b"NRRD0004\n# a comment\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: raw\n"
    b"space origin: (0,0,0)\n"
)


def test_a_header_as_an_export_writes_it_is_read(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(HEADER + b"\n" + bytes(range(8)))
    assert read_untrusted_nrrd(tmp_path / "a.nrrd", (2, 2, 2)).array.sum() == 28


@pytest.mark.parametrize(
    "line", [b"data file: other.raw", b"datafile: other.raw", b"content: Erika", b"Name:=Erika", b"byte skip: -1"]
)
def test_a_header_with_anything_else_is_refused_though_it_could_be_read(tmp_path, line):
    (tmp_path / "other.raw").write_bytes(bytes(range(8)))
    (tmp_path / "a.nrrd").write_bytes(HEADER + line + b"\n\n" + bytes(range(8)))
    with pytest.raises(InputError, match="other fields"):
        read_untrusted_nrrd(tmp_path / "a.nrrd", (2, 2, 2))


def test_a_link_is_refused(archive, mine):
    with zipfile.ZipFile(archive, "a") as changed:
        entry = zipfile.ZipInfo("cases/case-0123456789abcdef/image.nrrd")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        changed.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="link"):
        add_archive(mine, archive, quiet)


def test_a_bomb_is_refused_before_it_is_unpacked(archive, mine):
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as changed:
        changed.writestr("cases/case-0123456789abcdef/image.nrrd", bytes(30_000_000))
    with pytest.raises(InputError, match="too large"):
        add_archive(mine, archive, quiet)


def test_another_scheme_is_refused(archive, tmp_path):
    for other, reason in (
        (LandmarkScheme("head", "2.0", SCHEME.landmarks, SCHEME.pairs), "not one of this project"),
        (LandmarkScheme("head", "1.0", SCHEME.landmarks[:-1], SCHEME.pairs), "other landmarks or pairs"),
        (LandmarkScheme("head", "1.0", SCHEME.landmarks, SCHEME.pairs[:-1]), "other landmarks or pairs"),
    ):
        project = create_project(tmp_path / f"p{other.version}{len(other)}{len(other.pairs)}", other)
        with pytest.raises(InputError, match=f"scheme .*{reason}"):
            add_archive(project, archive, quiet)
        assert project.cases() == []


def test_definitions_of_another_site_stay_out(archive, mine):
    def change(files):
        scheme = json.loads(files["scheme.json"])
        scheme["scheme"]["landmarks"][0]["definition"] = "Mustermann"
        files["scheme.json"] = json.dumps(scheme).encode()

    add_archive(mine, rewritten(archive, change), quiet)
    assert [p.definition for p in mine.scheme.landmarks] == [f"the point {name}" for name in NAMES]
