"""Commands about a model in service: ``serve``, ``watch``, ``drift``, dashboards and reports."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_kit.cli import output
from mlops_kit.cli.model_project import load_model_project
from mlops_kit.cli.options import JsonOption, ProjectOption
from mlops_kit.core.errors import KitError

if TYPE_CHECKING:
    from mlops_kit.project.loader import Project

_BYTES_PER_MB = 1e6


def serve_command(
    project: ProjectOption = "",
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; one that other machines reach needs a token"),
    ] = "",
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: any free port", min=0, max=65535)
    ] = None,
) -> None:
    """Serve the champion by REST.

    Promotions and rollbacks are followed without a restart.
    """
    from mlops_kit.serving import server

    loaded = load_model_project(project)
    settings: dict[str, Any] = loaded.config.serve.model_dump(exclude_unset=True)
    if host:
        settings["host"] = host
    if port is not None:
        settings["port"] = port
    loaded = loaded.with_values("the command line", serve=settings)
    server.serve_champion(loaded, output.print_text)


def watch_command(
    project: ProjectOption = "",
    once: Annotated[bool, typer.Option("--once", help="Make one pass and exit")] = False,
    as_of: Annotated[
        str, typer.Option(help="Timestamp of the single pass; default: the current time")
    ] = "",
    since: Annotated[
        str,
        typer.Option(help="Start of the period to replay; default: the champion's as_of"),
    ] = "",
    until: Annotated[
        str, typer.Option(help="Timestamp at which to exit; default: until interrupted")
    ] = "",
    fast: Annotated[
        bool, typer.Option("--fast", help="Replay a past period without waiting")
    ] = False,
    metrics: Annotated[
        int | None,
        typer.Option(
            help="Port of this machine at which /metrics is served; 0: any free port",
            min=0,
            max=65535,
        ),
    ] = None,
) -> None:
    """Score, import labels, monitor and retrain on a schedule.

    Other modes are a single pass (--once) and the replay of a past period (--fast).
    """
    from mlops_kit.watch import loop

    loaded = load_model_project(project)
    pass_time = loaded.parse_utc_timestamp(as_of, "--as-of")
    start = loaded.parse_utc_timestamp(since, "--since")
    end = loaded.parse_utc_timestamp(until, "--until")
    if fast and end is None:
        raise KitError(
            "--fast has no end",
            "--until with the timestamp at which the replay ends",
            "mlops watch --since 2013-07-01 --until 2013-10-01 --fast",
        )
    has_start_without_replay = start is not None and not fast
    has_pass_time_without_once = pass_time is not None and not once
    if has_start_without_replay or has_pass_time_without_once:
        raise KitError(
            "--since requires --fast, and --as-of requires --once",
            "a period to replay, or the timestamp of a single pass",
            "mlops watch --once --as-of 2013-07-02",
        )
    if metrics is not None:
        _serve_watch_metrics(loaded, metrics)
    with output.open_progress() as progress:
        if once:
            summary = loop.run_single_pass(loaded, pass_time or datetime.now(UTC), progress)
        elif fast and end is not None:
            summary = loop.replay_period(loaded, start, end, progress)
        else:
            summary = loop.run_on_schedule(loaded, end, progress)
    output.print_text(summary)


def _serve_watch_metrics(loaded: Project, port: int) -> None:
    """Serve the metrics of the watch while the command runs, and print their address."""
    from mlops_kit.watch import telemetry

    _, address = telemetry.start_metrics_server(loaded, port)
    output.print_text(f"Metrics: {address}")


def drift_command(
    project: ProjectOption = "",
    window: Annotated[
        str, typer.Option(help="Length of a window in whole days, such as 14d or 4w")
    ] = "30d",
    version: Annotated[str, typer.Option(help="Version; default: the one watched last")] = "",
    as_json: JsonOption = False,
) -> None:
    """Compare what the watch has seen with the reference, in windows of another length.

    Stored profiles are compared; no prediction is read again.
    """
    from mlops_kit import monitor

    loaded = load_model_project(project)
    table = monitor.measure_window_drifts(loaded, window, version)
    if as_json:
        output.print_json(table.to_json_dict())
    else:
        output.print_text(repr(table))


def dashboard_command(
    project: ProjectOption = "",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on; 0: any free port; default: dashboard.port in mlops.yaml"
        ),
    ] = None,
    ip: Annotated[
        str,
        typer.Option(
            help=(
                "Address to listen on; one that other machines reach needs a token "
                "or an identity provider"
            )
        ),
    ] = "",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the first page in a browser")
    ] = True,
) -> None:
    """Serve the dashboards.

    Versions can be approved in them, and incidents acknowledged.
    """
    import webbrowser
    from functools import partial

    from mlops_kit.dashboards import actions, server
    from mlops_kit.pipeline.run_decision import rewrite_run_page

    loaded = load_model_project(project)

    def report_ready(addresses: list[str]) -> None:
        lines = [f"Dashboards of {loaded.config.name}:", *(f"  {url}" for url in addresses)]
        output.print_text("\n".join([*lines, "Press Ctrl+C to stop."]))
        if browser:
            webbrowser.open(addresses[0])

    callbacks = server.ServerCallbacks(
        actions=actions.build_actions(loaded, partial(rewrite_run_page, loaded)),
        report_ready=report_ready,
        warm_up=partial(actions.connect_tracking_store, loaded),
        get_note=partial(actions.explain_alias_mismatch, loaded),
    )
    server.start_server(loaded, callbacks, port, ip)


def report_command(
    name: Annotated[str, typer.Option("--dashboard", help="Name of the dashboard")] = "review",
    project: ProjectOption = "",
    version: Annotated[
        str,
        typer.Option(
            help="Version to show; default: the one that waits for approval, else the champion"
        ),
    ] = "",
    against: Annotated[
        str,
        typer.Option(help="Version to compare with; default: the one that its review compared"),
    ] = "",
    out: Annotated[
        str, typer.Option(help="HTML file to write; default: NAME.html in the reports folder")
    ] = "",
) -> None:
    """Export a dashboard as one HTML file.

    It needs no server and no network, and has no buttons.
    """
    from mlops_kit import dashboards
    from mlops_kit.core import files

    loaded = load_model_project(project)
    path = Path(out) if out else loaded.reports_folder / f"{name}.html"
    page = dashboards.export_page(name, loaded, path, version=version, against=against)
    files.write_text(path, page)
    size = path.stat().st_size / _BYTES_PER_MB
    output.print_text(f"Dashboard {name} written to {path} ({size:.1f} MB)")
