"""Ten extensions added from a project, each in at most fifteen lines, and their effect in a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import skops.io as skops
from nbformat.v4 import new_code_cell, new_notebook
from sklearn.neighbors import KNeighborsClassifier

from mlops_kit.core.errors import RunFailedError
from mlops_kit.dashboards.monitoring_page import MonitoringPage
from mlops_kit.dashboards.review_page import ReviewPage
from mlops_kit.data import source
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.pipeline import failed_checks, params, plan
from mlops_kit.pipeline.plan import PlanAction, PlannedStage
from mlops_kit.project import loader, plugins, run_folder, run_manifest
from mlops_kit.registry import models, versions
from mlops_kit.watch import loop
from tests.support import watched_project as watched
from tests.support.environment import make_clean_environment
from tests.support.page_text import read_text

MAX_LINES = 15
PLUGINS = {
    "my_metric": """\
from mlops_kit import register_metric

@register_metric("mean_class_accuracy", "balanced accuracy", "binary", greater_is_better=True)
def compute_mean_class_accuracy(y, score, threshold, weights):
    flagged = score >= threshold
    sensitivity = (weights * y * flagged).sum() / (weights * y).sum()
    specificity = (weights * (1 - y) * ~flagged).sum() / (weights * (1 - y)).sum()
    return (sensitivity + specificity) / 2
""",
    "my_family": """\
from sklearn.neighbors import KNeighborsClassifier
from mlops_kit import ParameterRange, build_model_pipeline, register_model_family

SPACE = {"n_neighbors": ParameterRange(20, 60, 40)}
TYPES = [
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
]

@register_model_family("neighbors", "neighbors", SPACE, tasks=["binary"], trusted_types=TYPES)
def build_neighbors(params, task, frame, features, seed):
    model = KNeighborsClassifier(**params, algorithm="kd_tree")
    return build_model_pipeline(model, frame, features, scaled=True)
""",
    "my_check": """\
from mlops_kit import CheckOutcome, make_verdict, register_check

@register_check("few_columns", "Few columns", "warns")
def check_column_count(evidence):
    rows = evidence.labeled_rows
    return make_verdict(CheckOutcome.FAILED, f"Only {rows} rows, says the project.", f"{rows}")
""",
    "my_rule": """\
from mlops_kit import RuleRole, register_retraining_rule

@register_retraining_rule("freeze", RuleRole.STOP)
def stop_during_freeze(evidence):
    return "No model is changed before Christmas."
""",
    "my_reader": """\
import pandas as pd
from mlops_kit import register_reader

@register_reader(".psv")
def read_pipe_separated(url, limit):
    return pd.read_csv(url, sep="|", nrows=limit)
""",
    "my_drift_test": """\
from scipy import stats
from mlops_kit import DriftTestResult, register_drift_test

@register_drift_test("mean_shift", "number")
def run_mean_shift_test(reference, current):
    result = stats.ttest_ind(reference, current, equal_var=False)
    shift = abs(current.mean() - reference.mean()) / reference.std()
    return DriftTestResult(float(result.statistic), float(shift), float(result.pvalue))
""",
    "my_review_panel": """\
from mlops_kit import register_dashboard_panel

@register_dashboard_panel("metrics", "All <metrics>", page="review")
def show_metrics(context):
    return context.read_artifact("metrics")
""",
    "my_signal": """\
from mlops_kit import register_incident_signal

@register_incident_signal("night", "Rows from the <future>")
def detect_new_rows(evidence):
    return f"Version {evidence.version} scored {len(evidence.features)} rows."
""",
    "my_sink": """\
from pathlib import Path
from mlops_kit import register_alert_sink

@register_alert_sink("pager")
def send_to_pager(alert):
    with open(alert.project_folder / "pager.txt", "a") as file:
        file.write(f"{alert.number} {alert.event} {alert.signal} {alert.severity}\\n")
""",
    "my_panel": """\
import pandas as pd
from mlops_kit import Table, register_dashboard_panel

@register_dashboard_panel("owner", "Owner")
def show_owner(context):
    owners = pd.DataFrame({"version": [context.version], "owner": ["the <pricing> team"]})
    return Table("Owner", "Who is called at night.", owners)
