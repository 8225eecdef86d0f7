"""House-keeping on hand-made runs: what is told of them, what goes and what never does, and what no text shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from mlops_kit.cli import application
from mlops_kit.core import files
from mlops_kit.core.results import Verdict
from mlops_kit.db import approvals, engine, tables
from mlops_kit.pipeline import cleanup, run_summary
from mlops_kit.project import loader, run_folder, secrets

YAML = "name: tiny\nsource: t.csv\ntarget: late\ntask: binary\nretention: {min_runs: 1, max_age: 30d, max_cache_age: 30d}\n"
DAY = 86400
NOW = datetime.now(UTC)
METRICS = {
    "__kind__": "Table",
    "data": {
        "__frame__": {
            "columns": ["metric", "value", "low", "high"],
            "rows": [["log_loss", 0.4, 0.3, 0.5], ["roc_auc", 0.784, 0.756, 0.806]],
        }
    },
}


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def made(project: loader.Project, days: float, version: str = "", **values: Any) -> Path:
    """A run of so many days ago, and the version that its review registered."""
    begin = NOW - timedelta(days=days)
    folder = project.reports_folder / f"{begin:%Y%m%d-%H%M%S}-abcd"
    entries = {
        "train": {"status": "skipped", "seconds": 50},
        "review": {"status": "succeeded", "seconds": 2.5, "sentence": "It is good."},
        "deploy": {"status": "not run"},
    }
    held = {
        "run": folder.name,
        "status": "succeeded",
        "started": begin.isoformat(),
        "ended": begin.isoformat(),
        "pid": 0,
        "note": "",
        "sample": 0,
        "stages": entries,
        **values,
    }
    files.write_json(folder / "manifest.json", held)
    if version:
        files.write_json(folder / "artifacts" / "version.json", {"version": version})
    return folder


def promoted(project: loader.Project, *versions: str, days: float = 0) -> None:
    """Let versions serve, one after the other."""
    with engine.open_transaction(project) as opened:
        for number, version in enumerate(versions, 1):
            at = (NOW - timedelta(days=days)).isoformat(timespec="seconds")
            opened.add(
                tables.PromotionRecord(
                    project.config.name,
                    number,
                    version,
                    "m",
                    "e",
                    versions[number - 2] if number > 1 else None,
                    "ann",
                    "fit",
                    at,
                )
            )


def test_files_kept_for_runs_go_with_the_last_run_that_used_them(project: loader.Project) -> None:
    def traced(*hashes: str) -> dict[str, Any]:
        return {
            "review": {
                "status": "succeeded",
                "trace": {
                    "files": {h: h for h in hashes},
                    "modules": {"m.py": {"hash": "module", "by": ""}},
                },
            }
        }

    made(project, 90, stages=traced("old", "both"))
    branch = made(project, 1, stages=traced("both"))
    files.write_json(
        branch / "branches" / "a" / "manifest.json",
        {"run": "a", "status": "succeeded", "stages": traced("branch")},
    )
    kept = {
        h: aged(project.resolve_path(".mlops") / "objects" / h[:2] / h, 2, size=10)
        for h in ("old", "both", "branch", "module", "stray")
    }
    young = aged(project.resolve_path(".mlops") / "objects" / "yo" / "young", 0)
    fates = cleanup.clean_project(project)
    assert {p.name for p in (*kept.values(), young) if not p.exists()} == {"old", "stray"}
    assert "removed 1 run, 2 kept files" in cleanup.format_cleanup(project, fates, dry_run=False)
    assert "stray" not in cleanup.format_cleanup(project, fates, dry_run=False)
    made(project, 0, status="running", pid=os.getpid(), stages={})
    aged(kept["stray"], 2)
    assert not [f for f in cleanup.clean_project(project) if f.kind == cleanup.KEPT_FILE_KIND]
    assert kept["stray"].exists()


def aged(path: Path, days: float, size: int = 0) -> Path:
    """A file that was last written so many days ago, and its folder as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for p in (path, path.parent):
        os.utime(p, (time.time() - days * DAY,) * 2)
    return path


def why(project: loader.Project) -> dict[Path, str]:
    """Why what stays does; what goes is left out."""
    return {
        f.path: f.reason for f in cleanup.clean_project(project, dry_run=True) if not f.is_removed
    }


