"""Scans of what no model was made for: public ones that can be installed here, and simple simulations of others.

Public volumes come from Debian packages, fetched by apt-get into a folder of the caller's and unpacked there; nothing
is installed. The simulations are tubes and balls with the proportions of the real thing, in Hounsfield units with blur
and noise: enough to show whether a model takes them for its anatomy, and named as simulated wherever they are reported.
"""

from __future__ import annotations

import plistlib
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import read_volume

MACAQUE = "inia19-t1-brain.nii.gz"
AIR, SOFT, BONE, CONTRAST = -1000.0, 40.0, 1300.0, 350.0


class NotHere(Exception):
    """A volume cannot be had here; the text says why."""


@dataclass(frozen=True)
class ForeignVolume:
    """A volume of the report.

    Attributes:
        name: what it is, with "simulated" where it is.
        load: gives the volume, or raises NotHere.
        own_for: ids of models whose anatomy it shows at least in part; it does not count for them.
    """

    name: str
    load: Callable[[], Volume]
    own_for: tuple[str, ...] = ()


def foreign_volumes(cache: Path) -> list[ForeignVolume]:
    """All of them.

    Args:
        cache: folder for downloaded packages.
    """
    return [
        ForeignVolume("reptile skull (simulated)", reptile_skull),
        ForeignVolume("vessels with contrast alone (simulated)", vessels),
        ForeignVolume("foot (simulated)", foot),
        ForeignVolume("MRI of a human head (mricron-data, ch2)", lambda: _mricron(cache, "ch2.nii.gz")),
        ForeignVolume("MRI of a macaque's brain (mricron-data, inia19)", lambda: _mricron(cache, MACAQUE)),
        ForeignVolume(
            "CT of a human head (invesalius-examples)",
            lambda: cranium(cache),
            ("head-neck-ct", "mandibular-molar-phantom"),
        ),
    ]


def _debian(cache: Path, package: str) -> Path:
    """Folder with the unpacked files of a Debian package."""
    target = cache / package
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", package], cwd=cache, check=True, capture_output=True, timeout=300)
            archive = next(cache.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg-deb", "-x", archive.name, package], cwd=cache, check=True, capture_output=True)
        except (OSError, StopIteration, subprocess.SubprocessError) as error:
            raise NotHere(f"the Debian package {package} cannot be fetched here") from error
    return target


def _mricron(cache: Path, name: str) -> Volume:
    return read_volume(_debian(cache, "mricron-data") / "usr/share/mricron/templates" / name)


def cranium(cache: Path) -> Volume:
    """The example project of InVesalius: a tar file with a raw matrix, rows from back to front, and a property list."""
    path = _debian(cache, "invesalius-examples") / "usr/share/doc/invesalius-examples/examples/Cranium.inv3"
    with tarfile.open(path) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        about = plistlib.load(archive.extractfile(members["main.plist"]))
        raw = archive.extractfile(members["matrix.dat"]).read()
    array = np.frombuffer(raw, about["matrix"]["dtype"]).reshape(about["matrix"]["shape"]).transpose(2, 1, 0)
    across, along, up = map(float, about["spacing"])
    return Volume(np.ascontiguousarray(array), np.diag([across, -along, up, 1.0]))


def tubes(size_mm: tuple[float, float, float], spacing: float, parts: list, background: float, seed: int) -> Volume:
    """A volume of tubes whose ends differ in thickness, blurred and noisy.

    Args:
        size_mm: extent.
        spacing: mm.
        parts: (start, end, radius at the start, radius at the end, value) in mm and HU; later ones lie on top.
        background: HU.
        seed: of the noise.
    """
    shape = tuple(int(round(length / spacing)) for length in size_mm)
    places = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) * spacing for n in shape), indexing="ij"), -1)
    array = np.full(shape, background, np.float32)
    for start, end, thick, thin, value in parts:
        start, along = np.asarray(start, np.float32), np.subtract(end, start).astype(np.float32)
        share = np.clip((places - start) @ along / max(float(along @ along), 1e-6), 0, 1)
        distance = np.linalg.norm(places - start - share[..., None] * along, axis=-1)
        array[distance < thick + share * (thin - thick)] = value
    noisy = gaussian_filter(array, 0.7) + np.random.default_rng(seed).normal(0, 25, shape)
    return Volume(noisy.astype(np.int16), np.diag([spacing, spacing, spacing, 1.0]))


