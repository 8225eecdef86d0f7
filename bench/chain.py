"""What the chain costs: beside the work alone, beside other tools, with nothing to do, and as it grows.

    python bench/chain.py [PART ...] [--tools FOLDER] [--times N] [--project FOLDER --rows N]

overhead  the whole chain against the cells of the same seven notebooks in one plain process
peers     small notebooks in a row: the chain, papermill, Ploomber and DVC, seconds a stage beside the cells alone
nothing   the same again when nothing has changed
growth    ``mlops plan`` for 10, 100 and 1,000 stages; the bytes read of a gigabyte that did not change
sample    ``mlops run --sample 5000`` on the flights
warm      warm against cold kernels: the time, and whether they hand on the same

All is timed as whole processes, in fresh copies in a temporary folder; the tools are installed there from the
package registry, or in FOLDER, where they stay. A figure of several times is their median. Without PART all are run.
Beside each time stand the seconds of processor that it and all that it started took: those hardly change where
others use the cores too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import yaml
from peers import TOOLS, Tool, kernel, notebooks, sources

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
from mlops_kit.project.config import pipeline

ROOT = Path(__file__).parent.parent
DIABETES, FLIGHTS, ROWS = ROOT / "examples" / "diabetes", ROOT, 5000
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".mlops", "reports", "__pycache__", "*_cache", "tests", "bench"
)
MLOPS = [sys.executable, "-m", "mlops_kit.cli"]
GIGABYTE = 10**9
COUNTED = "import sys; sys.argv[0] = 'mlops'\nfrom mlops_kit.cli import main\ntry: main()\nfinally: print(*(line.split()[1] for line in open('/proc/self/io') if line.startswith('rchar')), file=sys.stderr)"


class Took(NamedTuple):
    """Seconds of the clock, and of the processors in all processes."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return (
            f"{self.wall:.1f} ({self.cpu:.1f})"
            if self.wall >= 10
            else f"{self.wall:.2f} ({self.cpu:.2f})"
        )


def middle(found: list[Took]) -> Took:
    """The median of each."""
    return Took(median(f.wall for f in found), median(f.cpu for f in found))


def spent() -> float:
    """Processor seconds of all processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clean(**more: str) -> dict[str, str]:
    """The caller's environment without settings of mlops-kit and MLflow."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))} | more


def timed(commands: list[list[str]], cwd: Path, env: dict[str, str]) -> Took:
    """What some command lines take one after the other; the first that fails ends the benchmark."""
    begin, before = time.perf_counter(), spent()
    for command in commands:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{' '.join(command)[:200]} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            )
    return Took(time.perf_counter() - begin, spent() - before)


def copied(project: Path, place: Path) -> Path:
    """A copy of a project that has never been run."""
    return Path(shutil.copytree(project, place, ignore=LEFT_OUT))


def chain(root: Path, *more: str) -> tuple[Took, run_manifest.RunManifest]:
    """What ``mlops run`` takes as a whole process, and the manifest that it has left."""
    took = timed([[*MLOPS, "run", *more]], root, clean())
    return took, run_manifest.read_manifest(max((root / "reports").glob("*/manifest.json")).parent)


def alone(root: Path, rows: int) -> Took:
    """What it takes: the same cells with the same parameters in one plain process that writes into a run's folder."""
    project = loader.load_project(root)
    project = source.resolve_cutoffs(project.with_values("the command line", sample=rows or None))
    stages = pipeline.order_stages(project.config.stages)
    made = manifest.create_manifest(project, stages, "")
    folder = project.reports_folder / made.run
    files.write_json(
        folder / "config.json", project.config.model_dump(mode="json", exclude_unset=True)
    )
    run_manifest.write_manifest(folder, made)
    books = []
    for stage in stages:
        first, *rest = [
            c["source"] for c in notebook_cells.load_code_cells(project.get_notebook_path(stage))
        ]
        books.append(
            [
                first,
                *(
                    f"{n} = {v!r}"
                    for n, v in runner.resolve_stage_values(project, stage, {}).items()
                ),
                *rest,
            ]
        )
    return plain(folder / "cells.json", books, kernel_pool.build_kernel_environment(folder, root))


