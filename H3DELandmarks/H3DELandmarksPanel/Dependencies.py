"""Python packages that networks need and Slicer does not bring along: installed at the point of use, with consent.

PyTorch comes through the extension of that name, which knows the right build for this computer; the others through pip.
Whatever is installed already stays as it is, in particular what Slicer ships.
"""

import importlib
import inspect
import logging
import os
import re
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

import slicer.util
from slicer.i18n import tr as _

from H3DELandmarksLib.core.errors import MissingDependencyError

REQUESTER = "H3DE Landmarks"
TORCHVISION_VERSION = ">=0.17"  # belongs to PyTorch 2.2
REPLACEABLE = {"pip", "setuptools", "wheel", "torchvision"}  # what installers may bring along in another version
PACKAGE_INDEX = "https://pypi.org/simple/pip/"
SECONDS_FOR_INDEX = 8


_met = set()  # keys of requirements that were met: reading a version takes some 10 ms


@dataclass(frozen=True)
class Requirement:
    """A line of requirements.txt: a package and its oldest version, with the size of the download as a comment.

    Attributes:
        name: as pip calls it.
        oldest: version.
        size: for people.
    """

    name: str
    oldest: str
    size: str

    @classmethod
    def parse(cls, line):
        """The requirement of a line such as ``safetensors>=0.4  # 1 MB``."""
        name, oldest, size = re.fullmatch(r"([\w.-]+)>=([\d.]+)\s*#\s*(.+)", line.strip()).groups()
        return cls(name, oldest, size)

    def __str__(self):
        return f"{self.name}>={self.oldest}"

    @property
    def key(self):
        """The requirement and where its package lies; None as place where it cannot be imported."""
        importlib.invalidate_caches()
        spec = find_spec(self.name)
        return self, spec.origin if spec else None  # no place: an uninstallation has left a folder without code

    @property
    def title(self):
        """What people call it."""
        return "PyTorch" if self.name == "torch" else self.name

    @property
    def installed(self):
        """The version that is installed, empty where nobody knows, None where the package cannot be imported."""
        if self.key[1] is None:
            return None
        try:
            return version(self.name)
        except PackageNotFoundError:
            return ""

    @property
    def isMet(self):
        """Whether the package is there in a version that will do; one that nobody knows may do."""
        installed = self.installed
        return installed is not None and not (_numbers(installed) and _numbers(installed) < _numbers(self.oldest))

    def described(self):
        """A line of the question."""
        text = _("{title} {oldest} or later: {size}").format(title=self.title, oldest=self.oldest, size=self.size)
        installed = self.installed
        return text if not installed else _("{text}, in place of {installed}").format(text=text, installed=installed)


TORCH = Requirement("torch", "2.2.2", "0.2 to 3 GB")


def _numbers(text):
    """The leading numbers of a version, of which three decide."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found.group().split(".")))[:3] if found else ()


def readRequirements(path):
    """PyTorch and the Requirements of a requirements.txt."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [TORCH, *(Requirement.parse(line) for line in lines if line.strip() and not line.startswith("#"))]


def ensureDependencies(requirementsFile, tell, withTorch=True):
    """Make sure that networks can run, after asking once before anything is installed; silent where nothing is missing.

    Slicer handles clicks and everything else meanwhile.

    Args:
        requirementsFile: path of a requirements.txt, without PyTorch.
        tell: called with a sentence when the installation begins.
        withTorch: whether PyTorch is needed.

    Returns:
        Whether anything was installed.

    Raises:
        MissingDependencyError: one sentence about what is missing and what to do.
    """
    needed = readRequirements(requirementsFile)[0 if withTorch else 1 :]
    required = [requirement for requirement in needed if requirement.key not in _met]
    missing = [requirement for requirement in required if not requirement.isMet]
    if not missing:
        _met.update(requirement.key for requirement in required)
        return False
    installTorch = _installerOfTorch() if TORCH in missing else None
    _ask(missing)
    titles = ", ".join(requirement.title for requirement in missing)
    tell(_("Installing {packages}, this takes some minutes.").format(packages=titles))
    with _keepingWhatIsInstalled({requirement.name for requirement in missing}):
        _install([requirement for requirement in missing if requirement is not TORCH], installTorch)
    for requirement in missing:
        if not requirement.isMet:
            raise MissingDependencyError(
                _("{package} was installed, but cannot be used yet: restart Slicer and start again.").format(
                    package=requirement.title
                )
            )
    return True


