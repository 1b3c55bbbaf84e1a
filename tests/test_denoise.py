"""Span corruption: which spans are hidden, what is read and written, and encoder-decoders the whole way."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from conftest import World
from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.stats.random_streams import stream
from graft.core.store.artifact import Store
from graft.core.tokens.special_tokens import sentinel_ids
from graft.data.tokenize import sources, tokenize
from graft.evaluation.score_documents import Evaluate
from graft.jobs.adapt import Adapt
from graft.models.checks.verify import verify
from graft.models.files.weights import open_model
from graft.models.forward import encoder_decoder as halves_of_models
from graft.models.forward.encoder import TURNS
from graft.models.scoring.scoring import choose_documents, mean_nats, score_documents
from graft.packing.batch import Batch
from graft.packing.sampler import Sampler
from graft.packing.span_corruption import Noise, corrupt, halves_of, stack
from graft.surgery.initialize import Initialize, initialize
from graft.training.loop import Pace, run
from graft.training.objectives.denoise import Denoise
from graft.training.objectives.masked import Masked
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.train import train

MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    objective=Denoise(),
    tokens=64 * 4 * 12,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=3e-3,
    precision="fp32",
    evaluations=3,
)


@pytest.fixture(scope="module")
def written(world) -> World:
    """The same text and a tiny untrained encoder-decoder with sentinels."""
    tiny = Initialize(vocabulary=420, width=32, layers=2, heads=2, feed_forward=64, window=64, architecture="t5")
    base = Base("written", initialize(world.corpus, tiny, store=world.store) / "model")
    return replace(world, base=base, tokens=tokenize(world.corpus, base, store=world.store))


def published(length: int, rate: float, mean_span: float, draw: np.random.Generator) -> np.ndarray:
    """The released noise mask, told another way: shuffled marks of where a segment opens, and run lengths of them."""
    length_ = max(length, 2)
    hidden = min(max(int(np.round(length_ * rate)), 1), length_ - 1)
    spans = max(int(np.round(hidden / mean_span)), 1)

    def segments(items: int, number: int) -> list[int]:
        opens = np.array([1] * (number - 1) + [0] * (items - number), dtype=int)
        draw.shuffle(opens)
        member = np.cumsum(np.concatenate([[0], opens]))
        return np.bincount(member).tolist()

    mask: list[bool] = []
    for seen, out in zip(segments(length_ - hidden, spans), segments(hidden, spans), strict=True):
        mask += [False] * seen + [True] * out
    return np.array(mask[:length])


@pytest.mark.parametrize(
    ("length", "rate", "mean_span"), [(10, 0.4, 2.0), (512, 0.15, 3.0), (31, 0.15, 3.0), (2, 0.5, 3.0)]
)
def test_spans_are_hidden_as_published(length, rate, mean_span):
    """Golden: every mask of a short piece is equally likely; number, spans and places of long ones agree."""
    ours, theirs = (np.random.default_rng(seed) for seed in (1, 2))
    noise, draws = Noise(rate, mean_span), 3000
    masks = [noise.draw(length, 100, ours) for _ in range(draws)]
    others = [published(length, rate, mean_span, theirs) for _ in range(draws)]
    assert {mask.sum() for mask in masks} == {mask.sum() for mask in others}
    opens = [{int((np.diff(mask.astype(int)) == 1).sum()) for mask in each} for each in (masks, others)]
    assert opens[0] == opens[1] and len(opens[0]) == 1
    by_place = np.mean(masks, 0) - np.mean(others, 0)
    assert np.abs(by_place).max() < 5 * math.sqrt(2 * 0.25 / draws)
    if length == 10:
        counts = Counter(mask.tobytes() for mask in masks)
        assert len(counts) == 3 * 5  # ways to cut 4 into 2, times ways to cut 6 into 2
        assert max(abs(count - draws / 15) for count in counts.values()) < 5 * math.sqrt(draws / 15)


def test_there_are_no_more_spans_than_sentinels():
    mask = Noise(0.5, 1.0).draw(100, 7, np.random.default_rng(0))
    assert mask.sum() == 50 and (np.diff(mask.astype(int)) == 1).sum() == 7
    assert not Noise().draw(1, 7, np.random.default_rng(0)).any()


def test_a_pair_by_hand():
    """Thank you <for inviting> me to your party <last> week: the example of the paper's figure 2."""
    text = np.array([11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
    noise = np.isin(text, [13, 14, 19])
    reads, writes, place = corrupt(text, noise, [90, 91, 92], end=1)
    assert reads.tolist() == [11, 12, 90, 15, 16, 17, 18, 91, 20, 1]
    assert writes.tolist() == [90, 13, 14, 91, 19, 1]
    assert place.tolist() == [-1, 2, 3, -1, 8, -1]
    reads, writes, place = corrupt(text, noise, [90, 91, 92], end=None)
    assert reads.tolist() == [11, 12, 90, 15, 16, 17, 18, 91, 20]
    assert writes.tolist() == [90, 13, 14, 91, 19, 92] and place[-1] == -1
    assert corrupt(text, noise, [90, 91], end=None).writes_U.tolist() == [90, 13, 14, 91, 19]


def batch_of(world, k=3, rows=4) -> Batch:
    return Sampler(sources(world.tokens), MIXTURE, window=64, rows=rows, seed=0).batch(k)


def test_every_piece_is_a_text_of_its_own(written):
    batch = batch_of(written, rows=32)
    batch.weights_BT[2] = 0
    sentinels, marks = sentinel_ids(written.base), written.base.marks
    halves = halves_of(batch, Noise(), 0, sentinels, marks)
    starts = [[*row.nonzero().flatten().tolist(), 64] for row in batch.starts_BT]
    pieces = [
        (b, batch.tokens_BT[b, first:stop].tolist())
        for b, row in enumerate(starts)
        for first, stop in itertools.pairwise(row)
    ]
    texts = [(b, piece[1:] if piece[0] == marks.start else piece) for b, piece in pieces if b != 2]
    texts = [(b, text) for b, text in texts if len(text) > 1]
    assert len(texts) > 33 and halves.row_P.tolist() == [b for b, _ in texts]
    for p, (_, text) in enumerate(texts):
        reads = halves.reads_PL[p][halves.seen_PL[p]].tolist()
        writes = halves.writes_PU[p][halves.counts_PU[p] == 1].tolist()
        assert reads[-1] == writes[-1] == marks.end
        spans: dict[int, list[int]] = {}
        for token in writes[:-1]:
            if token in sentinels:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert list(spans) == sentinels[: len(spans)]
        whole = [word for token in reads[:-1] for word in spans.get(token, [token])]
        assert whole == text  # nothing lost, nothing twice


def test_a_row_is_drawn_by_its_number_alone(written):
    batch = batch_of(written)
    arguments = (Noise(), 0, sentinel_ids(written.base), written.base.marks)
    whole, cut = halves_of(batch, *arguments), [halves_of(part, *arguments) for part in batch.split(1)]
    rows = [row for half in cut for row in half.writes_PU[half.counts_PU == 1].tolist()]
    assert whole.writes_PU[whole.counts_PU == 1].tolist() == rows
    moved = halves_of(replace(batch, row_B=batch.row_B + 50), *arguments)
    assert moved.writes_PU[moved.counts_PU == 1].tolist() != rows


def loud(base: Base):
    model = open_model(base.folder, "fp32")
    with torch.no_grad():
        for weight in model.hf.parameters():
            if weight.dim() > 1:
                weight.mul_(2)  # or every loss would be log V
    return model


def test_the_loss_is_the_model_s_own(written):
    """Golden: transformers' model(input_ids, labels).loss of each pair alone."""
    model, batch = loud(written.base), batch_of(written)
    tally = written.bind(Denoise())(model, batch)
    halves = halves_of(batch, Noise(), 0, sentinel_ids(written.base), written.base.marks)
    totals, counts = torch.zeros(4), torch.zeros(4)
    for p, row in enumerate(halves.row_P.tolist()):
        reads = halves.reads_PL[p][halves.seen_PL[p]][None]
        writes = halves.writes_PU[p][halves.counts_PU[p] == 1][None]
        loss = model.hf(input_ids=reads, labels=writes).loss
        totals = totals + torch.nn.functional.one_hot(torch.tensor(row), 4) * loss * writes.shape[1]
        counts[row] += writes.shape[1]
    assert torch.equal(tally.count, counts)
    torch.testing.assert_close(tally.total / tally.count, totals / counts, atol=1e-5, rtol=1e-5)
    weights = list(model.parameters())
    ours, theirs = (torch.autograd.grad(total.sum(), weights) for total in (tally.total, totals))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_what_leaks_between_pieces_is_found(written, monkeypatch):
    model, batch = loud(written.base), batch_of(written)
    verify(model, batch)
    plain = halves_of_models.before_head

    def leaking(hf, **inputs):
        return plain(hf, **inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])})

    monkeypatch.setattr(halves_of_models, "before_head", leaking)
    verify(model, batch)
    assert not model.fills and ["filled up behind a mask" in note for note in model.notes] == [True]


