"""Images of a folder as tensors by their names, and examples of images."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import TensorDataset

from trueface.data.examples import CostCounter, Examples, examples, examples_of
from trueface.generators.made_folders import (
    PerImageRNG,
    digest_of,
    image_names,
    load_image_batch,
    output_folder,
    partners,
    read_output_record,
    round_to_levels,
    shape_of,
    to_minus_one_one,
    to_uint8,
)
from trueface.runtime.errors import DataError, JobError


def an_image(path: Path, side: int = 4, level: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side), level, dtype=np.uint8)
    PIL.Image.fromarray(pixels).convert(mode).save(path)


def test_names_are_sorted_and_relative_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.png", "a/1.jpg", ".hidden.png", ".folder/3.png"):
        an_image(tmp_path / name)
    (tmp_path / "made.json").write_text("{}")
    assert image_names(tmp_path) == ("a/1.jpg", "a/2.png", "b.png")


def test_limit_takes_evenly_spaced_names(tmp_path: Path) -> None:
    for number in range(10):
        an_image(tmp_path / f"{number}.png")
    assert image_names(tmp_path, limit=3) == ("0.png", "3.png", "6.png")
    assert image_names(tmp_path, limit=20) == image_names(tmp_path)


def test_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder .*/none does not exist"):
        image_names(tmp_path / "none")
    with pytest.raises(DataError, match=r"contains no images\. It needs files such as"):
        image_names(tmp_path)


def test_dangling_links_are_counted_with_an_example(tmp_path: Path) -> None:
    an_image(tmp_path / "originals/a.png")
    (tmp_path / "set/below").mkdir(parents=True)
    for name in ("a.png", "b.png", "below/c.png"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "originals" / Path(name).name)
    with pytest.raises(DataError) as caught:
        image_names(tmp_path / "set")
    assert str(caught.value) == (
        f"2 of 3 images in {tmp_path}/set are broken links, such as {tmp_path}/set/b.png, "
        f"which points to {tmp_path}/originals/b.png. Restore their targets or remove the links."
    )


def test_two_images_that_differ_only_in_suffix_are_an_error(tmp_path: Path) -> None:
    an_image(tmp_path / "a.jpg")
    an_image(tmp_path / "a.png")
    with pytest.raises(
        DataError, match=r"contains a\.jpg and a\.png, but images are paired by name"
    ):
        image_names(tmp_path)


def test_partners_are_paired_by_name_ignoring_suffix(tmp_path: Path) -> None:
    an_image(tmp_path / "x/1.png")
    an_image(tmp_path / "2.png")
    assert partners(tmp_path, ["2.jpg", "x/1.jpg"]) == ("2.png", "x/1.png")


def test_missing_partners_are_named(tmp_path: Path) -> None:
    an_image(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"no image for 1\.jpg, 2\.jpg, 3\.jpg and 1 more\."):
        partners(tmp_path, [f"{number}.jpg" for number in range(5)])


def test_images_are_scaled_to_minus_one_to_one(tmp_path: Path) -> None:
    an_image(tmp_path / "black.png", level=0)
    an_image(tmp_path / "white.png", level=255)
    images = load_image_batch(tmp_path, ["black.png", "white.png"])
    assert images.shape == (2, 3, 4, 4)
    assert images.dtype == torch.float32
    assert images.amin((1, 2, 3)).tolist() == images.amax((1, 2, 3)).tolist() == [-1.0, 1.0]
    assert load_image_batch(tmp_path, ["white.png"], channels=1).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("size", [0, 4, (4, 4)])
def test_image_of_other_size_is_an_error_with_both_sizes(
    tmp_path: Path, size: int | tuple[int, int]
) -> None:
    an_image(tmp_path / "a.png", side=4)
    an_image(tmp_path / "b.png", side=5)
    with pytest.raises(DataError, match=r"b\.png has 5x5 pixels, expected 4x4\. Resize"):
        load_image_batch(tmp_path, ["a.png", "b.png"], size=size)


def test_image_shape_is_read_from_header(tmp_path: Path) -> None:
    an_image(tmp_path / "grey.png", side=6, mode="L")
    an_image(tmp_path / "colour.png", side=7)
    assert shape_of(tmp_path, "grey.png") == (1, 6, 6)
    assert shape_of(tmp_path, "colour.png") == (3, 7, 7)


def test_non_image_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    for read in (
        lambda: load_image_batch(tmp_path, ["a.png"]),
        lambda: shape_of(tmp_path, "a.png"),
    ):
        with pytest.raises(DataError, match=r"a\.png cannot be read as an image: .*\. Fix"):
            read()


def test_every_grey_level_survives_conversion_to_float_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_minus_one_one(levels)), levels)


def test_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    an_image(tmp_path / "a.png", level=1)
    an_image(tmp_path / "b.png", level=2)
    digests = {digest_of(tmp_path, names) for names in (["a.png"], ["b.png"], ["a.png", "b.png"])}
    assert len(digests) == 3
    before = digest_of(tmp_path, ["a.png"])
    an_image(tmp_path / "a.png", level=3)
    assert digest_of(tmp_path, ["a.png"]) != before


NAMES = ("a/1.png", "a/2.png", "b.png")


LIKE = torch.zeros(3, 2, 5, 5)


def test_noise_of_image_does_not_depend_on_its_batch() -> None:
    together = PerImageRNG(NAMES, seed=7).normal("z1", LIKE)
    alone = [PerImageRNG([name], seed=7).normal("z1", LIKE[:1]) for name in NAMES]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(
        PerImageRNG(NAMES, seed=7).of_rows([2, 0]).normal("z1", LIKE[:2]), together[[2, 0]]
    )


def test_other_names_streams_and_seeds_give_other_noise() -> None:
    draws = [
        PerImageRNG([name], seed).normal(stream, LIKE[:1])
        for name, seed, stream in (("a", 1, "z"), ("b", 1, "z"), ("a", 2, "z"), ("a", 1, "y"))
    ]
    for place, drawn in enumerate(draws):
        assert all(not torch.equal(drawn, other) for other in draws[place + 1 :])


def test_normal_and_uniform_numbers_have_expected_moments() -> None:
    like = torch.zeros(1, 100, 100)
    noise = PerImageRNG(["a"], 3)
    normal, uniform = noise.normal("n", like), noise.uniform("u", like)
    assert abs(float(normal.mean())) < 0.05
    assert abs(float(normal.std()) - 1) < 0.05
    assert -1 <= float(uniform.min()) < -0.99 < 0.99 < float(uniform.max()) < 1


WRITTEN = ("1.jpg", "x/2.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_stored_images_are_read_back_rounded_under_their_names(
    tmp_path: Path, channels: int
) -> None:
    images = torch.rand(2, channels, 5, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with output_folder(tmp_path / "made") as made:
        made.write(WRITTEN, images)
        made.write_output_record({"kind": "purify", "seed": 3})
    names = image_names(tmp_path / "made")
    assert names == ("1.png", "x/2.png")
    read = load_image_batch(tmp_path / "made", names, channels=channels)
    assert torch.equal(read, round_to_levels(images))
    with PIL.Image.open(tmp_path / "made/1.png") as file:
        assert file.mode == ("L" if channels == 1 else "RGB")
    assert read_output_record(tmp_path / "made") == {"schema": 1, "kind": "purify", "seed": 3}


def test_non_finite_numbers_are_an_error_that_names_the_image(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[1, 0, 0, 0] = torch.nan
    with (
        pytest.raises(JobError, match=r"the model made x/2\.png with values that are not"),
        output_folder(tmp_path / "made") as made,
    ):
        made.write(WRITTEN, images)


def test_folder_without_record_is_an_error_that_names_its_writer(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no made\.json\. A job of disrupt, purify or translate"
    ):
        read_output_record(tmp_path)


INPUTS, LABELS = torch.arange(10.0)[:, None], torch.arange(10) % 3


def read(some: Examples, **how: object) -> list[tuple[float, int]]:
    return [
        (float(value), int(label))
        for batch in some.batches("trained", **{"epoch": None, **how})  # type: ignore[arg-type]  # as given
        for value, label in zip(batch.inputs, batch.labels, strict=True)
    ]


def test_pass_without_epoch_keeps_order_and_labels() -> None:
    expected = [(float(value), int(label)) for value, label in zip(INPUTS, LABELS, strict=True)]
    assert read(examples(INPUTS, LABELS), batch_size=3) == expected


def test_pass_of_epoch_is_shuffled_by_epoch_and_seed_only() -> None:
    some = examples(INPUTS, LABELS)
    assert read(some, epoch=1) == read(some, epoch=1)
    assert read(some, epoch=1) != read(some, epoch=2)
    assert read(examples(INPUTS, LABELS, seed=1), epoch=1) != read(some, epoch=1)
    assert sorted(read(some, epoch=1)) == sorted(read(some))


def test_labels_of_other_kind_are_returned_if_known() -> None:
    some = examples(INPUTS, LABELS, 2 - LABELS)
    (batch,) = some.batches("true", epoch=None)
    assert batch.labels.tolist() == (2 - LABELS).tolist()
    with pytest.raises(ValueError, match="true labels of these samples are unknown"):
        next(examples(INPUTS, LABELS).batches("true", epoch=None))


def test_subset_keeps_its_labels() -> None:
    assert read(examples(INPUTS, LABELS).subset([7, 2])) == [(7.0, 1), (2.0, 2)]


def test_images_of_excluded_classes_are_removed() -> None:
    kept = examples(INPUTS, LABELS, 2 - LABELS).without_classes([0, 2])
    assert read(kept) == [(1.0, 1), (4.0, 1), (7.0, 1)]
    assert kept.true == (1, 1, 1)


def test_two_sets_of_one_source_are_concatenated() -> None:
    some = examples(INPUTS, LABELS)
    assert read(some.subset([1]) + some.subset([0])) == [(1.0, 1), (0.0, 0)]
    assert (some.subset([1]) + some.subset([0])).true is None


def test_two_sets_of_two_sources_are_concatenated_and_shuffled() -> None:
    both = examples(INPUTS, LABELS) + examples(INPUTS + 100, LABELS, LABELS)
    plain = [(float(value), int(label)) for value, label in zip(INPUTS, LABELS, strict=True)]
    expected = plain + [(value + 100, label) for value, label in plain]
    assert read(both, batch_size=4) == expected
    (first, *_) = both.batches("trained", epoch=0, batch_size=8)
    assert (first.inputs < 100).any()
    assert (first.inputs >= 100).any()
    assert sorted(read(both, epoch=0, batch_size=3)) == sorted(expected)


def test_last_batch_never_has_a_single_sample() -> None:
    some = examples(INPUTS, LABELS)
    batches = some.batches("trained", epoch=0, batch_size=3)
    assert [len(b.labels) for b in batches] == [3, 3, 4]
    assert list(some.subset([]).batches("trained", epoch=0)) == []


def test_identity_depends_on_inputs_order_and_labels() -> None:
    some = examples(INPUTS, LABELS)
    assert some.identity == examples(INPUTS.clone(), LABELS).identity
    others = (
        examples(INPUTS + 1, LABELS), some.subset([1, 0]), some.replace_labels([0] * 10),
        examples(INPUTS.double(), LABELS),
    )  # fmt: skip
    assert len({some.identity, *(other.identity for other in others)}) == 5


def test_torch_dataset_is_read_unchanged() -> None:
    items = [
        (value, int(label))
        for value, label in map(TensorDataset(INPUTS, LABELS).__getitem__, range(10))
    ]
    some = examples_of(items, "toy", true=lambda place: place % 2)
    assert read(some) == read(examples(INPUTS, LABELS))
    assert some.true == tuple(place % 2 for place in range(10))


def test_every_returned_sample_is_counted() -> None:
    meter, some = CostCounter(), examples(INPUTS, LABELS)
    counted = Examples(
        source=some.source.count_reads(meter.add),
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
