"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ProjectOption = Annotated[
    str,
    typer.Option(
        "--project",
        help="Project folder; default: the current folder or the nearest parent with mlops.yaml",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
AsOfOption = Annotated[
    str, typer.Option("--as-of", help="Cut-off: stages 1 to 4 use only what was known by then")
]
UntilOption = Annotated[
    str,
    typer.Option(
        "--until", help="Cut-off: deploy, monitor and retrain use only what was known by then"
    ),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option("-p", help="Parameter of a notebook: stage.name=value; may be repeated"),
]
FromOption = Annotated[str, typer.Option("--from", help="First stage to run")]
ToOption = Annotated[str, typer.Option("--to", help="Last stage to run")]
OnlyOption = Annotated[str, typer.Option("--only", help="The only stage to run")]
ForceOption = Annotated[bool, typer.Option("--force", help="Also run stages that are up to date")]
SampleOption = Annotated[
    int,
    typer.Option(
        "--sample", help="Number of rows for a quick trial run, which is never promoted", min=0
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option("--verify", help="Hash every file instead of comparing sizes and times"),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Reason, recorded with the decision")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")]
