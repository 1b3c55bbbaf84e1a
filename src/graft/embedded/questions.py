"""Dialogues made of docstrings: a question about a function or class, and what its own docstring opens with."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graft.embedded.docstrings import opening


@dataclass(frozen=True)
class DocstringQuestion:
    """A question and its answer. name: of what is asked about, within its module. is_class: a class, not a function."""

    name: str
    is_class: bool
    question: str
    answer: str


def asked_of(content: bytes, module: str) -> Iterator[DocstringQuestion]:
    """One for every public function, method and class that says in its first paragraph what it is for, in file order.

    module: its dotted name. Left out: what is defined inside a function or under a condition. Errors: SyntaxError and
    ValueError where it is no Python.
    """
    waiting: list[tuple[str, ast.stmt]] = [("", node) for node in reversed(ast.parse(content).body)]
    while waiting:
        within, node = waiting.pop()
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        name, is_class = within + node.name, isinstance(node, ast.ClassDef)
        if is_class:
            waiting += [(f"{name}.", inner) for inner in reversed(node.body)]
        answer = opening(ast.get_docstring(node, clean=False) or "")
        if answer:
            question = f"What is `{module}.{name}`?" if is_class else f"What does `{module}.{name}` do?"
            yield DocstringQuestion(name, is_class, question, answer)


def pairs_of(asked: Iterable[DocstringQuestion]) -> Iterator[tuple[DocstringQuestion, str]]:
    """(question with its answer, a wrong answer), from the questions of one module.

    Functions are taken two by two, and so are classes. Of each two one is asked about, in turn the first and the
    second, and the other's answer is the wrong one. So no answer is in two pairs: nothing but its fit to the question
    tells a right one from a wrong one, and no pair tells about another.
    """
    both = list(asked)
    for kind in (False, True):
        alike = [one for one in both if one.is_class == kind]
        for number, (first, second) in enumerate(zip(alike[::2], alike[1::2], strict=False)):
            right, wrong = (second, first) if number % 2 else (first, second)
            yield right, wrong.answer
