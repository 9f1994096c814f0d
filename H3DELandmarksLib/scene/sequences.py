"""Volumes that show one frame of a sequence (4D)."""

from __future__ import annotations

BROWSER_CLASS = "vtkMRMLSequenceBrowserNode"


def current_frame(volume_node) -> str:
    """Which frame of a sequence a volume shows now, such as ``time 2.5 s``; empty for a volume outside sequences.

    Args:
        volume_node: any volume node of a scene, also the proxy node of a sequence browser.
    """
    scene = volume_node.GetScene()
    for index in range(scene.GetNumberOfNodesByClass(BROWSER_CLASS)):
        browser = scene.GetNthNodeByClass(index, BROWSER_CLASS)
        sequence, item = browser.GetSequenceNode(volume_node), browser.GetSelectedItemNumber()
        if sequence is not None and 0 <= item < sequence.GetNumberOfDataNodes():
            words = (sequence.GetIndexName(), sequence.GetNthIndexValue(item), sequence.GetIndexUnit())
            return " ".join(word for word in words if word)
    return ""
