"""Comparing a candidate with its base: which cases may judge, what the figures are, and when it may take its place."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from promotion_cases import case_ids, found_at, make_project, make_run, small_scan
from scipy.stats import wilcoxon
from toy_package import toy_package

from H3DELandmarksLib.cases import CaseLandmark, ModelName, ReviewState
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkDefinition, LandmarkScheme, LandmarkSet
from H3DELandmarksLib.formats.comparison import Comparison, Rule, read_comparison, upgraded, write_comparison
from H3DELandmarksLib.formats.reading import build, to_plain
from H3DELandmarksLib.formats.run import read_run
from H3DELandmarksLib.retraining.compare import compare_models, held_out_cases
from H3DELandmarksLib.retraining.promote import decide, usual_rule
from H3DELandmarksResearch.cases.schemes import migrate, plan_migration

CASES = 8
HELD_OUT = ["train", "validation"] + ["held-out"] * 6


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, a candidate, a project of eight cases and a run that held six of them out."""
    folder = tmp_path_factory.mktemp("comparison")
    base = toy_package(folder / "base", 0)
    candidate = toy_package(folder / "candidate", 1, version="1.1.0")
    project = make_project(folder / "project", base.scheme, CASES, absent=[(3, "R")])
    run = read_run(make_run(folder / "run", project, base, HELD_OUT))
    return base, candidate, project, run


@pytest.fixture(scope="module")
def cases(place):
    base, candidate, project, run = place
    return held_out_cases(project, base, candidate, run)


def compared(place, cases, old, new):
    return compare_models(place[0], place[1], cases, (old, new))


# Which cases may judge


def test_only_held_out_cases_judge(place, cases):
    assert {case.files.id for case in cases} == set(case_ids(place[2], CASES)[2:])
    assert {case.revision for case in cases} == {1}


def lineage(project, numbers, subset="train"):
    digests = [project.find(small_scan(n)).content().digest for n in numbers]
    return {"lineage": {"base": None, "cases": [{"sha256": d, "revision": 1, "subset": subset} for d in digests]}}


def test_a_case_that_a_model_learnt_from_never_judges(place, tmp_path):
    base, candidate, project, run = place
    ids = case_ids(project, CASES)
    taught = toy_package(tmp_path / "b", training=lineage(project, [2, 3]))
    chosen = toy_package(tmp_path / "c", training=lineage(project, [4], "validation"))
    assert {case.files.id for case in held_out_cases(project, taught, chosen, run)} == set(ids[5:])
    everything = toy_package(tmp_path / "d", training=lineage(project, range(CASES)))
    with pytest.raises(InputError, match="No case of .* is left to compare with: all 6 .* correct cases of other subj"):
        held_out_cases(project, everything, candidate, run)


def test_a_subject_that_was_learnt_from_never_judges(tmp_path):
    base = toy_package(tmp_path / "base")
    project = make_project(tmp_path / "project", base.scheme, 4, subjects={2: 0})
    run = read_run(make_run(tmp_path / "run", project, base, ["train", "held-out", "held-out", "held-out"]))
    assert {case.files.id for case in held_out_cases(project, base, base, run)} == {
        case_ids(project, 4)[k] for k in (1, 3)
    }


def test_without_a_run_all_new_cases_judge_if_the_candidate_says_what_it_learnt(place, tmp_path):
    base, candidate, project, _ = place
    with pytest.raises(InputError, match="does not say which cases it learnt from: give the folder"):
        held_out_cases(project, base, candidate)
    told = toy_package(tmp_path / "c", training=lineage(project, [0, 7]))
    assert {case.files.id for case in held_out_cases(project, base, told)} == set(case_ids(project, CASES)[1:7])


