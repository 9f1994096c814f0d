"""A table of texts that are read, not edited."""

import qt

ROW_HEIGHT = 22


class TextTable:
    """Fills a QTableWidget."""

    def __init__(self, tableWidget, headers, rightAligned=()):
        """Args: the QTableWidget, its headers, and the numbers of columns whose texts are aligned right."""
        self._table, self._rightAligned = tableWidget, rightAligned
        tableWidget.setColumnCount(len(headers))
        tableWidget.setHorizontalHeaderLabels(headers)
        tableWidget.horizontalHeader().setStretchLastSection(True)
        tableWidget.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        tableWidget.verticalHeader().hide()

    def show(self, rows, toolTips=None):
        """Show rows of texts, with a tool tip for each row; a table without rows is hidden."""
        wasBlocked = self._table.blockSignals(True)
        self._table.setRowCount(len(rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                self._table.setItem(row, column, self._item(column, text, toolTips[row] if toolTips else text))
        for column in range(self._table.columnCount - 1):  # the last one takes what is left
            self._table.resizeColumnToContents(column)
        self._table.clearSelection()
        self._table.setCurrentCell(-1, -1)
        self._table.blockSignals(wasBlocked)
        self._table.visible = bool(rows)

    def chosenRow(self):
        """Number of the current row, None if there is none."""
        row = self._table.currentRow()
        return row if 0 <= row < self._table.rowCount else None

    def _item(self, column, text, toolTip):
        item = qt.QTableWidgetItem(text)
        item.setToolTip(toolTip)
        if column in self._rightAligned:
            item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        return item
