"""DICOM studies of a few tiny slices, in folders as scanners, discs and archives keep them."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset

CT = "1.2.840.10008.5.1.4.1.1.2"
VALUES = np.random.default_rng(5).integers(-900, 1200, (8, 9, 10)).astype(np.int16)  # slices, rows, columns


def image(values: np.ndarray, study: int = 1, series: str = "1") -> FileDataset:
    """A dataset with its pixels, (rows, columns) or with frames before them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.PatientID, data.Modality = f"1.2.{study}", f"P{study}", "CT"
    data.SeriesInstanceUID, data.SeriesNumber = f"1.2.{study}.{series}", series
    data.Rows, data.Columns = values.shape[-2:]
    if values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = values.tobytes()
    return data


def write_study(folder: Path, study: int = 1, series: str = "1", name="{k:03}.dcm", slices=VALUES, kind="") -> Path:
    """One file per slice of a series; names may have `k` and `part` in them. Values are greater by `study`."""
    for k, plane in enumerate(slices + np.int16(study)):
        data = image(plane, study, series)
        data.InstanceNumber, data.PixelSpacing, data.SeriesDescription = k + 1, [4, 4], kind
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [10, 20, 4 * k]
        path = folder / name.format(k=k, part=k // 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save_as(path)
    return folder
