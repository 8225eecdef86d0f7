"""mlops.yaml: each mistake is worded with its field and its cure; each value says where it came from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data import source
from mlops_kit.project import explain, loader
from mlops_kit.project.config import pipeline, value_types

GOOD = (
    "name: tiny\nsource: t.csv\ntarget: late\ntask: binary\ntime: at\ntimezone: America/New_York\n"
)


def project(folder: Path, text: str = GOOD) -> loader.Project:
    (folder / "mlops.yaml").write_text(text, encoding="utf-8")
    (folder / "t.csv").write_text("at,late\n2013-01-01,0\n2013-01-02,1\n")
    return loader.load_project(folder)


MISTAKES = {
    "unknown key": (GOOD + "trian: {trials: 3}\n", "trian: unknown key", "'train'"),
    "unknown key of an optional section": (
        GOOD + "labels: {sourc: x.csv}\n",
        "labels.sourc: unknown key",
        "'source'",
    ),
    "missing key of an optional section": (
        GOOD + "labels: {}\n",
        "labels.source: missing",
        "expected: ",
    ),
    "unknown key of a section": (
        GOOD + "train: {trails: 3}\n",
        "train.trails: unknown key",
        "'trials'",
    ),
    "wrong type": (GOOD + "seed: abc\n", "seed: 'abc'", "integer"),
    "missing target": (GOOD.replace("target: late\n", ""), "target: missing", "Column to predict"),
    "target not in the data": (
        GOOD.replace("target: late", "target: lat"),
        "target: column 'lat' is not in the source",
        "'late'",
    ),
    "bad date": (GOOD + "as_of: 2013-13-01\n", "as_of: '2013-13-01'", "2013-07-01"),
    "end before start": (
        GOOD + "as_of: 2013-07-01\nuntil: 2013-06-01\n",
        "until 2013-06-01 lies before as_of 2013-07-01",
        "a later one",
    ),
    "unknown search metric": (
        GOOD + "train: {metric: log_los}\n",
        "train.metric: 'log_los'",
        "'log_loss'",
    ),
    "unknown headline metric": (
        GOOD + "review: {metric: rmse}\n",
        "review.metric: 'rmse' is not known for the task binary",
        "roc_auc",
    ),
    "unknown family": (
        GOOD + "train: {families: [linear, boostng]}\n",
        "train.families: 'boostng'",
        "'boosting'",
    ),
    "negative budget": (
        GOOD + "train: {trials: -1}\n",
        "train.trials: -1",
        "greater than or equal to 1",
    ),
    "unknown stage": (
        GOOD + "stages: {trian: {needs: [prepare]}}\n",
        "unknown stage 'trian'",
        "'train'",
    ),
    "unknown need": (
        GOOD + "stages: {train: {needs: [prepar]}}\n",
        "stages.train.needs names the unknown stage 'prepar'",
        "'prepare'",
    ),
    "circle": (
        GOOD + "stages: {prepare: {needs: [train]}}\n",
        "circle: prepare → train → prepare",
        "take one of these needs out",
    ),
    "empty file": ("", "mlops.yaml is empty", "at least name, source, target and task"),
    "only comments": ("# nothing yet\n", "mlops.yaml is empty", "see the README"),
    "not YAML": ("name: [a\n", "mlops.yaml is not YAML", "edit mlops.yaml"),
    "a list": ("- a\n", "holds a list", "name: value"),
    "unknown task": (
        GOOD.replace("binary", "classification"),
        "task: 'classification'",
        "'binary' or 'regression'",
    ),
    "unknown zone": (
        GOOD.replace("America/New_York", "Amerika/New_York"),
        "timezone 'Amerika/New_York'",
        "Europe/Berlin",
    ),
    "bad duration": (GOOD + "label_delay: 1 fortnight\n", "label_delay: '1 fortnight'", "30d"),
    "a moment without time": (
        GOOD.replace("time: at\n", "") + "as_of: 2013-07-01\n",
        "need a time column",
        "'time'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_the_field_and_the_cure(tmp_path: Path, name: str) -> None:
    text, field, cure = MISTAKES[name]
    with pytest.raises(KitError) as error:
        source.check_configured_columns(project(tmp_path, text))
    assert field in str(error.value)
    assert cure in str(error.value)
    assert error.value.exit_code == 2
    assert "mlops.yaml" in error.value.hint + error.value.message
    assert error.value.hint
    assert "Traceback" not in str(error.value)
    assert "pydantic" not in str(error.value)


def test_a_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no mlops.yaml for") as error:
        loader.load_project(tmp_path)
    assert str(tmp_path) in error.value.message
    assert "--project" in error.value.hint
    assert error.value.exit_code == 2


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="has 3 mistakes") as error:
        project(tmp_path, GOOD + "sed: 1\nsample: -1\ntrain: {seconds: 0}\n")
    assert all(field in str(error.value) for field in ("sed", "sample", "train.seconds"))


def test_all_columns_that_the_data_lack_are_told_at_once(tmp_path: Path) -> None:
    made = project(tmp_path, GOOD + "id: nr\nleave_out: [x]\nknown_later: {y: 1d, late: seen}\n")
    with pytest.raises(KitError) as error:
        source.check_configured_columns(made)
    assert all(f"column {c!r}" in str(error.value) for c in ("nr", "x", "y", "seen"))


def test_explain_tells_where_a_value_came_from(tmp_path: Path) -> None:
    made = project(tmp_path, GOOD + "train: {trials: 3}\nlabel_delay: 36h\n").with_values(
        "command line", seed=7
    )
    rows = {
        name: (value, origin, meaning)
        for name, value, origin, meaning in explain.explain_settings(made)
    }
    assert rows["seed"][:2] == (7, "command line")
    assert rows["train.trials"][:2] == (3, "mlops.yaml")
    assert rows["train.seconds"][:2] == (300, "default")
    assert rows["label_delay"][:2] == ("36h", "mlops.yaml")
    assert all(meaning for _, _, meaning in rows.values())


def test_values_laid_over_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="command line has a mistake") as error:
        project(tmp_path).with_values("command line", sample=-1)
    assert "sample: -1" in str(error.value)


def test_no_values_laid_over_leave_the_project_as_it_is(tmp_path: Path) -> None:
    made = project(tmp_path)
    assert made.with_values("command line", seed=None) is made


def test_moments_are_read_in_the_projects_zone(tmp_path: Path) -> None:
    made = project(tmp_path, GOOD + "as_of: 2013-07-01\nuntil: 2013-07-01T06:00+00:00\n").config
    assert made.to_utc(made.as_of) == datetime(2013, 7, 1, 4, tzinfo=UTC)  # New York's summer
    assert made.to_utc(made.until) == datetime(2013, 7, 1, 6, tzinfo=UTC)
    assert made.to_utc(datetime(2013, 1, 1)) == datetime(2013, 1, 1, 5, tzinfo=UTC)  # and winter


def test_the_order_of_moments_is_compared_across_zones(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="lies before"):
        project(tmp_path, GOOD + "as_of: 2013-07-01\nuntil: 2013-07-01T03:00+00:00\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30d", timedelta(30)),
        ("90m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("2w", timedelta(14)),
        ("45s", timedelta(seconds=45)),
    ],
)
def test_durations_are_read_and_written(text: str, value: timedelta) -> None:
    assert value_types.parse_duration(text) == value
    assert value_types.parse_duration(value_types.format_duration(value)) == value


def test_stages_are_changed_and_added(tmp_path: Path) -> None:
    made = project(
        tmp_path,
        GOOD
        + "stages: {train: {params: {trials: 2}}, ours: {notebook: 08_ours.ipynb, needs: train}}\n",
    ).config
    assert made.stages["train"].params == {"trials": 2}
    assert made.stages["train"].notebook == "03_train.ipynb"
    assert pipeline.order_stages(made.stages)[-1] == "ours"
    assert made.stages["ours"].needs == ["train"]


def test_the_project_is_found_from_a_folder_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path)
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert loader.load_project().root == tmp_path
    monkeypatch.setenv("MLOPS_PROJECT", str(inside))
    with pytest.raises(KitError):  # a folder that was named is not searched upwards
        loader.load_project()


def test_a_project_needs_four_lines(tmp_path: Path) -> None:
    made = project(tmp_path, "name: a\nsource: t.csv\ntarget: late\ntask: regression\n").config
    assert (made.search_metric, made.headline_metric, made.time) == ("rmse", "r2", None)
    assert made.non_feature_columns == {"late"}
