"""Text towers: open_clip's causal text transformers, entered at their word embeddings.

The only code that touches open_clip's insides. A tower is causal, so what follows the end token cannot
change it: prompts run at the length they have, not at the 77 positions of CLIP, and the last block computes
queries only from the end tokens. Exact, and more than ten times cheaper at J = 4. A tower that is not
causal, or not read at its end token, is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.factory import load_state_dict
from open_clip.model import CLIPTextCfg, _build_text_tower
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mpfgvc.config import TextTowerConfig
from mpfgvc.distributed import seeded
from mpfgvc.errors import CheckpointError, ConfigError, one_line
from mpfgvc.files import read_header
from mpfgvc.model.towers.hub import fetch, text_files
from mpfgvc.model.towers.names import BUNDLED, TEXT_TOWERS, bundled_text_weights, quick_gelu


class TextTower(nn.Module):
    """A causal text transformer, read at the end token.

    Attributes: `width` of its word embeddings, `embed` of its output,
    `context_length` in tokens, `start` and `end` token ids.
    """

    def __init__(self, transformer: TextTransformer):
        super().__init__()
        self.transformer: Any = transformer
        self.width: int = self.transformer.width
        projected = self.transformer.text_projection is not None
        self.embed: int = self.transformer.output_dim if projected else self.width
        self.context_length: int = self.transformer.context_length
        self.tokenizer = open_clip.SimpleTokenizer()
        self.start: int = self.tokenizer.sot_token_id
        self.end: int = self.tokenizer.eot_token_id

    @property
    def activation(self) -> str:
        """The activation inside its blocks, such as GELU or QuickGELU."""
        mlp = getattr(self.transformer.transformer.resblocks[0], "mlp", None)
        return type(getattr(mlp, "gelu", None)).__name__

    def units(self) -> list[nn.Module]:
        """Modules that run only by their `forward`: all blocks but the last, and the word embeddings."""
        return [*self.transformer.transformer.resblocks[:-1], self.transformer.token_embedding]

    def forward(
        self, embeddings: Float[Tensor, "texts length width"], end: Int[Tensor, " texts"]
    ) -> Float[Tensor, "texts embed"]:
        """Text features of sentences given as word embeddings, [start, ..., end] and any padding.

        `end` is the position of each sentence's end token. The features are not normalised.
        """
        length = embeddings.shape[1]
        transformer = self.transformer
        mask = transformer.attn_mask[:length, :length]
        tokens = embeddings + transformer.positional_embedding[:length]
        *blocks, last_block = transformer.transformer.resblocks
        for block in blocks:
            tokens = block(tokens, attn_mask=mask)
        pooled = _at_end(last_block, tokens, end, mask)
        return self._project(transformer.ln_final(pooled))

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "texts embed"]:
        """Text features of whole sentences; longer ones than the tower reads are cut. Not normalised."""
        room = self.context_length - 2
        rows = [[self.start, *self.token_ids(words)[:room], self.end] for words in sentences]
        ends = torch.tensor([len(row) - 1 for row in rows])
        ids = torch.tensor([row + [0] * (int(ends.max()) + 1 - len(row)) for row in rows])
        device = self.transformer.positional_embedding.device
        features: Tensor = self(self.embed_tokens(ids.to(device)), ends.to(device))
        return features

    def embed_tokens(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape width"]:
        """Word embeddings of token ids."""
        embeddings: Tensor = self.transformer.token_embedding(ids)
        return embeddings

    def token_ids(self, words: str) -> list[int]:
        """Token ids of some words, without the start and end tokens."""
        ids: list[int] = self.tokenizer.encode(words)
        return ids

    def vocabulary(self) -> dict[int, str]:
        """Every token id with its text; the end of a word is a space, a part of a letter is �."""
        return {number: self.tokenizer.decode([number]) for number in self.tokenizer.decoder}

    def _project(self, pooled: Float[Tensor, "texts width"]) -> Float[Tensor, "texts embed"]:
        projection = self.transformer.text_projection
        if isinstance(projection, nn.Linear):
            return projection(pooled)  # type: ignore[no-any-return]
        return pooled if projection is None else pooled @ projection


def _at_end(
    block: Any,
    tokens: Float[Tensor, "texts length width"],
    end: Int[Tensor, " texts"],
    mask: Float[Tensor, "length length"],
) -> Float[Tensor, "texts width"]:
    """What the last block makes of the end tokens: queries only from them, keys and values up to them."""
    rows = torch.arange(len(tokens), device=tokens.device)
    if not isinstance(block, ResidualAttentionBlock):
        return block(tokens, attn_mask=mask)[rows, end]  # type: ignore[no-any-return]
    keys, behind = block.ln_1(tokens), mask[end] < 0
    queries = keys[rows, end].unsqueeze(1)
    attended, _ = block.attn(queries, keys, keys, key_padding_mask=behind, need_weights=False)
    pooled = tokens[rows, end] + block.ls_1(attended.squeeze(1))
    return pooled + block.ls_2(block.mlp(block.ln_2(pooled)))  # type: ignore[no-any-return]


def build_text_tower(config: TextTowerConfig, *, seed: int = 0, load_weights: bool = True) -> TextTower:
    """The frozen text tower that `config` names; without weights, random from `seed`.

    Raises ConfigError for an unknown name or a tower that cannot carry class
    prompts, CheckpointError for weights that are not available or do not fit.
    """
    return build_text_and_visual(config, seed=seed, load_weights=load_weights)[0]


def build_text_and_visual(
    config: TextTowerConfig, *, seed: int = 0, load_weights: bool = True
) -> tuple[TextTower, dict[str, Tensor]]:
    """The text tower as `build_text_tower` makes it, and the image part of the CLIP that it comes from.

    The image part has open_clip's names, `visual.`; it is empty where the weights hold none.
    """
    settings = _settings(config.name)
    with seeded(seed):
        transformer = _build_text_tower(
            settings["embed_dim"], CLIPTextCfg(**settings["text_cfg"]), quick_gelu(config, settings)
        )
    wanted = transformer.state_dict()
    state = _stored_weights(config, wanted) if load_weights else {}
    if state:
        _check_shapes(config, wanted, {name: tuple(value.shape) for name, value in state.items()})
        inner = {name.removeprefix("text."): value for name, value in state.items()}
        transformer.load_state_dict({name: inner[name].to(value.dtype) for name, value in wanted.items()})
    visual = {name: value for name, value in state.items() if name.startswith("visual.")}
    return TextTower(transformer).requires_grad_(False).eval(), visual


def check_text_weights(config: TextTowerConfig, tower: TextTower) -> None:
    """Refuse an unknown tag, or a local weights file that is not this tower's, before anything is fetched.

    Reads the file's header only. Raises ConfigError or CheckpointError.
    """
    if config.weights is None:
        _check_tag(config)
        return
    try:
        shapes = {name: tensor.shape for name, tensor in read_header(config.weights).items()}
    except (OSError, SafetensorError) as error:
        raise _unreadable(config.weights, error) from None
    _check_shapes(config, tower.transformer.state_dict(), shapes)


def _settings(name: str) -> dict[str, Any]:
    """open_clip's settings of a tower. Raises ConfigError if class prompts cannot pass through it."""
    if name in TEXT_TOWERS:
        return TEXT_TOWERS[name]
    if name not in open_clip.list_models():
        hint = "open_clip.list_models() names them all"
        raise ConfigError(f"model.text_tower.name must be an open_clip model, got {name}; {hint}")
    settings: dict[str, Any] = open_clip.get_model_config(name)
    text = settings["text_cfg"]
    reasons = {
        "its text model is of the transformers library, which takes token ids only": text.get("hf_model_name"),
        "its attention is not causal": text.get("no_causal_mask"),
        "it is not read at the end token": text.get("embed_cls")
        or text.get("pool_type", "argmax") not in ("argmax", "eos"),
        "its tokenizer is not CLIP's": text.get("hf_tokenizer_name"),
    }
    for reason, applies in reasons.items():
        if applies:
            hint = "choose a CLIP text tower such as ViT-B-16"
            raise ConfigError(f"model.text_tower.name: {name} cannot be used, {reason}; {hint}")
    return settings


