"""NRRD and MetaImage: units, what is not stated, voxels elsewhere, and payloads that are damaged."""

import bz2
import contextlib
import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.io.images import read_volume

VALUES = np.arange(2 * 3 * 4, dtype="<i2").reshape(2, 3, 4) * 31
RAW = VALUES.tobytes(order="F")
PACK = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "hex": lambda data: data.hex().encode()}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "2 3 4",
    "space directions": "(0.5,0,0) (0,0.75,0) (0,0,1.25)",
    "endian": "little",
    "encoding": "gzip",
    "space origin": "(1,2,3)",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "True",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "1 2 3",
    "ElementSpacing": "0.5 0.75 1.25",
    "DimSize": "2 3 4",
    "ElementType": "MET_SHORT",
    "CompressedDataSize": str(len(zlib.compress(RAW))),
}


def nrrd(path: Path, payload: bytes | None = None, **changes: str | None) -> Path:
    """Write a file whose fields are changed, or left out where they are None."""
    fields = {**NRRD, **{name.replace("_", " "): value for name, value in changes.items()}}
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in fields.items() if value is not None), "", ""]
    path.write_bytes("\n".join(lines).encode() + (PACK[fields["encoding"]](RAW) if payload is None else payload))
    return path


def meta(path: Path, payload: bytes | None = None, data_file: str = "LOCAL", **changes: str | None) -> Path:
    """Write a file whose fields are changed, or left out where they are None."""
    fields = {**META, **changes, "ElementDataFile": data_file}
    text = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
    path.write_bytes(text.encode() + (zlib.compress(RAW) if payload is None else payload))
    return path


def assert_is_plain(volume) -> None:
    np.testing.assert_array_equal(volume.array, VALUES)
    expected = np.diag([0.5, 0.75, 1.25, 1])
    expected[:3, 3] = 1, 2, 3
    np.testing.assert_allclose(volume.affine, expected)


@pytest.mark.parametrize("encoding", PACK)
def test_every_encoding_gives_the_plain_scan(tmp_path, encoding, caplog):
    path = nrrd(tmp_path / "a.nrrd", encoding=encoding)
    assert_is_plain(read_volume(path))
    assert not caplog.records
    if encoding != "bzip2":  # which ITK does not read
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, VALUES)


def test_metaimages_that_do_not_say_whether_they_are_binary_are(tmp_path):
    """As ITK reads them."""
    assert_is_plain(read_volume(meta(tmp_path / "a.mha", RAW, BinaryData=None, CompressedData="False")))
    text = " ".join(map(str, VALUES.ravel(order="F"))).encode()
    assert_is_plain(read_volume(meta(tmp_path / "a.mha", text, BinaryData="False", CompressedData="False")))


def test_compressed_and_plain_metaimages_give_the_plain_scan(tmp_path, caplog):
    for name, changes in {
        "a.mha": {},
        "b.mha": {"payload": RAW, "CompressedData": "False", "CompressedDataSize": None},
    }.items():
        path = meta(tmp_path / name, **changes)
        assert_is_plain(read_volume(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, VALUES)
    assert not caplog.records


@pytest.mark.parametrize(("unit", "mm"), [("um", 1e-3), ("micron", 1e-3), ("cm", 10), ("mm", 1), ("m", 1000)])
def test_lengths_are_converted_to_mm(tmp_path, unit, mm):
    volume = read_volume(nrrd(tmp_path / "a.nrrd", space_units=f'"{unit}" "{unit}" "{unit}"'))
    np.testing.assert_allclose(volume.spacing, np.array([0.5, 0.75, 1.25]) * mm)
    np.testing.assert_allclose(volume.affine[:3, 3], np.array([1, 2, 3]) * mm)


def test_an_unknown_unit_is_refused(tmp_path):
    with pytest.raises(InputError, match="unit"):
        read_volume(nrrd(tmp_path / "a.nrrd", space_units='"ell" "ell" "ell"'))


def test_a_spacing_that_is_not_stated_is_refused_until_the_user_states_it(tmp_path, caplog):
    bare = {"space": None, "space_directions": None, "space_origin": None}
    for path in (nrrd(tmp_path / "a.nrrd", **bare), meta(tmp_path / "a.mha", ElementSpacing=None)):
        with pytest.raises(InputError, match="spacing"):
            read_volume(path)
        np.testing.assert_allclose(read_volume(path, (0.5, 0.75, 1.25)).spacing, [0.5, 0.75, 1.25])


def test_directions_that_are_not_stated_are_said(tmp_path, caplog):
    assert_is_plain(read_volume(meta(tmp_path / "a.mha", TransformMatrix=None)))
    assert "directions" in caplog.text


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/passwd", "sub/secret.raw", "..\\secret.raw"])
def test_voxels_outside_the_folder_are_never_read(tmp_path, name):
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        (place / "secret.raw").write_bytes(RAW)
    for path in (
        nrrd(folder / "a.nhdr", b"", encoding="raw", data_file=name),
        meta(folder / "a.mhd", b"", name, CompressedData="False"),
    ):
        with pytest.raises(InputError, match="folder"):
            read_volume(path)


@pytest.mark.parametrize("name", ["a.raw", "./a.raw"])
def test_voxels_beside_the_header_are_read(tmp_path, name):
    (tmp_path / "a.raw").write_bytes(RAW)
    assert_is_plain(read_volume(nrrd(tmp_path / "a.nhdr", b"", encoding="raw", data_file=name)))
    assert_is_plain(read_volume(meta(tmp_path / "a.mhd", b"", "a.raw", CompressedData="False")))


@pytest.mark.parametrize("count", ["-1", "0", "65536", "x", ""])
def test_an_impossible_number_of_axes_is_refused(tmp_path, count):
    for path in (meta(tmp_path / "a.mha", NDims=count), nrrd(tmp_path / "a.nrrd", dimension=count)):
        with pytest.raises(InputError):
            read_volume(path)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress])
