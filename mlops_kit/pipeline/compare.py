"""Two runs side by side: what was given, what was run, what came out, and whether that is more than noise.

``compare`` reads two run folders and says it as data; ``text``, ``markdown`` and ``page`` word it. Code cells
are compared by nbdime. Numbers of the review that both runs judged on the same rows are compared row by row
(a paired bootstrap, ``mlops_kit.metrics``); otherwise by their intervals; a number without one is shown and
not judged.

To add a section: a function that yields ``Row`` s, and its name in ``SECTIONS``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.config import Config, Project
from mlops_kit.pipeline import manifest, params
from mlops_kit.results import number, plain

ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # tags of cells that a run has put into a notebook
SHOWN = 12  # columns of a table that are told of at most


@dataclass(frozen=True)
class Row:
    """One thing in both runs; ``same`` is None where it cannot be told, or where a difference is no more than noise."""

    section: str
    name: str
    old: str
    new: str
    same: bool | None = False
    says: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two runs, what differs between them, the code as a diff by notebook, and figures of one title side by side."""

    old: str
    new: str
    rows: list[Row]
    code: dict[str, str] = field(default_factory=dict)
    figures: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """What differs, in a sentence."""
        count = {s: sum(r.section == s and r.same is False for r in self.rows) for s in dict.fromkeys(r.section for r in self.rows)}
        told = [f"{n} in {s}" for s, n in count.items() if n]
        return f"{self.new} against {self.old}: " + ("differences: " + ", ".join(told) + "." if told else "nothing differs beyond noise.")

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"old": self.old, "new": self.new, "sentence": self.sentence, "rows": [vars(r) for r in self.rows], "code": self.code}


@dataclass(frozen=True)
class Same:
    """Whether an artifact or a logged number of a stage is identical in two runs; None where it is a record of the world outside."""

    stage: str
    name: str
    same: bool | None
    what: str


def compare(project: Project, old: Path, new: Path) -> Comparison:
    """What differs between two runs of a project."""
    sides = [(f, manifest.read(f), stages.recorded(project, f).config) for f in (old, new)]
    rows = [*chain.from_iterable(section(*sides) for section in SECTIONS)]
    books = {e["notebook"]: diff for s, e in sides[1][1]["stages"].items() if s in sides[0][1]["stages"] and (diff := code(old, new, e["notebook"]))}
    rows += [Row("code", book, "", "", False, f"{sum(line[:1] in '+-' for line in diff.splitlines())} lines") for book, diff in books.items()]
    return Comparison(old.name, new.name, rows, books, figures(old, new))


Side = tuple[Path, dict[str, Any], Config]


def named(section: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Row]:
    """Values by name that differ."""
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name) or (name in old) != (name in new):
            before, now = (str(plain(side[name])) if name in side else "not there" for side in (old, new))
            yield Row(section, name, before, now)


def parameters(a: Side, b: Side) -> Iterator[Row]:
    """Parameters of stages."""
    yield from named("parameters", *({f"{s}.{n}": v for s, e in m["stages"].items() for n, v in e.get("params", {}).items()} for _, m, _ in (a, b)))


def settings(a: Side, b: Side) -> Iterator[Row]:
    """Settings of mlops.yaml."""

    def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(f"{prefix}{key}", value)]

    yield from named("settings", *(dict(flat(c.model_dump(mode="json"))) for _, _, c in (a, b)))


def modules(a: Side, b: Side) -> Iterator[Row]:
    """Modules and files that the stages used."""
    found = [{n: h[:12] for e in m["stages"].values() for n, h in {**e.get("trace", {}).get("files", {}), **{k: v["hash"] for k, v in e.get("trace", {}).get("modules", {}).items()}}.items()} for _, m, _ in (a, b)]
    yield from named("modules and files", *found)


def packages(a: Side, b: Side) -> Iterator[Row]:
    """Versions of packages."""
    yield from named("packages", *({**m["packages"], **{n: v for e in m["stages"].values() for n, v in e.get("trace", {}).get("packages", {}).items()}} for _, m, _ in (a, b)))


def ends(a: Side, b: Side) -> Iterator[Row]:
    """How each stage ended, and its seconds."""
    for stage in dict.fromkeys([*a[1]["stages"], *b[1]["stages"]]):
        old, new = (m["stages"].get(stage, {"status": "not there"}) for _, m, _ in (a, b))
        before, now = [manifest.words(e) + (f", {e['seconds']:.0f} s" if "seconds" in e else "") for e in (old, new)]
        yield Row("stages", stage, before, now, same=None if {old["status"], new["status"]} <= {"succeeded", "skipped"} else old["status"] == new["status"])


