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
from mlops_kit import store
from mlops_kit.config import After, Project, duration_text, order
from mlops_kit.errors import KitError
from mlops_kit.pipeline import fingerprint, manifest, params

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
        if self.action == "skip" and self.origin and self.origin.name != "draft":
            return "; ".join([f"unchanged since {self.origin.name}", *self.why])
        more = f" (and {len(self.why) - 3} more)" if len(self.why) > 3 else ""
        return "; ".join(self.why[:3]) + more


class History:
    """The recorded runs, the newest first, each manifest read once and only when it is asked for."""

    def __init__(self, project: Project, but: Path | None = None) -> None:
        found = [
            *stages.runs(project.reports),
            *(p.parent for p in project.reports.glob(f"*/{BRANCHES}/*/manifest.json")),
        ]
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


def decide(
    now: fingerprint.Now,
    history: History,
    stage: str,
    values: Mapping[str, Any],
    inputs: Mapping[str, str | None],
    force: bool = False,
) -> Decision:
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
        why = (
            []
            if held.rerun == "never"
            else [*islice(fingerprint.differences(now, stage, values, inputs, old), 20)]
        )
        why += (
            fingerprint.broken(folder, entry["artifacts"], now.hashes, held.writes)
            if not why
            else []
        )
        if not why and isinstance(held.rerun, After) and (age := aged(entry)) > held.rerun.after:
            return Decision(
                stage,
                "run",
                (
                    f"its last run is {duration_text(age)} old, over {duration_text(held.rerun.after)}",
                ),
            )
        if not why:
            waits = (
                ()
                if held.rerun == "never"
                else tuple(
                    f"`{n}`"
                    for n in dict.fromkeys([*old["inputs"], *old["files"]])
                    if inputs.get(n, "") is None
                )
            )
            back = tuple(
                f"`{n}` is put back"
                for n in fingerprint.displaced(now.project, entry["artifacts"], now.hashes)
            )
            return (
                Decision(stage, "depends", waits, folder, entry)
                if waits
                else Decision(stage, "skip", back, folder, entry)
            )
        best = best or tuple(why)
    if (done := by_hand(now, stage, values, inputs)) is not None:
        return done
    return Decision(stage, "run", best or (ended(history, stage),))


def ended(history: History, stage: str) -> str:
    """What there is to say of a stage that never ended well."""
    tried = next(
        (
            (f, e)
            for f, made in history
            if (e := made["stages"].get(stage, {})).get("status", "not run") != "not run"
        ),
        None,
    )
    if tried and tried[1]["status"] in DONE:
        return f"what it used in {tried[0].name} was not recorded"
    return (
        f"it has not ended well yet: {manifest.words(tried[1])} in {tried[0].name}"
        if tried
        else "it has not been run yet"
    )


def by_hand(
    now: fingerprint.Now, stage: str, values: Mapping[str, Any], inputs: Mapping[str, str | None]
) -> Decision | None:
    """The stage as somebody has run it by hand, if that is what a run would do: top to bottom, in a fresh kernel, with all as it is now, and saved."""
    project, draft = now.project, now.project.reports / "draft"
    file, book = draft / stages.RECORD / f"{stage}.json", project.notebook(stage)
    if not file.exists():
        return None
    record = store.read_json(file)
    hand = record.get("by_hand", {})
    if (
        not record.get("done")
        or record.get("apart")
        or hand.get("ran") != now.cells(stage)
        or book.stat().st_mtime < hand["at"] - 1
    ):
        return None
    counts = [c["execution_count"] for c in params.code_cells(book)]
    given = {
        n: v if (v := hand["values"].get(n)) or n not in params.SHARED else values[n]
        for n in values
    }
    if counts != list(range(1, len(counts) + 1)) or given != dict(values):
        return None
    read = {n: str(inputs[n]) for n in record["read"] if inputs.get(n) is not None}
    made = fingerprint.of(now, stage, values, hand["used"], read)
    if (
        read != record["read"]
        or [*fingerprint.differences(now, stage, values, inputs, made)]
        or [
            *fingerprint.broken(
                draft, record["artifacts"], now.hashes, now.project.config.stages[stage].writes
            )
        ]
    ):
        return None
    moment = datetime.fromtimestamp(hand["at"])
    facts = {k: record[k] for k in ("sentence", "logged", "artifacts", "mlflow_run") if k in record}
    entry = {
        **facts,
        "params": params.kept(values),
        "trace": made,
        "fingerprint": fingerprint.whole(made),
        "started": datetime.fromtimestamp(record["opened"], UTC).isoformat(timespec="milliseconds"),
        "seconds": round(hand["at"] - record["opened"], 2),
        "parts": fingerprint.origins(now),
    }
    return Decision(stage, "skip", (f"{book.name} as saved {moment:%H:%M}",), draft, entry)


