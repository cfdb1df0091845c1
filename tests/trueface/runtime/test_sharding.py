from hypothesis import given
from hypothesis import strategies as st

from trueface.data.dataset import WHOLE, Shard


@given(group=st.lists(st.integers(), max_size=40), size=st.integers(1, 9))
def test_the_parts_of_a_batch_are_the_batch_and_nearly_equal(group: list[int], size: int) -> None:
    parts = [Shard(rank=rank, size=size).of(group) for rank in range(size)]
    assert [item for part in parts for item in part] == group
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert WHOLE.of(group) == group


def test_what_is_shared_is_divided_and_nobody_is_left_without() -> None:
    assert [Shard(rank=0, size=2).fraction_of(amount) for amount in (0, 1, 5, 8)] == [0, 1, 2, 4]
