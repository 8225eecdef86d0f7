"""The cells of notebooks one after the other in this one process: what their work takes with no chain around it.

    python bench/cells.py FILE

FILE is JSON: a list of notebooks, each a list of cells' sources. Each notebook has a namespace of its own in
one IPython shell, so that what is shown is drawn as in a kernel. The first cell that fails ends all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell


def main(books: list[list[str]]) -> None:
    """Run them."""
    shell = InteractiveShell.instance()
    for book in books:
        shell.reset()
        for source in book:
            shell.run_cell(source, store_history=True).raise_error()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
