"""Measure what the pipeline costs compared with the work alone and with other tools.

    python bench/chain.py [PART ...] [--tools FOLDER] [--times N] [--project FOLDER --rows N]

overhead  the whole chain compared with the cells of the same notebooks in one plain process
peers     small notebooks in a row: the chain, papermill, Ploomber and DVC, seconds per stage
nothing   the same again when nothing has changed
growth    ``mlops plan`` for 10, 100 and 1,000 stages; bytes read of an unchanged gigabyte
sample    ``mlops run --sample 5000`` on the flights
warm      warm compared with cold kernels: the time, and whether their artifacts are equal

Everything is timed as whole processes, in new copies in a temporary folder. The tools are
installed there from the package registry, or in FOLDER, where they stay. A figure measured several
times is a median. Without PART all parts are run. Each time is followed by the processor seconds of
all processes, which hardly change when others use the cores too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml
from peers import MLOPS, TOOLS, Tool, build_cells, install_kernel, write_notebooks
from timing import (
    ProcessTime,
    compute_median,
    copy_project,
    format_ratio,
    make_clean_environment,
    time_commands,
)

from mlops_kit.core import files
from mlops_kit.data import source
from mlops_kit.pipeline import (
    current_project,
    file_hashes,
    fingerprint,
    history,
    kernel_pool,
    manifest,
    plan,
    runner,
    stage_dependencies,
)
from mlops_kit.project import artifacts, loader, notebook_cells, run_manifest
from mlops_kit.project.config.pipeline import order_stages

ROOT = Path(__file__).parent.parent
DIABETES = ROOT / "examples" / "diabetes"
FLIGHTS = ROOT
SAMPLE_ROWS = 5000
MLOPS_COMMAND = [sys.executable, "-m", "mlops_kit.cli"]
GIGABYTE = 10**9
MEGABYTE = 10**6
TIMES_NOTHING_TO_DO = 5
PLAN_SIZES = (10, 100, 1000)
TIMES_PLAN = 3
# Run the command line and print how many bytes the process has read.
COUNT_READ_BYTES_CODE = """\
import sys
sys.argv[0] = 'mlops'
from mlops_kit.cli import main
try:
    main()
finally:
    for line in open('/proc/self/io'):
        if line.startswith('rchar'):
            print(line.split()[1], file=sys.stderr)
"""


class ToolProject(NamedTuple):
    """A tool's project: its folder, the commands of a run, and their environment."""

    folder: Path
    commands: list[list[str]]
    environment: dict[str, str]

    def time_run(self, *options: str) -> ProcessTime:
        """Time a run."""
        commands = [[*command, *options] for command in self.commands]
        return time_commands(commands, self.folder, self.environment)


def time_chain(root: Path, *options: str) -> tuple[ProcessTime, run_manifest.RunManifest]:
    """Time ``mlops run`` as a whole process, and return its manifest too."""
    duration = time_commands([[*MLOPS_COMMAND, "run", *options]], root, make_clean_environment())
    return duration, run_manifest.read_manifest(find_newest_run(root))


def find_newest_run(root: Path) -> Path:
    """Find the folder of the newest run of a project."""
    return max((root / "reports").glob("*/manifest.json")).parent


def create_run_folder(project: loader.Project, run: run_manifest.RunManifest) -> Path:
    """Create the folder of a run with its configuration."""
    folder = project.reports_folder / run.run
    settings = project.config.model_dump(mode="json", exclude_unset=True)
    files.write_json(folder / "config.json", settings)
    return folder


def time_cells_of_project(root: Path, sample_rows: int) -> ProcessTime:
    """Time the cells of a project's notebooks in one plain process.

    They have the same parameters as in the chain, and write into the folder of a run.
    """
    project = loader.load_project(root)
    project = project.with_values("the command line", sample=sample_rows or None)
    project = source.resolve_cutoffs(project)
    stages = order_stages(project.config.stages)
    run = manifest.create_manifest(project, stages, "")
    folder = create_run_folder(project, run)
    run_manifest.write_manifest(folder, run)
    notebooks = []
    for stage in stages:
        code_cells = notebook_cells.load_code_cells(project.get_notebook_path(stage))
        cells = [cell["source"] for cell in code_cells]
        values = runner.resolve_stage_values(project, stage, {})
        parameters = [f"{name} = {value!r}" for name, value in values.items()]
        notebooks.append([cells[0], *parameters, *cells[1:]])
    environment = kernel_pool.build_kernel_environment(folder, root)
    return time_cells(folder / "cells.json", notebooks, environment)


