"""Parts of a model by name: what people write in settings, and which modules and weights that means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from graft.core.config.errors import UsageError, nearest


def fits(name: str, pattern: str) -> bool:
    """Whether `pattern` is a run of whole parts of a dotted name; * and ? stand for any letters, dots among them.

    "q_proj" and "layers.1" fit model.layers.1.self_attn.q_proj, and "layers.1" does not fit model.layers.11.
    """
    return fnmatchcase(f".{name}.", f"*.{pattern}.*")


def chosen(patterns: Sequence[str], names: Iterable[str], *, where: str, what: str) -> list[str]:
    """The names that fit one of the patterns, in their order. Errors: UsageError for a pattern that fits none.

    where, what: of the error: the setting the patterns came from, and what the names are names of.
    """
    known = list(names)
    for pattern in patterns:
        if not any(fits(name, pattern) for name in known):
            raise unknown(pattern, known, where=where, what=what)
    return [name for name in known if any(fits(name, pattern) for pattern in patterns)]


def unknown(pattern: str, names: Sequence[str], *, where: str, what: str) -> UsageError:
    """The error for a pattern that fits none of the names, with the nearest of their parts."""
    parts = list(dict.fromkeys(part for name in names for part in name.split(".") if not part.isdigit()))
    shown = ", ".join(parts[:16]) + (" ..." if len(parts) > 16 else "")
    return UsageError(
        f'"{pattern}" fits none of the {len(names)} {what} of this model',
        where=where,
        allowed=f"a name, a run of whole parts of one, or a pattern with * and ?; parts there are: {shown}",
        do=nearest(pattern, [*parts, *names]) or "look at the names that transformers prints for the model",
    )


def names_of(hf: nn.Module) -> dict[nn.Parameter, list[str]]:
    """Every weight with all its names: a tied one, or one of a module that stands in two places, has several."""
    found: dict[nn.Parameter, list[str]] = {}
    for name, parameter in hf.named_parameters(remove_duplicate=False):
        found.setdefault(parameter, []).append(name)
    return found


def weights_named(hf: nn.Module, patterns: Sequence[str], *, where: str) -> list[nn.Parameter]:
    """The weights of which a name fits one of the patterns. Errors: UsageError for a pattern that fits none."""
    spelled = {name: parameter for parameter, names in names_of(hf).items() for name in names}
    return list(dict.fromkeys(spelled[name] for name in chosen(patterns, spelled, where=where, what="weights")))
