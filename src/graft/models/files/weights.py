"""Models on disk: opened on the best device there is, and read back before they count as saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from graft.core.config.errors import FaultError, UsageError
from graft.core.models.base_model import TOKENIZER_FILES
from graft.core.process.precision import Computed
from graft.models.checks.verify import verify
from graft.models.files.load import load_model
from graft.models.files.safetensor_files import write_weights
from graft.models.files.stored_types import StoredTypes
from graft.models.forward.decoder import Decoder
from graft.models.forward.model import Model
from graft.models.runtime.numeric_faults import enough_memory
from graft.models.runtime.parallel import NotInSlices, device, meeting, rank, whole
from graft.models.runtime.quiet import quiet

NUM_TEXTS, TEXT_TOKENS = 3, 64


@torch.no_grad()
def save_model(model: Model, base_folder: Path, folder: Path, texts_PT: Tensor) -> float:
    """Write a model with its base's tokenizer, read it back, and compare logits on texts.

    texts_PT: token ids, a few texts of a few tokens. Weights are stored in the types of the base's files, and those
    in memory are rounded to it for good: training is over, and copies would be the peak of the whole run. Ranks that
    work together each write and read back their slices. Returns the largest difference of a logit between memory and
    disk. Errors: FaultError when they are not the same model; the folder is then taken away.
    """
    stored = StoredTypes.of(base_folder, model.hf)
    model.root.rest()
    stored.round(model.hf)
    kept_PTV = _logits(model, texts_PT)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    meeting()
    with quiet():
        _write(model.hf, folder, stored)
    if rank() == 0:
        _say_type(folder / "config.json", stored.main)
        for name in TOKENIZER_FILES:  # as they are, so that no conversion can change them
            if (base_folder / name).exists():
                shutil.copyfile(base_folder / name, folder / name)
    meeting()
    with quiet():
        again = load_model(folder, precision="fp32", device=model.device).split()
    difference = float((kept_PTV - _logits(again, texts_PT)).abs().max())
    if not difference <= 1e-4:
        meeting()
        if rank() == 0:
            shutil.rmtree(folder)
        raise FaultError(
            f"the model read back from disk is another one: logits differ by {difference:.3g} on {NUM_TEXTS} texts",
            where=str(folder),
            do="this is a fault of saving (tied weights, renamed layers); report it with the model's config.json",
        )
    return difference


def _write(hf: PreTrainedModel, folder: Path, stored: StoredTypes) -> None:
    """Weights and configuration in Hugging Face form.

    Families whose weights transformers renames or joins on loading go back through its own way of saving, which needs
    all of them in one place: the first rank's.
    """
    if getattr(hf, "_weight_conversions", None):
        weights: dict[str, Tensor] = {}
        for name, weight in hf.state_dict().items():
            gathered = whole(weight).to(stored.type_of(name, weight)).cpu()
            weights |= {} if rank() else {name: gathered}
        if rank() == 0:
            hf.save_pretrained(folder, state_dict=weights)
        return
    if rank() == 0:
        hf.config.architectures = [type(hf).__name__]
        hf.config.save_pretrained(folder)
        if hf.can_generate():
            hf.generation_config.save_pretrained(folder)
    weights = _untied(hf)
    write_weights(weights, folder, {name: stored.type_of(name, weight) for name, weight in weights.items()})


def _untied(hf: PreTrainedModel) -> dict[str, Tensor]:
    """What is to be stored: of weights that are one and the same, the one that transformers ties the others to."""
    tied: dict[str, str] = dict(getattr(hf, "all_tied_weights_keys", None) or {})
    ignored: set[str] = set(getattr(hf, "_keys_to_ignore_on_save", None) or ())
    named = dict(hf.named_parameters(remove_duplicate=False))
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name in sorted(hf.state_dict(), key=tied.__contains__):  # sources of ties come first
        weight = named.get(name)
        if name in ignored or (weight is not None and id(weight) in seen):
            continue
        kept[name] = hf.state_dict()[name] if weight is None else weight.detach()
        seen.add(id(weight))
    return kept


def _say_type(config_path: Path, stored: torch.dtype) -> None:
    """transformers notes the type of the weights in memory; the file's is what counts."""
    config = json.loads(config_path.read_text(encoding="utf-8")) | {"dtype": str(stored).removeprefix("torch.")}
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def _logits(model: Model, texts_PT: Tensor) -> Tensor:
    training = model.hf.training
    model.hf.eval()
    logits_PTV = model.logits(texts_PT.to(model.device)).float().cpu()
    model.hf.train(training)
    model.root.rest()
    return logits_PTV


def open_model(
    folder: Path, precision: Computed, *, frozen: bool = False, tune: Callable[[Model], Model] = lambda model: model
) -> Model:
    """A model on the best device there is; frozen: for looking at, never trained. tune: what is done to it at once.

    How it may read texts together is settled here, by comparison with transformers' own forward (see `verify`), so
    that whoever opens a model has what that says. Errors: those of `verify`.

    Ranks that work together hold a slice each. They read no more than that from disk, unless `tune` puts something
    into the model or computes with its weights: then each of them holds all of it once, before it is split.
    """
    enough = enough_memory("the weights of the model", do="take a smaller base, or a machine with more memory")
    with quiet(), enough:
        try:
            model = tune(load_model(folder, precision=precision, device=device(), sliced=partial(_only_chooses, tune)))
        except NotInSlices:
            model = tune(load_model(folder, precision=precision, sliced=False))
            model.notes.append("the tuning needs the whole model before it is split: each process held all of it once")
        model.split()
        model.hf.eval()
        model.root.within(verify, model)
        model.root.rest()
    if frozen:
        model.hf.requires_grad_(False)
    return model


def _only_chooses(tune: Callable[[Model], Model], hf: PreTrainedModel) -> bool:
    """Does a tuning do no more than choose which weights train? Asked of a model that has no weights yet."""
    before = [(name, id(weight)) for name, weight in hf.named_parameters(remove_duplicate=False)]
    try:
        tuned = tune(Model(hf, reading=Decoder()))
    except UsageError:  # it is applied again to the model with weights, and says there what is wrong
        return True
    except (NotImplementedError, RuntimeError, AttributeError):  # arithmetic on weights that are not there
        return False
    after = [(name, id(weight)) for name, weight in tuned.hf.named_parameters(remove_duplicate=False)]
    return before == after and tuned.adapter is None