def loop(world, objective, *, micro_rows=4, steps=3):
    model = open_model(world.base.folder, "fp32")
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0)
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    pace = Pace(rate=lambda step: 1e-3, micro_rows=micro_rows, clip=1.0, seed=0)
    return model, list(run(model, world.bind(objective), sampler, optimizer, pace, 0, steps))


def test_how_a_batch_is_cut_does_not_matter(written):
    whole, whole_steps = loop(written, Denoise(), micro_rows=4)
    cut, cut_steps = loop(written, Denoise(), micro_rows=1)
    for a, b in zip(whole.hf.parameters(), cut.hf.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-2)
    assert [s.loss for s in whole_steps] == pytest.approx([s.loss for s in cut_steps], rel=1e-5)


@pytest.mark.parametrize("change", [{"rate": 0.4}, {"mean_span": 1.0}, {"seed": 1}], ids=str)
def test_every_setting_has_an_effect(written, change):
    model, batch = open_model(written.base.folder, "fp32", frozen=True), batch_of(written)
    plain, other = (written.bind(one)(model, batch).total for one in (Denoise(), Denoise(**change)))
    assert not torch.allclose(plain, other, rtol=1e-5, atol=0)


def test_a_batch_of_which_nothing_counts_counts_nothing(written):
    model, batch = open_model(written.base.folder, "fp32"), batch_of(written)
    tally = written.bind(Denoise())(model, replace(batch, weights_BT=torch.zeros_like(batch.weights_BT)))
    tally.total.sum().backward()  # as the loop does it
    assert tally.total.tolist() == tally.count.tolist() == [0.0] * 4


