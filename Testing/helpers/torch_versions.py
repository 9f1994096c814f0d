"""What older versions of PyTorch cannot do, whose tests are skipped there with the reason."""

import re

import pytest
import torch


def needs_torch(version: str, lack: str):
    """A mark for a test: skipped where PyTorch is older.

    Args:
        version: the first that will do, as 2.4.
        lack: what an older one does or doesn't, after "PyTorch ...".
    """
    installed = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    needed = tuple(map(int, version.split(".")))
    return pytest.mark.skipif(installed < needed, reason=f"PyTorch {torch.__version__} {lack}")
