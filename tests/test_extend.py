"""extend: merges chosen by what they save, a tokenizer that reads old text as before, rows, and their training."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from command import call
from conftest import WORDS, World, write_texts
from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.core.tokens.bpe_merges import LearnedMerges, count_words, learn
from graft.core.tokens.bpe_spelling import Spelling, with_merges
from graft.data.curate import Curate
from graft.data.ingest import Ingest
from graft.data.tokenize import Tokenize, tokenize
from graft.evaluation.compare.compare_extension import CompareExtension
from graft.evaluation.score_documents import Evaluate
from graft.jobs.adapt import Adapt
from graft.jobs.extend import Extend
from graft.models.edit.embedding_rows import grow_rows
from graft.models.files.checkpoints import changing
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.models.losses.token_losses import weighted_sums
from graft.packing.batch import Batch
from graft.planning.plan import forecast
from graft.surgery.extend_vocabulary import Growth, extend
from graft.training.run import adamw
from graft.training.settings import Train
from graft.training.train import train
from graft.training.tunings.full import Full
from graft.training.tunings.new_rows import NewRows

# --- merges ----------------------------------------------------------------------------------------------------------


def bare(vocabulary: list[str], merges: list[list[str]] | list[str] = [], **model: Any) -> dict[str, Any]:  # noqa: B006
    """The contents of a tokenizer.json over bytes, words cut at spaces as GPT-2's are."""
    vocab = {word: number for number, word in enumerate(vocabulary)}
    steps = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": steps, "post_processor": None, "decoder": steps,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges} | model,
    }  # fmt: skip


def opened(file: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(file))


def grown(file: dict[str, Any], texts: list[str], **limits: int) -> tuple[LearnedMerges, dict[str, Any], Spelling]:
    spelling = Spelling.read(file)
    learned = learn(count_words(texts, opened(file), spelling), spelling, **limits)
    return learned, with_merges(file, [merge[:3] for merge in learned.merges], spelling), spelling


def test_a_case_worked_by_hand():
    """Sennrich et al. 2016, figure 1, whose words have no end marks here; ties go to the smaller ids."""
    letters = sorted(set("lowernwstid"))
    file = bare(letters)
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
    ids = {letter: number for number, letter in enumerate(letters)}
    spelling = Spelling.read(file)
    counted = {tuple(ids[letter] for letter in word): times for word, times in words.items()}
    learned = learn(counted, spelling, tokens=100, min_count=2)
    assert [(spelling.text[merge.made], merge.saved) for merge in learned.merges] == [
        ("es", 9), ("est", 9),  # (e, s) and (s, t) are as frequent
        ("lo", 7), ("low", 7),
        ("ew", 6), ("new", 6), ("newest", 6),  # (e, w), (n, e) and (w, est)
        ("dest", 3), ("idest", 3), ("widest", 3),
        ("er", 2), ("lower", 2),
    ]  # fmt: skip
    assert learned.tokens_before == 3 * 5 + 5 * 2 + 6 * 6 + 6 * 3
    assert learned.tokens_after == 5 + 2 + 6 + 3  # every word one token
    assert learned.tokens_before - learned.tokens_after == sum(merge.saved for merge in learned.merges)
    assert {spelling.text[token] for token in learned.idle()} == {"es", "est", "lo", "ew", "new", "dest", "idest", "er"}
    spelled = {spelling.text[token]: spelling.spelled(parts) for token, parts in learned.parts().items()}
    assert all(word == parts for word, parts in spelled.items())
    assert [len(parts) for parts in learned.parts().values()][:4] == [2, 3, 2, 3]


def test_a_token_beside_itself_counts_as_often_as_it_can_be_replaced():
    file = bare(["a", "b"])
    spelling = Spelling.read(file)
    learned = learn({(0,) * 5: 3, (0, 1): 5}, spelling, tokens=1, min_count=1)  # aaaaa x 3: two pairs each, ab x 5
    assert learned.merges[0] == (0, 0, 2, 6) and learned.words[0] == ((2, 2, 0), 3)


