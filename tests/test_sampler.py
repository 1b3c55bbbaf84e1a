"""The sampler: a pure function of (seed, mixture, k) that loses no token and keeps the mixture."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_source
from graft.core.config.errors import UsageError
from graft.packing.rows import RowOrder
from graft.packing.sampler import Sampler

lengths = st.lists(st.integers(2, 90), min_size=1, max_size=12)


def make(tmp_path_factory, **sources) -> dict:
    folder = tmp_path_factory.mktemp("tokens")
    return {name: write_source(folder, name, list(sizes)) for name, sizes in sources.items()}


@given(lengths=lengths, window=st.integers(3, 40), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_reads_every_pair_exactly_once(tmp_path_factory, lengths, window, seed):
    source = make(tmp_path_factory, domain=lengths)["domain"]
    stream = RowOrder(source, window, seed)
    laps = window  # after `window` epochs, rows and epochs end together
    rows = stream.pairs * laps // window
    read = Counter(
        (piece.document, pair)
        for number in range(rows)
        for piece in stream.row(number)
        for pair in range(piece.first, piece.last)
    )
    assert set(read.values()) == {laps}
    assert len(read) == stream.pairs


def test_documents_longer_than_the_window_continue_in_another_row_without_overlap(tmp_path_factory):
    source = make(tmp_path_factory, domain=[101])["domain"]
    stream = RowOrder(source, 10, seed=0)
    stretches = sorted((piece.first, piece.last) for row in range(10) for piece in stream.row(row))
    assert stretches == [(first, first + 10) for first in range(0, 100, 10)]


def test_rows_hold_shifted_pairs_and_positions_restart_with_each_piece(tmp_path_factory):
    sources = make(tmp_path_factory, domain=[8, 30, 5, 19])
    batch = Sampler(sources, {"domain": 1.0}, window=16, rows=4, seed=3).batch(0)
    inside = batch.position_BT[:, 1:] > 0
    assert (batch.targets_BT == batch.tokens_BT + 1).all()  # hand-made documents count upwards
    assert (batch.tokens_BT[:, 1:][inside] == batch.tokens_BT[:, :-1][inside] + 1).all()
    assert (batch.position_BT[:, 0] == 0).all()
    assert (batch.weights_BT == 1).all()


def test_a_batch_depends_on_its_number_alone(tmp_path_factory):
    sources = make(tmp_path_factory, domain=[40, 7, 90, 33], general=[60, 60])
    mixture = {"domain": 0.7, "general": 0.3}
    walked = Sampler(sources, mixture, window=16, rows=4, seed=1)
    in_order = [walked.batch(k) for k in range(30)]
    jumped = Sampler(sources, mixture, window=16, rows=4, seed=1)
    for k in (29, 3, 17):
        assert torch.equal(jumped.batch(k).tokens_BT, in_order[k].tokens_BT)
        assert torch.equal(jumped.batch(k).source_B, in_order[k].source_B)


def test_seeds_and_epochs_differ_in_order(tmp_path_factory):
    source = make(tmp_path_factory, domain=[17] * 12)["domain"]
    epochs = [
        [RowOrder(source, 16, 0).row(number)[0].document for number in range(12 * e, 12 * e + 12)] for e in (0, 1)
    ]
    other = [RowOrder(source, 16, 1).row(number)[0].document for number in range(12)]
    assert epochs[0] != epochs[1] and epochs[0] != other
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(other) == list(range(12))


def test_ranks_share_a_batch_without_rest_or_overlap(tmp_path_factory):
    sources = make(tmp_path_factory, domain=[40, 7, 90, 33])
    sampler = Sampler(sources, {"domain": 1.0}, window=16, rows=6, seed=1)
    whole = sampler.batch(5).tokens_BT
    for ranks in (2, 3):
        parts = [sampler.batch(5, rank, ranks).tokens_BT for rank in range(ranks)]
        assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole)


@given(share=st.floats(0.02, 0.98), batches=st.integers(20, 200))
@settings(max_examples=30, deadline=None)
def test_every_prefix_keeps_the_mixture_in_tokens(tmp_path_factory, share, batches):
    sources = make(tmp_path_factory, domain=[50], general=[50])
    sampler = Sampler(sources, {"domain": share, "general": 1 - share}, window=8, rows=4, seed=0)
    tokens = sampler.tokens_by_source(batches)
    rows = batches * 4
    assert sum(tokens.values()) == rows * 8
    assert abs(tokens["domain"] / (rows * 8) - share) <= 4 / rows  # a few rows, whatever the length
    counted = Counter()
    for k in range(batches):
        counted.update(sampler.names[i] for i in sampler.batch(k).source_B.tolist())
    assert {name: count * 8 for name, count in counted.items()} == {n: t for n, t in tokens.items() if t}


def test_the_count_is_the_same_beyond_the_first_chunk(tmp_path_factory, monkeypatch):
    import graft.packing.sampler as module

    sources = make(tmp_path_factory, domain=[50], general=[50])
    mixture = {"domain": 0.37, "general": 0.63}
    expected = Sampler(sources, mixture, window=8, rows=4, seed=0)
    whole = [[p.source for row in expected.pieces(k) for p in row] for k in range(40)]
    counts = expected.tokens_by_source(40)
    monkeypatch.setattr(module, "CHUNK", 7)
    small = Sampler(sources, mixture, window=8, rows=4, seed=0)
    assert small.tokens_by_source(40) == counts
    assert [[p.source for row in small.pieces(k) for p in row] for k in range(40)] == whole


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ({"domain": 90.0, "general": 10.0}, "shares, not percentages"),
        ({"domain": 0.5, "general": 0.4}, "sum to 1"),
        ({"domain": 1.2, "general": -0.2}, "sum to 1"),
        ({"domain": 0.5, "law": 0.5}, 'names a source "law"'),
    ],
)
def test_bad_mixtures_are_named(tmp_path_factory, mixture, words):
    sources = make(tmp_path_factory, domain=[50], general=[50])
    with pytest.raises(UsageError, match=words):
        Sampler(sources, mixture, window=8, rows=2, seed=0)


def test_a_source_without_a_token_is_named(tmp_path_factory):
    sources = make(tmp_path_factory, domain=[1, 1])
    with pytest.raises(UsageError, match='"domain" has no token'):
        Sampler(sources, {"domain": 1.0}, window=8, rows=2, seed=0)


def test_documents_of_a_batch_are_named_for_lineage(tmp_path_factory):
    sources = make(tmp_path_factory, domain=[8, 30, 5, 19])
    sampler = Sampler(sources, {"domain": 1.0}, window=16, rows=2, seed=3)
    batch, documents = sampler.batch(2), sampler.documents(2)
    at = Counter()
    for doc in documents:
        stretch = batch.tokens_BT[doc["row"], at[doc["row"]] : at[doc["row"]] + doc["last"] - doc["first"]]
        expected = 10 + 1000 * doc["position"] + np.arange(doc["first"], doc["last"])
        assert stretch.tolist() == expected.tolist()
        at[doc["row"]] += doc["last"] - doc["first"]
    assert dict(at) == {0: 16, 1: 16}
