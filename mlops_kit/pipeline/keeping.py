"""House-keeping: runs at a glance, what of them goes, and values that are never shown.

A run is removed whole: one rename takes it into a hidden folder where no reader looks, then it is
deleted there; what a kill leaves of it the next ``clean`` deletes. Runs share files by hard links, so
a file frees something only with its last link.

To add a reason why a run stays: a line in ``stays``. To add a form in which a secret may be written:
one in ``forms``.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from mlops_kit import stage as stages
from mlops_kit.config import Config, Project, Query, duration_text
from mlops_kit.pipeline import manifest, report
from mlops_kit.pipeline.fingerprint import used
from mlops_kit.pipeline.plan import BRANCHES
from mlops_kit.results import Interval, Verdicts

OBJECT = "kept file"  # of the code and data of then: many, and counted only
GONE = ".gone"  # folder of the runs that are being deleted
TEMPORARY = re.compile(
    r"\..+\.[a-z0-9_]{8}|\.reserve"
)  # as store names what it writes; the room that a manifest keeps
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}(-sample)?")  # of a run's folder
HOUR = 3600  # seconds after which what is half written is nobody's any more
IDLE = {"skipped", "not run"}  # stages that took no time of their own
VARIABLE = re.compile(r"\$\{?(\w+)")
URL = re.compile(
    r"[\w.+-]+://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?[^?]*(?:\?(?P<query>.*))?", re.S
)
PRIVATE = re.compile("pass|pwd|secret|token|key|sig", re.I)  # in the name of a URL's parameter
LEAST = 4  # characters of a value that is hidden; a shorter one would take words apart


def summaries(project: Project, last: int) -> list[dict[str, Any]]:
    """The last runs in short, the newest first; ``serves`` marks the one whose version serves."""
    found = [summary(project, run) for run in stages.runs(project.reports)[:last]]
    from mlops_kit import decisions

    promoted = decisions.history(project)
    serving = promoted[0].version if promoted else None
    first = min((p.at for p in promoted if p.version == serving), default="")
    maker = next(
        (f["run"] for f in found if serving and f["version"] == serving and f["started"] <= first),
        "",
    )
    return [{**f, "serves": f["run"] == maker} for f in found]


def summary(project: Project, run: Path) -> dict[str, Any]:
    """One run: verdict as its page words it, headline metric, seconds of work, stages, version, note."""
    made = manifest.read(run)
    entries = list(made["stages"].values())
    ended = Counter(e["status"] for e in entries)
    verdicts = stages.records(run).get("review", {}).get("verdicts", [])
    return {
        "run": made["run"],
        "started": made["started"],
        "status": made["status"],
        "verdict": report.headline(made, Verdicts.of(map(report.revived, verdicts)))[0],
        "metric": metric(run, project.config.headline),
        "seconds": round(sum(e.get("seconds", 0) for e in entries if e["status"] not in IDLE), 1),
        "ran": len(entries) - sum(ended[s] for s in IDLE),
        "skipped": ended["skipped"],
        "version": version(run, made),
        "note": made["note"],
    }


def metric(run: Path, name: str) -> dict[str, Any] | None:
    """A metric of a run with the ends of its interval, as its review filed it; None if it has not."""
    file = run / "artifacts" / "metrics.json"
    held = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if not isinstance(held, dict) or held.get("__kind__") != "Table":
        return None
    table = held["data"]["__frame__"]  # read plainly: a frame would load pandas
    rows = {r[0]: dict(zip(table["columns"], r, strict=True)) for r in table["rows"]}
    return (
        {"name": name, **{k: rows[name].get(k) for k in ("value", "low", "high")}}
        if name in rows
        else None
    )


def version(run: Path, made: dict[str, Any]) -> str | None:
    """The version that a run's own review registered or judged anew; None if its review was carried over."""
    file = run / "artifacts" / "version.json"
    if made["stages"].get("review", {}).get("status", "not run") in IDLE or not file.exists():
        return None
    number = json.loads(file.read_text(encoding="utf-8")).get("version")
    return None if number is None else str(number)


def told(found: list[dict[str, Any]]) -> str:
    """Runs as a table in text, a line a run."""
    rows = [("run", "verdict", "metric", "took", "stages", "version", "note")]
    for f in found:
        measured = (
            f"{f['metric']['name']} {Interval(*(f['metric'][k] for k in ('value', 'low', 'high')))}"
            if f["metric"]
            else ""
        )
        served = f"{f['version'] or ''}{' serves' if f['serves'] else ''}"
        rows.append(
            (
                f["run"],
                f["verdict"],
                measured,
                f"{f['seconds']:.0f} s",
                f"{f['ran']} run, {f['skipped']} skipped",
                served,
                " ".join(f["note"].split()),
            )
        )
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


@dataclass(frozen=True)
class Fate:
    """What becomes of a run, a leftover, a cached or a kept file, and why; ``freed`` counts bytes."""

    kind: str
    path: Path
    why: str
    goes: bool = True
    freed: int = 0


