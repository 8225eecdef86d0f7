"""Check that every number on a page is one that the project stored, as the page formats it.

The text of a page is cut into the units that a reader sees (a paragraph, a cell, a list item). Of
each unit the times and the numbers are taken out. A number is explained by

1. a rule that says what the sentence counts (``COUNT_RULES``), and then it has to be that count;
2. a value of the database, of the project's settings, or of the run that the page is about;
3. a constant of the texts (``CONSTANTS``), each with what it means.

What is left is returned. Times have to be stored timestamps in the project's time zone.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import sqlalchemy as sa
import yaml
from pydantic import BaseModel

from mlops_kit.core.files import hash_json
from mlops_kit.core.formatting import format_money, format_number, format_percent
from mlops_kit.dashboards.monitoring_data import DEFAULT_WINDOW_COUNT
from mlops_kit.dashboards.text_formats import (
    format_clock_time,
    format_day,
    format_event_time,
    format_period,
    format_short_time,
)
from mlops_kit.db.engine import database_exists, query_records
from mlops_kit.db.tables import (
    ApprovalRecord,
    Base,
    IncidentRecord,
    LabelRecord,
    PredictionRecord,
    PromotionRecord,
    WatchRecord,
    WindowRecord,
)
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_artifacts
from mlops_kit.stages.monitor.limits import compute_max_drop
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stats.metrics import METRICS
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

HIDDEN_TAGS = {"script", "style", "svg", "iframe", "title", "textarea", "select", "noscript"}
VOID_TAGS = {"meta", "link", "br", "img", "input", "hr"}
BLOCK_TAGS = {
    *("p", "div", "td", "th", "h1", "h2", "h3", "h4", "li", "dt", "dd", "tr", "table", "section"),
    *("header", "summary", "figcaption", "button", "label", "form", "dialog", "main", "details"),
}
MONTHS = "January February March April May June July August September October November December"
_MONTH = "|".join([*MONTHS.split(), *(name[:3] for name in MONTHS.split())])
_CLOCK = r"(?:, \d\d:\d\d)?"
_DAY = rf"\d{{1,2}} (?:{_MONTH})(?: \d{{4}})?{_CLOCK}"
TIMES = re.compile(
    rf"\d{{1,2}} – \d{{1,2}} (?:{_MONTH})\b|{_DAY} – {_DAY}|{_DAY} – \d\d:\d\d|{_DAY}"
    r"|\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?"
)
AGES = re.compile(r"\d+ (?:min|h|days) ago|\d+ (?:min|h|days) since the endpoint")
RUN_NAMES = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
HASHES = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,64}\b")
PACKAGES = re.compile(r"\b[a-z][\w-]* \d+(?:\.\d+){2,}\b")
NUMERIC_TEXT = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
NUMBERS = re.compile(r"(?<![\w.\-])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?%?(?!\w|-\w)")
# Numbers that are no results, each with what it means.
CONSTANTS = {
    r"95%": "level of the intervals",
    r"p99": "the percentile of a response time",
    r"at most 5% of versions": "level of the comparison with the predecessor",
    r"90% within": "the percentile of a delay",
    r"eight days in ten": "the range of usual days",
    r"in the last 24 hours": "the period of the activity",
    r"In the last 7 days": "the period in which requests are counted",
    r"newest 20,000 at most": "the number of labels whose delay is measured",
}
_MAX_VOLUME_DAYS = 60  # of the chart of the prediction volume
_DAY_LENGTH = timedelta(days=1)
_MAX_EXACT_INTEGER = 10**15


class UnexplainedNumber(NamedTuple):
    """A number or time on a page that nothing stored explains."""

    number: str
    text: str


class _TextReader(HTMLParser):
    """Cuts a page into units; text of charts and scripts is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.units: list[str] = []
        self._parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HIDDEN_TAGS and tag not in VOID_TAGS:
            self._hidden.append(tag)
        if tag in BLOCK_TAGS:
            self._end_unit()
        label = dict(attrs).get("aria-label")
        if label and not self._hidden:
            self.units.append(label)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        if tag in BLOCK_TAGS:
            self._end_unit()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data)

    def _end_unit(self) -> None:
        text = " ".join("".join(self._parts).split())
        if text:
            self.units.append(text)
        self._parts = []


