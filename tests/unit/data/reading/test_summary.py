"""What was read is shown in words, and names from a file are never taken for HTML."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.files import read_files
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.summary import summarize_reading

TEXT = '<b>x</b>,"a ""b""",x,x\n1,NA,2,3\nNA,5,6,7\n'


def test_names_and_values_of_a_file_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TEXT)
    table = summarize_reading(read_files(str(tmp_path / "t.csv"), ".csv", ReadSettings()).report)
    page = table._repr_html_()
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert table.data["column"].tolist() == ["<b>x</b>", 'a "b"', "x", "x_2"]
    assert table.data["missing words"].tolist() == ["NA: 1", "NA: 1", "", ""]
    assert "named 'x' in the file" in table.data["remarks"].iloc[3]
    assert table.sentence == "All 2 rows of t.csv were read; it has 4 columns."


def test_nothing_was_read_yet() -> None:
    with pytest.raises(KitError, match="has not been read"):
        summarize_reading(None)
