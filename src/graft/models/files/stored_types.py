"""The types that a model folder keeps its weights in: each tensor in its own, as its files have it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from graft.core.models.weight_files import weight_files, weight_types
from graft.models.runtime.parallel import local

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class StoredTypes:
    """main: of what the files do not have, such as new rows; by_name: of the rest, as the loaded model names it.

    A checkpoint may keep some weights in float32 (a router's bias, a state-space model's decay), since rounding them
    changes what the model does.
    """

    main: torch.dtype
    by_name: Mapping[str, torch.dtype]

    @classmethod
    def of(cls, folder: Path, hf: PreTrainedModel) -> StoredTypes:
        """main is what config.json says, or float32. hf: loaded from there, so that it knows how names were changed."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
        main = found if isinstance(found, torch.dtype) and found.is_floating_point else torch.float32
        changes = copy.deepcopy(getattr(hf, "_weight_conversions", None) or [])
        renamings = [one for one in changes if isinstance(one, WeightRenaming)]
        converters = [one for one in changes if isinstance(one, WeightConverter)]
        inside, by_name = hf.state_dict(), dict[str, torch.dtype]()
        for path in weight_files(folder):
            for name, kind in weight_types(path).items():
                if kind in TYPES:
                    own, _ = rename_source_key(name, renamings, converters, hf.base_model_prefix, inside)
                    by_name[own] = torch.promote_types(by_name.get(own, TYPES[kind]), TYPES[kind])
        return cls(main, by_name)

    def type_of(self, name: str, weight: Tensor) -> torch.dtype:
        """Of a weight as the loaded model names it; of weights that loading joins (experts), the widest type."""
        return self.by_name.get(name, self.main) if weight.is_floating_point() else weight.dtype

    @torch.no_grad()
    def round(self, model: nn.Module) -> None:
        """Every weight to what would be read back from disk; a tied one twice."""
        for name, weight in model.state_dict().items():  # views of the weights
            local(weight).copy_(local(weight).to(self.type_of(name, weight)))