def read_units(page: str) -> list[str]:
    """Read the pieces of text of a page, in their order."""
    reader = _TextReader()
    reader.feed(str(page).replace("</span>", "</span> "))
    reader.close()
    reader.handle_starttag("p", [])
    return reader.units


def read_frames(page: str) -> list[str]:
    """Read the documents in the frames of a page."""
    return [html.unescape(source) for source in re.findall(r'srcdoc="([^"]*)"', page)]


def _iterate_values(value: Any) -> Iterator[Any]:
    """Iterate over the numbers and texts in a JSON value, and the lengths of its lists."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _iterate_values(item)
            if isinstance(item, str):
                yield f"{name} {item}"
    elif isinstance(value, (list, tuple)):
        yield len(value)
        for item in value:
            yield from _iterate_values(item)
    elif isinstance(value, str) and value[:1] in "{[":
        try:
            yield from _iterate_values(json.loads(value))
        except ValueError:
            yield value
    elif value is not None and not isinstance(value, bool):
        yield value


def _iterate_key_numbers(value: Any) -> Iterator[str]:
    """Iterate over the texts of the key numbers in a JSON value: they are stored as texts."""
    if isinstance(value, list):
        for item in value:
            yield from _iterate_key_numbers(item)
    elif isinstance(value, dict):
        if value.get("__kind__") in {"KeyNumber", "Number"}:
            yield from (value["value"], *value.get("details", value.get("beside", [])))
        for item in value.values():
            yield from _iterate_key_numbers(item)


def format_variants(value: float) -> set[str]:
    """Return a number as the pages may format it, without sign, unit and separators."""
    size = abs(value)
    if math.isnan(size) or math.isinf(size):
        return set()
    is_exact = float(size).is_integer() and size < _MAX_EXACT_INTEGER
    texts = {format_number(float(size)), f"{size:.2f}", f"{size:.0f}", f"{size:.1f}", f"{size:g}"}
    texts |= {f"{size:.3f}", f"{size:.4g}", f"{size:.3g}", f"{size:.2g}", str(size)}
    texts |= {format_percent(size), format_percent(size, 1), format_percent(size, 2)}
    if is_exact:
        texts.add(str(int(size)))
    texts.add(format_money(size, "$").lstrip("$"))
    return {text.lstrip("<>- ").replace(",", "") for text in texts}


@dataclass
class StoredValues:
    """The values of a project that its pages show.

    Parameters
    ----------
    runs : tuple of Path
        The folders of the runs whose values count.
    trusts_texts : bool
        Whether numbers within stored texts count: for results that a test made up as texts.

    Attributes
    ----------
    captions : set of str
        Sentences whose numbers need not be stored in another form: those below figures, those that
        close a stage, and what people wrote into the model card.
    """

    project: Project
    runs: tuple[Path, ...]
    trusts_texts: bool = False
    numbers: set[str] = field(default_factory=set)
    times: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    captions: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.zone = ZoneInfo(self.project.config.timezone)
        self._add(json.loads(self.project.config.model_dump_json()))
        self._add_settings(self.project.config)
        card = self.project.root / "card.yaml"
        if card.exists():
            self.captions |= set(yaml.safe_load(card.read_text(encoding="utf-8")).values())
        for run in self.runs:
            self._add_run(run)
        self._add_row_changes()
        if database_exists(self.project):
            self._add_limits()
        self.captions = {" ".join(str(text).split()) for text in self.captions if text}
        if database_exists(self.project):
            self._add_database()

    def _add(self, value: Any) -> None:
        for item in _iterate_values(value):
            if isinstance(item, str):
                self.texts.append(item)
                self._add_time(item)
                if self.trusts_texts:
                    self.numbers |= {n.replace(",", "") for n in NUMBERS.findall(item)}
                    self.times |= set(TIMES.findall(item))
                if NUMERIC_TEXT.fullmatch(item):
                    plain = item.replace(",", "")
                    self.numbers |= {plain.lstrip("-"), *format_variants(float(plain))}
            elif isinstance(item, (int, float)):
                self.numbers |= format_variants(item)

    def _add_settings(self, settings: Any) -> None:
        """Add the durations of the settings in each unit, and the shares as percentages."""
        for value in dict(settings).values():
            if isinstance(value, timedelta):
                for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)):
                    self.numbers |= format_variants(value / unit)
            elif isinstance(value, BaseModel):
                self._add_settings(value)

    def _add_time(self, text: str) -> None:
        if not re.match(r"\d{4}-\d\d-\d\d", text):
            return
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            return
        local = time.replace(tzinfo=self.zone) if time.tzinfo is None else time
        self.add_moment(local)
        self.times |= {text[:10], text[:16], text[:19], text[:16].replace("T", " ")}

    def add_moment(self, time: datetime) -> None:
        """Add a moment as the pages write it; a period may end on the day before."""
        self.times |= {
            format_event_time(time, self.zone),
            format_clock_time(time, self.zone),
            format_day(time, self.zone),
            format_short_time(time, self.zone),
        }
        local = time.astimezone(self.zone)
        self.times |= {f"{local:%Y-%m-%d}", f"{local:%Y-%m-%d %H:%M}", f"{local:%-d %B}"}

    def _add_run(self, run: Path) -> None:
        evidence = {
            name: artifact.content
            for name, artifact in list_artifacts(run).items()
            if artifact.stage == "review" and artifact.content
        }
        self.texts.append(hash_json(evidence))
        files = [run / "manifest.json", *(run / "stages").glob("*.json")]
        for file in [*files, *(run / "artifacts").glob("*.json")]:
            stored = json.loads(file.read_text(encoding="utf-8"))
            self._add(stored)
            for text in _iterate_key_numbers(stored):
                plain = text.replace(" %", "%")
                self.numbers |= {n.replace(",", "") for n in NUMBERS.findall(plain)}
        for file in (run / "stages").glob("*.json"):
            shown = json.loads(file.read_text(encoding="utf-8")).get("shown", [])
            self.captions |= {result["sentence"] for result in shown if result["sentence"]}
        for entry in json.loads((run / "manifest.json").read_text(encoding="utf-8"))[
            "stages"
        ].values():
            self.captions.add(entry.get("sentence", ""))

    def _add_row_changes(self) -> None:
        """Add by how many rows two runs differ, which the changes since the champion say."""
        counts = []
        for run in self.runs:
            stages = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["stages"]
            features = stages.get("prepare", {}).get("artifacts", {}).get("features")
            if features:
                counts.append(features["rows"])
        for first in counts:
            for second in counts:
                self.numbers.add(str(abs(first - second)))

    def _add_limits(self) -> None:
        """Add the largest accepted drop below each reference performance."""
        config = self.project.config
        metric = METRICS[config.headline_metric]
        for window in _load(self.project, WindowRecord):
            reference = WindowMonitoring.from_json(window.monitoring_json).reference
            if reference is None and window.realized_json is not None:
                realized = WindowPerformance.from_json(window.realized_json).realized.data
                values = realized.set_index("metric")["reference"]
                reference = ReferencePerformance(float(values[config.headline_metric]))
            if reference is not None and reference.value is not None:
                limit = compute_max_drop(config.monitor.max_drop, metric, reference)
                self.numbers |= format_variants(limit)

    def _add_database(self) -> None:
        self._add_predictions()
        for mapper in Base.registry.mappers:
            if mapper.class_.__tablename__ in {"predictions", "labels"}:
                continue
            for record in query_records(self.project, sa.select(mapper.class_)):
                values = {a.key: getattr(record, a.key) for a in mapper.column_attrs}
                self._add(values)
                self._add_periods(values)

    def _add_predictions(self) -> None:
        """Add what pages count of predictions and labels: by day, by outcome, and delays."""
        watches = query_records(self.project, sa.select(WatchRecord))
        if not watches:
            return
        interval = self.project.config.watch.interval
        until = datetime.fromisoformat(watches[0].watched_until)
        self.add_moment(until + interval)
        predictions = query_records(self.project, sa.select(PredictionRecord))
        labels = query_records(self.project, sa.select(LabelRecord))
        times = {p.id: datetime.fromisoformat(p.event_time) for p in predictions if p.event_time}
        days = Counter((until - time) // _DAY_LENGTH for time in times.values() if time < until)
        counts = [days[day] for day in range(max(days, default=0) + 1)]
        for count in counts:
            self.numbers |= format_variants(count)
        for last in range(1, min(len(counts), 60) + 1):
            low, high = np.quantile(counts[:last], [0.1, 0.9])
            self.numbers |= {f"{low:.0f}", f"{high:.0f}", str(int(low)), str(int(high))}
        recent = [
            p for p in predictions if p.id in times and until - times[p.id] <= 7 * _DAY_LENGTH
        ]
        for count in Counter((p.origin, p.version) for p in recent).values():
            self.numbers |= format_variants(count)
        for count in Counter(label.outcome for label in labels).values():
            self.numbers |= format_variants(count)
        current = [label for label in labels if label.is_current and label.prediction_id in times]
        delays = sorted(
            (datetime.fromisoformat(label.known_at) - times[label.prediction_id]) / _DAY_LENGTH
            for label in current
        )
        for share in (0.5, 0.9):
            if delays:
                self.numbers.add(f"{delays[int(len(delays) * share)]:.1f}")
        for newest in (
            max(times.values(), default=None),
            max((times[label.prediction_id] for label in current), default=None),
            max((datetime.fromisoformat(p.scored_at) for p in recent), default=None),
        ):
            if newest is not None:
                self.add_moment(newest)

    def _add_periods(self, values: dict[str, Any]) -> None:
        """Add the period of a window or of an incident."""
        for first, last in (("start", "end"), ("opened_at", "closed_at")):
            start, end = values.get(first), values.get(last)
            if start and end:
                self.times.add(format_period(start, end, self.zone))

    @cached_property
    def joined_texts(self) -> str:
        """All stored texts, to look up names in."""
        return "\n".join(self.texts)


CountRule = tuple[str, Callable[[re.Match[str]], int | None]]


def find_unexplained(
    page: str, stored: StoredValues, count_rules: Iterable[CountRule] = ()
) -> list[UnexplainedNumber]:
    """Find the numbers and times of a page that nothing stored explains.

    Parameters
    ----------
    count_rules : iterable of tuple
        A pattern whose first group is a number, and what that number has to be; None: whatever.
    """
    unexplained = []
    for unit in read_units(page):
        unexplained.extend(_check_unit(unit, stored, count_rules))
    return list(dict.fromkeys(unexplained))


def _check_unit(
    unit: str, stored: StoredValues, count_rules: Iterable[CountRule]
) -> Iterator[UnexplainedNumber]:
    """Take out what is explained, from whole sentences to single numbers; yield the rest."""
    rest = unit.replace(" %", "%")
    for caption in sorted(stored.captions, key=len, reverse=True):
        rest = rest.replace(caption, " ")
    for pattern, count in count_rules:
        for match in re.finditer(pattern, unit):
            expected = count(match)
            shown = 0 if match[1].lower() == "no" else int(match[1].replace(",", ""))
            if expected is not None and shown != expected:
                yield UnexplainedNumber(f"{match[1]} instead of {expected}", unit)
            rest = rest.replace(match[0], " ")
    for constant in CONSTANTS:
        rest = re.sub(constant, " ", rest)
    rest = AGES.sub(" ", rest)
    yield from _find_unknown(TIMES, rest, unit, stored.times.__contains__)
    rest = TIMES.sub(" ", rest)
    for name in (RUN_NAMES, HASHES, PACKAGES):
        yield from _find_unknown(name, rest, unit, stored.joined_texts.__contains__)
        rest = name.sub(" ", rest)
    yield from _find_unknown(
        NUMBERS, rest, unit, lambda number: number.replace(",", "") in stored.numbers
    )


def _find_unknown(
    pattern: re.Pattern[str], text: str, unit: str, is_known: Callable[[str], bool]
) -> Iterator[UnexplainedNumber]:
    for match in pattern.finditer(text):
        if not is_known(match[0]):
            yield UnexplainedNumber(match[0], unit)


CHECK_COUNTS = re.compile(
    r"(\d+) checks? of the (\S+) stage(?:, (\d+) of them of the model itself)?: ([^.]*)\."
)


def check_check_counts(page: str, run: Path, champion_checks: int = 1) -> list[str]:
    """Compare every sentence that counts checks with the verdicts of the run.

    Parameters
    ----------
    champion_checks : int
        How many checks of the review compare with the champion, which the model card leaves out.
    """
    problems = []
    for unit in read_units(page):
        for count, stage, own_count, outcomes in CHECK_COUNTS.findall(unit):
            record = json.loads((run / "stages" / f"{stage}.json").read_text(encoding="utf-8"))
            verdicts = record["verdicts"]
            if own_count:
                name = "verdicts.json"
                stored = json.loads((run / "artifacts" / name).read_text(encoding="utf-8"))
                if int(own_count) != len(stored["items"]) != len(verdicts) - champion_checks:
                    problems.append(f"{own_count} instead of {len(stored['items'])}: {unit}")
                counted = Counter(verdict["outcome"] for verdict in stored["items"])
            else:
                counted = Counter(verdict["outcome"] for verdict in verdicts)
            shown = {}
            for part in outcomes.split(", "):
                number, _, outcome = part.partition(" ")
                shown[outcome] = int(number)
            if int(count) != len(verdicts) or shown != dict(counted):
                problems.append(f"instead of {len(verdicts)} {dict(counted)}: {unit}")
    return problems


def make_count_rules(project: Project) -> list[CountRule]:
    """Make the rules of what the sentences of both dashboards count in the database."""
    promotions = _load(project, PromotionRecord)
    approvals = _load(project, ApprovalRecord)
    incidents = _load(project, IncidentRecord)
    windows = sorted(_load(project, WindowRecord), key=lambda window: window.start)
    is_open = [incident for incident in incidents if incident.closed_at is None]

    watches = _load(project, WatchRecord)
    watched_days = 0
    for watch in watches:
        period = datetime.fromisoformat(watch.watched_until) - datetime.fromisoformat(
            watch.watched_from
        )
        watched_days = max(1, -(-period // _DAY_LENGTH))

    shown_windows = min(len(windows), DEFAULT_WINDOW_COUNT)

    def always(count: int) -> Callable[[re.Match[str]], int | None]:
        return lambda _: count

    return [
        (r"([Nn]o|\d+) promotions?(?: yet|, the newest first)?\.", always(len(promotions))),
        (r"([Nn]o|\d+) decisions?(?: yet|, the newest first)?\.", always(len(approvals))),
        (r"([Nn]o|\d+) incidents?(?: yet|, open ones first)?\. An", always(len(incidents))),
        (
            r"(\d+) windows?(?:, the newest first)?\. The",
            always(shown_windows),
        ),
        (r"and (\d+) more in the tab Incidents", always(len(is_open) - 4)),
        (r"in the last (\d+) days? until", always(min(watched_days, _MAX_VOLUME_DAYS))),
        (r"([\d,]+) saved in \d+ days?", always(_sum_savings(windows))),
    ]


def _load(project: Project, table: Any) -> list[Any]:
    if not database_exists(project):
        return []
    return query_records(project, sa.select(table).where(table.model == project.config.name))


def _sum_savings(windows: list[Any]) -> int:
    """Sum what the windows of the last thirty days with labels saved."""
    saved = []
    for window in windows:
        realized = json.loads(window.realized_json) if window.realized_json else {}
        if realized.get("saved") is not None:
            saved.append((window, realized["saved"]))
    if not saved:
        return 0
    end = datetime.fromisoformat(saved[-1][0].end)
    return round(
        sum(
            amount
            for window, amount in saved
            if window is saved[-1][0]
            or end - datetime.fromisoformat(window.start) <= 30 * _DAY_LENGTH
        )
    )


def find_contradictions(page: str) -> list[str]:
    """Find what a monitoring page says in two places and not alike.

    Nothing but the page is read, so that it can be asked of a page that is built while the watch
    writes. An empty page, or one that cannot be read, contradicts nothing.
    """
    units = read_units(page)
    text = " | ".join(units)
    problems: list[str] = []

    def compare(name: str, *patterns: str) -> None:
        """Compare what the first group of each pattern finds; each has to occur."""
        found = [re.search(pattern, text) for pattern in patterns]
        values = [match[1] if match else "nothing" for match in found]
        if len(set(values)) != 1:
            problems.append(f"{name}: {' and '.join(values)}")

    if "Nothing is monitored yet" in text:
        return []
    compare(
        "end of the data", r"data until (.+?) · refreshed", r"In the last 7 days until (.+?)\. \|"
    )
    if "No window has ended yet" in text or "No data yet" in text:
        return problems
    period = re.search(
        r"windows?(?:, the newest first)?\. The intervals.*?Below the estimate \| (.+?) \|", text
    )
    newest = period[1] if period else "no period"
    rows = re.search(r"(\d+) windows?(?:, the newest first)?\. The", text)
    table = re.search(r'aria-label="Performance by window".*?</table>', page, re.DOTALL)
    row_count = table[0].count("<tr>") - 1 if table else 0
    if rows is None or int(rows[1]) != row_count:
        problems.append(f"windows: {rows and rows[1]} and {row_count} rows")
    for match in re.finditer(r"checks? of the window (.+?):", text):
        if match[1] != newest:
            problems.append(f"newest window: {newest} and {match[1]}")
    problems.extend(_compare_state(text, table[0] if table else ""))
    problems.extend(_compare_incidents(page, text))
    return problems


def _compare_state(text: str, table: str) -> list[str]:
    """Compare the state and the sentence of a page with the newest labels in its table."""
    problems = []
    labeled = []
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]:
        cells = [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row.split("<td")[1:]]
        cells = [cell.partition(">")[2] if ">" in cell else cell for cell in cells]
        if "not due" not in cells[3]:
            labeled.append(cells)
    drop = re.search(r"dropped to ([\d.]+); the reference is ([\d.]+)", text)
    if drop and (not labeled or drop[1] not in " ".join(labeled[0]).replace("[", " ").split()):
        problems.append(f"realized performance: {drop[1]} and {labeled[:1]}")
    is_healthy = "● Healthy" in text
    if is_healthy and (drop or "Performance matches its reference" not in text):
        problems.append("healthy beside another sentence")
    if "○ No labels yet" in text and labeled and any(cells[4] for cells in labeled[:1]):
        problems.append(f"no labels yet and {labeled[0]}")
    if "▲ Critical" in text and "Nothing to do" in text:
        problems.append("critical and nothing to do")
    return problems


def _compare_incidents(page: str, text: str) -> list[str]:
    """Compare the count, the sentence and the table of incidents."""
    table = re.search(r'aria-label="Incidents".*?</table>', page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", table[0], re.DOTALL)[1:] if table else []
    count = re.search(r"([Nn]o|\d+) incidents?(?: yet|, open ones first)?\. An", text)
    problems = []
    if count is None or (0 if count[1] in {"no", "No"} else int(count[1])) != len(rows):
        problems.append(f"incidents: {count and count[1]} and {len(rows)} rows")
    open_count = sum("● closed" not in row for row in rows)
    several = re.search(r"but (\d+) incidents are open", text)
    if several and int(several[1]) > open_count:
        problems.append(f"open incidents: {several[1]} and {open_count}")
    says_none = "None. Drift opens an incident only if it lasts" in text
    if says_none != (open_count == 0):
        problems.append(f"open incidents: none is {says_none}, and {open_count} are in the table")
    return problems