def test_without_a_run_a_copy_of_a_picture_that_was_learnt_from_never_judges(place, tmp_path):
    base, candidate, *_ = place
    project = make_project(tmp_path / "project", base.scheme, 3)
    scan = small_scan(0)
    copy = Volume(np.flip(scan.array, 0) // 2 + 100, scan.affine)
    review = [
        CaseLandmark(name, ReviewState.PLACED, (20.0, 20.0, 20.0 + k)) for k, name in enumerate(base.scheme.names)
    ]
    project.add(copy, review)
    told = toy_package(tmp_path / "c", training=lineage(project, [0]))
    assert {case.files.id for case in held_out_cases(project, base, told)} == set(case_ids(project, 3)[1:])


def test_a_run_without_held_out_cases_cannot_judge(place, tmp_path):
    base, candidate, project, _ = place
    run = read_run(make_run(tmp_path / "run", project, base, ["train"] * CASES))
    with pytest.raises(InputError, match="held out no case"):
        held_out_cases(project, base, candidate, run)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"cases": [], "state": "done"}'])
def test_a_folder_without_a_readable_record_is_told(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"holds no retraining|cannot be used"):
        read_run(tmp_path)


# Figures


def test_figures_are_those_of_the_errors(place, cases):
    rng = np.random.default_rng(0)
    old, new = rng.uniform(0.5, 4, (2, 6, 2))
    comparison = compared(place, cases, found_at(cases, old), found_at(cases, new, seed=1))
    present = np.stack([case.reference.present for case in cases])
    assert present.sum() == 11
    assert comparison.total.points == 11 and comparison.subjects == 6
    assert comparison.total.base.mean_mm == pytest.approx(old[present].mean())
    assert comparison.total.candidate.median_mm == pytest.approx(np.median(new[present]))
    assert comparison.total.base.success == pytest.approx((old[present] <= 2.0).mean())
    assert comparison.total.base.presence == pytest.approx(11 / 12)
    assert (comparison.total.base.found, comparison.total.base.missed) == (11, 0)
    differences = np.where(present, old - new, np.nan)
    assert comparison.total.improvement.mean == pytest.approx(np.nanmean(differences, axis=1).mean())
    assert comparison.total.improvement.p == pytest.approx(wilcoxon(np.nanmean(differences, axis=1)).pvalue)
    for k, row in enumerate(comparison.landmarks):
        assert row.improvement.mean == pytest.approx(np.nanmean(differences[:, k]))
        assert row.improvement.subjects == present[:, k].sum()
        assert row.improvement.p <= row.p_corrected <= 2 * row.improvement.p + 1e-12


def test_a_point_exactly_at_the_tolerance_is_right(place, cases):
    """`Comparison.tolerance_mm` is the distance that still counts as right, as in the published detection rates."""
    along = np.array([0.0, 0.0, 2.0])
    for reach, share in ((1.0, 1.0), (np.nextafter(1.0, 2.0), 0.0)):
        found = [replace(c.reference, positions=np.zeros((2, 3)) + reach * along) for c in cases]
        truth = [replace(c, reference=replace(c.reference, positions=np.zeros((2, 3)))) for c in cases]
        comparison = compare_models(*place[:2], truth, (found, found), 2.0)
        assert comparison.tolerance_mm == 2.0 and comparison.total.base.mean_mm == pytest.approx(2)
        assert comparison.total.base.success == comparison.landmarks[0].candidate.success == share


def test_scans_of_one_subject_count_once(place, cases):
    twins = [replace(case, subject="one") for case in cases[:3]] + cases[3:]
    old = np.repeat([[3.0], [1.0]], 3, axis=0) * np.ones(2)
    comparison = compared(place, twins, found_at(twins, old), found_at(twins, 1.0))
    assert comparison.subjects == comparison.total.improvement.subjects == 4
    assert comparison.total.improvement.mean == pytest.approx(2 / 4)


def test_what_nobody_has_decided_is_neither_right_nor_missed(place, cases):
    known = next(n for n, case in enumerate(cases) if case.reference.present.all())
    unknown = cases[known].reference.unknown_where([False, True], Cause.NOT_ASKED_FOR)
    asked = [replace(case, reference=unknown) if n == known else case for n, case in enumerate(cases)]
    total = compared(place, asked, found_at(asked, 1.0), found_at(cases, 1.0, missing=[(known, 1)])).total
    assert total.points == 10 and total.candidate.missed == 0
    assert total.candidate.presence == pytest.approx(10 / 11)


