"""Installs the extension PyTorch from Slicer's server: Slicer --no-main-window --python-script FILE."""

import slicer
import slicer.util

NAME = "PyTorch"


def install():
    """Install it without questions; True where it is there afterwards."""
    manager = slicer.app.extensionsManagerModel()
    manager.interactive = False
    manager.updateExtensionsMetadataFromServer(True, True)
    return manager.installExtensionFromServer(NAME, False)


is_there = install()
print(f"Extension {NAME}: {'installed' if is_there else 'could not be installed'}", flush=True)
slicer.util.exit(0 if is_there else 1)
