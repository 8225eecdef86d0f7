"""Pipeline commands."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from mlops_kit.cli.application import app
from mlops_kit.cli.options import (
    AsOfOption,
    ForceOption,
    FromOption,
    JsonOption,
    OnlyOption,
    ParamOption,
    ProjectOption,
    SampleOption,
    ToOption,
    UntilOption,
    VerifyOption,
)
from mlops_kit.cli.output import report_run_outcome


def _load_run_request(
    project: str,
    param: list[str] | None,
    stages: tuple[str, str, str],
    jobs: int | None = None,
    cold: bool = False,
    **laid: Any,
) -> tuple[Any, list[str], dict[str, dict[str, Any]]]:
    """The project with the command line's values laid over it, the chosen stages, and their parameters."""
    from mlops_kit.pipeline import params, runner
    from mlops_kit.project import loader

    opened = loader.load_project(project or None)
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
        runner.select_stages(opened, *stages),
        params.parse_parameter_options(param or [], list(opened.config.stages)),
    )


@app.command("run")
def run_command(
    project: ProjectOption = "",
    as_of: AsOfOption = "",
    until: UntilOption = "",
    param: ParamOption = None,
    first: FromOption = "",
    last: ToOption = "",
    only: OnlyOption = "",
    force: ForceOption = False,
    sample: SampleOption = 0,
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
    verify: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run the chain of notebooks; what is unchanged is skipped."""
    from mlops_kit.core.progress import ProgressPrinter
    from mlops_kit.pipeline import branches, runner

    opened, chosen, given = _load_run_request(
        project, param, (first, last, only), jobs, cold, as_of=as_of, until=until, sample=sample
    )
    varied = branches.parse_branch_grid(opened, each or [])
    say = ProgressPrinter(sys.stderr if as_json else sys.stdout)
    try:
        if varied:
            options = branches.BranchOptions(given, force, note, keep_going)
            made = branches.run_branches(opened, chosen, varied, options, say)
        else:
            made = runner.run_pipeline(
                opened, chosen, given, say, force=force, note=note, verify=verify
            )
    finally:
        say.close()
    report_run_outcome(made, opened.config.reports, as_json)


@app.command("plan")
def plan_command(
    project: ProjectOption = "",
    as_of: AsOfOption = "",
    until: UntilOption = "",
    param: ParamOption = None,
    first: FromOption = "",
    last: ToOption = "",
    only: OnlyOption = "",
    force: ForceOption = False,
    sample: SampleOption = 0,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Take the chosen stages as up to date: what was edited does not matter"
        ),
    ] = False,
    verify: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """What mlops run would do with each stage, and why; nothing is run."""
    from getpass import getuser

    from mlops_kit.data import source
    from mlops_kit.pipeline import file_hashes, param_types, params, plan
    from mlops_kit.pipeline.accept import accept_stages

    opened, chosen, given = _load_run_request(
        project, param, (first, last, only), as_of=as_of, until=until, sample=sample
    )
    opened = source.resolve_cutoffs(opened)
    layers = {s: params.resolve_parameters(opened, s, given.get(s, {})) for s in chosen}
    values = {s: params.extract_values(found) for s, found in layers.items()}
    if accept:
        for stage, why in accept_stages(opened, chosen, values, getuser()).items():
            print(f"{stage}: taken as it is, although {'; '.join(why)}")
    found = plan.plan_stages(opened, chosen, values, force, file_hashes.FileHashes(opened, verify))
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "stage": d.stage,
                        "action": d.action,
                        "why": list(d.reasons),
                        "origin": d.origin.name if d.origin else None,
                        "params": {
                            n: {"value": param_types.encode_value(r.value), "from": r.origin}
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
            f"{d.stage:<{width}}  {d.action if d.action != 'depends' else 'run?':<5} {'if what it reads changes: ' if d.action == 'depends' else ''}{d.summary}"
        )
        if layers[d.stage]:
            print(f"{'':<{width}}  {params.format_value_origins(layers[d.stage])}")


@app.command(name="params")
def params_command(
    stage: Annotated[str, typer.Argument(help="The stage; default: all")] = "",
    project: ProjectOption = "",
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """The parameters of the notebooks: type, default, value, where the value came from, what it may be, what it means."""
    from mlops_kit.core import formatting
    from mlops_kit.pipeline import param_types, params

    opened, chosen, given = _load_run_request(project, param, ("", "", stage))
    found = [
        (s, r)
        for s in chosen
        for r in params.resolve_parameters(opened, s, given.get(s, {})).values()
    ]
    if as_json:
        print(
            json.dumps(
                [
                    param_types.encode_value(
                        {
                            "stage": s,
                            "name": r.parameter.name,
                            "type": r.parameter.type,
                            "default": r.parameter.default,
                            "value": r.value,
                            "origin": r.origin,
                            "least": r.min,
                            "most": r.max,
                            "choices": r.choices,
                            "sentence": r.parameter.description,
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
            params.describe_allowed_values(r),
            r.parameter.description,
        )
        for s, r in found
    ]
    print(
        formatting.align_columns(
            [("parameter", "type", "default", "value", "from", "may be", "means"), *rows]
        )
    )