def naive(
    words: dict[tuple[int, ...], int], text: dict[int, str], first: int, tokens: int, least: int, whole: bool
) -> tuple[list[tuple[int, int, int, int]], list[tuple[list[int], int]]]:
    """The same choice by counting everything again for every merge."""
    text, now, merges = dict(text), [(list(word), "".join(text[i] for i in word), n) for word, n in words.items()], []
    while len(merges) < tokens:
        saved: Counter[tuple[int, int]] = Counter()
        for word, _, times in now:
            for pair in set(pairwise(word)):
                place = 0
                while place < len(word) - 1:  # replaced from the left
                    if (word[place], word[place + 1]) == pair:
                        saved[pair] += times
                        place += 1
                    place += 1
        fit = {pair: n for pair, n in saved.items() if text[pair[0]] + text[pair[1]] not in text.values()}
        if not fit or max(fit.values()) < least:
            break
        best = min(fit, key=lambda pair: (-fit[pair], pair))
        made = first + len(merges)
        text[made] = text[best[0]] + text[best[1]]
        merges.append((*best, made, fit[best]))
        after = []
        for word, spelled, times in now:
            new: list[int] = []
            while word:
                pair = tuple(word[:2]) == best
                new.append(made if pair else word[0])
                word = word[2 if pair else 1 :]
            after.append(([made] if whole and spelled == text[made] else new, spelled, times))
        now = after
    return merges, [(word, times) for word, _, times in now]


@given(
    st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=30),
    st.integers(1, 40),
    st.integers(1, 4),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_merges_are_those_of_counting_everything_again(texts, tokens, least, whole):
    """And the tokenizers library, given the file, cuts every word as the merges left it."""
    file = bare(["a", "b", "c", "ab", "bc", "abc"], [["a", "b"], ["b", "c"], ["a", "bc"]], ignore_merges=whole)
    learned, file, _ = grown(file, texts, tokens=tokens, min_count=least)
    counted = Counter(tuple(opened(bare_of(file)).encode(text).ids) for text in texts)
    old = {number: word for word, number in bare_of(file)["model"]["vocab"].items()}
    merges, words = naive(dict(counted), old, 6, tokens, least, whole)
    assert [tuple(merge) for merge in learned.merges] == merges
    assert Counter({tuple(word): times for word, times in words}) == Counter(dict(learned.words))
    library = Counter(tuple(opened(file).encode(text).ids) for text in texts)
    assert library == Counter(dict(learned.words))
    assert learned.tokens_after == sum(len(word) * times for word, times in library.items())


def bare_of(file: dict[str, Any]) -> dict[str, Any]:
    """Without the new tokens."""
    vocab = dict(list(file["model"]["vocab"].items())[:6])
    return file | {"model": file["model"] | {"vocab": vocab, "merges": file["model"]["merges"][:3]}}


