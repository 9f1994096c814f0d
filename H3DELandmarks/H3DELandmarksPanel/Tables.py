"""The tables of the panel: texts that are read, and landmarks under review with the most doubtful at the top."""

import math

import qt
from slicer.i18n import tr as _

from H3DELandmarksLib.core.landmarks import Cause
from H3DELandmarksLib.scene import ReviewState
from H3DELandmarksLib.scene.review_display import ABSENT, ACCEPTED, ACCEPTED_IN_BULK, CORRECTED, TO_CHECK
from H3DELandmarksPanel.SafeText import plainTip

ROW_HEIGHT = 22
LEAST_NAME_WIDTH = 56  # pixels, of a landmark's name in the table
PRESENCE, MOVED = 2, 5  # columns of the review


def _setUp(tableWidget, headers):
    """Give a QTableWidget its columns."""
    tableWidget.setColumnCount(len(headers))
    tableWidget.setHorizontalHeaderLabels(headers)
    tableWidget.horizontalHeader().setStretchLastSection(True)
    tableWidget.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
    tableWidget.verticalHeader().hide()


def _fitColumns(tableWidget):
    for column in range(tableWidget.columnCount - 1):  # the last one takes what is left
        tableWidget.resizeColumnToContents(column)


class TextTable:
    """Fills a QTableWidget."""

    def __init__(self, tableWidget, headers, rightAligned=()):
        """Args: the QTableWidget, its headers, and the numbers of columns whose texts are aligned right."""
        self._table, self._rightAligned = tableWidget, rightAligned
        _setUp(tableWidget, headers)

    def show(self, rows, toolTips=None):
        """Show rows of texts, with a tool tip for each row; a table without rows is hidden."""
        wasBlocked = self._table.blockSignals(True)
        self._table.setRowCount(len(rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                self._table.setItem(row, column, self._item(column, text, toolTips[row] if toolTips else text))
        self._fit()
        self._table.clearSelection()
        self._table.setCurrentCell(-1, -1)
        self._table.blockSignals(wasBlocked)
        self._table.visible = bool(rows)

    def chosenRow(self):
        """Number of the current row, None if there is none."""
        row = self._table.currentRow()
        return row if 0 <= row < self._table.rowCount else None

    def _fit(self):
        _fitColumns(self._table)

    def _item(self, column, text, toolTip):
        item = qt.QTableWidgetItem(text)
        item.setToolTip(plainTip(toolTip))
        if column in self._rightAligned:
            item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        return item


def stateText(state):
    """What the panel calls a ReviewState."""
    return {
        ReviewState.PROPOSED: _("to check"),
        ReviewState.PROPOSED_ABSENT: _("absent?"),
        ReviewState.NOT_EXAMINED: _("not examined"),
        ReviewState.NOT_RECOGNISED: _("not recognised"),
        ReviewState.UNKNOWN: _("no position"),
        ReviewState.ACCEPTED: _("accepted"),
        ReviewState.ACCEPTED_IN_BULK: _("accepted in bulk"),
        ReviewState.MOVED: _("moved"),
        ReviewState.PLACED: _("placed"),
        ReviewState.ABSENT: _("absent"),
        ReviewState.ABSENT_IN_BULK: _("absent in bulk"),
    }[state]


def causeText(cause):
    """What the panel says of a Cause."""
    return {
        Cause.TOO_COARSE: _("its voxels are too coarse"),
        Cause.OUTSIDE_REGION: _("outside the region"),
        Cause.OUTSIDE_SCAN: _("outside the scan"),
        Cause.NOT_ASKED_FOR: _("not asked for"),
        Cause.NO_PLACE: _("too few points found tell where it should be"),
        Cause.UNSURE: _("neither surely there nor surely absent"),
        Cause.UNLIKE: _("the scan does not look like what the model knows"),
    }[cause]


def showLegend(ui):
    """Say what the marks in the views mean, in their colors."""
    shown = (
        (ui.legendToCheckLabel, TO_CHECK, "\u25cf", _("to check")),
        (ui.legendAcceptedLabel, ACCEPTED, "\u25a0", _("accepted")),
        (ui.legendInBulkLabel, ACCEPTED_IN_BULK, "\u25b2", _("in bulk")),
        (ui.legendCorrectedLabel, CORRECTED, "\u25c6", _("corrected")),
        (ui.legendAbsentLabel, ABSENT, "\u271a", _("absent")),
    )
    for label, mark, sign, text in shown:
        label.text = f"{sign} {text}"
        if mark is not ABSENT:  # light gray could not be read on a light panel
            color = ", ".join(str(round(255 * part)) for part in mark.color)
            label.styleSheet = f"color: rgb({color});"


def percentText(value):
    """A probability for people, empty where there is none."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else ""


def lengthText(length, unit="mm"):
    """A length for people, empty where there is none."""
    return f"{length:.1f} {unit}" if math.isfinite(length) else ""


class ReviewTable:
    """Shows reviewed landmarks in a QTableWidget, one row each."""

    def __init__(self, tableWidget):
        """Args: the QTableWidget to fill."""
        self._table = tableWidget
        self._names = []
        _setUp(tableWidget, [_("Landmark"), _("State"), _("Presence"), _("Confidence"), _("Radius"), _("Moved")])
        tips = [
            "",
            _("What the model states, or what a person has decided"),
            _("Probability that the landmark is in the scan"),
            _("Probability that the proposed position is within the model's tolerance of the right place"),
            _("Within this distance of the proposed position lies the right place in nine of ten scans"),
            _("Distance from the proposal"),
        ]
        header = tableWidget.horizontalHeader()
        font = qt.QFont(header.font)
        font.setPointSize(max(font.pointSize() - 1, 6))  # figures are narrower than what they are called
        header.font = font
        for column, tip in enumerate(tips):
            tableWidget.horizontalHeaderItem(column).setToolTip(tip)

    def show(self, landmarks, chosen, seen, unit="mm"):
        """Show landmarks in this order.

        Args:
            landmarks: ReviewedLandmark objects.
            chosen: name of the landmark whose row is marked, None for no row.
            seen: names of landmarks that were looked at; the names of others are bold.
            unit: of lengths, "mm" or "px".
        """
        wasBlocked = self._table.blockSignals(True)
        names = [landmark.name for landmark in landmarks]
        self._names = names
        self._table.setRowCount(len(landmarks))
        toolTips = [plainTip(f"{landmark.name}: {landmark.definition}") for landmark in landmarks]
        changes = [
            self._setText(row, column, text, tip)
            for row, (landmark, tip) in enumerate(zip(landmarks, toolTips))
            for column, text in enumerate(self._texts(landmark, unit))
        ]
        for row, landmark in enumerate(landmarks):
            self._setBold(row, landmark.state.is_waiting and landmark.name not in seen)
        self._table.setColumnHidden(MOVED, not any(landmark.state is ReviewState.MOVED for landmark in landmarks))
        if any(changes):
            self._fitColumns()
        if chosen in names:
            self._table.selectRow(names.index(chosen))
        else:
            self._table.clearSelection()
            self._table.setCurrentCell(-1, -1)
        self._table.blockSignals(wasBlocked)

    def _fitColumns(self):
        """All figures in sight: where there is no room, long names are cut off; their tool tips tell them whole."""
        _fitColumns(self._table)
        columns = [column for column in range(1, self._table.columnCount) if not self._table.isColumnHidden(column)]
        self._table.resizeColumnToContents(columns[-1])  # the last one is stretched from there
        used = sum(self._table.columnWidth(column) for column in columns)
        room = self._table.viewport().width - used
        self._table.setColumnWidth(0, max(LEAST_NAME_WIDTH, min(room, self._table.columnWidth(0))))

    def chosenName(self):
        """Name of the landmark of the current row, None if there is none."""
        row = self._table.currentRow()
        return self._names[row] if 0 <= row < len(self._names) else None

    def _setText(self, row, column, text, toolTip):
        """Fill a cell; returns whether that changed it."""
        item = self._table.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            if column >= PRESENCE:
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            self._table.setItem(row, column, item)
        if item.text() == text and item.toolTip() == toolTip:
            return False
        item.setText(text)
        item.setToolTip(toolTip)
        return True

    def _setBold(self, row, isBold):
        item = self._table.item(row, 0)
        font = item.font()
        if font.bold() != isBold:
            font.setBold(isBold)
            item.setFont(font)

    @staticmethod
    def _texts(landmark, unit):
        moved = landmark.moved if landmark.state is ReviewState.MOVED else math.nan
        return (
            landmark.name,
            stateText(landmark.state),
            percentText(landmark.presence),
            percentText(landmark.confidence),
            lengthText(landmark.radius, unit),
            lengthText(moved, unit),
        )
