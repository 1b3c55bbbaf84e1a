"""Adapters of peft in a model: put in, written in PEFT's form, merged into the weights, and read back from a folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.core.config.errors import UsageError
from graft.core.models.architectures import Kind
from graft.core.stats.random_streams import stream
from graft.models.edit.left_out import LINEAR, left_out
from graft.models.edit.parameter_patterns import chosen, names_of, weights_named
from graft.models.forward.model import Model
from graft.models.runtime import parallel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # PEFT's names
PREFIX = "base_model.model."  # of every weight in PEFT's files
TASKS: dict[Kind, str | None] = {  # PEFT's names; it has none for models that fill in words
    "decoder": "CAUSAL_LM",
    "encoder-decoder": "SEQ_2_SEQ_LM",
    "encoder": None,
}


@dataclass(frozen=True)
class PeftAdapter:
    """What peft put into a model, and the weights that train in full beside it."""

    hf: PreTrainedModel
    peft: PeftModel
    beside: Sequence[nn.Parameter]

    def save(self, folder: Path) -> None:
        """Write PEFT's own form: with the base, `PeftModel.from_pretrained(base, folder)` gives the tuned model.

        Weights that train beside the adapter are in the file under their own names, which PEFT reads as well.
        """
        with unheard():
            state = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        names = names_of(self.hf)
        state |= {PREFIX + names[weight][0]: weight for weight in map(parallel.now, self.beside)}
        state = {name: parallel.whole(value.detach()).cpu().contiguous() for name, value in state.items()}
        if parallel.rank():
            return
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        self.peft.peft_config["default"].save_pretrained(str(folder), inference_mode=True)
        written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        ordered = {
            key: sorted(value) if key.endswith("_modules") and value else value for key, value in written.items()
        }
        (folder / CONFIG).write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def merge(self) -> None:
        """Put the product of the adapters into the weights they stand beside, and take the adapters out."""
        tuner: Any = self.peft.base_model
        with unheard():
            if parallel.ranks() == 1:
                tuner.merge_and_unload()
                return
            for layer in [one for one in self.hf.modules() if isinstance(one, BaseTunerLayer)]:
                _merge_slices(layer)
            tuner.unload()


@torch.no_grad()
def _merge_slices(layer: Any) -> None:
    """Merge an adapter whose weights are split over ranks: put together for its one layer, and split as before.

    On slices peft's arithmetic is not what it is on the whole: DoRA's norms come out others.
    """
    slices = [(part, name, weight) for part in layer.modules() for name, weight in part.named_parameters(recurse=False)]
    for part, name, weight in slices:
        part._parameters[name] = nn.Parameter(parallel.whole(weight.detach()).clone(), requires_grad=False)
    layer.merge()
    for part, name, weight in slices:
        own, merged = parallel.local(weight), part.get_parameter(name)
        own.copy_(merged.narrow(0, parallel.first_row(weight), len(own)))
        part._parameters[name] = weight


def add_lora(
    model: Model,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Sequence[str],
    also: Sequence[str],
    rank_stabilised: bool,
    dora: bool,
) -> Model:
    """LoRA or DoRA at `targets` (none: every linear layer but the head); what fits `also` trains in full beside it."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # declared as int, used as a factor
        lora_dropout=dropout,
        target_modules=_targets(model.hf, targets, (*LINEAR, nn.Embedding)),
        use_rslora=rank_stabilised,
        use_dora=dora,
        task_type=TASKS[model.reading.kind],
    )
    return _attach(model, config, also)


def add_ia3(model: Model, *, outputs: Sequence[str], inputs: Sequence[str], also: Sequence[str]) -> Model:
    """Factors on outputs and inputs of linear layers; none named: those that peft knows for this type of model."""
    if not outputs and not inputs:
        outputs, inputs = _known_ia3(model.hf)
    scaled_in = _targets(model.hf, inputs, LINEAR, where="tuning ia3: inputs") if inputs else []
    scaled_out = _targets(model.hf, outputs, LINEAR, where="tuning ia3: outputs") if outputs else []
    if both := [name for name in scaled_out if name in scaled_in]:
        raise UsageError(
            f'"{both[0]}" is named among the outputs and among the inputs',
            where="tuning ia3",
            allowed="a layer is scaled at its output or at its input",
        )
    config = IA3Config(
        target_modules=[*scaled_out, *scaled_in],
        feedforward_modules=scaled_in,
        task_type=TASKS[model.reading.kind],
    )
    return _attach(model, config, also)


def fold(model: Model) -> Model:
    """The adapters merged into the weights: a plain model again."""
    assert model.adapter is not None
    model.adapter.merge()
    model.adapter = None
    model.penalties.clear()
    return model


