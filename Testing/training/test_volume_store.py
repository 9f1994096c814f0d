"""Scans that memory cannot hold lie on disk, and training sees the same crops of them."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typed import crop_sampler, reading

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume, canonical
from H3DELandmarksLib.core.landmarks import LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.core.shape_model import learn_shape_model
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksLib.training.cases import Case, VolumeStore, prepare_case, release
from H3DELandmarksLib.training.sampling import draw_batch

NAMES = ("a", "b", "c")
SCHEME = LandmarkScheme("toy", "1", tuple(LandmarkDefinition(n, n) for n in NAMES))
POINTS = np.array([[5.0, 6, 7], [12, 8, 9], [9, 14, 12]])
STAGE = {
    "name": "toy",
    "network": {"architecture": "h3denet", "settings": {"landmarks": 3}},
    "spacing_mm": 1.0,
    "shape": [32, 32, 32],
    "groups": [{"landmarks": list(NAMES), "mirrored": False}],
}


def scan(seed=0, size=(20, 22, 24)):
    return np.random.default_rng(seed).integers(-1000, 2000, size).astype(np.int16)


@settings(max_examples=20, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), st.integers(0, 99))
def test_crops_of_a_scan_on_disk_are_those_of_the_scan_in_memory(tmp_path_factory, axes, signs, seed):
    folder = tmp_path_factory.mktemp("store")
    affine = np.eye(4)
    affine[:3, :3] = np.diag(signs)[:, axes]
    volume = Volume(scan(), affine)
    shape = learn_shape_model(POINTS[None], SCHEME, own_frame=False)
    sampler = crop_sampler(STAGE, SCHEME, shape, {"shift_mm": 3, "rotation_degrees": 20, "scale": 0.1})
    batches = []
    for limit in (1 << 20, 0):
        case = Case("x", VolumeStore(folder, limit).kept(volume), LandmarkSet(NAMES, POINTS))
        prepared = prepare_case(case, reading(-1000, 2000), shape, canonical_pose=False)
        batches.append(draw_batch(sampler, [prepared], range(2), (seed, 1)))
    (from_memory, *memory), (from_disk, *disk) = batches
    np.testing.assert_array_equal(to_array(from_memory), to_array(from_disk))
    for one, other in zip(memory, disk, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_exceeds_the_limit_is_on_disk_and_leaves_no_file(tmp_path):
    store = VolumeStore(tmp_path, limit=2 * scan().nbytes)
    kept = [store.kept(Volume(scan(k), np.eye(4))) for k in range(4)]
    assert [isinstance(volume.array, np.memmap) for volume in kept] == [False, False, True, True]
    for number, volume in enumerate(kept):
        np.testing.assert_array_equal(volume.array, scan(number))
    if sys.platform != "win32":
        assert list(tmp_path.iterdir()) == []


def test_releasing_changes_nothing_that_is_read(tmp_path):
    kept = VolumeStore(tmp_path, limit=0).kept(Volume(scan(), np.diag([-1.0, 1, 1, 1])))
    before = np.array(kept.array)
    for array in (kept.array, canonical(kept).array, kept.array[3:5], scan()):
        release(array)
    np.testing.assert_array_equal(kept.array, before)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(InputError, match="disk"):
        VolumeStore(tmp_path, limit=0).kept(Volume(scan(), np.eye(4)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory in use from /proc")
def test_memory_does_not_grow_with_the_cases(tmp_path):
    """Cases of 16 MB in all of 480 MB are kept and read whole; what the process holds grows by a few of them."""
    program = """
import sys
import numpy as np
from pathlib import Path
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.training.cases import VolumeStore, release

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

store = VolumeStore(Path(sys.argv[1]), limit=40_000_000)
start, most, kept = resident(), 0, []
for number in range(30):
    kept.append(store.kept(Volume(np.full((200, 200, 200), number, np.int16), np.eye(4))))
for volume in kept:
    assert volume.array.sum(dtype=np.int64) == int(volume.array[0, 0, 0]) * 8_000_000
    release(volume.array)
    most = max(most, resident() - start)
print(most)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 120
