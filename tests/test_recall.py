"""recall: text sampled from the base is drawn from its own chances, counted, resumed, and called what it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM

from graft.core.config.errors import UsageError
from graft.core.models.base_model import EMBEDDED, Base, BoundaryTokens
from graft.core.records.evidence import read_evidence
from graft.core.stats import random_streams as seeds
from graft.core.store.artifact import Artifact, Store
from graft.core.tokens.decoding import sound_text, text_tokens
from graft.data.curate import Curate, curate
from graft.data.tokenize import tokenize
from graft.evaluation.score_documents import Evaluate, evaluate
from graft.jobs.adapt import Adapt
from graft.models.files.load import load_model
from graft.models.generation.sampled_documents import Draws, read_drawn
from graft.models.generation.sampling import Drawing, Drawn, cache_error, can_cache, draw_documents, uniforms
from graft.models.losses.token_losses import score
from graft.packing.sampler import pack
from graft.planning.plan import forecast
from graft.planning.screen import show_forecast
from graft.report.shared.cautions import cautions
from graft.synthesis.sample_base import SAMPLED, Recall, cache_bytes, check_sampled, recall
from graft.training.settings import Train

BASE = Base.find("embedded")
SMALL = Recall(tokens=1200, limit=40, rows=8)


@pytest.fixture(scope="module")
def embedded():
    return AutoModelForCausalLM.from_pretrained(EMBEDDED["embedded"], dtype=torch.float32).eval()


def drawing(limit: int = 40, vocabulary: int = 8192, **changes) -> Drawing:
    how = Drawing(0, 0, limit, 1.0, 1.0, torch.isin(torch.arange(vocabulary), torch.tensor([1, 2])))
    return replace(how, **changes)


def numbers(count: int, limit: int = 40, seed: int = 0) -> np.ndarray:
    return np.stack([uniforms(seed, number, limit) for number in range(count)])


def table(artifact: Artifact) -> list[dict]:
    return pq.read_table(artifact / "docs.parquet").to_pylist()


def drawn_by(artifact: Artifact) -> list:
    paths = sorted(artifact.path.glob("drawn-*.npz"))
    return [one for path in paths for one in read_drawn(path)][: artifact.facts["sampled"]["documents"]]


# -- one token


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7)])
def test_tokens_come_as_often_as_their_chance_says(temperature, top_p):
    """Against chances computed by hand in double precision; the muted token and the tail never come."""
    logits_V = np.array([1.0, 0.2, 3.0, -1.0, 0.7, 2.0])
    chance_V = np.exp(logits_V / temperature)
    chance_V[4] = 0  # no text
    chance_V /= chance_V.sum()
    order = np.argsort(-chance_V)
    kept = order[: int(np.searchsorted(np.cumsum(chance_V[order]), top_p - 1e-12)) + 1]
    expected_V = np.zeros(6)
    expected_V[kept] = chance_V[kept] / chance_V[kept].sum()
    how = drawing(temperature=temperature, top_p=top_p, mute_V=torch.arange(6) == 4)
    uniform_R = torch.from_numpy(seeds.stream(3, "test").random(20_000))
    tokens_R, nats_R, muted_R = how.draw(torch.from_numpy(logits_V).float().expand(20_000, -1), uniform_R)
    counts_V = np.bincount(tokens_R.numpy(), minlength=6)
    assert not counts_V[expected_V == 0].any()
    assert chisquare(counts_V[expected_V > 0], 20_000 * expected_V[expected_V > 0]).pvalue > 1e-3
    plain_V = np.exp(logits_V) / np.exp(logits_V).sum()  # nats are the model's own, whatever was done to draw
    assert nats_R.numpy() == pytest.approx(-np.log(plain_V)[tokens_R.numpy()], abs=1e-5)
    assert muted_R.numpy() == pytest.approx(plain_V[4], abs=1e-6)


def test_the_edges_of_a_uniform_number_hit_a_token_that_has_a_chance():
    how = drawing(mute_V=torch.tensor([True, False, False, True]))
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert how.draw(torch.zeros(2, 4), ends)[0].tolist() == [1, 2]


# -- documents


def test_what_is_recorded_is_what_the_model_says(embedded):
    """Golden: nats noted token by token, through the cache, are those of one plain pass and of graft's own scoring."""
    drawn = draw_documents(embedded, drawing(100), numbers(16, 100))
    assert len(set(drawn.length_R.tolist())) > 1  # some end by themselves, so that rows were taken out
    model = load_model(EMBEDDED["embedded"], precision="fp32")
    totals = []
    for one in drawn:
        ids = torch.tensor([0, *one.tokens_T.tolist()])
        with torch.no_grad():
            log_TV = embedded(input_ids=ids[None, :-1]).logits[0].log_softmax(-1)
            batch = pack([[ids.numpy()]], [0], len(ids) - 1)
            own_T = score(model.hidden(batch), model.head, batch.targets_BT)[0].numpy()
        plain_T = -log_TV.gather(1, ids[1:, None]).squeeze(1).numpy()
        assert one.nats_T == pytest.approx(plain_T, abs=1e-4) and one.nats_T == pytest.approx(own_T, abs=1e-4)
        totals.append(own_T.sum())
    assert sum(totals) / len(drawn.tokens_N) == pytest.approx(drawn.nats_N.mean(), abs=1e-5)


