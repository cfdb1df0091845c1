"""Forget-Me-Not: the attention of an image to the concept's words is trained towards zero.

Left out is the textual inversion that precedes the erasing in the authors' program. It learns new tokens for the
concept and needs the text encoder, which a diffuser here does not keep. Their images are real ones of the concept.
Here they are samples of the teacher, or the images of a folder; the latents of an image are the mode of its
distribution, not a sample. Their program marks each end-of-text token. In Stable Diffusion 1.x the padding
consists of these tokens, so it marks all padding. Here, only the first one counts, as with Stable Diffusion 2.1,
which the authors used.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.networks import CrossAttention
from trueface.generators.diffusion.token_spans import find_words, token_places
from trueface.generators.erasing.erasure import (
    ErasureTask,
    freeze_student,
    iter_noised_images,
    make_student,
    minimize_with_adam,
    predict_noise,
    sample_trajectories,
)
from trueface.generators.erasing.registry import STEPS, register_erasure
from trueface.runtime.errors import JobError

WEIGHT_DECAY = 0.01  # value in the authors' program
CLIP = 1.0  # largest norm of the gradients in the authors' program


@register_erasure(
    "forget-me-not",
    summary="removes the attention of an image to the concept's words, in text-to-image models",
    needs={"text"},
    defaults={
        **STEPS, "num_steps": 35, "lr": 2e-6, "batch_size": 1, "scope": "all", "paths": 10,
        "guidance": 7.5, "sample_steps": 50, "concept_words": "", "images": "",
    },
)  # fmt: skip
def forget_me_not(teacher: Diffuser, task: ErasureTask) -> Diffuser:
    """Erase by Forget-Me-Not (E. Zhang et al., arXiv 2303.17591), as in the authors' program.

        L = || A ||

    A are the attention probabilities at the tokens of the concept and at the end of the text, of all layers of
    cross-attention, heads and pixels together. The norm is neither squared nor a mean. It therefore grows with the
    size of the images and the number of layers. The values are those of SHI-Labs/Forget-Me-Not at a4a81e82 (MIT
    licence): all weights, AdamW at 2e-6 with a weight decay of 0.01, 35 steps of one image. Gradients are clipped to
    1. The number of samples is that of the authors' images. Guidance and steps are the usual ones of Stable
    Diffusion.
    """
    places = concept_places(teacher, task)
    rng = task.generator("samples")
    noisy = iter_noised_images(teacher, _latents(teacher, task, rng), task, rng)
    student, parameters = make_student(teacher, task.options.scope)
    minimize_with_adam(
        task,
        parameters,
        lambda: attention_loss(student, *next(noisy), task, places),
        weight_decay=WEIGHT_DECAY,
        clip=CLIP,
    )
    return freeze_student(student)


def concept_places(teacher: Diffuser, task: ErasureTask) -> tuple[int, ...]:
    """Return the places of the tokens whose attention is erased.

    Raises:
        JobError: they are not known, not all read by the text encoder, or their words are in another prompt, too.
    """
    spans, words = teacher.network.token_spans, task.options.concept_words
    if spans is None:
        raise JobError(
            "this diffuser contains no places of the tokens of its prompts. Import it again, with transformers 5 "
            "or later."
        )
    prompt = teacher.class_names[task.erase]
    for other in teacher.class_names:
        if other != prompt and find_words(words or prompt, other):
            raise JobError(
                f"concept_words: {words or prompt!r} is also in the prompt {other!r}, whose images would lose it, "
                "too. Import the model without that prompt, or give other words."
            )
    return token_places(words, prompt, spans[task.erase])


def attention_loss(
    student: Diffuser, noisy: Tensor, t: Tensor, task: ErasureTask, places: Sequence[int]
) -> Tensor:
    """Return the loss of a batch z_t."""
    layers = student.network.cross_attentions()
    queries: dict[int, Tensor] = {}
    keys: dict[int, Tensor] = {}
    hooks = [
        module.register_forward_hook(_store_output(outputs, number))
        for number, layer in enumerate(layers)
        for module, outputs in ((layer.to_q, queries), (layer.to_k, keys))
    ]
    try:
        predict_noise(student, noisy, t, task.erase)
    finally:
        for hook in hooks:
            hook.remove()
    return attention_norm(
        (
            attention_map(queries[number], keys[number], layer)
            for number, layer in enumerate(layers)
        ),
        places,
    )


def attention_map(queries: Tensor, keys: Tensor, layer: CrossAttention) -> Tensor:
    """Return the attention probabilities of a layer.

    Args:
        queries: output of its `to_q`, N×pixels×(heads * numbers of a head).
        keys: output of its `to_k`, N×tokens×(heads * numbers of a head).
        layer: the layer.

    Returns:
        Probabilities, N×heads×pixels×tokens.
    """
    # N×heads×(pixels or tokens)×numbers
    q, k = (
        each.reshape(*each.shape[:2], layer.heads, -1).transpose(1, 2) for each in (queries, keys)
    )
    probabilities: Tensor = (layer.scale * q @ k.transpose(-1, -2)).softmax(-1)
    return probabilities


def attention_norm(maps: Iterable[Tensor], places: Sequence[int]) -> Tensor:
    """Return the Euclidean norm of the probabilities at some places of all maps, …×tokens, together."""
    norm: Tensor = torch.cat([each[..., list(places)].flatten() for each in maps]).norm()
    return norm


def _latents(teacher: Diffuser, task: ErasureTask, rng: torch.Generator) -> Tensor:
    """Return latents of the concept: of real images if there are any, otherwise of samples.

    Raises:
        JobError: the images have another size than the teacher's.
    """
    images = task.concept_images
    if images is None:
        return sample_trajectories(teacher, task.erase, task.options.paths, task, rng).images
    with torch.no_grad():
        latents = teacher.network.encode_images(images.to(teacher.device))
    if latents.shape[-2:] != (teacher.size, teacher.size):
        height, width = images.shape[-2:]
        side = teacher.size * round(width / latents.shape[-1])
        raise JobError(
            f"images: the images have {width}x{height} pixels, but the diffuser draws {side}x{side}. Resize them "
            "first."
        )
    return latents


def _store_output(outputs: dict[int, Tensor], number: int) -> Callable[..., None]:
    def store(_module: object, _inputs: object, output: Tensor) -> None:
        outputs[number] = output

    return store
