"""Where a model comes from: its base, and the cases that it and its bases learnt from, by hash alone.

A manifest keeps it under ``training.lineage``. The SHA-256 of a case is that of the values of its scan; it says nothing
about whose scan it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from H3DELandmarksLib.formats.case_record import Sha256, Token
from H3DELandmarksLib.formats.reading import Count, FormatError, build

if TYPE_CHECKING:
    from H3DELandmarksLib.formats.manifest import Manifest


@dataclass(frozen=True)
class ModelReference:
    """A model by what it is called and what it is.

    Attributes:
        id, version: as in its manifest.
        digest: SHA-256 of everything that determines what it finds, see `models.package.package_digest`.
        lineage: its own, where it says one and this is the base of another model.
    """

    id: Token
    version: Token
    digest: Sha256
    lineage: Lineage | None = None

    @property
    def name(self) -> str:
        """``id@version``."""
        return f"{self.id}@{self.version}"


@dataclass(frozen=True)
class UsedCase:
    """A corrected case in the making of a model.

    Attributes:
        sha256: of the values of its scan.
        revision: number of the review that was used.
        subset: "train", "validation" or "held-out".
        id: of the case where the model was made; not shared.
    """

    sha256: Sha256
    revision: Count
    subset: Literal["train", "validation", "held-out"]
    id: str | None = None


@dataclass(frozen=True)
class Lineage:
    """What a model was made from.

    Attributes:
        base: the model that it started from; None for one that started from nothing.
        cases: that it was trained, chosen and tested with.
        earlier: SHA-256 of scans that its base, or a base of that, had learnt from, where that has no lineage here.
        encoder_from: model of other landmarks whose encoder it began with; None where there was none.
        kind: "fine-tuning" or "new-model".
        notes: sentences about what the cases were too few for; not shared.
        settings: of the training, by stage; not shared.
        software, date: that made it; not shared.
    """

    base: ModelReference | None = None
    cases: tuple[UsedCase, ...] = ()
    earlier: tuple[Sha256, ...] = ()
    encoder_from: ModelReference | None = None
    kind: str | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] | None = None
    software: str | None = None
    date: str | None = None

    @property
    def subsets(self) -> dict[str, str]:
        """Subset, by SHA-256, of each scan that the model or one before it was made with; the oldest decides."""
        own = {case.sha256: case.subset for case in self.cases}
        before = self._before.subsets if self._before else {}
        return {**own, **dict.fromkeys(self.earlier, "train"), **before}

    @property
    def learnt(self) -> frozenset[str]:
        """SHA-256 of all scans that had any influence on the model."""
        own = {case.sha256 for case in self.cases if case.subset != "held-out"}
        before = self._before.learnt if self._before else frozenset()
        return frozenset(own) | frozenset(self.earlier) | before

    @property
    def _before(self) -> Lineage | None:
        """The lineage of the base."""
        return self.base.lineage if self.base else None

    def with_earlier(self, learnt: frozenset[str]) -> Lineage:
        """The same lineage where the base is known to have learnt from these scans, too."""
        return replace(self, earlier=tuple(sorted(learnt | frozenset(self.earlier))))

    def by_hash_alone(self) -> Lineage:
        """What may leave the place where the model was made: no id of a case, and no word of a person."""
        base = self.base and replace(self.base, lineage=None)
        before = self._before.learnt if self._before else frozenset()
        cases = tuple(replace(case, id=None) for case in self.cases)
        return Lineage(base, cases, encoder_from=self.encoder_from, earlier=self.earlier).with_earlier(before)


_PARTS = {"base": ModelReference, "encoder_from": ModelReference, "lineage": Lineage, "cases": UsedCase}


def lineage_of(manifest: Manifest) -> Lineage | None:
    """What a manifest says of the model's lineage; None where it says nothing that can be used."""
    try:
        return build(Lineage, _known(Lineage, manifest.training["lineage"]))
    except (KeyError, FormatError, RecursionError):
        return None


def _known(record: type, content: Any) -> Any:
    """A part of a lineage without entries that this software does not know: they change nothing of what was learnt."""
    if isinstance(content, list):
        return [_known(record, part) for part in content]
    if not isinstance(content, Mapping):
        return content
    known = {name: content[name] for name in (field.name for field in fields(record)) if name in content}
    return {name: _known(_PARTS[name], part) if name in _PARTS else part for name, part in known.items()}
