"""What a tokenizer loses of a text is measured on that text, and too much of it leaves no verdict."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from graft.core.config.errors import UsageError
from graft.core.models.base_model import Base
from graft.core.store.artifact import Store
from graft.core.tokens.lost_text import keeps_all, lost_text
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import tokenize
from graft.jobs.compare import Compare
from graft.report.adaptation.stage import AdaptationReport
from graft.report.comparison.stage import Present

WORDS = ["river", "stone", "garden", "ete", "été", "Stone"]


def word_level(*steps) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({one: i for i, one in enumerate(["<unk>", "</s>", *WORDS])}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if steps:
        tokenizer.normalizer = normalizers.Sequence(list(steps))
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in ("<unk>", "</s>")])
    return tokenizer


def byte_level(alphabet: int = 256) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:alphabet]
    tokenizer = Tokenizer(models.BPE(vocab={one: i for i, one in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.mark.parametrize(("tokenizer", "text", "counts"), [
    (word_level(), "river stone", (11, 0, 0, 0)),
    (word_level(), "river zebra", (11, 5, 0, 0)),
    (word_level(), "river\nstone  garden", (19, 0, 0, 2)),  # the line end, and the second space
    (word_level(normalizers.Lowercase()), "River Stone", (11, 0, 2, 0)),
    (word_level(normalizers.NFD(), normalizers.StripAccents()), "été river", (9, 0, 2, 0)),
    (word_level(normalizers.NFC()), "e\u0301te\u0301 river", (9, 0, 0, 0)),
    (byte_level(), "Été\n\n 中🙂  a", (11, 0, 0, 0)),
    (byte_level(100), "abc🙂", (4, 1, 0, 0)),  # no token for some bytes: left out in silence
])  # fmt: skip
def test_what_is_lost_is_counted_in_characters(tokenizer, text, counts):
    assert lost_text(tokenizer, [text], tokenizer.token_to_id("<unk>")).counts == counts


def test_only_a_whole_byte_level_alphabet_is_known_to_keep_all():
    assert keeps_all(byte_level()) and not keeps_all(byte_level(255)) and not keeps_all(word_level())


def base_of(folder, tokenizer: Tokenizer) -> Base:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    LlamaForCausalLM(
        LlamaConfig(vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                    max_position_embeddings=256, bos_token_id=1, eos_token_id=1)
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Base.find(str(folder))


def text_of(folder, word: str):
    folder.mkdir()
    rows = [{"text": " ".join(f"river stone {word} garden {word}{i}x{j}" for j in range(12))} for i in range(30)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "t.jsonl"


def test_the_share_is_a_fact_of_the_tokens_and_noted(tmp_path):
    store = Store(tmp_path / "store")
    base = base_of(tmp_path / "base", word_level())
    corpus = curate({"domain": ingest([str(text_of(tmp_path / "t", "zebra"))], "domain", store=store)}, store=store)
    tokens = tokenize(corpus, base, store=store)
    shares = tokens.facts["lost_text"]["domain"]
    assert 0.3 < shares["unknown"] == shares["all"] < 0.7
    assert any("loses" in note and "unknown words" in note for note in tokens.facts["notes"])
    assert "lost_text" not in tokenize(corpus, Base.find("embedded"), store=store).facts


def test_a_comparison_gives_no_verdict_on_text_that_is_lost(tmp_path):
    store = Store(tmp_path / "store")
    base = base_of(tmp_path / "base", word_level())
    text = str(text_of(tmp_path / "t", "zebra"))
    job = Compare(after=str(base.folder), text=(text,), out=str(tmp_path / "out"))
    row = job(store).summary["texts"]["t"]
    assert row["verdict"].startswith("no verdict (") and "no verdict" in row["sentence"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no verdict" in page
    lenient = Compare(after=str(base.folder), text=(text,), out=str(tmp_path / "out2"), present=Present(lost_share=1.0))
    assert lenient(store).summary["texts"]["t"]["verdict"] in ("improved", "worse", "no change")


@pytest.mark.parametrize("settings", [Present, AdaptationReport])
def test_a_share_is_a_share(settings):
    with pytest.raises(UsageError, match="lost_share is 2"):
        settings(lost_share=2)


def test_an_adaptation_gives_no_verdict_on_text_that_is_lost(tmp_path):
    from graft.evaluation.score_documents import Evaluate
    from graft.jobs.adapt import Adapt
    from graft.training.settings import Train

    base = base_of(tmp_path / "base", word_level())
    quick = {
        "base": str(base.folder), "domain": (str(text_of(tmp_path / "t", "zebra")),), "general": (str(text_of(tmp_path /
        "g", "stone")),), "evaluate": Evaluate(max_tokens=2000), "train": Train(tokens=1000, batch_size=4,
        sequence_length=64, learning_rate=1e-3, precision="fp32", evaluations=1),
    }  # fmt: skip
    summary = Adapt(**quick, out=str(tmp_path / "out"))(Store(tmp_path / "store")).summary
    assert summary["outcome"].startswith("no verdict (") and summary["domain"]["verdict"] == summary["outcome"]
    assert "The domain: no verdict (" in summary["verdict"]
    assert "no verdict (" in (tmp_path / "out" / "report.html").read_text()
    assert any("loses" in note for note in summary["notes"])
    lenient = Adapt(**quick, out=str(tmp_path / "out2"), report=AdaptationReport(lost_share=1.0))
    assert lenient(Store(tmp_path / "store")).summary["outcome"] in ("improved", "worse", "no change")
