"""``mlops VERB``: each verb is one call into the package.

Exit codes: 0 well, 1 a run or check failed, 2 the user's mistake, 3 waiting on a person.
``--debug`` (or MLOPS_DEBUG=1) shows the traceback behind an error.

To add a verb: a function here with ``@app.command()``; its docstring is its help.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_kit.errors import KitError, RunFailed

if TYPE_CHECKING:
    from mlops_kit.session import Session

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A model's life in seven notebooks: explore, prepare, train, review, deploy, monitor, retrain.",
)
Where = Annotated[
    str, typer.Option("--project", help="The project's folder; default: here or the nearest above")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback behind an error")
    ] = False,
) -> None:
    """Options before the verb."""
    if debug:
        os.environ["MLOPS_DEBUG"] = "1"


AsOf = Annotated[str, typer.Option("--as-of", help="Moment that stages 1 to 4 do not see past")]
Until = Annotated[
    str, typer.Option("--until", help="Moment up to which deploy, monitor and retrain see")
]
Param = Annotated[list[str] | None, typer.Option("-p", help="stage.name=value, as often as needed")]
First = Annotated[str, typer.Option("--from", help="First stage to run")]
Last = Annotated[str, typer.Option("--to", help="Last stage to run")]
Only = Annotated[str, typer.Option("--only", help="The one stage to run")]
Force = Annotated[bool, typer.Option("--force", help="Run what is unchanged too")]
Sample = Annotated[
    int, typer.Option("--sample", help="Rows of a quick trial run; never promoted", min=0)
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read all files anew instead of going by size and time")
]


def asked(
    project: str,
    param: list[str] | None,
    stages: tuple[str, str, str],
    jobs: int | None = None,
    cold: bool = False,
    **laid: Any,
) -> tuple[Any, list[str], dict[str, dict[str, Any]]]:
    """The project with the command line's values laid over it, the chosen stages, and their parameters."""
    from mlops_kit import config as configs
    from mlops_kit.pipeline import params
    from mlops_kit.pipeline import run as chain

    opened = configs.load(project or None)
    how = {
        **opened.config.run.model_dump(),
        **({"jobs": jobs} if jobs is not None else {}),
        **({"kernels": "cold"} if cold else {}),
    }
    opened = opened.with_values(
        "the command line",
        run=how if how != opened.config.run.model_dump() else None,
        **{k: v or None for k, v in laid.items()},
    )
    return (
        opened,
        chain.selected(opened, *stages),
        params.from_text(param or [], list(opened.config.stages)),
    )


@app.command()
def run(
    project: Where = "",
    as_of: AsOf = "",
    until: Until = "",
    param: Param = None,
    first: First = "",
    last: Last = "",
    only: Only = "",
    force: Force = False,
    sample: Sample = 0,
    note: Annotated[str, typer.Option(help="Why this run")] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Stages and branches at once; default: as many as there are cores", min=0
        ),
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Plain kernels, which share no imports")
    ] = False,
    each: Annotated[
        list[str] | None,
        typer.Option(
            "--each",
            help="stage.name=A,B,C or seed=1,2,3: the chain once for each; of several, once for each combination",
        ),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Start the other branches when one has failed")
    ] = False,
    verify: Verify = False,
    as_json: AsJson = False,
) -> None:
    """Run the chain of notebooks; what is unchanged is skipped."""
    from mlops_kit.pipeline import branches
    from mlops_kit.pipeline import run as chain
    from mlops_kit.pipeline.progress import Teller

    opened, chosen, given = asked(
        project, param, (first, last, only), jobs, cold, as_of=as_of, until=until, sample=sample
    )
    varied = branches.grid(opened, each or [])
    say = Teller(sys.stderr if as_json else sys.stdout)
    try:
        if varied:
            made = branches.run(opened, chosen, given, force, note, say, varied, keep_going)
        else:
            made = chain.run(opened, chosen, given, force, note, say, verify=verify)
    finally:
        say.close()
    ended(made, opened.config.reports, as_json)


