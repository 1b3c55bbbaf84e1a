"""Bases whose weights are packed into a few bits: refused before any work, since training needs whole weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.core.config.errors import UsageError

KEYS = ("quantization_config", "compression_config")
NARROW = ("F8", "F6", "F4")  # how safetensors begins the names of types of fewer than 16 bits
PACKED = ("weight", "_packed", "_blocks", "proj")  # names of what is a matrix; integers there are packed numbers
ALLOWED = "weights in float32, bfloat16 or float16"
DO = (
    "take the model that it was made from (its page on the hub names it), or a copy that was put back into bfloat16: "
    "transformers loads FP8 and MXFP4 with dequantize=True in their quantization_config, and of bitsandbytes, GPTQ and "
    "compressed-tensors models by model.dequantize(); then save_pretrained"
)


def refuse_quantised(config: Mapping[str, Any], path: Path) -> None:
    """Raises: UsageError where a configuration says that the weights are quantised."""
    for key in KEYS:
        if not (said := config.get(key)):
            continue
        method = said.get("quant_method") if isinstance(said, Mapping) else None
        raise UsageError(
            f"the weights of this model are quantised ({method or key}), and are neither trained nor scored here",
            where=f"{path}: {key}",
            allowed=ALLOWED,
            do=DO,
        )


def refuse_packed(types: Mapping[str, str], path: Path) -> None:
    """Raises: UsageError where a file holds quantised weights, whatever its configuration says. types: by name."""
    name = next(
        (
            name
            for name, kind in types.items()
            if kind.startswith(NARROW) or (kind[0] in "IU" and name.endswith(PACKED))
        ),
        None,
    )
    if name is None:
        return
    raise UsageError(
        f"the weights of this model are quantised ({name} is {types[name]}), and config.json does not say how",
        where=str(path),
        allowed=ALLOWED,
        do=DO,
    )