def test_any_flipped_bit_or_cut_is_refused_or_changes_nothing(tmp_path, pack):
    packed = pack(RAW)

    def written(data: bytes) -> Path:
        if pack is zlib.compress:
            return meta(tmp_path / "a.mha", data)
        return nrrd(tmp_path / "a.nrrd", data, encoding="gzip" if pack is gzip.compress else "bzip2")

    assert_is_plain(read_volume(written(packed)))
    for position in range(len(packed)):
        flipped = bytearray(packed)
        flipped[position] ^= 0x10
        with contextlib.suppress(InputError):
            assert_is_plain(read_volume(written(bytes(flipped))))  # some bits mean nothing
        with pytest.raises(InputError):
            read_volume(written(packed[:position]))


@pytest.mark.parametrize("sizes", ["3000 3000 3000", "999999999 999999999 999999999"])
def test_a_size_that_the_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path, sizes):
    for encoding in PACK:
        with pytest.raises(InputError):
            read_volume(nrrd(tmp_path / "a.nrrd", sizes=sizes, encoding=encoding))
    with pytest.raises(InputError):
        read_volume(meta(tmp_path / "a.mha", DimSize=sizes))


def test_the_size_of_a_voxel_stands_for_an_absent_spacing(tmp_path):
    assert_is_plain(read_volume(meta(tmp_path / "a.mha", ElementSpacing=None, ElementSize="0.5 0.75 1.25")))


@pytest.mark.parametrize("field", [{"axis_mins": "1 2 3"}, {"space_origin": "(1,2,3)"}])
def test_a_position_without_directions_is_refused(tmp_path, field):
    bare = {"space": None, "space_directions": None, "space_origin": None, "spacings": "0.5 0.75 1.25"}
    with pytest.raises(InputError, match="position"):
        read_volume(nrrd(tmp_path / "a.nrrd", **{**bare, **field}))


@pytest.mark.parametrize("units", ['"" "" ""', "mm mm mm", '"millimetres" "mm" "mm"'])
def test_mm_is_known_by_every_name(tmp_path, units):
    assert_is_plain(read_volume(nrrd(tmp_path / "a.nrrd", space_units=units)))


def test_metaimages_in_other_units_are_converted(tmp_path):
    volume = read_volume(meta(tmp_path / "a.mha", DistanceUnits="um"))
    np.testing.assert_allclose(volume.spacing, [0.5e-3, 0.75e-3, 1.25e-3])
    np.testing.assert_allclose(volume.affine[:3, 3], [1e-3, 2e-3, 3e-3])


def test_a_sheared_scan_keeps_its_directions(tmp_path):
    volume = read_volume(nrrd(tmp_path / "a.nrrd", space_directions="(0.5,0,0) (0.1,0.75,0) (0,0.2,1.25)"))
    np.testing.assert_allclose(volume.affine[:3, :3], [[0.5, 0.1, 0], [0, 0.75, 0.2], [0, 0, 1.25]])


@pytest.mark.parametrize("space", [np.diag([1, 1, 1]), np.diag([-1, -1, 1])])
@pytest.mark.parametrize("second", [(0, 0.75, 0), (0, 0, -0.75), (0.45, 0, -0.6)])
def test_a_slice_lies_in_space_as_its_directions_say(tmp_path, space, second):
    name = "right-anterior-superior" if space[0, 0] < 0 else "left-posterior-superior"
    first = (0.4, 0, 0.3) if second[0] == 0 and second[1] else (0, 0.5, 0)
    directions = " ".join(f"({','.join(map(str, vector))})" for vector in (first, second))
    changes = {"space": name, "dimension": "2", "sizes": "4 6", "space_directions": directions}
    volume = read_volume(nrrd(tmp_path / "a.nrrd", **changes))
    np.testing.assert_array_equal(volume.array[..., 0], VALUES.reshape(4, 6, order="F"))
    np.testing.assert_allclose(volume.affine[:3, [0, 1, 3]], space @ np.column_stack([first, second, (1, 2, 3)]))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("encoding", "zrl", r"encoded in a way that is not read here \('zrl'\)"),
        ("type", "block", r"unsupported type \('block'\)"),
    ],
)
def test_what_an_nrrd_file_holds_and_nobody_reads_is_named(tmp_path, field, value, reason):
    with pytest.raises(InputError, match=reason):
        read_volume(nrrd(tmp_path / "a.nrrd", RAW, **{field: value}))