@app.command()
def plan(
    project: Where = "",
    as_of: AsOf = "",
    until: Until = "",
    param: Param = None,
    first: First = "",
    last: Last = "",
    only: Only = "",
    force: Force = False,
    sample: Sample = 0,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Take the chosen stages as up to date: what was edited does not matter"
        ),
    ] = False,
    verify: Verify = False,
    as_json: AsJson = False,
) -> None:
    """What mlops run would do with each stage, and why; nothing is run."""
    from getpass import getuser

    from mlops_kit import sources
    from mlops_kit.pipeline import fingerprint, params
    from mlops_kit.pipeline import plan as planning

    opened, chosen, given = asked(
        project, param, (first, last, only), as_of=as_of, until=until, sample=sample
    )
    opened = sources.settled(opened)
    layers = {s: params.resolve(opened, s, given.get(s, {})) for s in chosen}
    values = {s: params.values(found) for s, found in layers.items()}
    if accept:
        for stage, why in planning.accept(opened, chosen, values, getuser()).items():
            print(f"{stage}: taken as it is, although {'; '.join(why)}")
    found = planning.make(opened, chosen, values, force, fingerprint.Hashes(opened, verify))
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "stage": d.stage,
                        "action": d.action,
                        "why": list(d.why),
                        "origin": d.origin.name if d.origin else None,
                        "params": {
                            n: {"value": params.kept(r.value), "from": r.origin}
                            for n, r in layers[d.stage].items()
                        },
                    }
                    for d in found
                ]
            )
        )
        return
    width = max(len(d.stage) for d in found)
    for d in found:
        print(
            f"{d.stage:<{width}}  {d.action if d.action != 'depends' else 'run?':<5} {'if what it reads changes: ' if d.action == 'depends' else ''}{d.reason}"
        )
        if layers[d.stage]:
            print(f"{'':<{width}}  {params.origins(layers[d.stage])}")


@app.command(name="params")
def parameters(
    stage: Annotated[str, typer.Argument(help="The stage; default: all")] = "",
    project: Where = "",
    param: Param = None,
    as_json: AsJson = False,
) -> None:
    """The parameters of the notebooks: type, default, value, where the value came from, what it may be, what it means."""
    from mlops_kit.pipeline import keeping
    from mlops_kit.pipeline import params as typed

    opened, chosen, given = asked(project, param, ("", "", stage))
    found = [(s, r) for s in chosen for r in typed.resolve(opened, s, given.get(s, {})).values()]
    if as_json:
        print(
            json.dumps(
                [
                    typed.kept(
                        {
                            "stage": s,
                            "name": r.parameter.name,
                            "type": r.parameter.type,
                            "default": r.parameter.default,
                            "value": r.value,
                            "origin": r.origin,
                            "least": r.least,
                            "most": r.most,
                            "choices": r.choices,
                            "sentence": r.parameter.sentence,
                        }
                    )
                    for s, r in found
                ]
            )
        )
        return
    rows = [
        (
            f"{s}.{r.parameter.name}",
            r.parameter.type or "any",
            repr(r.parameter.default),
            repr(r.value),
            r.origin,
            typed.span(r),
            r.parameter.sentence,
        )
        for s, r in found
    ]
    print(
        keeping.aligned(
            [("parameter", "type", "default", "value", "from", "may be", "means"), *rows]
        )
    )


@app.command()
def logs(
    stage: str,
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")] = "",
    project: Where = "",
) -> None:
    """What a stage's kernel said: printed lines, warnings, the error."""
    from mlops_kit.pipeline import replay
    from mlops_kit.session import Session

    print(replay.said(Session(project or None).folder(name), stage))