def test_a_document_is_a_function_of_its_number_alone(embedded):
    """Alone, among others, and without the cache: the same tokens."""
    together = list(draw_documents(embedded, drawing(), numbers(9)))
    alone = [next(iter(draw_documents(embedded, drawing(), numbers(9)[n : n + 1]))) for n in (0, 4, 8)]
    assert [one.tokens_T.tolist() for one in alone] == [together[n].tokens_T.tolist() for n in (0, 4, 8)]
    anew = draw_documents(embedded, drawing(), numbers(9), cached=False)
    assert anew.tokens_N.tolist() == Drawn.joined(together).tokens_N.tolist()
    other = draw_documents(embedded, drawing(), numbers(9, seed=1))
    assert other.tokens_N.tolist() != anew.tokens_N.tolist()


def test_documents_end_at_the_end_mark_or_at_the_limit(embedded):
    drawn = list(draw_documents(embedded, drawing(100), numbers(16, 100)))
    for one in drawn:
        ended = one.tokens_T[-1] == 0
        assert (0 not in one.tokens_T[:-1]) and (ended or len(one.tokens_T) == 100)
        assert len(one.ids(0)) == len(one.tokens_T) - ended
    assert {one.tokens_T[-1] == 0 for one in drawn} == {True, False}
    endless = draw_documents(embedded, drawing(30, end=None), numbers(16, 30))
    assert endless.length_R.tolist() == [30] * 16


TINY = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=64),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**TINY, intermediate_size=64, max_position_embeddings=64),
    "sliding": lambda: transformers.MistralConfig(
        **TINY, intermediate_size=64, max_position_embeddings=64, num_key_value_heads=1, sliding_window=8
    ),
    "capped": lambda: transformers.Gemma2Config(
        **TINY, intermediate_size=64, max_position_embeddings=64, num_key_value_heads=1, head_dim=16, sliding_window=8
    ),
    "recurrent": lambda: transformers.MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_are_sampled_as_they_are(family):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    how = drawing(30, 320)
    drawn = draw_documents(model, how, numbers(6, 30))
    assert cache_error(model, how, drawn) < 1e-3
    assert can_cache(model) == (family != "recurrent")
    assert drawn.tokens_N.tolist() == draw_documents(model, how, numbers(6, 30), cached=False).tokens_N.tolist()
    assert drawn.nats_N.std() > 0.1


@pytest.mark.parametrize(("fault", "words"), [("cache", "its cache changes chances by"), ("none", "way of its own")])
def test_a_cache_that_cannot_be_trusted_is_not_used(embedded, tmp_path, monkeypatch, capsys, fault, words):
    from graft.models.generation import sampled_documents as draws
    from graft.models.generation import sampling

    if fault == "cache":
        kept = sampling.GrowingLayer.update

        def forgetful(self, key_states, value_states, *args, **kwargs):
            return kept(self, key_states, value_states * (1.0 if self.length else 3.0), *args, **kwargs)

        monkeypatch.setattr(sampling.GrowingLayer, "update", forgetful)
    else:
        monkeypatch.setattr(draws, "can_cache", lambda model: False)
    made = Draws(tmp_path, embedded, drawing(20), seed=0, tokens=100, rows=8, trusted=1e-2)
    [group] = list(made.groups("sampling"))
    monkeypatch.undo()
    assert len(made.notes) == 1 and words in made.notes[0] and words in capsys.readouterr().err
    right = list(draw_documents(embedded, drawing(20), numbers(8, 20)))
    assert [one.tokens_T.tolist() for one in group] == [one.tokens_T.tolist() for one in right[: len(group)]]