def spaced(texts: list[str], size: int, **model: Any) -> dict[str, Any]:
    """A SentencePiece-like file: spaces marked, no words, what has no token spelled in bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # for its training only, as SentencePiece cuts at spaces
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, special_tokens=special))
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = file["added_tokens"][:2]
    return file | {"pre_tokenizer": None, "model": file["model"] | model}


TEXT = [
    "the court of law shall hear a case, and then the judge may rule: 1984, 19.",
    "the judge and the lawful court\n\nheard  the case of 1984 and ruled, justly; naïve caselaw",
] * 20  # fmt: skip


@pytest.mark.parametrize("kind", ["bytes", "strings", "whole words", "marked spaces"])
def test_the_library_cuts_text_as_the_merges_left_it(kind):
    """For every form of file: word by word, and text that was not counted comes back as it was."""
    if kind == "marked spaces":
        file = spaced(TEXT, 300)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet))
        file = json.loads(tokenizer.to_str())
        file["model"]["ignore_merges"] = kind == "whole words"
        if kind == "strings":
            file["model"]["merges"] = [" ".join(merge) for merge in file["model"]["merges"]]
    learned, new_file, spelling = grown(file, TEXT, tokens=200, min_count=15)
    assert len(learned.merges) > 15 and {type(one) for one in new_file["model"]["merges"]} == {
        str if kind == "strings" else list
    }
    old, new = opened(file), opened(new_file)
    expected: Counter[int] = Counter()
    for word, times in learned.words:
        for token in word:
            expected[token] += times
    ids = [new.encode(text).ids for text in TEXT]
    assert Counter(token for one in ids for token in one) == expected
    assert (
        sum(map(len, ids))
        == learned.tokens_after
        < learned.tokens_before
        == sum(len(old.encode(text).ids) for text in TEXT)
    )
    other = "a lawful judge's naïveté, éé 2020\n"
    for text in [*TEXT[:2], other]:
        assert new.decode(new.encode(text).ids) == old.decode(old.encode(text).ids)
    spelled_out = {token for merge in learned.merges for token in [merge.made]}
    if kind == "marked spaces":  # letters, and a space in front
        words = [spelling.text[token] for token in spelled_out]
        assert any(word.startswith("▁") for word in words)
        assert all(word.removeprefix("▁").isalpha() for word in words)
    unchanged = "zq xk"
    assert new.encode(unchanged).ids == old.encode(unchanged).ids


def test_tokens_added_beside_the_model_keep_their_ids():
    """tokenizers numbers them by the size of the vocabulary when it reads a file."""
    file = bare([*"abc", "ab"], [["a", "b"]])
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    file["added_tokens"] = [
        {"id": 4, "content": "<|end|>", "special": True} | added,
        {"id": 5, "content": "  ", "special": False} | added,
    ]
    assert opened(file).token_to_id("<|end|>") == 4
    moved = json.loads(json.dumps(file))
    moved["model"]["vocab"]["abc"] = 6
    assert opened(moved).token_to_id("<|end|>") != 4  # the trap
    learned, new_file, spelling = grown(file, ["abc abc<|end|>cc"] * 3, tokens=5, min_count=2)
    new = opened(new_file)
    assert spelling.first_new == 6 and learned.merges[0].made == 6
    assert (new.token_to_id("<|end|>"), new.token_to_id("  ")) == (4, 5)
    assert new.encode("abc  <|end|>abc").ids == [6, 5, 4, 6]
    assert not any({4, 5} & {merge.left, merge.right} for merge in learned.merges)
    assert Spelling.read(file, [9]).first_new == 10  # what a configuration names is in use


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "Unigram"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "neither bytes nor"),
        (bare(["a"], dropout=0.1), "dropout"),
        (bare(["a"], continuing_subword_prefix="##"), "continuing_subword_prefix"),
        (bare(["a"], end_of_word_suffix="</w>"), "end_of_word_suffix"),
    ],
)
def test_other_tokenizers_are_refused(file, said):
    with pytest.raises(UsageError, match=said) as caught:
        Spelling.read(file, where="here")
    assert "byte-level BPE" in str(caught.value) and "here" in str(caught.value)


def test_a_real_tokenizer_with_tokens_beside_its_model(shared_data):
    """GPT-NeoX: merges as strings, runs of spaces as added tokens, NFC."""
    with gzip.open(shared_data / "tokenizers" / "gpt_neox_20b" / "tokenizer.json.gz") as stream:
        file = json.loads(stream.read())
    paths = sorted(Path(json.__file__).parent.glob("*.py"))
    texts = [path.read_text() for path in paths]
    learned, new_file, spelling = grown(file, texts, tokens=100, min_count=5)
    old, new = opened(file), opened(new_file)
    assert spelling.first_new == 50277 and len(learned.merges) > 30
    known = new.get_vocab(True)
    assert all(known[word] == number for word, number in old.get_vocab(True).items())
    assert sum(len(new.encode(text).ids) for text in texts) == learned.tokens_after
    assert all(new.decode(new.encode(text).ids) == text for text in texts)


# --- the stage -------------------------------------------------------------------------------------------------------

GROWTH = Growth(tokens=40, min_count=20)


@pytest.fixture(scope="module")
def extended(world) -> Artifact:
    return extend(world.base, world.corpus, GROWTH, store=world.store)


def texts_in(world: World, source: str, split: str) -> list[str]:
    rows = pq.read_table(world.corpus / f"{source}.parquet").to_pylist()
    return [row["text"] for row in rows if row["split"] == split and not row["dropped"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def check_extension(base: Path, folder: Path, first: int, count: int, texts: list[str]) -> None:
    """What every extension must be, seen through transformers alone."""
    tokenizer, old_tokenizer = (AutoTokenizer.from_pretrained(one) for one in (folder, base))
    config = json.loads((folder / "config.json").read_text())
    assert config["graft_extended_from"] == first and config["vocab_size"] >= first + count
    before, after = (AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32).eval() for one in (base, folder))
    assert after.config.vocab_size == after.get_input_embeddings().weight.shape[0] == config["vocab_size"]
    tied = before.get_input_embeddings().weight is before.get_output_embeddings().weight
    assert (after.get_input_embeddings().weight is after.get_output_embeddings().weight) == tied
    for text in texts:
        ids, old_ids = tokenizer(text)["input_ids"], old_tokenizer(text)["input_ids"]
        assert max(ids) >= first > max(old_ids) and len(ids) < len(old_ids)
        assert tokenizer.decode(ids) == old_tokenizer.decode(old_ids) == text
        seen = torch.tensor([old_ids[:60]])
        with torch.no_grad():
            difference = after(seen).logits[..., :first] - before(seen).logits[..., :first]
        assert difference.abs().max() <= 1e-5
    parts = {
        number: old_tokenizer(tokenizer.decode([number]), add_special_tokens=False)["input_ids"]
        for number in range(first, first + count)
    }
    for name in ("weight", "bias"):
        for get in ("get_input_embeddings", "get_output_embeddings"):
            old, new = (getattr(getattr(one, get)(), name, None) for one in (before, after))
            if old is not None:
                assert torch.equal(new[:first], old[:first])
                for number, of in parts.items():
                    mean = torch.stack([old[one] for one in of]).mean(0).to(before.config.dtype or torch.float32)
                    torch.testing.assert_close(new[number], mean.float(), rtol=1e-2, atol=1e-5)


def test_an_extension_is_the_base_with_more_tokens(world, extended):
    facts = extended.facts
    texts = texts_in(world, "domain", "test")[:3]
    assert facts["tokens_added"] == 40 and facts["first_new"] == 320 and facts["rows"] == 360 and facts["tied"]
    assert facts["reload_difference"] <= 1e-4 and facts["logits_moved"] <= 1e-5
    check_extension(world.base.folder, extended / "model", 320, 40, texts)
    old, new = weights(world.base.folder), weights(extended / "model")
    assert set(old) == set(new)
    assert all(torch.equal(old[name], new[name][: len(old[name])]) for name in old)


def test_an_extension_says_what_it_gained(world, extended):
    facts = extended.facts
    old, new = (Tokenizer.from_file(str(one / "tokenizer.json")) for one in (world.base.folder, extended / "model"))
    for source in ("domain", "general"):
        texts = texts_in(world, source, "validation")
        row = facts["fertility"][source]
        for side, tokenizer in (("before", old), ("after", new)):
            tokens = sum(len(tokenizer.encode(text).ids) for text in texts)
            assert row[side]["tokens"] == tokens
            assert row[side]["tokens_per_byte"] == tokens / sum(len(text.encode()) for text in texts)
            assert row[side]["tokens_per_word"] == tokens / sum(len(text.split()) for text in texts)
    assert facts["fertility"]["domain"]["after"]["tokens"] < 0.8 * facts["fertility"]["domain"]["before"]["tokens"]
    trained_on = texts_in(world, "domain", "train")
    for side, tokenizer in (("before", old), ("after", new)):
        assert facts["training_tokens"][side] == sum(len(tokenizer.encode(text).ids) for text in trained_on)
    listed = json.loads((extended / "tokens.json").read_text())
    assert listed[:20] == facts["largest"] and len(listed) == 40
    saved = [row["saved"] for row in listed]
    assert saved == sorted(saved, reverse=True) and sum(saved) == (
        facts["training_tokens"]["before"] - facts["training_tokens"]["after"]
    )


def test_every_setting_of_growth_has_an_effect(world, extended):
    few = extend(world.base, world.corpus, replace(GROWTH, tokens=3), store=world.store)
    assert few.facts["tokens_added"] == 3 and few.facts["largest"] == extended.facts["largest"][:3]
    rare = replace(GROWTH, tokens=500, min_count=extended.facts["largest"][5]["saved"])
    assert 5 < extend(world.base, world.corpus, rare, store=world.store).facts["tokens_added"] < 40
    other = extend(world.base, world.corpus, replace(GROWTH, source="general"), store=world.store)
    assert other.facts["largest"] != extended.facts["largest"]
    assert (
        other.facts["fertility"]["general"]["after"]["tokens"]
        < extended.facts["fertility"]["general"]["after"]["tokens"]
    )
    drawn = [
        weights(
            extend(world.base, world.corpus, replace(GROWTH, start="random_like", seed=seed), store=world.store)
            / "model"
        )
        for seed in (0, 1)
    ]
    name = "model.embed_tokens.weight"
    old, mean = weights(world.base.folder)[name], weights(extended / "model")[name]
    assert not torch.equal(drawn[0][name][320:], drawn[1][name][320:])
    assert torch.equal(drawn[0][name][:320], old)
    assert drawn[0][name][320:].std() == pytest.approx(float(old.std()), rel=0.1)  # spread as the old rows are
    assert mean[320:].std() < 0.9 * old.std()  # and means are nearer to each other


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"source": "nothing"}, "domain, general"), ({"min_count": 10**9}, "min_count"), ({"tokens": 0}, "1 or more")],
)
def test_what_cannot_grow_is_refused(world, changed, said):
    with pytest.raises(UsageError, match=said):
        extend(world.base, world.corpus, replace(GROWTH, **changed), store=world.store)


def saved_model(model: Any, base: Base, folder: Path) -> Base:
    """A model with the tokenizer of another base."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base.folder / name).read_bytes())
    return Base(folder.name, folder)


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_an_untied_head_with_a_bias_grows_too(world, tmp_path):
    torch.manual_seed(1)
    model = PhiForCausalLM(PhiConfig(vocab_size=320, **SMALL, max_position_embeddings=64, tie_word_embeddings=False))
    torch.nn.init.normal_(model.lm_head.bias)
    base = saved_model(model, world.base, tmp_path / "phi")
    made = extend(base, world.corpus, GROWTH, store=world.store)
    assert not made.facts["tied"]
    check_extension(base.folder, made / "model", 320, 40, texts_in(world, "domain", "test")[:2])


