"""A small project with two reviewed versions, made of stored results alone; nothing is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mlops_kit.core import files
from mlops_kit.core.results import KeyNumber, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.db import approvals
from mlops_kit.db.approvals import ReviewedVersion
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project import artifacts, loader
from mlops_kit.project.config import pipeline

PROJECT_YAML = """
name: flights
source: t.csv
target: late
task: binary
row_name: flight
time: scheduled
timezone: America/New_York
cost: {false_alarm: 10, miss: 25, unit: $}
"""
OLD_RUN, NEW_RUN = "20130601-040000-aaaa", "20130701-061200-bbbb"
SCRIPT = "<script>document.title = 'owned'</script>"
DIFFERENCES = [
    ("cost", "Cost per flight", 0.19, 0.13, 0.25, 0.04, "better", "$0.19 less", 28293),
    ("roc_auc", "ROC-AUC", 0.015, 0.011, 0.020, 0.005, "better", "+ 0.015", 28293),
    ("log_loss", "Log loss", 0.013, 0.009, 0.017, 0.004, "better", "0.013 less", 28293),
    (
        "calibration_error",
        "Calibration error",
        0.001,
        -0.003,
        0.005,
        0.005,
        "no worse",
        "0.001 less",
        28293,
    ),
    (
        "worst_slice",
        f"Worst slice: carrier {SCRIPT}",
        -0.006,
        -0.025,
        0.013,
        0.005,
        "cannot tell",
        "− 0.006",
        812,
    ),
]
MODEL_CARD = "<!doctype html><html lang=en><title>Model card</title><h1>Model card</h1></html>"
NOT_RUN_STAGE = {"status": "not run", "reason": "not chosen", "notebook": "none", "question": ""}
RECORD_ARTIFACTS = {"version", "comparison", "against", "numbers", "calibration", "changes"}
DIFFERENCE_COLUMNS = [
    "metric",
    "title",
    "difference",
    "low",
    "high",
    "margin",
    "verdict",
    "text",
    "rows",
]
PREDICTED = [0.02, 0.07, 0.12, 0.19, 0.26, 0.34, 0.43, 0.54, 0.67, 0.84]


def make_calibration_curve(name: str, bend: float) -> pd.DataFrame:
    """Make a curve that is ``bend`` off the diagonal."""
    observed = [score + bend * (0.5 - score) for score in PREDICTED]
    share = [0.16, 0.15, 0.14, 0.12, 0.11, 0.10, 0.08, 0.06, 0.05, 0.03]
    return pd.DataFrame(
        {
            "model": name,
            "predicted": PREDICTED,
            "observed": observed,
            "low": [value - 0.03 for value in observed],
            "high": [value + 0.03 for value in observed],
            "share": share,
        }
    )


def make_verdicts() -> Verdicts:
    """Make eight checks; one cannot tell, one is not applicable."""
    good = [
        Verdict(f"c{i}", title, "passed", "warns", f"{title}.", found, limit)
        for i, (title, found, limit) in enumerate(
            [
                ("Enough held-out rows", "28,293 rows", "≥ 200"),
                ("Both classes occur", "8,047 of class 1, 19,165 of class 0", "≥ 10 of each"),
                (
                    "Better than the baselines",
                    "gain 0.010 [0.003, 0.018] over a linear model",
                    "> 0",
                ),
                ("No feature from the future", "24 columns; none known after departure", "none"),
                ("Calibration", "0.025 [0.016, 0.041]", "≤ 0.050"),
                ("The final model agrees", "rank correlation 0.97", "≥ 0.90"),
            ]
        )
    ]
    unsure = Verdict(
        "slices",
        "No slice far below all rows",
        "cannot tell",
        "warns",
        "One slice may be weak.",
        "Airports with under 50 departures a month: ROC-AUC 0.69 [0.64, 0.73], 812 rows",
        "≥ 0.70",
        "about 2,600 rows would decide",
    )
    none = Verdict(
        "fair",
        "Fairness between groups",
        "not applicable",
        "warns",
        "no protected column is named",
        "no protected column is named",
        "",
        "name one in mlops.yaml",
    )
    return Verdicts.from_verdicts([*good, unsure, none])


def make_comparison_verdicts(champion: str) -> Verdicts:
    """Make the check against the champion, if there is one."""
    if not champion:
        return Verdicts(())
    verdict = Verdict(
        "against_champion",
        "No worse than the champion",
        "passed",
        "blocks",
        "The gain is 0.015.",
        "gain 0.015 [0.011, 0.020]",
        "≥ -0.005",
        diagnostics={"champion_version": champion},
    )
    return Verdicts((verdict,))


def make_results(number: str, against: str, hashes: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """Make what each stage of a version's run stored, by stage and name."""
    beside = [f"version {against}: {v}" if against else "" for v in ("$4.31", "47%", "0.771")]
    numbers = [
        KeyNumber(
            "Cost per flight",
            "$4.12" if against else "$4.31",
            ("$4.05 to $4.19, 95% interval", beside[0] or "without a model: $7.04"),
        ),
        KeyNumber(
            "Late among flagged",
            "52%",
            ("51% to 53%, 95% interval", beside[1], "flagged from a score of 0.27"),
        ),
        KeyNumber(
            "ROC-AUC", "0.786" if against else "0.771", ("0.781 to 0.791, 95% interval", beside[2])
        ),
        KeyNumber("Response time", "1.4 ms", ("p99 3.1 ms", "limit 20 ms")),
    ]
    metrics = pd.DataFrame(
        [
            ("roc_auc", 0.786 if against else 0.771, 0.781, 0.791, 0.774, 0.5),
            ("log_loss", 0.49, 0.457, 0.522, 0.503, 0.616),
        ],
        columns=["metric", "value", "low", "high", "baseline_linear", "baseline_constant"],
    )
    other = (
        Table(
            "Champion vs challenger",
            "On the same 28,293 rows of 2013-06-01 to 2013-06-30, 95% intervals.",
            pd.DataFrame(DIFFERENCES, columns=DIFFERENCE_COLUMNS),
        )
        if against
        else Table(
            "Champion vs challenger",
            "There was no champion to compare with.",
            pd.DataFrame(columns=DIFFERENCE_COLUMNS),
        )
    )
    curves = [
        make_calibration_curve("this model", 0.03),
        *([make_calibration_curve(f"version {against}", 0.2)] if against else []),
    ]
    slice_columns = [
        "slice",
        "column",
        "group",
        "rows",
        "mean_target",
        "value",
        "low",
        "high",
        "gap",
        "lift",
        "status",
    ]
    slices = pd.DataFrame(
        [
            ("origin = JFK", "origin", "JFK", 9204, 0.28, 0.79, 0.77, 0.81, 0.004, 0.95, "fine"),
            (
                f"carrier = {SCRIPT}",
                "carrier",
                SCRIPT,
                812,
                0.31,
                0.69,
                0.64,
                0.73,
                -0.096,
                1.05,
                "cannot tell",
            ),
        ],
        columns=slice_columns,
    )
    costs = pd.DataFrame(
        [
            ("the model's threshold", 0.27, 0.37, 0.52, 0.66, 4100, 2300, 4.12),
            ("flag every row", 0.0, 1.0, 0.3, 1.0, 19165, 0, 7.04),
        ],
        columns=[
            "rule",
            "threshold",
            "flagged",
            "precision",
            "recall",
            "false_alarms",
            "misses",
            "cost",
        ],
    )
    what_if = pd.DataFrame(
        [
            (row, score, "wind", is_, if_, then)
            for row, score in (("7001", 0.12), ("7002", 0.61))
            for is_, if_, then in (("3.1", "0", score), ("3.1", "20", score + 0.2))
        ],
        columns=["row", "score", "column", "value", "new_value", "new_score"],
    )
    changes = pd.DataFrame(
        [
            ("rows", "+ 28,243 (June), 158,411 in all"),
            ("columns", "+ 4: how late flights left in the last hours"),
            ("model", "LightGBM, was histogram boosting"),
            ("limits", "unchanged since the last approval"),
            ("code", f"3 cells in 02_prepare {SCRIPT}"),
        ],
        columns=["aspect", "change"],
    )
    return {
        "prepare": {
            "split": Table(
                "Data split",
                "131,661 rows to train on.",
                pd.DataFrame(
                    [
                        ("train", 131661, 0.24, "2013-01-01 05:15", "2013-05-30 05:00"),
                        ("test", 27212, 0.30, "2013-05-31 05:00", "2013-06-29 23:59"),
                    ],
                    columns=["part", "rows", "mean target", "first", "last"],
                ),
            )
        },
        "review": {
            "metrics": Table(
                "Performance on the held-out set",
                "ROC-AUC 0.786 [0.781, 0.791] on the newest 28,293 rows; a linear model has 0.774.",
                metrics,
            ),
            "calibration": Table(
                "Calibration", "This model is well calibrated.", pd.concat(curves)
            ),
            "costs": Table(
                "Decision cost",
                "Errors cost $4.12 per flight, $7.04 without a model.",
                costs,
            ),
            "slices": Table("Performance by slice", "One slice may be weak.", slices),
            "against": other,
            "importance": Table(
                "Feature importance",
                "wind is the most important feature.",
                pd.DataFrame(
                    [("wind", 0.05, 0.04, 0.06), (SCRIPT, 0.02, 0.01, 0.03)],
                    columns=["feature", "importance", "low", "high"],
                ),
            ),
            "what_if": Table("What-if analysis", "2 rows, 1 column.", what_if),
            "changes": Table("Changes", "Five things changed.", changes),
            "verdicts": make_verdicts(),
            "comparison": make_comparison_verdicts(against),
            "numbers": KeyNumbers(
                "Key numbers",
                "Errors cost $4.12 per flight with this model, $2.92 less than without one.",
                tuple(numbers),
            ),
            "card": MODEL_CARD,
            "version": {
                "version": number,
                "model_hash": hashes[0] or f"m{number}",
                "evidence_hash": hashes[1] or f"e{number}",
                "passed": True,
                "outcome": f"Version {number} is registered as challenger.",
            },
        },
    }