def clean(project: Project, dry: bool = False) -> list[Fate]:
    """Remove what ``keep`` of ``mlops.yaml`` says; ``dry`` only tells. One process at a time.

    Returns
    -------
    list of Fate
        What went, or would go, first; then the runs that stay.
    """
    if dry:
        return plan(project)
    from filelock import FileLock

    lock = project.path(".mlops") / "clean.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(lock)):
        fates = plan(project)
        for fate in fates:
            if fate.goes:
                remove(fate)
    return fates


def plan(project: Project) -> list[Fate]:
    """The fate of each run, of leftovers, of what is cached and of files kept for runs."""
    found = [(run, manifest.read(run)) for run in stages.runs(project.reports)]
    runs = [
        Fate(
            "run", run, why or f"older than {duration_text(project.config.keep.age)}", goes=not why
        )
        for (run, _), why in zip(found, stays(project, found), strict=True)
    ]
    idle = [
        f.path
        for f, (_, made) in zip(runs, found, strict=True)
        if not f.goes and made["status"] != "running"
    ]
    # the newest first, so that the table reads so; what an earlier kill left first of all, for it may have the name of a run
    goes = [
        *leftovers(project, idle),
        *(f for f in runs if f.goes),
        *outdated(project),
        *unneeded(project, [f.path for f in runs if not f.goes]),
    ]
    return [
        Fate(f.kind, f.path, f.why, True, size)
        for f, size in zip(goes, sizes(f.path for f in goes), strict=True)
    ] + [f for f in runs if not f.goes]


def stays(project: Project, found: list[tuple[Path, dict[str, Any]]]) -> Iterator[str]:
    """Why each run stays, in words; empty for one that nothing needs."""
    from mlops_kit import decisions

    keep = project.config.keep
    cutoff = (datetime.now(UTC) - keep.age).isoformat()
    needed, said = (
        served(project, cutoff),
        {o.version: o.word for o in reversed(decisions.opinions(project))},
    )
    full = next((run for run, made in found if not made["sample"]), None)
    for rank, (run, made) in enumerate(found):
        number = version(run, made) or ""
        reasons = {
            needed.get(number, ""): number in needed,
            "it is running": made["status"] == "running",
            "it waits for an approval": made["status"] == stages.WAITING
            and said.get(number) != "rejected",
            "the newest run" if rank == 0 else "the newest of all rows": rank == 0 or run == full,
            f"one of the newest {keep.runs}": rank < keep.runs,
            f"younger than {duration_text(keep.age)}": (made["ended"] or made["started"]) > cutoff,
        }
        yield next((words for words, holds in reasons.items() if holds), "")


def served(project: Project, cutoff: str) -> dict[str, str]:
    """Versions whose runs are needed, and why: the one that serves, the one to go back to, those whose answers may still be judged."""
    from mlops_kit import decisions

    promoted = decisions.history(project)
    if not promoted:
        return {}
    lately = {
        old.version: f"version {old.version} served until {new.at[:10]}"
        for new, old in pairwise(promoted)
        if new.at > cutoff
    }
    before = {p: f"rollback goes to version {p}" for p in [promoted[0].before] if p}
    return {**lately, **before, promoted[0].version: f"version {promoted[0].version} serves"}


def leftovers(project: Project, runs: list[Path]) -> list[Fate]:
    """What killed processes left: half-deleted runs, half-made ones, files half written. ``runs`` are those that are not running."""
    reports = project.reports
    cut = [
        p
        for p in reports.glob("*")
        if NAME.fullmatch(p.name) and not (p / manifest.FILE).exists() and old(p, HOUR)
    ]
    places = [
        (reports, "*"),
        (project.path(".mlops"), "*"),
        *((p, "**/*") for p in [*runs, reports / "draft"]),
    ]
    parts = {
        p: None
        for place, pattern in places
        for p in place.glob(pattern)
        if TEMPORARY.fullmatch(p.name) and old(p, HOUR)
    }
    return [
        Fate("leftover", p, why)
        for why, paths in (
            ("half deleted", (reports / GONE).glob("*")),
            ("half made", cut),
            ("half written", parts),
        )
        for p in paths
    ]


def outdated(project: Project) -> list[Fate]:
    """What is cached and was not written for long."""
    age = project.config.keep.cache
    return [
        Fate("cache", p, f"not written for {duration_text(age)}")
        for p in sorted(project.path(".mlops").glob("cache/*"))
        if old(p, age.total_seconds())
    ]


def unneeded(project: Project, runs: list[Path]) -> list[Fate]:
    """Code and data, kept to make a run again, that none of the runs that stay has used; none while one is running, which has yet to say."""
    made = [
        manifest.read(f)
        for run in runs
        for f in (run, *(p.parent for p in run.glob(f"{BRANCHES}/*/{manifest.FILE}")))
    ]
    if any(m["status"] == "running" for m in made):
        return []
    needed = {
        h for m in made for e in m["stages"].values() for h in used(e.get("trace", {})).values()
    }
    return [
        Fate(OBJECT, p, "used by no run that stays")
        for p in sorted(project.path(".mlops").glob("objects/*/*"))
        if p.name not in needed and old(p, HOUR)
    ]


