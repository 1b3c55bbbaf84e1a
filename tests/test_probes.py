"""Metrics and probes, by hand-worked numbers and by the identities they promise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.config.errors import FaultError
from graft.core.records.evidence import Evidence, _read_source, write_evidence
from graft.evaluation.metrics.accuracy import Accuracy
from graft.evaluation.metrics.bits_per_byte import BitsPerByte
from graft.evaluation.metrics.nats_per_token import NatsPerToken
from graft.evaluation.probes.blame import CLASSES, Blame, by_class, token_class
from graft.evaluation.probes.forgetting import Forgetting


def evidence(documents, source="domain", vocabulary=None) -> Evidence:
    """documents: a list of (targets, nats, bytes)."""
    lengths = [len(targets) for targets, _, _ in documents]
    return Evidence(
        source=source,
        position_D=np.arange(len(documents)),
        num_bytes_D=np.array([size for _, _, size in documents]),
        bounds_E=np.concatenate([[0], np.cumsum(lengths)]),
        targets_N=np.concatenate([targets for targets, _, _ in documents]).astype(np.uint32),
        nats_N=np.concatenate([nats for _, nats, _ in documents]).astype(np.float32),
        vocabulary=vocabulary or {},
    )


BEFORE = evidence([([1, 2], [4.0, 2.0], 3), ([2], [3.0], 6)], vocabulary={1: "\n", 2: " law"})
AFTER = evidence([([1, 2], [5.0, 1.0], 3), ([2], [1.0], 6)], vocabulary={1: "\n", 2: " law"})


def test_accuracy_by_hand(tmp_path):
    seen = replace(BEFORE, best_N=np.array([True, False, True]))
    hits = Accuracy()(seen)
    assert hits.total.tolist() == [1, 1] and hits.count.tolist() == [2, 1]
    write_evidence(tmp_path, seen)
    assert _read_source(tmp_path, "domain").best_N.tolist() == [True, False, True]
    with pytest.raises(FaultError, match="which token was likeliest"):
        Accuracy()(BEFORE)


def test_metrics_by_hand():
    nats, bits = NatsPerToken()(BEFORE), BitsPerByte()(BEFORE)
    assert nats.total.tolist() == [6, 3] and nats.count.tolist() == [2, 1]
    assert bits.total.sum() / bits.count.sum() == pytest.approx(9 / math.log(2) / 9)


def test_forgetting_by_hand():
    [row] = Forgetting()({"domain": BEFORE}, {"domain": AFTER})
    assert (row["before"], row["after"]) == (3, pytest.approx(7 / 3))
    assert row["change"] == pytest.approx(7 / 9 - 1)
    assert row["perplexity"]["before"] == pytest.approx(math.e**3)
    assert row["interval"][0] <= row["change"] <= row["interval"][1]
    assert (row["documents"], row["tokens"]) == (2, 3)


@pytest.mark.parametrize(
    ("factor", "spread", "expected"), [(0.9, 0.01, "improved"), (1.1, 0.01, "worse"), (1.0, 0.1, "no change")]
)
def test_the_verdict_follows_the_interval(factor, spread, expected):
    draw = np.random.default_rng(1)
    nats = draw.uniform(2, 4, size=(80, 5))
    factors = factor + spread * draw.standard_normal((80, 1))
    old = evidence([([1] * 5, row, 9) for row in nats])
    new = evidence([([1] * 5, row, 9) for row in nats * (factors - factors.mean() + factor)])
    [row] = Forgetting()({"domain": old}, {"domain": new})
    assert row["verdict"] == expected


def test_one_document_says_that_it_has_no_interval():
    one = evidence([([1, 2], [4.0, 2.0], 3)])
    [row] = Forgetting()({"domain": one}, {"domain": one})
    assert row["interval"] is None and "one document" in row["verdict"]


def test_another_seed_resamples_anew():
    draw = np.random.default_rng(2)
    nats = draw.uniform(2, 4, size=(30, 5))
    old, new = (evidence([([1] * 5, row, 9) for row in n]) for n in (nats, nats * draw.uniform(0.8, 1, (30, 1))))
    intervals = [Forgetting(seed)({"domain": old}, {"domain": new})[0]["interval"] for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_blame_by_hand():
    rows = {row["text"]: row for row in Blame()({"domain": BEFORE}, {"domain": AFTER})}
    assert rows["\n"]["blame"] == pytest.approx(1 / 3) and rows["\n"]["class"] == "newline"
    assert rows[" law"]["mean_change"] == pytest.approx(-1.5) and rows[" law"]["blame"] == pytest.approx(-1)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_blame_sums_to_the_change_of_the_mean_loss(data):
    count = data.draw(st.integers(1, 200))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    targets = draw.integers(0, 20, count)
    vocabulary = {v: " \n.a1the"[v % 7 :][:3] for v in range(20)}
    old, new = (evidence([(targets, draw.exponential(3, count), 9)], vocabulary=vocabulary) for _ in range(2))
    rows = Blame()({"domain": old}, {"domain": new})
    change = float(new.nats_N.astype(float).mean() - old.nats_N.astype(float).mean())
    assert sum(row["blame"] for row in rows) == pytest.approx(change, rel=1e-6, abs=1e-9)
    assert sum(row["blame"] for row in by_class(rows)) == pytest.approx(change, rel=1e-6, abs=1e-9)
    assert sum(row["count"] for row in rows) == count
    assert [row["blame"] for row in rows] == sorted((row["blame"] for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("\n\n", "newline"), ("  \n", "newline"), ("   ", "whitespace"), (" ,", "punctuation"), (" ==", "punctuation"),
     ("7", "digit"), (" ٣", "digit"), (" The", "function word"), ("because", "function word"), (" court", "other"),
     ("", "other"), ("é", "other")],
)  # fmt: skip
def test_classes(text, expected):
    assert token_class(text) == expected and expected in CLASSES
    assert token_class(text, is_term=True) == ("domain term" if expected == "other" and text else expected)


def test_domain_terms_are_those_that_the_general_text_lacks():
    vocabulary = {1: " plaintiff", 2: " house", 3: " the"}
    domain = evidence([([1] * 20 + [2] * 20 + [3] * 20, [1.0] * 60, 90)], vocabulary=vocabulary)
    general = evidence([([2] * 20 + [3] * 20, [1.0] * 40, 60)], "general", vocabulary)
    both = {"domain": domain, "general": general}
    classes = {(row["source"], row["text"]): row["class"] for row in Blame(min_count=5)(both, both)}
    assert classes["domain", " plaintiff"] == "domain term"
    assert classes["domain", " house"] == classes["general", " house"] == "other"
    assert {row["class"] for row in Blame(min_count=50)(both, both)} == {"other", "function word"}
    assert {row["class"] for row in Blame(term_ratio=1e9)(both, both)} == {"other", "function word"}
    assert {row["class"] for row in Blame(domain="law")(both, both)} == {"other", "function word"}
    assert {row["class"] for row in Blame()({"domain": domain}, {"domain": domain})} == {"other", "function word"}
