"""Scoring: which documents are chosen, what of them, and what is said when the numbers are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from conftest import write_source
from graft.core.config.errors import FaultError
from graft.core.stats.evaluation_size import most_of_one
from graft.data.tokenize import sources
from graft.models.files.weights import open_model
from graft.models.runtime.numeric_faults import NotFinite, enough_memory, is_memory
from graft.models.scoring import scoring
from graft.models.scoring.scoring import Choice, choose_documents, gather, mean_nats, score_documents


def choose(tmp_path, pairs: list[int], max_tokens: int) -> Choice:
    return choose_documents(write_source(tmp_path, "domain", [n + 1 for n in pairs]), "train", max_tokens)


def test_one_huge_document_does_not_stand_for_all(tmp_path):
    choice = choose(tmp_path, [400_000] + [50] * 1000, 300_000)
    assert len(choice) == 1001  # with a 32nd of the limit for the long one, all fit
    assert choice.pairs_D.tolist() == [9_375] + [50] * 1000
    assert choice.cut_D.tolist() == [True] + [False] * 1000


def test_what_fits_is_scored_whole(tmp_path):
    choice = choose(tmp_path, [900, 50, 50], 1000)
    assert choice.pairs_D.tolist() == [900, 50, 50] and not choice.cut_D.any()
    everything = choose(tmp_path, [900, 50, 50], 0)
    assert everything.pairs_D.tolist() == [900, 50, 50]


def test_two_books_are_two_documents(tmp_path):
    choice = choose(tmp_path, [400_000, 500_000], 80_000)
    assert choice.pairs_D.tolist() == [2_500, 2_500] and choice.cut_D.all()


def test_the_choice_spreads_over_the_source(tmp_path):
    """Short documents first, long ones last: the end is not cut off, and the limit is used."""
    choice = choose(tmp_path, [10] * 500 + [100] * 500, 20_000)
    places = choice.documents_D / 1000
    assert np.abs(np.quantile(places, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.02
    assert 20_000 - 100 < choice.num_pairs <= 20_000 and not choice.cut_D.any()
    assert (np.diff(choice.documents_D) > 0).all()


@given(pairs=st.lists(st.integers(0, 3000), min_size=1, max_size=60), max_tokens=st.integers(16, 20_000))
@budget(max_examples=80, deadline=None)
def test_a_choice_keeps_to_its_limit_and_has_two_documents_where_there_are_two(tmp_path_factory, pairs, max_tokens):
    choice = choose(tmp_path_factory.mktemp("tokens"), pairs, max_tokens)
    there = sum(n > 0 for n in pairs)
    assert choice.num_pairs <= max_tokens
    assert len(choice) >= min(2, there)
    assert (choice.pairs_D > 0).all()
    lengths = np.array(pairs)[choice.documents_D]
    assert (choice.cut_D == (choice.pairs_D < lengths)).all()
    if choice.cut_D.any():
        assert (choice.pairs_D[choice.cut_D] == most_of_one(max_tokens)).all()


@pytest.mark.parametrize(
    ("limit", "most"), [(320_000, 10_000), (16_384, 512), (8_192, 256), (4_096, 256), (2_000, 250), (160, 20), (3, 1)]
)
def test_a_limit_has_room_for_32_documents_of_256_tokens_and_for_8_of_any(limit, most):
    assert most_of_one(limit) == most


def test_a_document_cut_short_scores_as_its_beginning(world):
    """Not one number of the part depends on what was left out."""
    model = open_model(world.base.folder, "fp32", frozen=True)
    source = sources(world.tokens)["domain"]
    whole = choose_documents(source, "train", 0)
    part = Choice(whole.documents_D[:3], np.minimum(whole.pairs_D[:3], 100), whole.pairs_D[:3] > 100)
    assert part.cut_D.any()
    first = Choice(whole.documents_D[:3], whole.pairs_D[:3], np.zeros(3, bool))
    long, short = (
        gather(source, each, np.ones(3), score_documents(model, source, each, window=64, rows=4))
        for each in (first, part)
    )
    for d in range(3):
        size = int(part.pairs_D[d])
        for theirs, ours in zip(long.document(d), short.document(d), strict=True):
            assert len(ours) == size
            np.testing.assert_allclose(ours, theirs[:size], atol=1e-5)


def test_the_best_token_is_that_of_the_model_s_own_logits(world):
    """Each document by itself through transformers: every mark that says "no token was likelier" is its argmax."""
    model = open_model(world.base.folder, "fp32", frozen=True)
    source = sources(world.tokens)["domain"]
    whole = choose_documents(source, "test", 0)
    choice = Choice(whole.documents_D, np.minimum(whole.pairs_D, 60), whole.pairs_D > 60)
    evidence = gather(source, choice, np.ones(len(choice)), score_documents(model, source, choice, window=64, rows=8))
    hits = []
    for d, pairs in zip(choice.documents_D.tolist(), choice.pairs_D.tolist(), strict=True):
        tokens = torch.from_numpy(source.tokens(d, 0, pairs + 1).astype(np.int64))
        with torch.no_grad():
            hits += (model.hf(input_ids=tokens[None, :-1]).logits[0].argmax(-1) == tokens[1:]).tolist()
    assert 0 < sum(hits) < len(hits)
    assert evidence.best_N.tolist() == hits


def test_validation_counts_what_was_chosen(world):
    model = open_model(world.base.folder, "fp32", frozen=True)
    source = sources(world.tokens)["domain"]
    choice = choose_documents(source, "train", 500)
    assert mean_nats(model, source, choice, window=64, rows=4).count == choice.num_pairs <= 500


def test_a_model_whose_losses_are_no_numbers_names_the_documents(world):
    model = open_model(world.base.folder, "fp32", frozen=True)
    model.hf.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    source = sources(world.tokens)["domain"]
    choice = choose_documents(source, "test", 0)
    with pytest.raises(FaultError, match="the model's loss on this text is not a number") as caught:
        list(score_documents(model, source, choice, window=64, rows=4))
    assert "domain#" in caught.value.where and "train.learning_rate" in caught.value.do


def test_only_the_documents_at_fault_are_named(world):
    """One token whose embedding is broken: documents without it are not blamed."""
    model = open_model(world.base.folder, "fp32", frozen=True)
    source = sources(world.tokens)["domain"]
    choice = choose_documents(source, "train", 0)
    read = {int(d): set(source.tokens(int(d)).tolist()) for d in choice.documents_D}
    rare = min(set().union(*read.values()), key=lambda token: sum(token in tokens for tokens in read.values()))
    model.hf.lm_head.weight = torch.nn.Parameter(model.hf.lm_head.weight.clone(), requires_grad=False)  # untied
    model.hf.get_input_embeddings().weight[rare] = float("nan")
    with pytest.raises(NotFinite) as caught:
        list(score_documents(model, source, choice, window=64, rows=10**6))
    guilty = {("domain", int(source.position_D[d])) for d, tokens in read.items() if rare in tokens}
    assert 0 < len(guilty) < len(read) and set(caught.value.documents) <= guilty


def test_rows_that_do_not_fit_in_memory_are_halved(world, monkeypatch):
    model = open_model(world.base.folder, "fp32", frozen=True)
    source = sources(world.tokens)["domain"]
    choice = choose_documents(source, "test", 0)
    plain = gather(source, choice, np.ones(len(choice)), score_documents(model, source, choice, window=64, rows=8))
    seen, original = [], scoring._score_rows

    def tight(model, source, rows, window, sample):
        seen.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        yield from original(model, source, rows, window, sample)

    monkeypatch.setattr(scoring, "_score_rows", tight)
    small = gather(source, choice, np.ones(len(choice)), score_documents(model, source, choice, window=64, rows=8))
    assert seen[:3] == [8, 4, 2] and max(seen[2:]) == 2
    np.testing.assert_allclose(small.nats_N, plain.nats_N, atol=1e-5)


def test_memory_that_is_not_there_is_a_fault_and_nothing_else_is():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ):
        with (
            pytest.raises(FaultError, match="not enough memory for training") as caught,
            enough_memory("training", "x"),
        ):
            raise error
        assert caught.value.do == "x"
    with pytest.raises(RuntimeError, match="shapes") as other, enough_memory("training", "x"):
        raise RuntimeError("shapes do not match")
    assert not isinstance(other.value, FaultError)
    assert not is_memory(FaultError("not enough memory"))  # said already, in better words


def test_a_processors_own_words_are_known():
    with pytest.raises(FaultError, match="not enough memory"), enough_memory("a test", "x"):
        torch.empty(1 << 60, dtype=torch.uint8)