def data(a: Side, b: Side) -> Iterator[Row]:
    """Tables that the stages handed on: rows, columns, and of each column what moved."""
    old, new = stages.artifacts(a[0]), stages.artifacts(b[0])
    for name in [n for n in old if n in new and {old[n].kind, new[n].kind} <= {"table", "tables"} and old[n].content != new[n].content]:
        frames = [store.read_artifact(f, k[name]) for f, k in ((a[0], old), (b[0], new))]
        yield from named("data", *({f"{name}: rows": len(f), f"{name}: columns": f.shape[1]} for f in frames))
        moved = [*named("data", *({f"{name}.{c}": summary(f[c]) for c in f.columns} for f in frames))]
        yield from moved[:SHOWN]
        if len(moved) > SHOWN:
            yield Row("data", f"{name}: more columns", "", "", False, f"{len(moved) - SHOWN} more")


def summary(column: Any) -> str:
    """A column in a few figures: its type, its mean or the number of its values, what is missing."""
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(column) and column.notna().any()
    middle = f"mean {number(float(column.mean()))}" if numeric else f"{column.astype(str).nunique():,} values"
    return f"{column.dtype}, {middle}, {column.isna().mean():.1%} missing"


def logged(a: Side, b: Side) -> Iterator[Row]:
    """Numbers that the stages logged; without an interval nobody can tell whether a difference matters."""
    sides = [{f"{s}.{n}": v for s, e in m["stages"].items() for n, v in e.get("logged", {}).items()} for _, m, _ in (a, b)]
    for row in named("logged numbers", *sides):
        yield Row(row.section, row.name, row.old, row.new, None, "no interval to judge it by")


def measured(a: Side, b: Side) -> Iterator[Row]:
    """The review's metrics, with whether a difference is more than noise."""
    found = [{r["metric"]: r for r in store.read_artifact(f, known["metrics"]).data.to_dict("records")} if "metrics" in (known := stages.artifacts(f)) else {} for f, _, _ in (a, b)]
    paired = gains(a, b, [n for n in found[0] if n in found[1]]) if all(found) else {}
    for name in [n for n in found[0] if n in found[1]]:
        old, new = (f[name] for f in found)
        before, now = [f"{number(m['value'])} [{number(m['low'])}, {number(m['high'])}]" for m in (old, new)]
        if old["value"] == new["value"]:
            yield Row("metrics", name, before, now, same=True, says="equal")
        elif name in paired:
            gain = paired[name]
            clear = gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
            better = "better" if (gain.value or 0) > 0 else "worse"
            yield Row("metrics", name, before, now, same=False if clear else None, says=f"{better} by {gain} on the same rows: {'more than' if clear else 'no more than'} noise")
        else:
            apart = old["low"] is not None and new["low"] is not None and (old["low"] > new["high"] or new["low"] > old["high"])
            yield Row("metrics", name, before, now, same=False if apart else None, says="other rows: " + ("the intervals lie apart" if apart else "the intervals overlap, so nobody can tell"))


def gains(a: Side, b: Side, names: list[str]) -> dict[str, Any]:
    """How much better the new run is, by metric, where both judged the same rows; empty where they did not."""
    from mlops_kit import metrics

    found = [stages.artifacts(f) for f, _, _ in (a, b)]
    if not all("judged_scores" in f for f in found):
        return {}
    config = b[2]
    keys = [*config.id] or ["row_id"]
    old, new = (store.read_artifact(f, k["judged_scores"]) for (f, _, _), k in zip((a, b), found, strict=True))
    if not set(keys) <= set(old) & set(new) or not old[[*keys, config.target]].equals(new[[*keys, config.target]]):
        return {}
    blocks = new[config.time].dt.tz_convert(config.timezone).dt.date if config.time else None
    return metrics.paired_differences([n for n in names if n in metrics.METRICS], new[config.target], new["score"], old["score"], blocks, config.review.draws, config.seed)


SECTIONS = (parameters, settings, packages, modules, data, measured, logged, ends)