def plain(file: Path, books: list[list[str]], env: dict[str, str]) -> Took:
    """What cells take in one process of their own."""
    files.write_json(file, books)
    return timed(
        [[sys.executable, str(Path(__file__).with_name("cells.py")), str(file)]], file.parent, env
    )


def beside(made: run_manifest.RunManifest) -> float:
    """How many stages ran at once while any did: their seconds together, by the seconds in which one of them ran."""
    from datetime import datetime

    spans = sorted(
        (begin := datetime.fromisoformat(e.started).timestamp(), begin + e.seconds)
        for e in made.stages.values()
        if e.started is not None and e.seconds is not None
    )
    busy, reached = 0.0, 0.0
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return sum(end - begin for begin, end in spans) / busy


def overhead(home: Path, asked: argparse.Namespace) -> None:
    """The whole chain beside its work alone."""
    cases = (
        [(Path(asked.project).resolve(), asked.rows)]
        if asked.project
        else [(DIABETES, 0), (FLIGHTS, ROWS)]
    )
    print(
        f"{'seconds (of processor)':<34}{'chain':>16}{'one job':>16}{'alone':>16}{'ratio':>16}{'one job':>16}{'at once':>9}"
    )
    for number, (project, rows) in enumerate(cases):
        more = ["--sample", str(rows)] if rows else []
        found, one, work, together = [], [], [], []
        for turn in range(asked.times):
            place = home / f"overhead{number}.{turn}"
            took, made = chain(copied(project, place / "chain"), *more)
            found.append(took)
            together.append(beside(made))
            work.append(alone(copied(project, place / "alone"), rows))
            one.append(chain(copied(project, place / "one"), "--jobs", "1", *more)[0])
            shutil.rmtree(place)
        a, b, c = middle(found), middle(one), middle(work)
        name = loader.load_project(project).config.name + (
            f", a sample of {rows:,} rows" if rows else ", whole"
        )
        print(
            f"{name:<34}{a!s:>16}{b!s:>16}{c!s:>16}{ratio(a, c):>16}{ratio(b, c):>16}{median(together):>9.2f}",
            flush=True,
        )


def ratio(one: Took, other: Took) -> str:
    """One by the other, of the clock and of the processors."""
    return f"{one.wall / other.wall:.2f}× ({one.cpu / other.cpu:.2f}×)"


def line(
    tool: Tool, home: Path, tools: Path, count: int
) -> tuple[Path, list[list[str]], dict[str, str]]:
    """A tool's project of so many notebooks: its folder, its commands, its environment."""
    programs = tool.install(tools)
    folder = home / f"{tool.name.split()[0]}{len(tool.name)}.{count}"
    folder.mkdir()
    books = notebooks(folder, count)
    tool.prepare(folder, books, programs)
    kernel(home)
    return folder, tool.build(books, programs), clean(JUPYTER_PATH=str(home), **tool.env)


def peers(home: Path, asked: argparse.Namespace) -> None:
    """Seconds a stage that each tool adds to the same cells."""
    for count in asked.stages:
        place = home / f"alone.{count}"
        place.mkdir()
        work = plain(place / "cells.json", [sources(n) for n in range(count)], clean())
        print(f"{count} small notebooks; their cells in one process: {work} s")
        print(
            f"{'seconds (of processor)':<34}{'whole':>16}{'a stage':>16}{'by ours':>18}{'again, all':>16}"
        )
        first: Took | None = None
        for tool in TOOLS:
            folder, commands, env = line(tool, home, asked.tools, count)
            whole = timed(commands, folder, env)
            each = Took(*((a - b) / count for a, b in zip(whole, work, strict=True)))
            first = first or each
            again = (
                timed([[*c, "--force"] for c in commands], folder, env) if tool.leaves else whole
            )
            print(
                f"{tool.name:<34}{whole!s:>16}{each!s:>16}{ratio(each, first):>18}{again!s:>16}  {tool.versions}",
                flush=True,
            )


