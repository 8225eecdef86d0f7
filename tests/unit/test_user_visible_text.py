"""The list of all sentences that a user can see is written for reading, and reads like English."""

from __future__ import annotations

import re
from pathlib import Path

from tools.list_user_visible_text import ROOT, iterate_user_visible_text

SENTENCES = list(iterate_user_visible_text())
OUTPUT = ROOT / "build" / "user_visible_text.txt"
# Number formats that the glossary excludes, and wording of earlier versions.
UNWANTED = {
    "a space before the percent sign": r"\{…\} %|\d %",
    "a space after the dollar sign": r"\$ (\d|\{)",
    "x is no y": r"(?<!here )\bis no (timestamp|number|column|duration|date|value|name|file)\b",
    "a y an x": r"\ba (row|line|stage|rule|day) a (row|line|stage|rule|day)\b",
    "archaic words": r"\b(nought|mend|whoever|wherein|thereof|lest|judged|anew|dear)\b",
}


def test_the_list_is_written_as_an_artifact() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    files = {line.split(":")[0] for line in SENTENCES}
    assert len(SENTENCES) > 500
    assert any(Path(file).suffix == ".ipynb" for file in files)
    assert any(Path(file).suffix == ".html" for file in files)


def test_sentences_have_no_unwanted_wording() -> None:
    found = [
        f"{reason}: {line}"
        for reason, pattern in UNWANTED.items()
        for line in SENTENCES
        if re.search(pattern, line.split(": ", 1)[1])
    ]
    assert found == []
