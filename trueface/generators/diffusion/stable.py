"""Stable Diffusion from a local folder, instead of a network trained here. Needs the extra `diffusion`.

A folder in the layout of diffusers is checked before anything is imported. Its U-Net works on latents:
`decode_latents` makes images of them, `encode_images` the reverse (arXiv 2112.10752). A prompt is what a class is
elsewhere: `table` holds the text encoder's answers for each of them, and for the empty prompt, which is
null. This module is imported only where a job's settings or a checkpoint ask for it.
Start reading at `StableNetwork`.
"""

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from trueface.generators.diffusion.diffuser import Diffuser, Prediction
from trueface.generators.diffusion.networks import CrossAttention, EpsNetwork, NetworkShape
from trueface.generators.diffusion.schedule import Schedule, ScheduleName, make_schedule
from trueface.generators.diffusion.token_spans import TokenSpans
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, DataError, JobError, install_command

INDEX = "model_index.json"
# required parts of a folder, with the configuration file of each
PARTS: Mapping[str, str] = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
# files of a part, the first that is there
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)
PACKAGES = ("diffusers", "transformers", "safetensors")


NAME: Final = "stable"
AT_ONCE = 8  # images through the VAE, which takes gigabytes for some of 512 pixels
CROSS_ATTENTION = "attn2"  # ending of the layers' names
MAPS = (f"{CROSS_ATTENTION}.to_k", f"{CROSS_ATTENTION}.to_v")  # endings of the maps' names
NULL = ""  # the empty prompt
SPANS = "token_spans"  # key of the spans in files
SCHEDULES: Mapping[str, ScheduleName] = {"linear": "linear", "scaled_linear": "scaled"}
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "v_prediction": "v"}
# keys of a U-Net's configuration for inputs other than latents, step and prompt; None if unused
OTHER_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
OTHER_SCHEDULES = ("trained_betas", "rescale_betas_zero_snr")  # keys of a scheduler's configuration
LONGEST_LINE = 400  # characters of a prompt


