"""The evidence behind a review: what each tab after the first shows, from what the runs stored.

To add a tab: 1. a function here from the page to HTML, 2. its key in ``TABS`` and its name in ``review.TABS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mlops_kit import decisions
from mlops_kit.dashboards import draw, theme
from mlops_kit.dashboards.theme import Html, card, grid, guarded, join, tag, words
from mlops_kit.dashboards.versions import Version
from mlops_kit.metrics import METRICS
from mlops_kit.results import Interval, number, percent

if TYPE_CHECKING:
    import pandas as pd

    from mlops_kit.dashboards.review import Review

WORDS = {"fine": "good", "far below": "act", "cannot tell": "watch"}


def stored(version: Version, name: str, span: int = 12, title: str = "") -> Html:
    """A stored table as a card: its title, its sentence, its columns that are worth seeing, its notes."""
    found = version.table(name)
    return card(title or found.title, theme.stored(found), note=found.sentence, span=span)


def title(metric: str) -> str:
    """A metric's name as it begins a line."""
    return theme.title(METRICS[metric].title if metric in METRICS else metric)


def intervals(version: Version) -> dict[str, str]:
    """Each metric of a version with its interval, as text."""
    rows = version.table("metrics").frame().to_dict("records")

    def known(value: Any) -> float | None:
        return None if value is None or value != value else float(value)

    return {str(r["metric"]): str(Interval(known(r["value"]), known(r["low"]), known(r["high"]))) for r in rows}


def apart(page: Review, span: int = 12) -> Html:
    """Two versions' own numbers side by side, where they were not judged on the same rows."""
    assert page.other is not None
    mine, other = intervals(page.mine), intervals(page.other)
    rows = [(title(m), said, other.get(m, "")) for m, said in mine.items()]
    numbers = [(n.title, n.value, next((o.value for o in page.other.numbers.items if o.title == n.title), "")) for n in page.mine.numbers.items if n.title not in {title(m) for m in mine}]
    note = f"The two were not judged on the same rows, so no difference is measured: part of what differs below may be the rows. Version {page.mine.number} was compared with {f'version {page.mine.opponent}' if page.mine.opponent else 'none'}."
    return card(f"Version {page.mine.number} beside version {page.other.number}", theme.table(("", f"version {page.mine.number}", f"version {page.other.number}"), [*numbers, *rows], label="Both versions' numbers"), note=note, span=span)


def calibration(page: Review) -> Html:
    """What is seen where the model says so, beside what the other version has on the same rows."""
    found = page.mine.table("calibration")
    data: pd.DataFrame = found.frame()
    names = list(dict.fromkeys(data["model"]))
    parts = {str(n): data[data["model"] == n] for n in names}
    mine, shares = parts[names[0]], page.project.config.task == "binary"
    levels = [0, 0.25, 0.5, 0.75, 1] if shares else draw.ticks(float(data[["said", "seen", "low"]].min().min()), float(data[["said", "seen", "high"]].max().max()))
    word = percent if shares else number
    lines = named([(points(parts[n]), "faint", str(n)) for n in names[:0:-1]] + [(points(mine), "blue", f"version {page.mine.number}")], levels)
    most = float(mine["share"].max()) or 1.0
    picture = draw.curve(
        lines, f"Seen against said by {', '.join(names)}", [(v, word(v)) for v in levels], levels, word, size=(430, 236), diagonal=True,
        band=[(float(r["said"]), float(r["low"]), float(r["high"])) for r in mine.to_dict("records") if r["low"] == r["low"]], bars=[(float(r["said"]), float(r["share"]) / most) for r in mine.to_dict("records")],
    )  # fmt: skip
    row = page.project.config.row
    if shares:
        return card("When it says 30 %, is it 30 %?", picture, note=f"Share {page.project.config.target} against the prediction; dashed: perfect; columns: how many {row}s it says so of.", span=5)
    return card("Does it mean what it says?", picture, note=f"Mean {page.project.config.target} against the prediction; dashed: perfect; columns: how many rows it says so of.", span=5)


