"""Messages of errors: how they are divided."""

import pytest

from launcher.system.errors import split_advice


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("lr is too large", ("lr is too large", "")),
        ("lr is too large.", ("lr is too large", "")),
        ("lr is too large. Use 0.1 or less.", ("lr is too large", "use 0.1 or less")),
        ("lr 0.1 is used. GPUs are slow. Use 2.", ("lr 0.1 is used", "GPUs are slow. Use 2")),
        ("no key 'lrr'. Did you mean 'lr'?", ("no key 'lrr'", "did you mean 'lr'?")),
        ("x.csv has no column a (known: b, c)", ("x.csv has no column a (known: b, c)", "")),
    ],
)
def test_first_sentence_is_the_headline_and_the_rest_the_hint(
    message: str, parts: tuple[str, str]
) -> None:
    assert split_advice(message) == parts