def code(old: Path, new: Path, book: str) -> str:
    """How the code cells of a notebook differ, as nbdime says it; empty if they do not."""
    files = [f / "notebooks" / f"{book}.ipynb" for f in (old, new)]
    if not all(f.exists() for f in files):
        return ""
    cells = [[c["source"] for c in params.code_cells(f) if not ADDED & set(c["metadata"].get("tags", []))] for f in files]
    if cells[0] == cells[1]:
        return ""
    import nbdime
    from nbdime.prettyprint import PrettyPrintConfig, pretty_print_notebook_diff
    from nbformat.v4 import new_code_cell, new_notebook

    a, b = (new_notebook(cells=[new_code_cell(s, id=f"cell{n}") for n, s in enumerate(c)]) for c in cells)
    out = io.StringIO()
    pretty_print_notebook_diff(book, book, a, nbdime.diff_notebooks(a, b), PrettyPrintConfig(out=out, use_git=False, use_diff=False, use_color=False))
    return out.getvalue()


def figures(old: Path, new: Path) -> list[tuple[str, str, str]]:
    """Figures of one stage and title that are not alike: title, old and new as SVG."""

    def drawn(run: Path) -> dict[tuple[str, str], str]:
        shown = [(s, f) for s, r in stages.records(run).items() for f in r["shown"] if f["figure"] and (run / f["figure"]).exists()]
        return {(s, f["title"]): (run / f["figure"]).read_text(encoding="utf-8") for s, f in shown}

    a, b = drawn(old), drawn(new)
    return [(f"{s}: {t}", a[s, t], b[s, t]) for s, t in a if (s, t) in b and a[s, t] != b[s, t]]


def identical(old: Path, new: Path) -> list[Same]:
    """Stage by stage, whether what a run handed on and logged is what another one did."""
    found = []
    for stage, record in stages.records(old).items():
        there = stages.records(new).get(stage)
        if there is None or not record.get("done"):
            found += [Same(stage, "", False, "was not run again")] if record.get("done") else []
            continue
        for name, artifact in record["artifacts"].items():
            again = there["artifacts"].get(name)
            if again is None:
                found.append(Same(stage, name, False, "was not written again"))
            elif artifact["content"] is None:
                found.append(Same(stage, name, None, "a record of the world outside"))
            else:
                same = artifact["content"] == again["content"]
                found.append(Same(stage, name, same, artifact["content"][:12] if same else f"{artifact['content'][:12]} → {again['content'][:12]}"))
        for name, value in record["logged"].items():
            again = there["logged"].get(name)
            found.append(Same(stage, name, value == again, str(value) if value == again else f"{value} → {again}"))
    return found


def text(found: Comparison) -> str:
    """The comparison for a terminal."""
    from mlops_kit.pipeline.keeping import aligned

    marks = {True: "●", False: "▲", None: "○"}
    lines = [found.sentence]
    for section in dict.fromkeys(r.section for r in found.rows):
        lines += ["", section, aligned([(f"  {marks[r.same]}", r.name, short(r.old), "→" if r.old or r.new else "", short(r.new), r.says) for r in found.rows if r.section == section])]
    return "\n".join([*lines, *(f"\n{diff}" for diff in found.code.values())])


def short(value: str, limit: int = 60) -> str:
    """A value that fits into a column."""
    line = " ".join(value.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def markdown(found: Comparison) -> str:
    """The comparison for a pull request."""

    def cell(value: str) -> str:
        return short(value, 100).replace("|", "\\|").replace("<", "&lt;")

    marks = {True: "=", False: "**≠**", None: "~"}
    lines = [f"### Run {found.new} against {found.old}", "", found.sentence]
    for section in dict.fromkeys(r.section for r in found.rows):
        rows = [f"| {marks[r.same]} | {cell(r.name)} | {cell(r.old)} | {cell(r.new)} | {cell(r.says)} |" for r in found.rows if r.section == section]
        lines += ["", f"<details><summary>{section} ({len(rows)})</summary>", "", "| | | before | now | |", "|---|---|---|---|---|", *rows, "", "</details>"]
    for book, diff in found.code.items():
        lines += ["", f"<details><summary>code of {book}</summary>", "", "~~~~diff", diff.rstrip(), "~~~~", "", "</details>"]
    return "\n".join(lines) + "\n"


def page(found: Comparison) -> str:
    """The comparison as an HTML page of its own."""
    from mlops_kit.pipeline.report import render

    marks = {True: ("●", "good"), False: ("▲", "watch"), None: ("○", "faint")}
    sections = {s: [{**vars(r), "mark": marks[r.same][0], "colour": marks[r.same][1]} for r in found.rows if r.section == s] for s in dict.fromkeys(r.section for r in found.rows)}
    return render("diff.html", c=found, sections=sections)