def named(lines: list[tuple[list[tuple[float, float | None]], str, str]], levels: Sequence[float]) -> list[draw.Line]:
    """Lines with their names beside their ends; where two ends are close, the higher name goes up and the lower down."""
    span, ends, out = levels[-1] - levels[0], [made[-1][1] or 0.0 for made, _, _ in lines], []
    close = len(ends) > 1 and max(ends) - min(ends) < 0.09 * span
    for (made, colour, name), end in zip(lines, ends, strict=True):
        room, higher = made[-1][0] - levels[0] < 0.85 * span, end == max(ends)
        below = (-12 if higher else 20) if not room else (-4 if higher else 14) if close else 4
        out.append(draw.Line(made, colour, name=name, below=below, anchor="start" if room else "end"))
    return out


def points(part: pd.DataFrame) -> list[tuple[float, float | None]]:
    """A model's calibration as points."""
    return [(float(said), float(seen)) for said, seen in zip(part["said"], part["seen"], strict=True)]


def quality(page: Review) -> Html:
    """How good it is: every metric, line by line against the other version, and what a decision costs."""
    return grid(guarded("How good is it?", lambda: metrics(page)), guarded("Line by line", lambda: stored(page.mine, "against")), guarded("What does a decision cost?", lambda: stored(page.mine, "costs")))


def metrics(page: Review) -> Html:
    """Every metric with its interval, the simple models' and the other version's own."""
    found = page.mine.table("metrics")
    other = intervals(page.other) if page.other else {}
    heads = ["Metric", f"version {page.mine.number}", "a linear model", "a constant", *([f"version {page.other.number}, on its own rows"] if page.other else [])]
    mine = intervals(page.mine)
    rows = [(title(r["metric"]), mine[r["metric"]], r.get("baseline_linear"), r.get("baseline_constant"), *([other.get(r["metric"], "")] if page.other else [])) for r in found.frame().to_dict("records")]
    return card(found.title, theme.table(heads, rows, right=range(1, len(heads)), label="Metrics"), *(tag("<p class=note>{}</p>", n) for n in found.notes), note=found.sentence)


def simple(page: Review, note: str, span: int) -> Html:
    """Every metric beside the simple models', where there is no other version."""
    mine = intervals(page.mine)
    rows = [(title(r["metric"]), mine[r["metric"]], r.get("baseline_linear"), r.get("baseline_constant")) for r in page.mine.table("metrics").frame().to_dict("records")]
    return card("Is it better than a simple model?", theme.table(("Metric", f"version {page.mine.number}", "a linear model", "a constant"), rows, right=[1, 2, 3], label="Simple models"), note=note, span=span)


def slices(page: Review) -> Html:
    """Where it is weaker: the groups as intervals about the whole, and as a table."""

    def make() -> Html:
        found = page.mine.table("slices")
        data = found.frame()
        known = [r for r in data.to_dict("records") if r["low"] is not None and r["low"] == r["low"]]
        whole = next((r["value"] - r["gap"] if METRICS[page.project.config.headline].greater_is_better else r["value"] + r["gap"] for r in known), None)
        drawn = [(r["slice"], float(r["low"]), float(r["value"]), float(r["high"]), f"{number(float(r['value']))} · {r['rows']:,} rows", WORDS.get(r["word"], "soft")) for r in known]
        picture = draw.ranges(drawn, float(whole), f"all: {number(float(whole))}", "Groups with their intervals") if whole is not None else Html("")
        return card(found.title, picture, theme.stored(found), note=found.sentence)

    return grid(guarded("Where is it weaker?", make))


def reasons(page: Review) -> Html:
    """What it goes by, and what it would say of a row if one of its columns were another."""

    def importance() -> Html:
        found = page.mine.table("importance")
        rows = [(str(r["feature"]), float(r["fall"]), number(float(r["fall"]))) for r in found.frame().head(20).to_dict("records")]
        return card(found.title, draw.bars(rows, "What the headline metric loses when a column is shuffled"), *(tag("<p class=note>{}</p>", n) for n in found.notes), note=found.sentence, span=6)

    return grid(guarded("What does it go by?", importance, 6), guarded("What if?", lambda: what_if(page), 6))


