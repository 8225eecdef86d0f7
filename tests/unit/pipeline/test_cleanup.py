"""Run summaries, cleanup and secrets, on runs written by hand."""

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

YAML = (
    "name: tiny\n"
    "source: t.csv\n"
    "target: late\n"
    "task: binary\n"
    "retention: {min_runs: 1, max_age: 30d, max_cache_age: 30d}\n"
)
DAY_SECONDS = 86400
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


def create_run(project: loader.Project, days: float, version: str = "", **values: Any) -> Path:
    """Write a run of so many days ago, with the version that its review registered."""
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


def promote_versions(project: loader.Project, *versions: str, days: float = 0) -> None:
    """Promote versions, one after the other."""
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


def test_stored_files_are_removed_with_the_last_run_that_used_them(project: loader.Project) -> None:
    def create_stages_using(*hashes: str) -> dict[str, Any]:
        return {
            "review": {
                "status": "succeeded",
                "trace": {
                    "files": {h: h for h in hashes},
                    "modules": {"m.py": {"hash": "module", "by": ""}},
                },
            }
        }

    create_run(project, 90, stages=create_stages_using("old", "both"))
    branch = create_run(project, 1, stages=create_stages_using("both"))
    files.write_json(
        branch / "branches" / "a" / "manifest.json",
        {"run": "a", "status": "succeeded", "stages": create_stages_using("branch")},
    )
    kept = {
        h: create_aged_file(project.resolve_path(".mlops") / "objects" / h[:2] / h, 2, size=10)
        for h in ("old", "both", "branch", "module", "stray")
    }
    young = create_aged_file(project.resolve_path(".mlops") / "objects" / "yo" / "young", 0)
    fates = cleanup.clean_project(project)
    assert {p.name for p in (*kept.values(), young) if not p.exists()} == {"old", "stray"}
    assert "removed 1 run, 2 kept files" in cleanup.format_cleanup(project, fates, dry_run=False)
    assert "stray" not in cleanup.format_cleanup(project, fates, dry_run=False)
    create_run(project, 0, status="running", pid=os.getpid(), stages={})
    create_aged_file(kept["stray"], 2)
    assert not [f for f in cleanup.clean_project(project) if f.kind == cleanup.KEPT_FILE_KIND]
    assert kept["stray"].exists()