def test_a_run_is_told_by_verdict_metric_work_and_note(project: loader.Project) -> None:
    run = made(project, 0, "1", note="why\nnot")
    files.write_json(run / "artifacts" / "metrics.json", METRICS)
    files.write_json(
        run / "stages" / "review.json",
        {"verdicts": [Verdict("c", "C", "passed", "blocks", "Well.")], "artifacts": {}},
    )
    (found,) = run_summary.summarize_runs(project, 20)
    assert found.metric == run_summary.MetricSummary("roc_auc", 0.784, 0.756, 0.806)
    assert (
        found.verdict,
        found.seconds,
        found.ran,
        found.skipped,
        found.version,
        found.is_serving,
    ) == ("● Fit to serve", 2.5, 1, 1, "1", False)
    assert (
        run_summary.format_run_summaries([found]).splitlines()[1].split()
        == f"{run.name} ● Fit to serve roc_auc 0.784 [0.756, 0.806] 2 s 1 run, 1 skipped 1 why not".split()
    )


def test_a_run_without_a_review_is_told_too(project: loader.Project) -> None:
    made(
        project,
        0,
        stages={"train": {"status": "failed", "error": {"message": "no"}}},
        status="failed",
    )
    (found,) = run_summary.summarize_runs(project, 20)
    assert (found.verdict, found.metric, found.version) == ("▲ Failed", None, None)


def test_the_newest_runs_are_told_first_and_no_more_than_asked_for(project: loader.Project) -> None:
    runs = [made(project, days) for days in range(4)]
    assert [f.run for f in run_summary.summarize_runs(project, 2)] == [r.name for r in runs[:2]]
    assert [f.run for f in run_summary.summarize_runs(project, 20)] == [r.name for r in runs]


def test_the_run_that_made_the_serving_version_is_marked(project: loader.Project) -> None:
    carried = {"review": {"status": "skipped"}}
    made(project, 1, "2")
    made(
        project, 2, "1"
    )  # judged anew after it was promoted: the registry still names the run before
    made(project, 4, "1", stages=carried)
    maker = made(project, 5, "1")
    made(project, 6, "1")  # judged anew before it was promoted
    promoted(project, "1", days=3)
    assert [f.run for f in run_summary.summarize_runs(project, 20) if f.is_serving] == [maker.name]


def test_telling_and_planning_load_neither_pandas_nor_mlflow(project: loader.Project) -> None:
    files.write_json(made(project, 50, "1") / "artifacts" / "metrics.json", METRICS)
    promoted(project, "1")
    code = f"import sys; from mlops_kit.project.loader import load_project; from mlops_kit.pipeline import cleanup, run_summary; p = load_project({str(project.root)!r}); run_summary.summarize_runs(p, 20); cleanup.clean_project(p, True); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "sqlalchemy" in loaded
    assert not {"pandas", "numpy", "mlflow"} & set(loaded)


def test_a_run_goes_only_if_it_is_old_and_not_among_the_newest(project: loader.Project) -> None:
    newest, young, old = made(project, 0), made(project, 29), made(project, 31)
    assert why(project) == {newest: "the newest run", young: "younger than 30d"}
    assert why(project.with_values("the test", retention={"min_runs": 3, "max_age": "0d"})) == {
        newest: "the newest run",
        young: "one of the newest 3",
        old: "one of the newest 3",
    }
    assert set(
        why(project.with_values("the test", retention={"min_runs": 1, "max_age": "0d"}))
    ) == {newest}


def test_what_serves_what_served_before_and_what_served_lately_stays(
    project: loader.Project,
) -> None:
    made(project, 0)
    runs = {v: made(project, 60 - int(v), v) for v in ("1", "2", "3", "4")}
    promoted(project, "1", "2", "3", days=40)
    assert (
        why(project).items()
        >= {
            runs["3"]: "version 3 is in service",
            runs["2"]: "a rollback restores version 2",
        }.items()
    )
    assert not {runs["1"], runs["4"]} & why(project).keys()
    kept = why(project.with_values("the test", retention={"min_runs": 1, "max_age": "50d"}))
    assert kept[runs["1"]].startswith("version 1 was in service until")
    assert kept[runs["3"]] == "version 3 is in service"