""",
}
RUN_PLUGINS = ["my_metric", "my_family", "my_check", "my_rule", "my_reader", "my_drift_test"]
RUN_PLUGINS += ["my_review_panel"]
SETTINGS = f"""\
name: extended
source: rows.psv
target: y
task: binary
id: k
time: at
as_of: 2024-02-20
until: 2024-03-11
approval: automatic
plugins: [{", ".join(RUN_PLUGINS)}]
validation: {{test: 10d, folds: 2}}
train: {{trials: 2, families: [neighbors], metric: mean_class_accuracy}}
review: {{draws: 100, metric: mean_class_accuracy}}
monitor: {{tests: {{number: mean_shift}}, min_rows: 50}}
stages:
  explore: {{params: {{profile_rows: 0}}}}
  count: {{notebook: count.ipynb, needs: [prepare], writes: [row_count]}}
"""
OWN_STAGE = [
    new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
    new_code_cell(
        "from mlops_kit import open_stage\n"
        "stage = open_stage('count', seed=seed)\n"
        "stage.write('row_count', {'rows': len(stage.read('features'))})\n"
        "stage.hand_over('Counted.')"
    ),
]


def make_rows() -> pd.DataFrame:
    """Make twenty rows a day for seventy days; ``a`` moves at the end."""
    rng = np.random.default_rng(5)
    count = 1400
    a = rng.normal(size=count) + np.where(np.arange(count) >= 1000, 1.0, 0.0)
    minutes = np.arange(count) * 72
    return pd.DataFrame(
        {
            "k": np.arange(count),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min"),
            "a": a,
            "b": rng.normal(size=count),
            "y": (rng.random(count) < 1 / (1 + np.exp(-2 * a))).astype(int),
        }
    )


def write_plugins(home: Path, names: list[str]) -> None:
    for name in names:
        (home / f"{name}.py").write_text(PLUGINS[name])


@pytest.fixture(autouse=True)
def no_plugins_left() -> Iterator[None]:
    yield
    plugins.deactivate_plugins()


def run_command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", *map(str, words)],
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def plan_run(home: Path) -> list[PlannedStage]:
    """Plan a run in this process, which has the libraries of the plugins loaded already."""
    project = source.resolve_cutoffs(loader.load_project(home))
    stages = list(project.config.stages)
    values: dict[str, dict[str, Any]] = {}
    for stage in stages:
        values[stage] = params.extract_values(params.resolve_parameters(project, stage, {}))
    return plan.plan_stages(project, stages, values)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the extensions that a run uses, after a run."""
    home = tmp_path_factory.mktemp("extended") / "home"
    home.mkdir()
    (home / "mlops.yaml").write_text(SETTINGS)
    write_plugins(home, RUN_PLUGINS)
    make_rows().to_csv(home / "rows.psv", sep="|", index=False)
    project = loader.load_project(home)
    shutil.copytree(project.package_notebooks_folder, home / "notebooks")
    nbformat.write(new_notebook(cells=OWN_STAGE), home / "notebooks" / "count.ipynb")
    completed = run_command("run", "--project", home)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return home


@pytest.fixture
def project(home: Path) -> loader.Project:
    return loader.load_project(home)


def read_artifact(project: loader.Project, name: str) -> Any:
    (run,) = run_folder.list_run_folders(project.reports_folder)
    return run_folder.read_run_artifact(run, name)


@pytest.mark.parametrize("name", PLUGINS)
def test_extension_has_at_most_fifteen_lines(name: str) -> None:
    assert len(PLUGINS[name].splitlines()) <= MAX_LINES


def test_metric_of_a_plugin_is_optimized_and_reviewed(project: loader.Project) -> None:
    metrics = read_artifact(project, "metrics").to_frame()
    assert "mean_class_accuracy" in set(metrics["metric"])
    intervals = read_artifact(project, "metrics").to_intervals()["mean_class_accuracy"]
    assert intervals.low < intervals.value < intervals.high
    assert read_artifact(project, "recipe")["metric"] == "mean_class_accuracy"


def test_family_of_a_plugin_serves_with_the_types_it_declares(project: loader.Project) -> None:
    version, model = versions.load_champion(project)
    assert isinstance(model.named_steps["model"], KNeighborsClassifier)
    assert "a" in version.features