@app.command()
def debug(
    stage: str,
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")] = "",
    project: Where = "",
) -> None:
    """A console in the state in which a stage failed: its cells are run again up to there, in a copy of its run."""
    from mlops_kit.pipeline import replay
    from mlops_kit.session import Session

    opened = Session(project or None)
    replay.console(opened.project, opened.folder(name), stage)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A run, latest or previous")] = "previous",
    new: Annotated[str, typer.Argument(help="The run to lay beside it")] = "latest",
    project: Where = "",
    html: Annotated[
        str, typer.Option("--html", help="Write it as a page, with the figures side by side")
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it as Markdown, for a pull request")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What differs between two runs, and whether it is more than noise."""
    from mlops_kit import stage as stages
    from mlops_kit import store
    from mlops_kit.pipeline import compare
    from mlops_kit.session import Session

    opened = Session(project or None)
    there = stages.runs(opened.project.reports)
    if len(there) < 2:
        raise KitError(
            f"there {'is one run' if there else 'is no run'} to compare",
            f"two in {opened.project.config.reports}/",
            "mlops run",
        )
    names = {"latest": there[0].name, "previous": there[1].name}
    found = compare.compare(opened.project, *(opened.folder(names.get(n, n)) for n in (old, new)))
    if html:
        store.write_text(Path(html), compare.page(found))
    if as_json or markdown or html:
        print(
            json.dumps(found.to_json_dict())
            if as_json
            else compare.markdown(found)
            if markdown
            else f"{found.sentence}\n{html} shows it"
        )
    else:
        compare.show(found)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run to make again")],
    project: Where = "",
    as_json: AsJson = False,
) -> None:
    """Make an old run again from its commit, its parameters and its data, and say whether all comes out the same."""
    from mlops_kit.pipeline import replay
    from mlops_kit.pipeline.progress import Teller
    from mlops_kit.session import Session

    opened = Session(project or None)
    say = Teller(sys.stderr if as_json else sys.stdout)
    try:
        found = replay.reproduce(opened.project, opened.folder(name), say)
    finally:
        say.close()
    print(json.dumps(found.to_json_dict()) if as_json else found.text)
    if not found.same:
        raise RunFailed(found.sentence, cure="the lines marked ▲ say what differs")


def ended(made: dict[str, Any], reports: str, as_json: bool = False) -> None:
    """Say how a run ended, and leave with its error if it has one."""
    from mlops_kit.pipeline import run as chain

    print(json.dumps(made)) if as_json else told(made, reports)
    error = chain.failure(made)
    if error is not None:
        raise error


def told(made: dict[str, Any], reports: str) -> None:
    """Print run, verdict, where to look."""
    done = made["stages"]
    marked = f" (sample of {made['sample']:,} rows)" if made["sample"] else ""
    print(
        f"\n{'Nothing to do: ' if made.get('nothing_to_do') else ''}run {made['run']}{marked}: {made['status']}"
    )
    for name in ("review", "deploy", "monitor", "retrain"):
        if done.get(name, {}).get("sentence"):
            print(f"  {name}: {done[name]['sentence']}")
    if made.get("branches"):
        from mlops_kit.pipeline import keeping, report

        columns, rows = report.branch_table(made)
        print(
            keeping.aligned(
                [
                    columns,
                    *(
                        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row]
                        for row in rows
                    ),
                ]
            )
        )
    print(f"Look at {reports}/{made['run']}/index.html")


@app.command()
def status(project: Where = "", as_json: AsJson = False) -> None:
    """The latest run, stage by stage."""
    from mlops_kit import config as configs
    from mlops_kit import stage as stages
    from mlops_kit.pipeline import manifest

    opened = configs.load(project or None)
    found = stages.runs(opened.reports)
    if not found:
        raise KitError("there is no run yet", f"one in {opened.config.reports}/", "mlops run")
    made = manifest.read(found[0])
    if as_json:
        print(json.dumps(made))
        return
    marked = f" (sample of {made['sample']:,} rows)" if made["sample"] else ""
    print(
        f"run {made['run']} of {made['project']}{marked}: {made['status']}, started {made['started'][:16]} UTC"
    )
    width = max(map(len, made["stages"]))
    for name, entry in made["stages"].items():
        said = (
            (entry.get("error") or {}).get("message")
            or entry.get("sentence")
            or entry.get("reason", "")
        )
        print(f"  {name:<{width}}  {manifest.words(entry):<13} {said}")