def test_a_run_that_waits_or_runs_stays_and_one_that_was_rejected_or_killed_does_not(
    project: loader.Project,
) -> None:
    made(project, 0)
    waits, rejected = (
        made(project, 61, "1", status="waiting (approval)"),
        made(project, 62, "2", status="waiting (approval)"),
    )
    runs, killed = (
        made(project, 63, status="running", pid=os.getpid(), ended=None),
        made(project, 64, status="running", pid=2**22 + 1, ended=None),
    )
    approvals.record_approval(
        project,
        approvals.ReviewedVersion("2", "m", "e", "passed", 0, "bob"),
        "rejected",
        "ann",
        "no",
    )
    kept = why(project)
    assert (kept[waits], kept[runs]) == ("it waits for an approval", "it is running")
    assert not {rejected, killed} & kept.keys()


def test_the_newest_run_of_all_rows_stays_below_newer_samples(project: loader.Project) -> None:
    made(project, 50, sample=500)
    full = made(project, 60)
    assert why(project)[full] == "the newest run of all rows"


def test_a_dry_run_changes_nothing_and_says_the_same(project: loader.Project) -> None:
    made(project, 0)
    made(project, 60)
    before = sorted(project.root.rglob("*"))
    dry = cleanup.clean_project(project, dry_run=True)
    assert sorted(project.root.rglob("*")) == before
    assert cleanup.clean_project(project) == dry
    assert [r.name for r in run_folder.list_run_folders(project.reports_folder)] == [
        dry[-1].path.name
    ]
    assert "would remove 1 run" in cleanup.format_cleanup(project, dry, True)
    assert "1 run is kept" in cleanup.format_cleanup(project, dry, True)
    assert "removed 1 run" in cleanup.format_cleanup(project, dry, False)
    assert [f.is_removed for f in cleanup.clean_project(project)] == [False]


def test_a_shared_file_is_freed_with_its_last_link(project: loader.Project) -> None:
    kept, second, first = made(project, 0), made(project, 50), made(project, 60)
    for name, others in (("all", [second, kept]), ("two", [second]), ("one", [])):
        aged(first / name, 60, 10**6)
        for other in others:
            os.link(first / name, other / name)
    gone = {f.path: f.freed_bytes for f in cleanup.clean_project(project) if f.is_removed}
    assert gone[second] < 10**4
    assert 2 * 10**6 <= gone[first] < 2.01 * 10**6
    assert (kept / "all").stat().st_size == 10**6
    assert (kept / "all").stat().st_nlink == 1


