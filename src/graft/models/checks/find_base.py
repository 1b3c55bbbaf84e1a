"""find base: the model that a job starts from, looked at before any work: what cannot be opened later is said now."""

from __future__ import annotations

from importlib.metadata import version

from graft.core.models.base_model import EMBEDDED, Base
from graft.core.store.artifact import Store
from graft.core.store.fingerprints import Unread


def find_base(name: str, store: Store) -> Base:
    """The base of this name, once a model has been built, without memory, from what its files say.

    That it fits is remembered in the store, by content, so that torch is loaded for it once. Of a model that is still
    on the hub, for a plan, nothing but its configuration is looked at. Raises: as `Base.find`, and UsageError where no
    model can be made of the folder (see graft.models.checks.skeleton).
    """
    base = Base.find(name, weights=store.may_fetch, local_only=not store.may_fetch)
    _ = base.marks  # reads the tokenizer
    if base.hub or base.folder in EMBEDDED.values():
        return base
    prints = store.prints
    try:
        known = f"{base.fingerprint(prints)} is built by transformers {version('transformers')}"
    except Unread:
        known = ""
    if not prints.holds(known):
        from graft.models.checks.skeleton import check_base

        check_base(base)
        if known:
            prints.note(known)
    return base