def aged(entry: Mapping[str, Any]) -> timedelta:
    """How long ago a stage really ran, to the minute."""
    age = datetime.now(UTC) - datetime.fromisoformat(entry["started"])
    return timedelta(minutes=age // timedelta(minutes=1))


def contents(entry: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of what a stage hands on; records, which differ by nature, are left out."""
    return {n: a["content"] for n, a in entry.get("artifacts", {}).items() if a.get("content")}


def carried(
    now: fingerprint.Now, history: History, stage: str
) -> tuple[Path, Mapping[str, Any]] | None:
    """A stage that was not chosen, as the newest run of the same sample and moment, in a branch the same one or none, has it, if all it wrote is as it was."""
    config = now.project.config
    wanted = [config.sample, config.as_of.isoformat() if config.as_of else None]
    for folder, made in history:
        entry = made["stages"].get(stage, {})
        if (
            [made["sample"], made["as_of"]] == wanted
            and made.get("branch", "") in {"", config.branch}
            and entry.get("status") in DONE
            and not [*fingerprint.broken(folder, entry.get("artifacts", {}), now.hashes)]
        ):
            return folder, entry
    return None


def make(
    project: Project,
    chosen: list[str],
    values: Mapping[str, Mapping[str, Any]],
    force: bool = False,
    hashes: fingerprint.Hashes | None = None,
) -> list[Decision]:
    """The plan: a decision for each chosen stage, in their order; nothing is run or written."""
    now, history = fingerprint.Now(project, hashes), History(project)
    inputs: dict[str, str | None] = {}
    found = []
    for stage in order(project.config.stages):
        if stage not in chosen:
            inputs |= contents(kept[1]) if (kept := carried(now, history, stage)) else {}
            continue
        made = decide(now, history, stage, values[stage], inputs, force)
        if made.action == "skip":
            inputs |= contents(made.entry)
            now.laid(made.entry["artifacts"])
        else:
            names = [
                *project.config.stages[stage].writes,
                *next((e["artifacts"] for _, e in history.of(stage)), {}),
            ]
            inputs |= dict.fromkeys(names)
        found.append(made)
    now.hashes.save()
    return found


def accept(
    project: Project, chosen: list[str], values: Mapping[str, Mapping[str, Any]], by: str
) -> dict[str, list[str]]:
    """Take the chosen stages of the latest run as up to date, whatever was edited since; what was accepted, by stage.

    Raises
    ------
    KitError
        If there is no run, or a stage has other parameters or inputs, or damaged outputs: that no word can mend.
    """
    now, history = fingerprint.Now(project), History(project)
    found = latest(project, history)
    if found is None:
        raise KitError(
            "there is no run whose stages could be taken as they are",
            "one of the same as_of and until",
            "mlops run",
        )
    folder, made = found
    inputs: dict[str, str | None] = {}
    for entry in made["stages"].values():
        inputs |= contents(entry)
    accepted = {}
    for stage in chosen:
        entry = made["stages"][stage]
        if entry["status"] not in DONE or not entry.get("trace"):
            raise KitError(
                f"{stage} cannot be taken as it is: in run {made['run']} it is {entry['status']}",
                "a stage that ended well",
                "mlops run",
            )
        why = [*fingerprint.differences(now, stage, values[stage], inputs, entry["trace"])]
        renewed = fingerprint.renewed(now, stage, entry["trace"])
        left = [
            *fingerprint.differences(now, stage, values[stage], inputs, renewed),
            *fingerprint.broken(
                folder, entry["artifacts"], now.hashes, project.config.stages[stage].writes
            ),
        ]
        if left:
            raise KitError(
                f"{stage} cannot be taken as it is: {left[0]}",
                "the same parameters and inputs, and intact outputs",
                "mlops run",
            )
        if why:
            accepted[stage] = why
            entry.update(
                trace=renewed,
                fingerprint=fingerprint.whole(renewed),
                accepted={"by": by, "at": manifest.now(), "why": why},
            )
    manifest.write(folder, made)
    return accepted


def latest(project: Project, history: History) -> tuple[Path, dict[str, Any]] | None:
    """The latest run of the project's two moments; branches are not runs of their own."""
    wanted = [m.isoformat() if m else None for m in (project.config.as_of, project.config.until)]
    return next(
        ((f, m) for f, m in history if [m["as_of"], m["until"]] == wanted and not m.get("branch")),
        None,
    )


def nothing_to_do(
    project: Project, plan: list[Decision], history: History
) -> dict[str, Any] | None:
    """The latest run of the same two moments, if all of a plan is skipped and that run has it all."""
    same = latest(project, history)
    if same is None or any(d.action != "skip" for d in plan):
        return None
    folder, made = same
    entries = made["stages"]
    hashes = fingerprint.Hashes(project)
    if any(fingerprint.displaced(project, d.entry["artifacts"], hashes) for d in plan):
        return None
    whole = all(
        entries.get(d.stage, {}).get("status") in DONE
        and (
            d.origin == folder or entries[d.stage].get("fingerprint") == d.entry.get("fingerprint")
        )
        for d in plan
    )
    return {**made, "nothing_to_do": True} if whole else None
