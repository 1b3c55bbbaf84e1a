"""What was once right and what is left of it: tokens of every text, and answers to a suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.report.adaptation.panels import status
from graft.report.continual.heat_maps import STRONGEST, ranked
from graft.report.shared import wording

UPWARD = {"✓": "▲", "✗": "▼"}  # of right answers up is better, so that an arrow says it
FULL_LOST = 0.12  # share of lost tokens at which the colour is full, or the largest there is


def flips(told: Mapping[str, Any]) -> dict[str, Any]:
    """By method and text: share of tokens that were right and are wrong at the end, and the reverse."""
    columns = [*told["domains"][:-1], told["general"]]
    methods = told["methods"]
    full = max([FULL_LOST, *(cell["lost"] for one in methods.values() for cell in one["flips"].values())])
    rows = [
        {
            "label": label,
            "number": list(methods).index(label),
            "cells": [_flip(methods[label]["flips"].get(name), full) for name in columns],
        }
        for label in ranked(told)
    ]
    return {"columns": columns, "rows": rows}


def _flip(cell: Mapping[str, float] | None, full: float) -> dict[str, str] | None:
    if cell is None:
        return None
    lost, gained = (wording.percent(cell[key]) for key in ("lost", "found"))
    return {"lost": lost, "found": gained, "strength": f"{STRONGEST * cell['lost'] / full:.3f}"}


def suite(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Share of right answers by method and turn, and what became of those of the base; None without a suite."""
    asked = told.get("suite")
    if asked is None:
        return None
    return {
        "start": f"{100 * asked['start']:.1f}",
        "tasks": [
            (name, wording.count(one["items"]), wording.percent(one["start"])) for name, one in asked["tasks"].items()
        ],
        "rows": [_answers(label, told["methods"]) for label in ranked(told)],
    }


def _answers(label: str, methods: Mapping[str, Any]) -> dict[str, Any]:
    one = methods[label]["suite"]
    low, high = one["interval"] or (0.0, 0.0)
    verdict = "improved" if low > 0 else "worse" if high < 0 else "no change"
    shown = status(verdict if one["interval"] else "no interval")
    shown |= {"shape": UPWARD.get(shown["shape"], shown["shape"])}
    return {
        "label": label,
        "number": list(methods).index(label),
        "after": ["–" if value is None else f"{100 * value:.1f}" for value in one["after"]],
        "change": wording.signed(100 * one["change"], 1),
        "order": one["change"],
        "interval": one["interval"] and " to ".join(wording.signed(100 * end, 1) for end in one["interval"]),
        "status": shown,
        "lost": wording.percent(one["lost"]),
        "found": wording.percent(one["found"]),
    }
