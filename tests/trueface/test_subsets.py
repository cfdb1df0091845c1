import pytest

from launcher.api import UnknownName, parse_data
from trueface.subsets import as_named, elementary, images, method_folders


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
    assert method_folders(key) == {folder}


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
    assert method_folders(union) == folders


def test_all_names_every_folder() -> None:
    assert len(method_folders("all")) == 12


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
    assert str(images(parse_data(written))) == read


def test_a_test_reads_what_is_named_and_no_more() -> None:
    assert str(as_named(parse_data("gan2:fb"))) == "gan2:fb"


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
    assert str(elementary(parse_data(written))) == elements


@pytest.mark.parametrize(
    ("text", "what", "suggestion"),
    [
        ("gna2:pre", "subset", "gan2"),
        ("gan2:prae", "modifier", "pre"),
        ("sdxl:pre", "subset", "sdXL"),
    ],
)
@pytest.mark.parametrize("read", [images, as_named, elementary])
def test_an_unknown_word_is_refused_with_the_nearest_known_one(
    read: object, text: str, what: str, suggestion: str
) -> None:
    assert callable(read)
    with pytest.raises(UnknownName) as caught:
        read(parse_data(text))
    assert (caught.value.what, caught.value.suggestion) == (what, suggestion)
