import pytest

from launcher.api import UnknownName, UsageError, Words, parse_data
from trueface.subsets import BUILT_IN, Methods, Vocabulary


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
def test_a_union_names_every_folder_whose_key_contains_it(union: str, folders: set[str]) -> None:
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


def test_a_test_reads_what_is_named_and_no_more() -> None:
    assert str(BUILT_IN.as_named(parse_data("gan2:fb"))) == "gan2:fb"


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


def test_a_users_subset_belongs_to_the_unions_that_its_name_contains() -> None:
    own = told(mygan=("MyGAN",), sdOld=("SD-*",), unrealX=("X",), other=("A", "B-*"))
    assert own.subset_keys("gan") == ("gan1", "gan2", "gan3", "mygan")
    assert own.subset_keys("sd") == ("sd15", "sd2", "sd3", "sdXL", "sdOld")
    assert own.subset_keys("real") == ("realFFHQ", "realRAISE", "realFORLAB", "unrealX", "realFlat")
    assert {"mygan", "sdOld", "unrealX", "other"} < set(own.subset_keys("all"))
    assert own.methods("other") == Methods(("A", "B-*"))
    assert str(own.images(parse_data("unrealX:pre"))) == "unrealX:pre"


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
    ("word", "folders", "said"),
    [
        ("gan2", ("X",), "exists already"),
        ("real", ("X",), "exists already"),
        ("all", ("X",), "exists already"),
        ("fakeFlat", ("X",), "exists already"),
        ("-x", ("X",), "cannot be the name"),
        ("my gan", ("X",), "cannot be the name"),
        ("a:b", ("X",), "cannot be the name"),
        ("mine", (), "names no folder"),
        ("mine", ("",), "is no folder"),
        ("mine", (" ",), "is no folder"),
        ("mine", ("/data/X",), "below Real/ and Fake/"),
        ("mine", ("X/Y",), "below Real/ and Fake/"),
        ("mine", ("..",), "below Real/ and Fake/"),
        ("mine", ("X,Y",), "comma"),
        ("mine", ("X\n",), "cannot be printed"),
    ],
)
def test_a_subset_that_cannot_be_is_refused(word: str, folders: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BUILT_IN.with_words(Words(subsets={word: folders}))


@pytest.mark.parametrize(
    ("word", "folder", "said"),
    [
        ("pre", "X", "exists already"),
        ("shr", "X", "exists already"),
        ("none", "X", "exists already"),
        ("wa", "/data/X", "outside the data root"),
        ("wa", "X/../../Y", "outside the data root"),
        ("wa", "", "is no folder"),
    ],
)
def test_a_modifier_that_cannot_be_is_refused(word: str, folder: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BUILT_IN.with_words(Words(modifiers={word: (folder,)}))
