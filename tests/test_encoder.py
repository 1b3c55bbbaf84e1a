"""The encoder's ids are the library's own, id by id, for every kind of tokenizer and every text."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from graft.core.tokens import cached_encoder as encoder
from graft.core.tokens.cached_encoder import CachedEncoder
from graft.core.tokens.safe_cuts import DEEPSEEK, EDGE, PART, PATTERNS

END, TOOL = "<|end_of_text|>", "<tool_1>"


def revealing() -> models.WordPiece:
    """A model whose ids show every border between pieces: the first byte of a piece has another id than a later one."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["?", *letters, *("##" + letter for letter in letters)]
    return models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="?", max_input_chars_per_word=10**9)


def make(*steps, added: tuple = (), nfc: bool = False, model=None) -> Tokenizer:
    tokenizer = Tokenizer(model or revealing())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps])
    tokenizer.add_special_tokens([END, "<|pad|>"])
    tokenizer.add_tokens([*added])
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.encode_special_tokens = True
    return tokenizer


def split(pattern: str, behavior: str = "isolated", invert: bool = False) -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(use_regex: bool = False, prefix: bool = False) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


RUNS_OF_SPACES = tuple(AddedToken(" " * n, normalized=True) for n in range(2, 25))
PLAIN = tuple(AddedToken(content, normalized=False) for content in (TOOL, "</tool>", "pad|>", "ab", "é"))
BY_WORDS = {
    "gpt-2": lambda: make(byte_level(use_regex=True)),
    "gpt-2 as a split": lambda: make(split(PATTERNS["gpt-2"]), byte_level()),
    "neox": lambda: make(byte_level(use_regex=True), added=RUNS_OF_SPACES, nfc=True),
    "digits": lambda: make(pre_tokenizers.Digits(individual_digits=True), byte_level(use_regex=True)),
    "digit runs": lambda: make(pre_tokenizers.Digits(individual_digits=False), byte_level(use_regex=True)),
    "llama-3": lambda: make(split(PATTERNS["llama-3"]), byte_level()),
    "llama-3 of old": lambda: make(split(PATTERNS["llama-3"], "removed", invert=True), byte_level()),
    "qwen-2": lambda: make(split(PATTERNS["qwen-2"]), byte_level(), added=PLAIN, nfc=True),
    "qwen-3.5": lambda: make(split(PATTERNS["qwen-3.5"]), byte_level(), nfc=True),
    "o200k": lambda: make(split(PATTERNS["o200k"]), byte_level(), added=PLAIN),
    "tekken": lambda: make(split(PATTERNS["tekken"]), byte_level()),
    "deepseek": lambda: make(*map(split, DEEPSEEK), byte_level(), added=PLAIN),
}
WHOLE = {
    "a space put first": lambda: make(byte_level(use_regex=True, prefix=True)),
    "deepseek's last step alone": lambda: make(split(DEEPSEEK[2]), byte_level()),
    "a pattern of one's own": lambda: make(split(r"\w+\W\w+"), byte_level()),
    "removing matches": lambda: make(split(PATTERNS["gpt-2"], "removed"), byte_level()),
    "no cut at all": lambda: make(byte_level()),
    "metaspace": lambda: make(pre_tokenizers.Metaspace()),
    "whitespace": lambda: make(pre_tokenizers.WhitespaceSplit(), byte_level()),
    "words alone": lambda: make(byte_level(use_regex=True), added=(AddedToken("cat", single_word=True),)),
    "stripping": lambda: make(byte_level(use_regex=True), added=(AddedToken("cat", rstrip=True),)),
    "composed": lambda: make(byte_level(use_regex=True), added=(AddedToken("K<a>", normalized=True),), nfc=True),
}
KINDS = BY_WORDS | WHOLE

FRAGMENTS = [
    *" \n\t\r/'’_-.,;<>|", "  ", "   \n  ", "\r\n", *"\u00a0\u2003\u3000\u0085\x1c\x0b\u200b\ufeff", "ids[0]+=f(x);",
    "a", "Z", "word", "Don't", "we'LL", "'s", "'S1", "'re", "o'clock", "CamelCase", "snake_case", "été",
    "e\u0301", "\u0301", "=\u0338",
    "1", "12", "1234567", "3.14", "²", "½", "٣٤", "९", "Ⅷ", "1a", "a1", "x²", "K", "\u212a<a>", "ſ", "ß", "ŉ",
    "中文字", "カナ", "العربية", "עברית", "ไทย", "🙂", "👩‍👩‍👧", "🇪🇺", "\U0001d54f", "\x00", "\u00ad",
    END, END[:-1], "<|pad|>", "<|pad", "pad|>", TOOL, "<tool_", "</tool>", "ab", "cat", "a" * 300, " " * 60,
]  # fmt: skip
TEXTS = st.lists(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
             max_size=12).map("".join), max_size=5,
)  # fmt: skip


def check(tokenizer: Tokenizer, texts: list[str], ours: CachedEncoder | None = None) -> None:
    ids, length_D = (ours or CachedEncoder(tokenizer)).encode(texts)
    theirs = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    assert ids.dtype == np.uint32
    assert length_D.tolist() == [len(one) for one in theirs]
    assert ids.tolist() == [token for one in theirs for token in one]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_library(kind):
    tokenizer = KINDS[kind]()
    ours = CachedEncoder(tokenizer, memory=20_000)  # so that it forgets now and then
    assert ours.by_words == (kind in BY_WORDS)

    @settings(max_examples=150, deadline=None)
    @given(TEXTS)
    def equal(texts):
        check(tokenizer, texts, ours)

    equal()


