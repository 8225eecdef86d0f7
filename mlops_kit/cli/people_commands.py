"""``mlops people``: the people who decide."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops_kit.cli import output

people_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Make tokens for the people who decide."
)


@people_app.callback()
def _describe_people_group() -> None:
    """Make tokens for the people who decide."""


@people_app.command("token")
def token_command(
    name: Annotated[str, typer.Argument(help="The person's name, as decisions will show it")],
) -> None:
    """Make a token by which a person is identified, and the setting with its hash.

    The token is shown once and stored nowhere.
    """
    import yaml

    from mlops_kit.project import identity

    token = identity.create_token()
    entry = yaml.safe_dump(
        {name: identity.hash_person_token(token)},
        allow_unicode=True,
        width=10_000,
    )
    output.print_text(
        f"The token of {name}, which is not shown again:\n\n"
        f"  {token}\n\n"
        "For mlops.yaml:\n\n"
        "  people:\n"
        "    identity: token\n"
        "    tokens:\n"
        f"      {entry}\n"
        f"{name} sets the environment variable {identity.TOKEN_VARIABLE} to the token before a "
        "command, and signs in to the dashboards with it."
    )
