"""Python packages that detection needs and Slicer does not bring along: installed at the point of use, with consent."""

import importlib
import logging
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import MissingDependencyError

OLDEST_TORCH = (2, 2)
TORCH_VERSION, TORCHVISION_VERSION = ">=2.2", ">=0.17"  # torchvision 0.17 belongs to PyTorch 2.2
REQUESTER = "H3DE Landmarks"


def ensureDependencies(requirementsFile):
    """Make sure that detection can run, after asking before anything is installed; silent where nothing is missing.

    Args:
        requirementsFile: path of a requirements.txt, without PyTorch.

    Raises:
        MissingDependencyError: one sentence about what is missing and what to do.
    """
    _ensurePackages(requirementsFile)
    _ensureTorch()


def _ensureTorch():
    """PyTorch comes through the extension of that name, which knows the right build for this computer."""
    if _isImportable("torch"):
        _checkVersionOfTorch()
        return
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise MissingDependencyError(
            _("Detection needs PyTorch: install the extension PyTorch in the Extensions Manager and restart Slicer.")
        ) from error
    question = _("Detection needs PyTorch, a download of up to 3 GB that takes some minutes.\n\nInstall it now?")
    if not slicer.util.confirmOkCancelDisplay(question, REQUESTER):
        raise MissingDependencyError(_("Nothing was detected, because PyTorch is not installed."))
    try:
        torch = PyTorchUtilsLogic().installTorch(
            torchVersionRequirement=TORCH_VERSION, torchvisionVersionRequirement=TORCHVISION_VERSION
        )
    except Exception as error:
        logging.exception("installing PyTorch failed")
        raise MissingDependencyError(
            _("PyTorch could not be installed: check the network connection, details are in the application log.")
        ) from error
    if torch is None:
        raise MissingDependencyError(_("Nothing was detected, because PyTorch is not installed."))


def _checkVersionOfTorch():
    """Refuse a PyTorch that is too old; one whose version nobody knows may do."""
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    if numbers and tuple(map(int, numbers.groups())) < OLDEST_TORCH:
        raise MissingDependencyError(
            _(
                "PyTorch {installed} is installed, but {needed} or later is needed: "
                "uninstall it in the module PyTorch, restart Slicer and detect again."
            ).format(installed=installed, needed=".".join(map(str, OLDEST_TORCH)))
        )


def _ensurePackages(requirementsFile):
    try:
        from slicer.packaging import load_requirements, pip_ensure
    except ImportError:  # Slicer 5.10 and earlier
        install = _installMissing
    else:

        def install(path):
            pip_ensure(load_requirements(path), requester=REQUESTER)

    try:
        install(requirementsFile)
    except Exception as error:
        logging.exception("installing Python packages failed")
        raise MissingDependencyError(
            _(
                "Nothing was detected, because Python packages are missing: allow their installation, "
                "and check the network connection."
            )
        ) from error


def _installMissing(requirementsFile):
    """What `slicer.packaging.pip_ensure` does, as far as Slicer 5.10 offers it."""
    lines = Path(requirementsFile).read_text(encoding="utf-8").splitlines()
    requirements = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    missing = [text for text in requirements if not _isImportable(re.match(r"[\w.-]+", text).group())]
    if not missing:
        return
    question = _("Detection needs these Python packages: {packages}.\n\nInstall them now?").format(
        packages=", ".join(missing)
    )
    if not slicer.util.confirmOkCancelDisplay(question, REQUESTER):
        raise RuntimeError("the user declined")
    slicer.util.pip_install(" ".join(missing))


def _isImportable(name):
    importlib.invalidate_caches()
    return find_spec(name) is not None
