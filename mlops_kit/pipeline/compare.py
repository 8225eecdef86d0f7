"""Two runs side by side: what was given, what was run, what came out, and whether that is more than noise.

``compare`` reads two run folders and says it as data; ``show``, ``text``, ``markdown`` and ``page`` word it.
Code cells are compared by nbdime. Numbers of the review that both runs judged on the same rows are compared
row by row (a paired bootstrap, ``mlops_kit.metrics``); otherwise by their intervals; a number without one is
shown and not judged. What a stage used is compared where both runs have traced it.

To add a section: a function that yields ``Row`` s, and its name in ``SECTIONS``.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.config import Config, Project
from mlops_kit.errors import KitError
from mlops_kit.late import pd
from mlops_kit.pipeline import fingerprint, manifest, params
from mlops_kit.results import Interval, number, percent, plain

ADDED = {
    "injected-parameters",
    "papermill-error-cell-tag",
}  # tags of cells that a run has put into a notebook
SHOWN = 12  # columns of a table that are told of at most
MOVED = 0.05  # standard deviations by which a column's mean has to move to be told of
MISSING = 0.001  # the same for the share that is missing
MARKS = {
    False: ("▲", "watch", "differs"),
    True: ("●", "good", "no clear difference"),
    None: ("◆", "faint", "cannot tell"),
}
ABSENT = "not there"


@dataclass(frozen=True)
class Row:
    """One thing in both runs; ``same`` is True where nothing differs beyond noise, None where it cannot be told."""

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
    def said(self) -> str:
        """What differs, in a sentence."""
        count = {s: sum(r.same is False for r in rows) for s, rows in self.sections.items()}
        told = [f"{n} in {s}" for s, n in count.items() if n]
        unsure = sum(r.same is None for r in self.rows)
        clear = [
            f" {r.name}: {r.says}."
            for r in self.rows
            if r.section == "metrics" and r.same is False and r.says
        ]
        return (
            ("differences: " + ", ".join(told) if told else "nothing differs beyond noise")
            + (f"; of {unsure} more it cannot be told." if unsure else ".")
            + "".join(clear)
        )

    @property
    def sentence(self) -> str:
        """Which runs, and what differs."""
        return f"{self.new} against {self.old}: {self.said}"

    @property
    def sections(self) -> dict[str, list[Row]]:
        """The rows by section."""
        return {
            s: [r for r in self.rows if r.section == s]
            for s in dict.fromkeys(r.section for r in self.rows)
        }

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "old": self.old,
            "new": self.new,
            "sentence": self.sentence,
            "rows": [vars(r) for r in self.rows],
            "code": self.code,
        }


@dataclass(frozen=True)
class Same:
    """Whether an artifact or a logged number of a stage is identical in two runs; None where it is a record of the world outside."""

    stage: str
    name: str
    same: bool | None
    what: str


def compare(project: Project, old: Path, new: Path) -> Comparison:
    """What differs between two runs of a project."""
    a, b = ((f, manifest.read(f), recorded(project, f)) for f in (old, new))
    pairs = {
        s: [m["stages"][s]["notebook"] for _, m, _ in (a, b)]
        for s in b[1]["stages"]
        if s in a[1]["stages"]
    }
    books = {
        now: diff
        for before, now in pairs.values()
        if (diff := code(old / "notebooks" / f"{before}.ipynb", new / "notebooks" / f"{now}.ipynb"))
    }
    rows = [*chain.from_iterable(section(a, b) for section in SECTIONS)]
    rows += [
        Row(
            "code",
            book,
            "",
            "",
            False,
            f"{sum(line[:1] == s for line in diff.splitlines() for s in '+-')} lines",
        )
        for book, diff in books.items()
    ]
    return Comparison(old.name, new.name, rows, books, figures(old, new))


def recorded(project: Project, run: Path) -> Config:
    """The config of a run; the project's own where this version does not know all that the run was given."""
    try:
        return stages.recorded(project, run).config
    except KitError:
        return project.config


Side = tuple[Path, dict[str, Any], Config]


