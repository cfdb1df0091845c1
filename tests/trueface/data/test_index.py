"""Images of a data root: the folders of words in IDs, and the images in them."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from launcher.api import DataId, UnknownName, UsageError, Words, parse_data
from trueface.data.index import Image, parts_without_folder, survey
from trueface.data.vocabulary import BUILT_IN, MODIFIERS, DataIdResolver, Methods
from trueface.runtime.errors import DataError


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("gan1", "StyleGAN"),
        ("gan2", "StyleGAN2"),
        ("gan3", "StyleGAN3"),
        ("sd15", "StableDiffusion1.5"),
        ("sd2", "StableDiffusion2"),
        ("sd3", "StableDiffusion3"),
        ("sdXL", "StableDiffusionXL"),
        ("flux", "FLUX.1"),
        ("realFFHQ", "FFHQ"),
        ("realRAISE", "RAISE"),
        ("realFORLAB", "FORLAB"),
        ("extra", "extra"),
    ],
)
def test_key_names_one_folder(key: str, folder: str) -> None:
    assert BUILT_IN.methods(key) == Methods((folder,))


@pytest.mark.parametrize(
    ("union", "folders"),
    [
        ("gan", {"StyleGAN", "StyleGAN2", "StyleGAN3"}),
        (
            "sd",
            {"StableDiffusion1.5", "StableDiffusion2", "StableDiffusion3", "StableDiffusionXL"},
        ),
        ("real", {"FFHQ", "RAISE", "FORLAB"}),
    ],
)
def test_union_names_every_folder_with_its_prefix(union: str, folders: set[str]) -> None:
    assert set(BUILT_IN.methods(union).folders) == folders


def test_all_names_every_folder_of_root() -> None:
    everything = BUILT_IN.methods("all")
    assert len(everything.folders) == 12
    assert everything.flat == {0, 1}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("gan:pre", "gan:pre&real:pre"),
        ("gan:pre&gan:shr", "gan:pre&real:pre&gan:shr&real:shr"),
        ("gan2:pre&gan3:pre", "gan2:pre&real:pre&gan3:pre"),
        ("gan2:pre&real:pre", "gan2:pre&real:pre"),
        ("gan2:pre&sd:fb&realFFHQ:tl", "gan2:pre&sd:fb&realFFHQ:tl"),
        ("all:pre", "all:pre&real:pre"),
    ],
)
def test_training_without_real_part_gets_real_images_once_per_modifier(
    written: str, read: str
) -> None:
    assert str(BUILT_IN.training_data_id(parse_data(written))) == read


@pytest.mark.parametrize(
    ("written", "elements"),
    [
        ("gan:pre", "gan1:pre&gan2:pre&gan3:pre"),
        ("gan2:shr", "gan2:fb&gan2:tl&gan2:tw"),
        ("gan2:all", "gan2:pre&gan2:fb&gan2:tl&gan2:tw"),
        ("gan2:pre&gan:pre", "gan2:pre&gan1:pre&gan3:pre"),
    ],
)
def test_unions_are_expanded_without_duplicates(written: str, elements: str) -> None:
    assert str(BUILT_IN.expand_unions(parse_data(written))) == elements


@pytest.mark.parametrize(
    ("text", "what", "suggestion"),
    [
        ("gna2:pre", "subset", "gan2"),
        ("gan2:prae", "modifier", "pre"),
        ("sdxl:pre", "subset", "sdXL"),
    ],
)
@pytest.mark.parametrize(
    "read", [BUILT_IN.training_data_id, BUILT_IN.test_data_id, BUILT_IN.expand_unions]
)
def test_unknown_word_is_refused_with_nearest_known_one(
    read: object, text: str, what: str, suggestion: str
) -> None:
    assert callable(read)
    with pytest.raises(UnknownName) as caught:
        read(parse_data(text))
    assert (caught.value.what, caught.value.suggestion) == (what, suggestion)


def resolver_with_subsets(**own: tuple[str, ...]) -> DataIdResolver:
    return BUILT_IN.with_words(Words(subsets=own))


def test_user_subset_belongs_to_union_with_its_prefix() -> None:
    own = resolver_with_subsets(gan4=("MyGAN",), sdOld=("SD-*",), realX=("X",), other=("A", "B-*"))
    assert own.subset_keys("gan") == ("gan1", "gan2", "gan3", "gan4")
    assert own.subset_keys("sd") == ("sd15", "sd2", "sd3", "sdXL", "sdOld")
    assert own.subset_keys("real") == ("realFFHQ", "realRAISE", "realFORLAB", "realX", "realFlat")
    assert {"gan4", "sdOld", "realX", "other"} < set(own.subset_keys("all"))
    assert own.methods("other") == Methods(("A", "B-*"))
    assert str(own.training_data_id(parse_data("realX:pre"))) == "realX:pre"


def test_union_in_the_middle_of_a_name_is_ignored() -> None:
    own = resolver_with_subsets(surreal=("A",), mygan=("B",), lsd=("C",))
    for union, word in (("real", "surreal"), ("gan", "mygan"), ("sd", "lsd")):
        assert word not in own.subset_keys(union)
    assert str(own.training_data_id(parse_data("surreal:pre"))) == "surreal:pre&real:pre"


def elements(own: Words, data: str) -> set[str]:
    """Return the elements of a data ID, and check that a job with it has the same images."""
    vocabulary, read = BUILT_IN.with_words(own), parse_data(data)
    written_out = vocabulary.expand_unions(read)
    told_to_job = BUILT_IN.with_words(own.used_by(DataId((*read, *written_out))))
    told_to_job.test_data_id(read)
    for part in read:
        name = vocabulary.modifier_name(part.modifier)
        assert told_to_job.modifier_name(part.modifier) == name
        known = told_to_job.methods(part.subset)
        assert set(known.folders) == set(vocabulary.methods(part.subset).folders)
    return {str(part) for part in written_out}


@pytest.mark.parametrize(
    ("own", "one", "other"),
    [
        ({"a1": ("W",), "b1": ("W",)}, "a1:pre", "b1:pre"),
        ({"a1": ("W", "V-*"), "b1": ("W", "V-*")}, "a1:pre", "b1:pre"),
        ({"a1": ("W",), "b1": ("W", "W")}, "a1:pre", "b1:pre"),
        ({"a1": ("StyleGAN2", "W"), "b1": ("W", "StyleGAN2", "W")}, "a1:pre", "b1:pre"),
        ({"both": ("W", "V"), "w": ("W",), "v": ("V",)}, "both:pre", "v:pre&w:pre"),
        ({"both": ("StyleGAN2", "W"), "w": ("W",)}, "both:pre", "gan2:pre&w:pre"),
        ({"mine": ("W",), "ganW": ("W",)}, "gan:pre", "gan1:pre&gan2:pre&gan3:pre&mine:pre"),
        ({"ganX": ("StyleGAN2",)}, "gan:pre", "gan1:pre&gan2:pre&gan3:pre"),
        ({"a1": ("W",), "b1": ("W",)}, "all:pre", "all:pre&b1:pre"),
        ({"mail": ("PreSocial",)}, "gan2:mail", "gan2:pre"),
        ({"mail": ("./PreSocial/",)}, "gan2:mail", "gan2:pre"),
        ({"two": ("PreSocial", "Facebook")}, "gan2:two", "gan2:fb&gan2:pre"),
        ({"a1": ("Wa",), "b1": ("Wa",)}, "gan2:a1", "gan2:b1"),
        ({"a1": ("TrueFace_PreSocial",), "b1": ("TrueFace_PreSocial",)}, "gan2:a1", "gan2:b1"),
        ({"a1": ("Wa", "PreSocial"), "b1": ("PreSocial", "Wa", "Wa/")}, "gan2:a1", "gan2:b1"),
    ],
)
def test_words_for_same_folders_are_equal(
    own: dict[str, tuple[str, ...]], one: str, other: str
) -> None:
    words = Words(modifiers=own) if one.startswith("gan2:") else Words(subsets=own)
    assert elements(words, one) == elements(words, other)


@pytest.mark.parametrize(
    ("subsets", "data"),
    [
        ({"ganW": ("W",), "sdW": ("W",)}, "gan:pre"),
        ({"ganW": ("W",), "sdW": ("W",)}, "sd:pre"),
        ({"ganF": ("FLUX.1",)}, "gan:pre"),
        ({"ganB": ("V", "W"), "v": ("V",), "w": ("W",)}, "gan:pre"),
        ({"v": ("V",), "vw": ("V", "W")}, "vw:pre&all:pre"),
    ],
)
def test_job_gets_every_word_of_a_union(subsets: dict[str, tuple[str, ...]], data: str) -> None:
    assert elements(Words(subsets=subsets), data)


def test_words_for_other_folders_differ() -> None:
    own = Words(subsets={"a1": ("W",), "b1": ("W", "V")}, modifiers={"c": ("X",), "d": ("Y",)})
    found = [elements(own, data) for data in ("a1:c", "b1:c", "a1:d", "a1:pre")]
    assert all(one != other for one in found for other in found if one is not other)


@pytest.mark.parametrize(
    ("key", "today", "older"),
    [(key, *folders) for key, folders in MODIFIERS.items() if len(folders) == 2],
)
def test_modifier_of_older_layout_is_a_separate_word(key: str, today: str, older: str) -> None:
    own = Words(modifiers={"old": (older,), "new": (today,), "either": (older, today)})
    assert BUILT_IN.with_words(own).modifier_name("old") == "old"
    assert elements(own, "gan2:old") == {"gan2:old"}
    assert elements(own, "gan2:new") == elements(own, f"gan2:{key}") == {f"gan2:{key}"}
    assert elements(own, "gan2:either") == {"gan2:old", f"gan2:{key}"}


@pytest.mark.parametrize(
    ("layout", "pre", "fb"),
    [
        ("auto", MODIFIERS["pre"], MODIFIERS["fb"]),
        ("plain", ("PreSocial",), ("Facebook",)),
        ("trueface", ("TrueFace_PreSocial",), ("TrueFace_PostSocial/Facebook",)),
    ],
)
def test_layout_determines_which_folders_count(
    layout: str, pre: tuple[str, ...], fb: tuple[str, ...]
) -> None:
    vocabulary = BUILT_IN.with_layout(layout)
    assert [vocabulary.folders(modifier) for modifier in ("pre", "fb", "none")] == [pre, fb, (".",)]
    own = vocabulary.with_words(Words(modifiers={"wa": ("WhatsApp", "Wa2")}))
    assert (own.layout, own.folders("wa")) == (layout, ("WhatsApp", "Wa2"))
    assert own.with_layout("auto") == BUILT_IN.with_words(
        Words(modifiers={"wa": ("WhatsApp", "Wa2")})
    )


def test_user_modifier_belongs_to_no_union() -> None:
    own = BUILT_IN.with_words(Words(modifiers={"wa": ("WhatsApp", "Wa2")}))
    assert own.modifier_keys("wa") == ("wa",)
    assert own.modifier_keys("all") == BUILT_IN.modifier_keys("all")
    assert own.custom_folders("wa") == ("WhatsApp", "Wa2")
    assert own.custom_folders("pre") is None


def test_words_are_merged() -> None:
    twice = resolver_with_subsets(mine=("A",)).with_words(Words(subsets={"other": ("B",)}))
    assert twice.subset_keys("all")[-4:-2] == ("mine", "other")
    with pytest.raises(UsageError, match="already exists"):
        twice.with_words(Words(subsets={"mine": ("C",)}))


@pytest.mark.parametrize(
    ("folder", "held"),
    [("SDXL-turbo", True), ("SDXL", False), ("sdxl-turbo", False), (".SDXL-x", False), ("A", True)],
)
def test_pattern_selects_matching_folders(folder: str, held: bool) -> None:
    assert resolver_with_subsets(mine=("SDXL-*", "*-x", "A")).methods("mine").holds(folder) is held


@pytest.mark.parametrize(
    ("sort", "word", "folders", "said"),
    [
        ("subsets", "gan2", ("X",), "already exists"),
        ("subsets", "real", ("X",), "already exists"),
        ("subsets", "all", ("X",), "already exists"),
        ("subsets", "fakeFlat", ("X",), "already exists"),
        ("subsets", "-x", ("X",), "cannot be the name"),
        ("subsets", "my gan", ("X",), "cannot be the name"),
        ("subsets", "a:b", ("X",), "cannot be the name"),
        ("subsets", "mine", (), "has no folder"),
        ("subsets", "mine", ("",), "is not a folder name"),
        ("subsets", "mine", (" ",), "is not a folder name"),
        ("subsets", "mine", ("/data/X",), "directly in Real/ and Fake/"),
        ("subsets", "mine", ("X/Y",), "directly in Real/ and Fake/"),
        ("subsets", "mine", ("..",), "directly in Real/ and Fake/"),
        ("subsets", "mine", ("X,Y",), "comma"),
        ("subsets", "mine", ("X\n",), "cannot be printed"),
        ("modifiers", "pre", ("X",), "already exists"),
        ("modifiers", "shr", ("X",), "already exists"),
        ("modifiers", "none", ("X",), "already exists"),
        ("modifiers", "wa", ("/data/X",), "outside the data root"),
        ("modifiers", "wa", ("X/../../Y",), "outside the data root"),
        ("modifiers", "wa", ("",), "is not a folder name"),
    ],
)
def test_invalid_word_is_refused(sort: str, word: str, folders: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BUILT_IN.with_words(Words(**{sort: {word: folders}}))


Tree = Callable[[Iterable[str]], Path]

NAMES = (
    "Fake/StyleGAN2/conf-f-psi-0.5/00000.png",
    "Fake/StyleGAN2/conf-f-psi-0.5/00001.png",
    "Fake/StyleGAN2/conf-f-psi-1/00000.png",
    "Fake/StyleGAN3/conf-t-psi-0.5/00000.jpg",
    "Real/FFHQ/00000.png",
    "Real/FORLAB/00001.JPEG",
)


def find_images(root: Path, data: str, words: DataIdResolver = BUILT_IN) -> tuple[Image, ...]:
    return survey(root, parse_data(data), words).images


def names(images: Sequence[Image]) -> list[str]:
    return [image.name for image in images]


def below_presocial(paths: Sequence[str]) -> list[str]:
    return [f"PreSocial/{path}" for path in paths]


def test_image_facts_follow_from_its_path(tree: Tree) -> None:
    root = tree(below_presocial(NAMES))
    first, *_, last = find_images(root, "gan2:pre&realFORLAB:pre")
    assert first == Image(
        file=str(root / "PreSocial" / NAMES[0]),
        key="StyleGAN2/conf-f-psi-0.5/00000",
        label=1,
        method="StyleGAN2",
        modifier="pre",
    )
    assert (last.key, last.label, last.method) == ("FORLAB/00001", 0, "FORLAB")


def test_parts_keep_written_order_and_their_folders_and_files_are_sorted(tree: Tree) -> None:
    root = tree(below_presocial(NAMES))
    assert names(find_images(root, "real:pre&gan:pre")) == [
        "pre:FFHQ/00000",
        "pre:FORLAB/00001",
        "pre:StyleGAN2/conf-f-psi-0.5/00000",
        "pre:StyleGAN2/conf-f-psi-0.5/00001",
        "pre:StyleGAN2/conf-f-psi-1/00000",
        "pre:StyleGAN3/conf-t-psi-0.5/00000",
    ]


def test_older_layout_gives_same_names(tree: Tree) -> None:
    older = {"pre": "TrueFace_PreSocial", "fb": "TrueFace_PostSocial/Facebook"}
    root = tree(f"{folder}/{name}" for folder in older.values() for name in NAMES)
    listed = find_images(root, "gan2:pre&gan2:fb")
    assert names(listed) == [
        f"{modifier}:StyleGAN2/{rest}"
        for modifier in older
        for rest in ("conf-f-psi-0.5/00000", "conf-f-psi-0.5/00001", "conf-f-psi-1/00000")
    ]


def test_two_layouts_for_one_modifier_are_refused_unless_one_is_named(tree: Tree) -> None:
    root = tree([f"PreSocial/{NAMES[0]}", f"TrueFace_PreSocial/{NAMES[1]}"])
    with pytest.raises(DataError, match=r"two folders for modifier 'pre'.*layout.*: plain"):
        survey(root, parse_data("gan2:pre"))
    for layout, key in (("plain", "00000"), ("trueface", "00001")):
        (image,) = find_images(root, "gan2:pre", BUILT_IN.with_layout(layout))
        assert image.name == f"pre:StyleGAN2/conf-f-psi-0.5/{key}"


def test_named_layout_is_the_only_one_searched(tree: Tree) -> None:
    root = tree(
        [*below_presocial(NAMES[:1]), f"TrueFace_PostSocial/Facebook/{NAMES[0]}", *NAMES[-1:]]
    )
    older = BUILT_IN.with_layout("trueface")
    with pytest.raises(DataError, match=r"no images of gan2:pre in .*/TrueFace_PreSocial"):
        survey(root, parse_data("gan2:pre"), older)
    assert len(find_images(root, "gan2:fb&all:none", older)) == 2
    missing = dict(parts_without_folder(root, parse_data("gan2:pre&gan2:fb"), older))
    assert [*missing.values()] == [root / "TrueFace_PreSocial/Fake/StyleGAN2"]


@pytest.mark.parametrize("backwards", [False, True])
def test_file_named_like_a_class_hides_no_class_folder(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    root = tree(NAMES)
    (root / "fake").touch()
    listdir = os.listdir  # its order differs between machines
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=backwards))
    assert [*parts_without_folder(root, parse_data("gan2:none"))] == []


def test_class_names_in_path_of_root_are_ignored(tmp_path: Path) -> None:
    root = tmp_path / "Real" / "Fake"
    file = root / "PreSocial" / NAMES[0]
    file.parent.mkdir(parents=True)
    file.touch()
    (image,) = find_images(root, "gan2:pre")
    assert (image.key, image.label) == ("StyleGAN2/conf-f-psi-0.5/00000", 1)


def test_image_of_two_parts_counts_once_in_the_first(tree: Tree) -> None:
    root = tree(below_presocial(NAMES))
    once = find_images(root, "gan2:pre&gan3:pre")
    assert find_images(root, "gan2:pre&gan3:pre&gan:pre&gan2:pre") == once


def test_folder_of_two_parts_is_listed_once(tree: Tree) -> None:
    root = tree(below_presocial([*NAMES, "Fake/StyleGAN2/Fake/StyleGAN2/00001.png"]))
    own = BUILT_IN.with_words(Words(modifiers={"in": ("PreSocial/Fake/StyleGAN2",)}))
    found = survey(root, parse_data("gan2:in&gan2:pre&gan:pre"), own)
    assert [len(images) for images in found.parts.values()] == [1, 3, 1]


def test_folders_on_disk_are_listed_by_modifier_even_if_empty(tree: Tree) -> None:
    root = tree([*below_presocial(NAMES), "Fake/7.png", "Real/8.png", f"Facebook/{NAMES[0]}"])
    (root / "PreSocial/Fake/StyleGAN").mkdir()
    found = survey(root, parse_data("gan:pre&gan:fb&all:none&fakeFlat:none")).methods
    assert found == {
        "pre": {"StyleGAN", "StyleGAN2", "StyleGAN3"},
        "fb": {"StyleGAN2"},
        "none": {""},
    }
    assert survey(root, parse_data("fakeFlat:none")).methods == {"none": frozenset()}


def test_part_without_images_is_reported_with_its_folder(tree: Tree) -> None:
    root = tree(below_presocial(NAMES))
    folder = root / "PreSocial/Fake/FLUX.1"
    folder.mkdir()
    for name in ("._00000.png", "Thumbs.db", "00000.txt"):  # hidden, and of other suffixes
        (folder / name).touch()
    os.mkfifo(folder / "pipe")
    with pytest.raises(DataError, match=r"no images of flux:pre in .*PreSocial") as caught:
        survey(root, parse_data("gan2:pre&flux:pre"))
    assert caught.value.exit_code == 2
    with pytest.raises(DataError, match=r"data folder .*nowhere does not exist"):
        survey(root / "nowhere", parse_data("gan2:pre"))


def test_parts_without_folder_are_found_without_listing_images(tree: Tree) -> None:
    root = tree([*below_presocial(NAMES), "TrueFace_PostSocial/Facebook/fake/StyleGAN2/0.png"])
    data = parse_data("gan:pre&flux:pre&gan2:shr&real:tl&realRAISE:pre&all:all")
    assert {str(part): folder for part, folder in parts_without_folder(root, data)} == {
        "flux:pre": root / "PreSocial/Fake/FLUX.1",
        "real:tl": root / "Telegram/Real/FFHQ",
        "realRAISE:pre": root / "PreSocial/Real/RAISE",
    }


OWN = BUILT_IN.with_words(
    Words(
        subsets={"mine": ("MyGAN",), "some": ("SDXL-*", "StyleGAN3")},
        modifiers={"wa": ("WhatsApp", "Phone/*")},
    )
)


def test_user_subset_means_its_folders_and_patterns(tree: Tree) -> None:
    others = [
        "Fake/SDXL-turbo/0.png",
        "Fake/SDXL-base/1.png",
        "Fake/SDXL/2.png",
        "Fake/MyGAN/3.png",
    ]
    root = tree(below_presocial([*NAMES, *others]))
    assert names(find_images(root, "some:pre", OWN)) == [
        "pre:SDXL-base/1",
        "pre:SDXL-turbo/0",
        "pre:StyleGAN3/conf-t-psi-0.5/00000",
    ]
    assert names(find_images(root, "mine:pre", OWN)) == ["pre:MyGAN/3"]


def test_user_modifier_means_all_its_folders(tree: Tree) -> None:
    root = tree(
        f"{folder}/Fake/MyGAN/{number}.png"
        for number, folder in enumerate(("WhatsApp", "Phone/b", "Phone/a", "Phone/.hidden"))
    )
    assert names(find_images(root, "mine:wa", OWN)) == [
        "wa:MyGAN/0",
        "wa:MyGAN/2",
        "wa:MyGAN/1",
    ]


def test_linked_method_folder_is_a_user_subset(tree: Tree, tmp_path: Path) -> None:
    root = tree(below_presocial(NAMES))
    elsewhere = tmp_path / "elsewhere" / "method_1" / "some"
    elsewhere.mkdir(parents=True)
    (elsewhere / "00007.png").touch()
    link = root / "PreSocial/Fake/MyGAN"
    link.symlink_to(elsewhere.parent, target_is_directory=True)
    data = parse_data("mine:pre")
    assert not [*parts_without_folder(root, data, OWN)]
    assert names(survey(root, data, OWN).images) == ["pre:MyGAN/some/00007"]


def test_images_without_method_folder_have_separate_subsets(tree: Tree) -> None:
    root = tree(["Fake/7.png", "Fake/StyleGAN2/1.png", "real/8.JPG", "real/FFHQ/2.png"])
    (root / "Fake/._9.png").touch()
    found = find_images(root, "fakeFlat:none&realFlat:none")
    assert [(one.key, one.label, one.method, one.modifier) for one in found] == [
        ("7", 1, "", "none"),
        ("8", 0, "", "none"),
    ]
    assert names(find_images(root, "real:none")) == ["none:8", "none:FFHQ/2"]
    assert len(find_images(root, "all:none")) == 4
    assert names(find_images(root, "gan:none")) == ["none:StyleGAN2/1"]


def test_folder_named_like_an_image_or_its_suffix_is_a_folder(tree: Tree) -> None:
    root = tree(["Fake/jpg/1.png", "Fake/a.png/2.png", "real/WEBP/3.png"])
    words = Words(subsets={"foo": ("jpg", "a.png"), "realFoo": ("WEBP",)})
    found = find_images(root, "all:none", BUILT_IN.with_words(words))
    assert names(found) == ["none:a.png/2", "none:jpg/1", "none:WEBP/3"]
    flat = parse_data("fakeFlat:none&realFlat:none")
    assert len(list(parts_without_folder(root, flat))) == 2


@pytest.mark.parametrize(
    ("data", "unnamed"),
    [
        ("all:pre", ("PreSocial/Fake/mine", "PreSocial/Real/COCO")),
        ("gan2:pre&real:pre", ("PreSocial/Real/COCO",)),
        ("gan2:pre&realFFHQ:pre", ()),
        ("gan:pre", ()),
    ],
)
def test_folder_of_no_subset_is_named_if_all_of_its_class_are_meant(
    tree: Tree, data: str, unnamed: tuple[str, ...]
) -> None:
    names = ("Fake/StyleGAN2/1", "Fake/mine/a/1", "Real/FFHQ/1", "Real/COCO/1")
    root = tree(f"PreSocial/{name}.png" for name in names)
    (root / "PreSocial/Fake/empty").mkdir()
    found = survey(root, parse_data(data))
    assert found.unnamed == unnamed
    remarks = [remark for remark in found.remarks if " to no subset and " in remark]
    assert len(remarks) == bool(unnamed)
    told = "1 folder with images belongs" if len(unnamed) == 1 else "2 folders with images belong"
    assert all(remark.startswith(f"{told} to no subset and ") for remark in remarks)
    words = Words(subsets={"mine": ("mine",), "realMine": ("C*",)})
    assert survey(root, parse_data(data), BUILT_IN.with_words(words)).unnamed == ()


def test_flat_subset_is_missing_if_class_folder_has_no_image(tree: Tree) -> None:
    root = tree([*below_presocial(NAMES), "Fake/7.png"])
    data = parse_data("fakeFlat:pre&realFlat:pre&fakeFlat:none&realFlat:none&real:none&real:pre")
    assert {str(part): folder for part, folder in parts_without_folder(root, data)} == {
        "fakeFlat:pre": root / "PreSocial/Fake/*.png",
        "realFlat:pre": root / "PreSocial/Real/*.png",
        "realFlat:none": root / "Real/*.png",
        "real:none": root / "Real/FFHQ",
    }


def test_missing_user_folder_is_named(tree: Tree) -> None:
    root = tree(below_presocial(NAMES))
    data = parse_data("some:wa&mine:pre&some:pre")
    assert {str(part): folder for part, folder in parts_without_folder(root, data, OWN)} == {
        "some:wa": root / "WhatsApp/Fake/SDXL-*",
        "mine:pre": root / "PreSocial/Fake/MyGAN",
    }
    advice = r"WhatsApp, which does not exist\. For other layouts: trueface import --help$"
    with pytest.raises(DataError, match=rf"no images of some:wa in .*{advice}"):
        survey(root, parse_data("some:wa"), OWN)


def test_user_modifier_for_known_folder_gives_known_names(tree: Tree) -> None:
    root = tree(below_presocial(["Fake/StyleGAN2/a/1.png"]))
    own = BUILT_IN.with_words(
        Words(modifiers={"mail": ("PreSocial",), "two": ("Pre*", "Facebook")})
    )
    found = [find_images(root, data, own) for data in ("gan2:mail", "gan2:pre")]
    assert found[0] == found[1]
    assert names(find_images(root, "gan2:two", own)) == ["two:StyleGAN2/a/1"]


def test_folder_comes_before_link_to_it(tree: Tree) -> None:
    root = tree(["PreSocial/Fake/StyleGAN2/z/deep/00001.png"])
    method = root / "PreSocial/Fake/StyleGAN2"
    (method / "a").symlink_to(method / "z" / "deep")
    found = find_images(root, "gan2:pre")
    assert [image.key for image in found] == ["StyleGAN2/z/deep/00001"]


def test_folder_under_two_methods_is_reported(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(["PreSocial/Fake/StyleGAN2/a/00001.png"])
    (root / "PreSocial/Fake/StyleGAN3").symlink_to(root / "PreSocial/Fake/StyleGAN2")
    assert len(find_images(root, "gan2:pre&gan:pre")) == 2
    told = [one for one in caplog.messages if "counts twice" in one]
    assert len(told) == 2  # the method's folder, and the one in it
    assert "StyleGAN3/a" in told[1]
    caplog.clear()
    survey(root, parse_data("gan2:pre"))
    assert not caplog.messages


def test_twin_of_a_phone_is_left_out_and_reported(tmp_path: Path) -> None:
    for name in ("1.jpg", "1.HEIC", "2.jpg", "2.avif", "3.heic", "4.avif", "4.hif", "5.png"):
        (tmp_path / "Real").mkdir(exist_ok=True)
        (tmp_path / "Real" / name).touch()
    (tmp_path / "Real/5.heif").symlink_to(tmp_path / "nowhere.heif")
    found = survey(tmp_path, parse_data("realFlat:none"))
    names = [image.path.name for image in found.images]
    assert names == ["1.jpg", "2.jpg", "3.heic", "4.avif", "4.hif", "5.png"]
    assert found.links == frozenset()
    left_out, twice = found.remarks
    assert "3 HEIC or AVIF files ignored" in left_out
    assert f"such as {tmp_path}/Real/1.HEIC, {tmp_path}/Real/2.avif" in left_out
    assert "2 files have the same key as another file" in twice
    assert "4.hif" in twice


def test_same_name_in_two_formats_is_reported(tmp_path: Path) -> None:
    for folder in ("Real", "Fake"):
        (tmp_path / folder).mkdir()
        for at in range(20):
            (tmp_path / folder / f"{at:05d}.png").touch()
            (tmp_path / folder / f"{at:05d}.webp").touch()
    found = survey(tmp_path, parse_data("all:none"))
    assert len(found.images) == 80
    (remark,) = found.remarks
    assert "80 files have the same key as another file" in remark
    assert "00000.png, " in remark
    for file in tmp_path.glob("*/*.webp"):
        file.unlink()
    assert list(survey(tmp_path, parse_data("all:none")).remarks) == []