def test_metaimages_of_other_numbers_and_headers_alone_are_told_so(tmp_path):
    with pytest.raises(InputError, match=r"unsupported type \('MET_STRING'\)"):
        read_volume(meta(tmp_path / "a.mha", ElementType="MET_STRING"))
    for path in (nrrd(tmp_path / "a.nhdr", b"", data_file="a.raw"), meta(tmp_path / "a.mhd", b"", "a.raw")):
        with pytest.raises(InputError, match=r"names voxels that are not there \('a.raw'\): put both files into one"):
            read_volume(path)


def test_a_header_that_states_two_things_is_refused(tmp_path):
    again = {"Space directions": "(5,0,0) (0,5,0) (0,0,5)", "elementspacing": "5 5 5"}
    for path in (nrrd(tmp_path / "a.nrrd", **again), meta(tmp_path / "a.mha", **again)):
        with pytest.raises(InputError, match="a.(nrrd' states 'Space directions|mha' states 'elementspacing)' twice"):
            read_volume(path)
    same = {"Space directions": NRRD["space directions"], "elementspacing": META["ElementSpacing"]}
    for path in (nrrd(tmp_path / "a.nrrd", **same), meta(tmp_path / "a.mha", **same, Comment="a", comment="b")):
        assert_is_plain(read_volume(path))


@pytest.mark.parametrize("comment", ["x" * 2**21, "x\n#" * 2**19])
def test_no_part_of_a_long_header_is_taken_for_voxels(tmp_path, comment):
    path = nrrd(tmp_path / "a.nrrd", encoding="raw", **{"# comment": comment})
    with pytest.raises(InputError, match="has a header of more than 1048576 bytes"):
        read_volume(path)
    path = nrrd(tmp_path / "a.nrrd", encoding="raw", **{"# comment": comment[: 3 * 2**17]})
    assert_is_plain(read_volume(path))


@pytest.mark.parametrize("change", [{"DimSize": "2 3 2"}, {"ElementType": "MET_UCHAR"}])
def test_voxels_that_a_header_does_not_describe_are_told(tmp_path, caplog, change):
    (tmp_path / "a.raw").write_bytes(RAW)
    read_volume(meta(tmp_path / "a.mhd", b"", "a.raw", CompressedData="False", **change))
    assert "a.mhd' has 24 bytes more than its header describes: check" in caplog.text


@pytest.mark.parametrize("name", ["LIST", "LIST 2", "a%03d.raw 1 3 1"])
def test_voxels_in_several_files_are_refused_in_a_sentence(tmp_path, name):
    with pytest.raises(InputError, match="several files"):
        read_volume(nrrd(tmp_path / "a.nhdr", b"", encoding="raw", data_file=name))


@pytest.mark.parametrize("value", ["1e308", "-1e308", "nan", "inf", "0"])
@pytest.mark.parametrize("field", ["TransformMatrix", "Offset", "ElementSpacing"])
def test_numbers_without_a_use_are_refused(tmp_path, field, value):
    count = len(META[field].split())
    with pytest.raises(InputError) if (field, value) != ("Offset", "0") else contextlib.nullcontext():
        read_volume(meta(tmp_path / "a.mha", **{field: " ".join([value] * count)}))


@pytest.mark.parametrize("payload", [b"1 2 x 4", b"1 2 3", b"", b"\0" * 300])
def test_text_that_is_no_number_is_refused(tmp_path, payload):
    with pytest.raises(InputError):
        read_volume(nrrd(tmp_path / "a.nrrd", payload, encoding="text"))


def test_numbers_in_text_are_read(tmp_path):
    text = " ".join(map(str, VALUES.ravel(order="F"))).encode()
    assert_is_plain(read_volume(nrrd(tmp_path / "a.nrrd", text, encoding="text")))


@pytest.mark.skipif(os.name == "nt", reason="has no pipes of that kind")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_voxels_are_read_from_plain_files_in_the_folder_only(tmp_path, kind):
    voxels = tmp_path / "scans" / "a.raw"
    voxels.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(voxels)
    elif kind == "folder":
        voxels.mkdir()
    else:
        (tmp_path / "secret").write_bytes(RAW)
        voxels.symlink_to("/dev/zero" if kind == "device" else tmp_path / "secret")
    for path in (
        nrrd(voxels.with_name("a.nhdr"), b"", encoding="raw", data_file="a.raw"),
        meta(voxels.with_name("a.mhd"), b"", "a.raw", CompressedData="False"),
    ):
        with pytest.raises(InputError, match="plain file"):
            read_volume(path)
