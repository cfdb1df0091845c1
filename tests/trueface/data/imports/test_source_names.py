import pytest

from trueface.data.imports.arrangement import folder_of, word_of, words
from trueface.data.vocabulary import BUILT_IN
from trueface.runtime.ids import Words, parse_data


@pytest.mark.parametrize(
    ("folder", "label", "word"),
    [
        ("FF-DF", 1, "FF-DF"),
        ("FF-real", 0, "realFF"),
        ("CelebDFv2_fake", 1, "CelebDFv2"),
        ("DFDC_Real", 0, "realDFDC"),
        ("realProgan", 0, "realProgan"),
        ("real", 0, "realImages"),
        ("realESRGAN", 1, "fakeRealESRGAN"),
        ("gan2", 1, "fakeGan2"),
        ("stable diffusion (v1)", 1, "stable-diffusion-v1"),
        ("ümlaut", 1, "mlaut"),
        ("FFHQ", 0, "realFFHQ"),
        ("StyleGAN2", 1, "gan2"),
    ],
)
def test_a_source_gets_a_word_that_ids_can_hold(folder: str, label: int, word: str) -> None:
    given = words([(folder, label)], {})
    assert word_of(folder, given) == word
    own = Words(subsets={w: (f,) for f, w in given.items()})
    (part,) = parse_data(f"{word}:pre").parts
    assert BUILT_IN.with_words(own).methods(part.subset).folders == (folder,)


def test_words_of_earlier_imports_stay_and_no_two_sources_share_one() -> None:
    given = words([("A_fake", 1), ("A", 1)], {"A_fake": "old"})
    assert given == {"A_fake": "old", "A": "A"}
    assert len(set(words([("A", 1), ("A_fake", 1), ("A-fake", 1)], {}).values())) == 3


def test_photographs_beside_fakes_of_one_name_get_a_folder_of_their_own() -> None:
    assert folder_of("progan", 0, {"progan"}) == "realProgan"
    assert folder_of("progan", 1, {"progan"}) == "progan"
    assert folder_of(".hid,den/x\n", 1, set()) == "_hid_den_x_"