@app.command()
def runs(
    project: Where = "",
    last: Annotated[int, typer.Option(help="How many", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """The last runs, a line each: verdict, headline metric, time, note, and which one serves."""
    from mlops_kit import config as configs
    from mlops_kit.pipeline import keeping

    opened = configs.load(project or None)
    found = keeping.summaries(opened, last)
    print(
        json.dumps(found)
        if as_json
        else keeping.told(found)
        if found
        else f"{opened.config.name}: no run yet"
    )


@app.command()
def clean(
    project: Where = "",
    runs: Annotated[
        int | None,
        typer.Option(help="Fewest newest runs to keep; default: keep.runs of mlops.yaml", min=1),
    ] = None,
    age: Annotated[
        str, typer.Option(help="Older runs go, such as 30d; default: keep.age of mlops.yaml")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and what that would free")
    ] = False,
) -> None:
    """Remove old runs, what killed ones left, old caches; never what serves, waits or runs."""
    from mlops_kit import config as configs
    from mlops_kit.pipeline import keeping

    opened = configs.load(project or None)
    asked = {k: v for k, v in {"runs": runs, "age": age or None}.items() if v is not None}
    opened = opened.with_values(
        "the command line", keep={**opened.config.keep.model_dump(exclude_unset=True), **asked}
    )
    print(keeping.accounts(opened, keeping.clean(opened, dry_run), dry_run))


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="github|cron|kubernetes", help="Whose clock")],
    project: Where = "",
    every: Annotated[
        str, typer.Option(help="When, as a cron expression; default: 15 2 * * *, each night")
    ] = "",
    image: Annotated[str, typer.Option(help="The image that Kubernetes runs")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that differs")] = False,
) -> None:
    """Write a schedule of these commands for GitHub, cron or Kubernetes."""
    from mlops_kit import config as configs
    from mlops_kit.pipeline import export as exports

    print(
        f"{exports.export(configs.load(project or None), target, every, image, force)} is written; its first lines say what it needs"
    )


@app.command()
def config(project: Where = "") -> None:
    """Every setting: its value, where it came from, what it means."""
    from mlops_kit import config as configs

    for name, value, origin, meaning in configs.explain(configs.load(project or None)):
        print(f"{name} = {value!r}  [{origin}]\n    {meaning}")


@app.command()
def predict(
    file: str,
    project: Where = "",
    out: Annotated[str, typer.Option(help="CSV or Parquet to write; default: print CSV")] = "",
) -> None:
    """Score a file of rows by the champion, without a server."""
    from mlops_kit import config as configs
    from mlops_kit import sources, store
    from mlops_kit.deploy import predict as score

    if out and not out.endswith((".csv", ".parquet")):
        raise KitError(
            f"--out {out!r} has an ending that is not known",
            "a file ending in .csv or .parquet",
            "name another file",
        )
    opened = configs.load(project or None)
    scored = score(opened, sources.table(file))
    if not out:
        print(scored.to_csv(index=False), end="")
        return
    write = scored.to_parquet if out.endswith(".parquet") else scored.to_csv
    store.write_atomic(Path(out), lambda p: write(p, index=False))
    print(f"{len(scored):,} rows scored into {out}")


Reason = Annotated[str, typer.Option("--reason", help="Why, for those who read it later")]


Run = Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")]


@app.command()
def approve(reason: Reason, name: Run = "", project: Where = "") -> None:
    """Approve the version of a run that waits, and go on with the run."""
    from mlops_kit.session import Session

    opened = Session(project or None)
    gone_on(opened, opened.decide("approved", reason, name).name)


@app.command()
def resume(name: Run = "", project: Where = "") -> None:
    """Go on where a run stopped: one that failed, was interrupted or killed, or waited for a decision."""
    from mlops_kit.session import Session

    gone_on(Session(project or None), name)


def gone_on(opened: Session, name: str) -> None:
    """Go on with a run, and say how it ended."""
    from mlops_kit.pipeline.progress import Teller

    say = Teller(sys.stdout)
    try:
        made = opened.resume(name, say)
    finally:
        say.close()
    ended(made, opened.project.config.reports)


@app.command()
def reject(reason: Reason, name: Run = "", project: Where = "") -> None:
    """Reject the version of a run: it will not serve."""
    from mlops_kit.session import Session

    print(
        f"the version of run {Session(project or None).reject(reason, name).name} is rejected; the champion goes on serving"
    )


@app.command()
def rollback(reason: Reason, project: Where = "") -> None:
    """Let the version that served before serve again."""
    import getpass

    from mlops_kit import config as configs
    from mlops_kit import tracking

    done = tracking.rollback(configs.load(project or None), getpass.getuser(), reason)
    print(f"version {done['version']} serves again")


@app.command()
def watch(
    project: Where = "",
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

    from mlops_kit import config as configs
    from mlops_kit import watch as watching
    from mlops_kit.pipeline.progress import Teller

    opened = configs.load(project or None)
    when = {
        name: opened.moment(text, f"--{name}")
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
    say = Teller(sys.stdout)
    try:
        if one:
            said = watching.once(opened, when["as-of"] or datetime.now(UTC), say)
        elif fast and when["until"] is not None:
            said = watching.live(opened, when["since"], when["until"], say)
        else:
            said = watching.keep(opened, when["until"], say)
    finally:
        say.close()
    print(said)


@app.command()
def serve(
    project: Where = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token")
    ] = "",
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: any that is free", min=0, max=65535)
    ] = None,
) -> None:
    """The champion behind REST: predictions, labels, health; it follows each promotion."""
    from mlops_kit import config as configs
    from mlops_kit.deploy import server

    opened = configs.load(project or None)
    asked = {k: v for k, v in {"host": host or None, "port": port}.items() if v is not None}
    server.run(
        opened.with_values(
            "the command line",
            serve={**opened.config.serve.model_dump(exclude_unset=True), **asked},
        ),
        lambda said: print(said, flush=True),
    )


@app.command()
def lab(
    project: Where = "",
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION ...]", help="Options of JupyterLab's own"),
    ] = None,
) -> None:
    """JupyterLab on the project; it asks no other host for news, updates or extensions."""
    from mlops_kit import config as configs

    opened = configs.load(project or None)
    os.environ["MLOPS_PROJECT"] = str(opened.root)
    os.chdir(opened.notebooks)
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *QUIET_LAB, *(given or [])])