def test_rows_that_filled_an_embedding_up_come_into_use(world, tmp_path):
    """Ids follow the tokenizer's own, and the older files of a tokenizer do not stay beside the new one."""
    torch.manual_seed(2)
    base = saved_model(LlamaForCausalLM(LlamaConfig(vocab_size=352, **SMALL)), world.base, tmp_path / "padded")
    (base.folder / "merges.txt").write_text("a b\n")
    for tokens, rows in ((20, 352), (40, 360)):
        made = extend(base, world.corpus, replace(GROWTH, tokens=tokens), store=world.store)
        assert (made.facts["first_new"], made.facts["rows"]) == (320, rows)
        assert not (made / "model" / "merges.txt").exists()
        check_extension(base.folder, made / "model", 320, tokens, texts_in(world, "domain", "test")[:1])


def test_a_configuration_that_names_a_later_token_moves_the_first_new_one(world, tmp_path):
    torch.manual_seed(3)
    config = LlamaConfig(vocab_size=330, **SMALL, pad_token_id=325)
    base = saved_model(LlamaForCausalLM(config), world.base, tmp_path / "named")
    made = extend(base, world.corpus, replace(GROWTH, tokens=20), store=world.store)
    assert (made.facts["first_new"], made.facts["rows"]) == (326, 346)


