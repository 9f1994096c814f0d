"""Radiographs in files for pictures and in DICOM: gray values, pixel size, and what is not believed."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.image_plane import has_unknown_pixels
from H3DELandmarksLib.io.images import read_volume, write_volume
from H3DELandmarksLib.io.radiograph_files import PICTURE_EXTENSIONS

GRAY = np.add.outer(np.arange(40) * 3, np.arange(30) * 2).astype(np.uint8)  # rows, columns
LOSSY = (".jpg", ".jpeg")


def write_picture(path: Path, array: np.ndarray = GRAY, **options) -> Path:
    """Write (rows, columns[, channels]) without this library."""
    Image.fromarray(array).save(path, **options)
    return path


def write_dicom(path: Path, tags: dict[str, str], replaced: tuple[bytes, bytes] = (b"", b"")) -> Path:
    """Write a radiograph of 40 rows and 30 columns; ITK states its spacing as that of the detector (0018,1164)."""
    image = sitk.GetImageFromArray(GRAY[np.newaxis].astype(np.uint16))
    image.SetSpacing((0.15, 0.25, 1.0))
    for tag, value in {"0008|0060": "CR", "0008|0016": "1.2.840.10008.5.1.4.1.1.1", **tags}.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.Execute(image)
    data = path.read_bytes()
    assert replaced[0] in data and len(replaced[0]) == len(replaced[1])
    path.write_bytes(data.replace(*replaced) if replaced[0] else data)
    return path


def assert_is_gray(array: np.ndarray, tolerance: int = 0) -> None:
    """Whether an [i, j, k] array shows `GRAY`, i to the right and j down."""
    assert array.shape == (30, 40, 1)
    assert np.abs(array[:, :, 0].T.astype(int) - GRAY).max() <= tolerance


@pytest.mark.parametrize("extension", PICTURE_EXTENSIONS)
def test_a_picture_becomes_one_slice_with_the_given_pixels(tmp_path, extension):
    volume = read_volume(write_picture(tmp_path / f"film{extension}"), (0.1, 0.12))
    assert_is_gray(volume.array, 4 if extension in LOSSY else 0)
    np.testing.assert_allclose(volume.affine, np.diag([0.1, 0.12, 1, 1]))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_picture_that_is_to_be_turned_is_read_as_stored_with_a_warning(tmp_path, extension, caplog):
    exif = Image.Exif()
    for orientation in (1, 6):
        exif[274] = orientation
        path = write_picture(tmp_path / f"film{extension}", exif=exif, **({"quality": 100} if "j" in extension else {}))
        assert_is_gray(read_volume(path, (0.1, 0.1)).array, 4 if extension in LOSSY else 0)
        assert ("turned or mirrored (orientation 6)" in caplog.text) == (orientation == 6)


@pytest.mark.parametrize("number_type", [np.uint8, np.uint16])
def test_a_turned_tiff_is_read_as_it_is_shown_or_refused(tmp_path, number_type):
    for orientation in range(1, 9):
        path = write_picture(tmp_path / "film.tif", GRAY.astype(number_type), tiffinfo={274: orientation})
        shown = np.array(ImageOps.exif_transpose(Image.open(path)))
        try:
            array = read_volume(path, (0.1, 0.1)).array
        except InputError as error:
            assert orientation > 4 or number_type == np.uint16, error
        else:
            np.testing.assert_array_equal(array[:, :, 0].T, shown)
            assert array.dtype == number_type


def test_gray_values_of_16_bits_in_tiles_are_refused_and_not_cut_to_8(tmp_path):
    tiles = np.zeros((48, 32), np.uint16)
    tiles[:40, :30] = GRAY
    data = b"".join(tiles[y : y + 16, x : x + 16].tobytes() for y in (0, 16, 32) for x in (0, 16))
    tags = {256: 30, 257: 40, 258: 16, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16, 324: 8, 325: 32}
    head = struct.pack("<2sHIIIIIII", b"II", 42, 56, *(56 + 2 + 12 * len(tags) + 4 + 512 * k for k in range(6)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 6 if tag > 323 else 1, value) for tag, value in tags.items())
    path = tmp_path / "film.tif"
    path.write_bytes(head + struct.pack("<6I", *[512] * 6) + struct.pack("<H", len(tags)) + entries + bytes(4) + data)
    with pytest.raises(InputError, match="8 bits would be left"):
        read_volume(path, (0.1, 0.1))


@pytest.mark.parametrize("extension", PICTURE_EXTENSIONS)
def test_gray_values_in_three_channels_become_one(tmp_path, extension, caplog):
    path = write_picture(tmp_path / f"film{extension}", np.repeat(GRAY[..., None], 3, axis=2))
    assert_is_gray(read_volume(path, (0.1, 0.1)).array, 4 if extension in LOSSY else 0)
    assert not caplog.records


def test_transparency_is_ignored_and_color_becomes_brightness_with_a_warning(tmp_path, caplog):
    alpha = np.concatenate([np.repeat(GRAY[..., None], 3, axis=2), np.full((40, 30, 1), 128, np.uint8)], axis=2)
    assert_is_gray(read_volume(write_picture(tmp_path / "alpha.png", alpha), (0.1, 0.1)).array)
    assert not caplog.records
    color = np.zeros((40, 30, 3), np.uint8)
    color[..., 1] = 200
    volume = read_volume(write_picture(tmp_path / "green.png", color), (0.1, 0.1))
    assert (volume.array == 117).all() and "green.png' is a color picture" in caplog.text


def test_what_is_said_of_a_picture_of_unknown_size_is_said_once(tmp_path, caplog):
    colors = np.stack([GRAY, GRAY, GRAY // 2], axis=-1)
    read_volume(write_picture(tmp_path / "film.png", colors), needs_size=False)
    assert caplog.text.count("is a color picture") == 1


def test_sixteen_bits_are_kept(tmp_path):
    path = write_picture(tmp_path / "film.png", GRAY.astype(np.uint16) * 200)
    assert read_volume(path, (0.1, 0.1)).array.max() == 200 * int(GRAY.max())


@pytest.mark.parametrize("extension", PICTURE_EXTENSIONS)
def test_a_picture_that_states_no_pixel_size_is_refused_with_advice(tmp_path, extension):
    path = write_picture(tmp_path / f"film{extension}")
    with pytest.raises(InputError, match=rf"film\{extension}' does not state how large its pixels are: .*--spacing"):
        read_volume(path)


@pytest.mark.parametrize("extension", PICTURE_EXTENSIONS)
def test_where_no_size_is_needed_pixels_of_unknown_size_count_as_one_millimeter(tmp_path, extension):
    path = write_picture(tmp_path / f"film{extension}")
    volume = read_volume(path, needs_size=False)
    assert has_unknown_pixels(volume.array.shape, volume.spacing)
    assert read_volume(path, (0.1, 0.1), needs_size=False).spacing[:2].tolist() == [0.1, 0.1]


@pytest.mark.parametrize("dots", [72, 96])
@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".bmp"])
def test_the_resolution_of_a_screen_is_not_believed(tmp_path, extension, dots):
    path = write_picture(tmp_path / f"film{extension}", dpi=(dots, dots))
    with pytest.raises(InputError, match="does not state how large its pixels are"):
        read_volume(path)


@pytest.mark.parametrize("extension", [".jpg", ".tif", ".png", ".bmp"])
def test_the_resolution_of_a_scanner_is_believed_with_a_warning_and_can_be_overruled(tmp_path, extension, caplog):
    path = write_picture(tmp_path / f"film{extension}", dpi=(300, 300))
    np.testing.assert_allclose(read_volume(path).spacing[:2], 25.4 / 300, rtol=1e-3)
    assert "states pixels of 0.08467 x 0.08467 mm" in caplog.text
    np.testing.assert_allclose(read_volume(path, (0.2, 0.3)).spacing[:2], (0.2, 0.3))


@pytest.mark.parametrize("extension", [".jpg", ".tif", ".png", ".bmp"])
def test_width_and_height_of_a_pixel_are_not_exchanged(tmp_path, extension):
    path = write_picture(tmp_path / f"film{extension}", dpi=(300, 600))
    np.testing.assert_allclose(read_volume(path).spacing[:2], (25.4 / 300, 25.4 / 600), rtol=1e-3)


def test_a_png_file_that_states_proportions_alone_states_no_size(tmp_path):
    path = write_picture(tmp_path / "film.png", dpi=(300, 300))
    data = bytearray(path.read_bytes())
    place = data.index(b"pHYs")
    data[place + 12] = 0  # of no unit
    struct.pack_into(">I", data, place + 13, zlib.crc32(data[place : place + 13]))
    path.write_bytes(data)
    with pytest.raises(InputError, match="does not state how large its pixels are"):
        read_volume(path)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_pixels_that_are_not_square_are_never_taken_for_squares(tmp_path, extension):
    path = write_picture(tmp_path / f"film{extension}", dpi=(300, 300))
    data = bytearray(path.read_bytes())
    if extension == ".png":
        place = data.index(b"pHYs")
        struct.pack_into(">IIB", data, place + 4, 1, 2, 0)
        struct.pack_into(">I", data, place + 13, zlib.crc32(data[place : place + 13]))
    else:
        struct.pack_into(">BHH", data, data.index(b"JFIF\0") + 7, 0, 1, 2)
    path.write_bytes(data)
    with pytest.raises(InputError, match="not square"):
        read_volume(path, needs_size=False)
    np.testing.assert_allclose(read_volume(path, (0.2, 0.1)).spacing[:2], (0.2, 0.1))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("is_cut", [False, True])
def test_transparency_beside_gray_values_is_ignored(tmp_path, bits, is_cut, caplog):
    gray = GRAY.astype(f">u{bits // 8}") * (1 if bits == 8 else 257)
    rows = np.stack([gray, np.arange(1200).reshape(40, 30) % 251], axis=-1).astype(gray.dtype)
    # Each row is written as its difference from the pixel before, as encoders do.
    raw = rows.view(np.uint8).reshape(40, -1)
    step = bits // 4
    packed = b"".join(b"\1" + (row - np.r_[np.zeros(step, np.uint8), row[:-step]]).tobytes() for row in raw)
    path = write_png(tmp_path / "film.png", struct.pack(">IIBBBBB", 30, 40, bits, 4, 0, 0, 0), zlib.compress(packed))
    if is_cut:
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(InputError, match="damaged"):
            read_volume(path, (0.1, 0.1))
        return
    array = read_volume(path, (0.1, 0.1)).array
    assert array.dtype == np.dtype(f"u{bits // 8}") and not caplog.records
    np.testing.assert_array_equal(array[..., 0].T, gray)


@pytest.mark.parametrize("kind", ["L", "1"])
def test_a_gray_value_that_counts_as_transparent_is_a_value(tmp_path, kind):
    for name, more in (("plain", {}), ("transparent", {"transparency": 0})):
        Image.fromarray(GRAY).convert(kind).save(tmp_path / f"{name}.png", **more)
    plain, transparent = (read_volume(tmp_path / f"{n}.png", (0.1, 0.1)).array for n in ("plain", "transparent"))
    np.testing.assert_array_equal(transparent, plain)
    assert plain.max() > plain.min()
    whole = (tmp_path / "transparent.png").read_bytes()
    for count in range(1, 60):
        (tmp_path / "cut.png").write_bytes(whole[:count])
        with pytest.raises(InputError):
            read_volume(tmp_path / "cut.png", (0.1, 0.1))


def test_transparency_in_a_tiff_file_is_refused_and_not_taken_for_gray(tmp_path):
    alpha = np.stack([GRAY, np.full_like(GRAY, 128)], axis=-1)
    Image.fromarray(alpha, "LA").save(tmp_path / "film.tif")
    with pytest.raises(InputError, match="several values for each pixel"):
        read_volume(tmp_path / "film.tif", (0.1, 0.1))


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_gray_and_other_values_of_a_tiff_file_are_not_taken_for_neighbors(tmp_path, channels):
    with pytest.raises(InputError, match="several values for each pixel"):
        read_volume(write_tiff(tmp_path / "film.tif", {277: channels, 279: 4096 * channels}), (0.1, 0.1))


def write_png(path: Path, head: bytes, pixels: bytes) -> Path:
    """A PNG file of its three necessary parts."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", pixels) + part(b"IEND", b""))
    return path