def time_cells(path: Path, notebooks: list[list[str]], environment: dict[str, str]) -> ProcessTime:
    """Time cells in one process of their own."""
    files.write_json(path, notebooks)
    script = Path(__file__).with_name("cells.py")
    return time_commands([[sys.executable, str(script), str(path)]], path.parent, environment)


def compute_parallelism(run: run_manifest.RunManifest) -> float:
    """Compute how many stages ran in parallel while any did."""
    spans = []
    for entry in run.stages.values():
        if entry.started is not None and entry.seconds is not None:
            start = datetime.fromisoformat(entry.started).timestamp()
            spans.append((start, start + entry.seconds))
    busy_seconds = 0.0
    busy_until = 0.0
    for start, end in sorted(spans):
        busy_seconds += max(0.0, end - max(start, busy_until))
        busy_until = max(busy_until, end)
    return sum(end - start for start, end in spans) / busy_seconds


def measure_overhead(home: Path, options: argparse.Namespace) -> None:
    """Compare the whole chain with its work alone."""
    cases = [(DIABETES, 0), (FLIGHTS, SAMPLE_ROWS)]
    if options.project:
        cases = [(Path(options.project).resolve(), options.rows)]
    print(
        f"{'seconds (of processor)':<34}{'chain':>16}{'one job':>16}{'alone':>16}"
        f"{'ratio':>16}{'one job':>16}{'parallel':>9}"
    )
    for number, (project, rows) in enumerate(cases):
        run_options = ["--sample", str(rows)] if rows else []
        chain_times = []
        one_job_times = []
        work_times = []
        parallelism = []
        for turn in range(options.times):
            folder = home / f"overhead{number}.{turn}"
            chain_time, run = time_chain(copy_project(project, folder / "chain"), *run_options)
            chain_times.append(chain_time)
            parallelism.append(compute_parallelism(run))
            work_copy = copy_project(project, folder / "alone")
            work_times.append(time_cells_of_project(work_copy, rows))
            one_job_copy = copy_project(project, folder / "one")
            one_job_times.append(time_chain(one_job_copy, "--jobs", "1", *run_options)[0])
            shutil.rmtree(folder)
        chain = compute_median(chain_times)
        one_job = compute_median(one_job_times)
        work = compute_median(work_times)
        size = f"a sample of {rows:,} rows" if rows else "all rows"
        name = f"{loader.load_project(project).config.name}, {size}"
        print(
            f"{name:<34}{chain!s:>16}{one_job!s:>16}{work!s:>16}{format_ratio(chain, work):>16}"
            f"{format_ratio(one_job, work):>16}{median(parallelism):>9.2f}",
            flush=True,
        )


def create_tool_project(tool: Tool, home: Path, tools_folder: Path, count: int) -> ToolProject:
    """Create a tool's project with a number of notebooks."""
    programs = tool.install(tools_folder)
    folder = home / f"{tool.name.split()[0]}{len(tool.name)}.{count}"
    folder.mkdir()
    notebooks = write_notebooks(folder, count)
    tool.prepare(folder, notebooks, programs)
    install_kernel(home)
    environment = make_clean_environment(JUPYTER_PATH=str(home), **tool.environment)
    return ToolProject(folder, tool.build_commands(notebooks, programs), environment)


def measure_peers(home: Path, options: argparse.Namespace) -> None:
    """Measure the seconds per stage that each tool adds to the same cells."""
    for count in options.stages:
        folder = home / f"alone.{count}"
        folder.mkdir()
        notebooks = [build_cells(number) for number in range(count)]
        work = time_cells(folder / "cells.json", notebooks, make_clean_environment())
        print(f"{count} small notebooks; their cells in one process: {work} s")
        print(
            f"{'seconds (of processor)':<34}{'whole':>16}{'per stage':>16}{'by ours':>18}"
            f"{'again, all':>16}"
        )
        ours: ProcessTime | None = None
        for tool in TOOLS:
            project = create_tool_project(tool, home, options.tools, count)
            whole = project.time_run()
            per_stage = ProcessTime(
                (whole.wall - work.wall) / count,
                (whole.cpu - work.cpu) / count,
            )
            ours = ours or per_stage
            again = project.time_run("--force") if tool.skips_unchanged else whole
            print(
                f"{tool.name:<34}{whole!s:>16}{per_stage!s:>16}"
                f"{format_ratio(per_stage, ours):>18}{again!s:>16}  {tool.versions}",
                flush=True,
            )