def test_a_miss_is_a_failure(place, cases):
    known = next(n for n, case in enumerate(cases) if case.reference.present.all())
    old, new = found_at(cases, 1.0), found_at(cases, 1.0, missing=[(known, 0)])
    comparison = compared(place, cases, old, new)
    left = comparison.landmarks[0]
    assert (left.base.missed, left.candidate.missed, left.candidate.success) == (0, 1, pytest.approx(5 / 6))
    assert left.candidate.mean_mm == pytest.approx(1.0)
    assert left.improvement.mean == pytest.approx((1.0 - comparison.miss_mm) / 6)
    assert left.candidate.presence == pytest.approx(5 / 6)


def test_landmarks_of_one_model_alone_are_told_apart(place, tmp_path):
    base, _, _, run = place
    wide = LandmarkScheme("wide", "2", tuple(LandmarkDefinition(name, name) for name in ("L", "new", "R")))
    other = toy_package(
        tmp_path / "c",
        1,
        scheme=wide.to_dict(),
        calibration={**to_plain(base.manifest.calibration), "radius90_mm": [1.0, 1.0, 1.0]},
    )
    project = make_project(tmp_path / "project", wide, 3)
    cases = held_out_cases(project, base, other, read_run(make_run(tmp_path / "run", project, base, ["held-out"] * 3)))
    found = found_at(cases, 1.0, names=("L", "R")), found_at(cases, 3.0, missing=[(0, 1)])
    comparison = compare_models(base, other, cases, found)
    assert [row.name for row in comparison.landmarks] == ["L", "R"] and comparison.total.points == 6
    assert not comparison.only_base and comparison.only_candidate["new"].missed == 1
    assert comparison.only_candidate["new"].mean_mm == pytest.approx(3.0)
    assert "Only the new model has: new (3.00 mm, 1 of 3 missed)." in comparison.text()


def test_a_landmark_that_was_renamed_is_the_same(place, tmp_path):
    base, candidate, _, _ = place
    project = make_project(tmp_path / "project", base.scheme, 2)
    run = read_run(make_run(tmp_path / "run", project, base, ["held-out"] * 2))
    renamed = tuple(LandmarkDefinition({"R": "right"}.get(p.name, p.name), p.definition) for p in base.scheme.landmarks)
    migrate(plan_migration(project, LandmarkScheme(base.scheme.id, "2", renamed), {"R": "right"}))
    cases = held_out_cases(project, base, candidate, run)
    found = found_at(cases, 2.0), found_at(cases, 1.0)
    old = [LandmarkSet(("L", "R"), points.positions) for points in found[0]]
    renamed = [[project.history().renamed(points) for points in sets] for sets in (old, found[1])]
    comparison = compare_models(base, candidate, cases, renamed)
    assert [(row.name, row.points) for row in comparison.landmarks] == [("L", 2), ("right", 2)]
    assert comparison.total.improvement.mean == pytest.approx(1.0) and not comparison.only_base


