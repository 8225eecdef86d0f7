"""The decision to roll back, which both pages offer."""

from __future__ import annotations

import json

from mlops_kit.dashboards.view_models import ActionView
from mlops_kit.db.tables import PromotionRecord


def make_rollback_actions(current: PromotionRecord | None) -> list[ActionView]:
    """Make the decision to roll back; nothing if there is no version before the champion."""
    if current is None or current.previous_version is None:
        return []
    previous = current.previous_version
    action = ActionView(
        name="rollback",
        label=f"Roll back to {previous} …",
        title=f"Roll back to version {previous}?",
        text=(
            f"Version {previous} is put back in service at once, version {current.version} is "
            "taken out of service. Both stay in the registry."
        ),
        submit_label=f"Roll back to {previous}",
        payload=json.dumps({"version": current.version}),
    )
    return [action]