def what_if(page: Review) -> Html:
    """One row, one column: what it says for each value; both are chosen in the page, with no kernel asked."""
    found = page.mine.table("what_if")
    data = found.frame()
    rows, columns = list(dict.fromkeys(data["row"].astype(str))), list(dict.fromkeys(data["column"].astype(str)))
    if data.empty:
        return card(found.title, note=found.sentence, span=6)
    top = float(data[["score", "then"]].abs().max().max()) or 1.0
    tables = join(answer(str(row), str(column), part, top, page) for (row, column), part in data.groupby([data["row"].astype(str), data["column"].astype(str)], sort=False))
    lists = join([chooser("row", page.project.config.row.capitalize(), rows), chooser("column", "Column", columns)])
    return card(found.title, tag("<form class=choose>{}</form>", lists), tables, *(tag("<p class=note>{}</p>", n) for n in found.notes), note=found.sentence, span=6)


def chooser(key: str, name: str, values: list[str]) -> Html:
    """A list that shows one of the parts that stand in the page already."""
    return tag('<label>{} <select data-show=what-if name="{}">{}</select></label>', name, key, join(tag('<option value="{}">{}</option>', v, v) for v in values))


def answer(row: str, column: str, part: pd.DataFrame, top: float, page: Review) -> Html:
    """What it says of a row for each value of a column, with a bar each."""
    word = percent if page.project.config.task == "binary" else number
    first = part.iloc[0]
    made = [(str(r["if"]), tag('<span class=bar style="width:{:.0f}%"></span>', abs(r["then"]) / top * 100), word(float(r["then"]))) for r in part.to_dict("records")]
    said = tag("<p>It says <b>{}</b> of {} {}, where {} is {}.</p>", word(float(first["score"])), page.project.config.row, row, column, first["is"])
    return tag('<div data-in=what-if data-is="{}">{}{}</div>', f"{row}|{column}", said, theme.table((f"if {column} were", "", "it would say"), made, right=[2], kind="bars", label=f"What if {column} were another"))


def data(page: Review) -> Html:
    """What it learnt from: how rows were split, whether they keep the contract, which columns it sees."""
    version = page.mine
    return grid(
        guarded("How are the rows split?", lambda: stored(version, "split")), guarded("Do the rows keep the contract?", lambda: contract(version), 6),
        guarded("Which columns does it see?", lambda: columns(version), 6), guarded("What does the source hold?", lambda: stored(version, "overview")),
    )  # fmt: skip


def contract(version: Version) -> Html:
    """The contract's report, and how many rows were put aside."""
    from mlops_kit import contract as contracts  # noqa: F401 - its report is a kind of result that this module reads

    found = version.read("contract_report")
    put = version.artifacts.get("quarantine")
    rows = theme.frame(found.frame()) if len(found.frame()) else Html("")
    return card("Do the rows keep the contract?", rows, *(tag("<p class=note>{}</p>", n) for n in found.notes), tag("<p>{} put aside.</p>", theme.title(words(put.rows or 0, "row") if put else "nothing")), note=found.sentence, span=6)


def columns(version: Version) -> Html:
    """The features' content and names."""
    made = version.artifacts.get("features")
    names = list(version.read("recipe")["features"])
    told = f"{made.rows or 0:,} rows, content {made.content[:12]}." if made and made.content else ""
    return card("Which columns does it see?", tag("<p>{}</p>", join((tag("<code>{}</code>", n) for n in names), " ")), note=f"{words(len(names), 'column')}. {told}", span=6)


