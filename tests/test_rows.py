"""Rows of whole documents and of whole pairs, and what counts in them."""

from __future__ import annotations

from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_source
from graft.core.config.errors import UsageError
from graft.core.tokens.token_shards import CHOSEN, REJECTED, TokenSource, weights_of
from graft.packing import rows as module
from graft.packing.rows import Packed, RowOrder, best_fit
from graft.packing.sampler import Sampler, rows_of


def write(
    folder: Path, name: str, lengths: list[int], *, paired: bool = False, weights: list[int] | None = None
) -> TokenSource:
    """Hand-made shards as in conftest; paired: documents 0 and 1 are a pair, 2 and 3 ...; weights: of all tokens."""
    write_source(folder, name, lengths)
    shard = folder / f"{name}-00000.bin"
    with np.load(shard.with_suffix(".npz")) as stored:
        index = dict(stored)
    if paired:
        index["role"] = np.array([CHOSEN, REJECTED] * (len(lengths) // 2), np.int8)
    if weights is not None:
        np.array(weights, np.uint8).tofile(weights_of(shard))
        ends = np.cumsum(lengths)
        index["counted"] = np.array([sum(weights[end - n + 1 : end]) for n, end in zip(lengths, ends, strict=True)])
    np.savez(shard.with_suffix(".npz"), **index)
    return TokenSource(folder, name)


lengths = st.lists(st.integers(1, 90), min_size=1, max_size=40).filter(lambda sizes: max(sizes) > 1)


def read_of(rows: RowOrder | Packed, first: int, last: int) -> Counter:
    return Counter(
        (piece.document, pair)
        for n in range(first, last)
        for piece in rows.row(n)
        for pair in range(piece.first, piece.last)
    )


def num_rows(rows: Packed, epoch: int) -> range:
    """The rows of an epoch, found by counting pairs."""
    first = next(n for n in count() if rows.num_read(n) == epoch * rows.pairs)
    return range(first, next(n for n in count(first) if rows.num_read(n) == (epoch + 1) * rows.pairs))


@given(lengths=lengths, window=st.integers(3, 40), seed=st.integers(0, 5), fitted=st.integers(1, 50))
@settings(max_examples=80, deadline=None)
def test_whole_documents_are_read_once_per_epoch_and_never_cut_but_at_the_window(
    tmp_path_factory, lengths, window, seed, fitted
):
    module.FITTED, before = fitted, module.FITTED
    try:
        source = write_source(tmp_path_factory.mktemp("tokens"), "domain", lengths)
        rows = Packed(source, window, seed)
        for epoch in (0, 1):
            numbers = num_rows(rows, epoch)
            read = read_of(rows, numbers.start, numbers.stop)
            assert set(read.values()) == {1} and len(read) == rows.pairs == sum(size - 1 for size in lengths)
            for n in numbers:
                pieces = rows.row(n)
                assert pieces and sum(piece.last - piece.first for piece in pieces) <= window
                for piece in pieces:
                    assert piece.first % window == 0
                    assert piece.last - piece.first == min(window, lengths[piece.document] - 1 - piece.first)
        first = num_rows(rows, 0)
        assert rows.filling == pytest.approx(1 - rows.pairs / (len(first) * window))
        assert rows.left_out == 0
    finally:
        module.FITTED = before


@given(sizes=st.lists(st.integers(2, 30), min_size=2, max_size=40), window=st.integers(6, 60), seed=st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_whole_pairs_are_read_once_per_epoch_and_those_too_long_are_counted(tmp_path_factory, sizes, window, seed):
    lengths = sizes[: len(sizes) // 2 * 2]
    source = write(tmp_path_factory.mktemp("tokens"), "domain", lengths, paired=True)
    size_P = {d: lengths[d] + lengths[d + 1] - 2 for d in range(0, len(lengths), 2)}
    fitting = {d for d, size in size_P.items() if size <= window}
    if not fitting:
        with pytest.raises(UsageError, match=f"the shortest of {len(size_P)} takes {min(size_P.values())} tokens"):
            Packed(source, window, seed, paired=True)
        return
    rows = Packed(source, window, seed, paired=True)
    assert rows.left_out == len(size_P) - len(fitting)
    numbers = num_rows(rows, 1)
    seen: list[int] = []
    for n in numbers:
        documents = [piece.document for piece in rows.row(n)]
        assert [d + 1 for d in documents[::2]] == documents[1::2]
        assert all((piece.first, piece.last) == (0, lengths[piece.document] - 1) for piece in rows.row(n))
        assert sum(size_P[d] for d in documents[::2]) <= window
        seen += documents[::2]
    assert sorted(seen) == sorted(fitting)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
@settings(deadline=None)
def test_best_fit_holds_everything_once_within_its_bound(sizes):
    rows = best_fit(sizes, 50)
    assert sorted(place for row in rows for place in row) == list(range(len(sizes)))
    assert all(sum(sizes[place] for place in row) <= 50 for row in rows)
    assert sum(sum(sizes[place] for place in row) <= 25 for row in rows) <= 1  # two halves would have shared a row


def test_best_fit_by_hand():
    assert best_fit([4, 8, 1, 4, 2, 1], 10) == [[1, 4], [0, 3, 2, 5]]  # Johnson's items: both rows are full


def test_documents_of_many_lengths_leave_little_room(tmp_path):
    draw = np.random.default_rng(0)
    sizes = np.minimum(np.exp(draw.normal(5.5, 1.0, 3000)), 6000).astype(int) + 2
    rows = Packed(write_source(tmp_path, "domain", sizes.tolist()), 2048, seed=0)
    assert rows.filling < 0.01


def test_row_n_is_a_function_of_the_seed_and_n(tmp_path):
    source = write_source(tmp_path, "domain", [5, 20, 9, 31, 14, 8, 3, 27])
    walked = Packed(source, 30, 1)
    in_order = [walked.row(n) for n in range(40)]
    jumped = Packed(source, 30, 1)
    assert [jumped.row(n) for n in (39, 3, 17)] == [in_order[n] for n in (39, 3, 17)]
    assert [Packed(source, 30, 2).row(n) for n in range(40)] != in_order
    epochs = [[in_order[n] for n in num_rows(walked, epoch)] for epoch in (0, 1, 2)]
    assert epochs[0] != epochs[1] != epochs[2]


def mixed(folder: Path) -> dict[str, TokenSource]:
    """Pairs in both sources; every other token counts in the first."""
    draw = np.random.default_rng(1)
    sizes = draw.integers(2, 12, 60).tolist()
    weights = (np.arange(sum(sizes)) % 2).tolist()
    return {
        "domain": write(folder, "domain", sizes, paired=True, weights=weights),
        "general": write(folder, "general", draw.integers(2, 20, 60).tolist(), paired=True),
    }


@pytest.mark.parametrize("packing", ["stream", "whole", "pairs"])
def test_batches_and_accounts_agree(tmp_path, packing):
    sampler = Sampler(mixed(tmp_path), {"domain": 0.6, "general": 0.4}, window=40, rows=4, seed=0, packing=packing)
    read, counted = Counter(), Counter()
    for k in range(60):
        batch, documents = sampler.batch(k), sampler.documents(k)
        assert torch.equal(batch.row_B, torch.arange(4 * k, 4 * k + 4))
        at = Counter()
        for doc in documents:
            b, source = doc["row"], sampler.streams[doc["source"]].tokens
            size = doc["last"] - doc["first"]
            place = slice(at[b], at[b] + size)
            assert batch.source_B[b] == sampler.names.index(doc["source"])
            assert batch.position_BT[b, place].tolist() == list(range(size))
            assert (batch.targets_BT[b, place] == batch.tokens_BT[b, place] + 1).all()  # they count upwards
            number = int(batch.tokens_BT[b, at[b]] - 10) // 1000
            first = int(batch.tokens_BT[b, at[b]] - 10) % 1000
            assert first == doc["first"]
            weights = source.weights(number, first + 1, first + size + 1)
            assert batch.weights_BT[b, place].tolist() == weights.tolist()
            at[b] += size
            read[doc["source"]] += size
            counted[doc["source"]] += int((weights > 0).sum())
        for b in range(4):
            assert not batch.weights_BT[b, at[b] :].any()
            assert batch.position_BT[b, at[b] :].tolist() == list(range(40 - at[b]))
    assert sampler.tokens_by_source(60) == dict(read)
    assert sampler.counted_by_source(60) == dict(counted)
    assert counted["domain"] < 0.7 * read["domain"] and counted["general"] == read["general"]
    assert abs(read["domain"] / read.total() - 0.6) < 0.02  # shares of tokens, however full the rows are
    assert sampler.filling == {name: rows.filling for name, rows in sampler.streams.items()}
    assert (max(sampler.filling.values()) > 0) == (packing != "stream")


def test_shares_are_of_tokens_however_full_the_rows_are(tmp_path):
    sources = {  # every row of the first holds one document and is filled up by 2 / 5
        "domain": write_source(tmp_path, "domain", [25] * 30),
        "general": write_source(tmp_path, "general", [3] * 200),
    }
    sampler = Sampler(sources, {"domain": 0.5, "general": 0.5}, window=40, rows=4, seed=0, packing="whole")
    assert sampler.filling == {"domain": pytest.approx(0.4), "general": 0}
    tokens = sampler.tokens_by_source(200)
    assert tokens["domain"] / sum(tokens.values()) == pytest.approx(0.5, abs=0.01)


def test_rejected_answers_are_read_in_pairs_alone(tmp_path):
    source = mixed(tmp_path)["domain"]
    for packing, expected in (("stream", {0}), ("whole", {0}), ("pairs", {0, 1})):
        sampler = Sampler({"domain": source}, {"domain": 1.0}, window=40, rows=4, seed=0, packing=packing)
        read = {piece.document % 2 for k in range(30) for row in sampler.pieces(k) for piece in row}
        assert read == expected


def test_rows_of_a_source_are_those_of_the_sampler(tmp_path):
    source = mixed(tmp_path)["domain"]
    for packing in ("stream", "whole", "pairs"):
        sampler = Sampler({"domain": source}, {"domain": 1.0}, window=40, rows=4, seed=7, packing=packing)
        batch = sampler.batch(3)
        alone = rows_of(source, batch.row_B.tolist(), source=5, window=40, seed=7, packing=packing)
        for name in ("tokens_BT", "targets_BT", "weights_BT", "position_BT", "row_B"):
            assert torch.equal(getattr(alone, name), getattr(batch, name))
        assert alone.source_B.tolist() == [5] * 4


@pytest.mark.parametrize(
    ("packing", "words"),
    [("pair", "allowed: stream, whole, pairs"), ("pairs", '"domain" has no preference pair')],
)
def test_a_packing_that_cannot_be_is_named(tmp_path, packing, words):
    source = write_source(tmp_path, "domain", [5, 5])
    with pytest.raises(UsageError, match=words):
        Sampler({"domain": source}, {"domain": 1.0}, window=8, rows=2, seed=0, packing=packing)


def test_whole_documents_of_no_token_are_named(tmp_path):
    with pytest.raises(UsageError, match='"domain" has no token'):
        Packed(write_source(tmp_path, "domain", [1, 1]), 8, 0)


def test_pairs_left_out_are_told_by_source(tmp_path):
    source = write(tmp_path, "domain", [5, 5, 30, 30], paired=True)
    sampler = Sampler({"domain": source}, {"domain": 1.0}, window=20, rows=2, seed=0, packing="pairs")
    assert sampler.left_out == {"domain": 1}
    assert Sampler({"domain": source}, {"domain": 1.0}, window=20, rows=2, seed=0).left_out == {"domain": 0}


def test_many_threads_get_the_same_batches(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    import graft.packing.sampler as sampling

    monkeypatch.setattr(sampling, "CHUNK", 7)
    sources = mixed(tmp_path)

    def make() -> Sampler:
        return Sampler(sources, {"domain": 0.6, "general": 0.4}, window=40, rows=4, seed=0, packing="whole")

    alone, shared = make(), make()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared.batch, range(60)))
    for k, batch in enumerate(found):
        assert torch.equal(batch.tokens_BT, alone.batch(k).tokens_BT)
