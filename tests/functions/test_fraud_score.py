"""What the score is worth, against the labels of a market that nobody has tuned it to; and its words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.fraud import SEEDS, Verdicts, judged
from bench.signals import orders
from include.functions.fraud_detection import score
from include.functions.fraud_detection.score import Features


def test_fraud_is_found_and_honest_customers_are_left_alone_with_five_unseen_seeds() -> None:
    """docs/fraud.md has the table."""
    whole = Verdicts(Counter())
    for seed in SEEDS[:5]:
        whole += judged(orders(seed, trade=10.0, days=8))
    assert sum(n for (label, _), n in whole.counts.items() if label in ("stolen_card", "refund_abuse")) > 200
    assert whole.precision >= 0.90
    assert whole.recall >= 0.85


def test_reasons_are_sentences_the_weightiest_first() -> None:
    verdict = score.judge(
        "impossible_travel",
        Features(
            order_id="S1",
            order_type="sale",
            amount=300.0,
            country="Spain",
            methods=["card"],
            billing_countries=["France"],
            is_billed_abroad=True,
            other_country="Germany",
            minutes=4.0,
            window_orders=2,
            window_countries=["Germany", "Spain"],
            window_span_s=240,
        ),
    )
    assert verdict.reasons == [
        "Shipped to Spain, billed in France.",
        "The same card bought for Germany 4 minutes before.",
        "2 orders within 4 minutes go to Germany, Spain.",
    ]
    assert verdict.order_ids == ["S1"]
    assert verdict.score > score.weights().threshold


def test_present_that_is_shipped_abroad_is_no_fraud() -> None:
    present = Features("S1", "sale", 20.0, "Spain", "17850", ["card"], ["France"], True, history_orders=9)
    assert score.judge("unusual_amount", present).score < score.weights().threshold


def test_weights_without_a_piece_of_evidence_are_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.yaml"
    file.write_text("{prior: 0, threshold: 0.5, critical: 0.9, evidence: {}}")
    with pytest.raises(ValueError, match=r"weights\.yaml: evidence: billed_abroad, .*: in one only"):
        score.weights(file)