@dataclass(frozen=True, slots=True)
class StableFolder:
    """A folder whose parts are all there."""

    root: Path

    def config(self, part: str) -> dict[str, Any]:
        """Return how a part is built: the file that describes it.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = self.root / part / PARTS[part]
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(
                f"{path} does not describe a part of a model: expected a JSON object"
            )
        return content

    def state(self, part: str) -> dict[str, Tensor]:
        """Return the weights of a part, in fp32.

        Raises:
            CheckpointError: they are absent, damaged, or would have to execute something.
        """
        folder = self.root / part
        path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if path is None:
            raise CheckpointError(
                f"{folder} has no weights. Add {WEIGHTS[0]} or {WEIGHTS[1]}, which save_pretrained "
                "writes."
            )
        try:
            content = tensor_files.load(path)
        except tensor_files.BrokenFileError as error:
            raise CheckpointError(f"{path} cannot be read safely: {error}") from error
        return {name: tensor.float() for name, tensor in content.items() if _is_float(tensor)}


def stable_folder(root: Path) -> StableFolder:
    """Return a folder whose parts are all there.

    Raises:
        CheckpointError: the folder or a part of it is absent. The message names the required files.
    """
    if not root.is_dir():
        raise CheckpointError(
            f"weights: folder {root} does not exist. Give a folder with a Stable Diffusion model in the "
            f"layout of diffusers ({INDEX} and {', '.join(PARTS)})."
        )
    needed = [INDEX, *(f"{part}/{name}" for part, name in PARTS.items())]
    missing = [name for name in needed if not (root / name).is_file()]
    if missing:
        raise CheckpointError(
            f"weights: {root} does not contain {', '.join(missing)}. Give a complete Stable Diffusion "
            "model, written by save_pretrained of a pipeline of diffusers."
        )
    return StableFolder(root)


def need_packages() -> None:
    """Check that the extra is installed, and set it to offline mode.

    Raises:
        JobError: a package of it is missing; says how to install it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise JobError(
            f"Stable Diffusion needs {', '.join(missing)}. Install with: {install_command('diffusion')}"
        )
    # read when they are imported; a folder that lacks something must not be looked for elsewhere
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _is_float(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_floating_point()


class PromptTable(nn.Embedding):
    """The text encoder's answers for prompts: a row is all tokens of one, after each other."""

    def __init__(self, prompts: int, tokens: int, width: int) -> None:
        super().__init__(prompts, tokens * width)
        self.tokens = tokens

    def forward(self, labels: Tensor) -> Tensor:
        """Return N×tokens×width for the numbers (N,) of prompts."""
        rows: Tensor = super().forward(labels)
        return rows.reshape(len(rows), self.tokens, -1)


class StableNetwork(EpsNetwork):
    """A conditional U-Net on latents.

    The VAE's weights are buffers: they move and are kept with the network, and no training sees them.

    Args:
        shape: side and channels of the latents; `embedding` is the width of a token.
        tokens: of a prompt.
        unet: the U-Net, a `UNet2DConditionModel`.
        vae: an `AutoencoderKL`.
        configs: how both are built again, by "unet" and "vae".
        token_spans: tokens of each prompt. None: unknown, as in the files of older versions.
    """

    def __init__(
        self,
        shape: NetworkShape,
        *,
        tokens: int,
        unet: nn.Module,
        vae: nn.Module,
        configs: Mapping[str, Mapping[str, Any]],
        token_spans: TokenSpans | None = None,
    ) -> None:
        super().__init__(shape)
        self.token_spans = token_spans
        self.table: PromptTable = PromptTable(shape.classes + 1, tokens, shape.embedding)
        self.tokens = tokens
        self.unet = unet
        self.vae = _as_buffers(vae)
        self.configs = configs
        # the default is that of diffusers 0.42
        self.scale = float(configs["vae"].get("scaling_factor", 0.18215))

    def build_config(self) -> dict[str, Any]:
        """Return all that is needed to build it again, but the weights, as plain values."""
        configs = {name: dict(config) for name, config in self.configs.items()}
        facts = {**super().build_config(), "tokens": self.tokens, "configs": configs}
        if self.token_spans is None:
            return facts
        return {**facts, SPANS: [[list(span) for span in spans] for spans in self.token_spans]}

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in latents N×C×H×W; see EpsNetwork.

        Args:
            x: latents.
            t: (N,) integers, 1 … T; diffusers count them from 0.
            embedding: (N, tokens, width); None: null.
        """
        if embedding is None:
            null = torch.full((len(x),), self.classes, device=x.device)
            embedding = self.table(null)
        answer: Tensor = self.unet(x, t - 1, encoder_hidden_states=embedding).sample
        return answer

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        """Return the keys' and values' maps of every cross-attention."""
        return tuple(
            module
            for name, module in self.unet.named_modules()
            if name.endswith(MAPS) and isinstance(module, nn.Linear)
        )

    def cross_attentions(self) -> tuple[CrossAttention, ...]:
        """Return the layers of cross-attention, which are `Attention` of diffusers."""
        return tuple(
            cast("CrossAttention", module)
            for name, module in self.unet.named_modules()
            if name.endswith(CROSS_ATTENTION)
        )

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return images N×3×H×W of latents, cut to [-1, 1]."""
        parts = [
            self.vae.decode(part / self.scale).sample for part in torch.split(latents, AT_ONCE)
        ]
        return torch.cat(parts).clamp(-1, 1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the latents of images in [-1, 1]: the mode of the distribution, without sampling."""
        parts = [self.vae.encode(part).latent_dist.mode() for part in torch.split(images, AT_ONCE)]
        return torch.cat(parts) * self.scale


def _as_buffers(module: nn.Module) -> Any:  # the package has no types
    for part, name, weight in list(_weights(module)):
        delattr(part, name)
        part.register_buffer(name, weight.detach())
    return module


def _weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            yield part, name, weight


def rebuild(facts: Mapping[str, Any]) -> StableNetwork:
    """Return a network with untrained weights from `StableNetwork.build_config`.

    Raises:
        JobError: the extra `diffusion` is not installed.
        KeyError, TypeError, ValueError: the facts are not of such a network.
    """
    known = {key: facts[key] for key in ("size", "channels", "classes", "embedding")}
    shape = NetworkShape(network=NAME, widths=tuple(facts["widths"]), **known)
    configs = facts["configs"]
    unet, vae = build_unet_and_vae(configs)
    spans = facts.get(SPANS)
    return StableNetwork(
        shape,
        tokens=facts["tokens"],
        unet=unet,
        vae=vae,
        configs=configs,
        token_spans=None if spans is None else _to_spans(spans),
    )


def _to_spans(rows: Sequence[Sequence[Sequence[int]]]) -> TokenSpans:
    return tuple(tuple((int(start), int(end)) for start, end in spans) for spans in rows)


def build_unet_and_vae(configs: Mapping[str, Mapping[str, Any]]) -> tuple[nn.Module, nn.Module]:
    """Return an untrained U-Net and an untrained VAE.

    Raises:
        JobError: the extra `diffusion` is not installed.
    """
    need_packages()
    # seconds to import, and an extra: only what works with Stable Diffusion pays for it
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet: nn.Module = UNet2DConditionModel.from_config(dict(configs["unet"]))
    vae: nn.Module = AutoencoderKL.from_config(dict(configs["vae"]))
    return unet, vae


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the prompts of a text file, one per line. Empty lines and lines that begin with # are skipped.

    Raises:
        DataError: it cannot be read, or holds fewer than two prompts, one twice, or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"prompts: {path} cannot be read as text: {error}") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(prompts) < 2:
        raise DataError(
            f"prompts: {path} has {len(prompts)} of them, expected at least two. Write one prompt per "
            "line, including the concept to erase and its anchor."
        )
    for prompt in prompts:
        if prompts.count(prompt) > 1:
            raise DataError(f"prompts: {path} has {prompt!r} twice. Keep one of them.")
        if len(prompt) > LONGEST_LINE:
            raise DataError(
                f"prompts: {prompt[:30]!r}… in {path} is longer than {LONGEST_LINE} characters"
            )
    return tuple(prompts)


def import_stable(folder: StableFolder, prompts: Sequence[str]) -> Diffuser:
    """Return the diffuser of a folder, in fp32 on the CPU, its classes being prompts.

    Args:
        folder: checked.
        prompts: the concepts.

    Raises:
        CheckpointError: a part does not fit its description, or works otherwise than is known here.
        JobError: the extra `diffusion` is not installed.
    """
    configs = {part: _drop_private_notes(folder.config(part)) for part in ("unet", "vae")}
    _refuse_other_models(folder, configs["unet"])
    schedule, prediction = _schedule(folder)
    need_packages()
    unet, vae = build_unet_and_vae(configs)
    _fill(unet, folder, "unet")
    _fill(vae, folder, "vae")
    tokens, spans = _encode_prompts(folder, [*prompts, NULL])
    facts = configs["unet"]
    shape = NetworkShape(
        network=NAME,
        size=int(facts["sample_size"]),
        channels=int(facts["in_channels"]),
        classes=len(prompts),
        embedding=tokens.shape[-1],
        widths=tuple(facts["block_out_channels"]),
    )
    network = StableNetwork(
        shape,
        tokens=tokens.shape[1],
        unet=unet,
        vae=vae,
        configs=configs,
        token_spans=None if spans is None else spans[:-1],
    )
    with torch.no_grad():
        network.table.weight.copy_(tokens.flatten(1))
    network.eval().requires_grad_(requires_grad=False)
    return Diffuser(
        network=network,
        schedule=schedule,
        prediction=prediction,
        size=shape.size,
        channels=shape.channels,
        class_names=tuple(prompts),
        has_null=True,
    )


def _refuse_other_models(folder: StableFolder, unet: Mapping[str, Any]) -> None:
    """Reject a U-Net with inputs other than latents, a step and the tokens of one text."""
    more = [name for name in OTHER_INPUTS if unet.get(name) is not None]
    if unet.get("in_channels") != unet.get("out_channels", unet.get("in_channels")):
        more.append("in_channels")
    if more:
        raise CheckpointError(
            f"{folder.root}/unet: {', '.join(more)} shows that this model takes more than a prompt, such "
            "as an SDXL or inpainting model. Give a Stable Diffusion 1.x or 2.x."
        )


def _schedule(folder: StableFolder) -> tuple[Schedule, Prediction]:
    config = folder.config("scheduler")
    name = SCHEDULES.get(str(config.get("beta_schedule")))
    kind = str(config.get("prediction_type", "epsilon"))
    prediction = PREDICTIONS.get(kind)
    if name is None or prediction is None:
        raise CheckpointError(
            f"{folder.root}/scheduler: {config.get('beta_schedule')!r} with {kind!r} is not supported. "
            f"Use one of {', '.join(SCHEDULES)} with one of {', '.join(PREDICTIONS)}."
        )
    odd = [name for name in OTHER_SCHEDULES if config.get(name)]
    if odd:
        raise CheckpointError(f"{folder.root}/scheduler: {', '.join(odd)} is not supported")
    steps = int(config.get("num_train_timesteps", 1000))
    ends = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    return make_schedule(name, steps, *ends), prediction


def _encode_prompts(
    folder: StableFolder, prompts: Sequence[str]
) -> tuple[Tensor, TokenSpans | None]:
    """Return the text encoder's last hidden states, prompts×tokens×width, and the tokens of each prompt.

    Tokenizers of transformers before 5 do not give the tokens' places.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # as above

    tokenizer = CLIPTokenizer.from_pretrained(folder.root / "tokenizer", local_files_only=True)
    encoder = CLIPTextModel(CLIPTextConfig(**folder.config("text_encoder")))
    _fill(encoder, folder, "text_encoder")
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    words = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
        return_offsets_mapping=tokenizer.is_fast,
    )
    _refuse_equal(prompts, words.input_ids, length)
    with torch.no_grad():
        states: Tensor = encoder.eval()(words.input_ids).last_hidden_state
    if not tokenizer.is_fast:
        return states, None
    # both ends of the text and the padding have no characters
    spans = [[span for span in row if span[1] > span[0]] for row in words.offset_mapping.tolist()]
    return states, _to_spans(spans)


def _refuse_equal(prompts: Sequence[str], tokens: Tensor, length: int) -> None:
    """Reject prompts with equal tokens, such as prompts that are equal after truncation."""
    first: dict[tuple[int, ...], str] = {}
    for prompt, row in zip(prompts, tokens.tolist(), strict=True):
        other = first.setdefault(tuple(row), prompt)
        if other != prompt:
            raise DataError(
                f"prompts: {other!r} and {prompt!r} have the same first {length} tokens, and the text "
                "encoder reads no more. Shorten or change one of them."
            )


def _fill(module: nn.Module, folder: StableFolder, part: str) -> None:
    """Copy weights into a new module, because memory-mapped weights give results that differ by rounding."""
    state = folder.state(part)
    own = module.state_dict()
    fitting = {name: state[name] for name in own.keys() & state.keys()}
    wrong = [name for name, weight in fitting.items() if weight.shape != own[name].shape]
    missing = [name for name in own if name not in state and own[name].is_floating_point()]
    if wrong or missing:
        named = min(wrong or missing)
        fault = "has another shape" if wrong else "is missing"
        raise CheckpointError(
            f"{folder.root / part}: the weights do not fit the configuration of {part}: {named} {fault}"
        )
    module.load_state_dict(fitting, strict=False)


def _drop_private_notes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description without private notes, which would say where it was made."""
    return {name: value for name, value in config.items() if not name.startswith("_")}
