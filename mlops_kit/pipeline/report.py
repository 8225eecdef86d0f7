"""A run's pages: each notebook without its code, and an index that begins with the verdict.

They open from disk with no network: nbconvert's body only, our own style sheet, figures inside.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.core.results import OUTCOME_COLORS, OUTCOME_MARKS, Verdict, Verdicts
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.project import notebook_cells, run_folder
from mlops_kit.project.run_manifest import RunManifest, RunStatus, StageEntry, StageStatus

_STATUS_MARKS = {
    "succeeded": ("●", "good"),
    "skipped": ("○", "faint"),
    "not run": ("○", "faint"),
    "running": ("◆", "watch"),
    "interrupted": ("◆", "watch"),
    RunStatus.WAITING_FOR_APPROVAL: ("◆", "watch"),
}
_FAILED_STATUSES = ("failed", "killed", "timed out", "stopped early")
_SENTENCE_BOUNDARY = re.compile(r"(?<=[^\W_]|[\])%])\. (?=[^\W\d_a-z])")  # between two sentences


def render_report_template(name: str, **values: Any) -> str:
    """One of the templates, filled; values are escaped but where the template says otherwise."""
    import jinja2

    folder = find_resource_folder("templates") / "report"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    return environment.from_string((folder / name).read_text(encoding="utf-8")).render(
        css=(folder / "style.css").read_text(encoding="utf-8"), **values
    )


def write_notebook_page(notebook: Path) -> Path:
    """The executed notebook as HTML without code, beside it; of a widget stays its picture."""
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, as_version=4)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    book.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(book)
    body = body.replace(
        '<div class="output_html ', '<div tabindex="0" class="output_html '
    )  # a wide table is scrolled by keyboard too
    target = notebook.with_suffix(".html")
    files.write_text(
        target,
        render_report_template(
            "page.html",
            title=notebook_cells.read_notebook_title(notebook),
            body=body,
            notebook=notebook.name,
        ),
    )
    return target


def write_notebook_page_in_fork(notebook: str) -> str:
    """``page`` for another process."""
    return str(write_notebook_page(Path(notebook)))


def build_headline(manifest: RunManifest, verdicts: Verdicts) -> tuple[str, str, str]:
    """The run in a word, its colour, and a sentence; ``verdicts`` are those of the review."""
    entries = manifest.stages
    failed = next((n for n, e in entries.items() if e.status in _FAILED_STATUSES), None)
    said = manifest.get_stage("review").sentence or next(
        (e.sentence for e in reversed(entries.values()) if e.sentence),
        "Nothing was run.",
    )
    if manifest.branches:
        well = sum(b.status == "succeeded" for b in manifest.branches)
        good = well == len(manifest.branches)
        return (
            "● Done" if good else f"▲ {manifest.status.capitalize()}",
            "good" if good else "act",
            f"{well} of {len(manifest.branches)} branches succeeded.",
        )
    if failed:
        blocked = failed == "review" and verdicts.is_blocked
        return (
            "▲ Not fit to serve" if blocked else "▲ Failed",
            "act",
            f"The run {'stopped' if blocked else 'failed'} in {failed}: {_explain_failure(entries[failed])}",
        )
    if manifest.status == RunStatus.WAITING_FOR_APPROVAL:
        return "◆ Waiting for an approval", "watch", said
    if manifest.status != RunStatus.SUCCEEDED:
        return f"◆ {manifest.status.capitalize()}", "watch", f"The run is {manifest.status}."
    if manifest.sample:
        return "◆ Sample", "watch", said
    colour, state = verdicts.fitness_label if len(verdicts) else ("good", "● Done")
    return state, colour, said


def _explain_failure(entry: StageEntry) -> str:
    """Why a stage did not end well, in a sentence."""
    return entry.error_message or "its process was killed"


def _list_detail_lines(manifest: RunManifest, rest: str) -> list[str]:
    """The lines below the headline: what else the review says, and what came after it."""
    lines = (
        [f"Made from a sample of {manifest.sample:,} rows; nothing of it can be promoted."]
        if manifest.sample
        else []
    )
    after = {n: manifest.get_stage(n) for n in ("deploy", "monitor", "retrain")}
    lines += [
        rest,
        *(
            f"{n.capitalize()}: {_explain_failure(e) if e.status == StageStatus.WAITING_FOR_APPROVAL else e.sentence}"
            for n, e in after.items()
            if e.sentence or e.status == StageStatus.WAITING_FOR_APPROVAL
        ),
    ]
    if manifest.approval == "automatic" and manifest.get_stage("deploy").sentence:
        lines.append("Approval is automatic: no person looked at it.")
    return [line for line in lines if line]


def write_run_index(run: Path, manifest: RunManifest) -> Path:
    """Draw a run's ``index.html``."""
    found = {s: r for s, r in run_folder.read_stage_records(run).items() if s in manifest.stages}
    verdicts = {s: [revive_verdict(v) for v in r["verdicts"]] for s, r in found.items()}
    badge, colour, said = build_headline(
        manifest, Verdicts.from_verdicts(verdicts.get("review", []))
    )
    first, *rest = _SENTENCE_BOUNDARY.split(said, maxsplit=1)
    numbers: list[Any] = next(
        (f["numbers"] for r in found.values() for f in r["shown"] if f.get("numbers")), []
    )
    text = render_report_template(
        "index.html",
        m=manifest,
        badge=badge,
        colour=colour,
        headline=first + ("." if rest else ""),
        detail=_list_detail_lines(manifest, "".join(rest)),
        numbers=[to_json_value(n) for n in numbers],
        stages=[
            _build_stage_section(run, n, e, found.get(n, {})) for n, e in manifest.stages.items()
        ],
        origin=_list_origin_terms(manifest),
        branches=build_branch_table(manifest),
        **_build_check_rows(verdicts),
    )
    files.write_text(run / "index.html", text)
    return run / "index.html"