# --- training new rows -----------------------------------------------------------------------------------------------


def small(tied: bool) -> Model:
    torch.manual_seed(4)
    model = Model(
        LlamaForCausalLM(LlamaConfig(vocab_size=50, **SMALL, tie_word_embeddings=tied)),
        reading=Decoder(),
        precision="fp32",
    )
    grow_rows(model, {50: [1, 2], 51: [3, 4, 5], 52: [6]}, "mean", 0)
    return model


def some_batch(vocabulary: int = 53) -> Batch:
    tokens = torch.randint(0, vocabulary, (4, 9), generator=torch.Generator().manual_seed(5))
    places = torch.arange(8).expand(4, 8)
    return Batch(tokens[:, :-1], tokens[:, 1:], torch.ones(4, 8), places, torch.zeros(4, dtype=torch.long))


def loss(model: Model, batch: Batch) -> torch.Tensor:
    return weighted_sums(model.hidden(batch), model.head, batch.targets_BT, batch.weights_BT).total_B.sum()


@pytest.mark.parametrize("tied", [True, False])
def test_only_new_rows_train_and_old_ones_stay_to_the_bit(tied):
    """Gradients are the plain model's, over two micro-batches; AdamW with decay moves nothing else."""
    plain, model, batch = small(tied), NewRows().apply(small(tied)), some_batch()
    before = {name: weight.clone() for name, weight in plain.hf.state_dict().items()}
    logits = plain.hf(input_ids=batch.tokens_BT).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="sum").backward()
    wanted = [plain.hf.get_input_embeddings().weight.grad[50:]]
    wanted += [] if tied else [plain.hf.get_output_embeddings().weight.grad[50:]]
    for part in batch.split(2):
        loss(model, part).backward()
    trained = list(model.parameters())
    assert [tuple(p.shape) for p in trained] == [(3, 32)] * (1 if tied else 2)
    for parameter, gradient in zip(trained, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
    optimizer = adamw(model, rate=0.05, betas=(0.9, 0.95), weight_decay=0.5)
    losses = []
    for _ in range(5):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = loss(model, batch)
        losses.append(float(value.detach()))
        value.backward()
    assert losses[-1] < losses[0]
    with torch.no_grad():
        kept = loss(model, batch)
    folded = NewRows().fold(model)
    after = folded.hf.state_dict()
    assert set(after) == set(before)  # a plain model
    for name, weight in before.items():
        rows = 50 if weight.shape[0] == 53 else len(weight)
        assert torch.equal(after[name][:rows], weight[:rows]), name
        assert rows == len(weight) or not torch.equal(after[name][rows:], weight[rows:])
    embedding, head = folded.hf.get_input_embeddings().weight, folded.hf.get_output_embeddings().weight
    assert (embedding is head) == tied and isinstance(embedding, torch.nn.Parameter)
    assert torch.equal(loss(folded, batch).detach(), kept)


def test_a_checkpoint_brings_new_rows_back():
    model, batch = NewRows().apply(small(True)), some_batch()
    optimizer = adamw(model, rate=0.05, betas=(0.9, 0.95), weight_decay=0.1)
    loss(model, batch).backward()
    optimizer.step()
    state = changing(model)
    assert sum(value.numel() for value in state.values()) < 3 * 32 + 20  # rows alone, and what is no weight
    again = NewRows().apply(small(True))
    again.hf.load_state_dict(state, strict=False)
    with torch.no_grad():
        assert torch.equal(loss(model, batch), loss(again, batch))


def test_where_new_rows_begin():
    model = small(True)
    assert NewRows(first=52).apply(model).hf.graft_rows.rows[0].shape == (1, 32)
    never = Model(LlamaForCausalLM(LlamaConfig(vocab_size=50, **SMALL)), reading=Decoder(), precision="fp32")
    with pytest.raises(UsageError, match="not extended") as caught:
        NewRows().apply(never)
    assert "graft_extended_from" in str(caught.value) and "extend the model first" in str(caught.value)
    for first in (50, 1000):
        with pytest.raises(UsageError, match="0 to 49"):
            NewRows(first=first).apply(never)
    with pytest.raises(UsageError, match="first is -1"):
        NewRows(first=-1)


def test_the_train_stage_trains_new_rows_alone(world, extended):
    start = Base(extended.name, extended / "model")
    tokens = tokenize(world.corpus, start, store=world.store)
    settings = Train(tokens=4000, batch_size=4, learning_rate=1e-2, tuning=NewRows(), evaluations=1, weight_decay=0.5)
    trained = train(start, tokens, {"domain": 1.0}, settings, store=world.store)
    assert trained.facts["num_trained"] == 40 * 32
    before, after = weights(start.folder), weights(trained / "model")
    for name in before:
        rows = 320 if "embed_tokens" in name or "lm_head" in name else len(before[name])
        assert torch.equal(before[name][:rows], after[name][:rows]), name
    assert not torch.equal(before["model.embed_tokens.weight"][320:], after["model.embed_tokens.weight"][320:])
    assert json.loads((trained / "model" / "config.json").read_text())["graft_extended_from"] == 320
    curve = json.loads((trained / "curve.json").read_text())
    first, last = (entry["validation"]["domain"] for entry in (curve[0], curve[-1]))
    assert last[0] / last[1] < first[0] / first[1]
    with pytest.raises(UsageError, match="not extended"):
        train(world.base, world.tokens, {"domain": 1.0}, settings, store=world.store)


# --- the job ---------------------------------------------------------------------------------------------------------

RECIPE = """
extend:
  base: {base}
  domain: {domain}
  general: {general}
  out: {out}
  growth: {{tokens: 30, min_count: 20}}
  train: {{tokens: 3k, batch_size: 4, learning_rate: 1e-2, evaluations: 1, precision: fp32}}
"""


@pytest.fixture(scope="module")
def made(world, tmp_path_factory) -> tuple[Extend, Store, Path, str]:
    """By command line: (its job, the store, the output folder, what was printed)."""
    top = tmp_path_factory.mktemp("extend")
    places = {"base": world.base.folder, "domain": world.domain, "general": world.general, "out": top / "out"}
    (top / "recipe.yaml").write_text(RECIPE.format(**places))
    for said in ("comparison ", "Nothing to do: all 12 artifacts were there"):
        process = call("run", top / "recipe.yaml", "--store", top / "store", cwd=top)
        assert process.returncode == 0 and said in process.stderr, process.stderr
    job = Extend(
        base=str(world.base.folder), domain=(str(world.domain),), general=(str(world.general),), out=str(top / "out"),
        growth=Growth(tokens=30, min_count=20),
        train=Train(tokens=3000, batch_size=4, learning_rate=1e-2, evaluations=1, precision="fp32", tuning=NewRows()),
    )  # fmt: skip
    return job, Store(top / "store"), top / "out", process.stdout


def test_the_job_compares_three_models_in_bits_per_byte(made):
    job, store, out, printed = made
    summary = json.loads((out / "summary.json").read_text())
    artifacts = job.make(store)
    assert printed.split("\n")[1] == summary["verdict"] and "report" not in printed
    assert f"model:   {out / 'model'}" in printed
    assert summary["tokens_added"] == 30 and set(summary["tokens"]) == {"domain", "general"}
    evidence = dict(
        zip(("base", "extended", "trained"), (one for one in artifacts if one.kind == "evidence"), strict=True)
    )
    for source in ("domain", "general"):
        row = summary[source]
        for name, artifact in evidence.items():
            table = pq.read_table(artifact / f"{source}.parquet").to_pylist()  # every test document, scored whole
            nats = sum(math.fsum(document["nats"]) for document in table)
            num_bytes = sum(document["num_bytes"] for document in table)
            assert row["bits_per_byte"][name] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-6)
            assert row["tokens_scored"][name] == sum(len(document["nats"]) for document in table)
            assert (row["documents"], row["bytes"]) == (len(table), num_bytes)
        assert row["change"] == pytest.approx(row["bits_per_byte"]["trained"] / row["bits_per_byte"]["base"] - 1)
        assert row["interval"][0] < row["change"] < row["interval"][1]
    domain = summary["domain"]
    assert domain["tokens_scored"]["extended"] < domain["tokens_scored"]["base"]
    assert domain["bits_per_byte"]["trained"] < domain["bits_per_byte"]["extended"]
    assert domain["fertility"]["after"]["tokens"] < domain["fertility"]["before"]["tokens"]


