"""What several methods do, where no method's own test looks."""

import pytest
import torch

from trueface.data.examples import examples
from trueface.runtime.rng import derive
from trueface.unlearning.building_blocks import drawn

SAMPLES = examples(torch.zeros(40, 2), [0, 1] * 20)


def test_a_draw_follows_from_its_name_and_the_seed() -> None:
    draw = drawn(SAMPLES, 20, "some", 1)
    assert draw == drawn(SAMPLES, 20, "some", 1)
    assert draw != drawn(SAMPLES, 20, "some", 2)
    assert draw != drawn(SAMPLES, 20, "others", 1)


@pytest.mark.parametrize("count", [0, 1, 39, 40, 41])
def test_a_draw_is_the_begin_of_a_permutation_in_the_order_of_the_samples(count: int) -> None:
    random = torch.Generator().manual_seed(derive("some", 3))
    order = torch.randperm(40, generator=random).tolist()
    assert drawn(SAMPLES, count, "some", 3).positions == tuple(sorted(order[:count]))
