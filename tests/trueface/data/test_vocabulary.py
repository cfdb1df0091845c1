import pytest

from launcher.api import DataId, UnknownName, UsageError, Words, parse_data
from trueface.data.vocabulary import BUILT_IN, MODIFIERS, Methods, Vocabulary


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
def test_a_key_names_one_folder(key: str, folder: str) -> None:
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
def test_a_union_names_every_folder_whose_key_begins_with_it(union: str, folders: set[str]) -> None:
    assert set(BUILT_IN.methods(union).folders) == folders


def test_all_names_every_folder() -> None:
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
def test_a_training_without_real_images_gets_them_once_per_modifier(
    written: str, read: str
) -> None:
    assert str(BUILT_IN.images(parse_data(written))) == read


@pytest.mark.parametrize(
    ("written", "elements"),
    [
        ("gan:pre", "gan1:pre&gan2:pre&gan3:pre"),
        ("gan2:shr", "gan2:fb&gan2:tl&gan2:tw"),
        ("gan2:all", "gan2:pre&gan2:fb&gan2:tl&gan2:tw"),
        ("gan2:pre&gan:pre", "gan2:pre&gan1:pre&gan3:pre"),
    ],
)
def test_unions_are_written_out_and_repeats_left_out(written: str, elements: str) -> None:
    assert str(BUILT_IN.elementary(parse_data(written))) == elements


@pytest.mark.parametrize(
    ("text", "what", "suggestion"),
    [
        ("gna2:pre", "subset", "gan2"),
        ("gan2:prae", "modifier", "pre"),
        ("sdxl:pre", "subset", "sdXL"),
    ],
)
@pytest.mark.parametrize("read", [BUILT_IN.images, BUILT_IN.as_named, BUILT_IN.elementary])
def test_an_unknown_word_is_refused_with_the_nearest_known_one(
    read: object, text: str, what: str, suggestion: str
) -> None:
    assert callable(read)
    with pytest.raises(UnknownName) as caught:
        read(parse_data(text))
    assert (caught.value.what, caught.value.suggestion) == (what, suggestion)


def told(**own: tuple[str, ...]) -> Vocabulary:
    return BUILT_IN.with_words(Words(subsets=own))


def test_a_users_subset_belongs_to_the_union_with_which_its_name_begins() -> None:
    own = told(gan4=("MyGAN",), sdOld=("SD-*",), realX=("X",), other=("A", "B-*"))
    assert own.subset_keys("gan") == ("gan1", "gan2", "gan3", "gan4")
    assert own.subset_keys("sd") == ("sd15", "sd2", "sd3", "sdXL", "sdOld")
    assert own.subset_keys("real") == ("realFFHQ", "realRAISE", "realFORLAB", "realX", "realFlat")
    assert {"gan4", "sdOld", "realX", "other"} < set(own.subset_keys("all"))
    assert own.methods("other") == Methods(("A", "B-*"))
    assert str(own.images(parse_data("realX:pre"))) == "realX:pre"


def test_a_union_in_the_middle_of_a_name_means_nothing() -> None:
    own = told(surreal=("A",), mygan=("B",), lsd=("C",))
    for union, word in (("real", "surreal"), ("gan", "mygan"), ("sd", "lsd")):
        assert word not in own.subset_keys(union)
    assert str(own.images(parse_data("surreal:pre"))) == "surreal:pre&real:pre"


