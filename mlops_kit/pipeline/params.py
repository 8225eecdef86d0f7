"""The parameters cell as an interface: its values are checked before any kernel starts.

Papermill only warns of an unknown parameter and continues with the default; here it is an error
that names the nearest parameter.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.pipeline.param_types import (
    TEMPORAL_TYPES,
    ComputedDefault,
    Parameter,
    UntypedText,
    cast_value,
    encode_value,
)
from mlops_kit.pipeline.parameter_cell import read_parameters
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.loader import Project
from mlops_kit.project.secrets import MIN_SECRET_CHARACTERS, iterate_secrets

_logger = logging.getLogger(__name__)

# Run-wide values that each notebook gets if it declares them.
SHARED_PARAMETERS = ("as_of", "until", "sample", "seed")
_DECLARATION_KEYS = ("value", "min", "max", "choices")  # of an entry of stages.NAME.params
_NO_PARAMETERS = "none: its notebook has no cell tagged 'parameters', or it is empty"
_VARIABLE_PREFIX = "MLOPS_PARAM_"
_NOTEBOOK_ORIGIN = "notebook"
# A secret of at least this many characters does not occur inside another value by chance.
_MIN_EMBEDDED_SECRET_CHARACTERS = 8


@dataclass(frozen=True)
class ParameterDeclaration:
    """What ``stages.NAME.params`` of ``mlops.yaml`` says of a parameter.

    Attributes
    ----------
    has_value : bool
        Whether it gives a value (which may be None), or only limits.
    """

    has_value: bool = False
    value: Any = None
    min: Any = None
    max: Any = None
    choices: list[Any] | None = None


@dataclass(frozen=True)
class ResolvedParameter:
    """A parameter with the value that a run uses, where it comes from, and what is allowed."""

    parameter: Parameter
    value: Any
    origin: str
    declaration: ParameterDeclaration = field(default_factory=ParameterDeclaration)

    @property
    def min(self) -> Any:
        """The smallest value allowed; None if there is none."""
        return self.declaration.min

    @property
    def max(self) -> Any:
        """The largest value allowed; None if there is none."""
        return self.declaration.max

    @property
    def choices(self) -> list[Any] | None:
        """The values allowed; None if they are not listed."""
        return self.declaration.choices


def resolve_parameters(
    project: Project,
    stage: str,
    given: Mapping[str, Any],
) -> dict[str, ResolvedParameter]:
    """Return each parameter of a stage's notebook with its value.

    The sources are, each overriding the ones before: the notebook, run-wide settings,
    ``mlops.yaml``, environment variables, the given values.

    Raises
    ------
    KitError
        For a name that the notebook does not have, a value of another type, or one outside what
        ``mlops.yaml`` allows.
    """
    parameters = read_parameters(project.get_notebook_path(stage))
    entries = project.config.stages[stage].params
    for name in [*entries, *given]:
        if name not in parameters:
            known = suggest_names(name, parameters) if parameters else _NO_PARAMETERS
            raise KitError(
                f"{stage} has no parameter {name!r}", known, f"mlops params {stage} lists them"
            )
    declarations = {
        name: _parse_declaration(stage, parameters[name], entry) for name, entry in entries.items()
    }
    resolved: dict[str, ResolvedParameter] = {}
    for origin, name, value in _iterate_values(
        project,
        stage,
        parameters,
        declarations,
        given,
    ):
        resolved[name] = ResolvedParameter(
            parameters[name],
            cast_value(stage, parameters[name], value, origin),
            origin,
            declarations.get(name, ParameterDeclaration()),
        )
    for parameter in resolved.values():
        _check_allowed_values(stage, parameter)
        if parameter.parameter.is_untyped and parameter.origin != _NOTEBOOK_ORIGIN:
            _warn_of_untyped_value(f"{stage}.{parameter.parameter.name}", parameter.origin)
    return resolved


@lru_cache(maxsize=256)  # once per process
def _warn_of_untyped_value(name: str, origin: str) -> None:
    """Log a warning for a value whose type is not checked."""
    _logger.warning(
        "%s (%s) is passed without a check: its type cannot be told from the parameters cell",
        name,
        origin,
    )


def _iterate_values(
    project: Project,
    stage: str,
    parameters: Mapping[str, Parameter],
    declarations: Mapping[str, ParameterDeclaration],
    given: Mapping[str, Any],
) -> Iterator[tuple[str, str, Any]]:
    """Yield origin, name and value of all values; later ones override earlier ones."""
    for name, parameter in parameters.items():
        yield _NOTEBOOK_ORIGIN, name, parameter.default
    config = project.config
    for name in SHARED_PARAMETERS:
        if name in parameters and name in config.model_fields_set:
            value = getattr(config, name)
            if value is not None:
                yield project.value_origins.get(name, CONFIG_FILE_NAME), name, value
    for name, declaration in declarations.items():
        if declaration.has_value:
            yield CONFIG_FILE_NAME, name, declaration.value
    for name, value in _read_environment_values(project, stage).items():
        yield f"environment {_get_variable_name(stage, name)}", name, value
    for name, value in given.items():
        yield "-p", name, value


def extract_values(resolved: Mapping[str, ResolvedParameter]) -> dict[str, Any]:
    """Return the values that a notebook is given, by name; it keeps defaults that it computes."""
    return {
        name: parameter.value
        for name, parameter in resolved.items()
        if not isinstance(parameter.value, ComputedDefault)
    }


def _parse_declaration(
    stage: str,
    parameter: Parameter,
    entry: Any,
) -> ParameterDeclaration:
    """Return what an entry of ``stages.NAME.params`` says; anything but a mapping is a value."""
    if not isinstance(entry, dict) or _is_dict_value(parameter, entry):
        return ParameterDeclaration(
            has_value=True,
            value=entry,
        )
    place = f"stages.{stage}.params.{parameter.name}"
    for key in entry:
        if key not in _DECLARATION_KEYS:
            raise KitError(
                f"{place} has the key {key!r}",
                suggest_names(key, _DECLARATION_KEYS),
                f"edit {CONFIG_FILE_NAME}; put a mapping that is the value under 'value'",
            )

    def cast_limit(key: str, value: Any) -> Any:
        return cast_value(stage, parameter, value, f"{key} of {CONFIG_FILE_NAME}")

    choices = entry.get("choices")
    if "choices" in entry and not isinstance(choices, list):
        raise KitError(
            f"{place} has the choices {choices!r}",
            "a list, such as [quick, full]",
            f"edit {CONFIG_FILE_NAME}",
        )
    if choices is not None:
        choices = [cast_limit("choices", choice) for choice in choices]
    return ParameterDeclaration(
        has_value="value" in entry,
        value=entry.get("value"),
        min=cast_limit("min", entry["min"]) if "min" in entry else None,
        max=cast_limit("max", entry["max"]) if "max" in entry else None,
        choices=choices,
    )


def _is_dict_value(parameter: Parameter, entry: Mapping[str, Any]) -> bool:
    """Return whether a mapping is itself the value of a parameter of type dict.

    It is a declaration if it has the keys of one, among them at least one that is not ``value``.
    """
    if parameter.base_type != "dict":
        return False
    has_only_declaration_keys = set(entry) <= set(_DECLARATION_KEYS)
    has_limits = bool(set(entry) - {"value"})
    return not (has_only_declaration_keys and has_limits)


def describe_allowed_values(resolved: ResolvedParameter) -> str:
    """Return what is allowed for a parameter, as text; empty if nothing is declared."""
    if resolved.choices is not None:
        return " | ".join(map(str, resolved.choices))
    limits = []
    if resolved.min is not None:
        limits.append(f"at least {resolved.min!r}")
    if resolved.max is not None:
        limits.append(f"at most {resolved.max!r}")
    return " and ".join(limits)


def _check_allowed_values(stage: str, resolved: ResolvedParameter) -> None:
    """Raise an error for a value that is not allowed."""
    value = resolved.value
    if value is None or isinstance(value, ComputedDefault):
        return
    name = f"{stage}.{resolved.parameter.name}"
    hint = f"change it, or stages.{stage}.params in {CONFIG_FILE_NAME}"
    if resolved.choices is not None and value not in resolved.choices:
        raise KitError(
            f"{name}: {value!r} ({resolved.origin}) is not among its choices",
            suggest_names(str(value), map(str, resolved.choices)),
            hint,
        )
    if not _is_in_range(resolved):
        raise KitError(
            f"{name}: {value!r} ({resolved.origin}) is out of its range",
            describe_allowed_values(resolved),
            hint,
        )


def _is_in_range(resolved: ResolvedParameter) -> bool:
    """Return whether a value lies between its limits; dates are compared as dates."""
    temporal_type = TEMPORAL_TYPES.get(resolved.parameter.base_type)
    read: Callable[[Any], Any] = temporal_type.fromisoformat if temporal_type else _return_value
    try:
        # Written so that NaN is never in a range.
        if resolved.min is not None and not (read(resolved.min) <= read(resolved.value)):
            return False
        return resolved.max is None or bool(read(resolved.value) <= read(resolved.max))
    except TypeError:  # text and a number, a time with a zone and one without
        return False


def _return_value(value: Any) -> Any:
    """Return a value as it is."""
    return value


def format_value_origins(resolved: Mapping[str, ResolvedParameter]) -> str:
    """Return the values by origin: ``k = 3 (-p); seed = 0, sample = 0 (notebook)``."""
    terms_by_origin: dict[str, list[str]] = {}
    for name, parameter in resolved.items():
        terms = terms_by_origin.setdefault(parameter.origin, [])
        terms.append(f"{name} = {parameter.value!r}")
    return "; ".join(f"{', '.join(terms)} ({origin})" for origin, terms in terms_by_origin.items())


def _get_variable_name(stage: str, name: str) -> str:
    """Return the name of the environment variable that sets a parameter."""
    return re.sub(r"\W", "_", f"{_VARIABLE_PREFIX}{stage}_{name}").upper()


def _read_environment_values(project: Project, stage: str) -> dict[str, UntypedText]:
    """Return what ``MLOPS_PARAM_STAGE_NAME`` variables set for a stage, by parameter name.

    Raises
    ------
    KitError
        For a variable that does not name a parameter of any stage.
    """
    texts = {
        variable: UntypedText(text)
        for variable, text in os.environ.items()
        if variable.startswith(_VARIABLE_PREFIX)
    }
    if not texts:
        return {}
    parameter_by_variable: dict[str, tuple[str, str]] = {}
    for known_stage in project.config.stages:
        notebook = project.get_notebook_path(known_stage)
        if notebook.exists():
            for name in read_parameters(notebook):
                parameter_by_variable[_get_variable_name(known_stage, name)] = (known_stage, name)
    values: dict[str, UntypedText] = {}
    for variable, text in texts.items():
        if variable not in parameter_by_variable:
            raise KitError(
                f"the environment variable {variable} does not name a parameter",
                suggest_names(variable, parameter_by_variable),
                f"unset {variable}, or rename it",
            )
        variable_stage, name = parameter_by_variable[variable]
        if variable_stage == stage:
            values[name] = text
    return values


def parse_parameter_options(items: list[str], stages: list[str]) -> dict[str, dict[str, Any]]:
    """Parse the ``-p`` options: ``["train.trials=5"]`` becomes ``{"train": {"trials": "5"}}``.

    The value stays untyped text, to be parsed as the parameter's type; after ``:=`` it is JSON.

    Raises
    ------
    KitError
        For an option that cannot be parsed, or an unknown stage.
    """
    values: dict[str, dict[str, Any]] = {}
    for item in items:
        left, separator, text = item.partition("=")
        stage, _, name = left.removesuffix(":").partition(".")
        if not separator or not name:
            raise KitError(
                f"-p {item!r} cannot be parsed",
                "stage.name=value",
                f"mlops params {stages[0]} lists the parameters of that stage",
            )
        if stage not in stages:
            raise KitError(f"-p {item!r}: unknown stage {stage!r}", suggest_names(stage, stages))
        value: Any = UntypedText(text)
        if left.endswith(":"):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise KitError(
                    f"-p {item!r} cannot be parsed",
                    "JSON after ':='",
                    f"-p {stage}.{name}={text} takes the text as it is",
                ) from error
        values.setdefault(stage, {})[name] = value
    return values


def format_parameter_option(name: str, value: Any) -> str:
    """Return the ``-p`` option that ``parse_parameter_options`` parses to exactly this value.

    Raises
    ------
    KitError
        For a value that cannot be passed to a kernel unchanged.

    Examples
    --------
    >>> format_parameter_option("train.seed", "007")
    'train.seed:="007"'
    """
    stage, _, short_name = name.partition(".")
    untyped = Parameter(
        short_name,
        type="",
        default=None,
        description="",
    )
    plain = cast_value(stage, untyped, value, "-p")
    return f"{name}:={json.dumps(encode_value(plain))}"


def refuse_exposed_secrets(project: Project, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a parameter that contains a secret: parameters are shown and stored with the run.

    Raises
    ------
    KitError
        With the names of the parameter and of the secret; not with the value.
    """
    for name, secret in iterate_secrets(project):
        if len(secret) < MIN_SECRET_CHARACTERS:
            continue
        for stage, stage_values in values.items():
            for parameter, value in stage_values.items():
                if _contains_secret(str(value), secret):
                    raise KitError(
                        f"parameter {stage}.{parameter} holds the value of the secret {name}",
                        "a value that may be shown and stored",
                        f"read it where it is used: os.environ[{name!r}]",
                    )


def _contains_secret(value: str, secret: str) -> bool:
    """Return whether a value is a secret or contains a long one."""
    if value == secret:
        return True
    return len(secret) >= _MIN_EMBEDDED_SECRET_CHARACTERS and secret in value
