"""The base: what is found under a name, what its files say, and every way in which they can be wrong."""

from __future__ import annotations

import http.server
import json
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from graft.core.config.errors import UsageError
from graft.core.models.base_model import EMBEDDED, TOKENIZER_FILES, Base
from graft.core.models.weight_files import weight_entries
from graft.core.store.artifact import Artifact
from graft.core.store.fingerprints import Fingerprints

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14000000000\n"
VOCABULARY = {"a": 0, "b": 1, "ab": 2, "<|end|>": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with everything in it."""
    top = tmp_path / "model"
    top.mkdir()
    (top / "config.json").write_text(json.dumps({"model_type": "gpt2", "eos_token_id": 3, "n_positions": 32}))
    Tokenizer(models.BPE(VOCABULARY, [("a", "b")])).save(str(top / "tokenizer.json"))
    save_file({"w": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, top / "model.safetensors")
    return top


def said(error: pytest.ExceptionInfo[UsageError], *words: str) -> None:
    for word in words:
        assert word in str(error.value), f"{word!r} is not said in:\n{error.value}"
    assert error.value.exit_code == 2


def test_a_whole_folder_is_read(folder: Path) -> None:
    base = Base.find(str(folder))
    assert (base.num_parameters, base.window, base.marks.end) == (17, 32, 3)
    assert base.origin == str(folder) and Base.find("embedded").origin == "embedded"


def test_the_weights_that_count_are_those_that_are_loaded(folder: Path) -> None:
    """Copies beside them (fp16, an adapter, another form) are neither counted nor part of the identity."""
    prints = Fingerprints(folder.parent / "memory.json")
    alone = Base.find(str(folder)).fingerprint(prints)
    save_file({"w": np.zeros(100, np.float32)}, folder / "consolidated.safetensors")
    base = Base.find(str(folder))
    assert base.num_parameters == 17 and base.fingerprint(prints) == alone
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    save_file({"v": np.zeros(3, np.float32)}, folder / "model-00002-of-00002.safetensors")
    placed = {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    base = Base.find(str(folder))
    assert [path.name for path in base.weight_files] == sorted(placed.values()) and base.num_parameters == 20
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError) as error:
        Base.find(str(folder))
    said(error, "1 of 2 weight files are missing", "model-00002-of-00002.safetensors", "index.json")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UsageError, match='the index has no "weight_map"'):
        Base.find(str(folder))
    (folder / "model.safetensors.index.json").unlink()
    assert Base.find(str(folder)).num_parameters == 117


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LFS, ["pointer of git-lfs", "git lfs pull"]),
        (b"", ["no safetensors header"]),
        (b"abc", ["no safetensors header"]),
        (struct.pack("<Q", 1 << 62) + b"{}", ["no safetensors header"]),
        (struct.pack("<Q", 90_000_000) + b"{}", ["no safetensors header"]),
        (struct.pack("<Q", 4) + b'{"a"', ["cannot be read"]),
        (struct.pack("<Q", 4) + b"\xff\xff\xff\xff", ["cannot be read"]),
        (struct.pack("<Q", 8) + b'{"a":[]}', ["cannot be read"]),
        (struct.pack("<Q", 2) + b"{}", ["the weight files hold no weights"]),
    ],
)
def test_a_weight_file_that_is_none_is_named(folder: Path, content: bytes, words: list[str]) -> None:
    (folder / "model.safetensors").write_bytes(content)
    started = time.process_time()
    with pytest.raises(UsageError) as error:
        Base.find(str(folder))
    said(error, str(folder), *words)
    assert time.process_time() - started < 1


def test_weights_that_were_cut_off_are_named(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UsageError) as error:
        Base.find(str(folder))
    said(error, "model.safetensors", f"it has {len(whole) - 1} bytes of {len(whole)}", "download or save it again")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "training.json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{\n "a": 1,\n}', [":3:1", "no JSON"]),
        (b"[1]", ["no object"]),
        (b'"\xff"', ["UTF-8"]),
        (LFS, ["no JSON", "git lfs pull"]),
    ],
)
def test_broken_json_is_named_with_its_place(folder: Path, name: str, content: bytes, words: list[str]) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError) as error:
        base = Base.find(str(folder))
        assert base.marks and base.training_notes
    said(error, str(folder / name), *words)


def test_a_config_that_says_nothing_of_use(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="the config says nothing"):
        Base.find(str(folder))
    (folder / "config.json").write_text(json.dumps({"text_config": None, "n_positions": "many", "n_ctx": 16}))
    assert Base.find(str(folder)).window == 16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", ["no base model"]),
        ("embeded", ['did you mean "embedded"']),
        ("gpt2", ['did you mean "openai-community/gpt2"']),
        ("GPT2-XL", ['did you mean "openai-community/gpt2-xl"']),
        ("my model", ["no base model", "owner/name"]),
        ("my org/my model", ["no base model", "owner/name"]),
        ("a--b/c", ["no base model"]),
        ("x" * 300, ["no base model"]),
        ("owner/" + "x" * 300, ["no base model"]),
        ("modle", ['did you mean "model"']),
        ("./modle", ["no such folder", 'did you mean "model"']),
        ("kept/modle", ["no such folder", 'did you mean "model"', "no local folder `owner`"]),
        ("kept/deeper/x", ["no such folder", "relative to"]),
        ("~no-such-user/x", ["no such folder"]),
        ("model/config.json", ["a file, and a base model is a folder"]),
    ],
)
def test_a_name_that_leads_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "kept" / "model").mkdir(parents=True)
    with pytest.raises(UsageError) as error:
        Base.find(name)
    said(error, *words)


def test_the_tokenizer_is_read_late_and_said_to_be_broken(folder: Path) -> None:
    for content, words in ((b'{"model": 1', "cannot be read"), (LFS, "git lfs pull")):
        (folder / "tokenizer.json").write_bytes(content)
        base = Base.find(str(folder))
        with pytest.raises(UsageError) as error:
            _ = base.tokenizer
        said(error, str(folder / "tokenizer.json"), words)


@pytest.mark.parametrize("name", list(TOKENIZER_FILES))
def test_every_file_of_a_tokenizer_is_part_of_a_model(folder: Path, name: str) -> None:
    prints = Fingerprints(folder.parent / "memory.json")
    before, shards = Base.find(str(folder)).fingerprint(prints), Base.find(str(folder)).tokenizer_fingerprint(prints)
    (folder / name).write_text((folder / name).read_text() + "\n" if (folder / name).exists() else "{}")
    assert Base.find(str(folder)).fingerprint(prints) != before
    # ... and of token shards only where it decides an id, so that a chat template does not cost a second tokenization
    changed = Base.find(str(folder)).tokenizer_fingerprint(prints) != shards
    assert changed == (name == "tokenizer.json")


def write_old_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: i for i, letter in enumerate(sorted(letters))} | {"ab": 256, "<|endoftext|>": 257}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")


def test_an_old_vocabulary_is_converted(folder: Path) -> None:
    write_old_vocabulary(folder)
    base = Base.find(str(folder))
    assert base.tokenizer.encode("abba").tokens == ["ab", "b", "a"]
    prints = Fingerprints(folder.parent / "memory.json")
    before = base.tokenizer_fingerprint(prints)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert Base.find(str(folder)).tokenizer_fingerprint(prints) != before


@pytest.mark.parametrize("config", [{"model_type": "nobody knows"}, {"model_type": "llama"}])
def test_a_vocabulary_that_cannot_be_converted_says_what_to_do(folder: Path, config: dict) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\x00not a model")
    (folder / "config.json").write_text(json.dumps(config))
    base = Base.find(str(folder))
    with pytest.raises(UsageError) as error:
        _ = base.tokenizer
    said(error, "no fast tokenizer of tokenizer.model", "pip install sentencepiece", "tokenizer.json")


def test_looking_at_a_base_takes_no_time(tmp_path: Path) -> None:
    """A large vocabulary and many tensors: neither is read whole before it is needed."""
    folder = shutil.copytree(EMBEDDED["embedded"], tmp_path / "model")
    save_file({f"layers.{i}.w": np.zeros(2, np.float32) for i in range(400)}, folder / "model.safetensors")
    vocabulary = {f"word{i}": i for i in range(250_000)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary}}))
    fastest = 1.0
    for _ in range(5):
        started = time.thread_time()
        Base.find(str(folder))
        fastest = min(fastest, time.thread_time() - started)
    assert fastest < 0.05


def test_a_model_in_a_store_is_known_by_its_artifact(folder: Path, tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "store" / "train-0123456789ab")
    artifact.path.mkdir(parents=True)
    folder.rename(artifact / "model")
    (artifact / "manifest.json").write_text("{}")
    assert Base(artifact.name, artifact / "model").origin == artifact.name
    assert Base.find(str(artifact / "model")).origin == artifact.name


def test_headers_of_real_weights() -> None:
    entries = weight_entries(EMBEDDED["embedded"] / "model.safetensors")
    from safetensors import safe_open

    with safe_open(EMBEDDED["embedded"] / "model.safetensors", "np") as stored:
        assert {name: stored.get_slice(name).get_shape() for name in stored.keys()} == {  # noqa: SIM118
            name: shape for name, (_, shape) in entries.items()
        }


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FROM_HUB = """
import json, sys
from pathlib import Path
from graft.core.models.base_model import Base
from graft.core.config.errors import GraftError
from graft.core.store.fingerprints import Fingerprints, Unread
try:
    base = Base.find(sys.argv[1], **json.loads(sys.argv[2]))
    print(json.dumps([base.num_parameters, base.origin, base.marks.end, sorted(p.name for p in base.folder.iterdir())]))
    base.fingerprint(Fingerprints(Path(sys.argv[3])))
    print(json.dumps("known"))
except GraftError as error:
    print(json.dumps([type(error).__name__, str(error)]))
except Unread as error:
    print(json.dumps("unread"))
"""


@pytest.fixture
def hub(folder: Path):
    """As much of the hub's interface as fetching a model needs: the folder, and things that nobody wants."""
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "consolidated.safetensors").write_bytes(b"the same again")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"the same again")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    asked: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path}")
            name = path.split("/resolve/")[-1].partition("/")[2]
            if path.startswith("/api/models/me/mine/tree"):
                tree = [{"type": "file", "oid": "e" * 40, "size": len(c), "path": p} for p, c in files.items()]
                self.answer(json.dumps(tree).encode())
            elif path.startswith("/api/models/me/mine"):
                siblings = [{"rfilename": name} for name in files]
                self.answer(json.dumps({"id": "me/mine", "sha": COMMIT, "siblings": siblings}).encode())
            elif path.startswith("/me/mine/resolve/") and name in files:
                first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
                part = files[name][int(first) : int(last) + 1 if last else None]
                self.answer(part, {"ETag": f'"{len(name)}"', "X-Repo-Commit": COMMIT})
            elif path.startswith("/me/mine/"):
                self.answer(b"", {"X-Error-Code": "EntryNotFound"}, 404)
            else:
                self.answer(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

        def answer(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            del args

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def from_hub(name: str, endpoint: str, tmp_path: Path, environment: dict[str, str] | None = None, **how: bool) -> list:
    known = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": ":".join(sys.path)}
    known |= {"HF_HUB_DISABLE_XET": "1", "PATH": "/usr/bin:/bin", "no_proxy": "*"} | (environment or {})
    command = [sys.executable, "-c", FROM_HUB, name, json.dumps(how), str(tmp_path / "memory.json")]
    ran = subprocess.run(
        command, env=known, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path / "hf"
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.strip().splitlines()]


def test_a_model_of_the_hub(tmp_path: Path, hub) -> None:
    endpoint, asked = hub
    (tmp_path / "hf").mkdir()
    assert from_hub("me/mine", endpoint, tmp_path, local_only=True, weights=False) == ["unread"]
    assert not asked
    few = ["chat_template.jinja", "config.json", "tokenizer.json"]
    first, unread = from_hub("me/mine", endpoint, tmp_path, weights=False)
    assert first == [17, "me/mine", 3, few] and unread == "unread"
    read = [line for line in asked if line.startswith("GET") and line.endswith(".safetensors")]
    assert len(read) >= 1 and not list((tmp_path / "hf").rglob("model.safetensors"))  # its header, not the file
    whole, known = from_hub("me/mine", endpoint, tmp_path)
    assert whole == [17, "me/mine", 3, sorted([*few, "model.safetensors"])] and known == "known"
    asked.clear()
    assert from_hub("me/mine", endpoint, tmp_path, local_only=True) == [whole, known] and not asked
    [[kind, words]] = from_hub("me/other", endpoint, tmp_path)
    assert kind == "UsageError" and 'no model "me/other"' in words and "hf auth login" in words


@pytest.mark.parametrize(
    ("environment", "words"),
    [({}, ["check the network", "ConnectError"]), ({"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE is set", "unset"])],
)
def test_without_a_network_it_is_said_in_one_line(tmp_path: Path, environment: dict, words: list[str]) -> None:
    (tmp_path / "hf").mkdir()
    for how in ({}, {"weights": False}):
        [[kind, message]] = from_hub("me/mine", "http://127.0.0.1:9", tmp_path, environment, **how)
        assert kind == "FaultError" and 'cannot fetch the model "me/mine"' in message
        assert all(word in message for word in words) and len(message.splitlines()) == 2, message


def test_an_encoder_is_read_with_its_own_marks_and_its_own_window(tmp_path):
    """RoBERTa numbers its positions from behind the pad id, and BERT calls the end of a text a separator."""
    from tokenizers import Tokenizer, models, processors

    folder = tmp_path / "encoder"
    folder.mkdir()
    words = Tokenizer(models.WordLevel({"[CLS]": 0, "[PAD]": 1, "[SEP]": 2, "a": 3}, unk_token="a"))
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    words.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}')
    (folder / "tokenizer_config.json").write_text('{"cls_token": "[CLS]", "sep_token": "[SEP]"}')
    base = Base("encoder", folder)
    assert base.window == 512 and (base.marks.start, base.marks.end) == (0, 2)
