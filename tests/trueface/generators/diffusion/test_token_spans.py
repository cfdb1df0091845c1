import pytest

from trueface.generators.diffusion.token_spans import find_words, token_places
from trueface.runtime.errors import JobError

PROMPT = "a photo of Van Gogh, a photo"
# "a", "phot", "o", "of", "van", "go", "gh", ",", "a", "phot", "o"
SPANS = (
    (0, 1), (2, 6), (6, 7), (8, 10), (11, 14), (15, 17), (17, 19), (19, 20), (21, 22), (23, 27), (27, 28),
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("van gogh", (5, 6, 7, 12)),  # the end of the text is at place 12
        ("of  Van", (4, 5, 12)),
        ("photo", (2, 3, 10, 11, 12)),  # twice
        ("Gogh,", (6, 7, 8, 12)),
        ("", (*range(1, 12), 12)),
    ],
)
def test_tokens_of_words_are_marked_and_the_end_of_the_text(
    words: str, places: tuple[int, ...]
) -> None:
    assert token_places(words, PROMPT, SPANS) == places


@pytest.mark.parametrize(
    ("words", "prompt", "says"),
    [
        ("gog", PROMPT, "'gog' is not in the prompt"),
        ("gogh van", PROMPT, "'gogh van' is not in the prompt"),
        (
            "cross",
            f"{PROMPT} of a cross",
            "does not read 'cross', because it reads only the first 11",
        ),
        ("photo of", f"{PROMPT} of it", "does not read 'of'"),
        ("", f"{PROMPT} of it", "does not read 'of it'"),
    ],
)
def test_words_that_are_not_in_the_prompt_or_cut_off_are_refused(
    words: str, prompt: str, says: str
) -> None:
    with pytest.raises(JobError, match=says):
        token_places(words, prompt, SPANS)


def test_only_whole_words_are_found() -> None:
    assert find_words("a", "a banana, A") == ((0, 1), (10, 11))
    assert find_words(" ", "a banana") == ()
