"""Every bundled model finds the same points with every supported PyTorch, numpy, scipy and SimpleITK.

`points_of_bundled_models.json` holds what was found with the newest ones; after a change of a bundled model, write it
anew with ``python Testing/models/test_same_points.py`` from the root of a checkout.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.io.images import read_volume
from H3DELandmarksLib.models import open_package
from H3DELandmarksLib.models.registry import bundled_folder
from H3DELandmarksResearch.radiographs import make_radiograph, read_recipe
from H3DELandmarksResearch.radiographs.subjects import phantom_subject

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).with_name("points_of_bundled_models.json")
TOLERANCE_MM = 1e-3
# The sample's jaw in a size for which the model was made: what it is no model has to know, to find the same in it.
SIZES = {"mandibular-molar-phantom": 1.0, "head-neck-ct": 2.0, "mouse-skull": 0.12}


def scan_for(model):
    """A volume or a radiograph that the model takes."""
    if model in SIZES:
        sample = read_volume(ROOT / "Resources" / "SampleData" / "mandibular-molar-phantom.nrrd")
        return Volume(sample.array, np.diag([*[SIZES[model]] * 3, 1.0]) @ sample.affine)
    subject, recipe = phantom_subject(777004), read_recipe("mandibular-molar")
    taken = make_radiograph(subject, recipe, "oblique-left", np.random.default_rng(777)).volume
    scale = 0.5 if model.startswith("mouse") else 1.0
    return Volume(taken.array, np.diag([scale, scale, 1.0, 1.0]) @ taken.affine)


def found_by(model):
    """Positions (K, 3) LPS mm of all landmarks, present or not, and their log-odds of presence (K,)."""
    found = Detector(open_package(bundled_folder() / model), device="cpu").findings(scan_for(model))
    return found.positions, found.presence_logit


@pytest.mark.parametrize("model", sorted(path.name for path in bundled_folder().iterdir()))
def test_a_bundled_model_finds_the_stored_points(model):
    positions, presence = found_by(model)
    stored = json.loads(STORED.read_text(encoding="utf-8"))[model]
    np.testing.assert_allclose(positions, np.array(stored["positions"]), atol=TOLERANCE_MM, rtol=0)
    np.testing.assert_allclose(presence, np.array(stored["presence"]), atol=0.01, rtol=1e-3)


def write_points():
    """Write the table."""
    table = {}
    for path in sorted(bundled_folder().iterdir()):
        positions, presence = found_by(path.name)
        table[path.name] = {"positions": positions.round(5).tolist(), "presence": presence.round(4).tolist()}
    STORED.write_text(json.dumps(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_points()