# -- text


def test_text_stops_before_bytes_that_are_none():
    """Hand-made: the byte-level alphabet of the embedded tokenizer has one id for every byte."""
    words = BASE.tokenizer
    first, second = (words.token_to_id(one) for one in ("Ã", "©"))  # the bytes c3 a9 of an e with an acute accent
    plain = words.encode("a list", add_special_tokens=False).ids
    assert sound_text([*plain, first, second], words) == ("a list\u00e9", len(plain) + 2)
    assert sound_text([*plain, first], words) == ("a list", len(plain))  # cut inside of a character
    assert sound_text([*plain, first, *plain], words) == ("a list", len(plain))  # broken off by other text
    assert sound_text([first, *plain], words) == ("", 0) and sound_text([], words) == ("", 0)


def test_marks_are_no_text():
    assert not {0, 1, 2} & set(text_tokens(BASE.tokenizer)) and len(text_tokens(BASE.tokenizer)) == 8192 - 3


# -- the stage


@pytest.fixture(scope="module")
def sampled(tmp_path_factory) -> Artifact:
    return recall(BASE, SMALL, store=Store(tmp_path_factory.mktemp("sampled")))


def test_sampled_documents_are_documents(sampled):
    rows, facts = table(sampled), sampled.facts["sampled"]
    assert [row["position"] for row in rows] == list(range(len(rows))) and {row["source"] for row in rows} == {
        "general"
    }
    assert [row["parents"] for row in rows[:2]] == [["sampled from embedded#0"], ["sampled from embedded#1"]]
    read = sampled.ledger.read["general"]
    assert (read.documents, read.bytes) == (len(rows), sum(row["num_bytes"] for row in rows)) and facts["documents"] > 8
    documents = drawn_by(sampled)
    assert facts["tokens"] == sum(len(one.tokens_T) for one in documents)
    assert 0 <= facts["tokens"] - SMALL.tokens < SMALL.limit  # no more documents than are needed
    assert facts["nats"] == pytest.approx(sum(float(one.nats_T.sum()) for one in documents), rel=1e-5)
    assert facts["at_limit"] == sum(int(one.tokens_T[-1] != 0) for one in documents) > 0
    for row, one in zip(rows, documents, strict=True):
        ids = one.ids(0)
        assert row["text"] == BASE.tokenizer.decode(ids) or row["text"] == sound_text(ids, BASE.tokenizer)[0]
    again = [BASE.tokenizer.encode(row["text"], add_special_tokens=False).ids for row in rows]
    spelled = sum(a != one.ids(0)[: len(a)] for a, one in zip(again, documents, strict=True))
    assert facts["respelled"] == spelled > 0
    first, second = sampled.facts["notes"][:2]
    assert "temperature 1, seed 0" in first and "its own entropy" in first and f"{facts['tokens']:,} tokens" in first
    assert f"{facts['at_limit']} were cut at the limit" in second and f"{spelled} are read back" in second


def test_the_loss_of_the_base_on_its_text_is_what_it_was_drawn_with(sampled, tmp_path):
    """Through curation, tokenisation and evaluation: of every text that is read as the tokens that were drawn."""
    store = Store(tmp_path)
    corpus = curate({"general": sampled}, Curate(steps=()), store=store)
    tokens = tokenize(corpus, BASE, store=store)
    seen = read_evidence(evaluate(BASE, tokens, Evaluate(split="train", max_tokens=0), store=store))["general"]
    documents = drawn_by(sampled)
    compared = [0.0, 0.0, 0]
    for place, position in enumerate(seen.position_D.tolist()):
        targets, nats = seen.document(place)
        drawn = documents[position]
        if targets[: len(drawn.tokens_T)].tolist() == drawn.tokens_T.tolist():
            own = nats[: len(drawn.tokens_T)]  # behind the limit stands an end mark that was not drawn
            assert own == pytest.approx(drawn.nats_T, abs=1e-4)
            compared = [compared[0] + own.sum(), compared[1] + drawn.nats_T.sum(), compared[2] + 1]
    assert compared[2] >= 5 and compared[0] == pytest.approx(compared[1], rel=1e-5)


