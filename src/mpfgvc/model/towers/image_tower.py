"""Image towers: timm's vision transformers with a class token, opened where selection needs it.

With `split_block.py` and `packed_linear.py`, the only code that touches timm's insides. A tower
keeps timm's module and its parameter names. What cannot be split exactly is refused
by name when the tower is built, never silently wrong.
"""

from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, cast

import timm
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import resolve_data_config
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mpfgvc.config import ImageTowerConfig
from mpfgvc.errors import CheckpointError, ConfigError, one_line
from mpfgvc.files import check_digest, read_header
from mpfgvc.model.towers.hub import HUB_PREFIX, SETTINGS, WEIGHTS, HubFile, fetch, image_files
from mpfgvc.model.towers.names import IMAGE_TOWERS, bundled_image_weights, trained_name
from mpfgvc.model.towers.packed_linear import pack_blocks
from mpfgvc.model.towers.split_block import Rope, SplitBlock, unsupported

_LOCAL = "local-dir:"
OF_A_RUN = "image_encoder.tower.transformer."
"""What the names of the tower's tensors begin with in the saved model of a run."""
_NO_TRANSFORMER = "it is no vision transformer; choose a ViT, CLIP, DINOv2, DINOv3 or EVA-02 tower"


class TowerInput(NamedTuple):
    """What images a tower was trained on: size in pixels (height, width), statistics of 0..1 pixels."""

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_ratio: float


