"""mlops.yaml: every mistake is described with its field and a hint; every value has an origin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mlops_kit.core.errors import KitError
from mlops_kit.core.files import write_json
from mlops_kit.data import source
from mlops_kit.project import explain, loader, run_folder, run_manifest
from mlops_kit.project.config import pipeline, value_types
from mlops_kit.project.config.legacy import RENAMED_SETTINGS, translate_legacy_config
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.services import DashboardConfig, ServeConfig
from mlops_kit.project.settings import list_setting_values
from tests.support.environment import ROOT

VALID_YAML = (
    "name: tiny\nsource: t.csv\ntarget: late\ntask: binary\ntime: at\ntimezone: America/New_York\n"
)


def load_yaml(folder: Path, text: str = VALID_YAML) -> loader.Project:
    """Load a project with this ``mlops.yaml`` and a small table."""
    (folder / "mlops.yaml").write_text(text, encoding="utf-8")
    (folder / "t.csv").write_text("at,late\n2013-01-01,0\n2013-01-02,1\n")
    return loader.load_project(folder)


# Name: mlops.yaml, what the message says about the field, what it says about the correct value.
MISTAKES = {
    "unknown key": (VALID_YAML + "trian: {trials: 3}\n", "trian: unknown key", "'train'"),
    "unknown key of an optional section": (
        VALID_YAML + "labels: {sourc: x.csv}\n",
        "labels.sourc: unknown key",
        "'source'",
    ),
    "missing key of an optional section": (
        VALID_YAML + "labels: {}\n",
        "labels.source: missing",
        "expected: ",
    ),
    "unknown key of a section": (
        VALID_YAML + "train: {trails: 3}\n",
        "train.trails: unknown key",
        "'trials'",
    ),
    "unknown key of a stage": (
        VALID_YAML + "stages: {train: {ned: [prepare]}}\n",
        "stages.train.ned: unknown key",
        "'needs'",
    ),
    "wrong type": (VALID_YAML + "seed: abc\n", "seed: 'abc'", "integer"),
    "missing target": (
        VALID_YAML.replace("target: late\n", ""),
        "target: missing",
        "Column to predict",
    ),
    "target not in the data": (
        VALID_YAML.replace("target: late", "target: lat"),
        "target: column 'lat' is not in the source",
        "'late'",
    ),
    "invalid date": (VALID_YAML + "as_of: 2013-13-01\n", "as_of: '2013-13-01'", "2013-07-01"),
    "end before start": (
        VALID_YAML + "as_of: 2013-07-01\nuntil: 2013-06-01\n",
        "until 2013-06-01 is before as_of 2013-07-01",
        "a later one",
    ),
    "unknown search metric": (
        VALID_YAML + "train: {metric: log_los}\n",
        "train.metric: 'log_los'",
        "'log_loss'",
    ),
    "unknown headline metric": (
        VALID_YAML + "review: {metric: rmse}\n",
        "review.metric: 'rmse' is not known for the task binary",
        "roc_auc",
    ),
    "unknown family": (
        VALID_YAML + "train: {families: [linear, boostng]}\n",
        "train.families: 'boostng'",
        "'boosting'",
    ),
    "negative budget": (
        VALID_YAML + "train: {trials: -1}\n",
        "train.trials: -1",
        "greater than or equal to 1",
    ),
    "unknown stage": (
        VALID_YAML + "stages: {trian: {needs: [prepare]}}\n",
        "unknown stage 'trian'",
        "'train'",
    ),
    "unknown need": (
        VALID_YAML + "stages: {train: {needs: [prepar]}}\n",
        "stages.train.needs names the unknown stage 'prepar'",
        "'prepare'",
    ),
    "circle": (
        VALID_YAML + "stages: {prepare: {needs: [train]}}\n",
        "circle: prepare → train → prepare",
        "remove one of these needs",
    ),
    "artifact of two stages": (
        VALID_YAML + "stages: {train: {writes: [recipe]}, review: {writes: [./recipe]}}\n",
        "stages.review.writes: './recipe' is also written by train",
        "a name of its own for each artifact",
    ),
    "empty file": ("", "mlops.yaml is empty", "at least name, source, target and task"),
    "only comments": ("# nothing yet\n", "mlops.yaml is empty", "see the README"),
    "not YAML": ("name: [a\n", "mlops.yaml is not YAML", "edit mlops.yaml"),
    "a list": ("- a\n", "contains a list", "name: value"),
    "unknown task": (
        VALID_YAML.replace("binary", "classification"),
        "task: 'classification'",
        "'binary', 'multiclass' or 'regression'",
    ),
    "unknown time zone": (
        VALID_YAML.replace("America/New_York", "Amerika/New_York"),
        "timezone 'Amerika/New_York'",
        "Europe/Berlin",
    ),
    "invalid duration": (
        VALID_YAML + "label_delay: 1 fortnight\n",
        "label_delay: '1 fortnight'",
        "30d",
    ),
    "as_of without a time column": (
        VALID_YAML.replace("time: at\n", "") + "as_of: 2013-07-01\n",
        "need a time column",
        "'time'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_described_with_its_field_and_a_hint(tmp_path: Path, name: str) -> None:
    text, field, expected = MISTAKES[name]
    with pytest.raises(KitError) as error:
        source.check_configured_columns(load_yaml(tmp_path, text))
    message = str(error.value)
    assert field in message
    assert expected in message
    assert error.value.exit_code == 2
    assert "mlops.yaml" in error.value.hint + error.value.message
    assert error.value.hint
    assert "Traceback" not in message
    assert "pydantic" not in message


def test_missing_file_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"no mlops.yaml for") as error:
        loader.load_project(tmp_path)
    assert str(tmp_path) in error.value.message
    assert "--project" in error.value.hint
    assert error.value.exit_code == 2


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = VALID_YAML + "sed: 1\nsample: -1\ntrain: {max_seconds: 0}\n"
    with pytest.raises(KitError, match="has 3 mistakes") as error:
        load_yaml(tmp_path, text)
    assert all(field in str(error.value) for field in ("sed", "sample", "train.max_seconds"))


def test_all_columns_that_the_source_lacks_are_reported_at_once(tmp_path: Path) -> None:
    text = VALID_YAML + "id: nr\nexcluded_columns: [x]\nknown_later: {y: 1d, late: seen}\n"
    project = load_yaml(tmp_path, text)
    with pytest.raises(KitError) as error:
        source.check_configured_columns(project)
    assert all(f"column {c!r}" in str(error.value) for c in ("nr", "x", "y", "seen"))


def test_explanation_has_value_origin_and_meaning(tmp_path: Path) -> None:
    project = load_yaml(tmp_path, VALID_YAML + "train: {trials: 3}\nlabel_delay: 36h\n")
    rows = {row.name: row for row in explain.explain_settings(project.with_values("-p", seed=7))}
    assert (rows["seed"].value, rows["seed"].origin) == (7, "-p")
    assert (rows["train.trials"].value, rows["train.trials"].origin) == (3, "mlops.yaml")
    assert (rows["train.max_seconds"].value, rows["train.max_seconds"].origin) == (300, "default")
    assert (rows["label_delay"].value, rows["label_delay"].origin) == ("36h", "mlops.yaml")
    assert all(row.meaning for row in rows.values())


def test_replaced_values_are_validated(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="command line has a mistake") as error:
        load_yaml(tmp_path).with_values("command line", sample=-1)
    assert "sample: -1" in str(error.value)


def test_project_without_replaced_values_is_the_same_object(tmp_path: Path) -> None:
    project = load_yaml(tmp_path)
    assert project.with_values("command line", seed=None) is project


def test_timestamps_are_in_the_time_zone_of_the_project(tmp_path: Path) -> None:
    text = VALID_YAML + "as_of: 2013-07-01\nuntil: 2013-07-01T06:00+00:00\n"
    config = load_yaml(tmp_path, text).config
    assert config.as_of is not None
    assert config.until is not None
    assert config.to_utc(config.as_of) == datetime(2013, 7, 1, 4, tzinfo=UTC)  # summer time
    assert config.to_utc(config.until) == datetime(2013, 7, 1, 6, tzinfo=UTC)
    assert config.to_utc(datetime(2013, 1, 1)) == datetime(2013, 1, 1, 5, tzinfo=UTC)  # winter


def test_cut_offs_are_compared_across_time_zones(tmp_path: Path) -> None:
    text = VALID_YAML + "as_of: 2013-07-01\nuntil: 2013-07-01T03:00+00:00\n"
    with pytest.raises(KitError, match="is before"):
        load_yaml(tmp_path, text)


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
def test_duration_is_parsed_and_formatted(text: str, value: timedelta) -> None:
    assert value_types.parse_duration(text) == value
    assert value_types.parse_duration(value_types.format_duration(value)) == value


def test_default_stages_are_changed_and_own_stages_are_added(tmp_path: Path) -> None:
    text = "stages: {train: {params: {trials: 2}}, ours: {notebook: 08_ours.ipynb, needs: train}}\n"
    stages = load_yaml(tmp_path, VALID_YAML + text).config.stages
    assert stages["train"].params == {"trials": 2}
    assert stages["train"].notebook == "03_train.ipynb"
    assert set(pipeline.DEFAULT_STAGES) < set(stages)
    assert pipeline.order_stages(stages)[-1] == "ours"
    assert stages["ours"].needs == ["train"]


def test_project_without_default_notebooks_has_only_the_stages_that_it_lists(
    tmp_path: Path,
) -> None:
    (tmp_path / "notebooks").mkdir()
    text = "name: own\nstages: {fetch: {notebook: fetch.ipynb}, train: {notebook: train.ipynb}}\n"
    config = load_yaml(tmp_path, text).config
    assert list(config.stages) == ["fetch", "train"]
    assert config.stages["train"].needs == []


def test_project_is_found_from_a_subfolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_yaml(tmp_path)
    subfolder = tmp_path / "a" / "b"
    subfolder.mkdir(parents=True)
    monkeypatch.chdir(subfolder)
    assert loader.load_project().root == tmp_path
    monkeypatch.setenv("MLOPS_PROJECT", str(subfolder))
    with pytest.raises(KitError):  # the parents of a folder that was named are not searched
        loader.load_project()


def test_project_needs_four_settings(tmp_path: Path) -> None:
    config = load_yaml(tmp_path, "name: a\nsource: t.csv\ntarget: late\ntask: regression\n").config
    assert (config.search_metric, config.headline_metric, config.time) == ("rmse", "r2", None)
    assert config.non_feature_columns == {"late"}


OLD_CONFIG: dict[str, Any] = {
    "name": "tiny",
    "source": "t.csv",
    "target": "late",
    "task": "binary",
    "time": "at",
    "row": "flight",
    "leave_out": ["x"],
    "look_back": "9d",
    "seven": True,
    "known_later": {"row": "1d"},
    "train": {"trials": 3, "seconds": 60.0},
    "review": {"least": 0.7, "slices": ["a"]},
    "keep": {"runs": 2},
    "serve": {},
    "stages": {
        "train": {
            "notebook": "03_train.ipynb",
            "params": {"trials": {"value": 5, "most": 9}, "table": {"least": 1, "a": 2}},
        }
    },
}


def test_config_of_a_run_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    project = load_yaml(tmp_path)
    write_json(tmp_path / "config.json", OLD_CONFIG)
    config = run_folder.load_recorded_project(project, tmp_path).config
    assert config.row_name == "flight"
    assert config.excluded_columns == ["x"]
    assert config.lookback == timedelta(9)
    assert config.known_later == {"row": "1d"}
    assert (config.train.trials, config.train.max_seconds) == (3, 60.0)
    assert config.review.min_metric == 0.7
    assert config.retention.min_runs == 2
    params = config.stages["train"].params
    assert params == {"trials": {"value": 5, "max": 9}, "table": {"least": 1, "a": 2}}


def test_present_config_is_translated_to_itself(tmp_path: Path) -> None:
    project = load_yaml(tmp_path, VALID_YAML + "train: {trials: 3}\nretention: {min_runs: 2}\n")
    stored = project.config.model_dump(mode="json", exclude_unset=True)
    assert translate_legacy_config(stored) == stored


def test_every_renamed_setting_exists() -> None:
    config = ProjectConfig(name="a", source="t.csv", target="late", task="binary")
    assert set(RENAMED_SETTINGS.values()) <= set(list_setting_values(config))
    assert not set(RENAMED_SETTINGS) & set(list_setting_values(config))


@pytest.mark.parametrize("folder", [".", "examples/diabetes"])
def test_projects_of_the_repository_load(folder: str) -> None:
    root = ROOT / folder
    assert (
        loader.load_project(root).config.name
        == yaml.safe_load((root / "mlops.yaml").read_text())["name"]
    )


def test_settings_in_the_manifest_of_an_earlier_version_are_renamed(tmp_path: Path) -> None:
    entry = {"status": "succeeded", "trace": {"settings": {"train.seconds": 300, "seed": 0}}}
    manifest = {"run": "r", "status": "succeeded", "stages": {"train": entry}}
    write_json(tmp_path / "manifest.json", manifest)
    stored = run_manifest.read_manifest(tmp_path)
    dependencies = stored.get_stage("train").dependencies
    assert dependencies is not None
    assert dependencies.settings == {"train.max_seconds": 300, "seed": 0}


@pytest.mark.parametrize(
    ("value", "base_url", "path", "origin"),
    [
        ("/", "/", "/", ""),
        ("", "/", "/", ""),
        ("churn", "/churn/", "/churn/", ""),
        ("/a/b-c/", "/a/b-c/", "/a/b-c/", ""),
        ("https://host", "https://host/", "/", "https://host"),
        ("https://host:8443/churn", "https://host:8443/churn/", "/churn/", "https://host:8443"),
    ],
)
def test_path_prefix_of_the_dashboards_is_normalized(
    value: str, base_url: str, path: str, origin: str
) -> None:
    dashboard = DashboardConfig(base_url=value)
    assert (dashboard.base_url, dashboard.base_path) == (base_url, path)
    assert dashboard.public_origin == origin


@pytest.mark.parametrize(
    "value", ["/a b", "/../x", "/a?b", "ftp://host/", "https://", "https://me@host/", "/a//b"]
)
def test_path_prefix_that_is_none_is_an_error(value: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        DashboardConfig(base_url=value)
    with pytest.raises(ValidationError, match="expected"):
        ServeConfig(root_path=value)