def _ask(missing):
    question = _(
        "This step needs Python packages that Slicer does not bring along:\n\n{packages}\n\n"
        "They are downloaded and installed into this Slicer; what is installed already stays. Install them now?"
    ).format(packages="\n".join(f"\u2022 {requirement.described()}" for requirement in missing))
    if not slicer.util.confirmOkCancelDisplay(question, REQUESTER):
        raise MissingDependencyError(
            _("Nothing was done, because {packages} is missing: start again and agree to the installation.").format(
                packages=", ".join(requirement.title for requirement in missing)
            )
        )


def _installerOfTorch():
    """A function that installs PyTorch.

    Raises:
        MissingDependencyError: the extension is missing, or another PyTorch is in the way.
    """
    installed = TORCH.installed
    if installed:
        raise MissingDependencyError(
            _(
                "PyTorch {installed} is installed, but {needed} or later is needed: "
                "uninstall it in the module PyTorch, restart Slicer and start again."
            ).format(installed=installed, needed=TORCH.oldest)
        )
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise MissingDependencyError(
            _("This step needs PyTorch: install the extension PyTorch in the Extensions Manager and restart Slicer.")
        ) from error

    def install():
        logic = PyTorchUtilsLogic()
        wanted = {"torchVersionRequirement": f">={TORCH.oldest}", "torchvisionVersionRequirement": TORCHVISION_VERSION}
        known = inspect.signature(logic.installTorch).parameters  # early versions of the extension know fewer
        if logic.installTorch(**{name: value for name, value in wanted.items() if name in known}) is None:
            raise RuntimeError("the extension PyTorch has installed nothing")

    return install


def _install(requirements, installTorch):
    try:
        if requirements:
            slicer.util.pip_install([str(requirement) for requirement in requirements])
        if installTorch is not None:
            installTorch()
    except Exception as error:
        logging.exception("installing Python packages failed")
        raise MissingDependencyError(
            _(
                "The Python packages could not be installed: look for the reason in the application log, "
                "remove it (often too little disk space) and start again."
            )
            if _canReachIndex()
            else _(
                "The Python packages could not be downloaded: check the network connection and the proxy, "
                "then start again; the guide for administrators tells how to install them without a network."
            )
        ) from error


def _canReachIndex():
    """Whether the network reaches the index that pip asks; another index than the usual one is not judged."""
    if os.environ.get("PIP_INDEX_URL") or os.environ.get("PIP_NO_INDEX"):
        return True
    try:
        urllib.request.urlopen(PACKAGE_INDEX, timeout=SECONDS_FOR_INDEX).close()
    except OSError:
        return False
    return True


@contextmanager
def _keepingWhatIsInstalled(wanted):
    """Have every pip that runs meanwhile leave installed packages as they are.

    Args:
        wanted: names of the packages that are to be installed.
    """
    free = {_canonical(name) for name in wanted} | REPLACEABLE
    known = {}
    for item in distributions():
        if item.metadata["Name"]:
            known.setdefault(_canonical(item.metadata["Name"]), item.version)  # the first is the one that is imported
    lines = [f"{name}=={number}\n" for name, number in sorted(known.items()) if name not in free]
    before = os.environ.get("PIP_CONSTRAINT")
    with tempfile.TemporaryDirectory(prefix="H3DELandmarks-pip-", dir=slicer.app.temporaryPath) as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(lines), encoding="utf-8")
        os.environ["PIP_CONSTRAINT"] = " ".join(filter(None, [before, constraints.as_uri()]))  # pip splits at blanks
        try:
            yield
        finally:
            if before is None:
                del os.environ["PIP_CONSTRAINT"]
            else:
                os.environ["PIP_CONSTRAINT"] = before


def _canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()