def lineage(page: Review) -> Html:
    """What it was made from, beside the other version: code, data, models, packages; and the pages of its notebooks."""
    pair = [page.mine, *([page.other] if page.other else [])]
    told = [dict(origin(v)) for v in pair]
    keys = list(dict.fromkeys(k for t in told for k in t))
    heads = ("", *(f"version {v.number}" for v in pair))
    return grid(
        card("What was it made from?", theme.table(heads, [(k, *(t.get(k, "") for t in told)) for k in keys], kind="wrap", label="Origin"), span=7),
        guarded("What can be opened?", lambda: books(page), 5), guarded("Which data went in, and came out?", lambda: hashes(page.mine)),
    )  # fmt: skip


def origin(version: Version) -> Iterator[tuple[str, str]]:
    """What a version's run was made from, in terms and words."""
    made, git, facts = version.manifest, version.manifest["git"], version.facts
    yield "run", f"{made['run']}{f', a sample of {version.sample:,} rows' if version.sample else ''}"
    yield "started", theme.moment(version.project, made["started"])
    yield "as of, until", f"{made['as_of'][:10]}, {made['until'][:10]}" if made.get("as_of") else "the table has no time"
    yield "commit", f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else "not under git"
    yield "model", facts["model_hash"][:12]
    yield "evidence", facts["evidence_hash"][:12]
    yield "note, seed", f"{made['note'] or 'none'}, {made['seed']}"
    yield from ((f"MLflow run of {stage}" if stage != "run" else "MLflow run", str(id)) for stage, id in made["mlflow"].items() if stage in {"run", "train"})
    yield "packages", ", ".join(f"{k} {v}" for k, v in made["packages"].items())


def books(page: Review) -> Html:
    """The pages of the run and of its notebooks."""
    run, made = page.mine.run, page.mine.manifest
    found = [("the run", run / "index.html", made["status"]), *((s, run / "notebooks" / f"{e['notebook']}.html", e["status"]) for s, e in made["stages"].items())]
    rows = [(theme.link(page.project, path, name, page.file) if path.exists() else name, status) for name, path, status in found]
    return card("What can be opened?", theme.table(("Page", "What became of it"), rows, label="Pages"), span=5)


def hashes(version: Version) -> Html:
    """Everything that the run stored, by content."""
    rows = [(a.stage, name.replace("_", " "), a.rows, (a.content or "a record")[:12]) for name, a in version.artifacts.items()]
    return card("Which data went in, and came out?", theme.table(("Stage", "What", "Rows", "Content"), rows, right=[2], label="Artifacts"), note="Equal content has an equal hash; a record is a fact about the world outside and has none.")


def history(page: Review) -> Html:
    """Who promoted what and when, and what was said of which version."""
    served = [(theme.moment(page.project, p.at), p.version, p.before or "", p.by, p.why, p.model_hash[:12]) for p in decisions.history(page.project)]
    said = [(theme.moment(page.project, o.at), o.version, o.word.replace("changes", "asked for changes"), o.by, o.why, o.model_hash[:12]) for o in decisions.opinions(page.project)]
    return grid(
        card("What served when?", theme.table(("When", "Version", "Before", "By", "Why", "Model"), served, label="Promotions") if served else Html(""), note=f"{words(len(served), 'promotion')}, the newest first."),
        card("Who said what?", theme.table(("When", "Version", "Word", "By", "Why", "Model"), said, label="Opinions") if said else Html(""), note=f"{words(len(said), 'opinion')}, the newest first."),
    )  # fmt: skip


def model_card(page: Review) -> Html:
    """The stored card, in a frame of its own that runs no script."""
    text: str = page.mine.read("card")
    frame = Html(f'<iframe sandbox title="Model card of version {escape(page.mine.number)}" srcdoc="{escape(text)}" loading=lazy></iframe>')
    return grid(card("Model card", frame, note=theme.link(page.project, page.mine.run / page.mine.artifacts["card"].path, "Open it by itself", page.file)))


TABS: dict[str, Callable[[Any], Html]] = {"quality": quality, "slices": slices, "reasons": reasons, "data": data, "lineage": lineage, "history": history, "card": model_card}