@pytest.mark.parametrize(
    "change", [{"tokens": 800}, {"limit": 30}, {"temperature": 0.5}, {"top_p": 0.5}, {"seed": 1}, {"precision": "bf16"}]
)
def test_every_setting_has_an_effect(sampled, tmp_path, change):
    other = recall(BASE, replace(SMALL, **change), store=Store(tmp_path))
    texts, others = ([row["text"] for row in table(one)] for one in (sampled, other))
    assert texts != others
    mean, changed = (one.facts["sampled"]["nats"] / one.facts["sampled"]["tokens"] for one in (sampled, other))
    if "tokens" in change:
        assert others == texts[: len(others)]
    if "limit" in change:
        assert max(len(one.tokens_T) for one in drawn_by(other)) == 30
    if "temperature" in change or "top_p" in change:
        assert changed < 0.8 * mean
        assert "neither the base's entropy" in other.facts["notes"][0]


def test_rows_at_once_change_what_is_held_and_not_what_is_said(sampled, tmp_path):
    other = recall(BASE, replace(SMALL, rows=5), store=Store(tmp_path))
    assert len(list(other.path.glob("drawn-*"))) > len(list(sampled.path.glob("drawn-*")))
    assert [row["text"] for row in table(other)] == [row["text"] for row in table(sampled)]


def test_a_kill_costs_one_group(sampled, tmp_path, monkeypatch):
    """Stopped in the third group, gone on with, and at the end what an unbroken run gives."""
    from graft.models.generation import sampled_documents as draws

    store, calls, real = Store(tmp_path), [], draws.draw_documents

    def stopped(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(draws, "draw_documents", stopped)
    with pytest.raises(KeyboardInterrupt):
        recall(BASE, SMALL, store=store)
    [draft] = store.drafts()
    assert len(list(draft.path.glob("drawn-*.npz"))) == 2
    again = recall(BASE, SMALL, store=store)
    groups = len(list(sampled.path.glob("drawn-*.npz")))
    assert len(calls) == 3 + groups - 2 and table(again) == table(sampled)
    assert again.facts == sampled.facts and again.name == sampled.name


def test_an_untrained_base_writes_broken_text_and_all_of_it_is_counted(world, tmp_path):
    """Chances are near to even, so bytes that are no UTF-8 come early and often."""
    made = recall(world.base, Recall(tokens=600, limit=20, rows=32, seed=2), store=Store(tmp_path))
    facts, rows = made.facts["sampled"], table(made)
    assert facts["broken"] > 0 and facts["tokens_lost"] > 0
    kept = sum(sound_text(one.ids(0), world.base.tokenizer)[1] for one in drawn_by(made))
    ended = sum(int(one.tokens_T[-1] == 0) for one in drawn_by(made))
    whole = sum(
        int(one.tokens_T[-1] == 0 and sound_text(one.ids(0), world.base.tokenizer)[1] == len(one.ids(0)))
        for one in drawn_by(made)
    )
    assert facts["tokens"] == kept + whole + facts["tokens_lost"] and whole <= ended
    empty = [row for row in rows if row["dropped"] == "dropped: empty"]
    assert empty and made.ledger.fates["general"]["dropped: empty"].documents == len(empty)
    assert made.facts["first_lost"]["dropped: empty"] == empty[0]["parents"][0]
    assert facts["muted"] / facts["tokens"] == pytest.approx(2 / 320, rel=0.2)  # <|pad|> and <|mask|> of 320
    assert any("no UTF-8" in note for note in made.facts["notes"])


def test_chances_on_what_is_no_text_are_said(world, tmp_path):
    folder = shutil.copytree(world.base.folder, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(640, mean_resizing=False)  # rows that the tokenizer knows nothing of
    model.save_pretrained(folder)
    made = recall(Base("wide", folder), Recall(tokens=100, limit=20), store=Store(tmp_path / "store"))
    assert any("tokens that are no text" in note for note in made.facts["notes"])
    assert made.facts["sampled"]["muted"] / made.facts["sampled"]["tokens"] == pytest.approx(0.5, abs=0.1)
    assert all(one.tokens_T.max() < 320 for one in drawn_by(made))


# -- what is asked for


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tokens": 0}, "tokens is 0"), ({"limit": 0}, "limit is 0"), ({"rows": 0}, "rows is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"), ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(values, words):
    with pytest.raises(UsageError, match=words):
        Recall(**values)


def test_a_base_has_to_write_from_a_mark_within_its_window(tmp_path):
    with pytest.raises(UsageError, match="limit is 513, and the model reads at most 512"):
        recall(BASE, Recall(limit=513), store=Store(tmp_path))
    masked = Base("masked", BASE.folder)
    masked.__dict__["config"] = {"architectures": ["BertForMaskedLM"]}
    with pytest.raises(UsageError, match=r"no text can be sampled from masked, which fills in hidden words"):
        recall(masked, store=Store(tmp_path))
    unmarked = Base("unmarked", BASE.folder)
    unmarked.__dict__["marks"] = BoundaryTokens(None, None)
    with pytest.raises(UsageError, match=r"neither a start nor an end token[\s\S]*general text of your own"):
        recall(unmarked, store=Store(tmp_path))


def test_sizes_follow_from_the_base():
    assert Recall().limit_for(BASE) == 511 and Recall(limit=9).limit_for(BASE) == 9
    assert cache_bytes(BASE) == 4 * 2 * 192 * 4  # layers, keys and values, width, float32
    assert Recall().rows_for(BASE) == 64 and Recall(rows=3).rows_for(BASE) == 3
    large = Base("large", BASE.folder)
    large.__dict__["config"] = {
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
        "max_position_embeddings": 8192,
    }  # fmt: skip
    assert cache_bytes(large) == 32 * 2 * 8 * 128 * 4 and Recall().rows_for(large) == (1 << 30) // (2047 * (1 << 18))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"domain": (SAMPLED,)}, "domain is sampled:base: text of the base teaches it nothing"),
        ({"general": ("law", SAMPLED)}, "general is law, sampled:base: sampled text beside other text"),
        ({"general": ("sampled:bse",)}, r'no sampled text "sampled:bse"[\s\S]*did you mean "sampled:base"'),
    ],
)
def test_sampled_text_stands_alone_and_is_general(values, words):
    with pytest.raises(UsageError, match=words):
        Adapt(**values)
    check_sampled("general", ("law", "hf://owner/name"))


