"""What a reader sees of a page."""

from __future__ import annotations

import html
import re


def read_text(part: object) -> str:
    """Return the text of a piece of HTML, without scripts and tags."""
    without_scripts = re.sub(r"<script.*?</script>", " ", str(part), flags=re.DOTALL)
    without_spans = re.sub(r"</?span[^>]*>", "", without_scripts)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", without_spans)).split())