def measure_nothing_to_do(home: Path, options: argparse.Namespace) -> None:
    """Measure whole processes that find nothing to do."""
    count = options.stages[0]
    print(f"{count} small notebooks, nothing to do{'':<6}{'median':>14}{'min':>7}{'max':>7}")
    for tool in TOOLS:
        if not tool.skips_unchanged:
            continue
        project = create_tool_project(tool, home, options.tools, count)
        project.time_run()
        project.time_run()
        times = [project.time_run() for _ in range(TIMES_NOTHING_TO_DO)]
        print(
            f"{tool.name:<38}{compute_median(times)!s:>14}"
            f"{min(times).wall:>7.2f}{max(times).wall:>7.2f}",
            flush=True,
        )


def create_large_project(home: Path, run_project: Path, count: int) -> Path:
    """Create a project with many stages, and the manifest of a run in which all succeeded.

    Parameters
    ----------
    home : Path
        Where to create it.
    run_project : Path
        A project with one such stage that has been run; its manifest tells what a stage uses.
    count : int
        The number of stages.
    """
    home.mkdir()
    [example] = run_manifest.read_manifest(find_newest_run(run_project)).stages.values()
    packages = example.dependencies.packages if example.dependencies else {}
    notebooks = write_notebooks(home, count)
    MLOPS.prepare(home, notebooks, Path())
    project = source.resolve_cutoffs(loader.load_project(home))
    run = manifest.create_manifest(project, order_stages(project.config.stages), "")
    folder = create_run_folder(project, run)
    current = current_project.CurrentProject(project)
    contents: dict[str, str] = {}
    for stage, entry in run.stages.items():
        config = project.config.stages[stage]
        [name] = config.writes
        files.write_text(project.resolve_path(name), json.dumps({name: 0.5}))
        artifact = artifacts.copy_file_artifact(folder, stage, name, project.resolve_path(name))
        inputs = {}
        for needed in config.needs:
            for input_name in project.config.stages[needed].writes:
                inputs[input_name] = contents[input_name]
        dependencies = stage_dependencies.collect_dependencies(
            current,
            stage,
            runner.resolve_stage_values(project, stage, {}),
            make_dependency_report(packages),
            inputs,
        )
        run.stages[stage] = example.model_copy(
            update={
                "question": entry.question,
                "notebook": entry.notebook,
                "artifacts": {name: artifact},
                "dependencies": dependencies,
                "fingerprint": fingerprint.compute_fingerprint(dependencies),
            }
        )
        contents |= history.get_content_hashes(run.stages[stage])
    run.status = run_manifest.RunStatus.SUCCEEDED
    run.ended = run_manifest.format_current_time()
    run_manifest.write_manifest(folder, run)
    return home


def make_dependency_report(packages: dict[str, str]) -> dict[str, Any]:
    """Make the report of a kernel that has used nothing but packages."""
    return {
        "edited": [],
        "files": {},
        "listings": {},
        "modules": {},
        "settings": [],
        "start": time.time_ns(),
        "packages": packages,
        "unknowable": [],
    }


def measure_growth(home: Path, options: argparse.Namespace) -> None:
    """Measure ``mlops plan`` with many stages, and how much of a large file is read again."""
    small_project = create_tool_project(MLOPS, home, options.tools, 1)
    small_project.time_run()
    print(f"{'stages':>7}{'mlops plan s':>14}{'in process s':>14}{'ms per stage':>13}")
    for count in PLAN_SIZES:
        root = create_large_project(home / f"stages.{count}", small_project.folder, count)
        wait_until_hashes_are_cached()
        environment = make_clean_environment()
        time_commands([[*MLOPS_COMMAND, "plan"]], root, environment)
        times = []
        for _ in range(TIMES_PLAN):
            times.append(time_commands([[*MLOPS_COMMAND, "plan"]], root, environment))
        whole = compute_median(times)
        seconds = time_plan_in_process(root, count)
        milliseconds = 1000 * seconds / count
        print(f"{count:>7}{whole!s:>14}{seconds:>14.3f}{milliseconds:>13.2f}", flush=True)
    measure_unchanged_gigabyte(home)


def wait_until_hashes_are_cached() -> None:
    """Wait until files are old enough for their hashes to be cached."""
    time.sleep(file_hashes.MIN_CACHED_FILE_AGE_NS / 1e9)


