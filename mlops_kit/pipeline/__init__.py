"""Pipeline."""

from __future__ import annotations
