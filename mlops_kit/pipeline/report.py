"""A run's pages: each notebook without its code, and an index that begins with the verdict.

They open from disk with no network: nbconvert's body only, our own style sheet, figures as files.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.config import resources
from mlops_kit.results import COLOURS, MARKS, Verdicts

STATUS = {"succeeded": ("●", "good"), "skipped": ("○", "faint"), "not run": ("○", "faint"), "running": ("◆", "watch"), "interrupted": ("◆", "watch")}


def css() -> str:
    """The style sheet of the pages."""
    return (resources("templates") / "report" / "style.css").read_text(encoding="utf-8")


def page(notebook: Path) -> Path:
    """The executed notebook as HTML without code, beside it."""
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, as_version=4)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    book.metadata.pop("widgets", None)
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(book)
    target = notebook.with_suffix(".html")
    title = html.escape(notebook.stem)
    store.write_text(target, f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title><style>{css()}</style></head><body><main class=book><p class=top><a href='../index.html'>the run</a></p><div class=card>{body}</div></main></body></html>")
    return target


def headline(manifest: dict[str, Any]) -> tuple[str, str, str]:
    """The run in a word, its colour, and a sentence."""
    entries = manifest["stages"]
    failed = next((n for n, e in entries.items() if e["status"] in {"failed", "killed"}), None)
    if failed:
        return "▲ Failed", "act", f"The run failed in {failed}: {(entries[failed].get('error') or {}).get('message', 'its process was killed')}"
    if manifest["status"] != "succeeded":
        return f"◆ {manifest['status'].capitalize()}", "watch", f"The run is {manifest['status']}."
    said = entries.get("review", {}).get("sentence") or next((e.get("sentence") for e in reversed(entries.values()) if e.get("sentence")), "Nothing was run.")
    if manifest["sample"]:
        return "◆ Sample", "watch", said
    return "● Reviewed" if entries.get("review", {}).get("sentence") else "● Done", "good", said


def write(run: Path, manifest: dict[str, Any]) -> Path:
    """Draw a run's ``index.html``."""
    import jinja2

    found = stages.records(run)
    checks = Verdicts.of(v for r in found.values() for v in (store.revive(x) if isinstance(x, dict) else x for x in r["verdicts"]))
    badge, colour, said = headline(manifest)
    detail = [manifest["stages"].get(s, {}).get("sentence", "") for s in ("deploy", "monitor", "retrain")]
    if manifest["approval"] == "automatic":
        detail.append("Approval is automatic: no person looked at it.")
    if manifest["sample"]:
        detail.insert(0, f"Made from a sample of {manifest['sample']:,} rows; nothing of it can be promoted.")
    environment = jinja2.Environment(autoescape=True)  # noqa: S701 - it is on
    template = environment.from_string((resources("templates") / "report" / "index.html").read_text(encoding="utf-8"))
    shown = [{**f, "stage": s} for s in manifest["stages"] for f in found.get(s, {}).get("shown", []) if f["figure"]]
    text = template.render(
        m=manifest, css=css(), badge=badge, colour=colour, headline=said, detail=" ".join(filter(None, detail)),
        checks=[{**v.to_json_dict(), "mark": MARKS[v.outcome], "colour": COLOURS[v.outcome]} for v in checks], checks_sentence=checks.sentence,
        stages=[line(run, n, e) for n, e in manifest["stages"].items()], figures=shown,
    )  # fmt: skip
    store.write_text(run / "index.html", text)
    return run / "index.html"


def line(run: Path, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """One stage in the table of the index."""
    mark, colour = STATUS.get(entry["status"], ("▲", "act"))
    page = f"notebooks/{entry['notebook']}.html"
    sentence = entry.get("sentence") or (entry.get("error") or {}).get("message") or entry.get("reason", "")
    seconds = f"{entry['seconds']:.0f}" if "seconds" in entry else ""
    return {"name": name, "status": entry["status"], "mark": mark, "colour": colour, "sentence": sentence, "seconds": seconds, "page": page if (run / page).exists() else ""}
