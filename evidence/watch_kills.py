"""Kill a watch at random moments, with a second one beside it, and compare with an undisturbed one.

    python evidence/watch_kills.py                # 50 kills; resumes where it was interrupted
    python evidence/watch_kills.py --kills 5      # fewer
    python evidence/watch_kills.py --again        # forgets stored outcomes

A small synthetic project is watched for four weeks. Two processes start at the same time, of which
one has to be refused; every second time the other one is in a container of its own, as far as its
process ids and its host name go, if the system allows that. Both are killed (SIGKILL, with all
processes that they started) at a random moment, and two start again. When one has come to the end,
every prediction, label, window, incident, decision and alert has to be stored once, as without
kills. Alerts go to a file, which must have each of them once, and to a webhook, which must have
each at least once: a process that is killed between sending an alert and noting so sends it again
with the same number. How often that happened is counted.

Outcomes are stored in ``build/watch_kills.json`` until a tracked file changes.

Exit codes: 0 if nothing differs, 1 if something does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stored_outcomes import ROOT, OutcomeStore

sys.path.insert(0, str(ROOT))

from mlops_kit.db.tables import AlertRecord, PredictionRecord
from mlops_kit.project import loader
from tests.support import watched_project as watched

DECIDING_PATHS = ("mlops_kit", "tests/support/watched_project.py", "evidence/watch_kills.py")
WORK_FOLDER = ROOT / "build" / "watch_kills"
UNTIL = "2024-02-28"
DEFAULT_KILLS = 50
SEED = 0
MIN_DELAY_SECONDS = 3.0  # a process has begun to work by then
MAX_DELAY_SHARE = 0.8  # of the time that the undisturbed watch took
WEBHOOK_ENV = "WATCH_KILLS_WEBHOOK"
SETTINGS = f"""{watched.YAML_WITHOUT_RETRAINING}
alerts:
  sinks:
    file: {{}}
    webhook: {{url_env: {WEBHOOK_ENV}}}
"""
NEW_CONTAINER = ("unshare", "--fork", "--pid", "--mount-proc", "--uts", "--kill-child")


class Webhook:
    """A receiver of alerts, which appends what it gets to a file of the project that sends it."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                path = WORK_FOLDER / self.path.strip("/") / "webhook.jsonl"
                with path.open("ab") as file:
                    file.write(body.replace(b"\n", b" ") + b"\n")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Write nothing to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def get_url(self, project: loader.Project) -> str:
        """Return the Apprise URL to which a project sends its alerts."""
        return f"json://127.0.0.1:{self._server.server_port}/{project.root.name}"


