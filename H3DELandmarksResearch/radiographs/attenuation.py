"""From the stored values of a scan to linear attenuation coefficients in 1/mm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume

MINERAL_FROM = 150.0


def attenuation_from_hounsfield(volume: Volume, water: float, mineral_gain: float) -> Volume:
    """Attenuation of a CT scan for a softer beam than that of the scanner.

    The definition of HU gives ``water * (1 + HU / 1000)``. Calcium attenuates soft X-rays more than that, by the
    photoelectric effect: what a voxel has above 150 HU counts `mineral_gain` times.

    Args:
        volume: HU.
        water: attenuation of water in 1/mm, 0.019 (70 keV) to 0.03 (35 keV).
        mineral_gain: 1 for the scanner's own beam, up to about 2 for a dental one.
    """
    hu = np.maximum(volume.array.astype(np.float32), -1000)
    hu += np.float32(mineral_gain - 1) * np.maximum(hu - np.float32(MINERAL_FROM), 0)
    return Volume((1 + hu / 1000) * np.float32(water), volume.affine)


def attenuation_from_brightness(volume: Volume, full: float, percentile: float, air_below: float) -> Volume:
    """Attenuation of a scan without a calibrated scale, such as an 8-bit micro-CT: proportional to its values.

    Args:
        volume: values of which 0 is air.
        full: attenuation in 1/mm of the densest tissue, such as the enamel of a mouse's incisors (about 1 at 20 keV).
        percentile: of the volume's values, which stands for that tissue; values above it go on in proportion.
        air_below: values below this share of it are air, and only noise.
    """
    reference = np.float32(max(float(np.percentile(volume.array[::2, ::2, ::2], percentile)), 1e-6))
    share = volume.array.astype(np.float32) / reference
    share[share < air_below] = 0
    return Volume(share * np.float32(full), volume.affine)


def attenuation_of(volume: Volume, settings: Mapping) -> Volume:
    """Attenuation as the entry ``attenuation`` of a recipe says.

    Raises:
        InputError: there is no such method.
    """
    methods = {"hounsfield": attenuation_from_hounsfield, "brightness": attenuation_from_brightness}
    settings = dict(settings)
    method = settings.pop("method")
    if method not in methods:
        raise InputError(f"There is no attenuation method '{method}': choose one of {', '.join(methods)}.")
    return methods[method](volume, **settings)
