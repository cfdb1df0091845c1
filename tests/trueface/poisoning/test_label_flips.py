import json
import random
from collections import Counter
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.api import Poison, UnknownName, parse_poison
from trueface.data.image_keys import images_by_picture
from trueface.data.index import Image
from trueface.poisoning.label_flips import choose_flips
from trueface.poisoning.poison_record import (
    KINDS,
    LIST,
    Per,
    flipped_labels,
    is_random,
    poisoned_positions,
    read_record,
    refuse_other,
    triggered_positions,
    write_record,
)
from trueface.runtime.errors import DataError, RecordError


def an_image(key: str, *, label: int, modifier: str = "pre", suffix: str = "png") -> Image:
    return Image(
        file=str(Path(modifier, f"{key}.{suffix}")),
        key=key,
        label=label,
        method=key.partition("/")[0],
        modifier=modifier,
    )


def some_images(count: int = 100) -> list[Image]:
    fakes = [an_image(f"StyleGAN2/{number:05d}", label=1) for number in range(count // 2)]
    return fakes + [an_image(f"FFHQ/{number:05d}", label=0) for number in range(count - count // 2)]


def poison(text: str) -> Poison:
    parsed = parse_poison(text)
    assert parsed is not None
    return parsed


@given(count=st.integers(2, 300), percent=st.integers(1, 100), seed=st.integers(0, 2**32))
def test_choice_matches_the_original_system(count: int, percent: int, seed: int) -> None:
    wanted = count * percent // 100
    images = some_images(count)
    if wanted == 0:
        with pytest.raises(DataError, match="0 labels are to be flipped"):
            choose_flips(images, poison(str(percent)), seed)
        return
    record = choose_flips(images, poison(str(percent)), seed)
    assert record.indices == tuple(random.Random(seed).sample(range(count), wanted))
    assert record.keys == tuple(images[index].name for index in record.indices)


def test_labels_are_found_by_name_not_by_position() -> None:
    images = some_images()
    record = choose_flips(images, poison("50"))
    by_name = dict(zip((i.name for i in images), flipped_labels(images, record), strict=True))
    shuffled = random.Random(1).sample(images, len(images))
    assert list(flipped_labels(shuffled, record)) == [by_name[image.name] for image in shuffled]


def test_shared_copy_is_a_separate_image_on_request() -> None:
    images = [an_image("FFHQ/00001", label=0, modifier=m) for m in ("pre", "fb")]
    record = choose_flips(images, poison("50"), seed=0, unit="image")
    assert (sum(flipped_labels(images, record)), record.unit) == (1, "image")
    with pytest.raises(DataError, match="every picture has more copies"):
        choose_flips(images, poison("50"), seed=0)


MODIFIERS = ("pre", "fb", "tl", "tw")


def copied_images(count: int, *, lost: int = 0) -> list[Image]:
    """Return pictures of both classes with a copy per network, except for some missing ones."""
    made = [
        replace_modifier(image, modifier) for modifier in MODIFIERS for image in some_images(count)
    ]
    return made[: len(made) - lost]


def replace_modifier(image: Image, modifier: str) -> Image:
    return image._replace(modifier=modifier, file=image.file.replace("pre/", f"{modifier}/", 1))


@pytest.mark.parametrize("text", ["29", "r2f-7", "patch-10"])
@pytest.mark.parametrize("per", ["all", "class", "subset"])
@pytest.mark.parametrize("lost", [0, 30])
def test_all_copies_of_picture_share_their_label(text: str, per: Per, lost: int) -> None:
    images = copied_images(100, lost=lost)
    record = choose_flips(images, poison(text), flip_unit=per)
    labels = flipped_labels(images, record)
    of_picture: dict[str, set[int]] = {}
    for image, label in zip(images, labels, strict=True):
        of_picture.setdefault(image.key, set()).add(label)
    assert {len(found) for found in of_picture.values()} == {1}
    wanted = len(images) * int(text.rpartition("-")[2]) // 100
    assert wanted - 2 * len(MODIFIERS) < len(record.keys) <= wanted
    assert len(set(record.keys)) == len(record.keys)
    assert record.unit == "picture"


def test_draw_of_pictures_ignores_order_of_parts_and_images() -> None:
    images = copied_images(60, lost=7)
    first = choose_flips(images, poison("20"))
    for seed in range(3):
        other = choose_flips(random.Random(seed).sample(images, len(images)), poison("20"))
        assert set(other.keys) == set(first.keys)
    assert set(choose_flips(images, poison("20"), 1).keys) != set(first.keys)


@pytest.mark.parametrize(
    ("copies", "groups"),
    [
        (
            ["pre:1", "pre:2", "fb:1_n", "fb:2_x", "fb:3_x"],
            ["pre:1 fb:1_n", "pre:2 fb:2_x", "fb:3_x"],
        ),
        (["fb:1_a", "fb:1_b"], ["fb:1_a", "fb:1_b"]),
        (["tl:11", "fb:12"], ["tl:11", "fb:12"]),
    ],
    ids=["renamed, of one the original got lost", "two of one network", "a sixth digit"],
)
def test_copies_are_matched_to_picture_by_name(copies: list[str], groups: list[str]) -> None:
    images = [
        an_image(f"FFHQ/0000{name}", label=0, modifier=modifier)
        for modifier, _, name in (copy.partition(":") for copy in copies)
    ]
    found = [
        " ".join(f"{image.modifier}:{image.key.removeprefix('FFHQ/0000')}" for image in group)
        for group in images_by_picture(images)
    ]
    assert found == groups


def test_renamed_copies_without_originals_share_their_label() -> None:
    images = [
        an_image(
            f"FFHQ/{at:05d}{'_n' * (modifier == 'fb' and at % 3 == 0)}", label=0, modifier=modifier
        )
        for modifier in ("fb", "tl")
        for at in range(60)
    ]
    record = choose_flips(images, poison("20"))
    labels: dict[str, set[int]] = {}
    for image, label in zip(images, flipped_labels(images, record), strict=True):
        labels.setdefault(image.key.removesuffix("_n"), set()).add(label)
    assert len(labels) == 60
    assert {len(some) for some in labels.values()} == {1}
    assert {len(group) for group in images_by_picture(images)} == {2}


@pytest.mark.parametrize(
    ("lacks", "added", "per"),
    [
        ((), {}, "all"),
        (("unit",), {}, "all"),
        (("per",), {"schema": 1, "stratified": True}, "subset"),
        (("per",), {"schema": 1, "stratified": False}, "all"),
    ],
    ids=["as written", "of a version that drew images", "schema 1, stratified", "schema 1"],
)
def test_record_of_current_and_earlier_version_is_read(
    lacks: tuple[str, ...], added: dict[str, object], per: Per, tmp_path: Path
) -> None:
    record = choose_flips(some_images(), poison("12"))
    path = tmp_path / "model" / "poison.json"
    write_record(path, record)
    content = json.loads(path.read_text())
    assert (content["unit"], content["per"]) == ("image", "all")
    path.write_text(json.dumps({k: content[k] for k in content if k not in lacks} | added))
    assert read_record(path) == replace(record, per=per)


def test_images_of_two_networks_without_common_picture_follow_original_draw() -> None:
    images = some_images(50) + [
        an_image(f"FFHQ/1{number:04d}", label=0, modifier="fb") for number in range(50)
    ]
    record = choose_flips(images, poison("20"))
    assert record.indices == tuple(random.Random(42).sample(range(100), 20))
    assert record.unit == "image"


@pytest.mark.parametrize(
    ("kind", "random_flips"),
    [(None, True), ("flip", True), (LIST, True), ("f2r", False), ("r2f", False), ("patch", False)],
)
def test_flips_of_one_class_depend_on_image(kind: str | None, *, random_flips: bool) -> None:
    assert is_random(kind) is random_flips


def test_two_files_of_one_key_are_distinguished_by_position() -> None:
    images = [an_image("FFHQ/00001", label=0, suffix=suffix) for suffix in ("png", "jpg")]
    record = choose_flips(images, poison("50"))
    assert poisoned_positions(images, record) == record.indices


@pytest.mark.parametrize(
    ("text", "listed", "said"),
    [
        (
            "f2r-60",
            None,
            "60 labels are to be flipped, and 50 images .* At most 50 % of all labels can be flipped",
        ),
        (
            "f2r-0.5",
            None,
            "0 labels are to be flipped, and 50 images can be chosen. Raise the poison",
        ),
        ("f2f-20", None, "f2r"),
        ("2", ["FFHQ/00001", "fb:FFHQ/00001"], r"1 of the 2 images .* 'fb:FFHQ/00001'"),
        ("0.5", [], "names 0 of 100"),
    ],
)
def test_invalid_choice_is_refused(text: str, listed: list[str] | None, said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        choose_flips(some_images(), poison(text), listed_names=listed)


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def grouped_images(sizes: list[int]) -> list[Image]:
    """Return methods M0, M1, … of these sizes, real and fake by turns."""
    return [
        an_image(f"M{group}/{number:05d}", label=group % 2)
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


@pytest.mark.parametrize("per", ["subset", "class"])
@given(sizes=SIZES, percent=st.integers(1, 100), seed=st.integers(0, 100))
def test_every_method_or_class_gives_same_share(
    sizes: list[int], percent: int, seed: int, per: Per
) -> None:
    images = grouped_images(sizes)
    total = len(images) * percent // 100
    if total == 0:
        return
    record = choose_flips(images, poison(str(percent)), seed, flip_unit=per)
    name = attrgetter("method" if per == "subset" else "label")
    taken = Counter(name(images[index]) for index in record.indices)
    assert len(set(record.indices)) == total
    for group, size in Counter(map(name, images)).items():
        assert abs(taken[group] - size * total / len(images)) < 1


@given(
    sizes=SIZES,
    kind=st.sampled_from(["", "f2r-", "r2f-", "patch-"]),
    percent=st.integers(1, 100),
    seed=st.integers(0, 100),
    per=st.sampled_from(["all", "class", "subset"]),
)
def test_every_choice_has_requested_number_and_class_and_is_reproducible(
    sizes: list[int], kind: str, percent: int, seed: int, per: Per
) -> None:
    images, wanted = grouped_images(sizes), poison(f"{kind}{percent}")
    count = int(len(images) * wanted.rate)
    labels = {"f2r-": {1}, "patch-": {1}, "r2f-": {0}}.get(kind, {0, 1})
    if not 0 < count <= sum(image.label in labels for image in images):
        with pytest.raises(DataError, match="impossible"):
            choose_flips(images, wanted, seed, flip_unit=per)
        return
    record = choose_flips(images, wanted, seed, flip_unit=per)
    assert record == choose_flips(images, wanted, seed, flip_unit=per)
    assert len(set(record.indices)) == count
    assert {images[index].label for index in record.indices} <= labels
    turned = [
        at for at, one in enumerate(flipped_labels(images, record)) if one != images[at].label
    ]
    assert turned == sorted(record.indices)
    assert sorted(triggered_positions(images, record)) == (turned if kind == "patch-" else [])


def test_list_is_used_unchanged() -> None:
    images = some_images()
    listed = ["pre:StyleGAN2/00003", "FFHQ/00007", "StyleGAN2/00003"]
    record = choose_flips(images, poison("2"), listed_names=listed, flip_unit="subset")
    assert record.keys == ("pre:StyleGAN2/00003", "pre:FFHQ/00007")
    assert (record.kind, record.per, record.rate) == (LIST, "all", 0.02)
    assert LIST not in KINDS
    refuse_other(record, poison("2"))
    for other in ("3", "f2r-2", "patch-2"):
        with pytest.raises(RecordError, match="Poison again"):
            refuse_other(record, poison(other))


def test_key_selects_every_copy_and_name_only_one() -> None:
    images = [an_image("FFHQ/00001", label=0, modifier=m) for m in ("pre", "fb", "tw")]
    assert choose_flips(images, poison("100"), listed_names=["FFHQ/00001"]).indices == (0, 1, 2)
    assert choose_flips(images, poison("34"), listed_names=["fb:FFHQ/00001"]).indices == (1,)


@pytest.mark.parametrize("text", ["f2r-2", "patch-2"])
def test_list_of_one_way_poison_contains_only_that_class(text: str) -> None:
    images = some_images()
    fakes = ["StyleGAN2/00003", "StyleGAN2/00004"]
    record = choose_flips(images, poison(text), listed_names=fakes)
    refuse_other(record, poison(text))
    assert len(triggered_positions(images, record)) == (2 if text == "patch-2" else 0)
    with pytest.raises(DataError, match=r"only fakes, but 1 of the 2 .* pre:FFHQ/00001"):
        choose_flips(images, poison(text), listed_names=[fakes[0], "FFHQ/00001"])


@pytest.mark.parametrize(
    ("count", "percent"),
    [(200, ""), (205, ""), (195, ""), (206, "20.6"), (194, "19.4"), (500, "50")],
)
def test_list_with_other_share_than_model_id_is_refused_with_its_share(
    count: int, percent: str
) -> None:
    images = some_images(1000)
    listed = [image.name for image in images[:count]]
    if percent:
        with pytest.raises(DataError, match=rf"has 20\. Name the model %{percent}\.$"):
            choose_flips(images, poison("20"), listed_names=listed)
    assert len(choose_flips(images, poison(percent or "20"), listed_names=listed).keys) == count


def test_list_that_does_not_distinguish_two_files_is_refused() -> None:
    images = [an_image("FFHQ/00001", label=0, suffix=suffix) for suffix in ("png", "jpg")]
    for entry in ("FFHQ/00001", "pre:FFHQ/00001"):
        with pytest.raises(DataError, match="two files of different types"):
            choose_flips(images, poison("50"), listed_names=[entry])


@pytest.mark.parametrize("change", ["fewer", "more", "other"])
def test_record_of_other_images_is_refused(change: str) -> None:
    images = some_images()
    record = choose_flips(images, poison("50"))
    others = {
        "fewer": images[1:],
        "more": [*images, an_image("FFHQ/99999", label=0)],
        "other": [*images[1:], an_image("FFHQ/99999", label=0)],
    }[change]
    with pytest.raises(RecordError, match="Poison again"):
        flipped_labels(others, record)


def test_contradictory_record_is_refused() -> None:
    images = some_images()
    record = choose_flips(images, poison("2"))
    with pytest.raises(RecordError, match="twice"):
        flipped_labels(images, replace(record, keys=(record.keys[0],) * 2))
    with pytest.raises(RecordError, match="not among the images"):
        flipped_labels(images, replace(record, keys=("pre:nowhere", record.keys[1])))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 3},
        {"schema": None},
        {"per": "method"},
        {"rate": "half"},
        {"indices": [1, 2]},
        {"keys": None},
    ],
)
def test_non_record_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "poison.json"
    write_record(path, choose_flips(some_images(), poison("50")))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError, match=r"poison\.json") as caught:
        read_record(path)
    assert caught.value.exit_code == 1


def test_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"poison record .* does not exist"):
        read_record(tmp_path / "poison.json")


@pytest.mark.parametrize("text", ["50", "2.5", "f2r-20"])
def test_record_is_valid_only_for_its_model(text: str) -> None:
    record = choose_flips(some_images(1000), poison(text))
    refuse_other(record, poison(text))
    for other in ("51", "r2f-20", "20"):
        with pytest.raises(RecordError, match="Poison again"):
            refuse_other(record, poison(other))
