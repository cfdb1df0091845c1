import pytest
import torch
from torch.utils.data import TensorDataset

from trueface.data.examples import CountedSource, Examples, Meter, examples, examples_of

INPUTS, LABELS = torch.arange(10.0)[:, None], torch.arange(10) % 3


def read(some: Examples, **how: object) -> list[tuple[float, int]]:
    return [
        (float(value), int(label))
        for batch in some.batches("trained", **{"epoch": None, **how})  # type: ignore[arg-type]  # as given
        for value, label in zip(batch.inputs, batch.labels, strict=True)
    ]


def test_a_pass_without_an_epoch_keeps_the_order_and_every_label() -> None:
    expected = [(float(value), int(label)) for value, label in zip(INPUTS, LABELS, strict=True)]
    assert read(examples(INPUTS, LABELS), batch_size=3) == expected


def test_a_pass_of_an_epoch_is_shuffled_by_it_and_by_the_seed_alone() -> None:
    some = examples(INPUTS, LABELS)
    assert read(some, epoch=1) == read(some, epoch=1)
    assert read(some, epoch=1) != read(some, epoch=2)
    assert read(examples(INPUTS, LABELS, seed=1), epoch=1) != read(some, epoch=1)
    assert sorted(read(some, epoch=1)) == sorted(read(some))


def test_labels_of_the_other_sort_are_given_when_asked_for() -> None:
    some = examples(INPUTS, LABELS, 2 - LABELS)
    (batch,) = some.batches("true", epoch=None)
    assert batch.labels.tolist() == (2 - LABELS).tolist()


def test_true_labels_that_nobody_knows_cannot_be_had() -> None:
    with pytest.raises(ValueError, match="not known"):
        next(examples(INPUTS, LABELS).batches("true", epoch=None))


def test_some_of_them_keep_their_labels() -> None:
    assert read(examples(INPUTS, LABELS).subset([7, 2])) == [(7.0, 1), (2.0, 2)]


def test_those_of_some_classes_are_left_out() -> None:
    kept = examples(INPUTS, LABELS, 2 - LABELS).without_classes([0, 2])
    assert read(kept) == [(1.0, 1), (4.0, 1), (7.0, 1)]
    assert kept.true == (1, 1, 1)


def test_two_sets_of_one_source_are_joined() -> None:
    some = examples(INPUTS, LABELS)
    assert read(some.subset([1]) + some.subset([0])) == [(1.0, 1), (0.0, 0)]
    assert (some.subset([1]) + some.subset([0])).true is None


def test_two_sets_of_two_sources_are_joined_and_mixed() -> None:
    both = examples(INPUTS, LABELS) + examples(INPUTS + 100, LABELS, LABELS)
    plain = [(float(value), int(label)) for value, label in zip(INPUTS, LABELS, strict=True)]
    expected = plain + [(value + 100, label) for value, label in plain]
    assert read(both, batch_size=4) == expected
    (first, *_) = both.batches("trained", epoch=0, batch_size=8)
    assert (first.inputs < 100).any()
    assert (first.inputs >= 100).any()
    assert sorted(read(both, epoch=0, batch_size=3)) == sorted(expected)


def test_a_pass_over_nothing_has_no_batch() -> None:
    assert list(examples(INPUTS, LABELS).subset([]).batches("trained", epoch=0)) == []


def test_the_last_sample_is_never_alone_in_a_batch() -> None:
    sizes = [
        len(b.labels) for b in examples(INPUTS, LABELS).batches("trained", epoch=0, batch_size=3)
    ]
    assert sizes == [3, 3, 4]


def test_the_identity_follows_the_inputs_the_order_and_the_labels() -> None:
    some = examples(INPUTS, LABELS)
    assert some.identity == examples(INPUTS.clone(), LABELS).identity
    others = (
        examples(INPUTS + 1, LABELS), some.subset([1, 0]), some.relabelled([0] * 10),
        examples(INPUTS.double(), LABELS),
    )  # fmt: skip
    assert len({some.identity, *(other.identity for other in others)}) == 5


def test_a_torch_data_set_is_read_as_it_is() -> None:
    items = [
        (value, int(label))
        for value, label in map(TensorDataset(INPUTS, LABELS).__getitem__, range(10))
    ]
    some = examples_of(items, "toy", true=lambda place: place % 2)
    assert read(some) == read(examples(INPUTS, LABELS))
    assert some.true == tuple(place % 2 for place in range(10))


def test_every_sample_that_is_handed_out_is_counted() -> None:
    meter, some = Meter(), examples(INPUTS, LABELS)
    counted = Examples(
        source=CountedSource(some.source, meter),
        positions=some.positions,
        trained=some.trained,
        true=None,
    )
    read(counted)
    read(counted.subset([1, 2]))
    assert meter.samples == 12
    assert counted.identity == some.identity


def test_each_example_needs_its_labels() -> None:
    some = examples(INPUTS, LABELS)
    with pytest.raises(ValueError, match="needs its labels"):
        Examples(source=some.source, positions=(0, 1), trained=(1, 0), true=(1,))
