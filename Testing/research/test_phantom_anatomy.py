"""What a seed draws, without voxels: which molars are missing, where the points lie and what they lie on."""

from dataclasses import replace

import numpy as np
import pytest

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksResearch.phantom import draw_anatomy
from H3DELandmarksResearch.phantom.anatomy import checked_missing, draw_missing, random_streams
from H3DELandmarksResearch.phantom.case import visible_landmarks
from H3DELandmarksResearch.phantom.framing import draw_framing
from H3DELandmarksResearch.phantom.scheme import MOLAR_SCHEME, MOLARS

SEEDS = range(40)


@pytest.fixture(scope="module")
def complete():
    """Forty heads with all molars."""
    return {seed: draw_anatomy(seed, ()) for seed in SEEDS}


def molars(anatomy):
    return [tooth for tooth in anatomy.lower if tooth.name in MOLARS]


def solid_at(tooth, points):
    """Depth (mm) inside the tooth at points (N, 3) in tooth coordinates."""
    return tooth.depths(*np.asarray(points, dtype=np.float32).T).solid


def test_scheme_names_and_defines_fourteen_points():
    assert MOLAR_SCHEME.id == "mandibular-molars-14" and MOLAR_SCHEME.version == "1.0"
    assert MOLAR_SCHEME.names == ("L0", "La", "Lb", "Lc", "Ld", "Le", "Lf", "R0", "Ra", "Rb", "Rc", "Rd", "Re", "Rf")
    assert all(len(landmark.definition) > 60 for landmark in MOLAR_SCHEME.landmarks)
    assert len({landmark.definition for landmark in MOLAR_SCHEME.landmarks}) == 14
    assert all(left[1:] == right[1:] and left[0] + right[0] == "LR" for left, right in MOLAR_SCHEME.pairs)
    assert len(MOLAR_SCHEME.pairs) == 7


def test_all_molars_give_all_points(complete):
    assert all(tuple(anatomy.landmarks()) == MOLAR_SCHEME.names for anatomy in complete.values())


def test_left_is_positive_x(complete):
    for anatomy in complete.values():
        for name, position in anatomy.landmarks().items():
            assert (position[0] > 10) if name[0] == "L" else (position[0] < -10)


def test_fossa_is_the_lowest_point_between_the_cusps(complete):
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for tooth in (t for anatomy in complete.values() for t in molars(anatomy)):
        u, v, level = tooth.crown.fossa()
        for radius in (0.15, 0.4, 0.8):
            assert (tooth.crown.relief(u + radius * np.cos(ring), v + radius * np.sin(ring)) > level).all()
        assert tooth.crown.cusps[:, 2].max() + tooth.crown.height - level > 0.5
        assert np.abs(solid_at(tooth, [(u, v, level)])).max() < 0.05
        depths = tooth.depths(*np.float32([[u], [v], [level - 0.4]]))
        assert depths.enamel[0] > 0


def test_furcation_is_the_roof_between_two_roots(complete):
    for tooth in (t for anatomy in complete.values() for t in molars(anatomy) if t.kind == "M2"):
        point = tooth.trunk.furcation
        above, at, below, deeper = solid_at(
            tooth, point + np.array([[0, 0, 0.3], [0, 0, 0], [0, 0, -0.3], [0, 0, -1.5]])
        )
        assert above > 0.1 and abs(at) < 0.05 and below < -0.1 and deeper < -0.1
        mesial, distal = solid_at(tooth, point + np.array([[2.2, 0, -0.8], [-2.2, 0, -0.8]]))
        assert mesial > 0 and distal > 0


def test_apices_end_the_roots(complete):
    for tooth in (t for anatomy in complete.values() for t in molars(anatomy)):
        mesial, distal = tooth.roots
        assert mesial.apex[0] > distal.apex[0]
        for root in tooth.roots:
            t = 1 - 1.0 / root.length
            axis = [*root.axis(np.float64(t)), -t * root.length]
            assert solid_at(tooth, [axis])[0] > 0.15
            beyond = root.apex + np.array([0, 0, -0.4])
            assert solid_at(tooth, [beyond])[0] < -0.1


def test_apices_lie_in_the_jaw(complete):
    depths = []
    for anatomy in complete.values():
        for tooth in molars(anatomy):
            for root in tooth.roots:
                x, y, z = (c[None] for c in tooth.to_jaw(root.apex))
                depths.append(float(anatomy.jaw.depths(x, y, z).outer.squeeze()))
    assert np.mean(np.array(depths) > 0) > 0.92 and min(depths) > -4


