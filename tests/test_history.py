"""The history: to CSV and back, and how a notebook shows it grow."""

from pathlib import Path

import pytest

from inkproof import history as module
from inkproof.history import History, LiveTable, Row

ROWS = [
    Row(epoch=1, train_loss=1 / 3, valid_loss=0.1 + 0.2, metrics={"accuracy": 0.5}, seconds=1.5, train_seconds=1.0),
    Row(epoch=2, train_loss=float("nan"), valid_loss=None, metrics={"accuracy": 0.75}, seconds=2, train_seconds=1.25),
]


def test_a_history_goes_through_csv_to_the_last_digit(tmp_path: Path) -> None:
    History(ROWS[:1]).to_csv(tmp_path / "h.csv")
    assert History.from_csv(tmp_path / "h.csv").rows == ROWS[:1]
    History(ROWS).to_csv(tmp_path / "h.csv")
    assert History.from_csv(tmp_path / "h.csv")[1].valid_loss is None
    assert History(ROWS).train_seconds == 2.25


def test_a_notebook_shows_one_table_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, history: History) -> None:
            shown.append(history._repr_html_())

    def display(history: History, display_id: bool) -> Handle:
        shown.append(history._repr_html_())
        return Handle()

    monkeypatch.setattr(module, "notebook_display", lambda: display)
    table = LiveTable()
    for row in ROWS:
        table.add(row)
    assert [html.count("<tr>") for html in shown] == [2, 3]
    assert "<th>train_loss</th>" in shown[0]
    assert "<td>0.3333</td>" in shown[0]
