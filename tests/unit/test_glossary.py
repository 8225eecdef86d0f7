"""Names and texts use the terms of docs/glossary.md.

Terms of the column "Never" and phrases of the section "Phrases" may stand nowhere: not in
identifiers, docstrings, messages, notebooks, templates or documents. Terms of the column "Not as a
name" may not name a function, class, module or setting; in prose they have their everyday meaning.

A line that reads data stored by an earlier version may name an old key; it ends in the comment
``# stored by earlier versions``.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.settings import walk_settings
from tests.support.environment import ROOT

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
EXEMPTION = "# stored by earlier versions"
PACKAGE_MODULES = sorted((ROOT / "mlops_kit").rglob("*.py"))
TEXT_FILES = sorted(
    path
    for pattern in (
        "mlops_kit/**/*.py",
        "mlops_kit/**/*.yaml",
        "mlops_kit/**/*.html",
        "mlops_kit/**/*.md",
        "tests/**/*.py",
        "bench/**/*.py",
        "evidence/**/*.py",
        "features/**/*.py",
        "templates/**/*",
        "notebooks/**/*.ipynb",
        "examples/**/*.yaml",
        "docs/**/*.md",
        "*.md",
        "*.yaml",
        "Makefile",
    )
    for path in ROOT.glob(pattern)
    if path.is_file() and path.name not in {"glossary.md", Path(__file__).name, "CHANGELOG.md"}
)


def read_table(heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading of the glossary."""
    section = GLOSSARY.split(heading, 1)[1]
    rows = []
    for line in section.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def split_terms(cell: str) -> list[str]:
    """Return the terms of a cell, which are separated by commas."""
    terms = [re.sub(r"\s*\(alone\)", "", term).strip() for term in cell.split(",")]
    return [term for term in terms if term not in {"", "–"}]


TERM_ROWS = read_table("# Glossary")
NEVER = sorted({term for row in TERM_ROWS for term in split_terms(row[2])})
NOT_AS_A_NAME = sorted({term for row in TERM_ROWS for term in split_terms(row[3])})
FUNCTION_NAMES = re.findall(
    r"`(\w+)`", GLOSSARY.split("Never as a function name:")[1].split("\n")[0]
)
# The section that configures `mlops watch`; the term is reserved as a drift status only.
ALLOWED_NAMES = {"watch"}
PHRASES = ["to mend it", "cannot be mended", "one step a statement", "the dear steps", "or nought"]


def iterate_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that count, with their numbers; of a notebook, its sources."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "".join("".join(cell["source"]) + "\n" for cell in cells)
    for number, line in enumerate(text.splitlines(), 1):
        if EXEMPTION not in line:
            yield number, line


LINES = [
    (path.relative_to(ROOT), number, line)
    for path in TEXT_FILES
    for number, line in iterate_lines(path)
]


def find_term(term: str) -> list[str]:
    """Return the places at which a term stands as words, or as part of an identifier."""
    words = r"[\s_]+".join(re.escape(word) for word in term.split())
    pattern = re.compile(rf"(?<![A-Za-z]){words}(?![a-z])", re.IGNORECASE)
    return [f"{path}:{n}: {line.strip()[:100]}" for path, n, line in LINES if pattern.search(line)]


def test_the_glossary_is_read() -> None:
    assert {"realised", "put aside", "judged model"} <= set(NEVER)
    assert {"judge", "moment", "word", "gap"} <= set(NOT_AS_A_NAME)
    assert {"told", "said", "whole"} <= set(FUNCTION_NAMES)


@pytest.mark.parametrize("term", [*NEVER, *PHRASES])
def test_a_term_that_is_never_used_stands_nowhere(term: str) -> None:
    assert find_term(term) == []


@functools.cache
def list_defined_names() -> list[tuple[str, str, str]]:
    """Return kind, name and place of each function, class and module of the package."""
    names = []
    for path in PACKAGE_MODULES:
        place = str(path.relative_to(ROOT))
        names.append(("module", path.stem, place))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                names.append(("function", node.name, f"{place}:{node.lineno}"))
            elif isinstance(node, ast.ClassDef):
                names.append(("class", node.name, f"{place}:{node.lineno}"))
    return names


@pytest.mark.slow
@pytest.mark.parametrize("term", NOT_AS_A_NAME)
def test_a_term_does_not_name_anything(term: str) -> None:
    forbidden = term.replace(" ", "_").lower()
    named = [
        f"{place} {name}"
        for _, name, place in list_defined_names()
        if name.strip("_").lower() == forbidden
    ]
    named += [key for key in list_setting_keys() if key.split(".")[-1] == forbidden]
    assert [name for name in named if name not in ALLOWED_NAMES] == []


def list_setting_keys() -> list[str]:
    """Return the dotted names of all settings."""
    config = ProjectConfig(name="any", source="any.csv", target="any", task="binary")
    return sorted(dotted for _, _, dotted, _ in walk_settings(config))


@pytest.mark.parametrize("word", FUNCTION_NAMES)
def test_a_participle_does_not_name_a_function(word: str) -> None:
    named = [
        place
        for kind, name, place in list_defined_names()
        if kind == "function" and name.strip("_") == word
    ]
    assert named == []
