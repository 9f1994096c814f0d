"""Placing one landmark by a click in a view; one that was not placed in the end is as it was before."""

from H3DELandmarksLib.scene import begin_placing, end_placing, interaction_node, is_placing


class PointPlacing:
    """The time between "Place" and the click, or the end of it by other means."""

    def __init__(self, onEnd):
        """Args: what to call when the point was placed, or placing has ended."""
        self._onEnd = onEnd
        self._node = None
        self._scene = None
        self._pointID = None
        self._wasUnknown = False
        self._tag = None

    def isActive(self):
        """Whether the next click places the point."""
        return self._node is not None

    def start(self, node, index, wasUnknown):
        """Let the next click place a point.

        Args:
            node: vtkMRMLMarkupsFiducialNode.
            index: of a control point without a position.
            wasUnknown: whether nobody has said so far that the landmark is absent.
        """
        self.stop()
        self._node, self._pointID, self._wasUnknown = node, node.GetNthControlPointID(index), wasUnknown
        self._scene = node.GetScene()  # the node may be taken out of it meanwhile
        begin_placing(node, index)
        interaction = interaction_node(self._scene)
        self._tag = interaction.AddObserver(interaction.InteractionModeChangedEvent, self._onModeChanged)

    def stop(self):
        """End it without a click."""
        if self._node is not None:
            end_placing(self._scene)
            self._finish()

    def _onModeChanged(self, caller, event):
        if self._node is not None and not is_placing(self._node):
            self._finish()

    def _finish(self):
        if self._node is None:
            return
        node, self._node = self._node, None
        interaction_node(self._scene).RemoveObserver(self._tag)
        index = node.GetNthControlPointIndexByID(self._pointID)
        if index >= 0 and node.GetNthControlPointPositionStatus(index) != node.PositionDefined and not self._wasUnknown:
            node.SetNthControlPointPositionMissing(index)
        self._onEnd()