class ImageTower(nn.Module):
    """A timm vision transformer with a class token, without its classifier.

    Attributes: `width` of its tokens, `patches` of an image, `grid` (rows,
    columns), `image_size` (height, width) in pixels, `prefix_tokens` (class
    token and registers), and `input`, the images it was trained on.

    Raises ConfigError for a transformer that cannot be split exactly.
    """

    def __init__(self, transformer: nn.Module):
        super().__init__()
        if (reason := _unsupported(transformer)) is not None:
            name = getattr(transformer, "default_cfg", {}).get("architecture", type(transformer).__name__)
            hint = "choose a ViT, CLIP, DINOv2, DINOv3 or EVA-02 tower"
            raise ConfigError(f"model.image_tower.name: {name} cannot be used, {reason}; {hint}")
        self.transformer = cast("Any", transformer)
        # Some towers take any size; kept tokens are counted for this one.
        self.transformer.patch_embed.strict_img_size = True
        self.width: int = self.transformer.embed_dim
        self.prefix_tokens: int = self.transformer.num_prefix_tokens
        self.grid: tuple[int, int] = tuple(self.transformer.patch_embed.grid_size)
        self.patches = self.grid[0] * self.grid[1]
        if self.patches == 0:
            patch = "x".join(map(str, self.transformer.patch_embed.patch_size))
            size = tuple(self.transformer.patch_embed.img_size)
            raise ConfigError(f"model.image_tower.image_size must be at least one patch ({patch} pixels), got {size}")
        self.image_size: tuple[int, int] = tuple(self.transformer.patch_embed.img_size)
        known = resolve_data_config({}, model=transformer)
        self.input = TowerInput(
            self.image_size, tuple(known["mean"]), tuple(known["std"]), known["interpolation"], known["crop_pct"]
        )

    def before_last_two_blocks(
        self,
        images: Float[Tensor, "batch 3 image_height image_width"],
        *,
        maps: list[Float[Tensor, "batch tokens tokens"]] | None = None,
    ) -> tuple[Float[Tensor, "batch tokens width"], Rope]:
        """Tokens that enter the second-to-last block, and the positions for the last two.

        `maps` takes in the attention of each block on the way, averaged over the heads, without gradients.
        """
        transformer = self.transformer
        embedded = transformer._pos_embed(transformer.patch_embed(images))
        tokens, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        tokens = transformer.norm_pre(tokens)
        by_block = rope is not None and getattr(transformer, "rope_mixed", False)
        for index, block in enumerate(transformer.blocks[:-2]):
            positions = rope[index] if by_block else rope
            if maps is not None:
                with torch.no_grad():
                    split = SplitBlock(block, is_last=False, prefix=self.prefix_tokens)
                    maps.append(split.mean_attention(tokens, Rope(positions, None)))
            tokens = block(tokens) if rope is None else block(tokens, rope=positions)
        return tokens, Rope(*((rope[-2], rope[-1]) if by_block else (rope, rope)))

    def last_two_blocks(self) -> tuple[SplitBlock, SplitBlock]:
        """Views on the second-to-last and the last block."""
        block, last_block = self.transformer.blocks[-2:]
        return (
            SplitBlock(block, is_last=False, prefix=self.prefix_tokens),
            SplitBlock(last_block, is_last=True, prefix=self.prefix_tokens),
        )

    def pack(self, dtype: torch.dtype = torch.float32) -> None:
        """Lay the weights of the blocks out for inference on this CPU; afterwards they are not parameters.

        bfloat16 is for inference under autocast, and rounds the weights.
        """
        pack_blocks(self.transformer.blocks, dtype)

    def final_norm(self, class_token: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """The norm between the last block and a classifier."""
        normed: Tensor = self.transformer.fc_norm(self.transformer.norm(class_token))
        return normed

    def depth_of(self, parameter: str) -> int:
        """Depth of a parameter of this module by name: 0 = embeddings, blocks from 1, final norm last."""
        parts = parameter.removeprefix("transformer.").split(".")
        if parts[0] == "blocks":
            return int(parts[1]) + 1
        return self.depth if parts[0] in ("norm", "fc_norm") else 0

    @property
    def architecture(self) -> str:
        """timm's name of the transformer, from which it can be built without the hub."""
        return str(self.transformer.default_cfg["architecture"])

    @property
    def activation(self) -> str:
        """The activation inside its blocks, such as GELU or QuickGELU."""
        return type(getattr(self.transformer.blocks[0].mlp, "act", None)).__name__

    @property
    def depth(self) -> int:
        """Depth of the final norm: the number of blocks plus 1."""
        return len(self.transformer.blocks) + 1


def build_image_tower(config: ImageTowerConfig, *, load_weights: bool = True) -> ImageTower:
    """The tower that `config` names, with its weights; random ones where there are none to load.

    Position embeddings are resized to `config.image_size`. `load_weights=False` skips the loading. Weights
    of the hub get the activation that they were trained with (`trained_name`).

    Raises ConfigError for a name that timm does not know or a tower that selection
    cannot use, CheckpointError for weights that are not available or do not fit.
    """
    options: dict[str, Any] = {"num_classes": 0}
    if config.image_size is not None:
        size = config.image_size
        options["img_size"] = tuple(size) if isinstance(size, list) else (size, size)
    if not load_weights or not (config.pretrained or config.weights):
        return ImageTower(_create(config.name, None, options))
    is_local = config.name in IMAGE_TOWERS or config.name.startswith(_LOCAL)
    if config.weights is None and not is_local:
        with torch.device("meta"):
            _create(config.name, None, options)  # refused before anything is fetched
        files = fetch(image_files(config))
        if not files:
            hint = "set model.image_tower.weights to a local file, or pretrained to false"
            raise CheckpointError(f"image tower {config.name} has no weights on the hub; {hint}")
        return ImageTower(_create(trained_name(config.name), _read(files[-1]), options))
    if config.weights is not None:
        state = _read(Path(config.weights))
    elif config.name in IMAGE_TOWERS:
        state = _read(bundled_image_weights())
    else:
        state = _read(Path(config.name.removeprefix(_LOCAL)) / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    _check_tensors(config, shapes, ImageTower(_create(config.name, None, options)))
    return ImageTower(_create(config.name, state, options))


def check_image_weights(config: ImageTowerConfig, tower: ImageTower) -> None:
    """Refuse a local weights file that is not this tower's; reads its header only. Raises CheckpointError."""
    if config.weights is not None:
        try:
            stored = {name.removeprefix(OF_A_RUN): tensor.shape for name, tensor in read_header(config.weights).items()}
        except (OSError, SafetensorError) as error:
            raise _unreadable(config.weights, error) from None
        _check_tensors(config, stored, tower)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by timm's names; of a saved model, which its digest guards, those of its image tower."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    of_a_run = {name.removeprefix(OF_A_RUN): value for name, value in tensors.items() if name.startswith(OF_A_RUN)}
    if of_a_run:
        check_digest(path)
    return of_a_run or tensors


def _unreadable(path: str | Path, error: Exception) -> CheckpointError:
    rule = "must be a readable .safetensors file"
    return CheckpointError(f"model.image_tower.weights {rule}, got {path} ({one_line(error)})")


def _create(name: str, state: dict[str, Tensor] | None, options: dict[str, Any]) -> nn.Module:
    """timm's transformer of this name with these weights, or random ones."""
    given = name
    if name in IMAGE_TOWERS:
        options = IMAGE_TOWERS[name] | options
        name = options.pop("model_name")
    if name.startswith(HUB_PREFIX):
        (settings,) = fetch([HubFile(name.removeprefix(HUB_PREFIX), SETTINGS)])
        name = f"{_LOCAL}{settings.parent}"
    if not timm.is_model(name.split(".")[0]) and not name.startswith(_LOCAL):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:12]}*")[:3]) or f"{HUB_PREFIX}user/name"
        raise ConfigError(f"model.image_tower.name must be a timm model, got {name}; near: {near}")
    overlay = {} if state is None else {"state_dict": state, "source": "", "custom_load": False}
    try:
        transformer: nn.Module = timm.create_model(
            name, pretrained=state is not None, pretrained_cfg_overlay=overlay, **options
        )
    except TypeError:  # it does not take the size of an image
        raise ConfigError(f"model.image_tower.name: {given} cannot be used, {_NO_TRANSFORMER}") from None
    except (OSError, RuntimeError, AssertionError, ValueError) as error:
        reason = one_line(error)
        if "Invalid pretrained tag" in reason:
            known = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*")) or "none: set pretrained to false"
            raise ConfigError(f"model.image_tower.name must have a known tag, got {given}; known: {known}") from None
        raise ConfigError(f"model.image_tower.name: {given} cannot be built: {reason}") from None
    cast("Any", transformer).pretrained_cfg.pop("state_dict", None)  # timm would keep it
    if name.startswith(_LOCAL):
        _refuse_own_arguments(given, transformer, options)
    return transformer


