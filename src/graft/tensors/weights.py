"""Weights on disk: checkpoints that replace each other whole, and models that are read back before they count."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from graft.core.base import TOKENIZER_FILES
from graft.core.errors import FaultError
from graft.core.files import whole
from graft.tensors.faults import enough_memory
from graft.tensors.model import Model, Precision

NUM_TEXTS, TEXT_TOKENS = 3, 64


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that the old checkpoint stands until the new one is whole on the disk."""
    with whole(path) as out:
        torch.save(state, out)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The last whole checkpoint, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


@torch.no_grad()
def save_model(model: Model, base_folder: Path, folder: Path, texts_PT: Tensor) -> float:
    """Write a model with its base's tokenizer, read it back, and compare logits on texts.

    texts_PT: token ids, a few texts of a few tokens. Weights are stored in the type the base was stored in, and those
    in memory are rounded to it for good: training is over, and copies would be the peak of the whole run. Returns the
    largest difference of a logit between memory and disk. Errors: FaultError when they are not the same model; the
    folder is then taken away.
    """
    stored = stored_type(base_folder)
    for weight in model.hf.state_dict().values():  # views of the weights; a tied one is rounded twice
        weight.copy_(_round(weight, stored))
    kept_PTV = _logits(model, texts_PT)
    with quiet():
        weights = {name: _round(weight, stored) for name, weight in model.hf.state_dict().items()}
        model.hf.save_pretrained(folder, state_dict=weights)  # it takes tied entries out of what it is given
        del weights
    _say_type(folder / "config.json", stored)
    for name in TOKENIZER_FILES:  # as they are, so that no conversion can change them
        if (base_folder / name).exists():
            shutil.copyfile(base_folder / name, folder / name)
    with quiet():
        again = Model.load(folder, precision="fp32", device=model.device)
    difference = float((kept_PTV - _logits(again, texts_PT)).abs().max())
    if not difference <= 1e-4:
        shutil.rmtree(folder)
        raise FaultError(
            f"the model read back from disk is another one: logits differ by {difference:.3g} on {NUM_TEXTS} texts",
            where=str(folder),
            do="this is a fault of saving (tied weights, renamed layers); report it with the model's config.json",
        )
    return difference


def stored_type(folder: Path) -> torch.dtype:
    """The type a model folder says its weights are in; float32 where it does not say."""
    config = json.loads((folder / "config.json").read_text())
    found = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _say_type(config_path: Path, stored: torch.dtype) -> None:
    """transformers notes the type of the weights in memory; the file's is what counts."""
    config = json.loads(config_path.read_text()) | {"dtype": str(stored).removeprefix("torch.")}
    config_path.write_text(json.dumps(config, indent=2) + "\n")


def _round(weight: Tensor, stored: torch.dtype) -> Tensor:
    return weight.to(stored) if weight.is_floating_point() else weight


@torch.no_grad()
def _logits(model: Model, texts_PT: Tensor) -> Tensor:
    training = model.hf.training
    model.hf.eval()
    logits_PTV = model.hf(input_ids=texts_PT.to(model.device), use_cache=False).logits.float().cpu()
    model.hf.train(training)
    return logits_PTV


def open_model(folder: Path, precision: Precision, *, frozen: bool = False) -> Model:
    """A model on the best device there is; frozen: for looking at, never trained."""
    enough = enough_memory("the weights of the model", do="take a smaller base, or a machine with more memory")
    with quiet(), enough:
        model = Model.load(folder, precision=precision, device="cuda" if torch.cuda.is_available() else "cpu")
    model.hf.eval()
    if frozen:
        model.hf.requires_grad_(False)
    return model


@contextmanager
def quiet() -> Generator[None]:
    """transformers' own progress bars and reports off for a moment; whoever wants them keeps them."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
