"""Where nodes appear in the tree that Slicer shows."""

from __future__ import annotations

import slicer


def place_beside(node, neighbor) -> None:
    """Show a node in subject hierarchy under the same parent as another one: the same study or folder.

    Args:
        node: vtkMRMLNode to place.
        neighbor: vtkMRMLNode of the same scene.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    parent = hierarchy.GetItemParent(_item(hierarchy, neighbor))
    hierarchy.SetItemParent(_item(hierarchy, node), parent)


def _item(hierarchy, node) -> int:
    """The item of a node. Slicer's plugins make one for every new node, but without the application there are none."""
    item = hierarchy.GetItemByDataNode(node)
    return item or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
