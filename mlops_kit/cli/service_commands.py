"""Service commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlops_kit.cli.application import app
from mlops_kit.cli.options import ProjectOption
from mlops_kit.core.errors import KitError


@app.command("watch")
def watch_command(
    project: ProjectOption = "",
    one: Annotated[bool, typer.Option("--once", help="One pass, then end")] = False,
    as_of: Annotated[str, typer.Option(help="The moment of that one pass; default: now")] = "",
    since: Annotated[
        str,
        typer.Option(help="Where the watch begins, the first time; default: the champion's as_of"),
    ] = "",
    until: Annotated[
        str, typer.Option(help="The moment at which it ends; default: when it is stopped")
    ] = "",
    fast: Annotated[
        bool, typer.Option("--fast", help="Live a past stretch of time without waiting")
    ] = False,
) -> None:
    """Score what is new, import labels, monitor, decide, retrain: once, by the clock, or through a past quarter."""
    from datetime import UTC, datetime

    from mlops_kit.core.progress import ProgressPrinter
    from mlops_kit.project import loader
    from mlops_kit.watch import loop

    opened = loader.load_project(project or None)
    when = {
        name: opened.parse_utc_timestamp(text, f"--{name}")
        for name, text in (("as-of", as_of), ("since", since), ("until", until))
    }
    if fast and when["until"] is None:
        raise KitError(
            "--fast has no end",
            "--until with the moment at which it ends",
            "mlops watch --since 2013-07-01 --until 2013-10-01 --fast",
        )
    if not fast and when["since"] is not None or when["as-of"] is not None and not one:
        raise KitError(
            "--since goes with --fast, and --as-of with --once",
            "a stretch of time to live, or the moment of one pass",
            "mlops watch --once --as-of 2013-07-02",
        )
    say = ProgressPrinter(sys.stdout)
    try:
        if one:
            said = loop.run_single_pass(opened, when["as-of"] or datetime.now(UTC), say)
        elif fast and when["until"] is not None:
            said = loop.replay_period(opened, when["since"], when["until"], say)
        else:
            said = loop.run_on_schedule(opened, when["until"], say)
    finally:
        say.close()
    print(said)


@app.command("serve")
def serve_command(
    project: ProjectOption = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token")
    ] = "",
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: any that is free", min=0, max=65535)
    ] = None,
) -> None:
    """The champion behind REST: predictions, labels, health; it follows each promotion."""
    from mlops_kit.project import loader
    from mlops_kit.serving import server

    opened = loader.load_project(project or None)
    asked = {k: v for k, v in {"host": host or None, "port": port}.items() if v is not None}
    server.serve_champion(
        opened.with_values(
            "the command line",
            serve={**opened.config.serve.model_dump(exclude_unset=True), **asked},
        ),
        lambda said: print(said, flush=True),
    )


@app.command("dashboard")
def dashboard_command(
    project: ProjectOption = "",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on; 0: any that is free; default: dashboard.port of mlops.yaml"
        ),
    ] = None,
    ip: Annotated[
        str,
        typer.Option(
            help="Address to listen on; any but this machine's own needs a token or an identity"
        ),
    ] = "",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the first page in a browser")
    ] = True,
) -> None:
    """The dashboards, with the buttons that decide, until it is stopped."""
    import webbrowser
    from functools import partial

    from mlops_kit.dashboards import actions, server
    from mlops_kit.project import loader

    opened = loader.load_project(project or None)

    def ready(addresses: list[str]) -> None:
        print(
            f"the dashboards of {opened.config.name} answer at\n  "
            + "\n  ".join(addresses)
            + "\nCtrl+C stops them",
            flush=True,
        )
        if browser:
            webbrowser.open(addresses[0])

    server.start(
        opened,
        actions.build_actions(opened),
        port,
        ip,
        ready,
        partial(actions.connect_tracking_store, opened),
        partial(actions.explain_alias_mismatch, opened),
    )


@app.command("report")
def report_command(
    name: Annotated[str, typer.Option("--dashboard", help="Which page")] = "review",
    project: ProjectOption = "",
    version: Annotated[
        str,
        typer.Option(help="Version to show; default: the one that waits, else the one that serves"),
    ] = "",
    against: Annotated[
        str, typer.Option(help="Version to lay beside it; default: the one it was compared with")
    ] = "",
    out: Annotated[
        str, typer.Option(help="HTML file to write; default: NAME.html beside the runs")
    ] = "",
) -> None:
    """A dashboard as one file that opens from anywhere, with no network and no buttons."""
    from mlops_kit import dashboards
    from mlops_kit.core import files
    from mlops_kit.project import loader

    opened = loader.load_project(project or None)
    file = Path(out) if out else opened.reports_folder / f"{name}.html"
    files.write_text(file, dashboards.twin(name, opened, file, version=version, against=against))
    print(f"{file} shows the {name} dashboard ({file.stat().st_size / 1e6:.1f} MB)")
