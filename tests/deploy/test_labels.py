"""Labels from feedback, tables and the source: joined, corrected, repeated or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.data import labels, source, target
from mlops_kit.data.labels import LabelMessage
from mlops_kit.db import labels as db_labels
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project import loader

YAML = "name: small\nsource: t.csv\ntarget: y\ntask: binary\nid: k\ntime: at\nlabel_delay: 1d\n"
CONTRACT = "columns:\n  y: {type: TYPE, allowed: [NO, YES]}\n"
NOW = pd.Timestamp("2024-02-01", tz="UTC")


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    """A project with four logged predictions: for the rows 0 to 2, and row 0 again."""
    (tmp_path / "mlops.yaml").write_text(YAML)
    (tmp_path / "contract.yaml").write_text(
        CONTRACT.replace("TYPE", "boolean").replace("NO", "false").replace("YES", "true")
    )
    made = loader.load_project(tmp_path)
    log_predictions(
        made, [("p0", '["0"]'), ("p1", '["1"]'), ("p2", '["2"]'), ("p0 again", '["0"]')]
    )
    return made


def log_predictions(project: loader.Project, named: list[tuple[str, str]]) -> None:
    """Log predictions; row k has the timestamp midnight of January k + 1."""
    with open_transaction(project) as opened:
        for name, key in named:
            moment = format_timestamp(
                pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(days=int(key[2]))
            )
            opened.add(
                PredictionRecord(
                    name,
                    "small",
                    "1",
                    "h",
                    "",
                    "",
                    key,
                    moment,
                    0.5,
                    1.0,
                    "[]",
                    "endpoint",
                    "2024-01-05",
                )
            )


def format_day(day: int) -> str:
    return format_timestamp(pd.Timestamp(2024, 1, day, tz="UTC"))


def get_current_labels(project: loader.Project) -> dict[str, tuple[float | None, str]]:
    """Return each prediction's current label, and from when it was known."""
    found = query_records(project, sa.select(LabelRecord).where(LabelRecord.is_current))
    assert len(found) == len({f.prediction_id for f in found})
    return {f.prediction_id: (f.value, f.known_at) for f in found}


def send_feedback(project: loader.Project, *said: LabelMessage) -> list[str]:
    return labels.record_feedback(project, list(said), "2024-01-20")


def test_label_is_joined_once_and_then_repeated(project: loader.Project) -> None:
    assert send_feedback(
        project, LabelMessage("p0", True, format_day(3)), LabelMessage("p0", True, format_day(3))
    ) == [
        "joined",
        "repeated",
    ]
    assert send_feedback(project, LabelMessage("p0", True, format_day(9))) == ["repeated"]
    assert get_current_labels(project) == {"p0": (1.0, format_day(3))}
    assert len(query_records(project, sa.select(LabelRecord))) == 3


def test_later_label_corrects_and_earlier_one_is_outdated(
    project: loader.Project,
) -> None:
    assert send_feedback(
        project,
        LabelMessage("p1", False, format_day(4)),
        LabelMessage("p1", True, format_day(3)),
        LabelMessage("p1", True, format_day(5)),
        LabelMessage("p1", False, format_day(5)),
    ) == ["joined", "outdated", "corrected", "corrected"]
    assert send_feedback(project, LabelMessage("p1", True, format_day(4))) == ["outdated"]
    assert get_current_labels(project) == {"p1": (0.0, format_day(5))}


def test_label_of_an_unknown_prediction_waits_for_it(project: loader.Project) -> None:
    assert (
        send_feedback(
            project,
            LabelMessage("p9", True, format_day(3)),
            LabelMessage("p9", True, format_day(3)),
            LabelMessage("p9", False, format_day(6)),
            LabelMessage("nobody", True, format_day(3)),
        )
        == ["unknown"] * 4
    )
    log_predictions(project, [("p9", '["3"]')])
    assert labels.import_labels(project, make_history(project, {}), NOW) == {
        "joined": 1,
        "repeated": 1,
        "corrected": 1,
    }
    assert get_current_labels(project) == {"p9": (0.0, format_day(6))}
    assert labels.import_labels(project, make_history(project, {}), NOW) == {}


def test_waiting_label_does_not_replace_a_newer_one(
    project: loader.Project,
) -> None:
    send_feedback(project, LabelMessage("p9", True, format_day(5)))
    log_predictions(project, [("p9", '["3"]')])
    send_feedback(project, LabelMessage("p9", False, format_day(8)))
    assert labels.import_labels(project, make_history(project, {}), NOW) == {"outdated": 1}
    assert get_current_labels(project) == {"p9": (0.0, format_day(8))}


def test_feedback_names_predictions_by_id_only(project: loader.Project) -> None:
    assert send_feedback(project, LabelMessage('["2"]', True, format_day(4))) == ["unknown"]
    assert labels.import_labels(project, make_history(project, {}), NOW) == {}
    assert get_current_labels(project) == {}


