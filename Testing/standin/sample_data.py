"""Slicer's module `SampleData` for tests: registers sources, and fetches and loads them as Slicer does."""

import hashlib
import urllib.request
from pathlib import Path

import slicer
import vtk


class SampleDataSource:
    """A named sample of one or several files; every list has one entry per file."""

    def __init__(self, **fields):
        vars(self).update(fields)
        counts = {len(fields[name]) for name in ("uris", "fileNames", "nodeNames", "checksums", "loadFileTypes")}
        if len(counts) != 1:
            raise ValueError("the lists of a sample must have one entry per file")


class SampleDataLogic:
    """Registers and loads samples."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties={},  # noqa: B006 (as in Slicer)
        checksums=None,
        loadFileType=None,
    ):
        """Show a sample in a category."""
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            thumbnailFileName=thumbnailFileName,
            loadFileTypes=loadFileTypes,
            checksums=checksums,
        )
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    def sourceForSampleName(self, sampleName):
        """The sample of this name, None if there is none."""
        sources = sum(slicer.modules.sampleDataSources.values(), [])
        return next((source for source in sources if source.sampleName == sampleName), None)

    def downloadSamples(self, sampleName):
        """Fetch and load a sample; the nodes."""
        source = self.sourceForSampleName(sampleName)
        files = zip(source.uris, source.fileNames, source.nodeNames, source.checksums, source.loadFileTypes)
        return [self._fetch_and_load(*file) for file in files]

    def _fetch_and_load(self, uri, file_name, node_name, checksum, file_type):
        path = Path(slicer.app.temporaryPath) / file_name
        urllib.request.urlretrieve(uri, path)
        algorithm, digest = checksum.split(":")
        if hashlib.new(algorithm, path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"the checksum of {file_name} is wrong")
        loaded = vtk.vtkCollection()
        slicer.app.coreIOManager().loadNodes(file_type, {"fileName": str(path), "name": node_name}, loaded)
        return loaded.GetItemAsObject(0)