def elements(own: Words, data: str) -> set[str]:
    """Return what a data ID is told by, and check that a job of it knows the same images."""
    vocabulary, read = BUILT_IN.with_words(own), parse_data(data)
    written_out = vocabulary.elementary(read)
    told_to_job = BUILT_IN.with_words(own.used_by(DataId((*read, *written_out))))
    told_to_job.as_named(read)
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
def test_words_for_the_same_folders_are_the_same(
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
def test_a_job_is_told_every_word_of_a_union(
    subsets: dict[str, tuple[str, ...]], data: str
) -> None:
    assert elements(Words(subsets=subsets), data)


def test_words_for_other_folders_are_not_the_same() -> None:
    own = Words(subsets={"a1": ("W",), "b1": ("W", "V")}, modifiers={"c": ("X",), "d": ("Y",)})
    found = [elements(own, data) for data in ("a1:c", "b1:c", "a1:d", "a1:pre")]
    assert all(one != other for one in found for other in found if one is not other)


@pytest.mark.parametrize(
    ("key", "today", "older"),
    [(key, *folders) for key, folders in MODIFIERS.items() if len(folders) == 2],
)
def test_a_modifier_for_the_older_layout_is_a_word_of_its_own(
    key: str, today: str, older: str
) -> None:
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
def test_a_layout_says_which_folders_count(
    layout: str, pre: tuple[str, ...], fb: tuple[str, ...]
) -> None:
    vocabulary = BUILT_IN.with_layout(layout)
    assert [vocabulary.folders(modifier) for modifier in ("pre", "fb", "none")] == [pre, fb, (".",)]
    own = vocabulary.with_words(Words(modifiers={"wa": ("WhatsApp", "Wa2")}))
    assert (own.layout, own.folders("wa")) == (layout, ("WhatsApp", "Wa2"))
    assert own.with_layout("auto") == BUILT_IN.with_words(
        Words(modifiers={"wa": ("WhatsApp", "Wa2")})
    )


def test_a_users_modifier_belongs_to_no_union() -> None:
    own = BUILT_IN.with_words(Words(modifiers={"wa": ("WhatsApp", "Wa2")}))
    assert own.modifier_keys("wa") == ("wa",)
    assert own.modifier_keys("all") == BUILT_IN.modifier_keys("all")
    assert own.own_folders("wa") == ("WhatsApp", "Wa2")
    assert own.own_folders("pre") is None


def test_words_are_added_to_words() -> None:
    twice = told(mine=("A",)).with_words(Words(subsets={"other": ("B",)}))
    assert twice.subset_keys("all")[-4:-2] == ("mine", "other")
    with pytest.raises(UsageError, match="exists already"):
        twice.with_words(Words(subsets={"mine": ("C",)}))


@pytest.mark.parametrize(
    ("folder", "held"),
    [("SDXL-turbo", True), ("SDXL", False), ("sdxl-turbo", False), (".SDXL-x", False), ("A", True)],
)
def test_a_pattern_means_the_folders_that_it_fits(folder: str, held: bool) -> None:
    assert told(mine=("SDXL-*", "*-x", "A")).methods("mine").holds(folder) is held


@pytest.mark.parametrize(
    ("sort", "word", "folders", "said"),
    [
        ("subsets", "gan2", ("X",), "exists already"),
        ("subsets", "real", ("X",), "exists already"),
        ("subsets", "all", ("X",), "exists already"),
        ("subsets", "fakeFlat", ("X",), "exists already"),
        ("subsets", "-x", ("X",), "cannot be the name"),
        ("subsets", "my gan", ("X",), "cannot be the name"),
        ("subsets", "a:b", ("X",), "cannot be the name"),
        ("subsets", "mine", (), "names no folder"),
        ("subsets", "mine", ("",), "is no folder"),
        ("subsets", "mine", (" ",), "is no folder"),
        ("subsets", "mine", ("/data/X",), "below Real/ and Fake/"),
        ("subsets", "mine", ("X/Y",), "below Real/ and Fake/"),
        ("subsets", "mine", ("..",), "below Real/ and Fake/"),
        ("subsets", "mine", ("X,Y",), "comma"),
        ("subsets", "mine", ("X\n",), "cannot be printed"),
        ("modifiers", "pre", ("X",), "exists already"),
        ("modifiers", "shr", ("X",), "exists already"),
        ("modifiers", "none", ("X",), "exists already"),
        ("modifiers", "wa", ("/data/X",), "outside the data root"),
        ("modifiers", "wa", ("X/../../Y",), "outside the data root"),
        ("modifiers", "wa", ("",), "is no folder"),
    ],
)
def test_a_word_that_cannot_be_is_refused(
    sort: str, word: str, folders: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        BUILT_IN.with_words(Words(**{sort: {word: folders}}))