def write_run(
    project: loader.Project,
    run: str,
    number: str,
    against: str = "",
    status: str = "succeeded",
    drop: tuple[str, ...] = (),
    hashes: tuple[str, str] = ("", ""),
) -> Path:
    """Write the run of a version as the pipeline and its stages would."""
    folder = project.reports_folder / run
    stages: dict[str, Any] = {}
    for stage, values in make_results(number, against, hashes).items():
        stored = {}
        for name, value in values.items():
            if name not in drop:
                is_record = name in RECORD_ARTIFACTS
                artifact = artifacts.write_artifact(folder, stage, name, value, record=is_record)
                stored[name] = artifact.model_dump()
        files.write_json(
            folder / "stages" / f"{stage}.json",
            {
                "stage": stage,
                "artifacts": stored,
                "logged": {},
                "shown": [],
                "verdicts": [],
                "sentence": f"The stage {stage} succeeded.",
                "done": True,
            },
        )
        stages[stage] = {
            "status": "succeeded",
            "params": {},
            "question": "Does it succeed?",
            "started": "2013-07-01T10:12:00+00:00",
            "sentence": f"The stage {stage} succeeded.",
            "notebook": f"0_{stage}",
            "artifacts": stored,
        }
    waits = status.startswith("waiting")
    files.write_json(
        folder / "manifest.json",
        {
            "run": run,
            "project": "flights",
            "status": status,
            "started": "2013-07-01T10:00:00+00:00",
            "ended": "2013-07-01T10:12:00+00:00",
            "pid": 1,
            "note": "",
            "as_of": None,
            "until": None,
            "sample": 0,
            "seed": 0,
            "approval": "manual",
            "git": {"commit": "cae6ec227284296ea0586cd696166dddf06865a4", "dirty": True},
            "packages": {"pandas": "2.3.3"},
            "mlflow": {},
            "stages": {
                **dict.fromkeys(pipeline.DEFAULT_STAGES, NOT_RUN_STAGE),
                **stages,
                "deploy": {
                    "status": "waiting (approval)" if waits else "succeeded",
                    "notebook": "05_deploy",
                    "question": "May it serve?",
                    "params": {},
                },
            },
        },
    )
    files.write_json(
        folder / "config.json", project.config.model_dump(mode="json", exclude_unset=True)
    )
    return folder


def make_project(
    home: Path, numbers: tuple[str, str] = ("7", "8"), more: str = ""
) -> loader.Project:
    """Make the project: the first version's run succeeded, the second's waits."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "mlops.yaml").write_text(PROJECT_YAML + more)
    project = loader.load_project(home)
    old, new = numbers
    write_run(project, OLD_RUN, old)
    write_run(project, NEW_RUN, new, old, "waiting (approval)")
    return project


def make_facts(number: str) -> ReviewedVersion:
    """Make the facts about a version, as the registry has them."""
    return ReviewedVersion(number, f"m{number}", f"e{number}", "passed", 0, "bob")


def promote(project: loader.Project, number: str, by: str = "ann", why: str = "fit") -> None:
    """Put a version in service, as if it had been approved."""
    facts = make_facts(number)
    approvals.record_approval(project, facts, ApprovalOutcome.APPROVED, by, why)
    approvals.record_promotion(project, facts, approvals.get_current_promotion(project), by, why)
