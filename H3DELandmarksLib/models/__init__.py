"""Model packages: everything that inference needs, in one checked folder or zip file, and where to find them."""

from H3DELandmarksLib.models.package import ModelPackage, open_package, write_package
from H3DELandmarksLib.models.registry import ModelEntry, available_models, find_model

__all__ = ["ModelEntry", "ModelPackage", "available_models", "find_model", "open_package", "write_package"]