def _stored_weights(config: TextTowerConfig, random: dict[str, Tensor]) -> dict[str, Tensor]:
    """All the tensors that the config's file or pretrained tag holds; none for a `random` tower."""
    if config.weights is not None:
        try:
            return load_file(Path(config.weights))
        except (OSError, SafetensorError) as error:
            raise _unreadable(config.weights, error) from None
    if config.pretrained is None:
        return {}
    if (config.name, config.pretrained) == ("mpfgvc-birds", BUNDLED):
        return bundled_text_weights(random)
    _check_tag(config)
    files = fetch(text_files(config))
    if not files:
        hint = "choose another tag, or set model.text_tower.weights to a local file"
        raise CheckpointError(f"the tag {config.pretrained} of {config.name} has no weights on the hub; {hint}")
    try:
        state: dict[str, Tensor] = load_state_dict(str(files[0]))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {files[0]} ({one_line(error)}); remove it, to fetch it again") from None
    return state


def _check_tag(config: TextTowerConfig) -> None:
    own = [BUNDLED] if config.name == "mpfgvc-birds" else []
    if config.pretrained is None or config.pretrained in own:
        return
    if not open_clip.get_pretrained_cfg(config.name, config.pretrained):
        known = ", ".join([*own, *open_clip.list_pretrained_tags_by_model(config.name)]) or "null"
        raise ConfigError(f"model.text_tower.pretrained must be one of {known}, got {config.pretrained}")


def _unreadable(path: str, error: Exception) -> CheckpointError:
    rule = f"must be a readable .safetensors file, got {path}"
    return CheckpointError(f"model.text_tower.weights {rule} ({one_line(error)})")


def _check_shapes(config: TextTowerConfig, wanted: dict[str, Tensor], stored: dict[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError if the `stored` tensors lack a wanted one: bare names, or under `text.`."""
    inner = {name.removeprefix("text."): shape for name, shape in stored.items()}
    for name, value in wanted.items():
        if inner.get(name) != (shape := tuple(value.shape)):
            source = config.weights or f"tag {config.pretrained}"
            rule = f"has no tensor {name} of shape {shape}"
            raise CheckpointError(f"model.text_tower: {source} {rule}; does it belong to {config.name}?")