def test_simultaneous_labels_do_not_fail(
    project: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    match_predictions = db_labels._match_predictions
    calls = []

    def match_then_lose_a_race(*arguments: Any) -> Any:
        calls.append(arguments)
        matches = match_predictions(*arguments)
        if len(calls) == 1:
            other = db_labels.EncodedLabel("p0", 0.0, "False", format_day(4))
            batch = db_labels.LabelImport("source", "2024-01-20", by_key=False, is_reread=False)
            db_labels._record_labels_once(project, [other], batch)
        return matches

    monkeypatch.setattr(db_labels, "_match_predictions", match_then_lose_a_race)
    assert send_feedback(project, LabelMessage("p0", True, format_day(5))) == ["corrected"]
    assert get_current_labels(project) == {"p0": (1.0, format_day(5))}


@pytest.mark.parametrize(
    ("kind", "no", "yes", "said"),
    [
        (
            "boolean",
            "false",
            "true",
            [
                (True, 1),
                (False, 0),
                (1, 1),
                ("true", 1),
                ("False", 0),
                (np.True_, 1),
                ("1.0", 1),
                ("maybe", None),
                (2, None),
                (0.5, None),
            ],
        ),
        (
            "integer",
            "0",
            "1",
            [(1, 1), (0.0, 0), ("1", 1), ("1.0", 1), (np.int64(0), 0), (2, None), ("one", None)],
        ),
        ("integer", "3", "7", [(3, 0), (7.0, 1), ("7", 1), (1, None)]),
        (
            "text",
            "'no'",
            "'yes'",
            [("yes", 1), ("no", 0), (" yes ", 1), ("Yes", None), (1, None), (True, None)],
        ),
        ("text", "'0'", "'1'", [("1", 1), (1, 1), ("1.0", None)]),
    ],
)
def test_class_is_recognized_in_every_type(
    project: loader.Project, kind: str, no: str, yes: str, said: list[tuple[Any, int | None]]
) -> None:
    (project.root / "contract.yaml").write_text(
        CONTRACT.replace("TYPE", kind).replace("NO", no).replace("YES", yes)
    )
    coder = target.TargetEncoder(project)
    assert [(v, coder(v)) for v, _ in said] == said
    assert coder(None) is coder([1]) is coder({}) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1.5, 1.5),
        ("2", 2.0),
        (np.float32(0.5), 0.5),
        (True, None),
        ("x", None),
        (float("nan"), None),
        (float("inf"), None),
        (None, None),
    ],
)
def test_regression_value_is_a_finite_number(
    project: loader.Project, value: Any, number: float | None
) -> None:
    coder = target.TargetEncoder(project.with_values("the test", task="regression"))
    assert coder(value) == number


def make_history(project: loader.Project, values: dict[int, Any]) -> pd.DataFrame:
    """Write the source with these values of the target, and read it."""
    (project.root / "t.csv").write_text(
        "k,at,y\n"
        + "".join(f"{k},2024-01-{k + 1:02},{v}\n" for k, v in values.items())
        + "8,2024-01-30,\n"
    )
    return source.read_source(project, NOW.to_pydatetime())


def test_source_labels_all_predictions_of_its_rows(
    project: loader.Project,
) -> None:
    made = labels.import_labels(project, make_history(project, {0: True, 1: False, 5: True}), NOW)
    assert made == {"joined": 2}
    assert get_current_labels(project) == {
        "p0": (1.0, format_day(2)),
        "p0 again": (1.0, format_day(2)),
        "p1": (0.0, format_day(3)),
    }


def test_source_read_again_stores_only_corrections(project: loader.Project) -> None:
    labels.import_labels(project, make_history(project, {0: True, 1: False}), NOW)
    before = len(query_records(project, sa.select(LabelRecord)))
    assert labels.import_labels(project, make_history(project, {0: True, 1: False}), NOW) == {}
    assert len(query_records(project, sa.select(LabelRecord))) == before
    assert labels.import_labels(project, make_history(project, {0: True, 1: True}), NOW) == {
        "corrected": 1
    }
    assert get_current_labels(project)["p1"] == (1.0, format_day(3))


def add_label_table(project: loader.Project, text: str, **given: Any) -> loader.Project:
    """Return the project with a ``labels:`` table."""
    (project.root / "labels.csv").write_text(text)
    return project.with_values("the test", labels={"source": "labels.csv", **given})


def test_label_table_is_joined_by_key_once_known(project: loader.Project) -> None:
    made = add_label_table(
        project,
        "k,y,told\n1,true,2024-01-05\n2,false,2024-01-06\n7,true,2024-01-05\n0,true,2024-03-01\n1,perhaps,2024-01-09\n2,,2024-01-09\n",
        time="told",
    )
    assert labels.import_labels(made, make_history(project, {}), NOW) == {
        "joined": 2,
        "unknown": 1,
        "refused": 1,
    }
    assert get_current_labels(project) == {"p1": (1.0, format_day(5)), "p2": (0.0, format_day(6))}
    before = len(query_records(project, sa.select(LabelRecord)))
    labels.import_labels(made, make_history(project, {}), NOW)
    assert (
        len(query_records(project, sa.select(LabelRecord))) == before
    )  # what could not be joined was told once
    log_predictions(project, [("p7", '["7"]'), ("p7 again", '["7"]')])
    assert labels.import_labels(made, make_history(project, {}), NOW)["joined"] == 1
    assert (
        get_current_labels(project)["p7"]
        == get_current_labels(project)["p7 again"]
        == (1.0, format_day(5))
    )


def test_label_table_may_name_predictions(project: loader.Project) -> None:
    made = add_label_table(project, "prediction_id,late\np2,1\n", key="prediction_id", value="late")
    assert labels.import_labels(made, make_history(project, {}), NOW) == {"joined": 1}
    assert get_current_labels(project) == {"p2": (1.0, format_timestamp(NOW))}


def test_label_table_without_a_column_is_refused(project: loader.Project) -> None:
    with pytest.raises(KitError, match=r"labels\.source has no column 'when'"):
        labels.import_labels(
            add_label_table(project, "k,y\n1,true\n", time="when"), make_history(project, {}), NOW
        )


def test_nothing_is_imported_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(YAML)
    assert labels.import_labels(loader.load_project(tmp_path), pd.DataFrame(), NOW) == {}
    assert not (tmp_path / ".mlops").exists()
