"""What a page says of an evaluation, without a browser."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cohorts import landmarks_of, write_result
from sample_cases import NAMES, points_of

pytest.importorskip("matplotlib", reason="reports need matplotlib")
pytest.importorskip("jinja2", reason="reports need Jinja2")

from H3DELandmarksLib.cli.main import main  # noqa: E402
from H3DELandmarksLib.core.landmarks import (
    Cause,  # noqa: E402
    LandmarkSet,  # noqa: E402
)
from H3DELandmarksLib.evaluation import evaluate_sets  # noqa: E402
from H3DELandmarksLib.formats.provenance import read_provenance, write_provenance  # noqa: E402
from H3DELandmarksLib.io.markups import write_markups  # noqa: E402
from H3DELandmarksResearch.report import evaluation_figures as figured  # noqa: E402
from H3DELandmarksResearch.report import evaluation_sections as sections
from H3DELandmarksResearch.report import trust_sections
from H3DELandmarksResearch.report.page import Figure, Page, Table, render  # noqa: E402


def sets(count=12, shift=0.0, noise=1.0, seed=0, names=NAMES):
    """Predictions and references by case: errors of normal size along each axis, and a shift to the left."""
    rng, found, truth = np.random.default_rng(seed), {}, {}
    for k in range(count):
        points = points_of(k)
        presence = np.ones(len(names))
        presence[7] = k % 3 > 0
        truth[f"case_{k:02d}"] = LandmarkSet(names, points, presence)
        said = landmarks_of(k, rng)
        offsets = rng.normal(0, noise, points.shape) + [shift, 0, 0]
        found[f"case_{k:02d}"] = LandmarkSet(names, points + offsets, said.presence, said.confidence, said.radius)
    return found, truth


def evaluated(name="new", thresholds=(1.0, 2.0), **changes):
    found, truth = sets(**changes)
    figures = evaluate_sets(found, truth, thresholds)
    return figured.Evaluated(name=name, evaluation=figures, predictions=found, references=truth, tolerance_mm=2.0)


def tables(page, section):
    (chosen,) = [part for part in page.sections if part.id == section]
    return [block for block in chosen.blocks if isinstance(block, Table)]


def test_the_figures_are_those_of_the_evaluation():
    base = evaluated()
    page = sections.evaluation_page("t", base, {})
    facts = page.sections[0].blocks[0]
    whole = base.evaluation.to_dict()
    assert facts[0].value == f"{whole['mre_mm']:.2f} \N{PLUS-MINUS SIGN} {whole['sd_mm']:.2f} mm"
    assert facts[1].value == f"{100 * whole['sdr_1']:.1f} %" and facts[2].value == f"{100 * whole['sdr_2']:.1f} %"
    (landmarks,), (cases,) = tables(page, "landmarks"), tables(page, "cases")
    assert [row[0].text for row in landmarks.rows] == list(NAMES) and len(cases.rows) == 12
    means = [row[2].value for row in cases.rows]
    assert means == sorted(means, reverse=True)
    ids = [section.id for section in page.sections]
    assert ids == ["overview", "cumulative", "landmarks", "cases", "agreement", "presence", "calibration"]


def test_bias_and_limits_are_those_of_bland_and_altman():
    base = evaluated(count=40, shift=0.7)
    (table,) = tables(sections.evaluation_page("t", base, {}), "agreement")
    left = table.rows[0]
    found, truth = base.predictions, base.references
    both = [
        found[c].positions[k, 0] - truth[c].positions[k, 0]
        for c in found
        for k in range(10)
        if found[c].present[k] and truth[c].present[k]
    ]
    assert left[0].text == "L" and left[1].value == len(both)
    assert left[2].value == pytest.approx(np.mean(both)) and left[2].value == pytest.approx(0.7, abs=0.2)
    assert left[4].value - left[3].value == pytest.approx(2 * 1.96 * np.std(both, ddof=1))


@pytest.mark.parametrize("noise, word", [(3.0, "new is better"), (0.2, "old is better"), (1.0, "No difference")])
def test_two_models_are_compared_with_intervals(noise, word):
    base, other = evaluated(), evaluated("old", noise=noise, seed=5)
    page = sections.evaluation_page("t", base, {}, other)
    comparison = next(section for section in page.sections if section.id == "comparison")
    assert comparison.blocks[0].startswith(word)
    (table,) = tables(page, "comparison")
    assert len(table.rows) == 10 and all(row[4].value <= row[5].value for row in table.rows)


def test_cases_of_one_subject_count_as_one():
    base, other = evaluated(), evaluated("old", noise=3.0, seed=5)
    whose = {case: case[:6] for case in base.evaluation.cases}
    page = sections.evaluation_page("t", base, {}, other, whose)
    assert "Student's t over 2 subjects" in " ".join(page.lines)
    facts = [fact for part in page.sections[:1] for block in part.blocks if isinstance(block, list) for fact in block]
    assert "no interval of fewer than 5 subjects" in {fact.note for fact in facts}
    assert "over 2 subjects" in next(s for s in page.sections if s.id == "comparison").blocks[0]


def test_the_interval_of_the_mean_over_cases_holds_it_however_many_a_subject_has():
    values = np.array([10.0] * 14 + [1.0] * 6)
    low, high = figured.mean_interval(values, ["often"] * 14 + list("abcdef"))
    assert low < values.mean() < high, "that over subjects is 2.3"
    each = figured.mean_interval(np.append(values, np.nan), list(range(21)))
    assert each == figured.paired.bootstrap_interval(values)


def test_the_interval_of_a_share_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        success = rng.random((40, 5)) < rng.beta(6, 2, (40, 1))
        low, high = figured.rate_interval(success, np.ones((40, 5), bool), list(range(40)), draws=400)
        held += low <= 0.75 <= high
    assert 175 <= held <= 199
    assert np.isnan(figured.rate_interval(np.ones((3, 2), bool), np.ones((3, 2), bool), ["a"] * 3)).all()


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def agreement(first, second):
    """A pair as `evaluate --json` holds it."""
    measured = {"mre_mm": figure(1.25, 1.0, 1.5), "sd_mm": figure(0.5), "dahlberg_mm": figure(None)}
    landmark = {"points": 7, "only_first": 1, "only_second": 2, **measured}
    axis = {"axis": "L", "bias_mm": figure(-0.5, -1, 0.25), "icc": figure(0.987, 0.9, 0.999)}
    total = {"landmark": "all", **landmark, "axes": [axis]}
    landmarks = [{"landmark": "<b>", **landmark, "axes": []}]
    return {"first": first, "second": second, "cases": 9, "patients": 8, "total": total, "landmarks": landmarks}


def test_readers_are_shown_where_anything_is_said_of_them():
    readers = {
        "readers": ["x", "y"],
        "same_pictures": [],
        "models": [agreement("model", "x")],
        "between": [agreement("x", "y")],
        "within": [],
    }
    floor = {"readers": 2, "points": 70, "between_mm": 1.5, "model_mm": None}
    page = sections.evaluation_page("t", evaluated(), {"readers": readers, "human_floor": floor})
    total, single = tables(page, "readers")
    assert [cell.text for cell in total.rows[1]] == [
        *("between readers", "x", "y", "9", "8", "1.25 (1.00 to 1.50)", "0.50", "\N{EN DASH}"),
        *("-0.50 (-1.00 to +0.25)", "0.987 (0.900 to 0.999)"),
    ]
    assert len(single.rows) == 2 and single.rows[0][1].text == "<b>"
    shown = render(page)
    assert "&lt;b&gt;" in shown and "<b>" not in shown and "1.50 mm" in shown
    assert "readers" not in [section.id for section in sections.evaluation_page("t", evaluated(), {}).sections]


def test_radiographs_are_also_rated_as_papers_on_them_do():
    form = {"mre_mm": 1.2, "sd_mm": 0.9, "sdr_2": 0.85}
    page = sections.evaluation_page("t", evaluated(), {"radiograph_form": form})
    assert any(isinstance(b, str) and "1.20" in b and "85.0 % below 2 mm" in b for b in page.sections[0].blocks)


def test_nothing_in_common_and_one_case_still_give_a_page():
    found, truth = sets(1)
    lonely = {"x": LandmarkSet(("z",), [[1, 2, 3]])}
    for predictions, references in ((found, truth), (lonely, {"x": truth["case_00"]})):
        figures = evaluate_sets(predictions, references, (2.0,))
        base = figured.Evaluated(name="a", evaluation=figures, predictions=predictions, references=references)
        assert "<svg" in render(sections.evaluation_page("t", base, {"errors": ["<i>"]}, base))


def test_radiographs_have_no_third_axis():
    found, truth = sets(6)
    flat = [{c: s.with_positions(s.positions * (1, 1, 0)) for c, s in group.items()} for group in (found, truth)]
    figures = evaluate_sets(*flat, (2.0,))
    base = figured.Evaluated(name="a", evaluation=figures, predictions=flat[0], references=flat[1])
    (table,) = tables(sections.evaluation_page("t", base, {}), "agreement")
    assert [row[0].text for row in table.rows] == ["L", "P"]


def test_means_are_from_the_middle_of_each_case_also_where_one_has_no_point_in_common(monkeypatch):
    found, truth = sets(6)
    found["case_03"] = found["case_03"].unknown_where(np.ones(10, bool), Cause.UNLIKE)
    figures = evaluate_sets(found, truth, (2.0,))
    drawn = []
    monkeypatch.setattr(trust_sections.plots, "bland_altman", lambda unique, panels, *rest: drawn.append(panels))
    trust_sections.agreement_section(
        figured.Evaluated(name="a", evaluation=figures, predictions=found, references=truth)
    )
    middles = []
    for case in sorted(set(found) - {"case_03"}):
        both = found[case].present & truth[case].present
        there = (found[case].positions + truth[case].positions)[both, 2] / 2
        middles.append(there - truth[case].positions[both, 2].mean())
    np.testing.assert_allclose(drawn[0][2][1], np.concatenate(middles))


def test_the_command_writes_the_page_and_refuses_what_it_cannot_mean(tmp_path, capsys):
    found, truth = sets(4)
    for folder in ("truth", "new", "old"):
        (tmp_path / folder).mkdir()
    for case in found:
        write_markups(tmp_path / "truth" / f"{case}.mrk.json", truth[case])
        write_result(tmp_path / "new", case, found[case])
        write_result(tmp_path / "old", case, found[case])
    common = ["evaluate", "--predictions", str(tmp_path / "new"), "--reference", str(tmp_path / "truth")]
    page = ["--report", str(tmp_path / "page.html")]
    assert main([*common, "--compare-with", str(tmp_path / "old")]) == 2
    assert main([*common, *page, "--names", "a", "b"]) == 2
    assert not (tmp_path / "page.html").exists()
    assert main([*common, *page, "--compare-with", str(tmp_path / "old"), "--names", "<new>", "old"]) == 0
    (tmp_path / "subjects.csv").write_text("case,subject\ncase_00,a\ncase_01,a\ncase_02,b\ncase_03,b\n")
    more = ["--compare-with", str(tmp_path / "old"), "--subjects", str(tmp_path / "subjects.csv"), "--overwrite"]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "over 4 subjects" in text
    assert main([*common, *page, *more]) == 0
    assert "over 2 subjects" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "subjects.csv").write_text("name,who\n")
    assert main([*common, *page, *more]) == 2 and "subject" in capsys.readouterr().err
    (tmp_path / "old" / "case_03.mrk.json").unlink()
    assert main([*common, *page, *more[:2], "--overwrite"]) == 2
    said = capsys.readouterr().err
    assert f"no prediction for the reference 'case_03' in '{tmp_path / 'old'}'" in said
    assert "3 cases and 10 landmarks that both have" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;new&gt;" in text and "<new>" not in text and "confidence, within 2 mm" in text
    assert main([*common, *page]) == 2 and "--overwrite" in capsys.readouterr().err


def test_a_confidence_within_a_share_of_the_height_is_not_compared_with_distances(tmp_path):
    found, truth = sets(4)
    for folder in ("truth", "new"):
        (tmp_path / folder).mkdir()
    for case in found:
        write_markups(tmp_path / "truth" / f"{case}.mrk.json", truth[case])
        write_result(tmp_path / "new", case, found[case])
        place = tmp_path / "new" / f"{case}.provenance.json"
        origin = read_provenance(place)
        write_provenance(place, replace(origin, model=replace(origin.model, length_unit="px")))
    target = tmp_path / "page.html"
    words = ["--predictions", str(tmp_path / "new"), "--reference", str(tmp_path / "truth"), "--report", str(target)]
    assert main(["evaluate", *words]) == 0
    text = target.read_text(encoding="utf-8")
    assert "confidence, within" not in text and "a share of the picture&#39;s height" in text
    assert main(["report", str(tmp_path / "new"), "--output", str(target), "--points-only", "--overwrite"]) == 0
    assert "2 px in a picture of the model&#39;s height, of the right place" in target.read_text(encoding="utf-8")


def test_a_radius_covers_no_error_of_a_point_that_was_moved_since(tmp_path, capsys):
    points = LandmarkSet(NAMES, points_of(0), radius=np.ones(10))
    for folder in ("new", "truth"):
        (tmp_path / folder).mkdir()
    write_result(tmp_path / "new", "a", points)
    write_markups(tmp_path / "truth" / "a.mrk.json", points)
    write_markups(
        tmp_path / "new" / "a.mrk.json", points.with_positions(points.positions + [[9, 0, 0], *[[0, 0, 0]] * 9])
    )
    words = ["evaluate", "--predictions", str(tmp_path / "new"), "--reference", str(tmp_path / "truth"), "--json"]
    assert main(words) == 0 and json.loads(capsys.readouterr().out)["coverage"] == 1, "the person's point has none"


def test_pairs_of_pictures_are_refused_without_readers(tmp_path, capsys):
    write_markups(tmp_path / "a.mrk.json", sets(1)[1]["case_00"])
    words = ["evaluate", "--predictions", str(tmp_path), "--reference", str(tmp_path), "--same-pictures"]
    assert main([*words, "pairs.json"]) == 2 and "--same-pictures" in capsys.readouterr().err
    assert main([*words, "none"]) == 0


def test_subjects_of_other_cases_are_refused_before_anything_is_written(tmp_path, capsys):
    found, truth = sets(4)
    for folder, lists in (("truth", truth), ("new", found)):
        (tmp_path / folder).mkdir()
        for case in lists:
            write_markups(tmp_path / folder / f"{case}.mrk.json", lists[case])
    subjects, page = tmp_path / "subjects.csv", tmp_path / "page.html"
    command = ["evaluate", "--predictions", str(tmp_path / "new"), "--reference", str(tmp_path / "truth")]
    command += ["--report", str(page), "--subjects", str(subjects)]
    subjects.write_text("case,subject\nCASE_00,a\ncase_01,a\ncase_02,b\ncase_03,b\n", encoding="utf-8")
    assert main(command) == 2 and not page.exists()
    assert "'CASE_00'" in capsys.readouterr().err
    subjects.write_text("case;subject\ncase_00.nrrd;a\ncase_01;a\ncase_02;b\ncase_03;b\n", encoding="utf-8")
    assert main(command) == 0
    assert "over 2 subjects" in page.read_text(encoding="utf-8")


def test_a_page_has_figures_as_elements_only():
    page = sections.evaluation_page("t", evaluated(), {})
    figures = [block for section in page.sections for block in section.blocks if isinstance(block, Figure)]
    assert len(figures) == 5 and all(figure.svg.startswith("<svg") for figure in figures)
    assert isinstance(page, Page) and render(page).count("<figure>") == 5
