"""What many tests need: hand-made token shards, and a tiny model made by the project's own stages."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import typer.testing

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["GRAFT_PRECISION"] = "fp32"  # the same numbers on every processor, and fast on all of them
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import fork_server
from graft.core.models.base_model import Base
from graft.core.store.artifact import Artifact, Store
from graft.core.tokens.token_shards import TokenSource
from graft.data.curate import curate
from graft.data.ingest import ingest
from graft.data.tokenize import tokenize
from graft.surgery.initialize import Initialize, initialize

pytest_plugins = ("meter",)
# Typer builds all commands anew for every call, from the same functions: more than half of what a refusal costs.
typer.main.get_command = typer.testing._get_command = functools.cache(typer.main.get_command)

SHARED = Path(os.environ.get("GRAFT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


# Tests of one file run in one process, so that they share what they make. What takes longest starts first, so that no
# process is left alone with it at the end.
FIRST = (
    "test_recipes",
    "test_parallel",
    "browser",
    "test_stream",
    "test_train",
    "test_why",
    "test_fitting",
    "test_eval",
)
FIRST += ("test_budget", "test_tunings", "test_similarity", "test_code_identity", "test_families", "test_versus")
FIRST += ("test_verify_resume", "test_recall", "test_law_cli", "test_cli", "test_embedded_text", "test_soak")


# Whole jobs, command lines and processes: left out of `make quick`, as single tests are that are marked slow.
SLOW = set("parallel verify_resume branch cli law_cli why versus overview embedded_text eval budget recall".split())
SLOW |= set("encoder similarity extend consult pretrain denoise masked stream range_test".split())
SLOW |= set("families bad_files bombs damaged_bases fuzz code_identity fitting".split())


def group_of(nodeid: str) -> str:
    path = Path(nodeid.partition("::")[0])
    return "browser" if path.parent.name == "browser" else path.stem


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "soak" not in config.getoption("markexpr"):  # minutes of them: only for who asks
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker("slow")
    found = {item: group_of(item.nodeid) for item in items}
    items.sort(key=lambda item: FIRST.index(found[item]) if found[item] in FIRST else len(FIRST))


@pytest.hookimpl(optionalhook=True)  # there is none without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By group; under pytest 9.2 the --dist loadgroup of pytest-xdist 3.8 does nothing: names of nodes are fixed."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)


@pytest.fixture(scope="session")
def forks() -> Iterator[None]:
    """A fork server stands ready: a fixture, so that no test is charged with its imports."""
    if fork_server.POSSIBLE:
        fork_server.server.begin()
    yield
    fork_server.server.end()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora that no user has: tests that need them say so and are skipped without them."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the corpora under {SHARED} (or $GRAFT_DATA)")
    return SHARED


def write_source(folder: Path, name: str, lengths: list[int], *, split: int = 0, first_token: int = 10) -> TokenSource:
    """Hand-made shards: document d holds first_token + 1000 d + 0, 1, 2 ..., so that every token is its own name.

    lengths: stored tokens of each document (pairs + 1).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.json").write_text(json.dumps({"dtype": "uint32", "start": 0, "end": 0}))
    tokens = [first_token + 1000 * d + np.arange(length) for d, length in enumerate(lengths)]
    np.concatenate([np.zeros(0, np.int64), *tokens]).astype("uint32").tofile(folder / f"{name}-00000.bin")
    np.savez(
        folder / f"{name}-00000.npz",
        length=np.array(lengths, np.int64),
        split=np.full(len(lengths), split, np.int8),
        num_bytes=np.array(lengths, np.int64) * 4,
        position=np.arange(len(lengths), dtype=np.int64),
    )
    return TokenSource(folder, name)


WORDS = "the court of law shall hear a case and then the judge may rule on every claim that is made before it".split()
OTHER = "we walked by the sea in summer while birds sang above us and children played with sand near boats".split()


def write_texts(folder: Path, words: list[str], count: int, seed: int) -> Path:
    """`count` files of made-up sentences; no two alike."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        lines = [" ".join(draw.choice(words, 9)) + "." for _ in range(int(draw.integers(4, 30)))]
        (folder / f"{i:03}.txt").write_text("\n".join(lines))
    return folder


@dataclass(frozen=True)
class World:
    """Two small bodies of text, a tiny untrained base that can read them, and the store they stand in."""

    store: Store
    domain: Path
    general: Path
    base: Base
    corpus: Artifact
    tokens: Artifact

    def bind(self, objective: Any, precision: str = "fp32", *, names: Sequence[str] = ("domain", "general")) -> Any:
        """The loss of an objective that starts from the tiny base; other models are opened by their folder."""
        from graft.data.tokenize import sources
        from graft.models.files.weights import open_model
        from graft.training.contract import Start

        start = Start(self.base, sources(self.tokens), list(names), window=64, micro_rows=4, seed=0)
        return objective.bind(start, lambda name: open_model(Path(name or self.base.folder), precision, frozen=True))


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """Made once by the project's own stages, on real files."""
    return make_world(tmp_path_factory.mktemp("world"))


def make_world(root: Path) -> World:
    """The small world in a folder."""
    store = Store(root / "store")
    domain = write_texts(root / "domain", WORDS, 120, seed=1)
    general = write_texts(root / "general", OTHER, 120, seed=2)
    docs = {
        "domain": ingest([str(domain)], "domain", store=store),
        "general": ingest([str(general)], "general", store=store),
    }
    corpus = curate(docs, store=store)
    tiny = Initialize(vocabulary=320, width=32, layers=2, heads=2, feed_forward=64, window=64)
    begun = initialize(corpus, tiny, store=store)
    base = Base("tiny", begun / "model")
    return World(store, domain, general, base, corpus, tokenize(corpus, base, store=store))
