"""How many tokens a family of transformers reads, as its own classes name it. Their sources are read and not run, so
that planning loads no torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What configurations call the number of tokens or positions; none of what stands before them (vision_..., t2u_...).
NUMBER = re.compile(
    r"^(max_(position_embeddings|positions?|seq(uence)?(_len(gth)?)?)|n_positions|n_ctx|seq(uence)?_len(gth)?)$"
)
# A table that keeps a row for the pad id, and begins to count behind it.
BEHIND_PAD = re.compile(
    r"Embedding\(\s*config\.max_position_embeddings,\s*config\.hidden_size,\s*(padding_idx=)?self\.padding_idx"
)
TABLE = re.compile(r"(^|[._])(wpe|position_embeddings?)\.weight$")
UNKNOWN = 2048


@dataclass(frozen=True)
class ModelFamily:
    """A model type of the installed transformers. numbers: defaults of the fields that may say how much it reads."""

    numbers: Mapping[str, int] = field(default_factory=dict[str, int])
    pad: int | None = None
    behind_pad: bool = False


def window_of(config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> int:
    """The longest row a model can read, in tokens. shapes: of its stored weights, for types that nobody knows."""
    family = family_of(str(config.get("model_type")))
    named = [*family.numbers, *(key for key in config if NUMBER.match(str(key)))]
    found = next((size for key in named if (size := _size(config.get(key)))), None)
    size = found or next(iter(family.numbers.values()), None)
    if size is None:
        return min((shape[0] for name, shape in shapes.items() if TABLE.search(name) and shape), default=UNKNOWN)
    if not family.behind_pad:
        return size
    pad = config.get("pad_token_id", family.pad)
    return size - (pad if type(pad) is int else 0) - 1


def _size(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


@lru_cache(maxsize=64)
def family_of(model_type: str) -> ModelFamily:
    """What the classes of a model type say; empty where the installed transformers has no such type."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None or not re.fullmatch(r"[\w.-]+", model_type):
        return ModelFamily()
    models = Path(spec.origin).parent / "models"
    likely = models / model_type.replace("-", "_")
    pattern = re.compile(rf'^    model_type(: \w+)? = "{re.escape(model_type)}"$', re.MULTILINE)
    files = [*sorted(likely.glob("configuration_*.py")), *sorted(models.glob("*/configuration_*.py"))]
    for path in files:
        if pattern.search(text := path.read_text(encoding="utf-8")):
            return _read(path, text, model_type)
    return ModelFamily()


def _read(path: Path, text: str, model_type: str) -> ModelFamily:
    for one in ast.walk(ast.parse(text)):
        fields = _fields(one) if isinstance(one, ast.ClassDef) else {}
        if fields.get("model_type") != model_type:
            continue
        numbers = {name: value for name, value in fields.items() if NUMBER.match(name) and type(value) is int}
        modelling = path.with_name(path.name.replace("configuration_", "modeling_", 1))
        source = modelling.read_text(encoding="utf-8") if modelling.exists() else ""
        pad = fields.get("pad_token_id")
        return ModelFamily(numbers, pad if type(pad) is int else None, bool(BEHIND_PAD.search(source)))
    return ModelFamily()


def _fields(one: ast.ClassDef) -> dict[str, Any]:
    """Names with constant values in the body of a class."""
    found: dict[str, Any] = {}
    for line in one.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            names, value = [line.target.id], line.value
        elif isinstance(line, ast.Assign):
            names, value = [each.id for each in line.targets if isinstance(each, ast.Name)], line.value
        else:
            continue
        if isinstance(value, ast.Constant):
            found |= dict.fromkeys(names, value.value)
    return found
