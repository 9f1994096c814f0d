"""How well landmarks that no model knows are proposed from one, two and five examples, by registration alone or guided.

    h3delandmarks convert isbi2015 ../shared/data/isbi2015-cephalogram runs/data/isbi2015 --spacing 0.1999x0.2
    H3DE_DATA=runs/data python -m H3DELandmarksResearch.studies.few_examples cephalogram --new 7
    H3DE_DATA=../shared/data python -m H3DELandmarksResearch.studies.few_examples mouse-skull --new 12
    H3DE_DATA=runs/data python -m H3DELandmarksResearch.studies.few_examples cephalogram --foreign spine

Some landmarks of a configuration stand for a new scheme. Examples are drawn from its training cases, targets are the
model's validation and test cases in turn; of each draw of five examples the first one, two and five are used.
Without --new all landmarks are new and nothing guides; with it, the model's other points do. --foreign lays examples
over scans of another configuration, to see how little those correlate. What was computed is kept in runs/few-examples.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from H3DELandmarksLib.core.files import atomic_write
from H3DELandmarksLib.core.landmarks import LandmarkSet
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.examples import combine, known_in_both
from H3DELandmarksLib.detection.registration import Laid, Picture, lay_over
from H3DELandmarksLib.models import find_model
from H3DELandmarksLib.training.cases import Case
from H3DELandmarksResearch.studies import RUNS, run_study
from H3DELandmarksResearch.studies.folds import of_subset
from H3DELandmarksResearch.training.configuration import (
    Configuration,
    find_configuration,
    load_cases,
    read_configuration,
)
from H3DELandmarksResearch.training.remembered import Remembered, kept_by
from H3DELandmarksResearch.training.revision import Reviewed, reviewed_case

COUNTS = (1, 2, 5)
RESAMPLES = 2000
SEED = 7


@dataclass
class Cases:
    """Cases of a configuration, read when they are needed.

    Attributes:
        configuration: that lists them.
        model: id of the model whose points guide.
        cache: folder of what is found.
    """

    configuration: Configuration
    model: str
    cache: Path

    def __post_init__(self) -> None:
        self.seen = cache(self._seen)  # type: ignore[method-assign]
        self.case = cache(self._case)  # type: ignore[method-assign]
        self.picture = cache(self._picture)  # type: ignore[method-assign]

    def _case(self, name: str) -> Case:
        return next(iter(load_cases(of_subset(self.configuration, [name]), "train", self.cache)))

    def _seen(self, name: str) -> Reviewed:
        return reviewed_case(self._detector, Remembered(self._detector, self.cache / "few-examples"), self.case(name))

    @property
    def folder(self) -> Path:
        """Where what is found with the model is kept."""
        return self.cache / "few-examples" / kept_by(self._detector.package)

    @property
    def _detector(self) -> Detector:
        if not hasattr(self, "_loaded"):
            self._loaded = Detector(find_model(self.model))
        return self._loaded

    def _picture(self, name: str) -> Picture:
        return Picture.of(self.case(name).volume)


def main(arguments: Sequence[str] | None = None) -> int:
    """Lay examples over targets, and print the table."""
    options = _parser().parse_args(arguments)
    configuration = read_configuration(find_configuration(options.configuration))
    cases = Cases(configuration, options.configuration, options.cache)
    split = configuration.split()
    rng = np.random.default_rng(SEED)
    names = configuration.scheme.names
    new = tuple(names[k] for k in sorted(rng.permutation(len(names))[: options.new or len(names)]))
    draws = [rng.choice(sorted(split["train"]), max(COUNTS), replace=False).tolist() for _ in range(options.draws)]
    if options.foreign:
        other = read_configuration(find_configuration(options.foreign))
        cases_of_other = Cases(other, options.foreign, options.cache)
        return _foreign(cases, cases_of_other, draws, other.split()["test"][: options.targets])
    targets = _alternating(split["validation"], split["test"])[: options.targets]
    rows = [row for target in targets for row in _target(cases, draws, target, new, bool(options.new))]
    text = table(rows, draws, new, options)
    print(text)
    if options.output:
        with atomic_write(options.output) as partial:
            partial.write_text(text, encoding="utf-8")
    return 0


@dataclass(frozen=True)
class Row:
    """A target with some examples: (K,) errors and radii, mm, its CPU seconds, and the best correlation."""

    draw: int
    count: int
    error: np.ndarray
    radius: np.ndarray
    seconds: float
    correlation: float


def _alternating(*lists: Sequence[str]) -> list[str]:
    return [names[k] for k in range(max(map(len, lists))) for names in lists if k < len(names)]


def _target(cases: Cases, draws: Sequence[Sequence[str]], target: str, new: tuple[str, ...], guided: bool) -> list[Row]:
    truth = cases.case(target).landmarks.ordered_as(new)
    rows = []
    for number, examples in enumerate(draws):
        laid = [_laid(cases, example, target, new, guided) for example in examples]
        marked = [cases.case(e).landmarks.ordered_as(new) for e in examples]
        for count in COUNTS:
            said = combine(marked[:count], [one for one, _ in laid[:count]], cases.picture(target))
            error = np.linalg.norm(said.doubtful.positions - truth.positions, axis=1)
            seconds = sum(seconds for _, seconds in laid[:count])
            rows.append(Row(number, count, error, said.doubtful.radius, seconds, said.correlation))
    return rows


def _laid(cases: Cases, example: str, target: str, new: tuple[str, ...], guided: bool) -> tuple[Laid, float]:
    how = f"guided-{len(new)}" if guided else "alone"
    path = cases.folder / how / f"{example}--{target}.npz"
    if not path.exists():
        known = known_in_both(*(_guide(cases, name, new) for name in (example, target))) if guided else None
        points = cases.case(example).landmarks.ordered_as(new)
        pictures = cases.picture(example), cases.picture(target)
        start = time.process_time()
        laid = lay_over(*pictures, points.positions, known)
        seconds = time.process_time() - start
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".partial").open("wb") as file:
            np.savez(file, positions=laid.positions, similarity=laid.similarity, numbers=[laid.likeness, seconds])
        path.with_suffix(".partial").replace(path)
    with np.load(path) as kept:
        return Laid(kept["positions"], kept["similarity"]), float(kept["numbers"][1])


def _guide(cases: Cases, name: str, new: tuple[str, ...]) -> LandmarkSet:
    """What the model has found in a case, without the landmarks that nobody knows yet."""
    found = cases.seen(name).evidence.found
    return found.ordered_as(tuple(n for n in found.names if n not in new))


def _foreign(cases: Cases, other: Cases, draws: Sequence[Sequence[str]], targets: Sequence[str]) -> int:
    """Print how much scans of something else correlate with examples."""
    best = []
    for target in targets:
        picture = other.picture(target)
        values = []
        for example in draws[0]:
            points = cases.case(example).landmarks.positions
            values.append(lay_over(cases.picture(example), picture, points).likeness)
        best.append([max(values[:count]) for count in COUNTS])
        print(f"{target}: correlation with {COUNTS} examples {np.round(best[-1], 2).tolist()}", flush=True)
    print("highest:", np.max(best, axis=0).round(2).tolist())
    return 0


def table(rows: Sequence[Row], draws: Sequence[Sequence[str]], new: Sequence[str], options: argparse.Namespace) -> str:
    """Mean errors with 95 % bootstrap intervals over targets, and how often radii hold the right place."""
    how = f"guided by the model's other points, {len(new)} new" if options.new else f"all {len(new)} new, no guide"
    count_of_targets = len(rows) // (len(draws) * len(COUNTS))
    lines = [f"{options.configuration}: {how}; {count_of_targets} targets, {len(draws)} draws of examples"]
    for count in COUNTS:
        some = [row for row in rows if row.count == count]
        errors = np.array([row.error for row in some]).reshape(count_of_targets, -1)
        means = np.nanmean(errors, axis=1)
        chosen = np.random.default_rng(0).integers(len(means), size=(RESAMPLES, len(means)))
        low, high = np.quantile(means[chosen].mean(axis=1), (0.025, 0.975))
        radii = np.array([row.radius for row in some]).reshape(errors.shape)
        told = np.isfinite(radii) & np.isfinite(errors)
        inside = f"{100 * (errors <= radii)[told].mean():.0f} % within radii" if told.any() else "no radii"
        lines.append(
            f"{count} examples: mean {np.nanmean(errors):.2f} mm [{low:.2f}, {high:.2f}], median "
            f"{np.nanmedian(errors):.2f}, 90 % below {np.nanquantile(errors, 0.9):.2f}; {inside}; "
            f"{np.mean([row.seconds for row in some]):.1f} s a scan without the guide; lowest correlation "
            f"{min(row.correlation for row in some):.2f}"
        )
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", help="training configuration with a bundled model of the same name")
    parser.add_argument("--new", type=int, default=0, help="landmarks that stand for a new scheme, the others guide")
    parser.add_argument("--targets", type=int, default=30, help="scans (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=3, help="draws of five examples (default: %(default)s)")
    parser.add_argument("--foreign", help="configuration whose test scans show something else")
    parser.add_argument("--cache", type=Path, default=RUNS, help="folder of what is computed")
    parser.add_argument("--output", type=Path, help="text file for the table")
    return parser


if __name__ == "__main__":
    run_study(main)
