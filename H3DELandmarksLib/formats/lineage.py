"""Where a model comes from: its base, and the cases that it and its bases learnt from, by hash alone.

A manifest keeps it under ``training.lineage``::

    {"base": {"id": ..., "version": ..., "digest": ..., "lineage": that of the base} or null,
     "encoder_from": {"id": ..., "version": ..., "digest": ...} or null,
     "cases": [{"sha256": ..., "revision": 1, "subset": "train" | "validation" | "held-out"}, ...],
     "earlier": [sha256, ...] where the lineage of the base is not there}

The SHA-256 of a case is that of the values of its scan; it says nothing about whose scan it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from H3DELandmarksLib.models.package import ModelPackage

SUBSETS = ("train", "validation", "held-out")
DETERMINES = ("intensity", "outside", "max_spacing_mm", "stages", "shape_model", "calibration")
_HASH = re.compile(r"[0-9a-f]{64}")


def package_digest(package: ModelPackage) -> str:
    """SHA-256 of everything that determines what a model finds; weights by their SHA-256 in the manifest.

    Title, definitions, card, pictures, version, reports and names of files are left out, so that it stays the same when
    a package is described anew, promoted or shared.
    """
    content = {name: package.manifest[name] for name in DETERMINES if name in package.manifest}
    content["scheme"] = {name: package.scheme.to_dict()[name] for name in ("pairs", "lateral")}
    content["landmarks"] = package.scheme.names
    content["calibration"] = {name: value for name, value in content["calibration"].items() if name != "cases"}
    content["stages"] = [{**stage, "weights": stage["weights"]["sha256"]} for stage in content["stages"]]
    content["shape_model"] = content["shape_model"]["sha256"]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class ModelReference:
    """A model by what it is called and what it is.

    Attributes:
        id, version: as in its manifest.
        digest: see `package_digest`.
    """

    id: str
    version: str
    digest: str

    @classmethod
    def to(cls, package: ModelPackage) -> ModelReference:
        """The reference to a package."""
        return cls(package.id, package.version, package_digest(package))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelReference:
        """Read the form written by `to_dict`; raises ValueError, KeyError or TypeError."""
        return cls(_text(data["id"]), _text(data["version"]), _hash(data["digest"]))

    def to_dict(self) -> dict[str, str]:
        """JSON-ready form."""
        return {"id": self.id, "version": self.version, "digest": self.digest}

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
    """

    sha256: str
    revision: int
    subset: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"sha256": self.sha256, "revision": self.revision, "subset": self.subset}


@dataclass(frozen=True)
class Lineage:
    """What a model was made from.

    Attributes:
        base: the model that it started from; None for one that started from nothing.
        cases: that it was trained, chosen and tested with.
        earlier: SHA-256 of scans that its base, or a base of that, had learnt from.
        encoder_from: model of other landmarks whose encoder it began with; None where there was none.
    """

    base: ModelReference | None
    cases: tuple[UsedCase, ...] = ()
    earlier: tuple[str, ...] = ()
    encoder_from: ModelReference | None = None

    @property
    def learnt(self) -> frozenset[str]:
        """SHA-256 of all scans that had any influence on the model."""
        return frozenset(case.sha256 for case in self.cases if case.subset != "held-out") | frozenset(self.earlier)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "base": None if self.base is None else self.base.to_dict(),
            "encoder_from": None if self.encoder_from is None else self.encoder_from.to_dict(),
            "cases": [case.to_dict() for case in self.cases],
            "earlier": list(self.earlier),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Lineage:
        """Read what a manifest says; fields that are not known are left out.

        Raises:
            ValueError: it is not of this form.
        """
        try:
            base, encoder = data["base"], data.get("encoder_from")
            earlier = {_hash(value) for value in data.get("earlier", ())}
            if base is not None and base.get("lineage"):
                earlier |= cls.from_dict(base["lineage"]).learnt
            return cls(
                None if base is None else ModelReference.from_dict(base),
                tuple(UsedCase(_hash(c["sha256"]), int(c["revision"]), _subset(c["subset"])) for c in data["cases"]),
                tuple(sorted(earlier)),
                None if encoder is None else ModelReference.from_dict(encoder),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("no lineage") from error


def lineage_of(manifest: Mapping[str, Any]) -> Lineage | None:
    """What a manifest says of the model's lineage; None where it says nothing that can be used."""
    try:
        return Lineage.from_dict(manifest["training"]["lineage"])
    except (KeyError, TypeError, ValueError):
        return None


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("no SHA-256")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", value):
        raise ValueError("no id or version")
    return value


def _subset(value: Any) -> str:
    if value not in SUBSETS:
        raise ValueError("no subset")
    return value
