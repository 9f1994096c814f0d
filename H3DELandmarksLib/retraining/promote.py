"""Making a candidate the current version of its model: by the rule, or by a person who says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.image_plane import LengthUnit
from H3DELandmarksLib.formats.comparison import Comparison, Decision, Rule, read_comparison
from H3DELandmarksLib.formats.lineage import lineage_of
from H3DELandmarksLib.formats.reading import to_plain
from H3DELandmarksLib.formats.run import COMPARISON, RunFolder, read_run
from H3DELandmarksLib.formats.versions import EventDetails
from H3DELandmarksLib.models import ModelPackage, available_models, find_model, open_package
from H3DELandmarksLib.models.versions import add_version
from H3DELandmarksLib.retraining.compare import lineage_here

MAX_REASON = 500
SHARE_OF_TOLERANCE = 0.25
ROUNDING = 1e-12


def usual_rule(tolerance_mm: float, **stated: Any) -> Rule:
    """The usual rule for a tolerance, with what a user has stated; None is not stated.

    A landmark is clearly worse where it is so by a quarter of the tolerance: with many landmarks, some are worse by
    chance.

    Raises:
        InputError: a margin is none, or lets a worse candidate pass.
    """
    if (stated.get("margin_mm") or 0.0) < 0:
        raise InputError(
            "A margin below 0 lets a worse model pass: leave out --margin, or promote this one with --override REASON."
        )
    given = {name: value for name, value in stated.items() if value is not None}
    return Rule(**{"landmark_margin_mm": SHARE_OF_TOLERANCE * tolerance_mm, **given})


def decide(comparison: Comparison, rule: Rule) -> Decision:
    """Apply the rule: every sentence that speaks against a candidate refuses it."""
    gain, unit = comparison.total.improvement, comparison.unit
    reasons = []
    if gain.subjects < rule.least_subjects:
        few = "1 held-out subject is" if gain.subjects == 1 else f"{gain.subjects} held-out subjects are"
        reasons.append(f"{few} too few to tell; the rule asks for {rule.least_subjects}.")
    # The mean alone is no evidence: a noisy candidate has a good one by chance.
    if not gain.low > rule.margin_mm:
        by = f" by more than {rule.margin_mm:g} {unit}" if rule.margin_mm else ""
        reasons.append(f"It is not shown to be better{by}{_could_be(gain.low, gain.subjects, unit)}.")
    for row in comparison.landmarks:
        if row.improvement.high < -rule.landmark_margin_mm:
            reasons.append(
                f"'{row.name}' is clearly worse: by {-row.improvement.high:.3f} {unit} or more, where "
                f"{rule.landmark_margin_mm:g} {unit} are allowed."
            )
    before, after = comparison.total.base.presence, comparison.total.candidate.presence
    if after < before - rule.presence_margin - ROUNDING:
        reasons.append(
            f"It answers less often rightly whether a landmark is there: {100 * after:.1f} % instead of "
            f"{100 * before:.1f} %."
        )
    return Decision(not reasons, tuple(reasons))


def _could_be(low: float, subjects: int, unit: LengthUnit) -> str:
    """What the lower end of an improvement's 95 % interval means; one subject has no interval."""
    if subjects < 2:
        return ""
    return f": it may be worse by {-low:.2f} {unit}" if low < 0 else f": it may be better by {low:.2f} {unit} only"


@dataclass(frozen=True)
class Promotion:
    """What was done.

    Attributes:
        package: the candidate, where it is kept.
        comparison: with its base; None where there was nothing to compare with.
        decision: by the rule; None where there was nothing to compare with.
        override: why a person decided against the rule; None where nobody did.
    """

    package: ModelPackage
    comparison: Comparison | None
    decision: Decision | None
    override: str | None


def open_candidate(run: RunFolder) -> ModelPackage:
    """The package that a run has made.

    Raises:
        InputError: the run is not done.
        ModelPackageError: the package cannot be used.
    """
    if not run.record.is_done:
        raise InputError(f"The retraining in '{run.folder}' is not finished ({run.record.state}): resume it first.")
    return open_package(run.package_folder)