def test_several_pages_are_refused(tmp_path):
    page = Image.fromarray(GRAY)
    page.save(tmp_path / "film.tif", save_all=True, append_images=[page, page])
    with pytest.raises(InputError, match="has 3 pages"):
        read_volume(tmp_path / "film.tif", (0.1, 0.1))


@pytest.mark.parametrize("extension", PICTURE_EXTENSIONS)
@pytest.mark.parametrize("content", [b"", b"this is no image at all"])
def test_a_foreign_file_is_refused(tmp_path, extension, content):
    path = tmp_path / f"film{extension}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"film\{extension}' is .*: export"):
        read_volume(path, (0.1, 0.1))


# DICOM


@pytest.mark.parametrize("tags", [{}, {"0028|0030": "0.25\\0.15"}])
def test_the_size_at_the_detector_is_taken_with_a_warning_where_there_is_no_other(tmp_path, tags, caplog):
    volume = read_volume(write_dicom(tmp_path / "film.dcm", tags))
    assert_is_gray(volume.array)
    np.testing.assert_allclose(volume.spacing[:2], (0.15, 0.25))
    assert "states the size of its pixels at the detector alone (0.15 x 0.25 mm)" in caplog.text


def test_the_calibrated_size_is_preferred(tmp_path, caplog):
    """ITK takes the size at the detector, which is larger than that in the patient."""
    path = write_dicom(tmp_path / "film.dcm", {"0028|0030": "0.24\\0.14"})
    np.testing.assert_allclose(read_volume(path).spacing[:2], (0.14, 0.24))
    np.testing.assert_allclose(read_volume(path, (0.2, 0.3)).spacing[:2], (0.2, 0.3))
    np.testing.assert_allclose(read_volume(write_dicom(path, {}), (0.2, 0.3)).spacing[:2], (0.2, 0.3))
    assert not caplog.text


