"""Simulated radiographs: cone-beam projections of annotated volumes, with the exact places of their landmarks."""

from H3DELandmarksResearch.radiographs.case import Radiograph, Subject, make_radiograph
from H3DELandmarksResearch.radiographs.recipe import RECIPES, Recipe, read_recipe

__all__ = ["RECIPES", "Radiograph", "Recipe", "Subject", "make_radiograph", "read_recipe"]
