"""The table of what a check of the training set has found."""

from slicer.i18n import tr as _

from H3DELandmarksPanel.CaseInScene import shortCaseName
from H3DELandmarksPanel.TextTable import TextTable


def kindText(kind):
    """What the panel calls a kind of finding."""
    return {
        "unreadable": _("cannot be read"),
        "sides": _("left and right"),
        "swap": _("swapped"),
        "outside": _("outside the scan"),
        "air": _("in the air"),
        "off anatomy": _("off the anatomy"),
        "outlier": _("unusual place"),
        "same place": _("same place"),
        "same image": _("same scan"),
        "same points": _("same points"),
        "unreviewed": _("not reviewed"),
    }.get(kind, kind)


class FindingsTable:
    """Shows findings, as the command ``cases check`` gives them, in a QTableWidget."""

    def __init__(self, tableWidget):
        """Args: the QTableWidget to fill."""
        self._table = TextTable(tableWidget, [_("Case"), _("Landmark"), _("Reason")])
        self._findings = []

    def show(self, findings):
        """Show findings, a dictionary each."""
        self._findings = findings
        self._table.show(
            [
                (shortCaseName(finding["case"]), finding["landmark"] or "", kindText(finding["kind"]))
                for finding in findings
            ],
            [finding["reason"] for finding in findings],
        )

    def chosen(self):
        """The finding of the current row, None if there is none."""
        row = self._table.chosenRow()
        return self._findings[row] if row is not None else None