def read_factors(folder: str) -> dict[str, Tensor]:
    """The matrices A (rank x inputs) of a LoRA folder in PEFT's form, in float32, by the name of the layer.

    Errors: UsageError where the folder holds no LoRA.
    """
    file = Path(folder).expanduser() / WEIGHTS
    ending = ".lora_A.weight"
    found = load_file(file) if file.is_file() else {}
    factors = {
        name.removeprefix(PREFIX).removesuffix(ending): value.float()
        for name, value in found.items()
        if name.endswith(ending)
    }
    if not factors:
        raise UsageError(
            "no LoRA here" if file.is_file() else "there is no adapter here",
            where=folder,
            allowed=f"a folder in PEFT's form, {CONFIG} and {WEIGHTS}, of a LoRA",
            do="give the folder adapter/ that an earlier run with the tuning lora or o_lora left",
        )
    return factors


def factors_against(model: Model, folder: str) -> list[tuple[nn.Parameter, Tensor]]:
    """The matrices A of the LoRA in this model, each with the one that the LoRA in `folder` has for the same layer.

    Errors: UsageError where the two have no layer in common, or one of another size.
    """
    ending = ".lora_A.default.weight"
    training = {
        name.removesuffix(ending): weight for name, weight in model.hf.named_parameters() if name.endswith(ending)
    }
    earlier = read_factors(folder)
    common = [name for name in training if name in earlier]
    if not common:
        raise UsageError(
            f"this adapter and the new one have no layer in common: {next(iter(earlier))} and {next(iter(training))}",
            where=folder,
            do="give targets that meet those of the earlier adapter",
        )
    for name in common:
        if earlier[name].shape[1] != training[name].shape[1]:
            raise UsageError(
                f"this adapter belongs to another model: {name} reads {earlier[name].shape[1]} features there, and "
                f"{training[name].shape[1]} here",
                where=folder,
                do="give adapters that were trained on this base, or on one that it came from",
            )
    return [(training[name], earlier[name].to(training[name].device)) for name in common]


def _attach(model: Model, config: LoraConfig | IA3Config, also: Sequence[str]) -> Model:
    """Freeze everything, put the adapters in, and let what fits `also` train again: itself, as ties would break in a
    copy of it."""
    hf = model.hf
    beside = weights_named(hf, also, where="tuning: also") if also else []
    with unheard(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(model.seed, "adapter").integers(1 << 62)))
        try:
            peft = get_peft_model(hf, config)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"peft puts no such adapter into a model of the type {hf.config.model_type}: {error}",
                where="tuning: targets",
                do="name other targets, or take another tuning",
            ) from error
    for weight in beside:
        weight.requires_grad_(True)
    hf.train(hf.training)  # what is new in it as well
    model.adapter = PeftAdapter(hf, peft, beside)
    model.notes += left_out(hf)
    return model


def _targets(
    hf: PreTrainedModel, patterns: Sequence[str], kinds: tuple[type[nn.Module], ...], where: str = "tuning: targets"
) -> list[str]:
    """Full names of the modules of these kinds that fit; without patterns all linear ones but the head.

    Errors: UsageError for a pattern that fits none, and for a layer whose weight stands elsewhere too: merged into
    one place the adapter would change the other, or be lost there.
    """
    modules = {name: module for name, module in hf.named_modules() if isinstance(module, kinds)}
    if not patterns:
        linear = {name: module for name, module in modules.items() if isinstance(module, LINEAR)}
        names = [name for name, module in linear.items() if module is not hf.get_output_embeddings()]
    else:
        names = chosen(patterns, modules, where=where, what="layers that take an adapter")
    shared = {weight: names for weight, names in names_of(hf).items() if len(names) > 1}
    for name in names:
        if (weight := modules[name].weight) in shared:
            other = next(one for one in shared[weight] if one != f"{name}.weight")  # type: ignore[index]
            raise UsageError(
                f'"{name}" shares its weight with "{other.removesuffix(".weight")}", and an adapter at one of them '
                "cannot be merged without changing the other",
                where=where,
                allowed="layers with a weight of their own",
                do=f'leave it out, or train the weight itself: also: ["{name}"]',
            )
    return names


def _known_ia3(hf: PreTrainedModel) -> tuple[Sequence[str], Sequence[str]]:
    """Outputs and inputs that peft scales by default. Errors: UsageError for a type it has no default for."""
    kind = hf.config.get_text_config().model_type
    if kind not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        raise UsageError(
            f'peft has no default for models of the type "{kind}"',
            where="tuning ia3",
            do="name layers: those of keys and values in `outputs`, the last of each MLP in `inputs`",
        )
    inputs = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[kind]
    return [name for name in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING[kind] if name not in inputs], inputs


@contextmanager
def unheard() -> Generator[None]:
    """peft warns of choices it makes by itself, rightly, and of ties, which are refused before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def orthogonality(pairs: Sequence[tuple[nn.Parameter, Tensor]], penalty_weight: float) -> Callable[[], Tensor]:
    """penalty_weight * sum over pairs of sum_jk (A_earlier A^T)_jk^2, as a penalty of the model."""

    def penalty() -> Tensor:
        squares = [
            (earlier_RI @ parallel.whole(parallel.now(factor_RI)).float().T).square().sum()
            for factor_RI, earlier_RI in pairs
        ]
        return penalty_weight * torch.stack(squares).sum()

    return penalty
