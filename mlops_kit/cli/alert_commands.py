"""``mlops alerts``: list, test, mute and acknowledge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import JsonOption, ProjectOption, ReasonOption
from mlops_kit.core.errors import KitError, RunFailedError

alerts_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List and test alerts of incidents, mute signals, acknowledge incidents.",
)
_SignalArgument = Annotated[
    str, typer.Argument(metavar="SIGNAL", help="Signal, such as drift; default: all signals")
]


@alerts_app.command("list")
def list_command(
    project: ProjectOption = "",
    last: Annotated[int, typer.Option(help="Number of alerts", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest alerts with their state, the open incidents, and what is muted."""
    from mlops_kit.project import loader
    from mlops_kit.watch import alert_list

    loaded = loader.load_project(project or None)
    overview = alert_list.read_alert_overview(loaded, last)
    if as_json:
        output.print_json(overview.to_json_dict())
    else:
        output.print_text(alert_list.format_alert_overview(loaded, overview))


@alerts_app.command("test")
def send_test_command(
    sink: Annotated[str, typer.Argument(metavar="SINK", help="Sink; default: all of them")] = "",
    project: ProjectOption = "",
) -> None:
    """Send a test alert to a sink, or to all of them."""
    from mlops_kit.project import loader
    from mlops_kit.watch import alert_delivery

    loaded = loader.load_project(project or None)
    sinks = [sink] if sink else list(loaded.config.alerts.sinks)
    if not sinks:
        raise KitError(
            "there is no alert sink",
            "sinks under 'alerts' in mlops.yaml",
            "alerts: {sinks: {team: {url_env: TEAM_ALERT_URL}}}",
        )
    failed = []
    for name in sinks:
        error = alert_delivery.send_test_alert(loaded, name)
        output.print_text(f"▲ {name}: {error}" if error else f"● {name}: sent")
        if error:
            failed.append(name)
    if failed:
        raise RunFailedError(
            f"{len(failed)} of {len(sinks)} sinks failed: {', '.join(failed)}",
            "sinks that take an alert",
            "edit 'alerts' in mlops.yaml, or the environment variable of the sink",
        )


@alerts_app.command("mute")
def mute_command(
    until: Annotated[str, typer.Option(help="Timestamp at which the mute ends")],
    reason: ReasonOption,
    signal: _SignalArgument = "",
    project: ProjectOption = "",
) -> None:
    """Tell nobody of a signal until a time; incidents are opened and closed as before."""
    from mlops_kit.project import identity, loader
    from mlops_kit.watch import alert_queue, status

    loaded = loader.load_project(project or None)
    end = loaded.parse_utc_timestamp(until, "--until")
    if end is None:
        raise KitError("--until is empty", "the time at which the mute ends", "--until 2030-01-31")
    person = identity.identify_person(loaded.config.people)
    alert_queue.mute_signal(loaded, signal, end, person, reason)
    local_end = status.format_local_time(loaded.config, end)
    output.print_text(f"{signal or 'All signals'}: muted until {local_end}.")


@alerts_app.command("unmute")
def unmute_command(signal: _SignalArgument = "", project: ProjectOption = "") -> None:
    """End the mutes of a signal."""
    from mlops_kit.project import identity, loader
    from mlops_kit.watch import alert_queue

    loaded = loader.load_project(project or None)
    person = identity.identify_person(loaded.config.people)
    alert_queue.end_mutes(loaded, signal, person, datetime.now(UTC))
    output.print_text(f"{signal or 'All signals'}: no longer muted.")


@alerts_app.command("acknowledge")
def acknowledge_command(
    incident: Annotated[int, typer.Argument(metavar="INCIDENT", help="Number of the incident")],
    reason: ReasonOption,
    project: ProjectOption = "",
) -> None:
    """Acknowledge an open incident: it is not escalated, and told again only when it is over."""
    from mlops_kit.project import identity, loader
    from mlops_kit.watch import alert_queue

    loaded = loader.load_project(project or None)
    person = identity.identify_person(loaded.config.people)
    title = alert_queue.acknowledge_incident(loaded, incident, person, reason)
    output.print_text(f"Incident {incident} is acknowledged: {title}.")
