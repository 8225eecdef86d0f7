"""The token that ``mlops people token`` makes, and the setting that it prints."""

from __future__ import annotations

import pytest
import yaml

from mlops_kit.cli.people_commands import token_command
from mlops_kit.project.config.services import PeopleConfig
from mlops_kit.project.identity import find_token_owner


@pytest.mark.parametrize("name", ["anna", "José O'Neil: data", "123"])
def test_printed_setting_identifies_the_owner_of_the_printed_token(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token_command(name)
    text = capsys.readouterr().out
    token = text.split("\n\n")[1].strip()
    setting = text.partition("For mlops.yaml:\n\n")[2].partition("\n\n")[0]
    people = PeopleConfig(**yaml.safe_load(setting)["people"])
    assert find_token_owner(people, token) == name
