"""A folder of the layout and the parts of Stable Diffusion 1.x, with random weights and of a megabyte."""

import json
import sys
from pathlib import Path

import torch

from launcher.api import write_json

WORDS = ("a", "cross", "disc", "of", "photo", "square")
PROMPTS = ("a photo of a cross", "a photo of a disc", "a square")
TOKENS = 24  # tokens of a prompt
WIDTH = 16  # width of a token
LATENT_PX, FACTOR = 8, 2  # side of a latent image, and how much larger an image is


def write_tiny_folder(root: Path, *, beta_schedule: str = "scaled_linear") -> Path:
    """Write the folder; needs diffusers and transformers."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        UNet2DConditionModel(
            sample_size=LATENT_PX,
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=8,
            norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).save_pretrained(root / "unet")
        AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * FACTOR,
            up_block_types=("UpDecoderBlock2D",) * FACTOR,
            norm_num_groups=8,
            latent_channels=4,
            sample_size=LATENT_PX * FACTOR,
        ).save_pretrained(root / "vae")
        CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary()),
                hidden_size=WIDTH,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        ).save_pretrained(root / "text_encoder")
    DDIMScheduler(
        beta_schedule=beta_schedule, beta_start=0.00085, beta_end=0.012, clip_sample=False
    ).save_pretrained(root / "scheduler")
    write_tokenizer(root / "tokenizer")
    write_json(root / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    return root


def write_prompts(path: Path) -> Path:
    """Write a file of prompts."""
    path.write_text("# concepts\n\n" + "\n".join(PROMPTS) + "\n", encoding="utf-8")
    return path


def vocabulary() -> dict[str, int]:
    """Return tokens: both ends, every letter alone and at a word's end, and a merge of two."""
    letters = sorted(set("".join(WORDS)))
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    return {token: number for number, token in enumerate([*tokens, "of</w>"])}


def write_tokenizer(folder: Path) -> None:
    """Write the files of a tokenizer of these words."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\no f</w>\n", encoding="utf-8")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    write_json(
        folder / "tokenizer_config.json",
        {
            **ends,
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "model_max_length": TOKENS,
            "tokenizer_class": "CLIPTokenizer",
        },
    )


def main() -> None:
    """Write the folder that the command line names, and prompts that are classes of drawn shapes."""
    root = write_tiny_folder(Path(sys.argv[1]))
    (root / "prompts.txt").write_text("cross\ndisc\nsquare\n", encoding="utf-8")


if __name__ == "__main__":
    main()