def named(
    section: str, old: dict[str, Any], new: dict[str, Any], *, absent: str = ABSENT
) -> Iterator[Row]:
    """Values by name that differ."""
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name) or (name in old) != (name in new):
            before, now = (
                str(plain(side[name])) if name in side else absent for side in (old, new)
            )
            yield Row(section, name, before, now)


def traced(a: Side, b: Side, part: str) -> list[dict[str, Any]]:
    """A part of what was used by the stages that both runs have traced."""
    both = [
        s
        for s, e in a[1]["stages"].items()
        if e.get("trace") and b[1]["stages"].get(s, {}).get("trace")
    ]
    return [
        {n: v for s in both for n, v in m["stages"][s]["trace"].get(part, {}).items()}
        for _, m, _ in (a, b)
    ]


def common(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """What both know."""
    return [{n: v for n, v in side.items() if n in old and n in new} for side in (old, new)]


def parameters(a: Side, b: Side) -> Iterator[Row]:
    """Parameters of stages."""
    yield from named(
        "parameters",
        *(
            {f"{s}.{n}": v for s, e in m["stages"].items() for n, v in e.get("params", {}).items()}
            for _, m, _ in (a, b)
        ),
    )


def settings(a: Side, b: Side) -> Iterator[Row]:
    """Settings as mlops.yaml and the command line gave them, and of the rest those that stages of both runs have read."""

    def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            yield from (
                flat(value, f"{prefix}{key}.")
                if isinstance(value, dict) and value
                else [(f"{prefix}{key}", value)]
            )

    used = common(*(dict(flat(u)) for u in traced(a, b, "settings")))
    yield from named(
        "settings",
        *(
            {**dict(flat(store.read_json(side[0] / "config.json"))), **u}
            for side, u in zip((a, b), used, strict=True)
        ),
        absent="the default",
    )


def surroundings(a: Side, b: Side) -> Iterator[Row]:
    """Versions of packages and of Python, and environment variables (that they differ, not what they hold)."""
    pythons = [
        " ".join(
            sorted(
                {
                    e["trace"]["python"]
                    for e in m["stages"].values()
                    if e.get("trace", {}).get("python")
                }
            )
        )
        for _, m, _ in (a, b)
    ]
    versions = [
        {**m["packages"], **u, **({"Python": p} if all(pythons) else {})}
        for (_, m, _), u, p in zip((a, b), common(*traced(a, b, "packages")), pythons, strict=True)
    ]
    yield from named("packages", *versions)
    for row in named("environment", *traced(a, b, "env")):
        yield Row(row.section, row.name, "", "", False, "another value")


def modules(a: Side, b: Side) -> Iterator[Row]:
    """Modules and files that the stages used."""
    found = [
        fingerprint.used({"files": f, "modules": m})
        for f, m in zip(traced(a, b, "files"), traced(a, b, "modules"), strict=True)
    ]
    yield from named(
        "modules and files",
        *({n: h[:12] if len(str(h)) == 64 else h for n, h in side.items()} for side in found),
    )


def ends(a: Side, b: Side) -> Iterator[Row]:
    """How each stage ended, and its seconds (which differ from run to run and are not judged)."""
    for stage in dict.fromkeys([*a[1]["stages"], *b[1]["stages"]]):
        old, new = (m["stages"].get(stage, {"status": ABSENT}) for _, m, _ in (a, b))
        before, now = [
            manifest.words(e) + (f", {e['seconds']:.0f} s" if "seconds" in e else "")
            for e in (old, new)
        ]
        yield Row(
            "stages",
            stage,
            before,
            now,
            {old["status"], new["status"]} <= {"succeeded", "skipped"}
            or old["status"] == new["status"],
        )


def data(a: Side, b: Side) -> Iterator[Row]:
    """Tables that the stages handed on: rows, columns, and of each column what moved; records are not compared."""
    old, new = (
        {
            n: k
            for n, k in stages.artifacts(f).items()
            if k.kind in {"table", "tables"} and k.content
        }
        for f, _, _ in (a, b)
    )
    yield from named(
        "data",
        *(
            {n: f"{k.rows:,} rows, {k.columns} columns" for n, k in side.items()}
            for side in (old, new)
        ),
    )
    for name in [n for n in old if n in new and old[n].content != new[n].content]:
        told = [
            *moved(name, store.read_artifact(a[0], old[name]), store.read_artifact(b[0], new[name]))
        ]
        yield from told[:SHOWN] or [
            Row(
                "data",
                f"{name}: values",
                "",
                "",
                False,
                f"other values or another order; no column's mean moved by {percent(MOVED)} of its standard deviation",
            )
        ]
        if len(told) > SHOWN:
            yield Row("data", f"{name}: other columns", "", "", False, f"{len(told) - SHOWN} more")


def moved(table: str, old: pd.DataFrame, new: pd.DataFrame) -> Iterator[Row]:
    """Columns of a table that came, went, changed their type or moved by more than a trifle."""
    for name in dict.fromkeys([*old.columns, *new.columns]):
        if name not in old or name not in new or not alike(old[name], new[name]):
            before, now = (summary(f[name]) if name in f else ABSENT for f in (old, new))
            yield Row("data", f"{table}.{name}", before, now)


def alike(old: pd.Series, new: pd.Series) -> bool:
    """Whether a column has the type it had, and has moved by no more than a trifle."""
    if old.dtype != new.dtype or abs(old.isna().mean() - new.isna().mean()) >= MISSING:
        return False
    if not pd.api.types.is_numeric_dtype(old):
        return summary(old) == summary(new)
    return not abs(float(old.mean()) - float(new.mean())) > MOVED * float(
        old.astype(float).std(ddof=0)
    )


def summary(column: pd.Series) -> str:
    """A column in a few figures: its type, its mean or span or the number of its values, what is missing."""
    if not column.notna().any():
        return f"{column.dtype}, empty"
    if pd.api.types.is_numeric_dtype(column):
        middle = f"mean {number(float(column.mean()))}"
    else:
        middle = (
            f"{column.min()} to {column.max()}"
            if pd.api.types.is_datetime64_any_dtype(column)
            else f"{column.astype(str).nunique():,} values"
        )
    return f"{column.dtype}, {middle}, {percent(float(column.isna().mean()), 1)} missing"


def logged(a: Side, b: Side) -> Iterator[Row]:
    """Numbers that the stages logged, but for those judged with the metrics; without an interval nobody can tell whether a difference matters."""
    judged = {f"review.{n}" for side in (a, b) for n in metrics_of(side)}
    sides = [
        {
            k: v
            for s, e in m["stages"].items()
            for n, v in e.get("logged", {}).items()
            if (k := f"{s}.{n}") not in judged
        }
        for _, m, _ in (a, b)
    ]
    for row in named("logged numbers", *sides):
        yield Row(row.section, row.name, row.old, row.new, None, "no interval to judge it by")


def metrics_of(side: Side) -> dict[str, dict[str, Any]]:
    """The review's metrics by name: value, low, high."""
    known = stages.artifacts(side[0])
    return (
        {
            r["metric"]: r
            for r in store.read_artifact(side[0], known["metrics"]).data.to_dict("records")
        }
        if "metrics" in known
        else {}
    )


def measured(a: Side, b: Side) -> Iterator[Row]:
    """The review's metrics, with whether a difference is more than noise."""
    found = [metrics_of(side) for side in (a, b)]
    paired = gains(a, b, [*common(*found)[0]])
    for name in dict.fromkeys([*found[0], *found[1]]):
        old, new = (f.get(name) for f in found)
        before, now = (
            f"{number(m['value'])} [{number(m['low'])}, {number(m['high'])}]" if m else ABSENT
            for m in (old, new)
        )
        same, says = beyond_noise(old, new, paired.get(name)) if old and new else (False, "")
        yield Row("metrics", name, before, now, same, says)


def beyond_noise(
    old: dict[str, Any], new: dict[str, Any], gain: Interval | None
) -> tuple[bool | None, str]:
    """Whether a metric is the same but for noise, None if it cannot be told, and why; ``gain`` is the paired one."""
    if old["value"] == new["value"]:
        return True, "equal"
    if (
        gain is not None
        and gain.value is not None
        and gain.low is not None
        and gain.high is not None
    ):
        clear = gain.low > 0 or gain.high < 0
        size = gain if gain.value > 0 else Interval(-gain.value, -gain.high, -gain.low)
        return (
            not clear,
            f"{'better' if gain.value > 0 else 'worse'} by {size} on the same rows, {'more than' if clear else 'no more than'} noise",
        )
    if any(pd.isna(m[end]) for m in (old, new) for end in ("low", "high")):
        return None, "no interval to judge it by"
    apart = old["low"] > new["high"] or new["low"] > old["high"]
    return (
        (False, "not the same rows: the intervals lie apart")
        if apart
        else (None, "not the same rows: the intervals overlap, so nobody can tell")
    )


def gains(a: Side, b: Side, names: list[str]) -> dict[str, Interval]:
    """How much better the new run is, by metric, where both judged the same rows, in whatever order; empty where they did not."""
    from mlops_kit import metrics

    found = [stages.artifacts(f) for f, _, _ in (a, b)]
    if not names or not all("judged_scores" in f for f in found):
        return {}
    config = b[2]
    keys = [*config.id] or ["row_id"]
    old, new = (
        store.read_artifact(f, k["judged_scores"])
        for (f, _, _), k in zip((a, b), found, strict=True)
    )
    if not {*keys, config.target, "score"} <= set(old) & set(new):
        return {}
    old, new = (f.sort_values(keys, ignore_index=True) for f in (old, new))
    if not old[[*keys, config.target]].equals(new[[*keys, config.target]]):
        return {}
    blocks = (
        pd.to_datetime(new[config.time], utc=True).dt.tz_convert(config.timezone).dt.date
        if config.time in new
        else None
    )
    return metrics.paired_differences(
        [n for n in names if n in metrics.METRICS],
        new[config.target],
        new["score"],
        old["score"],
        blocks,
        config.review.draws,
        config.seed,
    )


SECTIONS = (measured, logged, parameters, settings, surroundings, modules, data, ends)


def code(old: Path, new: Path) -> str:
    """How the code cells of a notebook differ, as nbdime says it; empty if they do not."""
    if not (old.exists() and new.exists()):
        return ""
    cells = [
        [
            c["source"]
            for c in params.code_cells(f)
            if not ADDED & set(c["metadata"].get("tags", []))
        ]
        for f in (old, new)
    ]
    if cells[0] == cells[1]:
        return ""
    import nbdime
    from nbdime.prettyprint import PrettyPrintConfig, pretty_print_notebook_diff
    from nbformat.v4 import new_code_cell, new_notebook

    a, b = (
        new_notebook(cells=[new_code_cell(s, id=f"cell{n}") for n, s in enumerate(c)])
        for c in cells
    )
    out = io.StringIO()
    pretty_print_notebook_diff(
        old.stem,
        new.stem,
        a,
        nbdime.diff_notebooks(a, b),
        PrettyPrintConfig(out=out, use_git=False, use_diff=False, use_color=False),
    )
    head, mark, body = out.getvalue().partition("## ")  # the head names files and times
    return mark + body if mark else head


def figures(old: Path, new: Path) -> list[tuple[str, str, str]]:
    """Figures of a stage and title that are not alike: title, old and new as SVG, empty where there is none."""

    def drawn(run: Path) -> dict[tuple[str, str], str]:
        shown = [
            (s, f)
            for s, r in stages.records(run).items()
            for f in r["shown"]
            if f["figure"] and (run / f["figure"]).exists()
        ]
        return {(s, f["title"]): (run / f["figure"]).read_text(encoding="utf-8") for s, f in shown}

    a, b = drawn(old), drawn(new)
    return [
        (f"{s}: {t}", a.get((s, t), ""), b.get((s, t), ""))
        for s, t in dict.fromkeys([*a, *b])
        if a.get((s, t)) != b.get((s, t))
    ]


def identical(old: Path, new: Path) -> list[Same]:
    """Stage by stage, whether what a run handed on and logged is what another one did; records of the world outside are not compared."""
    found, again = [], stages.records(new)
    for stage, record in stages.records(old).items():
        if not record.get("done"):
            continue
        if stage not in again:
            found.append(Same(stage, "", False, "was not run again"))
            continue
        there = again[stage]
        made = [{n: a["content"] for n, a in r["artifacts"].items()} for r in (record, there)]
        found += [
            one(stage, n, *(side.get(n, ABSENT) for side in made))
            for n in dict.fromkeys([*made[0], *made[1]])
        ]
        found += [
            one(stage, n, *(str(r["logged"].get(n, ABSENT)) for r in (record, there)))
            for n in dict.fromkeys([*record["logged"], *there["logged"]])
        ]
    return found


def one(stage: str, name: str, old: str | None, new: str | None) -> Same:
    """Whether one content or logged number is the same; of a record there is no content."""
    if old is None and new is None:
        return Same(stage, name, None, "a record of the world outside")
    before, now = (v[:12] if v and len(v) == 64 else v or "a record" for v in (old, new))
    return Same(stage, name, old == new, before if old == new else f"{before} → {now}")


def show(found: Comparison) -> None:
    """Print the comparison: tables in a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        print(text(found))
        return
    colours = {"watch": "yellow", "good": "green", "faint": "dim"}
    console.print(Text(found.sentence, style="bold"))
    for section, rows in found.sections.items():
        grid = Grid("", "", "before", "now", "", title=Text(section), title_justify="left")
        for r in rows:
            mark, colour, _ = MARKS[r.same]
            grid.add_row(
                Text(mark, style=colours[colour]), *map(Text, (r.name, r.old, r.new, r.says))
            )
        console.print(grid)
    for book, diff in found.code.items():
        console.print(Text(f"\n{book}\n{diff}"))


def text(found: Comparison) -> str:
    """The comparison as plain lines."""
    from mlops_kit.pipeline.keeping import aligned

    lines = [found.sentence, "; ".join(f"{mark} {word}" for mark, _, word in MARKS.values())]
    for section, rows in found.sections.items():
        lines += [
            "",
            section,
            aligned(
                [
                    (
                        f"  {MARKS[r.same][0]}",
                        r.name,
                        short(r.old),
                        "→" if r.old or r.new else "",
                        short(r.new),
                        r.says,
                    )
                    for r in rows
                ]
            ),
        ]
    return "\n".join([*lines, *(f"\n{book}\n{diff}" for book, diff in found.code.items())])


def short(value: str, limit: int = 60) -> str:
    """A value that fits into a column."""
    line = " ".join(value.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def markdown(found: Comparison) -> str:
    """The comparison for a pull request; nothing in it can leave its cell or its block of code."""

    def escaped(value: str) -> str:
        return re.sub(r"([\\`*\[<|~&])", r"\\\1", value)

    def cell(value: str) -> str:
        return escaped(short(value, 100))

    lines = [
        f"### Run {found.new} against {found.old}",
        "",
        escaped(found.said[:1].upper() + found.said[1:]),
    ]
    for section, rows in found.sections.items():
        told = [
            f"| {MARKS[r.same][0]} {MARKS[r.same][2]} | {' | '.join(map(cell, (r.name, r.old, r.new, r.says)))} |"
            for r in rows
        ]
        lines += [
            "",
            f"<details><summary>{section} ({len(rows)})</summary>",
            "",
            "| | | before | now | |",
            "|---|---|---|---|---|",
            *told,
            "",
            "</details>",
        ]
    for book, diff in found.code.items():
        fence = "~" * max(4, 1 + max(map(len, re.findall("~+", diff)), default=0))
        lines += [
            "",
            f"<details><summary>code of {html.escape(book)}</summary>",
            "",
            f"{fence}diff",
            diff.rstrip(),
            fence,
            "",
            "</details>",
        ]
    return "\n".join(lines) + "\n"


def page(found: Comparison) -> str:
    """The comparison as an HTML page of its own."""
    from mlops_kit.pipeline.report import render

    return render("diff.html", c=found, marks=MARKS)
