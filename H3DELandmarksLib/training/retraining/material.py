"""The cases of a run in memory, by subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from H3DELandmarksLib.errors import InputError
from H3DELandmarksLib.planar import is_radiograph
from H3DELandmarksLib.shape_model import ShapeModel
from H3DELandmarksLib.training.cases import Case, TrainingCase, prepare_case
from H3DELandmarksLib.training.retraining.corrected import CorrectedCase
from H3DELandmarksLib.training.retraining.subsets import HELD_OUT, TRAIN, VALIDATION


class Material:
    """Cases with their images, read once.

    Attributes:
        shape: mean shape of the candidate.
    """

    def __init__(
        self, content: Mapping, cases: Sequence[CorrectedCase], shape: ShapeModel, ask: Callable[[], None]
    ) -> None:
        """Take a record's content, its cases in the same order, and what gives way to a wish to stop."""
        self.shape = shape
        self._content, self._cases, self._ask = content, cases, ask
        self._flat = content["plan"]["stages"][0]["shape"][2] == 1

    def cases(self, subset: str) -> list[Case]:
        """Cases of a subset."""
        rows = self._content["cases"]
        return [case for case, row in zip(self._loaded, rows) if row["subset"] == subset]

    def prepared(self, subset: str) -> list[TrainingCase]:
        """Cases of a subset, ready for drawing crops from."""
        model, own_frame = self._content["model"], self._content["own_frame"]
        return [prepare_case(case, model, self.shape, own_frame) for case in self.cases(subset)]

    def for_curve(self) -> list[TrainingCase]:
        """Cases that the curve is measured on: apart from training as far as there are enough."""
        for subset in (VALIDATION, HELD_OUT):
            if self.cases(subset):
                return self.prepared(subset)
        return self.prepared(TRAIN)

    @cached_property
    def _loaded(self) -> list[Case]:
        loaded = []
        for case in self._cases:
            self._ask()
            loaded.append(case.load())
            if is_radiograph(loaded[-1].volume) != self._flat:
                reads = "radiographs" if self._flat else "volumes"
                raise InputError(f"The model reads {reads}, and the case '{case.id}' is none: keep such cases in a "
                                 "project of their own.")
        return loaded
