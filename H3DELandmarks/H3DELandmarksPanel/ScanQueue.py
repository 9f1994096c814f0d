"""The table of many scans that were examined: the most doubtful first, each with what was found or why nothing was."""

import bisect
from pathlib import PurePath

from slicer.i18n import tr as _

from H3DELandmarksPanel.Tables import TextTable, percentText

NAME, STATE, DOUBT, TEXT = range(4)
DOUBTFUL = 0.5  # a scan of which anything is more likely wrong than right


class ScanQueue(TextTable):
    """Shows CohortScan records in a QTableWidget, whose rows keep their places while others come."""

    def __init__(self, tableWidget):
        """Args: the QTableWidget."""
        super().__init__(tableWidget, [_("Scan"), _("State"), _("Doubt"), _("What was found")], (DOUBT,))
        tip = _("How likely the least certain of its landmarks is wrong; 100 % for a scan that is not recognised")
        tableWidget.horizontalHeaderItem(DOUBT).setToolTip(tip)
        self._opened = set()  # keys of results that were opened for review
        self.clear()

    def clear(self):
        """Forget all scans, and begin again with the most doubtful first."""
        self._scans, self._column, self._order = {}, DOUBT, []
        self.show([])

    def follow(self, scans):
        """Show these scans; those that are shown already keep their rows, and the chosen one stays chosen."""
        wanted = {scan.key: scan for scan in scans}
        wasBlocked = self._table.blockSignals(True)
        gone = [key for key, scan in self._scans.items() if wanted.get(key) != scan]
        chosen = self.chosen()
        for key in gone:
            self._remove(key)
        for key, scan in wanted.items():
            if key not in self._scans:
                self._insert(scan)
        if chosen and chosen.key in gone:
            self.choose(chosen.key)
        self._fit()
        self._table.visible = bool(self._order)
        self._table.blockSignals(wasBlocked)

    def sortBy(self, column):
        """Sort by another column."""
        scans, chosen = list(self._scans.values()), self.chosen()
        self.clear()
        self._column = column
        self.follow(scans)
        self.choose(chosen.key if chosen else None)

    def chosen(self):
        """The chosen CohortScan, None for none."""
        row = self.chosenRow()
        return None if row is None else self._scans[self._order[row][1]]

    def choose(self, key):
        """Mark the row of a scan, where there is one."""
        row = next((row for row, (_place, known) in enumerate(self._order) if known == key), None)
        if row is not None:
            self._table.selectRow(row)

    def markOpened(self, scan):
        """Say of a scan that it was opened."""
        self._opened.add(scan.result_key)
        row = next(row for row, (_place, key) in enumerate(self._order) if key == scan.key)
        self._table.item(row, STATE).setText(self._state(scan))

    def _insert(self, scan):
        texts = (PurePath(scan.name).name, self._state(scan), percentText(_number(scan.doubt)), _said(scan))
        entry = (self._place(scan, texts), scan.key)
        row = bisect.bisect(self._order, entry)
        self._order.insert(row, entry)
        self._scans[scan.key] = scan
        self._table.insertRow(row)
        for column, text in enumerate(texts):
            self._table.setItem(row, column, self._item(column, text, f"{scan.scan}: {_said(scan)}"))

    def _remove(self, key):
        row = next(row for row, (_place, known) in enumerate(self._order) if known == key)
        del self._scans[key], self._order[row]
        self._table.removeRow(row)

    def _place(self, scan, texts):
        """What sorts a scan: failures last, and the most doubtful first."""
        byDoubt = (scan.outputs is None, -(scan.doubt or 0.0), texts[NAME].casefold(), texts[NAME])
        return byDoubt if self._column == DOUBT else (texts[self._column].casefold(), *byDoubt)

    def _state(self, scan):
        if scan.outputs is None:
            return _("failed")
        if scan.result_key in self._opened:
            return _("opened")
        if scan.recognised is False:
            return _("not recognised")
        return _("doubtful") if (scan.doubt or 0.0) > DOUBTFUL else _("to review")


def _said(scan):
    """What was found, or why nothing was; the row names the scan already."""
    said = (scan.summary if scan.outputs else scan.reason) or ""
    return said.replace(scan.scan, PurePath(scan.scan).name)


def _number(value):
    return float("nan") if value is None else value
