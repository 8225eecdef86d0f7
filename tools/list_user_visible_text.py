"""List the sentences that a user can see: messages, help texts, titles, templates, notebooks.

    python tools/list_user_visible_text.py > build/user_visible_text.txt

Each line begins with the place it comes from. Docstrings and comments are left out, except the
docstrings that commands and settings show as their help. Values in f-strings are shown as ``{…}``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIN_WORDS = 2
# Texts that only look like sentences: SQL, HTML and CSS fragments, code that is run elsewhere.
CODE_LIKE = re.compile(
    r"^\s*(select|insert|update|delete|create|with|from|import|def|class|<|\{%|\.|#)\b",
    re.IGNORECASE,
)


def join_literal(node: ast.expr) -> str | None:
    """Return the text of a string literal or f-string; None for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = []
        for value in node.values:
            is_text = isinstance(value, ast.Constant)
            parts.append(str(value.value) if is_text else "{…}")  # type: ignore[attr-defined]
        return "".join(parts)
    return None


def is_sentence(text: str) -> bool:
    """Return whether a text has several words and does not look like code."""
    words = re.findall(r"[A-Za-z]{2,}", text)
    has_space = " " in text.strip()
    return len(words) >= MIN_WORDS and has_space and not CODE_LIKE.match(text)


def list_docstring_ids(tree: ast.Module) -> set[int]:
    """Return the identities of the nodes that are docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, documented) or not node.body:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            found.add(id(first.value))
    return found


def iterate_module_text(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of the sentences in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = list_docstring_ids(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(value) for value in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and id(node) not in skipped:
            text = join_literal(node)
            if text is not None and is_sentence(text):
                yield node.lineno, " ".join(text.split())
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("_command"):
            yield node.lineno, " ".join((ast.get_docstring(node) or "").split())


def iterate_template_text(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and text of the sentences in a template, without its markup."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|<[^>]*>", " ", line)
        text = " ".join(re.sub(r"\{\{.*?\}\}", "{…}", text).split())
        if is_sentence(text) and not re.search(r"[{;]$|^[\w.#-]+ \{", text):
            yield number, text


def iterate_notebook_text(path: Path) -> Iterator[tuple[int, str]]:
    """Yield cell number and text of the prose in a notebook, comments of parameters included."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in source.splitlines():
                if is_sentence(line):
                    yield number, line
            continue
        for line in source.splitlines():
            _, mark, comment = line.partition("  # ")
            if mark:
                yield number, comment


def iterate_user_visible_text() -> Iterator[str]:
    """Yield the place and text of everything that a user can see, file by file."""
    readers = (
        ("mlops_kit/**/*.py", iterate_module_text),
        ("mlops_kit/**/*.html", iterate_template_text),
        ("mlops_kit/**/*.md", iterate_template_text),
        ("mlops_kit/**/*.yaml", iterate_template_text),
        ("templates/**/*.html", iterate_template_text),
        ("notebooks/**/*.ipynb", iterate_notebook_text),
    )
    for pattern, read_text in readers:
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT)
            for number, text in sorted(read_text(path)):
                yield f"{place}:{number}: {text}"


if __name__ == "__main__":
    for line in iterate_user_visible_text():
        print(line)