@pytest.mark.parametrize("kind", BY_WORDS)
def test_every_character_beside_an_edge(kind):
    """All of the first planes' small scripts, every fragment beside every other, and a sample of what is above."""
    above = np.random.default_rng(0).integers(0x3100, 0x110000, 400)
    points = [*map(chr, range(0x3100)), *(chr(p) for p in above if not 0xD800 <= p < 0xE000)]
    tokenizer = BY_WORDS[kind]()
    texts = [f"a{c}b1{c}2 {c} '{c}a.{c}1\n{c}" for c in points]
    check(tokenizer, ["".join(texts[i : i + 256]) for i in range(0, len(texts), 256)])
    pairs = FRAGMENTS[:-2]
    check(tokenizer, ["".join(f"{a}{b}a{a}{b}1{b}" for b in pairs) for a in pairs])


def test_special_tokens_are_found_where_they_are_asked_for():
    """A trained vocabulary, too; a text that spells a special token must then not be cut."""
    tokenizer = make(byte_level(use_regex=True), model=models.BPE())
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator([Path(encoder.__file__).read_text()], trainer)
    tokenizer.add_special_tokens([END])
    for as_text in (True, False):
        tokenizer.encode_special_tokens = as_text
        check(tokenizer, [Path(__file__).read_text(), f"a{END}b", f"{END}{END[:-1]}"])
    assert tokenizer.encode(END).ids == [tokenizer.token_to_id(END)]


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "dropout", "padding", "custom"])
def test_whole_texts_where_words_will_not_do(kind):
    tokenizer = make(byte_level(use_regex=True))
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram([("?", -9.0), ("▁", -2.0), ("a", -3.0), ("▁a", -4.0)], unk_id=0))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece({"?": 0, "a": 1, "##b": 2}, unk_token="?"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    elif kind == "dropout":
        tokenizer.model = models.BPE({"a": 0}, [], dropout=0.5)
    elif kind == "padding":
        tokenizer.enable_padding()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(type("Mine", (), {"pre_tokenize": print})())
        assert not CachedEncoder(tokenizer).by_words
        return
    assert not CachedEncoder(tokenizer).by_words
    check(tokenizer, ["a ab", "", "Ab é  a\n", "a" * 50])


def test_long_texts_are_taken_in_spans(monkeypatch):
    monkeypatch.setattr(encoder, "SPAN", 40)
    monkeypatch.setattr(encoder, "BLOCK", 100)
    for kind in ("neox", "qwen-2", "llama-3"):
        check(BY_WORDS[kind](), ["".join(FRAGMENTS) * 3, "中" * 500, "", "word " * 200, "x" * 300 + TOOL + ".y" * 90])


def test_parts_end_at_edges_and_nowhere_else():
    text = "".join(FRAGMENTS) * 2
    edges = [edge.end() for edge in EDGE.finditer(text)]
    assert [text[i:j] for i, j in zip([0, *edges], [*edges, len(text)], strict=True)] == PART.findall(text)


def test_words_are_asked_for_once_and_forgotten_when_there_are_too_many():
    tokenizer = BY_WORDS["gpt-2"]()
    ours = CachedEncoder(tokenizer, memory=10_000)
    ours.encode(["one two one two " * 50])
    assert list(ours._number) == ["one", " two", " one", " "]
    ours.encode([" ".join(f"{i}x" for i in range(100))])
    assert not ours._number
    check(tokenizer, ["one two three"], ours)


def read_some(path: Path, num_chars: int) -> list[str]:
    """The texts (or else whole rows) at the beginning of a packed JSONL file, about so many characters of them."""
    found: list[str] = []
    with path.open("rb") as raw:
        opened = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else zstandard.ZstdDecompressor().stream_reader(raw)
        for line in io.TextIOWrapper(opened, "utf-8"):
            row = json.loads(line)
            found.append((row.get("text") or json.dumps(row, ensure_ascii=False))[:num_chars])
            if sum(map(len, found)) >= num_chars:
                break
    return found


def test_real_corpora(shared_data):
    """Law, code, medicine, novels, Chinese: the beginning of every corpus, with a real vocabulary of 50,000."""
    packed = gzip.decompress((shared_data / "tokenizers/gpt_neox_20b/tokenizer.json.gz").read_bytes())
    neox, llama = Tokenizer.from_str(packed.decode()), Tokenizer.from_str(packed.decode())
    llama.pre_tokenizer = pre_tokenizers.Sequence([split(PATTERNS["llama-3"]), byte_level()])
    texts = [path.read_text("utf-8", "replace")[:20_000] for path in sorted(shared_data.rglob("*.txt"))]
    for path in sorted(shared_data.rglob("*.jsonl.*")):
        texts += read_some(path, 15_000)
    for tokenizer in (neox, llama):
        tokenizer.encode_special_tokens = True
        assert CachedEncoder(tokenizer).by_words
        check(tokenizer, texts)
