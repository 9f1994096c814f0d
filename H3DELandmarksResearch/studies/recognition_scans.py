"""The scans that recognition is fitted to and measured on: a model's own anatomy under all conditions, and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from H3DELandmarksLib.core.geometry import Volume, average_blocks, canonical
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.core.shape_model import ShapeModel
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksLib.training.conditions import CONDITIONS, DISTURBANCES
from H3DELandmarksResearch.studies.foreign_volumes import foreign_volumes

CALIBRATION, TEST, DISTURBED, FOREIGN = "calibration", "test", "disturbed", "foreign"
# Test and validation specimens of mouse-skull, test patients of head-neck-ct.
MICE = ("NU_J", "C57L_J", "FVB_NJ", "BALB_CBYJ", "C57BL_6NJ", "KK_HlJ", "NZB_BlNJ", "B6AF1_J", "NZW_LACJ", "C57BLKS_J")
HEADS = tuple(f"pt_{number}" for number in (13, 18, 20, 21, 25, 28, 34, 37, 41, 57))
JAWS = tuple(range(9000, 9004))
AROUND = 1.6  # scans are usually this much larger than what the points span
PIXELS = 400  # radiographs that are resized are made this small first


@dataclass(frozen=True)
class StudyScan:
    """A scan of the study.

    Attributes:
        part: "calibration", "test", "disturbed" or "foreign".
        subject: whose scan it is, or what it shows.
        condition: what was done to it.
        make: the scan; its landmarks are None where nobody has marked any.
    """

    part: str
    subject: str
    condition: str
    make: Callable[[], tuple[Volume, LandmarkSet | None]]


def seeded(*names: str) -> np.random.Generator:
    """Random numbers that follow from names."""
    return np.random.default_rng([sum(map(ord, n)) * (i + 1) for i, n in enumerate(names)] + [*map(len, names)])


def own_scans(part: str, cases: Sequence[Case]) -> Iterator[StudyScan]:
    """Each case under each condition."""

    def make(case: Case, condition: str) -> tuple[Volume, LandmarkSet]:
        changed = CONDITIONS[condition](case, seeded(case.name, condition, "0"))
        return changed.volume, changed.landmarks

    for case in cases:
        for condition in CONDITIONS:
            yield StudyScan(part, case.name, condition, partial(make, case, condition))


def disturbed_scans(cases: Sequence[Case]) -> Iterator[StudyScan]:
    """Each case disturbed in each way."""

    def make(case: Case, name: str) -> tuple[Volume, None]:
        return Volume(DISTURBANCES[name](case.volume.array, seeded(case.name, name)), case.volume.affine), None

    for case in cases:
        for name in DISTURBANCES:
            yield StudyScan(DISTURBED, case.name, name, partial(make, case, name))


def foreign_scans(detector: Detector, real: Path, simulated: Path, packages: Path) -> Iterator[StudyScan]:
    """Scans of other anatomy, of other species and of nothing.

    "Resized" ones have a header that makes them about as large as the model's own scans: size alone must not save it.

    Args:
        detector: of the model, whose own anatomy is left out.
        real: folder of the development data.
        simulated: folder with the simulated radiographs.
        packages: folder for public volumes that come in packages of an operating system.
    """
    model, shape = detector.package.id, detector.shape
    makers = _pictures(model, real, simulated) if detector.is_2d else _volumes(model, real, packages)

    def as_it_is(load: Callable[[], Volume]) -> tuple[Volume, None]:
        return load(), None

    def as_large(load: Callable[[], Volume], name: str) -> tuple[Volume, None]:
        return resized(load(), shape, seeded(name).uniform(0.7, 1.4)), None

    for name, load, ways in makers:
        for way, make in (("as it is", partial(as_it_is, load)), ("resized", partial(as_large, load, name))):
            if way in ways:
                yield StudyScan(FOREIGN, name, way, make)


def resized(volume: Volume, shape: ShapeModel, factor: float = 1.0) -> Volume:
    """The volume as large as a model's scans, times a factor: its header alone changes, but large pictures shrink."""
    if 1 in volume.array.shape and max(volume.array.shape) > PIXELS:
        volume = average_blocks(volume, np.sort(volume.spacing)[-2:].max() * np.ceil(max(volume.array.shape) / PIXELS))
    affine = volume.affine.copy()
    affine[:3] *= factor * AROUND * np.ptp(shape.mean, axis=0).max() / volume.grid.extent.max()
    return Volume(volume.array, affine)


Maker = tuple[str, Callable[[], Volume], tuple[str, ...]]
BOTH, RESIZED, AS_IT_IS = ("as it is", "resized"), ("resized",), ("as it is",)