# -- the job


def test_an_adaptation_without_any_general_text_says_what_it_measured(world, tmp_path, capsys):
    job = Adapt(
        domain=(str(world.domain),),
        general=(SAMPLED,),
        replay=0.3,
        out=str(tmp_path / "out"),
        recall=replace(SMALL, tokens=4000),
        train=Train(tokens=4096, sequence_length=64, batch_size=8),
    )
    store = Store(tmp_path / "store")
    planned = forecast(job, store)
    assert planned.sources["general"].sampled and planned.sources["general"].tokens == 4000
    assert sum(planned.sources["general"].splits.values()) == pytest.approx(4000)
    longer = forecast(replace(job, recall=replace(job.recall, tokens=400_000)), store)
    assert longer.seconds["docs"] > 20 * planned.seconds["docs"]
    show_forecast(planned)
    assert "to sample" in capsys.readouterr().out
    outcome = job(store)
    summary = outcome.summary
    made = next(one for one in outcome.artifacts if "sampled" in one.facts)
    assert summary["general_text"].startswith("sampled from the base: 4,0") and "seed 0" in summary["general_text"]
    assert made.facts["notes"][0] in summary["notes"] and "its own entropy" in made.facts["notes"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert summary["general_text"] in page and summary["tokens"]["general"] > 0
    known = forecast(job, store)
    assert known.complete and known.sources["general"].exact and not known.sources["general"].sampled


def test_general_text_is_named_whatever_it_is(world, tmp_path):
    from graft.report.adaptation.facts import Materials
    from graft.report.adaptation.provenance import provenance

    def said(*paths: str) -> str:
        one = world.tokens
        return provenance("general", Materials(one, one, one, one, one, one, "tiny", {"general": [*paths]}, [], []))

    assert said("law", "notes.txt") == "given files: law, notes.txt"
    assert said("hf://owner/name") == "data set of the hub: hf://owner/name"
    assert said("embedded:prose") == "embedded text of installed Python packages: embedded:prose"
    assert said("law", "hf://owner/name") == "given files: law; data set of the hub: hf://owner/name"


def test_sampled_text_is_not_called_foreign(sampled):
    changes = {"general": {"documents": 99, "change": -0.3}}
    assert cautions(changes, {}) and not cautions(changes, {"general": sampled})


def test_planning_leaves_torch_unloaded(tmp_path):
    recipe = Path(__file__).parents[1] / "recipes" / "recall.yaml"
    code = (
        "import sys, pathlib; from graft.core.store.artifact import Store; from graft.planning import forecast; "
        "from graft.core.config.recipe import read_recipe; "
        f"one = forecast(read_recipe({str(recipe)!r}), Store(pathlib.Path({str(tmp_path)!r}))); "
        "print(one.sources['general'].tokens); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    asked = subprocess.run([sys.executable, "-c", code], timeout=500, check=False, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) > 0
