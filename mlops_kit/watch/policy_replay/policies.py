"""The policies that a replay compares: built-in ones, and files with the keys of ``retrain``.

A policy is a ``retrain`` section of ``mlops.yaml``, so that the rules that decide are those of the
watch. The oracle is not among them, since it knows all labels (``oracle``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project.config.value_types import format_duration, parse_duration
from mlops_kit.project.loader import Project, read_yaml_file

PRESENT_POLICY = "default"
STATIC_POLICY = "static"
ORACLE_POLICY = "oracle"
_SCHEDULED_POLICY = "scheduled"
_SCHEDULE_PERIOD = "30d"
_FILE_SUFFIXES = {".yaml", ".yml"}
# What each built-in policy changes in the section of the project; its guards stay.
_BUILT_IN_CHANGES: dict[str, dict[str, Any]] = {
    STATIC_POLICY: {"when": {"any": ["age"]}, "max_age": None},
    _SCHEDULED_POLICY: {
        "when": {"any": ["age"]},
        "max_age": _SCHEDULE_PERIOD,
        "min_labels": 0,
        "cooldown": _SCHEDULE_PERIOD,
    },
    "drift": {"when": {"any": ["drift"]}},
    "performance": {"when": {"any": ["performance_drop"]}},
    PRESENT_POLICY: {},
}
BUILT_IN_POLICIES = (*_BUILT_IN_CHANGES, ORACLE_POLICY)


class ReplayPolicy(NamedTuple):
    """A policy of a replay.

    Attributes
    ----------
    name : str
        Its name in tables and charts.
    settings : dict
        The section ``retrain`` of ``mlops.yaml``, with the keys that are set.
    project : Project
        The project with this section.
    """

    name: str
    settings: dict[str, Any]
    project: Project

    def to_yaml(self) -> str:
        """Return the section as it stands in ``mlops.yaml``."""
        return yaml.safe_dump({"retrain": self.settings}, sort_keys=False)


def load_policies(project: Project, names: Sequence[str] = ()) -> list[ReplayPolicy]:
    """Load the policies to compare: those named, the present one, and that of never retraining.

    Parameters
    ----------
    names : sequence of str
        Built-in names, ``scheduled:DAYS`` such as ``scheduled:14d``, or YAML files with the keys
        of ``retrain``; all built-in policies if empty. The oracle is always compared.

    Raises
    ------
    KitError
        If a name is not known, a file cannot be read or is not valid, or two files have one name.
    """
    policies: dict[str, ReplayPolicy] = {}
    for name in [*(names or _BUILT_IN_CHANGES), PRESENT_POLICY, STATIC_POLICY]:
        if name == ORACLE_POLICY:
            continue
        policy = _load_policy(project, name)
        earlier = policies.setdefault(policy.name, policy)
        if earlier.settings != policy.settings:
            raise KitError(
                f"two policies have the name {policy.name!r}",
                "a different file name for each policy",
                "rename one of the files",
            )
    return list(policies.values())


def _load_policy(project: Project, name: str) -> ReplayPolicy:
    built_in_name, _, period = name.partition(":")
    if Path(name).suffix in _FILE_SUFFIXES:
        return _load_policy_file(project, Path(name))
    if built_in_name not in _BUILT_IN_CHANGES or (period and built_in_name != _SCHEDULED_POLICY):
        raise KitError(
            f"unknown policy {name!r}",
            f"{suggest_names(name, BUILT_IN_POLICIES)}, or a YAML file with the keys of retrain",
            "mlops replay --policy scheduled:14d,my-policy.yaml",
        )
    changes = dict(_BUILT_IN_CHANGES[built_in_name])
    if period:
        changes["max_age"] = changes["cooldown"] = _parse_period(name, period)
    present = project.config.retrain.model_dump(mode="json", exclude_unset=True)
    settings = {**present, **changes}
    return ReplayPolicy(name, settings, project.with_values(f"policy {name}", retrain=settings))


def _parse_period(name: str, period: str) -> str:
    try:
        return format_duration(parse_duration(period))
    except ValueError as error:
        raise KitError(
            f"policy {name!r}: {period!r} is not a duration",
            "a duration such as 14d",
            "mlops replay --policy scheduled:14d",
        ) from error


def _load_policy_file(project: Project, path: Path) -> ReplayPolicy:
    """Load a policy file; what a retraining costs and is worth is that of the project."""
    if not path.is_file():
        raise KitError(
            f"there is no policy file {str(path)!r}",
            "a YAML file with the keys of retrain in mlops.yaml",
            "correct --policy",
        )
    settings = read_yaml_file(path, f"edit {path.name}") or {}
    if isinstance(settings, dict) and set(settings) == {"retrain"}:
        settings = settings["retrain"] or {}
    if not isinstance(settings, dict):
        raise KitError(
            f"{path.name} contains a {type(settings).__name__} instead of keys",
            "the keys of retrain in mlops.yaml, such as max_age: 90d",
            f"edit {path.name}",
        )
    present = project.config.retrain.model_dump(mode="json", exclude_unset=True)
    for key in ("cost", "value_per_decision"):
        if key in present:
            settings.setdefault(key, present[key])
    return ReplayPolicy(path.stem, settings, project.with_values(path.name, retrain=settings))
