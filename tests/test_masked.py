"""Masked words: what is hidden, what is read in its place, encoders whole, and decoders by their left side."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from conftest import World
from graft.core.config.errors import UsageError
from graft.core.models.architectures import kind_of
from graft.core.models.base_model import Base
from graft.core.records.evidence import read_evidence
from graft.core.store.artifact import Store
from graft.core.tokens.pmi import largest_pmi
from graft.core.tokens.special_tokens import mask_id, special_ids
from graft.data.curate import curate
from graft.data.ingest import Ingest, ingest
from graft.data.tokenize import sources, tokenize
from graft.evaluation.score_documents import Evaluate
from graft.jobs.adapt import Adapt
from graft.models.checks.verify import verify
from graft.models.files.weights import open_model
from graft.models.forward import encoder as encoders
from graft.models.forward.encoder import TURNS, Encoder
from graft.models.forward.model import Model
from graft.models.losses.token_losses import score, weighted_sums
from graft.models.scoring.scoring import choose_documents, gather, mean_nats, score_documents
from graft.packing.batch import Batch
from graft.packing.mask_tokens import Words
from graft.packing.sampler import Sampler
from graft.surgery.initialize import Initialize, initialize
from graft.training.loop import Pace, run
from graft.training.objectives.causal import Causal
from graft.training.objectives.masked import Masked
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.train import train

MIXTURE = {"domain": 0.75, "general": 0.25}
SHORT = Train(
    objective=Masked(),
    tokens=64 * 4 * 12,
    sequence_length=64,
    batch_size=4,
    micro_batch_size=4,
    learning_rate=3e-3,
    precision="fp32",
    evaluations=3,
)
V, T = 97, 48
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "vocab_size": V}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SMALL, max_position_embeddings=T + 1),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, **SPECIAL, max_position_embeddings=T + 1, type_vocab_size=1),
    "modernbert": lambda: transformers.ModernBertConfig(**SMALL, **SPECIAL, local_attention=8),
    "distilbert": lambda: transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=40, vocab_size=V),
    "electra": lambda: transformers.ElectraConfig(**SMALL, embedding_size=16),
}
LENGTHS = ((7, 1, 22, 18), (48,), (3, 9, 2, 34), (24, 24))


@pytest.fixture(scope="module")
def filled(world) -> World:
    """The same text and a tiny untrained encoder that can read it."""
    return encoder_world(world)


def encoder_world(world: World, **changes) -> World:
    tiny = Initialize(vocabulary=320, width=32, layers=2, heads=2, feed_forward=64, window=64, architecture="bert")
    begun = initialize(world.corpus, replace(tiny, **changes), store=world.store)
    base = Base("filled", begun / "model")
    return replace(world, base=base, tokens=tokenize(world.corpus, base, store=world.store))


def build(name: str) -> Model:
    torch.manual_seed(0)
    hf = transformers.AutoModelForMaskedLM.from_config(CONFIGS[name]())
    for parameter in hf.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    hf.eval()
    return Model(hf, precision="fp32", reading=Encoder(Base("none", "nowhere")))  # type: ignore[arg-type]


def packed() -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens_BT = torch.randint(3, V, (len(LENGTHS), T), generator=generator)
    position_BT = torch.stack([torch.cat([torch.arange(length) for length in lengths]) for lengths in LENGTHS])
    weights_BT = torch.rand(tokens_BT.shape, generator=generator).round(decimals=1)
    return Batch(tokens_BT, tokens_BT.roll(5, 1), weights_BT, position_BT, torch.zeros(len(LENGTHS), dtype=torch.long))


def alone(model: Model, batch: Batch, lengths_of=LENGTHS) -> torch.Tensor:
    """Weighted nats of every row by the plainest means: one forward of the whole model per piece."""
    totals = []
    for row, lengths in enumerate(lengths_of):
        total, start = torch.zeros(()), 0
        for length in lengths:
            piece = slice(start, start + length)
            logits_TV = model.hf(input_ids=batch.tokens_BT[row : row + 1, piece]).logits[0]
            nats_T = torch.nn.functional.cross_entropy(logits_TV, batch.targets_BT[row, piece], reduction="none")
            total = total + (nats_T * batch.weights_BT[row, piece]).sum()
            start += length
        totals.append(total)
    return torch.stack(totals)


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_equals_alone(name):
    model, batch = build(name), packed()
    ours = weighted_sums(model.hidden(batch), model.head, batch.targets_BT, batch.weights_BT).total_B
    theirs = alone(model, batch)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)  # sums of some 20 tokens
    weights = [weight for weight in model.hf.parameters() if weight.requires_grad]
    gradients = (torch.autograd.grad(total.sum(), weights, allow_unused=True) for total in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    verify(model, batch)
    assert not model.notes


def test_a_border_that_leaks_is_found(monkeypatch):
    """Fillers that are seen move the losses of shorter pieces: the comparison says so, and no row is filled up."""
    model, batch = build("bert"), packed()
    plain = encoders.before_head

    def leaking(hf, **inputs):
        return plain(hf, **inputs | {"attention_mask": torch.ones_like(inputs["input_ids"])})

    monkeypatch.setattr(encoders, "before_head", leaking)
    verify(model, batch)
    assert not model.fills and ["filled up behind a mask" in note for note in model.notes] == [True]
    ours = weighted_sums(model.hidden(batch), model.head, batch.targets_BT, batch.weights_BT).total_B
    torch.testing.assert_close(ours, alone(model, batch), atol=1e-4, rtol=1e-5)


def test_a_row_longer_than_the_model_reads_is_refused():
    model, batch = build("roberta"), packed()
    model.hidden(batch)  # 48 of its 49 positions are for tokens
    wide = Batch(*(torch.cat([each, each[:, :1]], 1) for each in (batch.tokens_BT,) * 4), batch.source_B)
    wide.position_BT.copy_(torch.arange(T + 1))
    with pytest.raises(UsageError, match="49 tokens in a row, and roberta reads 48"):
        model.hidden(wide)


WORDS = Words(rate=0.2, keep=0.1, swap=0.1, seed=0, mask=2, special=(0, 1, 2), vocabulary=200)


def many_rows(rows=400, width=50) -> Batch:
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(3, 200, (rows, width), generator=generator)
    tokens_BT[:, 0] = tokens_BT[::2, 20] = 0
    position_BT = torch.arange(width).expand(rows, -1).clone()
    position_BT[::2, 20:] -= 20
    weights_BT = torch.ones(rows, width)
    weights_BT[5] = 0
    weights_BT[6, 30:] = 0
    return Batch(tokens_BT, tokens_BT.roll(-1, 1), weights_BT, position_BT, torch.zeros(rows, dtype=torch.long))


def test_how_many_are_hidden_and_which():
    batch = many_rows()
    read = WORDS.hide(batch)
    assert torch.equal(read.targets_BT, batch.tokens_BT)
    hidden_B = read.weights_BT.sum(1)
    assert set(read.weights_BT.unique().tolist()) == {0.0, 1.0}
    assert hidden_B[7] == round(0.2 * 49) and hidden_B[8] == round(0.2 * 48)  # one and two marks
    assert hidden_B[5] == 0  # nothing counts there
    assert hidden_B[6] == round(0.2 * (31 - 2)) and read.weights_BT[6, 31:].sum() == 0  # up to what token 29 predicts
    assert read.weights_BT[:, 0].sum() == 0 and read.weights_BT[::2, 20].sum() == 0
    unhidden = read.weights_BT == 0
    assert torch.equal(read.tokens_BT[unhidden], batch.tokens_BT[unhidden])


def test_what_is_read_in_their_place():
    """80 : 10 : 10, other words evenly and never special ones, places evenly; bounds of 4 standard deviations."""
    batch = many_rows(rows=4000)
    read = WORDS.hide(batch)
    hidden = read.weights_BT == 1
    seen, stood, number = read.tokens_BT[hidden], batch.tokens_BT[hidden], int(hidden.sum())
    masked, kept = int((seen == 2).sum()), int((seen == stood).sum())
    swapped = seen[(seen != 2) & (seen != stood)]

    def near(count, share, of=number) -> bool:
        return abs(count - share * of) < 4 * math.sqrt(of * share * (1 - share))

    assert near(masked, 0.8) and near(kept, 0.1 + 0.1 / 197) and swapped.min() == 3 and swapped.max() == 199
    share = torch.bincount(swapped, minlength=200)[3:] / len(swapped)
    assert float((share - 1 / 197).abs().max()) < 5 * math.sqrt(1 / 197 / len(swapped))
    by_place = hidden[1::2, 1:].sum(0)
    assert all(near(int(count), 10 / 49, of=2000) for count in by_place)


def test_a_row_is_drawn_by_its_number_alone():
    batch = many_rows(rows=12)
    whole = WORDS.hide(batch)
    cut = [WORDS.hide(part) for part in batch.split(5)]
    assert torch.equal(whole.tokens_BT, torch.cat([part.tokens_BT for part in cut]))
    moved = WORDS.hide(replace(batch, row_B=batch.row_B + 100))
    assert not torch.equal(whole.weights_BT, moved.weights_BT)


def test_one_word_is_hidden_where_there_is_one():
    batch = many_rows(rows=8).rows(1, 2)
    short = Batch(*(each[:, :2] for each in (batch.tokens_BT, batch.targets_BT, batch.weights_BT, batch.position_BT)),
                  batch.source_B)  # fmt: skip
    assert WORDS.hide(short).weights_BT.tolist() == [[0.0, 1.0]]


def batch_of(world, k=3) -> Batch:
    return Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0).batch(k)


@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_the_loss_is_that_of_the_model_alone(world, filled, which):
    """Golden: transformers' own forward, piece by piece, and torch's cross-entropy at what was hidden."""
    here = filled if which == "encoder" else world
    model, batch = open_model(here.base.folder, "fp32"), batch_of(here)
    with torch.no_grad():
        for weight in model.hf.parameters():
            weight.mul_(4)  # or every loss would be log V
    tally = here.bind(Masked(rate=0.3))(model, batch)
    vocabulary = here.base.tokenizer.get_vocab_size(with_added_tokens=True)
    words = Words(0.3, 0.1, 0.1, 0, mask_id(here.base), special_ids(here.base), vocabulary)
    read = words.hide(batch)
    starts = [[*row.nonzero().flatten().tolist(), 64] for row in batch.starts_BT]
    theirs = alone(model, read, [[b - a for a, b in pairwise(row)] for row in starts])
    torch.testing.assert_close(tally.total, theirs, atol=1e-4, rtol=1e-5)
    assert torch.equal(tally.count, read.weights_BT.sum(1)) and (tally.count > 10).all()
    ours, theirs = (torch.autograd.grad(total.sum(), list(model.parameters())) for total in (tally.total, theirs))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("which", "moves"), [("encoder", True), ("decoder", False)])
def test_who_sees_the_right_side(world, filled, which, moves):
    here = filled if which == "encoder" else world
    model, batch = open_model(here.base.folder, "fp32", frozen=True), batch_of(here)
    batch = batch.rows(0, 1)
    last = int(batch.starts_BT[0].nonzero().max())
    changed = replace(batch, tokens_BT=batch.tokens_BT.clone())
    changed.tokens_BT[0, 63] = 5 if batch.tokens_BT[0, 63] != 5 else 6
    a, b = (model.hidden(one)[0] for one in (batch, changed))
    assert torch.equal(a[last:63], b[last:63]) != moves
    assert torch.equal(a[:last], b[:last])  # another piece, either way


def loop(world, objective, *, micro_rows=4, steps=3):
    model = open_model(world.base.folder, "fp32")
    sampler = Sampler(sources(world.tokens), MIXTURE, window=64, rows=4, seed=0)
    optimizer = adamw(model, rate=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    pace = Pace(rate=lambda step: 1e-3, micro_rows=micro_rows, clip=1.0, seed=0)
    return model, list(run(model, world.bind(objective), sampler, optimizer, pace, 0, steps))


def test_how_a_batch_is_cut_does_not_matter(filled):
    whole, whole_steps = loop(filled, Masked(), micro_rows=4)
    cut, cut_steps = loop(filled, Masked(), micro_rows=1)
    for a, b in zip(whole.hf.parameters(), cut.hf.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-3)
    assert [s.loss for s in whole_steps] == pytest.approx([s.loss for s in cut_steps], rel=1e-5)


@pytest.mark.parametrize("change", [{"rate": 0.3}, {"keep": 0.9}, {"swap": 0.9}, {"seed": 1}], ids=str)
def test_every_setting_has_an_effect(filled, change):
    model, batch = open_model(filled.base.folder, "fp32", frozen=True), batch_of(filled)
    plain, other = (filled.bind(one)(model, batch).total for one in (Masked(), Masked(**change)))
    assert not torch.allclose(plain, other, rtol=1e-5, atol=0)


def test_an_encoder_learns_resumes_and_is_read_by_transformers(filled, tmp_path, monkeypatch):
    settings = replace(SHORT, checkpoint_minutes=0.0)
    plain = train(filled.base, filled.tokens, MIXTURE, settings, store=Store(tmp_path / "plain"))
    seen = [entry["validation"] for entry in json.loads((plain / "curve.json").read_text()) if "validation" in entry]
    for name in MIXTURE:
        first, last = (total / count for total, count in (seen[0][name], seen[-1][name]))
        assert last < first - 0.5
    again = transformers.AutoModelForMaskedLM.from_pretrained(plain / "model")
    assert torch.equal(again.get_output_embeddings().weight, again.get_input_embeddings().weight)
    steps, original = itertools.count(1), torch.optim.AdamW.step
    with monkeypatch.context() as patch:

        def stopping(*args, **kwargs):
            if next(steps) == 7:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        patch.setattr(torch.optim.AdamW, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(filled.base, filled.tokens, MIXTURE, settings, store=Store(tmp_path / "stopped"))
    resumed = train(filled.base, filled.tokens, MIXTURE, settings, store=Store(tmp_path / "stopped"))
    a, b = (load_file(one / "model" / "model.safetensors") for one in (plain, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_every_word_is_scored_once_hidden_among_the_others(filled):
    """Golden: a forward of transformers per pass over the document alone; and all marks, no more, are left out."""
    model = open_model(filled.base.folder, "fp32", frozen=True)
    for weight in model.hf.parameters():
        weight.mul_(4)
    source, mask = sources(filled.tokens)["domain"], mask_id(filled.base)
    choice = choose_documents(source, "test", 0)
    document = int(choice.documents_D[0])
    tokens = source.tokens(document).astype(np.int64)
    window = tokens[:64]  # 63 pairs: the longest piece of a window of 64
    order = encoders._turns_of(64)
    wanted = np.full(63, np.nan)
    for turn in range(TURNS):
        hide = (order == turn) & (np.arange(64) > 0)
        logits = model.hf(input_ids=torch.from_numpy(np.where(hide, mask, window))[None]).logits[0]
        nats = torch.nn.functional.cross_entropy(logits, torch.from_numpy(window), reduction="none").numpy()
        wanted[(hide.nonzero()[0]) - 1] = nats[hide]
    scored = {
        (piece.document, piece.first): nats
        for piece, nats, _ in score_documents(model, source, choice, window=64, rows=4)
    }
    np.testing.assert_allclose(scored[document, 0], wanted, atol=1e-4)
    assert Counter(np.isnan(nats).sum() for nats in scored.values()).keys() <= {0, 1}
    missing = sum(int(np.isnan(nats).sum()) for nats in scored.values())
    assert missing == len(choice)  # the end mark of every document
    alone = {
        (piece.document, piece.first): nats
        for piece, nats, _ in score_documents(model, source, choice, window=64, rows=1)
    }
    for place, nats in scored.items():
        np.testing.assert_allclose(nats, alone[place], atol=1e-4)
    evidence = gather(source, choice, np.ones(len(choice)), score_documents(model, source, choice, window=64, rows=4))
    assert len(evidence.nats_N) == choice.num_pairs - len(choice) == evidence.bounds_E[-1]
    targets, nats = evidence.document(0)
    assert np.array_equal(targets, tokens[1:-1]) and np.isfinite(nats).all()
    some = mean_nats(model, source, choice, window=64, rows=4)
    assert 0.05 < some.count / choice.num_pairs < 0.25
    assert some.mean == pytest.approx(float(evidence.nats_N.mean()), rel=0.1)


def test_an_encoder_goes_the_whole_way(world, filled, tmp_path):
    """A job from base to report, with numbers named for what they are."""
    settings = Adapt(
        base=str(filled.base.folder),
        domain=(str(world.domain),),
        general=(str(world.general),),
        replay=0.25,
        out=str(tmp_path / "out"),
        train=SHORT,
        evaluate=Evaluate(max_tokens=2000),
    )
    done = settings(Store(tmp_path / "store"))
    assert done.summary["outcome"] == "improved"
    assert any("words hidden in turn" in note for note in done.summary["notes"])
    assert "words hidden in turn" in (tmp_path / "out" / "report.html").read_text()
    before, after = (one for one in done.artifacts if one.kind == "evidence")
    assert "hidden" in before.facts["measure"]
    ends = {number for name in MIXTURE for number in read_evidence(after)[name].targets_N[-1:]}
    assert filled.base.marks.end not in ends


def test_objectives_that_predict_the_next_word_refuse_an_encoder(filled, tmp_path):
    with pytest.raises(UsageError, match="objective causal cannot train filled, which fills in hidden words") as caught:
        train(filled.base, filled.tokens, MIXTURE, replace(SHORT, objective=Causal()), store=Store(tmp_path))
    assert caught.value.do == "train it with objective masked"


def test_kinds_are_read_off_the_config():
    assert kind_of({"architectures": ["BertForMaskedLM"]}) == "encoder"
    assert kind_of({"architectures": ["BertForPreTraining"]}) == "encoder"
    assert kind_of({"architectures": ["BertForMaskedLM"], "is_decoder": True}) == "decoder"
    assert kind_of({"architectures": ["BertLMHeadModel"]}) == kind_of({}) == "decoder"
    assert kind_of({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}) == "encoder-decoder"


def test_a_tokenizer_without_a_mask_is_refused(world, tmp_path):
    shutil.copytree(world.base.folder, tmp_path / "base")
    path = tmp_path / "base" / "tokenizer_config.json"
    said = json.loads(path.read_text())
    del said["mask_token"]
    path.write_text(json.dumps(said))
    with pytest.raises(UsageError, match="has no mask token") as caught:
        replace(world, base=Base("unmasked", tmp_path / "base")).bind(Masked())
    assert "objective causal" in caught.value.do


def test_bad_settings_are_named():
    for settings, words in (
        ({"rate": 0.0}, "rate is 0.0"),
        ({"keep": 0.6, "swap": 0.6}, "keep is 0.6 and swap 0.6"),
        ({"prior": 0.0}, "prior is 0.0"),
    ):
        with pytest.raises(UsageError, match=words):
            Masked(**settings)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> World:
    """Documents of two labels, told apart by one word; a second source with labels of its own."""
    root = tmp_path_factory.mktemp("labelled")
    store, draw = Store(root / "store"), np.random.default_rng(0)
    docs = {}
    for name, words in (("domain", ("good", "bad")), ("general", ("north", "south"))):
        rows = []
        for i in range(80):
            filler = draw.choice(["table", "window", "garden", "paper", "river", "stone"], 40)
            said = [words[i % 2] if j % 8 == 3 else word for j, word in enumerate(filler)]
            rows.append(json.dumps({"text": f"{i} " + " ".join(said), "class": words[i % 2]}))
        (root / f"{name}.jsonl").write_text("\n".join(rows))
        docs[name] = ingest([str(root / f"{name}.jsonl")], name, Ingest(label_field="class"), store=store)
    corpus = curate(docs, store=store)
    tiny = Initialize(vocabulary=420, width=32, layers=1, heads=2, feed_forward=64, window=64, architecture="bert")
    base = Base("labelled", initialize(corpus, tiny, store=store) / "model")
    return World(store, root, root, base, corpus, tokenize(corpus, base, store=store))


def hidden_words(world: World, **settings) -> Counter:
    """Which words are hidden of the domain's rows: those that count in what the model is given to read."""
    reads: list[Batch] = []
    hide = Words.hide
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Words, "hide", lambda self, batch: reads.append(hide(self, batch)) or reads[-1])
        batch = Sampler(sources(world.tokens), {"domain": 1.0}, window=64, rows=8, seed=0).batch(0)
        world.bind(Masked(rate=0.1, **settings))(open_model(world.base.folder, "fp32", frozen=True), batch)
    tokens = reads[0].targets_BT[reads[0].weights_BT == 1].tolist()
    return Counter(world.base.tokenizer.decode([token]).strip() for token in tokens)


