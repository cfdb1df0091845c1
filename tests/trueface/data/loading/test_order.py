from collections import Counter

from trueface.data.loading.batches import order_of

CELLS = [0] * 60 + [1] * 3 + [4] * 7


def drawn(epoch: int = 0, seed: int = 1) -> list[int]:
    return order_of(range(len(CELLS)), shuffle_seed=seed, epoch=epoch, cells=CELLS)


def test_every_cell_is_drawn_equally_often_and_its_images_too() -> None:
    order = drawn()
    assert len(order) == len(CELLS)
    by_cell = Counter(CELLS[position] for position in order)
    assert set(by_cell) == {0, 1, 4}
    assert max(by_cell.values()) - min(by_cell.values()) <= 1
    for cell in by_cell:
        times = Counter(position for position in order if CELLS[position] == cell)
        assert max(times.values()) - min(times.values()) <= 1


def test_a_batch_is_as_even_as_the_epoch() -> None:
    order = drawn()
    for at in range(0, 69, 3):
        assert {CELLS[position] for position in order[at : at + 3]} == {0, 1, 4}


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    assert drawn() == drawn()
    assert drawn() != drawn(epoch=1)
    assert drawn() != drawn(seed=2)


def test_some_of_the_images_are_drawn_by_their_own_cells() -> None:
    some = list(range(55, 65))
    order = order_of(some, shuffle_seed=1, epoch=0, cells=CELLS)
    assert len(order) == len(some)
    assert set(order) <= set(some)


def test_what_is_not_shuffled_is_not_drawn() -> None:
    assert order_of([3, 1, 2], shuffle_seed=None, epoch=0, cells=CELLS) == [3, 1, 2]