def promote_run(folder: str | Path, comparison: str | Path | None = None, override: str | None = None) -> Promotion:
    """Keep the candidate of a retraining as a version, and make it the current one.

    A model that starts from nothing and is the first of its id replaces nothing, and needs no comparison.

    Args:
        folder: of the retraining.
        comparison: file of the comparison; ``comparison.json`` in the folder by default.
        override: why the candidate is promoted although the rule says no, or although there is no comparison.

    Raises:
        InputError: the rule says no and nobody overrides it, the comparison is of other models, or the run is not done;
            nothing has changed then.
        ModelPackageError: the candidate is damaged, or the folder of models cannot be written to.
    """
    reason = _checked_reason(override)
    run = read_run(folder)
    candidate = open_candidate(run)
    candidate.verify()
    compared, decision = _decided(run, candidate, comparison, overridden=reason is not None)
    used_reason = None
    if decision is not None and not decision.promote:
        if reason is None:
            raise InputError(
                f"The new model is not taken into use. {' '.join(decision.reasons)} Correct more cases and retrain, "
                "or override this with a reason."
            )
        used_reason = reason
    details = EventDetails(base=run.record.lineage.base, comparison=compared, decision=decision, override=used_reason)
    card = _card_with_comparison(candidate, compared)
    kept = add_version(candidate, _manifest_with_lineage(candidate, run), card, "promote", details)
    return Promotion(kept, compared, decision, used_reason)


def _decided(
    run: RunFolder, candidate: ModelPackage, path: str | Path | None, overridden: bool
) -> tuple[Comparison | None, Decision | None]:
    """The comparison of a candidate and what follows from it."""
    file = run.folder / COMPARISON if path is None else Path(path)
    replaces = any(entry.package and entry.id == candidate.id for entry in available_models())
    if path is None and not file.exists():
        if run.record.base is None and not replaces:
            return None, None
        if overridden:
            return None, Decision(False, ("It was not compared with any model.",))
    comparison = read_comparison(file)
    if comparison.candidate.digest != candidate.reference.digest:
        raise InputError(f"The comparison '{file}' is of another candidate: compare this one with 'models compare'.")
    if comparison.rule is None:
        raise InputError(f"The comparison '{file}' states no rule: make it again with 'models compare'.")
    decision = decide(comparison, comparison.rule)
    current = find_model(candidate.id).reference if replaces else None
    if current is not None and current.digest not in (comparison.base.digest, comparison.candidate.digest):
        other = f"It was compared with {comparison.base.name}, but {current.name} is current now: compare with that."
        decision = Decision(False, (*decision.reasons, other))
    return comparison, decision


def _checked_reason(text: str | None) -> str | None:
    """A person's reason with its blanks made single."""
    if text is None:
        return None
    reason = " ".join(text.split())
    if not reason or len(reason) > MAX_REASON:
        raise InputError(
            f"Say in up to {MAX_REASON} characters why the rule is overridden: it is kept with the version."
        )
    return reason


def _manifest_with_lineage(candidate: ModelPackage, run: RunFolder) -> Mapping[str, Any]:
    """The manifest, which says what the model was made from."""
    if lineage_of(candidate.manifest) is not None:
        return candidate.content
    lineage = run.record.lineage
    before = lineage.base and lineage_here(lineage.base.name)  # what the base had learnt from, where it is here
    told = to_plain(lineage.with_earlier(before.learnt) if before else lineage)
    return {**candidate.content, "training": {**candidate.manifest.training, "lineage": told}}


def _card_with_comparison(candidate: ModelPackage, comparison: Comparison | None) -> str:
    card = candidate.model_card()
    if comparison is None:
        return card
    told = " ".join(filter(None, [comparison.sentence(), comparison.beside_readers()]))
    return f"{card.rstrip()}\n\n## Compared with {comparison.base.name}\n\n{told}\n"
