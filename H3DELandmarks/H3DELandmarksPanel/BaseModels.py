"""What a retraining can begin with: a model that knows the landmarks, or nothing."""

import re
from dataclasses import dataclass

from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import H3DELandmarksError
from H3DELandmarksLib.models import available_models
from H3DELandmarksPanel.ModelChoice import modelKey


@dataclass(frozen=True)
class Start:
    """One way to begin.

    Attributes:
        text: what the panel calls it.
        key: ID@VERSION of the base, empty for a new model.
        arguments: of the command ``train``.
    """

    text: str
    key: str
    arguments: tuple


def startsFor(trainingSet):
    """The ways to begin a retraining with a TrainingSet, those with a base model first; none where it is damaged."""
    packages = [entry.package for entry in available_models() if entry.package]
    try:
        project = trainingSet.project()
        names = _allNames(project)
    except H3DELandmarksError:
        return []
    fitting = [package for package in packages if names & set(package.scheme.names)]
    fresh = ("--new-model", newModelId(project.scheme.id, {package.id for package in packages}))
    starts = [_fineTuning(package) for package in fitting]
    starts.append(Start(_("A new model for these landmarks"), "", fresh))
    for package in _newest(packages):
        text = _("A new model, begun from {title}").format(title=package.manifest.title)
        starts.append(Start(text, "", (*fresh, "--encoder-from", modelKey(package))))
    return starts


def newModelId(schemeId, taken):
    """An id for a new model that no other model has."""
    stem = re.sub("[^a-z0-9]+", "-", schemeId.lower()).strip("-")[:56] or "model"
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def _fineTuning(package):
    text = f"{package.manifest.title} ({package.version})"
    return Start(text, modelKey(package), ("--base-model", modelKey(package)))


def _allNames(project):
    """Names of the project's landmarks in all versions of its scheme: models may know them by older names."""
    return {name for scheme in project.schemes() for name in scheme.names}


def _newest(packages):
    """The newest version of each model; the packages come in that order."""
    return list({package.id: package for package in reversed(packages)}.values())[::-1]
