"""Run the cells of notebooks one after another in this process, without any pipeline.

    python bench/cells.py FILE

FILE is JSON: a list of notebooks, each a list of code cells. Each notebook has its own namespace in
one IPython shell, so that results are displayed as in a kernel. The first failing cell ends all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell


def main(notebooks: list[list[str]]) -> None:
    """Run the cells."""
    shell = InteractiveShell.instance()
    for cells in notebooks:
        shell.reset()
        for cell in cells:
            shell.run_cell(cell, store_history=True).raise_error()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
