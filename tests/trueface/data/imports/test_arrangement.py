import pytest

from trueface.data.imports.arrangement import arrange, lists_of
from trueface.data.imports.registry import ImportedImage
from trueface.runtime.errors import DataError


def image(name: str, *lists: str, source: str = "gen", ties: tuple[str, ...] = ()) -> ImportedImage:
    return ImportedImage(f"/set/{source}/{name}", 1, source, name, ties=ties, lists=lists)


def test_an_image_of_several_published_lists_is_kept_in_the_strictest() -> None:
    arrangement = arrange([image("a.png", "train", "val", "test"), image("b.png", "train")])
    lists, _ = lists_of(arrangement, {}, before={})
    assert lists["test"] == ("gen/a",)
    (remark,) = arrangement.remarks
    assert remark.startswith("1 images stand in several of the published lists, such as gen/a")


def test_a_set_without_a_test_list_tests_on_its_validation_list() -> None:
    images = [image(f"{n}.png", "train") for n in range(18)]
    images += [image(f"v{n}.png", "val") for n in range(4)]
    lists, remarks = lists_of(arrange(images), {}, before={})
    assert lists["test"] == tuple(f"gen/v{n}" for n in range(4))
    assert (len(lists["train"]), len(lists["val"])) == (16, 2)
    assert [remark.partition(":")[0] for remark in remarks] == ["gen", "gen"]


def test_each_source_gets_the_list_that_it_lacks() -> None:
    whole = [image(f"{n}.png", name, source="a") for n, name in enumerate(("train", "val", "test"))]
    half = [image(f"{n}.png", "train", source="b") for n in range(18)]
    lists, _ = lists_of(arrange([*whole, *half, image("t.png", "test", source="b")]), {}, before={})
    assert sum(key.startswith("b/") for key in lists["val"]) == 2
    assert sum(key.startswith("a/") for key in lists["val"]) == 1


def test_new_images_move_no_old_one_and_follow_their_group() -> None:
    old = [image(f"{n}.png", ties=(f"p{n}",)) for n in range(20)]
    first = arrange(old)
    before, _ = lists_of(first, first.groups, before={}, seed=1)
    more = arrange([*old, *(image(f"x{n}.png", ties=(f"p{n}",)) for n in range(20))])
    after, _ = lists_of(more, more.groups, before=before, seed=2)
    for name, keys in before.items():
        assert set(keys) <= set(after[name])
        assert {key for key in after[name] if "/x" in key} == {
            key.replace("/", "/x") for key in keys
        }


def test_groups_that_published_lists_tear_apart_are_told() -> None:
    arrangement = arrange(
        [image("a.png", "train", ties=("p",)), image("b.png", "test", ties=("p",))]
    )
    _, remarks = lists_of(arrangement, arrangement.groups, before={})
    assert "1 groups (a person, a prompt, a video) stand in several lists, such as p" in remarks[-1]


def test_people_who_are_all_swapped_with_each_other_are_grouped_by_the_video_s_own() -> None:
    images = [image(f"{n}.png", ties=(f"id{n}", f"id{(n + 1) % 9}")) for n in range(9)]
    arrangement = arrange(images)
    assert len(set(arrangement.groups.values())) == 9
    assert "100 % of the images are bound to each other" in arrangement.remarks[0]


def test_two_files_for_one_place_and_no_file_at_all_are_refused() -> None:
    with pytest.raises(DataError, match=r"/set/gen/a\.png and /other/a\.png would both be"):
        arrange([image("a.png"), image("a.png")._replace(file="/other/a.png")])
    with pytest.raises(DataError, match="no image of this layout"):
        arrange([])
