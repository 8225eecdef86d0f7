"""Setting names of earlier versions, so that their runs and their ``mlops.yaml`` can be read."""

from __future__ import annotations

from typing import Any

RENAMED_SETTINGS = {
    "row": "row_name",
    "leave_out": "excluded_columns",
    "look_back": "lookback",
    "split.test": "validation.test",
    "split.folds": "validation.folds",
    "train.seconds": "train.max_seconds",
    "contract.bad_rows": "contract.max_quarantined_share",
    "review.least": "review.min_metric",
    "review.better_than_baseline": "review.min_gain_over_baseline",
    "review.calibration_error": "review.max_calibration_error",
    "review.slice_gap": "review.max_slice_gap",
    "review.slice_rows": "review.min_slice_rows",
    "review.refit_rank": "review.min_refit_rank_correlation",
    "review.refit_shift": "review.max_refit_shift",
    "review.one_column": "review.leakage_threshold",
    "monitor.effect_warn": "monitor.warning_effect",
    "monitor.effect_alert": "monitor.alert_effect",
    "monitor.missing": "monitor.max_missing_increase",
    "monitor.rows": "monitor.min_rows",
    "monitor.fall": "monitor.max_drop",
    "monitor.alerts": "monitor.alerts_file",
    "retrain.on_fall": "retrain.on_performance_drop",
    "retrain.on_gap": "retrain.on_concept_drift",
    "retrain.after": "retrain.max_age",
    "retrain.labels": "retrain.min_labels",
    "retrain.cool_down": "retrain.cooldown",
    "serve.token": "serve.token_env",
    "serve.rows": "serve.max_rows",
    "serve.waiting": "serve.max_waiting_requests",
    "serve.batch": "serve.max_batch_rows",
    "serve.follow": "serve.champion_check_interval",
    "serve.refresh": "serve.history_refresh_interval",
    "dashboard.token": "dashboard.token_env",
    "dashboard.identity": "dashboard.identity_provider",
    "dashboard.ready": "dashboard.ready_kernels",
    "watch.alerts": "alerts.sinks",
    "watch.every": "watch.interval",
    "watch.persist": "watch.min_drifted_windows",
    "keep.runs": "retention.min_runs",
    "keep.age": "retention.max_age",
    "keep.cache": "retention.max_cache_age",
    "keep.data": "retention.max_data_size",
    "run.start": "run.kernel_start_timeout",
}
# Whether the default stages belong to the chain; a stored configuration lists all of its stages.
_REMOVED_SETTINGS = {"seven"}
_RENAMED_LIMITS = {"least": "min", "most": "max"}
_LIMIT_KEYS = {"value", "choices", *_RENAMED_LIMITS}


def rename_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Replace old dotted names by the present ones.

    >>> rename_settings({"train.seconds": 300, "train.trials": 16})
    {'train.max_seconds': 300, 'train.trials': 16}
    """
    return {RENAMED_SETTINGS.get(name, name): value for name, value in values.items()}


def find_renamed_settings(data: dict[str, Any]) -> dict[str, str]:
    """Return the old dotted names that a configuration uses, each with its present name.

    >>> find_renamed_settings({"leave_out": ["a"], "keep": {"runs": 5}, "seed": 1})
    {'leave_out': 'excluded_columns', 'keep.runs': 'retention.min_runs'}
    """
    renamed = {}
    for key, value in data.items():
        names = [key]
        if isinstance(value, dict) and key not in RENAMED_SETTINGS:
            names = [f"{key}.{name}" for name in value]
        for name in names:
            if name in RENAMED_SETTINGS:
                renamed[name] = RENAMED_SETTINGS[name]
    return renamed


def translate_legacy_config(data: dict[str, Any]) -> dict[str, Any]:
    """Translate the configuration that an earlier version stored; a present one is returned as is.

    Parameters
    ----------
    data : dict
        Settings as in ``mlops.yaml``.
    """
    translated: dict[str, Any] = {}
    for key, value in data.items():
        if key in _REMOVED_SETTINGS:
            continue
        is_section = isinstance(value, dict) and key not in RENAMED_SETTINGS
        if key == "stages":
            translated[key] = _translate_stages(value)
        elif is_section:
            _add_section(translated, key, value)
        else:
            translated[RENAMED_SETTINGS.get(key, key)] = value
    return translated


def _add_section(translated: dict[str, Any], section: str, values: dict[str, Any]) -> None:
    """Add the settings of a section, some of which may have moved to another section."""
    if not values:
        translated[section] = values
    for name, value in values.items():
        new_name = RENAMED_SETTINGS.get(f"{section}.{name}", f"{section}.{name}")
        new_section, _, new_key = new_name.partition(".")
        translated.setdefault(new_section, {})[new_key] = value


def _translate_stages(stages: dict[str, Any]) -> dict[str, Any]:
    translated = {}
    for name, stage in stages.items():
        if isinstance(stage, dict) and "params" in stage:
            params = stage["params"]
            renamed = {key: _translate_parameter(value) for key, value in params.items()}
            stage = {**stage, "params": renamed}
        translated[name] = stage
    return translated


def _translate_parameter(value: Any) -> Any:
    """Translate ``{value, least, most, choices}``; other dictionaries are values."""
    is_limited = isinstance(value, dict) and bool(value) and set(value) <= _LIMIT_KEYS
    if not is_limited:
        return value
    return {_RENAMED_LIMITS.get(key, key): limit for key, limit in value.items()}


def move_split_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Move the settings of ``split`` to ``validation``.

    >>> move_split_settings({"split": {"folds": 3}, "validation": {"group": "patient"}})
    {'validation': {'folds': 3, 'group': 'patient'}}

    Raises
    ------
    ValueError
        If a setting is in both sections.
    """
    others = {key: value for key, value in data.items() if key != "split"}
    split = data.get("split")
    if split is None:
        return others
    validation = data.get("validation") or {}
    if not isinstance(split, dict):
        return {**others, "validation": split}  # validation describes what is wrong with it
    if not isinstance(validation, dict):
        return others
    for name in split:
        if name in validation:
            raise ValueError(
                f"validation.{name} is set twice, under split and under validation; "
                f"expected validation.{name} only"
            )
    return {**others, "validation": {**split, **validation}}
