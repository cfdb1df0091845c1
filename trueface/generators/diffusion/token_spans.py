"""The tokens of a prompt and the words that they stand for. Imports no torch.

A span is the start and the end of the characters of one token in its prompt. The first token of a text encoder's
input is the start of the text, so token i of a prompt is at place i + 1. After the last token follows the end of the
text, and after that the padding.
"""

import re
from collections.abc import Sequence

from trueface.runtime.errors import JobError

Span = tuple[int, int]
TokenSpans = tuple[tuple[Span, ...], ...]  # spans of each prompt's tokens

NOT_IN_PROMPT = "concept_words: {words!r} is not in the prompt {prompt!r}. Write words of the prompt, in its order."


def find_words(words: str, prompt: str) -> tuple[Span, ...]:
    """Return each place of adjacent whole words in a prompt. Upper and lower case are equal, as for the tokenizer."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    if not pattern:
        return ()
    found = re.finditer(rf"(?<!\w){pattern}(?!\w)", prompt, re.IGNORECASE)
    return tuple(each.span() for each in found)


def token_places(words: str, prompt: str, spans: Sequence[Span]) -> tuple[int, ...]:
    """Return the places of the tokens of some words, and of the end of the text.

    Words that occur twice in the prompt are found twice, as in the program of the authors of Forget-Me-Not.

    Args:
        words: adjacent words of the prompt. "": all of its words.
        prompt: the prompt.
        spans: the tokens of the prompt that the text encoder read.

    Raises:
        JobError: the words are not in the prompt, or the tokenizer cut one of them off.
    """
    found = find_words(words or prompt, prompt)
    if not found:
        raise JobError(NOT_IN_PROMPT.format(words=words, prompt=prompt))
    read = max((end for _, end in spans), default=0)
    if found[-1][1] > read:
        unread = prompt[max(read, found[-1][0]) : found[-1][1]].strip()
        raise JobError(
            f"concept_words: the text encoder does not read {unread!r}, because it reads only the first "
            f"{len(spans)} tokens of {prompt!r}. Shorten the prompt and import the model again."
        )
    places = [
        place
        for place, (start, end) in enumerate(spans, start=1)
        if any(start < last and end > first for first, last in found)
    ]
    return (*places, len(spans) + 1)