def reptile_skull() -> Volume:
    """A lizard's skull of 55 mm: flat arches around open windows, rows of conical teeth, in air."""
    tip, middle = np.array([20.0, 4.0, 8.0]), 20.0
    parts = []
    for side in (-1, 1):
        at = lambda x, y, z, s=side: (middle + s * x, y, z)  # noqa: E731
        upper = [tip, at(5, 15, 9), at(9, 28, 10), at(13, 42, 11), at(15, 54, 9)]
        roof = [tip + (0, 0, 2), at(2.5, 15, 13), at(4, 28, 16), at(5, 42, 16), at(12, 52, 13)]
        lower = [tip - (0, 0, 4), at(5, 15, 3.5), at(9, 30, 3.5), at(13, 44, 4.5), at(15, 55, 7)]
        for line, thick in ((upper, 1.3), (roof, 1.2), (lower, 1.4)):
            parts += [(a, b, thick, thick, BONE) for a, b in zip(line, line[1:])]
        bars = [*zip(upper[1:], roof[1:]), (upper[4], lower[4])]
        parts += [(a, b, 1.0, 1.0, BONE) for a, b in bars]
        for n in range(14):
            y, x = 7 + 2.1 * n, 1.8 + 0.55 * n
            parts += [(at(x, y, 8.3), at(x, y, 6.6), 0.7, 0.2, 2000), (at(x, y, 4.2), at(x, y, 5.8), 0.7, 0.2, 2000)]
    front, back = (middle, 44, 11), (middle, 56, 10)
    parts += [(front, back, 3.4, 2.6, BONE), (front, back, 2.4, 1.6, SOFT)]
    return tubes((40, 62, 24), 0.3, parts, AIR, 1)


def vessels() -> Volume:
    """A tree of arteries with contrast, everything else subtracted."""
    rng, parts = np.random.default_rng(5), []

    def grow(start: np.ndarray, direction: np.ndarray, radius: float) -> None:
        if radius < 0.45:
            return
        end = start + direction * radius * 6
        parts.append((start, end, radius, 0.85 * radius, CONTRAST))
        for _ in range(2):
            turned = direction + rng.normal(0, 0.55, 3)
            grow(end, turned / np.linalg.norm(turned), radius * rng.uniform(0.68, 0.82))

    grow(np.array([30.0, 30.0, 2.0]), np.array([0.0, 0.0, 1.0]), 2.4)
    return tubes((60, 60, 60), 0.4, parts, 0.0, 2)


def foot() -> Volume:
    """A left foot with shin: toes, metatarsals, heel and ankle in soft tissue."""
    parts = [
        ((45, 40, 35), (48, 200, 28), 34, 24, SOFT),
        ((40, 45, 40), (40, 50, 140), 36, 40, SOFT),
        ((40, 30, 28), (42, 62, 40), 20, 19, BONE),
        ((40, 55, 58), (44, 82, 48), 17, 14, BONE),
        ((42, 58, 74), (42, 52, 142), 15, 11, BONE),
        ((22, 46, 74), (24, 46, 142), 7, 6, BONE),
    ]
    for ray in range(5):
        x, length = 68 - 12 * ray, 60 - 3 * ray
        thick = 8 if ray == 0 else 5
        parts.append(((56 - 7 * ray, 92, 42 - 3 * ray), (x, 92 + length, 24), thick + 1, thick, BONE))
        for joint in range(2 if ray == 0 else 3):
            y = 96 + length + 20 * joint
            parts.append(((x, y, 22), (x, y + 14 - 2 * joint, 19), thick - 1, thick - 2, BONE))
    return tubes((90, 235, 145), 1.0, parts, AIR, 3)
