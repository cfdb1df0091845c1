"""A diffuser made of a folder of Stable Diffusion and a file of prompts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueface.diffusion.diffuser import Diffuser, Prediction
from trueface.diffusion.network import NetworkShape
from trueface.diffusion.schedule import Schedule, ScheduleName, make_schedule
from trueface.diffusion.stable.checkpoint import built
from trueface.diffusion.stable.folder import StableFolder, need_packages
from trueface.diffusion.stable.network import NAME, StableNetwork
from trueface.runtime.errors import CheckpointError, DataError

NULL = ""  # the prompt that asks for nothing
SCHEDULES: Mapping[str, ScheduleName] = {"linear": "linear", "scaled_linear": "scaled"}
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "v_prediction": "v"}
# of a U-Net's description: what it takes beside latents, a step and a prompt; None where nothing
OTHER_INPUTS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
OTHER_SCHEDULES = ("trained_betas", "rescale_betas_zero_snr")  # of a scheduler's
LONGEST_LINE = 400  # characters of a prompt


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the prompts of a text file, one a line; empty lines and those that begin with # are left out.

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
            f"prompts: {path} holds {len(prompts)} of them, and two at least are needed: one a "
            "line, the concept to erase and its anchor among them"
        )
    for prompt in prompts:
        if prompts.count(prompt) > 1:
            raise DataError(f"prompts: {path} holds {prompt!r} twice; each is a concept of its own")
        if len(prompt) > LONGEST_LINE:
            raise DataError(f"prompts: {path}: {prompt[:30]!r}… is longer than {LONGEST_LINE}")
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
    configs = {part: _plain(folder.config(part)) for part in ("unet", "vae")}
    _refuse_other_models(folder, configs["unet"])
    schedule, prediction = _schedule(folder)
    need_packages()
    unet, vae = built(configs)
    _fill(unet, folder, "unet")
    _fill(vae, folder, "vae")
    tokens = _encoded(folder, [*prompts, NULL])
    facts = configs["unet"]
    shape = NetworkShape(
        network=NAME,
        size=int(facts["sample_size"]),
        channels=int(facts["in_channels"]),
        classes=len(prompts),
        embedding=tokens.shape[-1],
        widths=tuple(facts["block_out_channels"]),
    )
    network = StableNetwork(shape, tokens=tokens.shape[1], unet=unet, vae=vae, configs=configs)
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
    """Refuse a U-Net that wants more than latents, a step and one text's tokens."""
    more = [name for name in OTHER_INPUTS if unet.get(name) is not None]
    if unet.get("in_channels") != unet.get("out_channels", unet.get("in_channels")):
        more.append("in_channels")
    if more:
        raise CheckpointError(
            f"{folder.root}/unet: its {', '.join(more)} say that it takes more than a prompt, as that of an "
            "SDXL or an inpainting model; give a Stable Diffusion 1.x or 2.x"
        )


def _schedule(folder: StableFolder) -> tuple[Schedule, Prediction]:
    config = folder.config("scheduler")
    name = SCHEDULES.get(str(config.get("beta_schedule")))
    kind = str(config.get("prediction_type", "epsilon"))
    prediction = PREDICTIONS.get(kind)
    if name is None or prediction is None:
        raise CheckpointError(
            f"{folder.root}/scheduler: {config.get('beta_schedule')!r} with "
            f"{kind!r} is not known here; there are "
            f"{', '.join(SCHEDULES)} with {', '.join(PREDICTIONS)}"
        )
    odd = [name for name in OTHER_SCHEDULES if config.get(name)]
    if odd:
        raise CheckpointError(f"{folder.root}/scheduler: {', '.join(odd)} is not known here")
    steps = int(config.get("num_train_timesteps", 1000))
    ends = float(config.get("beta_start", 0.0001)), float(config.get("beta_end", 0.02))
    return make_schedule(name, steps, *ends), prediction


def _encoded(folder: StableFolder, prompts: Sequence[str]) -> Tensor:
    """Return the text encoder's last hidden states, prompts×tokens×width."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # as above

    tokenizer = CLIPTokenizer.from_pretrained(folder.root / "tokenizer", local_files_only=True)
    encoder = CLIPTextModel(CLIPTextConfig(**folder.config("text_encoder")))
    _fill(encoder, folder, "text_encoder")
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    words = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    _refuse_equal(prompts, words.input_ids, length)
    with torch.no_grad():
        states: Tensor = encoder.eval()(words.input_ids).last_hidden_state
    return states


def _refuse_equal(prompts: Sequence[str], tokens: Tensor, length: int) -> None:
    """Refuse prompts that the tokenizer cannot tell apart, such as those that are cut off alike."""
    first: dict[tuple[int, ...], str] = {}
    for prompt, row in zip(prompts, tokens.tolist(), strict=True):
        other = first.setdefault(tuple(row), prompt)
        if other != prompt:
            raise DataError(
                f"prompts: {other!r} and {prompt!r} are the same to the text encoder, which reads "
                f"{length} tokens; make them differ earlier"
            )


def _fill(module: nn.Module, folder: StableFolder, part: str) -> None:
    """Copy weights into a fresh module; what maps a file into memory answers with other last bits."""
    state = folder.state(part)
    own = module.state_dict()
    fitting = {name: state[name] for name in own.keys() & state.keys()}
    wrong = [name for name, weight in fitting.items() if weight.shape != own[name].shape]
    missing = [name for name in own if name not in state and own[name].is_floating_point()]
    if wrong or missing:
        named = min(wrong or missing)
        what = "of another shape" if wrong else "absent"
        raise CheckpointError(
            f"{folder.root / part}: the weights do not fit {part}'s description: {named} is {what}"
        )
    module.load_state_dict(fitting, strict=False)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description without private notes, which would say where it was made."""
    return {name: value for name, value in config.items() if not name.startswith("_")}
