"""Scans with the landmarks of examples: which model guides, what it finds, and all that the results say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import compress
from typing import TYPE_CHECKING

from H3DELandmarksLib import __version__
from H3DELandmarksLib.cases.examples import MarkedCase
from H3DELandmarksLib.cases.store import content_of
from H3DELandmarksLib.cohort.detectors import load_detector
from H3DELandmarksLib.cohort.origin import found_in_words, scan_origin
from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.execution import Progress, part_of
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.core.landmarks import Cause, LandmarkSet
from H3DELandmarksLib.core.text import plural
from H3DELandmarksLib.detection.examples import Example, Proposals, propose
from H3DELandmarksLib.detection.registration import Picture
from H3DELandmarksLib.formats.case_record import GuideRecord, utc_now
from H3DELandmarksLib.formats.provenance import ExamplesOrigin, Provenance, proposed_points
from H3DELandmarksLib.models import available_models, find_model

if TYPE_CHECKING:
    from H3DELandmarksLib.detection import Detector
    from H3DELandmarksLib.models import ModelPackage

AUTO, NONE = "auto", "none"
GUIDE_SHARE = 0.3  # of the work


@dataclass
class Proposer:
    """Proposes the landmarks of examples in scans.

    Attributes:
        cases: the examples.
        guide: id or id@version of the model whose points lead, "auto": one that recognises the first
            example, or "none".
        device: where networks run.
    """

    cases: Sequence[MarkedCase]
    guide: str = AUTO
    device: str = "auto"
    _pictures: dict[str, tuple[str, Picture]] = field(default_factory=dict)
    _records: dict[str, GuideRecord] = field(default_factory=dict)

    def propose(
        self, volume: Volume, progress: Progress, show_doubtful: bool = False, landmarks: Sequence[str] | None = None
    ) -> tuple[Proposals, Provenance]:
        """Propose landmarks in a scan, and say where they come from; the scan's name is left open.

        A case of the same scan is no example for it.

        Args:
            volume: the scan.
            progress: receives the fraction done and what is being done.
            show_doubtful: whether points are wanted where the scan does not look like the examples.
            landmarks: names of those that are wanted; None for all.

        Raises:
            InputError: no example is left, examples do not go together, or the scan is of another kind.
            ModelPackageError: the model that shall guide is not there or damaged.
        """
        digest = content_of(volume).digest
        examples = [case for case in self.cases if self._seen(case)[0] != digest]
        if self.cases and not examples:
            raise InputError("The only example is this scan itself: choose another scan, or correct another one first.")
        progress(0.0, "Looking for a model that knows this anatomy")
        model = self._model_of(examples, volume)
        led = self._found(model, volume) if model else None
        ready = [self._example(case, model) for case in examples]
        said = propose(ready, volume, led, part_of(progress, GUIDE_SHARE, 1 - GUIDE_SHARE))
        shown = said.doubtful if show_doubtful else said.landmarks
        others = [bool(landmarks) and name not in landmarks for name in shown.names]  # type: ignore[operator]
        said = replace(said, landmarks=shown.unknown_where(others, Cause.NOT_ASKED_FOR))
        used = model if said.guided_by else None
        return said, self._origin(volume, said, [case.name for case in compress(examples, said.used)], used)

    def _origin(self, volume: Volume, said: Proposals, names: Sequence[str], model: str | None) -> Provenance:
        examples = ExamplesOrigin(cases=tuple(names), guide=model, correlation=max(-1.0, min(1.0, said.correlation)))
        return Provenance(
            software=__version__,
            time=utc_now(),
            model=None,
            scan=scan_origin(volume),
            examples=examples,
            points=proposed_points(said.landmarks),
        )

    def _example(self, case: MarkedCase, model: str | None) -> Example:
        guide = self._record(case, model).landmarks if model else None
        return Example(case.name, self._seen(case)[1], case.landmarks, guide)

    def _seen(self, case: MarkedCase) -> tuple[str, Picture]:
        """SHA-256 of a case's scan, and its picture; scans themselves may be too large to be kept."""
        if case.name not in self._pictures:
            volume = case.volume()
            self._pictures[case.name] = content_of(volume).digest, Picture.of(volume)
        return self._pictures[case.name]

    def _model_of(self, examples: Sequence[MarkedCase], volume: Volume) -> str | None:
        """The model that leads, as ``id@version``."""
        if self.guide == NONE or not examples or (self._seen(examples[0])[1].axes == 2) != (1 in volume.array.shape):
            return None
        if self.guide != AUTO:
            return _key(find_model(self.guide))
        return self._record(examples[0], None).model

    def _record(self, case: MarkedCase, model: str | None) -> GuideRecord:
        """What a model has found in an example; without one, what the one finds that recognises it."""
        known = self._records.get(case.name) or case.known_guide()
        fits = known is not None and (known.asked == self._asked if model is None else known.model == model)
        if known is None or not fits:
            chosen = model or self._recognising(case.volume())
            found = self._found(chosen, case.volume()) if chosen else None
            known = GuideRecord.of(self._asked, chosen, found)
            case.keep_guide(known)
        self._records[case.name] = known
        return known

    @cached_property
    def _asked(self) -> tuple[str, ...]:
        """All models that could guide, as ``id@version``; their manifests are read once."""
        return tuple(_key(entry.package) for entry in available_models() if entry.package)

    def _recognising(self, volume: Volume) -> str | None:
        from H3DELandmarksLib.detection.other_models import models_that_recognise

        load = partial(_load, device=self.device)
        packages = models_that_recognise(volume, "", load)
        return _key(packages[0]) if packages else None

    def _found(self, model: str, volume: Volume) -> LandmarkSet:
        """What the model stands for in a scan; nothing where it does not recognise it."""
        return load_detector(model, self.device).examine(volume).landmarks


def _load(package: ModelPackage, device: str) -> Detector:
    return load_detector(str(package.path), device)


def _key(package: ModelPackage) -> str:
    return f"{package.id}@{package.version}"


def summary_of(said: Proposals, origin: Provenance) -> str:
    """What people should know first, without a full stop."""
    assert origin.examples is not None
    count = plural(len(origin.examples.cases), "example")
    if not said.is_alike:
        return (
            f"This scan does not look like the {count} (they correlate by {said.correlation:.2f}): place the landmarks "
            "by hand, or choose other examples"
        )
    led = f", guided by the model {origin.examples.guide}" if origin.examples.guide else ""
    left_out = said.used.count(False)
    others = f" ({left_out} other{' is' if left_out == 1 else 's are'} unlike this scan)" if left_out else ""
    radii = "" if len(origin.examples.cases) > 1 else "; one example tells no radius"
    return f"{found_in_words(said.landmarks)}, proposed from {count}{others}{led}{radii}"