def test_words_are_chosen_by_what_they_say_of_labels(labelled):
    informative, uninformative, random = (
        hidden_words(labelled, words=words, labels_of="domain") for words in ("informative", "uninformative", "random")
    )
    assert informative.total() == uninformative.total() == random.total()  # equal counts
    telling = {"good", "bad"}
    assert sum(informative[word] for word in telling) > 0.9 * informative.total()
    assert sum(uninformative[word] for word in telling) == 0
    assert 0 < sum(random[word] for word in telling) < 0.5 * random.total()


def test_labels_of_another_source_can_stay_sealed(labelled):
    """Only the named source's labels are looked at; those of the other do not change one number."""
    told = [
        largest_pmi([one for name, one in sources(labelled.tokens).items() if name in names], 420, 1.0)
        for names in (("domain",), ("domain", "general"))
    ]
    good = labelled.base.tokenizer.encode(" good").ids[-1]
    north = labelled.base.tokenizer.encode(" north").ids[-1]
    assert told[0][good] > 0.5 and told[0][north] == 0 and told[1][north] > 0.5
    with pytest.raises(UsageError, match=r"2 sources have labels[\s\S]*domain, general[\s\S]*name the labelled source"):
        labelled.bind(Masked(words="informative"))
    with pytest.raises(UsageError, match='labels_of names a source "target"'):
        labelled.bind(Masked(words="informative", labels_of="target"))


