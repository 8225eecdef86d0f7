"""The text of ``mlops.yaml``: each detected setting with its reason as a comment."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from mlops_kit.data.detection import DetectionReport, Guess, GuessTopic
from mlops_kit.data.detection.reading import DATES_SETTING

_COMMENT_WIDTH = 96
_CHECK_MARK = "Check: "
# In the order of ``mlops.yaml``.
_SETTINGS = (
    "task",
    "positive",
    "id",
    "time",
    "label_delay",
    "excluded_columns",
    "validation.group",
)


def build_settings(source: str, report: DetectionReport, notes: list[str]) -> list[dict[str, Any]]:
    """Return the settings as the template takes them: comments and YAML text.

    Parameters
    ----------
    source : str
        The setting ``source``.
    report : DetectionReport
        The guesses about the table.
    notes : list of str
        Sentences about the source.
    """
    settings = [
        _build_source_setting(source, report, notes),
        {"comments": [], "text": _to_yaml({"target": report.target})},
    ]
    for name in _SETTINGS:
        guesses = [guess for guess in report.guesses if guess.setting == name]
        if not guesses:
            continue
        if len(guesses) == 1 and not isinstance(guesses[0].value, list):
            comments = _wrap_comments([describe_guess(guesses[0])])
            text = _to_yaml(_nest_setting(name, guesses[0].value))
            settings.append({"comments": comments, "text": text})
        else:
            settings.append({"comments": [], "text": _format_list(name, guesses)})
    return settings


def _build_source_setting(source: str, report: DetectionReport, notes: list[str]) -> dict[str, Any]:
    """Return the setting ``source``, with the formats of dates that have two readings."""
    date_guesses = [guess for guess in report.guesses if guess.setting == DATES_SETTING]
    if not date_guesses:
        return {"comments": _wrap_comments(notes), "text": _to_yaml({"source": source})}
    dates: dict[str, str] = {}
    for guess in date_guesses:
        dates.update(guess.value)
    comments = _wrap_comments([*notes, *map(describe_guess, date_guesses)])
    return {"comments": comments, "text": _to_yaml({"source": {"file": source, "dates": dates}})}


def build_findings(report: DetectionReport) -> list[list[str]]:
    """Return the guesses from which no setting follows, each as lines of a comment."""
    findings = []
    for guess in report.guesses:
        if not guess.setting:
            text = f"- {describe_guess(guess)}"
            findings.append(textwrap.wrap(text, _COMMENT_WIDTH, subsequent_indent="  "))
    return findings


def describe_guess(guess: Guess) -> str:
    """Return the reason of a guess, whether a person has to check it, and its alternatives."""
    text = guess.reason if guess.is_certain else _CHECK_MARK + guess.reason
    if guess.alternatives and guess.topic != GuessTopic.LABEL_DELAY:
        others = ", ".join(_format_alternative(value) for value in guess.alternatives)
        text = f"{text} Alternatives: {others}."
    return text


def format_setting(guess: Guess) -> str:
    """Return the setting of a guess and a colon, as an introduction of its reason.

    Empty if no setting follows from it.
    """
    if not guess.setting:
        return f"{guess.topic}: "
    return f"{guess.setting} = {_format_alternative(guess.value)}: "


def _format_alternative(value: Any) -> str:
    """Return another value of a setting as it is written in YAML."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def _wrap_comments(sentences: list[str]) -> list[str]:
    """Wrap sentences to lines of a comment."""
    lines = []
    for sentence in sentences:
        lines += textwrap.wrap(sentence, _COMMENT_WIDTH)
    return lines


def _format_list(name: str, guesses: list[Guess]) -> str:
    """Return a list of YAML with the reason of each item above it."""
    lines = [f"{name}:"]
    for guess in guesses:
        lines += [f"  # {line}" for line in _wrap_comments([describe_guess(guess)])]
        lines += [f"  - {_format_alternative(item)}" for item in guess.value]
    return "\n".join(lines)


def _nest_setting(name: str, value: Any) -> dict[str, Any]:
    """Return a setting as ``mlops.yaml`` nests it.

    >>> _nest_setting("validation.group", "patient")
    {'validation': {'group': 'patient'}}
    """
    section, _, field = name.rpartition(".")
    return {section: {field: value}} if section else {field: value}


def _to_yaml(values: dict[str, Any]) -> str:
    """Return settings as YAML on one line each."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000)
    return text.strip()
