"""Why a model must not be scored, by a test or a benchmark."""

from collections.abc import Iterable, Sequence

from launcher.api import Draft
from trueface.data.vocabulary import Vocabulary
from trueface.jobs.refusals.attributes import unreadable_attributes
from trueface.jobs.refusals.leakage import leaks
from trueface.jobs.refusals.models import unlike_decoding, without_weights
from trueface.jobs.refusals.qualities import uncorruptible


def unfit_scoring(draft: Draft, makers: Sequence[Draft], vocabulary: Vocabulary) -> Iterable[str]:
    """Yield why a model must not be scored on images, whatever happens to these before."""
    yield from without_weights(makers)
    yield from unlike_decoding(draft, makers)
    yield from leaks(draft, makers, vocabulary)
    yield from uncorruptible(draft)
    yield from unreadable_attributes(draft)


def unfit_test(draft: Draft, makers: Sequence[Draft], vocabulary: Vocabulary) -> Iterable[str]:
    """Yield why a test must not run."""
    yield from unfit_scoring(draft, makers, vocabulary)
    if draft.settings.get("surrogate") == draft.model:
        yield (
            f"surrogate: {draft.model} is the model under attack; name one that was trained apart, "
            "or take pgd, which knows the model"
        )
