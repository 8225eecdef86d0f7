"""Rendering of Vega-Lite declarations: the one place that calls vl-convert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlops_kit.core.extras import import_from_extra

# Elements with a graphics role but without a description only disturb screen readers; a chart has
# a label as a whole.
_UNDESCRIBED_ROLES = re.compile(r' (role="graphics-[a-z]+"|aria-roledescription="[^"]*")')


def render_svg(declaration: Mapping[str, Any], extra: str) -> str:
    """Render a Vega-Lite declaration as SVG, without a browser and without the network.

    The first chart of a process takes about half a second, each further one a twentieth. Colors
    may be CSS variables (``var(--blue)``): they reach the SVG as they are, so that a chart follows
    the dark mode of its page.

    Parameters
    ----------
    extra : str
        The extra that installs vl-convert for what needs the chart.

    Raises
    ------
    MissingExtraError
        If vl-convert is not installed.
    """
    with import_from_extra(extra):
        import vl_convert

    svg = vl_convert.vegalite_to_svg(dict(declaration), allowed_base_urls=[])
    return _UNDESCRIBED_ROLES.sub("", svg)
