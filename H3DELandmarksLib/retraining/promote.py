"""Making a candidate the current version of its model: by the rule, or by a person who says why."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.formats.comparison import Comparison, Decision, Rule, decide, read_comparison
from H3DELandmarksLib.formats.lineage import Lineage, ModelReference, lineage_of
from H3DELandmarksLib.formats.run import COMPARISON, RunFolder, read_run
from H3DELandmarksLib.models import ModelPackage, available_models, find_model, open_package
from H3DELandmarksLib.models.versions import add_version

LONGEST_REASON = 500


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
    reason = _reason(override)
    run = read_run(folder)
    candidate = open_candidate(run)
    candidate.verify()
    compared, decision = _decided(run, candidate, comparison, reason is not None)
    if decision is not None and not decision.promote and reason is None:
        raise InputError(
            f"The candidate is not promoted. {' '.join(decision.reasons)} Correct more cases and retrain, "
            "or override this with a reason."
        )
    against = reason if decision is not None and not decision.promote else None
    details = {
        "base": None if run.record.lineage.base is None else run.record.lineage.base.to_dict(),
        "comparison": None if compared is None else compared.to_dict(),
        "decision": None if decision is None else decision.to_dict(),
        "override": against,
    }
    kept = add_version(candidate, _with_lineage(candidate, run), _card(candidate, compared), "promote", details)
    return Promotion(kept, compared, decision, against)


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
    comparison, content = read_comparison(file)
    if comparison.candidate.digest != ModelReference.to(candidate).digest:
        raise InputError(f"The comparison '{file}' is of another candidate: compare this one with 'models compare'.")
    try:
        rule = Rule.from_dict(content["rule"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The comparison '{file}' states no rule: make it again with 'models compare'.") from error
    decision = decide(comparison, rule)
    current = ModelReference.to(find_model(candidate.id)) if replaces else None
    if current is not None and current.digest not in (comparison.base.digest, comparison.candidate.digest):
        other = f"It was compared with {comparison.base.name}, but {current.name} is current now: compare with that."
        decision = Decision(False, (*decision.reasons, other))
    return comparison, decision


def _reason(text: str | None) -> str | None:
    if text is None:
        return None
    reason = " ".join(text.split())
    if not reason or len(reason) > LONGEST_REASON:
        raise InputError(
            f"Say in up to {LONGEST_REASON} characters why the rule is overridden: it is kept with the version."
        )
    return reason


def _with_lineage(candidate: ModelPackage, run: RunFolder) -> dict[str, Any]:
    """The manifest, which says what the model was made from."""
    manifest = deepcopy(candidate.manifest)
    if lineage_of(manifest) is None:
        manifest["training"]["lineage"] = _complete(run.record.lineage).to_dict()
    return manifest


def _complete(lineage: Lineage) -> Lineage:
    """A run's lineage with what its base had learnt from, where the base is on this computer."""
    if lineage.base is None:
        return lineage
    for entry in available_models():
        if entry.package and (entry.package.id, entry.package.version) == (lineage.base.id, lineage.base.version):
            before = lineage_of(entry.package.manifest)
            learnt = frozenset(lineage.earlier) | (before.learnt if before else frozenset())
            return replace(lineage, earlier=tuple(sorted(learnt)))
    return lineage


def _card(candidate: ModelPackage, comparison: Comparison | None) -> str:
    card = candidate.model_card()
    if comparison is None:
        return card
    return f"{card.rstrip()}\n\n## Compared with {comparison.base.name}\n\n{comparison.sentence()}\n"