def _volumes(model: str, real: Path, packages: Path) -> Iterator[Maker]:
    head = lambda name: read_volume(real / f"head-neck-ct/{name}_ct.nii.gz")  # noqa: E731
    mouse = lambda name: read_volume(real / f"mouse-skull/{name}.nii.gz")  # noqa: E731
    if model != "mouse-skull":
        yield from ((f"mouse skull {name}", partial(mouse, name), BOTH) for name in MICE)
    if model != "head-neck-ct":
        yield from ((f"head {name}", partial(head, name), BOTH) for name in HEADS)
    if model == "mouse-skull":
        yield from ((f"jaw {seed} (simulated)", partial(_jaw, seed), RESIZED) for seed in JAWS)
    for name in HEADS[:6]:
        ways = AS_IT_IS if model == "head-neck-ct" else RESIZED
        yield f"head {name} with the contrast of an MRI", lambda name=name: like_mri(head(name), seeded(name)), ways
    for name in MICE[:5]:
        yield (
            f"mouse {name} with the contrast of an MRI",
            lambda name=name: like_mri(mouse(name), seeded(name)),
            RESIZED,
        )
    for foreign in foreign_volumes(packages):
        if model not in foreign.own_for:
            yield foreign.name, foreign.load, BOTH
    for path in sorted((real / "isbi2015-cephalogram/RawImage/Test1Data").glob("*.jpg"))[:4]:
        yield f"cephalogram {path.stem} as a volume", partial(_extruded, path), RESIZED
    yield from _nothing((96, 96, 96))


def _pictures(model: str, real: Path, simulated: Path) -> Iterator[Maker]:
    radiographs = sorted((real / "isbi2015-cephalogram/RawImage/Test1Data").glob("*.jpg"))[:30]
    spines = sorted((real / "aasce2019-spine/images").glob("*.jpg"))[100:130]
    for kind, paths, edge in (("cephalogram", radiographs, 0.2), ("spine", spines, 0.4)):
        if model == kind:
            continue
        for number, path in enumerate(paths):
            yield f"{kind} {path.stem}", partial(read_volume, path, (edge, edge)), BOTH if number < 4 else RESIZED
    for kind in ("mouse", "molar"):
        if not model.startswith(kind):
            for path in sorted((simulated / f"{kind}-radiographs").glob("*.nrrd"))[:20]:
                yield f"radiograph {path.stem} (simulated)", partial(read_volume, path), RESIZED
    for name in HEADS[:5]:
        load = partial(read_volume, real / f"head-neck-ct/{name}_ct.nii.gz")
        yield f"projection of head {name}", lambda load=load: _projection(load()), RESIZED
        yield f"slice of head {name}", lambda load=load: _slice(load()), RESIZED
        yield f"MRI-like slice of head {name}", lambda load=load: _slice(like_mri(load(), seeded("slice"))), RESIZED
    yield from _nothing((256, 256, 1))


def _nothing(size: tuple[int, int, int]) -> Iterator[Maker]:
    """Noise, even values, drawn shapes and text."""
    place = np.add.outer(np.add.outer(np.arange(size[0]), np.arange(size[1])), np.arange(size[2]))
    fills: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "white noise": lambda rng: rng.normal(100, 40, size),
        "even noise": lambda rng: rng.uniform(0, 255, size),
        "air": lambda rng: np.zeros(size),
        "one value": lambda rng: np.full(size, 127),
        "bright specks": lambda rng: 255.0 * (rng.random(size) < 0.02),
        "ramp": lambda rng: 255.0 * place / place.max(),
        "checkerboard": lambda rng: 255.0 * (place // 32 % 2),
    }
    fills |= {
        f"{name} {number}": lambda rng, name=name: DISTURBANCES[name](rng.uniform(0, 255, size), rng)
        for name in ("noise_alone", "shapes", "letters")
        for number in range(5)
    }
    for name, fill in fills.items():
        yield name, lambda fill=fill, name=name: _eight_bit(fill(seeded(name))), RESIZED


def _eight_bit(values: np.ndarray) -> Volume:
    return Volume(np.clip(values, 0, 255).astype(np.uint8), np.eye(4))


def _jaw(seed: int) -> Volume:
    from H3DELandmarksResearch.phantom import generate_phantom

    return generate_phantom(seed, spacing=0.5).volume


def _extruded(path: Path) -> Volume:
    """A radiograph repeated from left to right, in mm that `resized` replaces."""
    picture = read_volume(path, (0.2, 0.2)).array[::8, ::8, 0].astype(np.int16)
    noise = seeded(path.stem).normal(0, 3, (64, *picture.shape)).astype(np.int16)
    return Volume(picture[None, :, ::-1] + noise[:, :, ::-1], np.eye(4))


def _projection(volume: Volume) -> Volume:
    """The mean from front to back, as a radiograph of one slice: bright where much attenuates."""
    upright = canonical(volume)
    return Volume(upright.array.astype(np.float32).mean(axis=1, keepdims=True), upright.affine)


def _slice(volume: Volume) -> Volume:
    upright = canonical(volume)
    middle = upright.array.shape[2] // 2
    return Volume(upright.array[:, :, middle : middle + 1], upright.affine)


def like_mri(volume: Volume, rng: np.random.Generator) -> Volume:
    """A CT with bone dark, soft tissue bright and uneven: the contrast of an MRI, though not its texture."""
    volume = canonical(volume)
    low, high = np.percentile(volume.array, (1, 99.8))
    values = np.clip((volume.array.astype(np.float32) - low) / (high - low), 0, 1)
    bright = np.interp(values, [0, 0.25, 0.4, 0.5, 0.7, 1], [0.02, 0.25, *rng.uniform(0.4, 1, 2), 0.15, 0.05])
    field = gaussian_filter(rng.standard_normal((8, 8, 8)), 2)
    field = zoom(field, [size / 8 for size in values.shape], order=1)
    bright = bright * (1 + 0.4 * field / np.abs(field).max()) + 0.03 * rng.standard_normal(values.shape)
    return Volume((1000 * np.clip(bright, 0, 2)).astype(np.int16), volume.affine)
