"""Check every number on the pages of a project, in each state in which they can be seen.

    python evidence/page_numbers.py                    # this repository, after `make loop`
    python evidence/page_numbers.py examples/diabetes  # another project, after `mlops run`

Both dashboards, the page of the newest run and its model card are read as a person reads them.
Each number has to be a value of the database, of the settings or of a run, as the pages format it,
or what the sentence counts; each time has to be a stored one (``tests/support/page_numbers.py``).
States: in service, waiting, approved, rejected, rolled back, failed, empty. The project itself is
not changed: each state is made in a copy.

Prints what is not explained. Exit codes: 0 if everything is, 1 if something is not.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from stored_outcomes import ROOT

sys.path.insert(0, str(ROOT))
os.environ["VOILA_PREHEAT"] = "False"  # pages as they are served, with the texts of the decisions

from tests.support import page_states


def main() -> int:
    """Check the project that the command line names."""
    home = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    problem_count = 0
    for state in page_states.STATES:
        with tempfile.TemporaryDirectory() as folder:
            project = page_states.copy_in_state(home, Path(folder) / "home", state)
            problems = page_states.find_page_problems(project)
        count = sum(map(len, problems.values()))
        problem_count += count
        print(f"{state}: {count} numbers that nothing stored explains", flush=True)
        for page, found in problems.items():
            for problem in found:
                print(f"  {page}: {problem}")
    return 1 if problem_count else 0


if __name__ == "__main__":
    sys.exit(main())
