"""InceptionV3 with random weights, and a small CLIP folder: what the measures of publications read."""

from pathlib import Path

import torch
from torch import nn

from tests.trueface.diffusion.stable.tiny_folder import TOKENS, WIDTH, vocabulary, write_tokenizer

VIEW_PX = 16


def write_inception(path: Path) -> Path:
    """Write a state dict; needs torch-fidelity."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]  # of a package without types
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Keep what was drawn."""

    empty = path.with_suffix(".empty")
    torch.save({}, empty)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        network = Untrained("inception-v3-compat", ["2048"], str(empty))
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)
    return path


def write_clip(folder: Path) -> Path:
    """Write a CLIP model of two layers in the layout of transformers; needs that."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**small, **ends, "vocab_size": len(vocabulary()), "max_position_embeddings": TOKENS}
    seen = {**small, "image_size": VIEW_PX, "patch_size": 8}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(2)
        config = CLIPConfig(text_config=text, vision_config=seen, projection_dim=8)
        CLIPModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    side = {"height": VIEW_PX, "width": VIEW_PX}
    CLIPImageProcessor(size={"shortest_edge": VIEW_PX}, crop_size=side).save_pretrained(folder)
    return folder