def build_branch_table(manifest: RunManifest) -> tuple[list[str], list[list[Any]]]:
    """The branches beside one another: columns and rows, of the numbers only those that differ."""
    found = manifest.branches
    keys = list(dict.fromkeys(k for b in found for k in b.numbers))
    differ = [k for k in keys if len({b.numbers.get(k) for b in found}) > 1]
    rows = [
        [
            *b.values.values(),
            str(b.status),
            "" if b.seconds is None else b.seconds,
            *(b.numbers.get(k, "") for k in differ),
            b.error,
        ]
        for b in found
    ]
    return [*(found[0].values if found else ()), "status", "seconds", *differ, "says"], rows


def revive_verdict(verdict: Any) -> Verdict:
    """A verdict from its record, whether it was read or is still plain."""
    made: Verdict = from_json_value(verdict) if isinstance(verdict, dict) else verdict
    return made


def _build_check_rows(verdicts: dict[str, list[Verdict]]) -> dict[str, Any]:
    """All checks of a run, the worst first, each with the stage that made it; and their sentence."""
    owner = {id(v): s for s, found in verdicts.items() for v in found}
    table = Verdicts.from_verdicts(v for found in verdicts.values() for v in found)
    rows = [
        {
            **to_json_value(v),
            "stage": owner[id(v)],
            "mark": OUTCOME_MARKS[v.outcome],
            "colour": "watch"
            if v.outcome == "failed" and not v.is_blocking
            else OUTCOME_COLORS[v.outcome],
        }
        for v in table
    ]
    return {"checks": rows, "checks_sentence": table.sentence}


def _build_stage_section(
    run: Path, name: str, entry: StageEntry, record: dict[str, Any]
) -> dict[str, Any]:
    """One stage on the index: its question, its sentence, its pictures, what can be opened."""
    mark, colour = _STATUS_MARKS.get(entry.status, ("▲", "act"))
    book = run / "notebooks" / f"{entry.notebook}.ipynb"
    pages = [
        ("report", book.with_suffix(".html")),
        ("notebook", book),
        *(
            (a["name"].replace("_", " "), run / a["path"])
            for a in record.get("artifacts", {}).values()
            if a["kind"] == "document"
        ),
    ]
    drawn = [f for f in record.get("shown", []) if f["figure"] and (run / f["figure"]).exists()]
    figures = [
        {**f, "svg": (run / f["figure"]).read_text(encoding="utf-8")}
        for f in sorted(drawn, key=lambda f: not f["front"])
    ]
    return {
        "name": name,
        "status": entry.status_text,
        "mark": mark,
        "colour": colour,
        "question": entry.question,
        "figures": figures,
        "sentence": entry.summary,
        "seconds": "" if entry.seconds is None else f"{entry.seconds:.0f}",
        "links": [
            (text, path.relative_to(run).as_posix()) for text, path in pages if path.exists()
        ],
    }


def _list_origin_terms(manifest: RunManifest) -> list[tuple[str, str]]:
    """What a run was made from, in terms and words."""
    git = manifest.git
    prepared = manifest.get_stage("prepare").artifacts.get("features")
    terms = {
        "note": manifest.note,
        "as of, until": f"{manifest.as_of[:16]}, {(manifest.until or '')[:16]}".replace("T", " ")
        if manifest.as_of
        else "the table has no time",
        "features": f"{prepared.rows:,} rows, content {prepared.content[:12]}"
        if prepared is not None and prepared.content
        else "",
        "seed": str(manifest.seed),
        "commit": f"{git.commit[:10]}{' with changes' if git.dirty else ''}"
        if git.commit
        else "the project is not under git",
        "MLflow run": manifest.mlflow.get("run", ""),
        "packages": ", ".join(f"{k} {v}" for k, v in manifest.packages.items()),
    }
    return [(term, said) for term, said in terms.items() if said]