def test_model_of_a_family_that_declares_no_types_is_refused(home: Path, tmp_path: Path) -> None:
    _, model = versions.load_champion(loader.load_project(home))
    file = tmp_path / "model.skops"
    skops.dump(model, file)
    assert "sklearn.neighbors._kd_tree.KDTree" in models.check_model_types(file)
    plugins.deactivate_plugins()
    copy = Path(shutil.copytree(home, tmp_path / "copy"))
    undeclared = PLUGINS["my_family"].replace("trusted_types=TYPES", "trusted_types=[]")
    (copy / "my_family.py").write_text(undeclared)
    loader.load_project(copy)
    refusal = "EuclideanDistance64', which is not on the allow-list"
    with pytest.raises(RunFailedError, match=refusal):
        models.check_model_types(file)


def test_check_of_a_plugin_is_in_the_review(project: loader.Project) -> None:
    verdicts = {verdict.check: verdict for verdict in read_artifact(project, "verdicts")}
    assert verdicts["few_columns"].outcome == "failed"
    assert verdicts["few_columns"].title == "Few columns"
    (run,) = run_folder.list_run_folders(project.reports_folder)
    failed = failed_checks.list_failed_checks(run, run_manifest.read_manifest(run))
    assert "few_columns" in {check.verdict.check for check in failed}


def test_rule_of_a_plugin_decides_on_retraining(project: loader.Project) -> None:
    decision = read_artifact(project, "decision")
    assert decision["action"] == "stop"
    assert decision["reason"] == "No, and stop: No model is changed before Christmas."


def test_reader_of_a_plugin_reads_the_source(project: loader.Project) -> None:
    assert read_artifact(project, "row_count") == {"rows": 1000}


def test_drift_test_of_a_plugin_is_chosen_by_kind_of_column(project: loader.Project) -> None:
    drift = read_artifact(project, "drift").to_frame().set_index("column")
    assert drift.loc["a", "status"] == "alert"
    assert 0.7 < drift.loc["a", "effect"] < 1.4  # standard deviations, which no other test returns
    assert drift.loc["b", "effect"] < 0.3


def test_stage_of_the_project_runs_in_the_chain(project: loader.Project) -> None:
    (run,) = run_folder.list_run_folders(project.reports_folder)
    stages = run_manifest.read_manifest(run).stages
    assert stages["count"].status == "succeeded"
    assert read_artifact(project, "row_count")["rows"] == 1000


def test_panel_of_a_plugin_is_a_tab_of_the_review_page(project: loader.Project) -> None:
    page = ReviewPage(project)
    assert page.plugin_tabs == {"plugin-metrics": "All <metrics>"}
    html = str(page.html())
    assert "All &lt;metrics&gt;" in html
    assert "All <metrics>" not in html
    assert "mean_class_accuracy" in read_text(page.plugin_panels())


CHANGES = {
    "my_metric": ("flagged = score", "flagged = score ", ["train", "review", "monitor"]),
    "my_family": ("20, 60, 40", "20, 60, 50", ["train", "review", "deploy"]),
    "my_check": ("says the project", "says the team", ["review"]),
    "my_rule": ("before Christmas", "before Easter", ["retrain"]),
    "my_reader": (
        "nrows=limit",
        "nrows=limit, header=0",
        ["explore", "prepare", "deploy", "monitor"],
    ),
    "my_drift_test": ("equal_var=False", "equal_var=True", ["monitor"]),
    "my_review_panel": ("metrics", "verdicts", []),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_plugin_makes_stale_what_used_it(name: str, home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "copy"))
    old, new, stages = CHANGES[name]
    (copy / f"{name}.py").write_text(PLUGINS[name].replace(old, new))
    steps = plan_run(copy)
    stale = [step.stage for step in steps if step.action is PlanAction.RUN]
    assert stale == stages
    for step in steps:
        if step.stage in stale:
            assert step.reasons[0].startswith(f"`{name}.py` changed")


