"""Options."""

from __future__ import annotations

from typing import Annotated

import typer

ProjectOption = Annotated[
    str, typer.Option("--project", help="The project's folder; default: here or the nearest above")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


AsOfOption = Annotated[
    str, typer.Option("--as-of", help="Moment that stages 1 to 4 do not see past")
]
UntilOption = Annotated[
    str, typer.Option("--until", help="Moment up to which deploy, monitor and retrain see")
]
ParamOption = Annotated[
    list[str] | None, typer.Option("-p", help="stage.name=value, as often as needed")
]
FromOption = Annotated[str, typer.Option("--from", help="First stage to run")]
ToOption = Annotated[str, typer.Option("--to", help="Last stage to run")]
OnlyOption = Annotated[str, typer.Option("--only", help="The one stage to run")]
ForceOption = Annotated[bool, typer.Option("--force", help="Run what is unchanged too")]
SampleOption = Annotated[
    int, typer.Option("--sample", help="Rows of a quick trial run; never promoted", min=0)
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Read all files anew instead of going by size and time")
]


ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for those who read it later")]


RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")]
