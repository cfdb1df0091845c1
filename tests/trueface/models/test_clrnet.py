"""CLRNet: its convolutional LSTM, and the clips and files that it takes."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.trueface.models.build import untrained
from trueface.models.architectures.clrnet import ConvLstm
from trueface.models.published_settings import PublishedSettings
from trueface.runtime.errors import JobError

torch.set_num_threads(1)


def test_convolutional_lstm_of_single_pixels_is_an_lstm() -> None:
    torch.manual_seed(1)
    ours, theirs = ConvLstm(3, 4, 1), nn.LSTM(3, 4, batch_first=True)
    frames = torch.randn(2, 5, 3)
    with torch.no_grad():
        state = {
            "weight_ih_l0": ours.inputs.weight[..., 0, 0],
            "weight_hh_l0": ours.states.weight[..., 0, 0],
            "bias_ih_l0": torch.tensor([0.0, 1, 0, 0]).repeat_interleave(4),
            "bias_hh_l0": torch.zeros(16),
        }
        theirs.load_state_dict(state)
        found = ours(frames[..., None, None])
        torch.testing.assert_close(found[..., 0, 0], theirs(frames)[0])


def test_clrnet_sees_the_order_of_five_frames() -> None:
    model = untrained("clrnet", side=32)
    clips = torch.randint(0, 256, (2, 1, 5, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert not torch.allclose(model(clips), model(clips.flip(2)))
    with pytest.raises(JobError, match="needs clips of 5 frames, got 4"):
        model(clips[:, :, :4])


def test_clrnet_loads_no_file_of_others() -> None:
    with pytest.raises(ValidationError, match="it loads no file of others"):
        PublishedSettings(architecture="clrnet", weights="clrnet.pth")