def test_depths_are_known_where_a_trunk_tapers_to_a_point(complete):
    tooth = molars(complete[0])[0]
    pointed = replace(tooth, trunk=replace(tooth.trunk, taper=(0.25, 0.25)))
    w = np.array([-3.9, -4.0, -4.1], dtype=np.float32)  # the point lies at -1 / taper
    for u in (0.0, 0.5):
        depths = pointed.depths(np.full(3, u, np.float32), np.full(3, 0.5, np.float32), w)
        assert all(np.isfinite(part).all() for part in (depths.solid, depths.root, depths.enamel, depths.pulp))


def test_third_molars_do_not_cut_into_second_molars(complete):
    for anatomy in complete.values():
        teeth = {tooth.name: tooth for tooth in anatomy.lower}
        for side in "LR":
            third, second = teeth[f"{side}-M3"], teeth[f"{side}-M2"]
            points = np.array([third.crown.fossa(), *(root.apex for root in third.roots)])
            assert solid_at(second, second.from_jaw(third.to_jaw(points))).max() < 0


@pytest.mark.parametrize("missing", [("L-M3",), ("R-M3", "L-M3"), ("L-M2",), MOLARS])
def test_remaining_teeth_do_not_depend_on_what_is_missing(missing):
    for seed in range(5):
        full, lacking = draw_anatomy(seed, ()).landmarks(), draw_anatomy(seed, missing).landmarks()
        gone = {name for molar in missing for name in MOLAR_SCHEME.names if _tooth_of(name) == molar}
        assert set(lacking) == set(full) - gone
        drifting = {f"{molar[0]}-M3" for molar in missing if molar.endswith("M2")}
        for name, position in lacking.items():
            if _tooth_of(name) not in drifting:
                np.testing.assert_array_equal(position, full[name])


def _tooth_of(name):
    return f"{name[0]}-{'M3' if name[1] in 'def' else 'M2'}"


def test_third_molar_drifts_at_most_a_gap_stays():
    for seed in range(10):
        full, lacking = draw_anatomy(seed, ()), draw_anatomy(seed, ("L-M2",))
        moved = np.linalg.norm(lacking.landmarks()["Ld"] - full.landmarks()["Ld"])
        assert moved < 7
        assert np.linalg.norm(lacking.landmarks()["Ld"] - full.landmarks()["L0"]) > 4


def test_missing_molars_over_many_seeds():
    drawn = [draw_missing(random_streams(seed)["missing"]) for seed in range(400)]
    counts = np.bincount([len(names) for names in drawn], minlength=5)
    assert 0.48 < counts[0] / 400 < 0.62 and (counts[1:] > 5).all()
    lost = {molar: sum(molar in names for names in drawn) for molar in MOLARS}
    assert lost["L-M3"] > 1.4 * lost["L-M2"] and lost["R-M3"] > 1.4 * lost["R-M2"]
    assert draw_anatomy(7).missing == drawn[7]


def test_most_points_are_in_view_but_not_all():
    exist, in_view = 0, 0
    for seed in range(60):
        anatomy = draw_anatomy(seed)
        framing = draw_framing(random_streams(seed)["framing"], 0.5)
        exist += len(anatomy.landmarks())
        in_view += int(visible_landmarks(anatomy, framing).present.sum())
    assert 0.9 < in_view / exist < 1.0


def test_molars_vary():
    anatomies = [draw_anatomy(seed, ()) for seed in range(30)]
    fossae = np.array([anatomy.landmarks()["Ld"] for anatomy in anatomies])
    assert (fossae.std(axis=0) > 0.5).all()
    assert 2 < sum(tooth.buried for anatomy in anatomies for tooth in molars(anatomy)) < 40


def test_second_molar_points_are_where_a_dentist_expects_them(complete):
    for anatomy in complete.values():
        tooth = next(t for t in anatomy.lower if t.name == "R-M2")
        points = tooth.landmarks()
        assert points["R0"][2] > points["Ra"][2] > max(points["Rb"][2], points["Rc"][2])
        assert points["Rb"][1] < points["Rc"][1]
        assert 5 < np.linalg.norm(points["R0"] - points["Ra"]) < 12
        assert 14 < np.linalg.norm(points["R0"] - points["Rb"]) < 24


@pytest.mark.parametrize("wrong", [["L-M1"], ["left"], "M2", [3], ["L-M3", "l-m2"]])
def test_unknown_molars_are_refused(wrong):
    with pytest.raises(InputError, match="Unknown molar"):
        checked_missing(wrong)


def test_missing_names_are_ordered_and_unique():
    assert checked_missing(["R-M3", "L-M2", "R-M3"]) == ("L-M2", "R-M3")
    assert checked_missing("R-M3") == ("R-M3",)
    assert checked_missing(()) == ()