QUIET_LAB = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


@app.command()
def dashboard(
    project: Where = "",
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

    from mlops_kit import config as configs
    from mlops_kit import session
    from mlops_kit.dashboards import server

    opened = configs.load(project or None)

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
        session.acts(opened),
        port,
        ip,
        ready,
        partial(session.warm, opened),
        partial(session.note, opened),
    )


@app.command()
def report(
    name: Annotated[str, typer.Option("--dashboard", help="Which page")] = "review",
    project: Where = "",
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
    from mlops_kit import config as configs
    from mlops_kit import dashboards, store

    opened = configs.load(project or None)
    file = Path(out) if out else opened.reports / f"{name}.html"
    store.write_text(file, dashboards.twin(name, opened, file, version=version, against=against))
    print(f"{file} shows the {name} dashboard ({file.stat().st_size / 1e6:.1f} MB)")


@app.command()
def doctor(project: Where = "") -> None:
    """Python, packages, kernel, notebooks, source, store, disk: each with a cure."""
    from mlops_kit import doctor as checks

    findings = []
    for finding in checks.examine(project or None):
        findings.append(finding)
        print(f"{'●' if finding.well else '▲'} {finding.check}: {finding.sentence}", flush=True)
    bad = sum(not f.well for f in findings)
    if bad:
        raise RunFailed(
            f"{bad} of {len(findings)} things need mending", cure="see the lines marked ▲"
        )


def main() -> None:
    """The command line's door: errors are worded, the exit code says whose they are."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ["MLOPS_DEBUG"] = "1"
    gc.set_threshold(
        50_000
    )  # what is imported from here on stays: to look through it again and again costs an eighth of a short verb
    try:
        app()
    except (KitError, OSError) as error:
        if os.environ.get("MLOPS_DEBUG"):
            import traceback

            traceback.print_exc()
        print(f"{getattr(error, 'opening', 'error')}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, KitError) else 1) from None
    finally:
        if "duckdb" not in sys.modules:  # which complains of what was not taken down
            gc.freeze()  # nor at the end


if __name__ == "__main__":
    main()