def nothing(home: Path, asked: argparse.Namespace) -> None:
    """The median of five whole processes that find nothing to do."""
    count = asked.stages[0]
    print(f"{count} small notebooks, nothing to do{'':<6}{'median':>14}{'least':>7}{'most':>7}")
    for tool in (t for t in TOOLS if t.leaves):
        folder, commands, env = line(tool, home, asked.tools, count)
        timed(commands, folder, env)
        timed(commands, folder, env)
        took = [timed(commands, folder, env) for _ in range(5)]
        print(
            f"{tool.name:<38}{middle(took)!s:>14}{min(took).wall:>7.2f}{max(took).wall:>7.2f}",
            flush=True,
        )


def grown(home: Path, seed: Path, count: int) -> Path:
    """A project of so many stages, a notebook each, with the manifest of a run in which all ended well.

    ``seed`` is a project of one such stage that has been run: its trace says what a stage uses.
    """
    home.mkdir()
    before = max((seed / "reports").glob("*/manifest.json")).parent
    [like] = run_manifest.read_manifest(before).stages.values()
    names = notebooks(home, count)
    TOOLS[0].prepare(home, names, Path())
    project = source.resolve_cutoffs(loader.load_project(home))
    made = manifest.create_manifest(project, pipeline.order_stages(project.config.stages), "")
    folder, now = project.reports_folder / made.run, current_project.CurrentProject(project)
    files.write_json(
        folder / "config.json", project.config.model_dump(mode="json", exclude_unset=True)
    )
    contents: dict[str, str] = {}
    for stage, entry in made.stages.items():
        [name] = project.config.stages[stage].writes
        files.write_text(project.resolve_path(name), json.dumps({name: 0.5}))
        artifact = artifacts.copy_file_artifact(folder, stage, name, project.resolve_path(name))
        used = {
            "edited": [],
            "files": {},
            "listings": {},
            "modules": {},
            "settings": [],
            "start": time.time_ns(),
            "packages": like.dependencies.packages if like.dependencies else {},
            "unknowable": [],
        }
        trace = stage_dependencies.collect_dependencies(
            now,
            stage,
            runner.resolve_stage_values(project, stage, {}),
            used,
            {
                n: contents[n]
                for need in project.config.stages[stage].needs
                for n in project.config.stages[need].writes
            },
        )
        made.stages[stage] = like.model_copy(
            update={
                "question": entry.question,
                "notebook": entry.notebook,
                "artifacts": {name: artifact},
                "dependencies": trace,
                "fingerprint": fingerprint.compute_fingerprint(trace),
            }
        )
        contents |= history.get_content_hashes(made.stages[stage])
    made.status = run_manifest.RunStatus.SUCCEEDED
    made.ended = run_manifest.format_current_time()
    run_manifest.write_manifest(folder, made)
    return home


def growth(home: Path, asked: argparse.Namespace) -> None:
    """``mlops plan`` of many stages, and a gigabyte that is not read again."""
    seed, commands, env = line(TOOLS[0], home, asked.tools, 1)
    timed(commands, seed, env)
    print(f"{'stages':>7}{'mlops plan s':>14}{'in process s':>14}{'ms a stage':>12}")
    for count in (10, 100, 1000):
        root = grown(home / f"stages.{count}", seed, count)
        time.sleep(
            file_hashes.MIN_CACHED_FILE_AGE_NS / 1e9
        )  # a file as young as this is hashed again each time
        timed([[*MLOPS, "plan"]], root, clean())
        whole = middle([timed([[*MLOPS, "plan"]], root, clean()) for _ in range(3)])
        project = source.resolve_cutoffs(loader.load_project(root))
        begin = time.perf_counter()
        found = plan.plan_stages(
            project,
            pipeline.order_stages(project.config.stages),
            {s: runner.resolve_stage_values(project, s, {}) for s in project.config.stages},
        )
        inside = time.perf_counter() - begin
        assert [d.action for d in found] == ["skip"] * count, found[0]
        print(f"{count:>7}{whole!s:>14}{inside:>14.3f}{1000 * inside / count:>12.2f}", flush=True)
    unread(home)