class Hand:
    """A labelled source of three documents, by hand."""

    labels = ("a", "b")
    label_D = np.array([0, 0, 1, -1])
    held = ([1, 2], [1, 3, 3], [1, 2, 4], [5])

    def documents(self, split):
        return np.arange(4)

    def tokens(self, document):
        return np.array(self.held[document])


def test_information_by_hand():
    """p(a) = 2/3, p(b) = 1/3; token 2 is in one document of each: p(a | 2) = (1 + 2/3) / 3, p(b | 2) = 4/9."""
    found = largest_pmi([Hand()], 7, prior=1.0)  # type: ignore[list-item]
    everywhere = max((2 + 2 / 3) / 4 / (2 / 3), (1 + 1 / 3) / 4 / (1 / 3))
    once_each = max((1 + 2 / 3) / 3 / (2 / 3), (1 + 1 / 3) / 3 / (1 / 3))
    only_a, only_b = (1 + 2 / 3) / 2 / (2 / 3), (1 + 1 / 3) / 2 / (1 / 3)
    assert np.exp(found) == pytest.approx([1, everywhere, once_each, only_a, only_b, 1, 1])
    assert largest_pmi([Hand()], 7, prior=9.0)[4] < found[4]  # type: ignore[list-item]


def test_text_without_labels_is_refused(filled):
    with pytest.raises(UsageError, match="no labels to tell words apart by") as caught:
        filled.bind(Masked(words="informative"))
    assert "ingest.label_field" in caught.value.do


@pytest.mark.parametrize("architecture", ["llama", "bert", "t5"])
def test_a_new_base_says_how_large_it_is(world, architecture):
    tiny = Initialize(
        vocabulary=420, width=32, layers=3, heads=4, feed_forward=48, window=80, architecture=architecture
    )
    begun = initialize(world.corpus, tiny, store=world.store)
    base = Base("new", begun / "model").checked()
    assert begun.facts["num_parameters"] == tiny.num_parameters
    assert base.window == 80 and mask_id(base) == 2
    model = open_model(base.folder, "fp32")
    assert torch.equal(model.hf.get_output_embeddings().weight, model.hf.get_input_embeddings().weight)
    other = initialize(world.corpus, replace(tiny, spread=0.2), store=world.store)
    a, b = (open_model(one / "model", "fp32").hf.get_input_embeddings().weight for one in (begun, other))
    assert float(b.detach().std()) == pytest.approx(10 * float(a.detach().std()), rel=0.05)
    hidden = score(torch.zeros(1, 1, 32), model.head, torch.zeros(1, 1, dtype=torch.long))
    assert hidden.shape == (1, 1)