def test_it_learns_resumes_and_is_read_by_transformers(written, tmp_path, monkeypatch):
    settings = replace(SHORT, checkpoint_minutes=0.0, tokens=64 * 4 * 16, learning_rate=1e-2)
    plain = train(written.base, written.tokens, MIXTURE, settings, store=Store(tmp_path / "plain"))
    seen = [entry["validation"] for entry in json.loads((plain / "curve.json").read_text()) if "validation" in entry]
    for name in MIXTURE:
        first, last = (total / count for total, count in (seen[0][name], seen[-1][name]))
        assert last < first - 0.3
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(plain / "model")
    assert torch.equal(again.get_output_embeddings().weight, again.get_input_embeddings().weight)
    steps, original = itertools.count(1), torch.optim.AdamW.step
    with monkeypatch.context() as patch:

        def stopping(*args, **kwargs):
            if next(steps) == 7:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        patch.setattr(torch.optim.AdamW, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(written.base, written.tokens, MIXTURE, settings, store=Store(tmp_path / "stopped"))
    resumed = train(written.base, written.tokens, MIXTURE, settings, store=Store(tmp_path / "stopped"))
    a, b = (load_file(one / "model" / "model.safetensors") for one in (plain, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_every_word_is_scored_once_in_a_hidden_span(written):
    """Golden: transformers' own forward of each pass over the beginning of a document."""
    model = loud(written.base)
    source, marks = sources(written.tokens)["domain"], written.base.marks
    sentinels = sentinel_ids(written.base)
    choice = choose_documents(source, "test", 0)
    tokens = source.tokens(int(choice.documents_D[0])).astype(np.int64)
    text = tokens[1:64]
    order = halves_of_models._turns_of(63)
    wanted = np.full(63, np.nan)
    for turn in range(TURNS):
        hidden = order == turn
        reads, writes, names = [], [], iter(sentinels)
        for place, token in enumerate(text.tolist()):
            if hidden[place] and (place == 0 or not hidden[place - 1]):
                name = next(names)
                reads.append(name)
                writes.append((name, -1))
            if hidden[place]:
                writes.append((token, place))
            else:
                reads.append(token)
        labels = torch.tensor([[token for token, _ in writes] + [marks.end]])
        with torch.no_grad():
            logits = model.hf(input_ids=torch.tensor([[*reads, marks.end]]), labels=labels).logits[0]
        nats = torch.nn.functional.cross_entropy(logits, labels[0], reduction="none")
        for (_, place), value in zip(writes, nats.tolist(), strict=False):
            if place >= 0:
                wanted[place] = value
    assert not np.isnan(wanted).any()
    scored = {
        (piece.document, piece.first): nats
        for piece, nats, _ in score_documents(model, source, choice, window=64, rows=4)
    }
    np.testing.assert_allclose(scored[int(choice.documents_D[0]), 0], wanted, atol=1e-4)
    assert sum(int(np.isnan(nats).sum()) for nats in scored.values()) == len(choice)  # end marks
    alone = score_documents(model, source, choice, window=64, rows=1)
    for piece, nats, _ in alone:
        np.testing.assert_allclose(nats, scored[piece.document, piece.first], atol=1e-4)
    some = mean_nats(model, source, choice, window=64, rows=4)
    assert 0.05 < some.count / choice.num_pairs < 0.25


def test_spans_of_scoring_are_of_one_to_five_words():
    order = halves_of_models._turns_of(2000)
    runs = np.diff(np.concatenate([[-1], np.flatnonzero(np.diff(order)), [1999]]))
    assert set(runs[:-1].tolist()) == {1, 2, 3, 4, 5} and 2.8 < runs.mean() < 3.2
    assert np.bincount(order).min() > 0.8 * 2000 / TURNS


def test_an_encoder_decoder_goes_the_whole_way(world, written, tmp_path):
    settings = Adapt(
        base=str(written.base.folder),
        domain=(str(world.domain),),
        general=(str(world.general),),
        replay=0.25,
        out=str(tmp_path / "out"),
        train=replace(SHORT, tokens=64 * 4 * 30),
        evaluate=Evaluate(max_tokens=2000),
    )
    done = settings(Store(tmp_path / "store"))
    assert done.summary["outcome"] == "improved"
    assert any("words in spans of 3" in note for note in done.summary["notes"])


def test_other_kinds_are_refused(world, written, tmp_path):
    with pytest.raises(UsageError, match="objective denoise cannot train tiny, which predicts the next word"):
        train(world.base, world.tokens, MIXTURE, SHORT, store=Store(tmp_path))
    masked = replace(SHORT, objective=Masked())
    with pytest.raises(UsageError, match="objective masked cannot train written, which reads with one half") as caught:
        train(written.base, written.tokens, MIXTURE, masked, store=Store(tmp_path))
    assert caught.value.do == "train it with objective denoise"
    with pytest.raises(UsageError, match="has no tokens <extra_id_0>"):
        world.bind(Denoise())
    model = open_model(written.base.folder, "fp32", frozen=True)
    with pytest.raises(UsageError, match="has no hidden states of a row of text"):
        model.hidden(batch_of(written))


def test_bad_settings_are_named():
    for settings, words in (({"rate": 1.0}, "rate is 1.0"), ({"mean_span": 0.5}, "mean_span is 0.5")):
        with pytest.raises(UsageError, match=words):
            Denoise(**settings)
    with pytest.raises(UsageError, match="vocabulary is 350") as caught:
        Initialize(vocabulary=350, architecture="t5")
    assert caught.value.allowed.startswith("400 or more")
    assert stream(0, "denoise", 1, 0).random() != stream(0, "denoise", 1, 1).random()
    assert len(stack([], []).row_P) == 0