def _refuse_own_arguments(name: str, transformer: nn.Module, options: dict[str, Any]) -> None:
    """Refuse a tower of the hub whose config changes its architecture: a saved model names only that."""
    architecture = cast("Any", transformer).default_cfg["architecture"]
    with torch.device("meta"):
        plain = timm.create_model(architecture, pretrained=False, **options)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (transformer, plain)]
    if str(transformer) != str(plain) or shapes[0] != shapes[1]:
        reason = f"its config changes timm's {architecture}, so a saved model could not be built without it"
        raise ConfigError(f"model.image_tower.name: {name} cannot be used, {reason}")


def _check_tensors(config: ImageTowerConfig, stored: dict[str, tuple[int, ...]], tower: ImageTower) -> None:
    """Refuse a weights file that lacks a tensor of the tower: timm would leave it random."""
    wanted = {name: tuple(value.shape) for name, value in tower.transformer.state_dict().items()}
    resized = ("pos_embed", "patch_embed.proj.weight")
    wrong = [
        name for name, shape in wanted.items() if name not in stored or (name not in resized and stored[name] != shape)
    ]
    if wrong:
        rule = f"lacks {len(wrong)} tensors of the tower, first {wrong[0]} of shape {wanted[wrong[0]]}"
        got = config.weights or config.name
        raise CheckpointError(f"model.image_tower.weights {got} {rule}; does it belong to this tower?")


def _unsupported(transformer: Any) -> str | None:
    if type(transformer) not in (VisionTransformer, Eva):
        return f"it is a {type(transformer).__name__}, not a plain vision transformer"
    if transformer.cls_token is None:
        return "it has no class token"
    if getattr(transformer, "attn_pool", None) is not None:
        return "it reads the image by attention pooling, not by its class token"
    if not isinstance(transformer.patch_drop, nn.Identity | NoneType):
        return "it drops patches at random"
    if len(transformer.blocks) < 3:
        return "it has fewer than 3 blocks"
    return next(filter(None, map(unsupported, transformer.blocks[-2:])), None)
