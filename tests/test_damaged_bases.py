"""A base that cannot be opened is refused in words, before any work, whatever is wrong with its folder."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import call
from conftest import OTHER, WORDS, write_texts
from fork_server import run
from graft.core.config.errors import UsageError
from graft.core.models.base_model import EMBEDDED, Base
from graft.core.store.artifact import Store
from graft.models.checks import skeleton
from graft.models.checks.find_base import find_base

WEIGHTS = "model.safetensors"


def config(**changes: Any) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def header(change: Callable[[dict[str, Any]], object], *, more: bytes = b"") -> Callable[[Path], object]:
    """The header of the weights, changed; more: bytes behind the last weight."""

    def damage(folder: Path) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        found = json.loads(whole[8 : 8 + length])
        change(found)
        new = json.dumps(found).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + whole[8 + length :] + more)

    return damage


def entry(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["model.norm.weight"].__setitem__(key, value)


def index(**placed: Any) -> Callable[[Path], object]:
    """The weights behind an index that says where they are."""

    def damage(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        shutil.copy(folder / "part.safetensors", folder.parent / "outside.safetensors")
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": placed}))

    return damage


def folder_instead(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def pipe_instead(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        found = json.loads((folder / "tokenizer.json").read_text())
        change(found)
        (folder / "tokenizer.json").write_text(json.dumps(found))

    return damage


def emptied(found: dict[str, Any]) -> None:
    found["model"] |= {"vocab": {}, "merges": []}
    found["added_tokens"] = []
    found["post_processor"] = None


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    # (what was done, what is said)
    "a size in words": (config(hidden_size="big"), "hidden_size"),
    "a size as a list": (config(hidden_size=[192]), "hidden_size"),
    "no size": (config(hidden_size=0), "config.json"),
    "a size below nothing": (config(intermediate_size=-5), "intermediate_size is -5"),
    "a size that is no number": (config(vocab_size=None), "vocab_size"),
    "layers below nothing": (config(num_hidden_layers=-1), ""),
    "seven heads": (config(num_attention_heads=7), "heads"),
    "no heads": (config(num_attention_heads=0), ""),
    "an unknown activation": (config(hidden_act="nope"), "nope"),
    "an unknown rope": (config(rope_parameters={"rope_type": "zzz", "rope_theta": 1e4}), "zzz"),
    "a rope without numbers": (config(rope_parameters={"rope_type": "yarn"}), ""),
    "another type": (config(model_type="gpt2"), ""),
    "a type that is unknown": (config(model_type="llamazine"), "llamazine"),
    "a type that is a list": (config(model_type=["llama"]), ""),
    "no type": (config(model_type=None), ""),
    "an architecture that is a number": (config(architectures=5), ""),
    "100,000 layers": (config(num_hidden_layers=100_000), "the weight files hold"),
    "ten billion words": (config(vocab_size=10**10), "the weight files hold"),
    "a size beyond all numbers": (config(intermediate_size=10**30), ""),
    "a million experts": (config(model_type="mixtral", num_local_experts=10**6), ""),
    "another size": (config(hidden_size=384, head_dim=64), "[8192, 192], not [8192, 384]"),
    "a configuration that says nothing": (text("config.json", "{}"), "says nothing"),
    "a configuration that is a list": (text("config.json", "[1, 2]"), "no object"),
    "a configuration cut off": (text("config.json", '{"model_type": "lla'), "config.json:1"),
    "brackets without end": (text("config.json", "[" * 100_000), "config.json"),
    "a number of 5,000 digits": (text("config.json", '{"vocab_size": ' + "9" * 5000 + "}"), "config.json"),
    "a folder for a configuration": (folder_instead("config.json"), "this is no file"),
    "a pipe for a configuration": (pipe_instead("config.json"), "this is no file"),
    "a folder for weights": (folder_instead(WEIGHTS), "this is no file"),
    "a pipe for weights": (pipe_instead(WEIGHTS), "this is no file"),
    "a pipe for a tokenizer": (pipe_instead("tokenizer.json"), "this is no file"),
    "weights of nothing": (text(WEIGHTS, ""), "broken"),
    "weights of rubbish": (text(WEIGHTS, "x" * 1000), "broken"),
    "a header longer than the file": (lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64), "broken"),
    "bytes behind the weights": (header(lambda found: None, more=b"more"), "broken"),
    "an offset beyond all numbers": (header(entry("data_offsets", [0, 1e400])), "broken"),
    "an offset below nothing": (header(entry("data_offsets", [-8, 0])), "broken"),
    "offsets the wrong way": (header(entry("data_offsets", [384, 0])), "broken"),
    "a shape below nothing": (header(entry("shape", [-192])), "broken"),
    "a shape beyond its bytes": (header(entry("shape", [10**12])), "broken"),
    "a shape that is no list": (header(entry("shape", 192)), "broken"),
    "a type of no kind": (header(entry("dtype", "F31")), "broken"),
    "weights that lie on each other": (header(entry("data_offsets", [0, 384])), "broken"),
    "a weight that is missing": (header(lambda found: found.pop("model.norm.weight")), "broken"),
    "no weights": (lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2) + b"{}"), "no weights"),
    "an index to the outside": (index(**{"model.norm.weight": "../outside.safetensors"}), "no file of this folder"),
    "an index to an absolute path": (index(**{"model.norm.weight": "/etc/passwd"}), "no file of this folder"),
    "an index of numbers": (index(**{"model.norm.weight": 5}), "no file of this folder"),
    "an index to nothing": (index(**{"model.norm.weight": "other.safetensors"}), "missing"),
    "an index of nothing": (index(), "weight_map"),
    "a tokenizer of rubbish": (text("tokenizer.json", "{}"), "tokenizer"),
    "a tokenizer of no words": (tokenizer(emptied), "vocabulary"),
    "a tokenizer of another type": (tokenizer(lambda found: found["model"].update(type="Magic")), "tokenizer"),
    "marks that are no tokens": (text("tokenizer_config.json", '{"eos_token": 5, "bos_token": ["a"]}'), ""),
    "a map of marks that is a list": (text("special_tokens_map.json", "[]"), "no object"),
    "an end beyond the model": (config(eos_token_id=10**9), "eos_token_id"),
    "an end in words": (config(eos_token_id="end"), "eos_token_id"),
    "generation that is a list": (text("generation_config.json", "[1]"), "no object"),
}
HARMLESS = ("an architecture that is a number", "marks that are no tokens")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return shutil.copytree(EMBEDDED["embedded"], tmp_path / "base")


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in HARMLESS])
def test_it_is_refused_in_words(base, tmp_path, damage):
    done, said = DAMAGES[damage]
    done(base)
    with pytest.raises(UsageError) as caught:
        find_base(str(base), Store(tmp_path / "store"))
    assert said in str(caught.value) and str(base) in str(caught.value)


@pytest.mark.parametrize("damage", HARMLESS)
def test_what_does_not_matter_is_passed_over(base, tmp_path, damage):
    DAMAGES[damage][0](base)
    assert find_base(str(base), Store(tmp_path / "store")).marks.end == 0


def adapted(base: Path, top: Path, verb: str, *more: object) -> Any:
    texts = write_texts(top / "domain", WORDS, 20, seed=1), write_texts(top / "general", OTHER, 20, seed=2)
    words = ["adapt", base, "--domain", texts[0], "--general", texts[1], "--tokens", "1k", "--out", top / "out"]
    return call(
        *words, "--store", top / "store", "--set", "train.batch_size=2", *([verb] if verb else []), *more, cwd=top
    )


@pytest.mark.parametrize("verb", ["", "--plan"])
@pytest.mark.parametrize("damage", ["seven heads", "an unknown activation", "100,000 layers", "another size"])
def test_plans_and_jobs_say_it_before_any_work(base, tmp_path, damage, verb):
    DAMAGES[damage][0](base)
    ended = adapted(base, tmp_path, verb)
    assert ended.returncode == 2 and DAMAGES[damage][1] in ended.stderr and "Traceback" not in ended.stderr
    assert not list((tmp_path / "store").glob("docs-*"))


@pytest.mark.parametrize("type_", ["llamazine", "llama"])
def test_code_that_comes_with_a_model_is_never_run(base, forks, tmp_path, type_):
    """Of an unknown type it would be asked for on the terminal; of a known one the library's own is taken."""
    ran = tmp_path / "ran"
    (base / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass Theirs: ...\n")
    mapped = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "code.Theirs")
    config(model_type=type_, auto_map=mapped)(base)
    (base / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["code.Theirs", None]}}))
    words = ["adapt", base, "--domain", "embedded:code", "--plan", "--store", tmp_path / "store"]
    ended = run(
        [sys.executable, "-m", "graft", *words],
        input="y\n" * 9, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert not ran.exists() and "Traceback" not in ended.stderr
    assert ended.returncode == (2 if type_ == "llamazine" else 0), ended.stderr
    if type_ == "llamazine":
        assert "never run" in ended.stderr


def test_it_is_looked_at_once_for_each_content(base, tmp_path, monkeypatch):
    looks: list[Base] = []
    monkeypatch.setattr(skeleton, "check_base", looks.append)
    for _ in range(2):
        find_base(str(base), Store(tmp_path / "store"))
    assert len(looks) == 1
    config(initializer_range=0.5)(base)
    find_base(str(base), Store(tmp_path / "store"))
    assert len(looks) == 2
