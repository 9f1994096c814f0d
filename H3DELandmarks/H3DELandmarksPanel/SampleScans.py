"""Sample scans in Slicer's module Sample Data; they lie beside the library, so that no network is needed."""

from pathlib import Path

from slicer.i18n import tr as _

from H3DELandmarksLib.core.resources import resource_folder

CATEGORY = "Anatomical Landmarks"
# The phantom that the tutorial uses, and the true positions of its landmarks.
FILES = {
    "mandibular-molar-phantom.nrrd": "SHA256:a92187f3ef904179e4302148ebcbf87acd10453cc85d38dcbb6a9f82a9a42ed6",
    "mandibular-molar-phantom.mrk.json": "SHA256:6c8ea7d42447f230838f3c4be49d62b2664ab63ca2f97c3600fe85ba76fa0524",
}


def registerSamples(iconFolder):
    """Add the samples to Slicer's module Sample Data.

    Args:
        iconFolder: where the thumbnail lies.
    """
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName="MandibularMolarPhantom",
        thumbnailFileName=str(Path(iconFolder) / "MandibularMolarPhantom.png"),
        uris=[(resource_folder("SampleData") / name).as_uri() for name in FILES],
        fileNames=list(FILES),
        checksums=list(FILES.values()),
        nodeNames=[_("Jaw phantom"), _("Jaw phantom reference")],
        loadFileTypes=["VolumeFile", "MarkupsFile"],
    )