def test_what_it_leaves_is_a_base_to_adapt(made, tmp_path):
    job, store, out, _ = made
    adaptation = Adapt(
        base=str(out / "model"), domain=job.domain, general=job.general, out=str(tmp_path / "adapted"),
        train=Train(tokens=3000, batch_size=4, precision="fp32"),
    )  # fmt: skip
    assert adaptation(store).summary["domain"]["tokens_scored"] > 0
    assert json.loads((tmp_path / "adapted" / "model" / "config.json").read_text())["vocab_size"] == 350


def test_only_documents_scored_whole_by_all_are_compared(made):
    """A limit in tokens holds more text of the new tokenizer: what one model alone has seen is left out."""
    job, store, _, _ = made
    artifacts = replace(job, evaluate=Evaluate(max_tokens=600)).make(store)
    row = json.loads((artifacts[-1] / "summary.json").read_text())["domain"]
    corpus = next(one for one in artifacts if one.kind == "corpus")
    whole = {one["position"]: one["num_bytes"] for one in pq.read_table(corpus / "domain.parquet").to_pylist()}
    tables = [pq.read_table(one / "domain.parquet").to_pylist() for one in artifacts if one.kind == "evidence"]
    sizes = [{document["position"]: document["num_bytes"] for document in table} for table in tables]
    assert sizes[0] != sizes[1]
    shared = [one for one, size in sizes[0].items() if size == sizes[1].get(one) == whole[one]]
    assert row["documents"] == len(shared) < len(sizes[1])
    assert row["bytes"] == sum(whole[position] for position in shared)
    nothing = replace(job, evaluate=Evaluate(max_tokens=16)).make(store)[-1]
    summary = json.loads((nothing / "summary.json").read_text())
    assert summary["domain"]["change"] is None and any("raise evaluate.max_tokens" in note for note in summary["notes"])