@pytest.mark.parametrize("state", [ReviewState.ACCEPTED, ReviewState.ACCEPTED_IN_BULK])
def test_points_that_were_accepted_as_the_base_saw_them_are_remarked(place, tmp_path, state):
    base, candidate, _, _ = place
    project = make_project(tmp_path / "project", base.scheme, 1)
    accepted = [CaseLandmark("L", state, np.ones(3), np.ones(3))]
    project.add(small_scan(9), accepted, ModelName("toy", "1.0.0"))
    run = read_run(make_run(tmp_path / "run", project, base, ["held-out"]))
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    second = project.find(small_scan(9))
    content["cases"].append({**content["cases"][0], "id": second.id, "sha256": second.content().digest})
    (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    cases = held_out_cases(project, base, candidate, read_run(run.folder))
    comparison = compare_models(base, candidate, cases, (found_at(cases, 1.0), found_at(cases, 1.0)))
    assert any("1 reference points are the old model's own proposals" in remark for remark in comparison.remarks)
    assert any("does not say by hash" in remark for remark in comparison.remarks)


def test_a_comparison_is_read_as_it_was_written(place, cases, tmp_path):
    comparison = compared(place, cases, found_at(cases, 2.0), found_at(cases, 1.5, missing=[(0, 0)]))
    comparison = replace(comparison, rule=Rule(), decision=decide(comparison, Rule()))
    write_comparison(comparison, tmp_path / "c.json")
    again = read_comparison(tmp_path / "c.json")
    assert again == comparison and again.text() == comparison.text() and again.rule == Rule()
    assert json.loads((tmp_path / "c.json").read_text())["sentence"] == comparison.sentence()


def test_what_cannot_be_measured_is_null_in_the_file_and_proves_nothing_when_read(place, cases):
    one = compare_models(*place[:2], cases[:1], (found_at(cases[:1], 2.0), found_at(cases[:1], 1.0)))
    content = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert content["total"]["improvement"]["low"] is None
    gain = build(Comparison, upgraded(content)).total.improvement
    assert (gain.low, gain.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        (lambda c: c["rule"].update(margn_mm=0.1), "margin_mm"),
        (lambda c: c["rule"].update(presence_margin=-0.1), "presence_margin"),
        (lambda c: c["total"]["improvement"].update(low="0.5"), "improvement.low"),
        (lambda c: c["total"].pop("base"), "total.base"),
        (lambda c: c.update(format_version=3), "newer version"),
        (lambda c: c.update(format="x"), "format"),
        (lambda c: c["base"].update(digest="Mustermann"), "digest"),
        (lambda c: c.clear(), "format"),
    ],
)
def test_a_file_that_is_no_comparison_is_refused_by_its_entry(place, cases, tmp_path, change, entry):
    comparison = replace(compared(place, cases, found_at(cases, 2.0), found_at(cases, 1.0)), rule=Rule())
    content = comparison.to_dict()
    change(content)
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=entry) as caught:
        read_comparison(tmp_path / "c.json")
    assert "models compare" in str(caught.value)


# Sentence and decision


def noisy(seed, level=0.3):
    return np.random.default_rng(seed).uniform(-level, level, (6, 2))


def test_sentences_say_what_is_shown(place, cases):
    better = compared(place, cases, found_at(cases, 2 + noisy(0)), found_at(cases, 1.0))
    assert better.sentence().startswith("The new model is better by 1.") and "on 6 held-out cases of 6 subjects" in (
        better.sentence()
    )
    assert (
        compared(place, cases, found_at(cases, 1.0), found_at(cases, 2 + noisy(0)))
        .sentence()
        .startswith("The new model is worse by 1.")
    )
    same = compared(place, cases, found_at(cases, 1 + noisy(0)), found_at(cases, 1 + noisy(1)))
    assert same.sentence().startswith("No difference is shown")
    alone = compare_models(*place[:2], cases[:1], (found_at(cases[:1], 2.0), found_at(cases[:1], 1.0)))
    assert "too few" in alone.sentence()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 20), st.floats(0, 2))
def test_the_base_itself_is_never_promoted(place, cases, seed, scale, margin):
    errors = np.random.default_rng(seed).exponential(scale, (6, 2))
    found = found_at(cases, errors, missing=[(seed % 6, 0)])
    decision = decide(compared(place, cases, found, found), Rule(margin, 0.0))
    assert not decision.promote and "not shown to be better" in decision.reasons[0]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.05, 3))
def test_one_that_is_better_by_a_constant_is_promoted_and_the_reverse_is_not(place, cases, seed, gain):
    errors = np.random.default_rng(seed).exponential(2.0, (6, 2))
    worse, better = found_at(cases, errors + gain), found_at(cases, errors)
    forward = compared(place, cases, worse, better)
    assert forward.total.improvement.low == pytest.approx(gain) == forward.total.improvement.high
    assert decide(forward, Rule(0.9 * gain)).promote and not decide(forward, Rule(1.1 * gain)).promote
    assert not decide(compared(place, cases, better, worse), Rule(0.0, 0.1 * gain)).promote


