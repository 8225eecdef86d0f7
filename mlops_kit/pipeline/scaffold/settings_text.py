"""The text of ``mlops.yaml``: each detected setting with its reason as a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import BaseModel

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


class SettingText(BaseModel, frozen=True):
    """A setting as the template takes it: lines of a comment, and YAML."""

    comments: list[str]
    text: str


def build_settings(source: str, report: DetectionReport, notes: list[str]) -> list[SettingText]:
    """Return the settings of a project.

    Parameters
    ----------
    source : str
        The setting ``source``.
    report : DetectionReport
        The guesses about the table.
    notes : list of str
        Sentences about the source.
    """
    target = SettingText(comments=[], text=_to_yaml("target", report.target))
    settings = [_build_source_setting(source, report, notes), target]
    for name in _SETTINGS:
        guesses = [guess for guess in report.guesses if guess.setting == name]
        if guesses:
            settings.append(_build_setting(name, guesses))
    return settings


def _build_setting(name: str, guesses: list[Guess]) -> SettingText:
    """Return a setting with the reason of its value, or of each item of a list."""
    first_guess = guesses[0]
    if isinstance(first_guess.value, list):
        return SettingText(comments=[], text=_format_list(name, guesses))
    comments = _wrap_comments([describe_guess(first_guess)])
    return SettingText(comments=comments, text=_to_yaml(name, first_guess.value))


def _build_source_setting(source: str, report: DetectionReport, notes: list[str]) -> SettingText:
    """Return the setting ``source``, with the formats of dates that have two readings."""
    value: Any = source
    sentences = list(notes)
    dates: dict[str, str] = {}
    for guess in report.guesses:
        if guess.setting == DATES_SETTING:
            dates.update(guess.value)
            sentences.append(describe_guess(guess))
    if dates:
        value = {"file": source, "dates": dates}
    return SettingText(comments=_wrap_comments(sentences), text=_to_yaml("source", value))


def build_findings(report: DetectionReport) -> list[list[str]]:
    """Return the guesses from which no setting follows, each as lines of a comment."""
    findings = []
    for guess in report.guesses:
        if not guess.setting:
            text = f"- {describe_guess(guess)}"
            lines = textwrap.wrap(text, _COMMENT_WIDTH, subsequent_indent="  ")
            findings.append(lines)
    return findings


def describe_guess(guess: Guess) -> str:
    """Return the reason of a guess, whether a person has to check it, and its alternatives."""
    text = guess.reason
    if not guess.is_certain:
        text = _CHECK_MARK + text
    if guess.alternatives and guess.topic != GuessTopic.LABEL_DELAY:
        alternatives = [_format_value(value) for value in guess.alternatives]
        text = f"{text} Alternatives: {', '.join(alternatives)}."
    return text


def format_setting(guess: Guess) -> str:
    """Return the setting of a guess, or its topic, and a colon: an introduction of its reason."""
    if not guess.setting:
        return f"{guess.topic}: "
    return f"{guess.setting} = {_format_value(guess.value)}: "


def _format_value(value: Any) -> str:
    """Return a value as it is written in YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _wrap_comments(sentences: Iterable[str]) -> list[str]:
    """Wrap sentences to lines of a comment."""
    lines = []
    for sentence in sentences:
        lines += textwrap.wrap(sentence, _COMMENT_WIDTH)
    return lines


def _format_list(name: str, guesses: list[Guess]) -> str:
    """Return a list of YAML with the reason of each item above it."""
    lines = [f"{name}:"]
    for guess in guesses:
        for comment in _wrap_comments([describe_guess(guess)]):
            lines.append(f"  # {comment}")
        for item in guess.value:
            lines.append(f"  - {_format_value(item)}")
    return "\n".join(lines)


def _to_yaml(name: str, value: Any) -> str:
    """Return a setting as YAML; a dotted name is nested.

    >>> print(_to_yaml("validation.group", "patient"))
    validation:
      group: patient
    """
    section, _, field = name.rpartition(".")
    settings = {field: value}
    if section:
        settings = {section: settings}
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=10_000)
    return text.strip()
