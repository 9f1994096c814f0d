"""Runs the module's self-test inside Slicer, which ends with its result: Slicer --testing --python-script FILE."""

import traceback

import slicer
import slicer.testing


def main():
    """The self-test, which must not be skipped here."""
    from H3DELandmarksPanel.SelfTest import whyUntestable

    from H3DELandmarks import H3DELandmarksTest

    reason = whyUntestable()
    if reason:
        raise RuntimeError(f"Nothing could be tested. {reason}")
    H3DELandmarksTest().runTest()


try:
    print(f"H3DE Landmarks in Slicer {slicer.app.applicationVersion}")
    main()
except Exception:
    traceback.print_exc()
    slicer.testing.exitFailure()
else:
    slicer.testing.exitSuccess()
