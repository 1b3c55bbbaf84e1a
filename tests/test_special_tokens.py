"""Special tokens are those of transformers, whatever file names them; a tuned model stops where its answers end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from graft.core.models.base_model import Base
from graft.core.models.named_tokens import named_tokens
from graft.core.store.artifact import Store
from graft.core.store.fingerprints import Fingerprints
from graft.core.tokens.cached_encoder import CachedEncoder
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import Tokenize, tokenize

END, START, PAD, MORE = "<|im_end|>", "<|im_start|>", "<|pad|>", "<|more|>"
CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def base_of(folder: Path, special=(), config=None, mapped=None, model=None, generation=None) -> Base:
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(one, special=one in special, normalized=False) for one in (END, START, PAD, MORE)])
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **(config or {})},
        "special_tokens_map.json": mapped, "generation_config.json": generation,
        "config.json": {"model_type": "llama", **(model or {})},
    }  # fmt: skip
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return Base("tiny", folder)


FOLDERS = {
    "flags of tokenizer.json": {"special": (END, PAD)},
    "eos_token": {"config": {"eos_token": END}},
    "eos_token as an object": {"config": {"eos_token": {"content": END, "__type": "AddedToken"}}},
    "additional": {"config": {"eos_token": PAD, "additional_special_tokens": [END, START]}},
    "extra": {"config": {"extra_special_tokens": [START]}},
    "special_tokens_map.json": {"mapped": {"eos_token": END, "pad_token": {"content": PAD}}},
    "the map before the config": {"config": {"eos_token": PAD}, "mapped": {"eos_token": END}},
    "the config alone where it lists added tokens": {
        "config": {"eos_token": PAD, "added_tokens_decoder": {
            "258": {"content": PAD, "special": True}, "257": {"content": START, "special": True},
        }},
        "mapped": {"eos_token": END},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_special_tokens_and_their_names_are_those_of_transformers(tmp_path, name):
    from transformers import AutoTokenizer

    base, theirs = (
        base_of(tmp_path, **FOLDERS[name]),
        AutoTokenizer.from_pretrained(str(base_of(tmp_path / "x", **FOLDERS[name]).folder)),
    )
    assert {key: named_tokens(base.folder).get(key) for key in theirs.special_tokens_map if key.endswith("_token")} == {
        key: value for key, value in theirs.special_tokens_map.items() if key.endswith("_token")
    }
    ours = {number for number, token in base.tokenizer.get_added_tokens_decoder().items() if token.special}
    flagged = {number for number, token in theirs.added_tokens_decoder.items() if token.special}
    assert ours == {one for one in (*flagged, *theirs.all_special_ids) if one is not None}
    if theirs.eos_token_id is not None:
        assert base.marks.end == theirs.eos_token_id
    base.tokenizer.encode_special_tokens = True
    for token in (base.tokenizer.id_to_token(one) for one in sorted(ours)):
        assert base.tokenizer.token_to_id(token) not in CachedEncoder(base.tokenizer).encode([f"a{token}b"]).ids


@pytest.mark.parametrize("files", [
    {"model": {"eos_token_id": 256}}, {"model": {"eos_token_id": [256, 258]}},
    {"generation": {"eos_token_id": [256, 258]}},
    {"model": {"eos_token_id": None}, "generation": {"eos_token_id": 256}},
])  # fmt: skip
def test_an_end_that_only_a_configuration_names_is_the_mark_and_cannot_be_forged(tmp_path, files):
    base = base_of(tmp_path, **files)
    assert base.marks.end == 256
    base.tokenizer.encode_special_tokens = True
    assert 256 not in CachedEncoder(base.tokenizer).encode([f"a{END}b"]).ids


def test_what_another_file_calls_special_is_part_of_the_tokenizers_identity(tmp_path):
    memory = Fingerprints(tmp_path / "prints")
    found = {
        base_of(tmp_path / str(number), config={"eos_token": END, **more}).tokenizer_fingerprint(memory)
        for number, more in enumerate([{}, {"pad_token": PAD}, {"additional_special_tokens": [PAD]}])
    }
    assert len(found) == 2
    whole = base_of(tmp_path / "whole", special=(END,), config={"eos_token": END})
    assert whole.tokenizer_fingerprint(memory).endswith(":256:256")


def test_the_outcome_of_a_tuning_stops_where_its_answers_end(tmp_path):
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    from graft.training.settings import Train
    from graft.training.train import train

    torch.manual_seed(0)
    folder = base_of(tmp_path / "base", special=(END, START, PAD, MORE), config={"eos_token": PAD}).folder
    LlamaForCausalLM(
        LlamaConfig(vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                    max_position_embeddings=128, bos_token_id=258, eos_token_id=258)
    ).save_pretrained(folder)  # fmt: skip
    base = Base.find(str(folder))
    rows = [{"prompt": f"Say {i}", "completion": f"{i * i} and {i}"} for i in range(60)]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "store")
    corpus = curate({"domain": ingest([str(tmp_path / "d.jsonl")], "domain", store=store)}, store=store)
    quick = Train(tokens=512, sequence_length=64, batch_size=4, learning_rate=1e-3, precision="fp32", evaluations=1)
    plain = train(base, tokenize(corpus, base, store=store), {"domain": 1.0}, quick, store=store)
    assert GenerationConfig.from_pretrained(plain / "model").eos_token_id == 258
    wanted = Tokenize(chat="template", template=CHATML, count="answers")
    tuned = train(base, tokenize(corpus, base, wanted, store=store), {"domain": 1.0}, quick, store=store)
    assert GenerationConfig.from_pretrained(tuned / "model").eos_token_id == [258, 256]
    assert any("<|im_end|>" in note and "[258, 256]" in note for note in tuned.facts["notes"])
    again = train(
        Base("tuned", tuned / "model"), tokenize(corpus, Base("tuned", tuned / "model"), wanted, store=store),
        {"domain": 1.0}, quick, store=store,
    )  # fmt: skip
    assert GenerationConfig.from_pretrained(again / "model").eos_token_id == [258, 256]
