"""The log of many scans, ``cohort.jsonl``: one line a scan, the last one of a scan holding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from H3DELandmarksLib.formats.case_record import Sha256, Time
from H3DELandmarksLib.formats.reading import Count, NotNegative, Share, Text


@dataclass(frozen=True)
class CohortModel:
    """The model that looked; `sha256` is that of `models.package.package_digest`."""

    id: Text
    version: Text
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class CohortOutputs:
    """The files of a result, relative to the folder of the log.

    Attributes:
        markups, table, provenance, picture, measurement_table: paths.
        provenance_sha256: what tells whether a later run has replaced them; None in logs of earlier versions.
    """

    markups: Text
    table: Text
    provenance: Text
    provenance_sha256: Sha256 | None = None
    picture: str | None = None
    measurement_table: str | None = None


@dataclass(frozen=True, kw_only=True)
class CohortScan:
    """A line: what became of a scan.

    Attributes:
        scan: absolute path.
        name: of its results, relative to the folder of the log and without extension.
        series: UID, number or description that was read, where something chose one.
        subject: whom it shows, where something says so.
        model: None where it could not be used.
        region: file of the box that was searched, where a list named one for this scan.
        settings: SHA-256 of what the user asked for beside scan and model.
        content: SHA-256 of the bytes of its files; None where they cannot be read.
        status: whether results were written.
        reason: why not, and what to do.
        summary: what people should know of the result first.
        recognised: whether the scan looks like what the model knows; None where the model cannot tell.
        doubt: the largest probability that what is said of a landmark is wrong, 1 for a scan that is not recognised;
            None where nobody can say.
        seconds: from reading to writing.
        time: of the end, UTC.
        outputs: None unless results were written.
    """

    format_version: Literal[1] = 1
    scan: Text
    name: Text
    series: str | None = None
    subject: str | None = None
    model: CohortModel | None = None
    region: str | None = None
    settings: Sha256
    content: Sha256 | None = None
    status: Literal["found", "failed"]
    reason: str | None = None
    summary: str | None = None
    recognised: bool | None = None
    doubt: Share | None = None
    seconds: NotNegative
    time: Time
    outputs: CohortOutputs | None = None

    @property
    def key(self) -> tuple[str | None, ...]:
        """What tells it from others."""
        model = f"{self.model.id}@{self.model.version}" if self.model else None
        return self.scan, self.series, model, self.region

    @property
    def image_key(self) -> tuple[str | None, ...]:
        """What tells the image that was looked at from others, also from one that had its path before."""
        return self.scan, self.series, self.content

    @property
    def result_key(self) -> tuple[object, ...]:
        """What tells what was found from what another version of the model, or other settings, have found."""
        return self.key, self.content, self.model, self.settings


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """What became of many scans.

    Attributes:
        log, table, parquet: the files that tell of all scans in the output folder.
        found: scans whose results were written, resumed ones included.
        failed: scans and folders that failed, now or before.
        resumed: scans that were left as an earlier run had finished or failed them.
        jobs: scans that were looked at at the same time.
        seconds: of the whole work, without loading models.
        computing: share of that time in which all jobs were computing; None where nothing was computed.
    """

    log: Text
    table: Text
    parquet: str | None = None
    found: Count
    failed: Count
    resumed: Count
    jobs: Count
    seconds: NotNegative
    computing: Share | None = None