def old(path: Path, seconds: float) -> bool:
    """Whether nothing of a file or folder was written for this long; what is gone meanwhile was its writer's."""
    try:
        return time.time() - max(p.lstat().st_mtime for p in (path, *path.rglob("*"))) > seconds
    except FileNotFoundError:
        return False


def sizes(paths: Iterable[Path]) -> Iterator[int]:
    """The bytes that each of these frees if they are removed in this order."""
    left: dict[tuple[int, int], int] = {}
    for path in paths:
        freed = 0
        for known in (p.lstat() for p in (path, *path.rglob("*"))):
            file = (known.st_dev, known.st_ino)
            left[file] = left.get(file, known.st_nlink) - 1
            freed += known.st_size if stat.S_ISREG(known.st_mode) and not left[file] else 0
        yield freed


def remove(fate: Fate) -> None:
    """Delete; a run is first renamed out of sight in one step."""
    path = fate.path
    if fate.kind == "run":
        (path.parent / GONE).mkdir(exist_ok=True)
        path = path.rename(path.parent / GONE / path.name)
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def accounts(project: Project, fates: list[Fate], dry: bool) -> str:
    """The fates as a table in text, and what they come to."""
    goes, kept = [f for f in fates if f.goes], sum(not f.goes for f in fates)
    rows = [
        (
            "goes" if f.goes else "stays",
            f.kind,
            os.path.relpath(f.path, project.root),
            f"{f.freed / 1e6:.1f} MB" if f.goes else "",
            f.why,
        )
        for f in fates
        if f.kind != OBJECT
    ]
    counts = Counter(f.kind for f in goes)
    what = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in counts.items()) or "nothing"
    return "\n".join(
        [
            *([aligned(rows)] if rows else []),
            f"{what} {'would go' if dry else 'gone'}, {sum(f.freed for f in goes) / 1e6:.1f} MB {'would be freed' if dry else 'freed'}; {'1 run stays' if kept == 1 else f'{kept} runs stay'}",
        ]
    )


def urls(config: Config) -> dict[str, str]:
    """The settings that may be URLs, as they were written."""
    asked = {
        "source": config.source,
        "labels": config.labels.source if config.labels else "",
        "database": config.database,
        "tracking": config.tracking,
    }
    return {key: value.url if isinstance(value, Query) else value for key, value in asked.items()}


def variables(project: Project) -> list[str]:
    """The environment variables that the project takes values from: secrets, tokens, parts of URLs."""
    config = project.config
    inside = [name for url in urls(config).values() for name in VARIABLE.findall(url)]
    return list(
        dict.fromkeys(
            filter(None, [*config.secrets, config.serve.token, config.dashboard.token, *inside])
        )
    )


def private(url: str) -> list[str]:
    """What of a URL is secret: its password, or who asks if there is none; such parameters; all of one that is a variable.

    >>> private("postgresql://${WHO}:${PW}@db/x?sslpassword=a"), private("${URL}"), private("reports/x.csv")
    (['${PW}', 'a'], ['${URL}'], [])
    """
    found = URL.fullmatch(url)
    if found is None:
        return [url] if re.fullmatch(r"\$\{?\w+\}?", url) else []
    parameters = [value for name, value in parse_qsl(found["query"] or "") if PRIVATE.search(name)]
    return [
        *filter(
            None, [found["password"] or (found["user"] if "$" in (found["user"] or "") else "")]
        ),
        *parameters,
    ]


def secrets(project: Project) -> Iterator[tuple[str, str]]:
    """Name and value of each secret; a URL's own password goes by the name of its setting."""
    config = project.config
    for name in (*config.secrets, config.serve.token, config.dashboard.token):
        yield name, os.environ.get(name, "")
    for key, url in urls(config).items():
        for name in VARIABLE.findall(" ".join(private(url))):
            yield name, os.environ.get(name, "")
        for part in private(os.path.expandvars(url)):
            yield from ((key, part), (key, unquote(part)))


def forms(value: str) -> set[str]:
    """A value as it may stand in text: plain, in a URL, in Python's quotes, in HTML; and each of these in JSON."""
    found = {
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        repr(value)[1:-1],
        html.escape(value),
    }
    return found | {
        json.dumps(form, ensure_ascii=plain)[1:-1] for form in found for plain in (True, False)
    }


def scrubber(project: Project) -> Callable[[str], str]:
    """A function that puts ``•••NAME•••`` where the value of a secret stands in a text, however it is written there.

    Secrets are the variables under ``secrets`` of ``mlops.yaml``, those of the tokens, and passwords in
    the URLs of source, labels, database and tracking. A value of fewer than four characters is left.
    """
    known: dict[str, str] = {}
    for name, value in secrets(project):
        for form in forms(value.strip()) if len(value.strip()) >= LEAST else ():
            known.setdefault(form, name)
    if not known:
        return str
    pattern = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))))
    return lambda text: pattern.sub(lambda found: f"•••{known[found[0]]}•••", text)