def start_watch(
    project: loader.Project, webhook: Webhook, prefix: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start to watch the four weeks, in a process group of its own."""
    command = [*prefix, sys.executable, "-m", "mlops_kit.cli", "watch", "--fast", "--until", UNTIL]
    command += ["--project", str(project.root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", WEBHOOK_ENV: webhook.get_url(project)}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def can_create_containers() -> bool:
    """Whether the system allows to create process namespaces."""
    if shutil.which(NEW_CONTAINER[0]) is None:
        return False
    return (
        subprocess.run([*NEW_CONTAINER, "true"], capture_output=True, check=False).returncode == 0
    )


@contextmanager
def run_two_watches(
    project: loader.Project, webhook: Webhook, in_container: bool
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run two watches at once, and kill what still runs at the end."""
    prefix = NEW_CONTAINER if in_container else ()
    processes = [start_watch(project, webhook), start_watch(project, webhook, prefix)]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def kill_two_watches(
    project: loader.Project, webhook: Webhook, delay: float, in_container: bool
) -> dict[str, Any]:
    """Start two watches at once, and kill those that still run after a time."""
    with run_two_watches(project, webhook, in_container) as processes:
        time.sleep(delay)
    codes = [process.returncode for process in processes]
    return {
        "delay": round(delay, 2),
        "in_container": in_container,
        "killed": codes.count(-signal.SIGKILL),
        "refused": codes.count(1),
        "reached_the_end": codes.count(0),
        "predictions": len(watched.list_records(project, PredictionRecord)),
    }


def watch_to_the_end(project: loader.Project, webhook: Webhook) -> float:
    """Watch the four weeks without interruption; return how many seconds it took."""
    start = time.monotonic()
    code = start_watch(project, webhook).wait()
    if code != 0:
        raise SystemExit(f"mlops watch ended with exit code {code}")
    return time.monotonic() - start


def list_alerts(project: loader.Project) -> list[tuple[str, str, str, str]]:
    """List sink, signal, event and time of each stored alert."""
    alerts = watched.list_records(project, AlertRecord)
    return sorted((alert.sink, alert.signal, alert.event, alert.created_at) for alert in alerts)


def count_sent(project: loader.Project) -> dict[str, Counter[int]]:
    """Count how often each sink got each alert, by its number."""
    alerts_file = project.resolve_path(project.config.monitor.alerts_file)
    in_file: Counter[int] = Counter()
    for line in alerts_file.read_text().splitlines():
        in_file[json.loads(line)["number"]] += 1
    at_webhook: Counter[int] = Counter()
    for line in (project.root / "webhook.jsonl").read_text().splitlines():
        number = re.search(r", alert (\d+)", json.loads(line)["message"])
        if number is None:
            raise SystemExit(f"a message without a number: {line}")
        at_webhook[int(number[1])] += 1
    return {"file": in_file, "webhook": at_webhook}


def find_differences(undisturbed: loader.Project, killed: loader.Project) -> list[str]:
    """Find what is missing, twice or different after the kills."""
    differences = []
    expected = watched.take_snapshot(undisturbed)
    found = watched.take_snapshot(killed)
    for name, records in expected.items():
        if found[name] != records:
            differences.append(f"{name} differ")
    alerts = list_alerts(killed)
    if alerts != list_alerts(undisturbed):
        differences.append(f"alerts differ: {alerts}")
    times_sent = count_sent(killed)
    for sink, counts in times_sent.items():
        stored = {a.id for a in watched.list_records(killed, AlertRecord) if a.sink == sink}
        if set(counts) != stored:
            differences.append(f"{sink} got {sorted(counts)}, stored are {sorted(stored)}")
    if times_sent["file"].total() != len(times_sent["file"]):
        differences.append(f"alerts twice in the file: {times_sent['file']}")
    return differences


def finish_watch(
    undisturbed: loader.Project, killed: loader.Project, webhook: Webhook
) -> dict[str, Any]:
    """Watch to the end after kills, and compare."""
    watch_to_the_end(killed, webhook)
    at_webhook = count_sent(killed)["webhook"]
    return {
        "differences": find_differences(undisturbed, killed),
        "alerts": len(list_alerts(killed)),
        "sent_again": at_webhook.total() - len(at_webhook),
    }


def load_killed_project(outcomes: dict[str, Any]) -> loader.Project:
    """Load the project whose watch is being killed: a new copy for each time that one ended."""
    ended = sum("finished" in outcome for outcome in list_kills(outcomes))
    folder = WORK_FOLDER / f"killed-{ended + 1}"
    if not folder.is_dir():
        shutil.copytree(WORK_FOLDER / "original", folder)
    return loader.load_project(folder)


def list_kills(outcomes: dict[str, Any]) -> list[dict[str, Any]]:
    """List the outcomes of all kills so far."""
    return [outcome for name, outcome in outcomes.items() if name.startswith("kill ")]


def prepare_projects(webhook: Webhook) -> float:
    """Build the project, and a copy that is watched without kills; return the seconds it took."""
    shutil.rmtree(WORK_FOLDER, ignore_errors=True)
    original = watched.build_project(WORK_FOLDER / "original", SETTINGS)
    shutil.copytree(original.root, WORK_FOLDER / "undisturbed")
    return watch_to_the_end(loader.load_project(WORK_FOLDER / "undisturbed"), webhook)


def print_summary(outcomes: dict[str, Any]) -> int:
    """Print what came out; return the number of differences."""
    kills = list_kills(outcomes)
    finished = [outcome["finished"] for outcome in kills if "finished" in outcome]
    differences = []
    for outcome in finished:
        differences.extend(outcome["differences"])
    for difference in differences:
        print(difference)
    print(
        f"{len(kills)} kills of {sum(kill['killed'] for kill in kills)} processes, "
        f"{sum(kill['refused'] for kill in kills)} refused; {len(finished)} watches of four weeks "
        f"with {sum(outcome['alerts'] for outcome in finished)} alerts, "
        f"{sum(outcome['sent_again'] for outcome in finished)} of them sent again to the webhook: "
        f"{len(differences)} differences"
    )
    return len(differences)


def main() -> int:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=DEFAULT_KILLS)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    store = OutcomeStore("watch_kills", DECIDING_PATHS, arguments.again)
    outcomes = store.outcomes
    webhook = Webhook()
    if not WORK_FOLDER.is_dir():
        outcomes.clear()
    if not outcomes:
        outcomes["seconds"] = prepare_projects(webhook)
        store.save()
    undisturbed = loader.load_project(WORK_FOLDER / "undisturbed")
    has_containers = can_create_containers()
    for number in range(arguments.kills):
        name = f"kill {number + 1}"
        if name in outcomes:
            continue
        killed = load_killed_project(outcomes)
        rng = random.Random(f"{SEED} {number}")  # noqa: S311 - not for cryptography
        delay = rng.uniform(MIN_DELAY_SECONDS, MAX_DELAY_SHARE * outcomes["seconds"])
        in_container = has_containers and number % 2 == 1
        outcome = kill_two_watches(killed, webhook, delay, in_container)
        if outcome["reached_the_end"] or number == arguments.kills - 1:
            outcome["finished"] = finish_watch(undisturbed, killed, webhook)
        outcomes[name] = outcome
        store.save()
        print(f"{name}: {outcome}", flush=True)
    return 1 if print_summary(outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
