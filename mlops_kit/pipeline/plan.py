"""Which stages have to run, and why: each is held against what earlier runs recorded of it.

A stage is skipped when some earlier run has it with all that it used unchanged and its outputs intact; so a
reverted edit is skipped again. A stage whose inputs are still to be made is decided when they are: if
they come out equal, it is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from mlops_kit import stage as stages
from mlops_kit.config import After, Project, duration_text, order
from mlops_kit.pipeline import fingerprint, manifest

DONE = ("succeeded", "skipped")
NOT_CHOSEN = "not chosen"
BRANCHES = "branches"  # folder of a run in which the runs of its branches stand


@dataclass(frozen=True)
class Decision:
    """What is to be done with a stage: run, skip, or depends (on inputs that are not made yet).

    ``why`` gives the reasons; ``origin`` is the run whose files a skipped stage takes over, ``entry`` what
    that run's manifest says of it.
    """

    stage: str
    action: str
    why: tuple[str, ...] = ()
    origin: Path | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The reasons as one line."""
        if self.action == "skip":
            return f"unchanged since {self.origin.name}" if self.origin else ""
        more = f" (and {len(self.why) - 3} more)" if len(self.why) > 3 else ""
        return "; ".join(self.why[:3]) + more


class History:
    """The recorded runs, the newest first, each manifest read once and only when it is asked for."""

    def __init__(self, project: Project, but: Path | None = None) -> None:
        found = [*stages.runs(project.reports), *(p.parent for p in project.reports.glob(f"*/{BRANCHES}/*/manifest.json"))]
        self.folders = sorted((f for f in found if f != but), key=lambda f: f.name, reverse=True)
        self.read: dict[Path, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for folder in self.folders:
            if folder not in self.read:
                self.read[folder] = manifest.read(folder)
            yield folder, self.read[folder]

    def of(self, stage: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The runs in which a stage ended well, with what they say of it."""
        for folder, made in self:
            entry = made["stages"].get(stage, {})
            if entry.get("status") in DONE and entry.get("trace"):
                yield folder, entry


def decide(now: fingerprint.Now, history: History, stage: str, values: Mapping[str, Any], inputs: Mapping[str, str | None], force: bool = False) -> Decision:
    """Whether a stage runs.

    Parameters
    ----------
    values : dict
        The parameters that it would be given.
    inputs : dict
        Content of each artifact there is to read; None for one that is not made yet.
    """
    held = now.project.config.stages[stage]
    if force or held.rerun == "always":
        return Decision(stage, "run", ("forced",) if force else ("always runs",))
    best: tuple[str, ...] = ()
    for folder, entry in history.of(stage):
        old = entry["trace"]
        why = [] if held.rerun == "never" else [*islice(fingerprint.differences(now, stage, values, inputs, old), 20)]
        why += fingerprint.broken(folder, entry["artifacts"], now.hashes, held.writes) if not why else []
        if not why and isinstance(held.rerun, After) and (age := aged(entry)) > held.rerun.after:
            return Decision(stage, "run", (f"its last run is {duration_text(age)} old, over {duration_text(held.rerun.after)}",))
        if not why:
            waits = held.rerun != "never" and any(inputs.get(name, "") is None for name in old["inputs"])
            return Decision(stage, "depends" if waits else "skip", (), folder, entry)
        best = best or tuple(why)
    return Decision(stage, "run", best or ("it has not been run yet",))


def aged(entry: Mapping[str, Any]) -> timedelta:
    """How long ago a stage really ran, to the minute."""
    age = datetime.now(UTC) - datetime.fromisoformat(entry["started"])
    return timedelta(minutes=age // timedelta(minutes=1))


def contents(entry: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of what a stage hands on; records, which differ by nature, are left out."""
    return {n: a["content"] for n, a in entry.get("artifacts", {}).items() if a.get("content")}


def make(project: Project, chosen: list[str], values: Mapping[str, Mapping[str, Any]], force: bool = False, hashes: fingerprint.Hashes | None = None) -> list[Decision]:
    """The plan: a decision for each chosen stage, in their order; nothing is run or written."""
    now, history = fingerprint.Now(project, hashes), History(project)
    inputs: dict[str, str | None] = {}
    found = []
    for stage in order(project.config.stages):
        if stage not in chosen:
            inputs |= next((contents(e) for _, e in history.of(stage)), {})
            continue
        made = decide(now, history, stage, values[stage], inputs, force)
        if made.action == "skip":
            inputs |= contents(made.entry)
        else:
            names = [*project.config.stages[stage].writes, *next((e["artifacts"] for _, e in history.of(stage)), {})]
            inputs |= dict.fromkeys(names)
        if made.action == "depends":
            made = Decision(stage, "depends", tuple(f"`{n}`" for n in made.entry["trace"]["inputs"] if inputs.get(n, "") is None), made.origin, made.entry)
        found.append(made)
    now.hashes.save()
    return found


def nothing_to_do(project: Project, plan: list[Decision], history: History) -> dict[str, Any] | None:
    """The latest run of the same two moments, if all of a plan is skipped and that run has it all."""
    wanted = [m.isoformat() if m else None for m in (project.config.as_of, project.config.until)]
    same = next(((f, m) for f, m in history if [m["as_of"], m["until"]] == wanted and not m.get("branch")), None)
    if same is None or any(d.action != "skip" for d in plan):
        return None
    folder, made = same
    entries = made["stages"]
    whole = all(entries.get(d.stage, {}).get("status") in DONE and (d.origin == folder or entries[d.stage].get("fingerprint") == d.entry.get("fingerprint")) for d in plan)
    return {**made, "nothing_to_do": True} if whole else None
