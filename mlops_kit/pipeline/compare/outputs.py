"""Outputs."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.pipeline.compare.records import NOT_THERE, OutputComparison
from mlops_kit.project import run_folder


def compare_outputs(old: Path, new: Path) -> list[OutputComparison]:
    """Stage by stage, whether what a run handed on and logged is what another one did; records of the world outside are not compared."""
    found, again = [], run_folder.read_stage_records(new)
    for stage, record in run_folder.read_stage_records(old).items():
        if not record.get("done"):
            continue
        if stage not in again:
            found.append(OutputComparison(stage, "", False, "was not run again"))
            continue
        there = again[stage]
        made = [{n: a["content"] for n, a in r["artifacts"].items()} for r in (record, there)]
        found += [
            _compare_output(stage, n, *(side.get(n, NOT_THERE) for side in made))
            for n in dict.fromkeys([*made[0], *made[1]])
        ]
        found += [
            _compare_output(
                stage, n, *(str(r["logged"].get(n, NOT_THERE)) for r in (record, there))
            )
            for n in dict.fromkeys([*record["logged"], *there["logged"]])
        ]
    return found


def _compare_output(stage: str, name: str, old: str | None, new: str | None) -> OutputComparison:
    """Whether one content or logged number is the same; of a record there is no content."""
    if old is None and new is None:
        return OutputComparison(stage, name, None, "a record of the world outside")
    before, now = (v[:12] if v and len(v) == 64 else v or "a record" for v in (old, new))
    return OutputComparison(stage, name, old == new, before if old == new else f"{before} → {now}")