def unread(home: Path) -> None:
    """Bytes that ``mlops run`` reads of a gigabyte that did not change."""
    root = home / "gigabyte"
    root.mkdir()
    TOOLS[0].prepare(root, notebooks(root, 1), Path())
    settings = yaml.safe_load((root / "mlops.yaml").read_text())
    settings["stages"]["s00"]["files"] = ["big.bin"]
    (root / "mlops.yaml").write_text(yaml.safe_dump(settings))
    with (root / "big.bin").open("wb") as big:
        for _ in range(GIGABYTE // 10**6):
            big.write(os.urandom(10**6))
    time.sleep(file_hashes.MIN_CACHED_FILE_AGE_NS / 1e9)
    for what in ("the first run", "nothing to do", "all read anew (--verify)"):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COUNTED, "run", *(["--verify"] if "anew" in what else [])],
            cwd=root,
            env=clean(),
            capture_output=True,
            text=True,
            check=True,
        )
        print(
            f"1 GB of input, {what:<26}{time.perf_counter() - begin:>7.2f} s, {int(done.stderr.split()[-1]) / 1e6:>8,.1f} MB read",
            flush=True,
        )


def sample(home: Path, asked: argparse.Namespace) -> None:
    """A quick trial run of the flights."""
    took, made = chain(copied(FLIGHTS, home / "sample"), "--sample", str(ROWS))
    print(
        f"mlops run --sample {ROWS} on {made.project}: {took} s; "
        + ", ".join(f"{s} {e.seconds:.1f}" for s, e in made.stages.items())
    )


def warm(home: Path, asked: argparse.Namespace) -> None:
    """Warm against cold kernels."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for kind in ("warm", "cold"):
        root = copied(DIABETES, home / kind)
        with (root / "mlops.yaml").open("a") as settings:
            settings.write(f"run: {{kernels: {kind}}}\n")
        took, made = chain(root)
        found[kind] = {s: history.get_content_hashes(e) for s, e in made.stages.items()}
        print(
            f"{kind} kernels: {took} s; "
            + ", ".join(f"{s} {e.seconds:.1f}" for s, e in made.stages.items()),
            flush=True,
        )
    count = sum(map(len, found["warm"].values()))
    differ = [
        f"{s}'s {n}"
        for s, made in found["warm"].items()
        for n in made
        if made[n] != found["cold"][s].get(n)
    ]
    print(
        f"{count - len(differ)} of {count} artifacts have the same content{': not ' + ', '.join(differ) if differ else ''}"
    )


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    p.__name__: p for p in (overhead, peers, nothing, growth, sample, warm)
}


def main() -> None:
    """Measure what was asked for."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked.add_argument("part", nargs="*", help=", ".join(PARTS))
    asked.add_argument("--tools", type=Path, help="folder of the other tools' virtual environments")
    asked.add_argument(
        "--times", type=int, default=1, help="times that the chain of overhead is run"
    )
    asked.add_argument(
        "--stages",
        type=lambda text: [int(n) for n in text.split(",")],
        default=[7, 8],
        help="numbers of small notebooks",
    )
    asked.add_argument(
        "--project", default="", help="a project for overhead, in place of the two of this folder"
    )
    asked.add_argument("--rows", type=int, default=0, help="its sample")
    chosen = asked.parse_args()
    if unknown := [p for p in chosen.part if p not in PARTS]:
        asked.error(f"unknown part {unknown[0]!r}; expected {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        chosen.tools = (chosen.tools or Path(folder) / "tools").resolve()
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
        for name in chosen.part or PARTS:
            print(f"\n{name}", flush=True)
            (home := Path(folder) / name).mkdir()
            PARTS[name](home, chosen)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