def test_a_good_mean_alone_proves_nothing(place, cases):
    """Errors so noisy that the candidate is better on average, while its interval holds no improvement, too."""
    gains = np.array([4.0, -2.0, 3.0, -2.5, 4.5, -3.0])[:, None] * np.ones((1, 2))
    comparison = compared(place, cases, found_at(cases, 6.0), found_at(cases, 6.0 - gains))
    gain = comparison.total.improvement
    assert gain.mean > 0.5 and gain.low < 0 < gain.high
    decision = decide(comparison, Rule(landmark_margin_mm=100.0))
    assert not decision.promote and len(decision.reasons) == 1 and f"worse by {-gain.low:.2f} mm" in decision.reasons[0]
    assert decide(comparison, Rule(margin_mm=gain.low - 0.1, landmark_margin_mm=100.0)).promote


def test_an_interval_that_touches_the_margin_proves_nothing(place, cases):
    comparison = compared(place, cases, found_at(cases, 3.0), found_at(cases, 1.0))
    low = comparison.total.improvement.low
    assert low == pytest.approx(2) and not decide(comparison, Rule(margin_mm=low)).promote
    assert decide(comparison, Rule(margin_mm=float(np.nextafter(low, 0)))).promote
    worse = compared(place, cases, found_at(cases, 1.0), found_at(cases, 3.0))
    lost = -worse.landmarks[0].improvement.high

    def complaints(allowed):
        reasons = decide(worse, Rule(landmark_margin_mm=allowed)).reasons
        return [reason for reason in reasons if "clearly worse" in reason and worse.landmarks[0].name in reason]

    assert not complaints(lost), "as much worse as is allowed"
    assert complaints(float(np.nextafter(lost, 0)))


def test_too_few_subjects_prove_nothing(place, cases):
    few = cases[:4]
    comparison = compare_models(*place[:2], few, (found_at(few, 3.0), found_at(few, 1.0)))
    decision = decide(comparison, Rule())
    assert len(decision.reasons) == 1 and "4 held-out subjects are too few" in decision.reasons[0]
    assert decide(comparison, Rule(least_subjects=4)).promote


def test_one_landmark_that_is_clearly_worse_is_enough(place, cases):
    new = found_at(cases, np.array([[0.1, 2.0]]))
    comparison = compared(place, cases, found_at(cases, np.array([[3.0, 1.0]])), new)
    assert comparison.total.improvement.low > 0
    refused = decide(comparison, Rule(landmark_margin_mm=0.5))
    assert not refused.promote and "'R' is clearly worse: by 1.000 mm or more" in " ".join(refused.reasons)
    assert decide(comparison, Rule(landmark_margin_mm=1.5)).promote


def test_a_landmark_that_may_be_as_good_by_chance_is_not_clearly_worse(place, cases):
    """Worse on average by more than is allowed, while its interval reaches into what is allowed."""
    losses = np.array([4.0, -1.0, 4.0, -1.0, 4.0, -1.0])
    new = found_at(cases, np.stack([np.full(6, 0.1), 4.0 + losses], axis=1))
    comparison = compared(place, cases, found_at(cases, np.array([[6.0, 4.0]])), new)
    gain = next(row for row in comparison.landmarks if row.name == "R").improvement
    assert gain.mean < -0.5 < gain.high
    assert not any("clearly worse" in reason for reason in decide(comparison, Rule(landmark_margin_mm=0.5)).reasons)


def test_as_much_less_presence_as_the_rule_allows_is_allowed(place, cases):
    lacking = next(n for n, case in enumerate(cases) if not case.reference.present.all())
    comparison = compared(place, cases, found_at(cases, 3.0, missing=[(lacking, 1)]), found_at(cases, 1.0))
    lost = comparison.total.base.presence - comparison.total.candidate.presence
    assert lost > 0
    assert decide(comparison, Rule(presence_margin=lost)).promote
    assert not decide(comparison, Rule(presence_margin=lost - 1e-6)).promote


