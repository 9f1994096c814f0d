"""Scans that no model was made for: simulated ones lie where they are told, and what cannot be had says so."""

import pytest

from H3DELandmarksResearch.studies.foreign_volumes import AIR, BONE, NotHere, foreign_volumes, tubes


def test_the_list_names_what_is_simulated_and_says_what_cannot_be_had(tmp_path, monkeypatch):
    volumes = {volume.name: volume for volume in foreign_volumes(tmp_path)}
    for wanted in ("reptile skull", "vessels", "foot", "MRI", "CT"):
        assert any(wanted in name for name in volumes)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotHere, match="mricron-data"):
        next(volume for name, volume in volumes.items() if "macaque" in name).load()


def test_tubes_lie_where_they_are_told():
    volume = tubes((20, 20, 20), 0.5, [((5, 10, 10), (15, 10, 10), 3, 2, BONE)], AIR, 0)
    assert volume.array.shape == (40, 40, 40) and volume.spacing.tolist() == [0.5] * 3
    assert volume.array[20, 20, 20] > 1000 and volume.array[20, 2, 20] < -900
    assert volume.array[12, 25, 20] > 500 > volume.array[28, 25, 20]
