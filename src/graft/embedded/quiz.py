"""Questions with four answers made of the standard library's docstrings: a suite that every installation has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graft.embedded.questions import DocstringQuestion, asked_of
from graft.embedded.text import Embedded

NAME = "embedded:quiz"
CHOICES = 4


def identity() -> str:
    """The versions that decide the questions, and the modules that are there of them."""
    text = Embedded.named("embedded:questions")
    return f"{text.identity}; {text.extent}"


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """(module, a row with query, choices and gold), in reading order.

    Functions of one module are taken four by four, and so are its classes. Of each four one is asked about, the first
    of the first four, the second of the second and so on in turn; the openings of all four docstrings are the choices.
    No docstring is in two questions, so that nothing but its fit tells the right one.
    """
    known: set[str] = set()
    for module in Embedded.named("embedded:questions").modules:
        name = module.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        try:
            asked = list(asked_of(module.path.read_bytes(), name))
        except (SyntaxError, ValueError):  # kept in the library as an example of what is wrong
            continue
        fresh: list[DocstringQuestion] = []
        for one in asked:
            if one.answer not in known:
                known.add(one.answer)
                fresh.append(one)
        for kind in (False, True):
            alike = [one for one in fresh if one.is_class == kind]
            for number in range(len(alike) // CHOICES):
                four, gold = alike[CHOICES * number : CHOICES * (number + 1)], number % CHOICES
                yield (
                    module.name,
                    {
                        "id": f"{name}.{four[gold].name}",
                        "query": four[gold].question,
                        "choices": [one.answer for one in four],
                        "gold": gold,
                    },
                )