def create_aged_file(path: Path, days: float, size: int = 0) -> Path:
    """Write a file whose time, and that of its folder, is so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for p in (path, path.parent):
        os.utime(p, (time.time() - days * DAY_SECONDS,) * 2)
    return path


def explain_kept_runs(project: loader.Project) -> dict[Path, str]:
    """Return why the runs that are kept are kept."""
    return {
        f.path: f.reason for f in cleanup.clean_project(project, dry_run=True) if not f.is_removed
    }


def test_run_summary_has_verdict_metric_work_and_note(project: loader.Project) -> None:
    run = create_run(project, 0, "1", note="why\nnot")
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
    expected = (
        f"{run.name} ● Fit to serve roc_auc 0.784 [0.756, 0.806] 2 s 1 run, 1 skipped 1 why not"
    )
    line = run_summary.format_run_summaries([found]).splitlines()[1]
    assert line.split() == expected.split()


def test_run_without_a_review_has_a_summary(project: loader.Project) -> None:
    create_run(
        project,
        0,
        stages={"train": {"status": "failed", "error": {"message": "no"}}},
        status="failed",
    )
    (found,) = run_summary.summarize_runs(project, 20)
    assert (found.verdict, found.metric, found.version) == ("▲ Failed", None, None)


def test_newest_runs_come_first_and_are_limited(project: loader.Project) -> None:
    runs = [create_run(project, days) for days in range(4)]
    assert [f.run for f in run_summary.summarize_runs(project, 2)] == [r.name for r in runs[:2]]
    assert [f.run for f in run_summary.summarize_runs(project, 20)] == [r.name for r in runs]


def test_run_that_made_the_champion_is_marked(project: loader.Project) -> None:
    carried = {"review": {"status": "skipped"}}
    create_run(project, 1, "2")
    create_run(
        project, 2, "1"
    )  # judged anew after it was promoted: the registry still names the run before
    create_run(project, 4, "1", stages=carried)
    maker = create_run(project, 5, "1")
    create_run(project, 6, "1")  # judged anew before it was promoted
    promote_versions(project, "1", days=3)
    assert [f.run for f in run_summary.summarize_runs(project, 20) if f.is_serving] == [maker.name]


@pytest.mark.slow
def test_summaries_and_cleanup_import_neither_pandas_nor_mlflow(project: loader.Project) -> None:
    files.write_json(create_run(project, 50, "1") / "artifacts" / "metrics.json", METRICS)
    promote_versions(project, "1")
    code = (
        f"import sys; "
        f"from mlops_kit.project.loader import load_project; "
        f"from mlops_kit.pipeline import cleanup, run_summary; "
        f"p = load_project({str(project.root)!r}); "
        f"run_summary.summarize_runs(p, 20); "
        f"cleanup.clean_project(p, True); "
        f"print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "sqlalchemy" in loaded
    assert not {"pandas", "numpy", "mlflow"} & set(loaded)


def test_run_is_removed_only_if_old_and_not_among_the_newest(project: loader.Project) -> None:
    newest, young, old = create_run(project, 0), create_run(project, 29), create_run(project, 31)
    assert explain_kept_runs(project) == {newest: "the newest run", young: "younger than 30d"}
    assert explain_kept_runs(
        project.with_values("the test", retention={"min_runs": 3, "max_age": "0d"})
    ) == {
        newest: "the newest run",
        young: "one of the newest 3",
        old: "one of the newest 3",
    }
    assert set(
        explain_kept_runs(
            project.with_values("the test", retention={"min_runs": 1, "max_age": "0d"})
        )
    ) == {newest}


def test_runs_of_present_previous_and_recent_champions_are_kept(
    project: loader.Project,
) -> None:
    create_run(project, 0)
    runs = {v: create_run(project, 60 - int(v), v) for v in ("1", "2", "3", "4")}
    promote_versions(project, "1", "2", "3", days=40)
    assert (
        explain_kept_runs(project).items()
        >= {
            runs["3"]: "version 3 is in service",
            runs["2"]: "a rollback restores version 2",
        }.items()
    )
    assert not {runs["1"], runs["4"]} & explain_kept_runs(project).keys()
    kept = explain_kept_runs(
        project.with_values("the test", retention={"min_runs": 1, "max_age": "50d"})
    )
    assert kept[runs["1"]].startswith("version 1 was in service until")
    assert kept[runs["3"]] == "version 3 is in service"


def test_waiting_and_running_runs_are_kept_and_rejected_and_killed_ones_are_not(
    project: loader.Project,
) -> None:
    create_run(project, 0)
    waits, rejected = (
        create_run(project, 61, "1", status="waiting (approval)"),
        create_run(project, 62, "2", status="waiting (approval)"),
    )
    runs, killed = (
        create_run(project, 63, status="running", pid=os.getpid(), ended=None),
        create_run(project, 64, status="running", pid=2**22 + 1, ended=None),
    )
    approvals.record_approval(
        project,
        approvals.ReviewedVersion("2", "m", "e", "passed", 0, "bob"),
        "rejected",
        "ann",
        "no",
    )
    kept = explain_kept_runs(project)
    assert (kept[waits], kept[runs]) == ("it waits for an approval", "it is running")
    assert not {rejected, killed} & kept.keys()


def test_newest_run_of_all_rows_is_kept_besides_newer_samples(project: loader.Project) -> None:
    create_run(project, 50, sample=500)
    full = create_run(project, 60)
    assert explain_kept_runs(project)[full] == "the newest run of all rows"


def test_dry_run_changes_nothing_and_returns_the_same(project: loader.Project) -> None:
    create_run(project, 0)
    create_run(project, 60)
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


def test_shared_file_frees_space_with_its_last_link(project: loader.Project) -> None:
    kept, second, first = create_run(project, 0), create_run(project, 50), create_run(project, 60)
    for name, others in (("all", [second, kept]), ("two", [second]), ("one", [])):
        create_aged_file(first / name, 60, 10**6)
        for other in others:
            os.link(first / name, other / name)
    gone = {f.path: f.freed_bytes for f in cleanup.clean_project(project) if f.is_removed}
    assert gone[second] < 10**4
    assert 2 * 10**6 <= gone[first] < 2.01 * 10**6
    assert (kept / "all").stat().st_size == 10**6
    assert (kept / "all").stat().st_nlink == 1


def test_killed_cleanup_leaves_no_partial_run_and_the_next_completes_it(
    project: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, goes = create_run(project, 0), create_run(project, 60)
    create_aged_file(goes / "artifacts" / "big", 60, 1000)
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


def test_leftovers_are_removed_and_files_being_written_are_kept(
    project: loader.Project,
) -> None:
    run, running = create_run(project, 0), create_run(project, 1, status="running", pid=os.getpid())
    goes = {
        create_aged_file(run / "artifacts" / ".x.parquet.ab12_xyz", 1): "half written",
        create_aged_file(
            project.reports_folder / "draft" / "stages" / ".train.json.abcdefgh", 1
        ): "half written",
        create_aged_file(run / ".reserve", 1): "half written",
        create_aged_file(project.reports_folder / ".review.html.12345678", 1): "half written",
        create_aged_file(
            project.reports_folder / "20200101-000000-abcd" / "config.json", 1
        ).parent: "half made",
    }
    stays = [
        create_aged_file(running / ".x.parquet.ab12_xyz", 1),
        create_aged_file(run / ".y.json.ab12_xyz", 0),
        create_aged_file(project.reports_folder / "mine" / "notes.md", 9),
        create_aged_file(project.reports_folder / "20200102-000000-abcd" / "config.json", 0),
        create_aged_file(run / "logs" / ".hidden", 9),
    ]
    assert {f.path: f.reason for f in cleanup.clean_project(project) if f.is_removed} == goes
    assert all(p.exists() for p in stays)
    assert not any(p.exists() for p in goes)


def test_cached_files_are_removed_by_age(project: loader.Project) -> None:
    cache = project.resolve_path(".mlops") / "cache"
    old, new, folder = (
        create_aged_file(cache / "study.log", 31, 10),
        create_aged_file(cache / "other.log", 29),
        create_aged_file(cache / "deep" / "x", 31),
    )
    os.utime(create_aged_file(folder.parent / "y", 1))  # one young file keeps its folder
    assert [
        (f.kind, f.path, f.freed_bytes) for f in cleanup.clean_project(project) if f.is_removed
    ] == [("cache", old, 10)]
    assert new.exists()
    assert folder.exists()


def test_commands_list_and_clean_with_options_over_settings(
    project: loader.Project,
) -> None:
    runs = [create_run(project, days) for days in (0, 10, 20)]
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


def scrub_text(folder: Path, text: str, settings: str) -> str:
    (folder / "mlops.yaml").write_text(YAML + settings)
    return secrets.make_scrubber(loader.load_project(folder))(text)


@pytest.mark.parametrize(
    "value", ["hunter2", "a b/c+d&e=?", "qu\"o'te\\n", "zeile\nzwei", "pässwört", "<b>&amp;"]
)
def test_secret_is_scrubbed_in_every_form(
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
        shown = scrub_text(tmp_path, text, "secrets: [API_KEY]\n")
        assert shown.count("•••API_KEY•••") == 1
        assert set(re.findall(r"\w", shown.replace("API_KEY", ""))) <= set("xyk")


def test_longer_of_two_secrets_is_scrubbed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "abcd")
    monkeypatch.setenv("LONG", "abcdefgh")
    assert (
        scrub_text(tmp_path, "abcdefgh abcd", "secrets: [SHORT, LONG]\n")
        == "•••LONG••• •••SHORT•••"
    )


def test_unset_and_short_secrets_scrub_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "abc")
    assert scrub_text(tmp_path, "abc 0.7543", "secrets: [SHORT, UNSET_NAME]\n") == "abc 0.7543"
    assert scrub_text(tmp_path, "abc", "") == "abc"


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
def test_passwords_in_urls_and_tokens_are_scrubbed_without_being_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, text: str, shown: str
) -> None:
    for name, value in {
        "WHO": "postgres",
        "PW": "s3cr/t",
        "TOKEN": "t0k3n",
        "URL": "postgresql://me:inner@db/x",
    }.items():
        monkeypatch.setenv(name, value)
    assert scrub_text(tmp_path, text, settings) == shown
