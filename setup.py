"""Packages of a wheel; everything else is said in pyproject.toml."""

from setuptools import find_packages, setup

# Models and sample data lie beside the library in a checkout, and inside it where pip or Slicer installed it.
RESOURCES = "H3DELandmarksLib.Resources"

setup(
    packages=[*find_packages(include=["H3DELandmarksLib*", "H3DELandmarksResearch*"]), RESOURCES],
    package_dir={RESOURCES: "Resources"},
)
