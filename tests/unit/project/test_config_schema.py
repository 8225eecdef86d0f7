"""The JSON Schema of mlops.yaml accepts and refuses the same files as the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from mlops_kit.core.errors import KitError
from mlops_kit.project import config_schema, loader
from mlops_kit.project.config.pipeline import DEFAULT_STAGES, StageConfig
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.settings import walk_settings
from tests.support.environment import ROOT

SCHEMA = config_schema.build_config_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
FOUR_SETTINGS = "name: a\nsource: t.csv\ntarget: y\ntask: binary\n"
WITH_TIME = FOUR_SETTINGS + "time: at\n"

VALID = {
    "four settings": FOUR_SETTINGS,
    "a query": FOUR_SETTINGS.replace("t.csv", "{sql: select 1, url: 'sqlite:///x.db'}"),
    "one name instead of a list": FOUR_SETTINGS + "id: nr\nexcluded_columns: [a, b]\n",
    "timestamps": WITH_TIME + "as_of: 2013-07-01\nuntil: 2013-07-01T06:00\n",
    "timestamp with a zone": WITH_TIME + "as_of: 2013-07-01 06:00:00+02:00\n",
    "no timestamp": FOUR_SETTINGS + "as_of: null\nuntil: ''\n",
    "durations": WITH_TIME + "label_delay: 36h\nlookback: 1.5 d\nretrain: {max_age: 2w}\n",
    "no limit": FOUR_SETTINGS + "review: {min_metric: null}\nstages: {train: {timeout: null}}\n",
    "a share as held-out set": FOUR_SETTINGS + "validation: {test: 0.3}\n",
    "a duration as held-out set": WITH_TIME + "validation: {test: 30d}\n",
    "the earlier name of the held-out set": WITH_TIME + "split: {test: 30d, folds: 3}\n",
    "groups and repeats": FOUR_SETTINGS + "validation: {group: g, stratify: true, repeats: 3}\n",
    "groups in time": WITH_TIME + "validation: {group: g, stratify: false}\n",
    "row weights": FOUR_SETTINGS + "weight: w\n",
    "sizes": FOUR_SETTINGS + "retention: {max_data_size: 500MB}\nstages: {train: {memory: 4000}}\n",
    "rerun by age": FOUR_SETTINGS + "stages: {train: {rerun: {after: 7d}}}\n",
    "rerun by name": FOUR_SETTINGS + "stages: {train: {rerun: always}}\n",
    "a default stage without changes": FOUR_SETTINGS + "stages: {train: null}\n",
    "no stages": FOUR_SETTINGS + "stages: null\n",
    "an own stage": FOUR_SETTINGS + "stages: {ours: {notebook: o.ipynb, needs: train}}\n",
    "parameters": FOUR_SETTINGS + "stages: {train: {params: {trials: {value: 5, max: 9}, x: a}}}\n",
    "branches": FOUR_SETTINGS + "stages: {train: {foreach: {seed: [1, 2]}}}\n",
    "labels": FOUR_SETTINGS + "labels: {source: l.csv, key: prediction_id, time: known}\n",
    "names of alert sinks": FOUR_SETTINGS + "alerts: {sinks: [file]}\n",
    "alert sinks with settings": FOUR_SETTINGS
    + "alerts: {sinks: {file: null, team: {url_env: TEAM_URL, digest: 12h}}}\n",
    "the earlier name of alert sinks": WITH_TIME + "watch: {alerts: [file]}\n",
    "columns known later": WITH_TIME + "known_later: {a: 1d, b: seen}\n",
}
INVALID = {
    "an unknown key": FOUR_SETTINGS + "trian: {trials: 3}\n",
    "an unknown key of a section": FOUR_SETTINGS + "train: {trails: 3}\n",
    "an unknown key of an optional section": FOUR_SETTINGS + "labels: {sourc: x.csv}\n",
    "an unknown key of a stage": FOUR_SETTINGS + "stages: {train: {ned: [prepare]}}\n",
    "an unknown key of a query": FOUR_SETTINGS.replace("t.csv", "{sq: a, url: b}"),
    "a missing target": FOUR_SETTINGS.replace("target: y\n", ""),
    "a missing name": FOUR_SETTINGS.replace("name: a\n", ""),
    "a missing source beside changed stages": "name: a\nstages: {train: {retries: 1}}\n",
    "no source and no stages": "name: a\nstages: {}\n",
    "an own stage without a notebook": FOUR_SETTINGS + "stages: {trian: {needs: [prepare]}}\n",
    "an own stage without content": FOUR_SETTINGS + "stages: {ours: null}\n",
    "a name with a space": FOUR_SETTINGS.replace("name: a", "name: a b"),
    "an unknown task": FOUR_SETTINGS.replace("binary", "classification"),
    "text instead of a number": FOUR_SETTINGS + "seed: abc\n",
    "a negative number": FOUR_SETTINGS + "train: {trials: -1}\n",
    "zero seconds": FOUR_SETTINGS + "train: {max_seconds: 0}\n",
    "a fraction of a trial": FOUR_SETTINGS + "train: {trials: 1.5}\n",
    "a share above one": FOUR_SETTINGS + "contract: {max_quarantined_share: 1.5}\n",
    "a duration without a unit": FOUR_SETTINGS + "label_delay: 30\n",
    "a duration with an unknown unit": FOUR_SETTINGS + "label_delay: 1 fortnight\n",
    "a month that does not exist": WITH_TIME + "as_of: 2013-13-01\n",
    "a timestamp in words": WITH_TIME + "as_of: yesterday\n",
    "a cut-off without a time column": FOUR_SETTINGS + "as_of: 2013-07-01\n",
    "a held-out duration without a time column": FOUR_SETTINGS + "validation: {test: 30d}\n",
    "a held-out duration by its earlier name": FOUR_SETTINGS + "split: {test: 30d}\n",
    "a number as an alert sink by its earlier name": WITH_TIME + "watch: {alerts: [1]}\n",
    "an unknown setting by an earlier name": FOUR_SETTINGS + "split: {group: g, tset: 3}\n",
    "stratified in time": WITH_TIME + "validation: {stratify: true}\n",
    "repeated in time": WITH_TIME + "validation: {repeats: 2}\n",
    "a size in words": FOUR_SETTINGS + "stages: {train: {memory: much}}\n",
    "a negative size": FOUR_SETTINGS + "stages: {train: {memory: -1}}\n",
    "an unknown rerun": FOUR_SETTINGS + "stages: {train: {rerun: sometimes}}\n",
    "a section that is empty": FOUR_SETTINGS + "train: null\n",
    "a section that is a list": FOUR_SETTINGS + "train: [3]\n",
    "a port above the range": FOUR_SETTINGS + "serve: {port: 70000}\n",
    "a number in a list of names": FOUR_SETTINGS + "id: [1]\n",
    "one value instead of a list of values": FOUR_SETTINGS
    + "stages: {train: {foreach: {seed: 1}}}",
    "an unknown approval": FOUR_SETTINGS + "approval: maybe\n",
}
# What only the loader knows.
INVALID_FOR_THE_LOADER_ONLY = {
    "an unknown time zone": FOUR_SETTINGS + "timezone: Amerika/New_York\n",
    "until before as_of": WITH_TIME + "as_of: 2013-07-01\nuntil: 2013-06-01\n",
    "an unknown metric": FOUR_SETTINGS + "review: {metric: rmse}\n",
    "an unknown family": FOUR_SETTINGS + "train: {families: [boostng]}\n",
    "an unknown need": FOUR_SETTINGS + "stages: {train: {needs: [prepar]}}\n",
    "a circle": FOUR_SETTINGS + "stages: {prepare: {needs: [train]}}\n",
    "a day that does not exist": WITH_TIME + "as_of: 2013-02-30\n",
}


def is_valid_for_loader(folder: Path, text: str) -> bool:
    """Return whether the loader accepts a project with this mlops.yaml."""
    (folder / "mlops.yaml").write_text(text, encoding="utf-8")
    try:
        loader.load_project(folder)
    except KitError:
        return False
    return True


def is_valid_for_schema(text: str) -> bool:
    """Return whether the schema accepts this mlops.yaml; dates are text, as for an editor."""
    return VALIDATOR.is_valid(yaml.load(text, loader.DateAsTextLoader))


def test_schema_follows_its_own_dialect() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", VALID)
def test_valid_file(tmp_path: Path, name: str) -> None:
    assert is_valid_for_loader(tmp_path, VALID[name])
    assert is_valid_for_schema(VALID[name])


@pytest.mark.parametrize("name", INVALID)
def test_invalid_file(tmp_path: Path, name: str) -> None:
    assert not is_valid_for_loader(tmp_path, INVALID[name])
    assert not is_valid_for_schema(INVALID[name])


@pytest.mark.parametrize("name", INVALID_FOR_THE_LOADER_ONLY)
def test_what_only_the_loader_knows(tmp_path: Path, name: str) -> None:
    assert not is_valid_for_loader(tmp_path, INVALID_FOR_THE_LOADER_ONLY[name])
    assert is_valid_for_schema(INVALID_FOR_THE_LOADER_ONLY[name])


@pytest.mark.parametrize(
    "path", [ROOT / "mlops.yaml", *ROOT.glob("examples/*/mlops.yaml")], ids=lambda p: p.parent.name
)
def test_projects_of_the_repository(path: Path) -> None:
    assert is_valid_for_schema(path.read_text(encoding="utf-8"))


def test_chain_of_own_stages_needs_only_a_name(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    text = "name: own\nstages: {fetch: {notebook: f.ipynb}, train: {notebook: t.ipynb}}\n"
    assert is_valid_for_loader(tmp_path, text)
    assert is_valid_for_schema(text)


def test_default_values_written_out_are_valid() -> None:
    config = ProjectConfig(name="a", source="t.csv", target="y", task="binary")
    assert VALIDATOR.is_valid(config.model_dump(mode="json"))


def list_setting_schemas() -> dict[str, dict[str, Any]]:
    """List the schema of every setting by its dotted name."""
    sections: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[str, dict[str, Any]]] = [("", SCHEMA)]
    while waiting:
        prefix, section = waiting.pop()
        sections[prefix] = section
        for name, setting in section["properties"].items():
            if "$ref" in setting:
                subsection = SCHEMA["$defs"][setting["$ref"].rpartition("/")[2]]
                waiting.append((f"{prefix}{name}.", subsection))
    sections["stages.NAME."] = SCHEMA["$defs"]["StageConfig"]
    return {
        prefix + name: setting
        for prefix, section in sections.items()
        for name, setting in section["properties"].items()
        if "$ref" not in setting
    }


def test_every_setting_has_its_description_and_default() -> None:
    settings = list_setting_schemas()
    assert all(setting.get("description") for setting in settings.values())
    assert settings["watch.window"]["default"] == "7d"
    assert settings["retention.max_data_size"]["default"] == 10**9
    assert settings["train.trials"]["default"] == 16


def test_schema_has_every_setting() -> None:
    config = ProjectConfig(name="a", source="t.csv", target="y", task="binary")
    names = {setting.name for setting in walk_settings(config)}
    stage_names = {f"stages.NAME.{name}" for name in StageConfig.model_fields}
    earlier_names = {"split", "watch.alerts"}
    assert set(list_setting_schemas()) == names | stage_names | earlier_names


def test_default_stages_can_be_completed() -> None:
    stages = SCHEMA["properties"]["stages"]["anyOf"][0]
    assert list(stages["properties"]) == list(DEFAULT_STAGES)


def test_unknown_keys_are_refused_in_every_section() -> None:
    assert SCHEMA["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in SCHEMA["$defs"].values())
