"""The storage classes of a bucket, against what Cloud Storage charges and what retention removes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from local.instance import ROOT
from madhatter.settings import settings

# What leaves a class sooner is charged for as many days all the same.
SHORTEST_DAYS = {"NEARLINE": 30, "COLDLINE": 90, "ARCHIVE": 365}


@pytest.fixture
def moves() -> list[dict[str, Any]]:
    """The rules that move files to another class, the first move first."""
    file = json.loads((ROOT / "deploy" / "storage" / "lifecycle.json").read_text())
    rules = [rule for rule in file["lifecycle"]["rule"] if rule["action"]["type"] == "SetStorageClass"]
    return sorted(rules, key=lambda rule: rule["condition"]["age"])


def test_only_the_archive_moves_and_retention_alone_removes(moves: list[dict[str, Any]]) -> None:
    """A rule would remove what a held slice still needs."""
    assert {tuple(rule["condition"]["matchesPrefix"]) for rule in moves} == {("archive/",)}
    text = (ROOT / "deploy" / "storage" / "lifecycle.json").read_text()
    assert '"Delete"' not in text


def test_no_file_leaves_a_class_before_it_is_paid_off(
    moves: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADHATTER_STORE", "gs://bucket")
    monkeypatch.delenv("MADHATTER_KEEP_ARCHIVE_DAYS", raising=False)
    settings.cache_clear()
    end = settings().keep_archive.days
    settings.cache_clear()
    ages = [rule["condition"]["age"] for rule in moves] + [end]
    for rule, (begins, ends) in zip(moves, pairwise(ages), strict=True):
        assert ends - begins >= SHORTEST_DAYS[rule["action"]["storageClass"]]
