"""Placing one point of a list by a click in a view."""

from __future__ import annotations

SELECTION = "vtkMRMLSelectionNodeSingleton"
INTERACTION = "vtkMRMLInteractionNodeSingleton"


def interaction_node(scene):
    """The node that says what the mouse does in views."""
    return scene.GetNodeByID(INTERACTION)


def begin_placing(node, index: int) -> None:
    """Let the next click in a view give a control point its position.

    Args:
        node: vtkMRMLMarkupsFiducialNode.
        index: of a point without a position.
    """
    scene = node.GetScene()
    node.UnsetNthControlPointPosition(index)
    node.SetControlPointPlacementStartIndex(index)
    selection = scene.GetNodeByID(SELECTION)
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetActivePlaceNodeID(node.GetID())
    interaction_node(scene).SwitchToSinglePlaceMode()


def is_placing(node) -> bool:
    """Whether the mouse places points of this list."""
    scene = node.GetScene()
    interaction = interaction_node(scene) if scene is not None else None
    if interaction is None or interaction.GetCurrentInteractionMode() != interaction.Place:
        return False
    return scene.GetNodeByID(SELECTION).GetActivePlaceNodeID() == node.GetID()


def end_placing(scene) -> None:
    """Let the mouse look around again."""
    interaction_node(scene).SwitchToViewTransformMode()
