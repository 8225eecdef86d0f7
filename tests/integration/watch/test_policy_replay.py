"""``mlops replay`` on a small project: what was known each day, what is stored, what is printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mlops_kit
from mlops_kit.core.errors import KitError
from mlops_kit.db import predictions
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.labels import EncodedLabel, LabelImport, record_labels
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project import loader
from mlops_kit.watch.policy_replay import fits, workers
from mlops_kit.watch.policy_replay.comparison import replay_policies
from mlops_kit.watch.policy_replay.fits import FitRequest
from mlops_kit.watch.policy_replay.history import ReplayHistory, load_history
from mlops_kit.watch.policy_replay.policies import load_policies
from mlops_kit.watch.policy_replay.simulation import PolicySimulation, PolicyTimeline
from mlops_kit.watch.policy_replay.store import ReplayStore
from tests.support import watched_project as watched

pytestmark = pytest.mark.slow

START = datetime(2024, 1, 31, tzinfo=UTC)
END = datetime(2024, 2, 24, tzinfo=UTC)
DECISION_DAY = datetime(2024, 2, 15, tzinfo=UTC)  # of the second window
YAML = watched.YAML


def report_nothing(text: str, transient: bool = False) -> None:
    """Report nothing."""


def make_project(folder: Path, rows: pd.DataFrame) -> loader.Project:
    """Make a project without a champion."""
    folder.mkdir()
    (folder / "mlops.yaml").write_text(YAML)
    rows.to_csv(folder / "t.csv", index=False)
    return loader.load_project(folder)


def open_store(project: loader.Project) -> ReplayStore:
    """Open the store of a replay."""
    history = load_history(project, (0, 1), (START, END))
    folder = project.resolve_path(".mlops/replay")
    return workers.open_store(workers.describe_store(history, watched.RECIPE, folder))


def simulate_default(store: ReplayStore) -> PolicyTimeline:
    """Simulate the policy of the project."""
    policy = load_policies(store.history.project, ["default"])[0]
    return PolicySimulation(store, policy).run()


def plant_trap(rows: pd.DataFrame) -> pd.DataFrame:
    """Change what nobody could know on the decision day: later rows, and labels known later."""
    planted = rows.copy()
    times = planted["at"].dt.tz_localize(UTC)
    is_labeled_later = (times + timedelta(days=1) > DECISION_DAY).to_numpy()
    planted.loc[is_labeled_later, "y"] = 1 - planted.loc[is_labeled_later, "y"]
    planted.loc[(times >= DECISION_DAY).to_numpy(), "a"] = 50.0
    return planted


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReplayStore]:
    """The replay of the project, and of the same one with the trap."""
    folder = tmp_path_factory.mktemp("replay")
    rows = watched.make_rows()
    return {
        "honest": open_store(make_project(folder / "honest", rows)),
        "planted": open_store(make_project(folder / "planted", plant_trap(rows))),
    }


def list_known_decisions(timeline: PolicyTimeline) -> list[tuple[str, str]]:
    """List the decisions up to the decision day."""
    known = [decision for decision in timeline.decisions if decision.as_of <= DECISION_DAY]
    return [(decision.action, decision.reason) for decision in known]


def test_a_later_label_and_a_future_row_change_no_earlier_decision(
    stores: dict[str, ReplayStore],
) -> None:
    timelines = {name: simulate_default(store) for name, store in stores.items()}
    honest = list_known_decisions(timelines["honest"])
    assert len(honest) == 2
    assert honest == list_known_decisions(timelines["planted"])
    later = {name: timeline.decisions[-1].reason for name, timeline in timelines.items()}
    assert later["honest"] != later["planted"]


def test_a_later_label_and_a_future_row_change_no_earlier_model(
    stores: dict[str, ReplayStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = FitRequest(DECISION_DAY)
    honest, planted = (store.get_fit(request) for store in stores.values())
    assert honest.summary == planted.summary
    assert (honest.held_out == planted.held_out).all()
    held_out = honest.held_out
    assert (honest.evaluation_scores[held_out] == planted.evaluation_scores[held_out]).all()

    # The trap closes if a label is used before it is known.
    def reveal_labels(
        _history: ReplayHistory, rows: pd.DataFrame, _as_of: datetime
    ) -> pd.DataFrame:
        return rows

    monkeypatch.setattr(ReplayHistory, "_hide_later_labels", reveal_labels)
    leaking = [fits.fit_as_of(store.history, watched.RECIPE, request) for store in stores.values()]
    assert leaking[0].summary != leaking[1].summary


def test_the_policy_retrains_after_the_change_and_recovers(stores: dict[str, ReplayStore]) -> None:
    store = stores["honest"]
    timeline = simulate_default(store)
    promoted = [d.as_of for d in timeline.decisions if d.outcome == "promoted"]
    assert len(promoted) == 1
    assert timeline.periods[-1].start == promoted[0]
    change = timeline.requests[0].change_point
    assert change is not None
    assert abs(change - datetime(2024, 2, 10, tzinfo=UTC)) <= timedelta(days=1)
    assert timeline.decisions[-1].champion in {timeline.periods[0].request, timeline.requests[0]}


def test_an_interrupted_replay_continues_with_what_is_stored(
    stores: dict[str, ReplayStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores["honest"]
    before = simulate_default(store)

    def refuse(*_arguments: object) -> None:
        raise AssertionError("it is computed again")

    module = "mlops_kit.watch.policy_replay.store"
    for function in ("fit_as_of", "analyze_unlabeled_window", "analyze_labeled_window"):
        monkeypatch.setattr(f"{module}.{function}", refuse)
    again = ReplayStore(store.history, store.recipe, store.folder)
    assert simulate_default(again) == before


def log_label(project: loader.Project, row: pd.Series, value: float, arrived: datetime) -> None:
    """Log a prediction for a row, and its label with the code that it had when it arrived."""
    time = format_timestamp(pd.Timestamp(row["at"], tz=UTC).to_pydatetime())
    key = predictions.encode_row_key((int(row["k"]),))
    record = PredictionRecord(
        id="p1",
        model="watched",
        version="1",
        model_hash="m",
        request_id="",
        request_hash="",
        row_key=key,
        event_time=time,
        score=0.5,
        predicted_class=1.0,
        features="[]",
        origin="watch",
        scored_at=time,
    )
    with open_transaction(project) as transaction:
        transaction.add(record)
    label = EncodedLabel(key, value, str(int(row["y"])), format_timestamp(arrived))
    batch = LabelImport("labels", format_timestamp(arrived), by_key=True, is_reread=True)
    record_labels(project, [label], batch)


def test_a_label_that_the_log_got_later_is_known_later(tmp_path: Path) -> None:
    rows = watched.make_rows()
    project = make_project(tmp_path / "late", rows)
    late_row = rows.iloc[-300]
    time = pd.Timestamp(late_row["at"], tz=UTC).to_pydatetime()
    arrived = time + timedelta(days=5)
    log_label(project, late_row, float(late_row["y"]), arrived)
    history = load_history(project, (0, 1), (START, END + timedelta(days=5)))
    position = history.find_position(time)
    assert history.label_times.iloc[position] == pd.Timestamp(arrived)
    early = history.get_window_rows(np.array([position]), time + timedelta(days=4))
    late = history.get_window_rows(np.array([position]), arrived)
    assert early["y"].isna().all()
    assert late["y"].tolist() == [late_row["y"]]


def test_a_label_of_the_log_has_the_code_of_the_replayed_version(tmp_path: Path) -> None:
    rows = watched.make_rows()
    row = rows.iloc[-300]
    source_rows = rows.assign(y=rows["y"].where(rows.index != row.name))
    project = make_project(tmp_path / "recoded", source_rows)
    time = pd.Timestamp(row["at"], tz=UTC).to_pydatetime()
    log_label(project, row, float(row["y"]), time + timedelta(days=1))
    history = load_history(project, (1, 0), (START, END + timedelta(days=5)))
    position = history.find_position(time)
    assert history.table["y"].iloc[position] == 1 - row["y"]


def test_an_upgraded_package_reuses_no_stored_fit(
    stores: dict[str, ReplayStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores["honest"]
    before = workers.describe_store(store.history, store.recipe, tmp_path)
    assert workers.describe_store(store.history, store.recipe, tmp_path).folder == before.folder
    versions = workers.list_installed_versions() | {"scikit-learn": "99.0"}
    monkeypatch.setattr(workers, "list_installed_versions", lambda: versions)
    upgraded = workers.describe_store(store.history, store.recipe, tmp_path)
    assert upgraded.folder != before.folder


@pytest.fixture(scope="module")
def champion_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watched.build_project(tmp_path_factory.mktemp("champion") / "home", YAML).root


def test_the_command_compares_policies_and_the_client_reads_the_result(
    champion_folder: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(champion_folder, tmp_path / "home")
    (tmp_path / "yearly.yaml").write_text("max_age: 365d\n")
    options = ["--from", "2024-01-31", "--to", "2024-02-24", "--project", str(home), "--jobs", "2"]
    command = [sys.executable, "-m", "mlops_kit.cli", "replay", *options, "--policy"]
    policies = f"performance,{tmp_path / 'yearly.yaml'}"
    completed = subprocess.run([*command, policies], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert "yearly" in completed.stdout
    assert "oracle" in completed.stdout
    assert "# mlops.yaml\nretrain:" in completed.stdout
    assert "<svg" in (home / "reports" / "replay.html").read_text()

    result = mlops_kit.open(home).replay(
        "2024-01-31", "2024-02-24", ["performance", str(tmp_path / "yearly.yaml")]
    )
    costs = result.to_frame()
    assert set(costs["policy"]) == {"performance", "yearly", "default", "static", "oracle"}
    assert costs["retraining cost"].nunique() == 3
    assert (costs["regret"] >= -1e-9).all()
    assert "<svg" in result._repr_html_()
    records = json.loads((home / "reports" / "replay.json").read_text())
    assert records["schema_version"] == 1


def test_a_short_period_is_an_error_that_says_why(champion_folder: Path) -> None:
    project = loader.load_project(champion_folder)
    with pytest.raises(KitError, match="has 1 windows"):
        replay_policies(project, START, START + timedelta(days=9), [], report_nothing)
    with pytest.raises(KitError, match="not after its start"):
        replay_policies(project, START, START, [], report_nothing)