def time_plan_in_process(root: Path, count: int) -> float:
    """Return the seconds of a plan in this process; it must skip all stages."""
    project = source.resolve_cutoffs(loader.load_project(root))
    start = time.perf_counter()
    values = {}
    for stage in project.config.stages:
        values[stage] = runner.resolve_stage_values(project, stage, {})
    decisions = plan.plan_stages(project, order_stages(project.config.stages), values)
    seconds = time.perf_counter() - start
    assert [decision.action for decision in decisions] == ["skip"] * count, decisions[0]
    return seconds


def measure_unchanged_gigabyte(home: Path) -> None:
    """Measure how many bytes ``mlops run`` reads of a gigabyte that did not change."""
    root = home / "gigabyte"
    root.mkdir()
    MLOPS.prepare(root, write_notebooks(root, 1), Path())
    settings = yaml.safe_load((root / "mlops.yaml").read_text())
    settings["stages"]["s00"]["files"] = ["big.bin"]
    (root / "mlops.yaml").write_text(yaml.safe_dump(settings))
    with (root / "big.bin").open("wb") as file:
        for _ in range(GIGABYTE // MEGABYTE):
            file.write(os.urandom(MEGABYTE))
    wait_until_hashes_are_cached()
    cases: dict[str, list[str]] = {
        "the first run": [],
        "nothing to do": [],
        "everything read (--verify)": ["--verify"],
    }
    for title, options in cases.items():
        start = time.perf_counter()
        process = subprocess.run(
            [sys.executable, "-c", COUNT_READ_BYTES_CODE, "run", *options],
            cwd=root,
            env=make_clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - start
        megabytes = int(process.stderr.split()[-1]) / MEGABYTE
        print(
            f"1 GB of input, {title:<26}{seconds:>7.2f} s, {megabytes:>8,.1f} MB read", flush=True
        )


def measure_sample(home: Path, _options: argparse.Namespace) -> None:
    """Measure a quick trial run on the flights."""
    root = copy_project(FLIGHTS, home / "sample")
    duration, run = time_chain(root, "--sample", str(SAMPLE_ROWS))
    print(f"mlops run --sample {SAMPLE_ROWS} on {run.project}: {duration} s; {list_seconds(run)}")


def list_seconds(run: run_manifest.RunManifest) -> str:
    """List the stages of a run with their seconds."""
    return ", ".join(f"{stage} {entry.seconds:.1f}" for stage, entry in run.stages.items())


def measure_warm_kernels(home: Path, _options: argparse.Namespace) -> None:
    """Compare warm with cold kernels."""
    hashes: dict[str, dict[str, str]] = {}
    for kernels in ("warm", "cold"):
        root = copy_project(DIABETES, home / kernels)
        with (root / "mlops.yaml").open("a") as settings:
            settings.write(f"run: {{kernels: {kernels}}}\n")
        duration, run = time_chain(root)
        hashes[kernels] = {}
        for stage, entry in run.stages.items():
            for name, content_hash in history.get_content_hashes(entry).items():
                hashes[kernels][f"{stage}: {name}"] = content_hash
        print(f"{kernels} kernels: {duration} s; {list_seconds(run)}", flush=True)
    different = []
    for name, content_hash in hashes["warm"].items():
        if hashes["cold"].get(name) != content_hash:
            different.append(name)
    count = len(hashes["warm"])
    exceptions = f", not {', '.join(different)}" if different else ""
    print(f"{count - len(different)} of {count} artifacts have the same content{exceptions}")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "overhead": measure_overhead,
    "peers": measure_peers,
    "nothing": measure_nothing_to_do,
    "growth": measure_growth,
    "sample": measure_sample,
    "warm": measure_warm_kernels,
}


def parse_counts(text: str) -> list[int]:
    """Parse numbers that are separated by commas."""
    return [int(number) for number in text.split(",")]


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--tools", type=Path, help="folder of the tools' virtual environments")
    parser.add_argument("--times", type=int, default=1, help="repetitions of overhead")
    parser.add_argument(
        "--stages", type=parse_counts, default=[7, 8], help="numbers of small notebooks"
    )
    parser.add_argument("--project", default="", help="a project for overhead instead of the two")
    parser.add_argument("--rows", type=int, default=0, help="the sample size of this project")
    options = parser.parse_args()
    for part in options.part:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; expected {', '.join(PARTS)}")
    return options


def main() -> None:
    """Run the parts."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        options.tools = (options.tools or Path(folder) / "tools").resolve()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
        for part in options.part or PARTS:
            print(f"\n{part}", flush=True)
            home = Path(folder) / part
            home.mkdir()
            PARTS[part](home, options)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