def test_without_a_pixel_size_a_radiograph_is_refused(tmp_path):
    hidden = (b"\x18\x00\x64\x11", b"\x18\x00\x65\x11")  # another tag
    path = write_dicom(tmp_path / "film.dcm", {}, hidden)
    with pytest.raises(InputError, match="film.dcm' does not state how large its pixels are: .*--spacing"):
        read_volume(path)
    np.testing.assert_allclose(read_volume(path, (0.2, 0.3)).spacing[:2], (0.2, 0.3))


def test_a_negative_is_read_as_a_positive(tmp_path):
    path = write_dicom(tmp_path / "film.dcm", {}, (b"MONOCHROME2 ", b"MONOCHROME1 "))
    volume = read_volume(path)
    assert volume.array.dtype == np.uint16
    assert_is_gray(65535 - volume.array)


def test_a_folder_with_one_radiograph_is_read_like_its_file(tmp_path):
    (tmp_path / "study").mkdir()
    path = write_dicom(tmp_path / "study" / "film.dcm", {"0028|0030": "0.24\\0.14"})
    folder, file = read_volume(tmp_path / "study"), read_volume(path)
    np.testing.assert_array_equal(folder.array, file.array)
    np.testing.assert_array_equal(folder.affine, file.affine)


def test_a_pixel_size_for_a_file_with_a_geometry_of_its_own_is_refused(tmp_path):
    write_volume(tmp_path / "scan.nrrd", read_volume(write_picture(tmp_path / "film.png"), (0.1, 0.1)))
    with pytest.raises(InputError, match="scan.nrrd' states its own spacing"):
        read_volume(tmp_path / "scan.nrrd", (0.1, 0.1))


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.2, 0.05])
@pytest.mark.parametrize("extension", PICTURE_EXTENSIONS)
def test_a_cut_picture_is_refused(tmp_path, extension, share):
    path = write_picture(tmp_path / f"film{extension}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError):
        read_volume(path, (0.1, 0.1))


def test_a_picture_that_declares_more_pixels_than_it_holds_is_refused(tmp_path):
    path = write_picture(tmp_path / "film.bmp")
    data = bytearray(path.read_bytes())
    data[18:26] = (40000).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_volume(path, (0.1, 0.1))


def write_tiff(path: Path, tags: dict[int, int] | None = None, following: int = 0, is_big: bool = False) -> Path:
    """One page of 64 x 64 pixels whose directory comes first; `following` is the place of the next one."""
    values = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 512, 277: 1, 278: 64, 279: 4096, **(tags or {})}
    head = b"II" + (
        struct.pack("<HHHQQ", 43, 8, 0, 16, len(values)) if is_big else struct.pack("<HIH", 42, 8, len(values))
    )
    entries = [struct.pack("<HHQQ" if is_big else "<HHII", tag, 4, 1, value) for tag, value in sorted(values.items())]
    data = head + b"".join(entries) + struct.pack("<Q" if is_big else "<I", following)
    path.write_bytes(data.ljust(512, b"\0") + bytes(range(256)) * (values[279] // 256))
    return path


@pytest.mark.parametrize("is_big", [True, False])
def test_small_and_big_tiff_files_are_read(tmp_path, is_big):
    array = read_volume(write_tiff(tmp_path / "a.tif", is_big=is_big), (0.1, 0.1)).array
    np.testing.assert_array_equal(array[..., 0].T.ravel(), np.tile(np.arange(256), 16))


@pytest.mark.parametrize("is_big", [True, False])
@pytest.mark.parametrize("following", [8, 16, 100, 2**31])
def test_pages_that_lead_nowhere_or_in_circles_are_refused(tmp_path, following, is_big):
    with pytest.raises(InputError):
        read_volume(write_tiff(tmp_path / "a.tif", {}, following, is_big), (0.1, 0.1))


@pytest.mark.parametrize("tags", [{322: 2**15, 323: 2**16}, {256: 2**31}, {277: 60000}, {258: 64}, {273: 2**30}])
def test_a_tiff_file_that_claims_more_than_it_holds_is_refused(tmp_path, tags):
    with pytest.raises(InputError):
        read_volume(write_tiff(tmp_path / "a.tif", tags), (0.1, 0.1))


@pytest.mark.parametrize("tags", [{259: 50000}, {259: 34925}, {258: 12, 279: 6144}, {258: 64, 339: 3, 279: 32768}])
def test_a_tiff_file_of_a_kind_that_is_not_read_is_told_so(tmp_path, tags):
    with pytest.raises(InputError, match="film.tif' is damaged, or stored in a way that is not read here"):
        read_volume(write_tiff(tmp_path / "film.tif", tags), (0.1, 0.1))


@pytest.mark.parametrize("is_big", [True, False])
@pytest.mark.parametrize(("across", "down", "is_read"), [((300, 1), (300, 2), False), ((300, 1), (600, 2), True)])
def test_proportions_in_a_tiff_file_are_no_squares(tmp_path, is_big, across, down, is_read):
    path = write_tiff(tmp_path / "film.tif", {282: 0, 283: 0}, 0, is_big)
    data = bytearray(path.read_bytes())
    for tag, fraction, place in ((282, across, 400), (283, down, 408)):
        entry = data.index(struct.pack("<HH", tag, 4))
        data[entry + 2 : entry + 4] = struct.pack("<H", 5)
        struct.pack_into("<II", data, entry + 12 if is_big else place, *fraction)
        if not is_big:
            struct.pack_into("<I", data, entry + 8, place)
    path.write_bytes(data)
    assert read_volume(path, (0.1, 0.2)).spacing[1] == 0.2
    with pytest.raises(InputError, match="not square") if not is_read else contextlib.nullcontext():
        assert has_unknown_pixels((64, 64, 1), read_volume(path, needs_size=False).spacing)


def test_fractions_of_16_bits_are_not_taken_for_whole_numbers(tmp_path):
    size = {258: 16, 279: 8192}
    assert read_volume(write_tiff(tmp_path / "a.tif", size), (0.1, 0.1)).array.dtype == np.uint16
    with pytest.raises(InputError):
        read_volume(write_tiff(tmp_path / "a.tif", {**size, 339: 3}), (0.1, 0.1))


@pytest.mark.parametrize("is_big", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_file_in_which_zero_is_white_is_read_as_a_positive(tmp_path, bits, is_big, caplog):
    size = {258: bits, 279: 4096 * bits // 8}
    positive, negative = (
        read_volume(write_tiff(tmp_path / f"{meaning}.tif", {**size, 262: meaning}, 0, is_big), (0.1, 0.1)).array
        for meaning in (1, 0)
    )
    assert negative.dtype == positive.dtype == np.dtype(f"u{bits // 8}")
    np.testing.assert_array_equal(negative, 2**bits - 1 - positive)
    assert not caplog.records


def test_negatives_of_one_bit_and_with_signs_and_fractions_are_turned_once(tmp_path):
    def read(tags):
        return read_volume(write_tiff(tmp_path / "film.tif", tags), (0.1, 0.1), as_stored=True).array

    for bits, form, turned in ((1, 1, lambda a: 255 - a), (8, 2, lambda a: -1 - a), (16, 2, lambda a: -1 - a)):
        tags = {258: bits, 339: form, 279: 64 * 64 * bits // 8}
        np.testing.assert_array_equal(read({**tags, 262: 0}), turned(read(tags)))
    path = tmp_path / "film.tif"
    for meaning in (1, 0):
        write_tiff(path, {258: 32, 339: 3, 279: 4 * 4096, 262: meaning})
        path.write_bytes(path.read_bytes()[:512] + np.linspace(0, 1, 4096, dtype="<f4").tobytes())
        shown = read_volume(path, (0.1, 0.1)).array.ravel("F")
        assert np.allclose(shown, np.linspace(0, 1, 4096) if meaning else np.linspace(1, 0, 4096), atol=1e-6)