def test_every_setting_of_the_job_has_an_effect(made, tmp_path):
    job, store, _, _ = made
    plain = [artifact.name for artifact in job.make(store)]
    other = str(write_texts(tmp_path / "other", WORDS, 20, seed=9))
    for first_changed, change in (
        ("docs", {"domain": (other,)}),
        ("docs", {"general": (other,)}),
        ("docs", {"ingest": Ingest(text_field="words")}),
        ("corpus", {"curate": Curate(steps=())}),
        ("extend", {"growth": replace(job.growth, tokens=10)}),
        ("tokens", {"tokenize": Tokenize(shard_bytes=10_000)}),
        ("train", {"train": replace(job.train, tuning=Full())}),
        ("train", {"replay": 0.0}),
        ("evidence", {"evaluate": Evaluate(window=32)}),
        ("comparison", {"compare": CompareExtension(seed=1)}),
    ):
        fresh = [artifact for artifact in replace(job, **change).make(store) if artifact.name not in plain]
        assert fresh[0].kind == first_changed, change
    moved = replace(job, out=str(tmp_path / "moved"))(store)
    assert moved.out == tmp_path / "moved" and (moved.out / "model" / "config.json").exists()
    for wrong in ({"domain": ()}, {"replay": 1.0}, {"base": "no/such/model"}):
        with pytest.raises(UsageError):
            replace(job, **wrong)(store)


def test_a_plan_knows_the_job(made, tmp_path):
    job, store, _, _ = made
    blind = forecast(job, Store(tmp_path / "empty"))
    assert {"docs", "corpus", "tokens", "train", "evidence"} == set(blind.seconds) and not blind.complete
    assert blind.shape.tokens == 64 * 4 * 12
    known = forecast(job, store)
    assert known.complete and known.seconds == {} and len(known.done) == 11
