"""How stored values become what networks see: windows of Hounsfield units, percentiles, and scans that are none."""

import numpy as np
import pytest

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection.scan import IntensityMapping
from H3DELandmarksLib.formats.manifest import Intensity

WINDOW = Intensity("window", -1000, 3000)


def head(seed: int = 0) -> np.ndarray:
    """Hounsfield units of a round body with bone in air."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(*np.mgrid[-20:20, -20:20])[..., None] * np.ones(12)
    hu = np.where(radius < 15, rng.normal(40, 60, radius.shape), rng.normal(-1000, 15, radius.shape))
    hu = np.where(radius < 5, rng.normal(900, 300, radius.shape), hu)
    return np.rint(hu)


def mapped(values: np.ndarray, intensity: Intensity = WINDOW) -> np.ndarray:
    return IntensityMapping.for_volume(intensity, Volume(values, np.eye(4)))(values)


def test_hounsfield_units_are_mapped_as_they_are_without_a_word(caplog):
    expected = ((head() + 1000) / 4000).clip(0, 1)
    np.testing.assert_allclose(mapped(head().astype(np.int16)), expected, atol=1e-6)
    assert not caplog.records


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("offset", [1000, 1024])
@pytest.mark.parametrize("number_type", [np.uint16, np.int16, np.float32])
def test_an_unsigned_offset_is_recognised_and_said(caplog, number_type, offset, seed):
    stored = (head(seed) + offset).clip(0).astype(number_type)
    np.testing.assert_allclose(mapped(stored), mapped(head(seed).clip(-offset)), atol=0.013)
    assert "added" in caplog.text
    mapping = IntensityMapping.for_volume(WINDOW, Volume(stored, np.eye(4)))
    assert mapping.outside(-1000) == pytest.approx(offset - 1000, abs=48) and mapping.outside(None) == mapping.low


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: ((hu + 1000) / 4000).clip(0, 1),
        lambda hu: ((hu + 1000) / 4000 * 255).clip(0, 255).astype(np.uint8),
        lambda hu: ((hu - hu.mean()) / hu.std()).astype(np.float32),
        lambda hu: ((hu + 1000) * 16).clip(0, 65535).astype(np.uint16),
        lambda hu: hu.clip(0).astype(np.int16),
    ],
)
def test_values_that_cannot_be_hounsfield_units_are_said_and_not_changed(caplog, change):
    values = change(head())
    np.testing.assert_allclose(mapped(values), ((values.astype(float) + 1000) / 4000).clip(0, 1), atol=1e-5)
    assert "cannot be" in caplog.text


@pytest.mark.parametrize(("frame", "is_left_out"), [(0, True), (3000, True), (-1100, False)])
def test_a_frame_around_a_scan_enters_no_percentile_unless_it_is_darker(frame, is_left_out):
    def mapping(values):
        return IntensityMapping.for_volume(Intensity("percentile", 1.0, 99.9), Volume(values, np.eye(4)))

    framed = mapping(np.pad(head(), 40, constant_values=frame))
    assert (framed == mapping(head())) == is_left_out
    assert framed.low == (frame if not is_left_out else mapping(head()).low)
    assert mapping(np.pad(head(), 1, constant_values=frame)) != mapping(head())


def test_percentiles_of_a_constant_scan_are_its_value():
    volume = Volume(np.ones((4, 5, 6)), np.eye(4))
    assert IntensityMapping.for_volume(Intensity("percentile", 1.0, 99.9), volume).low == 1


@pytest.mark.parametrize("values", [(head() + 1024).clip(0), (head() + 1000).clip(0) / 4000])
def test_a_model_that_nobody_has_chosen_says_nothing_of_values(caplog, values):
    volume = Volume(values, np.eye(4))
    assert IntensityMapping.for_volume(WINDOW, volume, silent=True) == IntensityMapping.for_volume(WINDOW, volume)
    assert [record.levelname for record in caplog.records if record.levelname != "DEBUG"] == ["WARNING"]


@pytest.mark.parametrize("factor", [1.0, 1 / 4000, 16.0])
def test_percentiles_need_no_unit_and_no_warning(caplog, factor):
    intensity = Intensity("percentile", 1, 99)
    np.testing.assert_allclose(mapped(head() * factor + 7, intensity), mapped(head(), intensity), atol=1e-5)
    assert not caplog.records


def test_windows_of_other_values_are_left_alone(caplog):
    values = np.linspace(0, 1, 27).reshape(3, 3, 3)
    np.testing.assert_allclose(mapped(values, Intensity("window", 0, 1)), values, atol=1e-6)
    assert not caplog.records
