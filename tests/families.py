"""Small random models of every family that the installed transformers has, read by Graft and by transformers alone.

`python tests/families.py` writes docs/models.md.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto import modeling_auto

from graft.core.config.errors import GraftError
from graft.core.models.architectures import Kind
from graft.models.checks.skeleton import LOADERS
from graft.models.files.weights import open_model, save_model
from graft.models.forward.encoder_decoder import written_sums
from graft.models.forward.model import Model
from graft.models.losses.token_losses import score, weighted_sums
from graft.packing.sampler import pack
from graft.packing.span_corruption import Corrupted, Halves, stack
from graft.training.tunings.lora import Lora

LISTS: dict[Kind, Mapping[str, Any]] = {
    "decoder": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "encoder": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "encoder-decoder": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
V = 320
LARGEST = 3_000_000  # weights of what counts as small
LENGTHS = (37, 3, 20, 61, 44)
# What configurations call their sizes, and a small one of each.
SIZES: dict[int, str] = {
    V: "vocab_size",
    32: "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim emb_dim lru_width",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
    "num_encoder_layers num_key_value_heads num_experts_per_tok linear_num_key_heads",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads attention_heads "
    "num_local_experts num_experts n_routed_experts rotary_dim mamba_n_heads mamba_num_heads time_step_rank "
    "linear_num_value_heads",
    8: "head_dim d_kv qk_rope_head_dim qk_nope_head_dim v_head_dim state_size mamba_d_state ssm_state_size "
    "linear_key_head_dim linear_value_head_dim",
    16: "moe_intermediate_size shared_expert_intermediate_size q_lora_rank kv_lora_rank attention_window mamba_d_head "
    "mamba_head_dim",
    64: "d_ff d_inner intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim ffn_hidden_size n_inner hidden_dim "
    "feed_forward_dim mamba_d_ssm intermediate_size_mlp",
    1: "n_shared_experts n_group topk_group mamba_n_groups n_groups pad_token_id",
    24: "sliding_window attention_chunk_size",
    256: "max_position_embeddings n_positions n_ctx max_seq_len",
}
SMALL = {name: size for size, names in SIZES.items() for name in names.split()} | {"bos_token_id": 0, "eos_token_id": 2}
LOUD = {"initializer_range": 0.2, "init_std": 0.2}  # so that what a text sees is worth some nats
MORE: dict[str, dict[str, Any]] = {  # what the sizes above do not fit
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 24, "num_heads": 4},
    "reformer": {"axial_pos_embds": False, "num_buckets": 8},  # axial places train at one length alone
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "esm": {"position_embedding_type": "absolute", "token_dropout": False, "emb_layer_norm_before": False},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2},
    "esmc": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "gemma4_text": {"vocab_size_per_layer_input": V, "hidden_size_per_layer_input": 8, "per_layer_config": None},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 32},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "longcat_flash": {"moe_topk": 2, "expert_ffn_hidden_size": 16, "zero_expert_num": 2, "qk_head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
}


@dataclass(frozen=True)
class Found:
    """way: how texts may be read, or "refused", "not built"; off: largest difference of nats from transformers' own."""

    family: str
    kind: Kind
    way: str
    off: float = 0.0
    attention: str = ""
    tunings: str = ""
    notes: tuple[str, ...] = ()


def built(family: str, kind: Kind) -> PreTrainedModel:
    """A small random model. Raises whatever a family raises that cannot be made small this way."""
    cls: Any = CONFIG_MAPPING[family]
    known = cls().to_dict()
    last: Exception | None = None
    for empty_too in (False, True):
        sizes = {
            name: size
            for name, size in (SMALL | LOUD).items()
            if name in known
            and not (name == "head_dim" and "qk_rope_head_dim" in known)
            and (known[name] is not None or empty_too or name.endswith("_token_id"))
        }
        if "qk_rope_head_dim" in known:  # keys and values of all heads come from one small vector
            sizes["num_key_value_heads"] = sizes["num_attention_heads"]
        try:
            config = cls(**(sizes | MORE.get(family, {})))
            if kind == "decoder" and "is_decoder" in known:
                config.is_decoder = True
            if kind == "encoder-decoder":
                config.decoder_start_token_id = 1
            with torch.device("meta"):
                size = sum(weight.numel() for weight in _class(kind).from_config(config).parameters())
            if size > LARGEST:
                raise ValueError(f"{size:,} weights with the sizes that are set here")
            torch.manual_seed(0)
            return _class(kind).from_config(config).eval()
        except Exception as error:  # as many as there are families
            last = last or error
    assert last is not None
    raise last


def _class(kind: Kind) -> Any:
    return LOADERS[kind]


def texts() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(5, V, length + 1) for length in LENGTHS]


@torch.no_grad()
def alone(hf: PreTrainedModel, kind: Kind, text: np.ndarray) -> torch.Tensor:
    """nats of a text's targets by the model's own forward on it and nothing else."""
    ids, targets = torch.from_numpy(text[None, :-1]), torch.from_numpy(text[1:])
    if kind == "encoder-decoder":
        targets = torch.from_numpy(_halves(text)[1])
        logits = hf(input_ids=torch.from_numpy(_halves(text)[0])[None], labels=targets[None], use_cache=False).logits
    else:
        logits = hf(input_ids=ids, **({"use_cache": False} if kind == "decoder" else {})).logits
    return torch.nn.functional.cross_entropy(logits[0].float(), targets, reduction="none")