def test_one_that_sees_what_is_not_there_is_not_promoted(place, cases):
    lacking = next(n for n, case in enumerate(cases) if not case.reference.present.all())
    comparison = compared(place, cases, found_at(cases, 3.0, missing=[(lacking, 1)]), found_at(cases, 1.0))
    assert comparison.total.base.presence == 1.0
    refused = decide(comparison, Rule())
    assert not refused.promote and "91.7 % instead of 100.0 %" in refused.reasons[0]
    assert decide(comparison, Rule(presence_margin=0.1)).promote


def test_finding_what_the_base_missed_counts(place, cases):
    missing = [(n, k) for n in range(6) for k in range(2)]
    comparison = compared(place, cases, found_at(cases, 1.0, missing), found_at(cases, 1.0))
    assert decide(comparison, Rule()).promote
    assert not decide(compared(place, cases, found_at(cases, 1.0), found_at(cases, 0.1, missing)), Rule()).promote


def test_a_missed_point_counts_as_twice_the_tolerance(place, cases):
    missing = [(n, k) for n in range(6) for k in range(2)]
    comparison = compare_models(*place[:2], cases, (found_at(cases, 1.0, missing), found_at(cases, 1.0)), 5.0)
    assert comparison.total.improvement.mean == pytest.approx(10.0 - 1.0)


@pytest.mark.parametrize("wrong", [{"landmark_margin_mm": -1}, {"presence_margin": -0.1}, {"least_subjects": 1}])
def test_a_rule_that_proves_nothing_is_refused(wrong):
    with pytest.raises(InputError, match="correct the rule"):
        Rule(**wrong)


def test_the_usual_rule_follows_from_the_tolerance():
    assert usual_rule(2.0) == Rule(0.0, 0.5, 0.02, 5)
    assert usual_rule(2.0, margin_mm=0.1, landmark_margin_mm=None) == Rule(0.1, 0.5, 0.02, 5)


def test_the_chart_shows_every_landmark(place, cases, tmp_path):
    from matplotlib.image import imread

    from H3DELandmarksResearch.figures.plots import draw_comparison

    comparison = compared(place, cases, found_at(cases, 2 + noisy(0)), found_at(cases, np.array([[1.0, 3.0]])))
    draw_comparison(comparison, tmp_path / "c.png")
    picture = imread(tmp_path / "c.png")[..., :3]
    better, worse = np.array([26, 127, 55]) / 255, np.array([207, 34, 46]) / 255
    for color in (better, worse):
        assert (np.abs(picture - color).max(axis=-1) < 0.02).sum() > 50
    draw_comparison(replace(comparison, length_unit="px"), tmp_path / "c.svg")
    assert "improvement, px" in (tmp_path / "c.svg").read_text(encoding="utf-8")


# Beside readers


def test_what_readers_differ_by_stands_beside_both_models(place, cases, tmp_path):
    def read(case, shift):
        return case.reference.with_positions(case.reference.positions + [shift, 0, 0])

    read_twice = [replace(case, readers={"a": read(case, -1.0), "b": read(case, 1.0)}) for case in cases]
    comparison = compared(place, read_twice, found_at(cases, 2.0), found_at(cases, 1.5))
    models = "The new model differs from the readers' mean by 1.50 mm, the old one by 2.00 mm"
    assert comparison.beside_readers() == f"{models}; the two readers differ by 2.00 mm."
    assert comparison.beside_readers() in comparison.text() and comparison.format_version == 2
    write_comparison(comparison, tmp_path / "c.json")
    assert read_comparison(tmp_path / "c.json") == comparison
    alone = compared(place, cases, found_at(cases, 2.0), found_at(cases, 1.5))
    assert (alone.beside_readers(), alone.format_version) == ("", 1)
    assert "floor" not in json.dumps(alone.to_dict())
