import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.augmentations.steps import Window, centre, cut, part

LENGTH = st.integers(1, 40)
PLACE = st.integers(-20, 50)
WINDOWS = st.builds(Window, top=PLACE, left=PLACE, height=LENGTH, width=LENGTH)


@given(LENGTH, LENGTH, LENGTH)
def test_the_centred_square_is_torchvision_s_centre_crop(
    height: int, width: int, side: int
) -> None:
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    top, left = centre(height, width, side)
    found = cut(image, Window(top=top, left=left, height=side, width=side))
    assert torch.equal(found, image_ops.center_crop(image, [side, side]))


@given(WINDOWS, LENGTH, LENGTH)
def test_a_cut_is_black_where_the_image_does_not_reach(
    window: Window, height: int, width: int
) -> None:
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    around = image_ops.pad(image, [100, 100])
    whole = Window(top=-100, left=-100, height=height + 200, width=width + 200)
    assert torch.equal(cut(image, window), part(around, whole, window))
    assert cut(image, window).shape == (3, window.height, window.width)


@given(WINDOWS, st.integers(1, 40), st.booleans(), st.booleans())
def test_flipping_twice_is_no_flip(window: Window, size: int, mirrored: bool, turned: bool) -> None:
    once = window.flipped(size, mirrored=mirrored, turned=turned)
    assert once.flipped(size, mirrored=mirrored, turned=turned) == window
    assert (once == window) or mirrored or turned


@given(WINDOWS, st.integers(1, 40))
def test_what_is_within_a_square_stays_in_it(window: Window, size: int) -> None:
    inside = window.within(size)
    assert 0 <= inside.top <= inside.bottom <= size
    assert 0 <= inside.left <= inside.right <= size
    assert inside.within(size) == inside


@pytest.mark.parametrize(
    ("by", "multiple", "expected"),
    [
        (0, 1, (20, 30, 10, 5)),
        (7, 1, (13, 23, 24, 19)),
        (0, 16, (16, 16, 16, 32)),
        (2, 16, (16, 16, 16, 32)),
        (5, 16, (0, 16, 48, 32)),
        (40, 16, (0, 0, 70, 70)),
    ],
)
def test_a_window_grows_to_whole_cells_and_not_beyond_the_square(
    by: int, multiple: int, expected: tuple[int, int, int, int]
) -> None:
    window = Window(top=20, left=30, height=10, width=5).wider(by, 70, multiple=multiple)
    assert (window.top, window.left, window.height, window.width) == expected