def test_run_with_plugins_is_reproduced(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "copy"))
    (run,) = run_folder.list_run_folders(copy / "reports")
    completed = run_command("reproduce", run.name, "--project", copy)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_plugins_are_not_imported_where_there_is_nothing_to_do(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(home, tmp_path / "copy", symlinks=True))
    for name in RUN_PLUGINS:  # the copy has files of its own, so its index is written first
        os.utime(copy / f"{name}.py")
    assert run_command("plan", "--project", copy).returncode == 0
    completed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mlops_kit.cli", "run", "--project", str(copy)],
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert completed.stdout.lstrip().startswith("Nothing to do")
    imported = {line.rpartition("|")[2].strip() for line in completed.stderr.splitlines()}
    assert "mlops_kit.project.plugins" in imported
    assert imported.isdisjoint({*RUN_PLUGINS, "sklearn", "pandas", "scipy"})


@pytest.fixture(scope="module")
def watched_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A watched project with the extensions of the watch, after three weeks."""
    names = ["my_signal", "my_sink", "my_panel"]
    folder = tmp_path_factory.mktemp("watched") / "home"
    watched.build_project(folder, watched.YAML_WITHOUT_RETRAINING)
    write_plugins(folder, names)
    with (folder / "mlops.yaml").open("a") as file:
        file.write(f"plugins: {names}\nalerts: {{sinks: [pager, file]}}\n")
    project = loader.load_project(folder)
    until = project.parse_utc_timestamp("2024-02-20", "until")
    assert until is not None
    loop.replay_period(project, None, until, lambda *_, **__: None)
    return folder


def test_signal_of_a_plugin_opens_an_incident(watched_home: Path) -> None:
    project = loader.load_project(watched_home)
    incidents = {i.signal: i for i in watched.list_records(project, IncidentRecord)}
    assert incidents["night"].title == "Rows from the <future>"
    assert incidents["night"].message == "Version 1 scored 280 rows."
    assert incidents["night"].window_count == 2
    assert incidents["night"].closed_at is None


def test_sink_of_a_plugin_gets_each_alert_once(watched_home: Path) -> None:
    lines = (watched_home / "pager.txt").read_text().splitlines()
    events = [line.split()[1:] for line in lines]
    assert ["opened", "night", "watch"] in events
    assert ["opened", "realised", "act"] in events  # stored by earlier versions
    numbers = [line.split()[0] for line in lines]
    assert len(set(numbers)) == len(numbers) == len(events)
    stored = (watched_home / "reports" / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line)["signal"] for line in stored] == [event[1] for event in events]


def test_alerts_that_a_sink_did_not_take_are_on_the_page(
    watched_home: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(watched_home, tmp_path / "copy"))
    before = MonitoringPage(loader.load_project(copy)).panel("incidents")
    assert "not sent" not in read_text(before)
    failing = "    raise OSError('no <line>')\n    with open"
    (copy / "my_sink.py").write_text(PLUGINS["my_sink"].replace("    with open", failing))
    project = loader.load_project(copy)
    until = project.parse_utc_timestamp("2024-03-01", "until")
    assert until is not None
    lines: list[str] = []
    loop.replay_period(project, None, until, lambda text, **_: lines.append(text))
    assert any("the alert sink 'pager' failed: OSError: no <line>" in line for line in lines)
    panel = MonitoringPage(project).panel("incidents")
    assert "not sent to 'pager' yet: OSError: no <line>" in read_text(panel)
    assert "no &lt;line&gt;" in str(panel)


def test_panel_of_a_plugin_is_a_tab_of_the_monitoring_page(watched_home: Path) -> None:
    page = MonitoringPage(loader.load_project(watched_home))
    html = str(page.html())
    assert "the &lt;pricing&gt; team" in html
    assert "the <pricing> team" not in html
    assert "Who is called at night." in read_text(page.panel("plugin-owner"))


def test_panel_that_fails_affects_nothing_else(watched_home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(watched_home, tmp_path / "copy"))
    (copy / "my_panel.py").write_text(
        PLUGINS["my_panel"].replace('["the <pricing> team"]', "1 / 0")
    )
    page = MonitoringPage(loader.load_project(copy))
    assert "This card cannot be shown. ZeroDivisionError" in read_text(page.panel("plugin-owner"))
    assert "Performance by window" in read_text(page.panel("performance"))
