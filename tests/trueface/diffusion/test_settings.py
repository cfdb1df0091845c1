"""The settings of a diffuser: what follows from others, and what they refuse."""

from typing import Any

import pytest
from pydantic import ValidationError

from trueface.diffusion.settings import DiffuserSettings


def settings(**given: Any) -> DiffuserSettings:
    return DiffuserSettings.model_validate({"data_root": "data", **given})


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"size": 30}, "30 pixels is no multiple of 8, which unshuffle 2 and 3 levels"),
        ({"size": 32, "unshuffle": 16}, "no multiple of 64"),
        ({"widths": [48, 60]}, "60 is no multiple of 8"),
        ({"network": "mlp", "widths": [8, 16]}, "one width, not 8,16"),
        ({"t_max": 1001}, "t_max 1001 is beyond the last of 1000"),
        ({"ema": 1.0}, "less than 1"),
        ({"channels": 2}, "1 or 3"),
        ({"weights": "sd", "prompts": "words.txt", "num_steps": 5}, "num_steps would train"),
        ({"prompts": "words.txt"}, "prompts belong to weights"),
        ({"weights": "sd"}, "weights need prompts"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        settings(**given)


def test_what_is_not_given_is_usual_for_the_network() -> None:
    unet, mlp = settings(), settings(network="mlp", size=10)
    assert (unet.network_widths, unet.embedding_width) == ((48, 64, 96), 64)
    assert (mlp.network_widths, mlp.embedding_width) == ((192,) * 4, 16)
    assert (unet.latest_t, settings(t_max=300).latest_t) == (1000, 300)
    assert (unet.dropped(0), unet.dropped(6), settings(drop=0).dropped(6)) == (0, 0.1, 0)


def test_imported_weights_need_no_size_that_fits() -> None:
    assert settings(weights="sd", size=30, prompts="words.txt").weights == "sd"