def _halves(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return text[: 1 + len(text) // 2], text[len(text) // 2 :]


@torch.no_grad()
def together(model: Model, kind: Kind) -> list[torch.Tensor]:
    """nats of the same, in one row or side by side."""
    if kind == "encoder-decoder":
        halves = _written()
        nats_PU = score(model.reading.written(model, halves), model.head, halves.writes_PU)  # type: ignore[attr-defined]
        sizes = halves.counts_PU.sum(1).long().tolist()
        return [nats_U[:size] for nats_U, size in zip(nats_PU, sizes, strict=True)]
    packed = pack([texts()], [0], sum(LENGTHS))
    return list(score(model.hidden(packed), model.head, packed.targets_BT)[0].split(LENGTHS))


def _written() -> Halves:
    pieces = [Corrupted(*_halves(text), np.full(len(text) - len(text) // 2, -1)) for text in texts()]
    return stack(pieces, list(range(len(pieces))))


def look(family: str, kind: Kind, folder: Path) -> Found:
    """What Graft makes of a family; what is saved in the folder is read by both."""
    with quietly():
        try:
            built(family, kind).save_pretrained(folder)
            hf = _class(kind).from_pretrained(folder, dtype=torch.float32).eval()
            right = [alone(hf, kind, text) for text in texts()]
        except Exception as error:  # as many as there are families
            return Found(family, kind, "not built", notes=(" ".join(f"{type(error).__name__}: {error}".split())[:160],))
        try:
            model = open_model(folder, "fp32", frozen=True)
            ours = together(model, kind)
        except GraftError as error:
            return Found(family, kind, "refused", notes=(error.what,))
    off = max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in zip(ours, right, strict=True))
    way = "packed" if kind == "decoder" and model.packs else "alone" if model.fills else "alone, by length"
    if model.packs_to is not None or model.rope is not None:
        way += f" up to {model.packs_to or model.rope}"
    attention, notes = str(model.hf.config._attn_implementation), tuple(model.notes)
    return Found(family, kind, way, off, attention, _tunings(model), notes)


def _tunings(model: Model) -> str:
    """What can be trained of it: lora is tried, as peft has to find its layers."""
    before = len(model.notes)
    try:
        with quietly():
            Lora(rank=2).apply(model)
    except GraftError:
        return "full, freeze"
    return "full, freeze, lora" + (" (leaves stacked weights)" if len(model.notes) > before else "")


@torch.enable_grad()
def trained(family: str, kind: Kind, base: Path, out: Path) -> tuple[float, list[torch.Tensor], Model]:
    """Two steps, saved: the difference that reading it back makes, and nats of the texts before they were saved."""
    with quietly():
        built(family, kind).save_pretrained(base)
        (base / "tokenizer.json").write_text("{}", encoding="utf-8")
        model = open_model(base, "fp32")
        model.hf.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            torch.cat(_sums(model, kind)).mean().backward()
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
            optimizer.step()
        model.hf.eval()
        return save_model(model, base, out, torch.arange(5, 35).view(3, 10)), together(model, kind), model


def _sums(model: Model, kind: Kind) -> list[torch.Tensor]:
    if kind == "encoder-decoder":
        return [written_sums(model, _written(), len(LENGTHS)).total]
    packed = pack([texts()], [0], sum(LENGTHS))
    return [weighted_sums(model.hidden(packed), model.head, packed.targets_BT, packed.weights_BT).total_B]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    transformers.utils.logging.set_verbosity(verbosity)


def all_families() -> list[tuple[str, Kind]]:
    return [(family, kind) for kind, names in LISTS.items() for family in names]


def survey() -> Iterator[Found]:
    for family, kind in all_families():
        with tempfile.TemporaryDirectory() as folder:
            yield look(family, kind, Path(folder))


def row(found: Found) -> str:
    """A line of the table, without numbers that differ from machine to machine."""
    notes = " ".join(" ".join(found.notes).split()).replace("|", "\\|")
    for word in (f"{found.family}: ", "; every piece now runs as a row of its own, which is slower"):
        notes = notes.replace(word, "")
    notes = re.sub(r" \([^()]*?[\d.]+ (nats|standard deviations)\)", "", notes)[:140]
    return f"| {found.family} | {found.kind} | {found.way} | {found.attention} | {found.tunings} | {notes} |"


def page(all_found: Sequence[Found]) -> str:
    counts = Counter(found.way.split(",")[0].split(" up to")[0] for found in all_found)
    largest = max(found.off for found in all_found)
    head = f"""# Models

Every decoder, encoder and encoder-decoder family of transformers {transformers.__version__}, {len(all_found)} in all,
as a small random model, opened, read by Graft in company and by transformers alone. `python tests/families.py` writes
this page, and `tests/test_families.py` holds every line of it. The largest difference is {largest:.1g} nats per token.

- **packed** ({counts["packed"]}): several texts share a row, which is fast.
- **alone** ({counts["alone"]}): each text runs as a row of its own; "by length": beside texts of its own length alone.
  "up to N": so it is for rows of N tokens, and longer ones are read by length.
- **refused** ({counts["refused"]}): Graft says why, and does nothing.
- **not built** ({counts["not built"]}): the sizes set by the script make no small model; nothing is known of it.

Which of these holds is found out each time a model is opened, by the same comparison; the table decides nothing.

| family | kind | texts | attention | tunings | notes |
|---|---|---|---|---|---|
"""
    return head + "\n".join(row(found) for found in all_found) + "\n"


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "models.md").write_text(page(list(survey())), encoding="utf-8")