def test_a_killed_cleaning_leaves_no_half_run_to_readers_and_the_next_ends_it(
    project: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, goes = made(project, 0), made(project, 60)
    aged(goes / "artifacts" / "big", 60, 1000)
    with monkeypatch.context() as patched:
        patched.setattr(
            cleanup.shutil, "rmtree", lambda path: (Path(path) / "manifest.json").unlink() or 1 / 0
        )
        with pytest.raises(ZeroDivisionError):
            cleanup.clean_project(project)
    assert run_folder.list_run_folders(project.reports_folder) == [kept]
    assert not goes.exists()
    assert [(f.kind, f.reason) for f in cleanup.clean_project(project) if f.is_removed] == [
        ("leftover", "half deleted")
    ]
    assert not list((project.reports_folder / cleanup.REMOVED_RUNS_FOLDER).iterdir())


def test_what_killed_runs_left_goes_and_what_somebody_may_be_writing_stays(
    project: loader.Project,
) -> None:
    run, running = made(project, 0), made(project, 1, status="running", pid=os.getpid())
    goes = {
        aged(run / "artifacts" / ".x.parquet.ab12_xyz", 1): "half written",
        aged(
            project.reports_folder / "draft" / "stages" / ".train.json.abcdefgh", 1
        ): "half written",
        aged(run / ".reserve", 1): "half written",
        aged(project.reports_folder / ".review.html.12345678", 1): "half written",
        aged(
            project.reports_folder / "20200101-000000-abcd" / "config.json", 1
        ).parent: "half made",
    }
    stays = [
        aged(running / ".x.parquet.ab12_xyz", 1),
        aged(run / ".y.json.ab12_xyz", 0),
        aged(project.reports_folder / "mine" / "notes.md", 9),
        aged(project.reports_folder / "20200102-000000-abcd" / "config.json", 0),
        aged(run / "logs" / ".hidden", 9),
    ]
    assert {f.path: f.reason for f in cleanup.clean_project(project) if f.is_removed} == goes
    assert all(p.exists() for p in stays)
    assert not any(p.exists() for p in goes)


def test_what_is_cached_goes_by_age(project: loader.Project) -> None:
    cache = project.resolve_path(".mlops") / "cache"
    old, new, folder = (
        aged(cache / "study.log", 31, 10),
        aged(cache / "other.log", 29),
        aged(cache / "deep" / "x", 31),
    )
    os.utime(aged(folder.parent / "y", 1))  # one young file keeps its folder
    assert [
        (f.kind, f.path, f.freed_bytes) for f in cleanup.clean_project(project) if f.is_removed
    ] == [("cache", old, 10)]
    assert new.exists()
    assert folder.exists()


def test_the_command_line_tells_cleans_and_lays_its_options_over_the_settings(
    project: loader.Project,
) -> None:
    runs = [made(project, days) for days in (0, 10, 20)]
    call = CliRunner().invoke
    where = ["--project", str(project.root)]
    assert [
        f["run"]
        for f in json.loads(call(application.app, ["runs", *where, "--last", "2", "--json"]).output)
    ] == [r.name for r in runs[:2]]
    assert (
        "would remove 1 run"
        in call(
            application.app, ["clean", *where, "--runs", "2", "--age", "5d", "--dry-run"]
        ).output
    )
    assert call(application.app, ["clean", *where, "--runs", "2", "--age", "5d"]).exit_code == 0
    assert run_folder.list_run_folders(project.reports_folder) == runs[:2]


def scrubbed(folder: Path, text: str, settings: str) -> str:
    (folder / "mlops.yaml").write_text(YAML + settings)
    return secrets.make_scrubber(loader.load_project(folder))(text)


@pytest.mark.parametrize(
    "value", ["hunter2", "a b/c+d&e=?", "qu\"o'te\\n", "zeile\nzwei", "pässwört", "<b>&amp;"]
)
def test_a_secret_is_shown_in_no_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("API_KEY", value)
    said = [
        value,
        f"x{value}y",
        repr(value),
        repr({"k": value}),
        json.dumps(value),
        json.dumps({"k": [value]}, ensure_ascii=False),
        quote(value),
        quote(value, safe=""),
        json.dumps(repr(value)),
    ]
    for text in said:
        shown = scrubbed(tmp_path, text, "secrets: [API_KEY]\n")
        assert shown.count("•••API_KEY•••") == 1
        assert set(re.findall(r"\w", shown.replace("API_KEY", ""))) <= set("xyk")


def test_the_longer_of_two_secrets_is_hidden_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "abcd")
    monkeypatch.setenv("LONG", "abcdefgh")
    assert (
        scrubbed(tmp_path, "abcdefgh abcd", "secrets: [SHORT, LONG]\n") == "•••LONG••• •••SHORT•••"
    )


def test_what_is_unset_or_short_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "abc")
    assert scrubbed(tmp_path, "abc 0.7543", "secrets: [SHORT, UNSET_NAME]\n") == "abc 0.7543"
    assert scrubbed(tmp_path, "abc", "") == "abc"


@pytest.mark.parametrize(
    ("settings", "text", "shown"),
    [
        (
            "database: 'postgresql://${WHO}:${PW}@db/x'\n",
            "postgres said s3cr%2Ft and s3cr/t",
            "postgres said •••PW••• and •••PW•••",
        ),
        (
            "database: 'postgresql://me:pl%40in-text@db/x'\n",
            "pl%40in-text pl@in-text me db",
            "•••database••• •••database••• me db",
        ),
        ("tracking: 'https://${TOKEN}@host/'\n", "t0k3n host", "•••TOKEN••• host"),
        (
            "labels: {source: {sql: s, url: '${URL}'}}\n",
            "postgresql://me:inner@db/x, inner",
            "•••URL•••, •••labels•••",
        ),
        (
            "tracking: 'https://host/?sig=${PW}&day=${WHO}'\n",
            "s3cr/t postgres",
            "•••PW••• postgres",
        ),
        ("serve: {token_env: TOKEN}\n", "Bearer t0k3n", "Bearer •••TOKEN•••"),
        ("tracking: 'sqlite:///${WHO}/x.db'\n", "postgres", "postgres"),
    ],
)
def test_passwords_of_urls_and_tokens_are_known_without_being_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, text: str, shown: str
) -> None:
    for name, value in {
        "WHO": "postgres",
        "PW": "s3cr/t",
        "TOKEN": "t0k3n",
        "URL": "postgresql://me:inner@db/x",
    }.items():
        monkeypatch.setenv(name, value)
    assert scrubbed(tmp_path, text, settings) == shown
