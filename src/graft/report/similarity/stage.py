"""The answer as a page: made once per answer, and handed over where nothing but an earlier page of ours is replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.config.errors import UsageError
from graft.core.store.artifact import Artifact, Draft, Store
from graft.core.store.publish import check_out, put_out

if TYPE_CHECKING:
    from graft.evaluation.similarity.query import Similarity

SUFFIXES = (".html", ".htm")
PAGE = "report.html"


def check_page(path: Path, request: Similarity) -> None:
    """Errors: UsageError where the page could not be put; to be asked before any work is done. Writes nothing."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError("this is no name of a page", where=f"--page {path}", allowed="a file that ends in .html")
    with _in_words_of(path):
        check_out(path.parent, [path.name], base=request.model, sources=[*request.texts, *request.to])


def write_page(path: Path, request: Similarity, told: Mapping[str, Any], store: Store) -> None:
    """Kind "similarity" holds the page; it is copied to `path`. Raises: as `put_out` does."""
    page = _made(request, told, store) / PAGE
    with _in_words_of(path):
        put_out(path.parent, {path.name: page})


def _made(request: Similarity, told: Mapping[str, Any], store: Store) -> Artifact:
    from graft.scaling.queries.words import json_text

    answer = hashlib.blake2b(json_text(told).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    inputs: dict[str, Artifact | str] = {"answer": answer}
    inputs |= {f"likeness {one['text']}": store.get(one["artifact"]) for one in told["texts"]}
    inputs |= {f"run {one['run']}": store.get(one["report"]) for one in told["runs"]}
    return store.make("similarity", request, inputs, __name__, lambda draft: _build(draft, told))


def _build(draft: Draft, told: Mapping[str, Any]) -> None:
    from graft.report.similarity.page import render_likened

    (draft / PAGE).write_text(render_likened(told), encoding="utf-8")


@contextmanager
def _in_words_of(path: Path) -> Generator[None]:
    """Refusals name --page, not the folder of results that other verbs have."""
    try:
        yield
    except UsageError as error:
        raise UsageError(error.what, where=f"--page {path}", allowed=error.allowed, do="choose another file") from error
