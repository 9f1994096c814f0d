"""Packages of a wheel; everything else is said in pyproject.toml."""

from setuptools import find_packages, setup

# Models and sample data lie beside the library in a checkout and in Slicer, and inside it where pip installed it.
RESOURCES = "H3DELandmarksLib.Resources"

setup(
    packages=[*find_packages(include=["H3DELandmarksLib*", "H3DELandmarksResearch*"]), RESOURCES],
    package_dir={RESOURCES: "Resources"},
)
