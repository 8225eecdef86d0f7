"""Two rollbacks in a row stop automatic promotion, and nothing else does."""

from __future__ import annotations

import pytest

from mlops_kit.db.approvals import REINSTATING_ACTOR
from mlops_kit.db.operator_decisions import detect_promotion_stop, list_rolled_back_versions
from mlops_kit.db.tables import PromotionRecord


def make_promotions(versions: str) -> list[PromotionRecord]:
    """Promotions of one-letter versions, the oldest first."""
    promotions = []
    previous = None
    for number, version in enumerate(versions, 1):
        promotions.append(
            PromotionRecord(
                model="t",
                number=number,
                version=version,
                model_hash="m",
                evidence_hash="e",
                previous_version=previous,
                actor="a",
                reason="r",
                promoted_at="2024-01-01",
            )
        )
        previous = version
    return promotions


@pytest.mark.parametrize(
    ("versions", "rolled_back"),
    [
        ("", None),
        ("abcd", None),
        ("aba", None),
        ("abaca", ("b", "c")),
        ("abacad", ("b", "c")),  # a promotion by a person does not enable it again
        ("abcbdb", ("c", "d")),
        ("abacdc", None),  # the version between was not rolled back
        ("abab", None),  # a rollback that was undone
        ("ababa", None),
    ],
)
def test_two_rollbacks_in_a_row_stop_promotion(
    versions: str, rolled_back: tuple[str, ...] | None
) -> None:
    stop = detect_promotion_stop(make_promotions(versions))
    assert (stop.versions if stop else None) == rolled_back


@pytest.mark.parametrize(
    ("versions", "rolled_back"),
    [
        ("", ""),
        ("abc", ""),
        ("aba", "b"),
        ("abaca", "bc"),
        ("abcb", "c"),
        ("abab", ""),  # a person promoted it again
    ],
)
def test_versions_that_were_rolled_back_are_listed(versions: str, rolled_back: str) -> None:
    assert list_rolled_back_versions(make_promotions(versions)) == set(rolled_back)


def test_reinstatement_is_no_rollback() -> None:
    promotions = make_promotions("abacab")
    for promotion in promotions[2:]:
        if promotion.version != "c":
            promotion.actor = REINSTATING_ACTOR
    assert detect_promotion_stop(promotions) is None
    assert list_rolled_back_versions(promotions) == set()
    rolled_back = detect_promotion_stop([*promotions, *make_promotions("abacabdbeb")[6:]])
    assert rolled_back is not None
    assert rolled_back.versions == ("d", "e")


def test_rollbacks_before_a_decision_of_a_person_do_not_count() -> None:
    promotions = make_promotions("abacada")
    assert detect_promotion_stop(promotions[:5], enabled_after=5) is None
    assert detect_promotion_stop(promotions, enabled_after=5) is None
    later = detect_promotion_stop(make_promotions("abacadaea"), enabled_after=5)
    assert later is not None
    assert later.versions == ("d", "e")
