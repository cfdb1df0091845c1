"""Remarks of `trueface predict` on all answers together."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trueface.cli.text_tables import escape_unprintable
from trueface.data.folders import describe_suffixes

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.data.settings import TestSettings
    from trueface.prediction.predictor import Prediction

NAMED = 3  # images that a warning names
NO_CLASS = "they get no class"
LESS_SURE = "their answers are less reliable than on validation"
ADVICE = {
    "size": ". The network sees only the middle {crop} x {crop} pixels. Resize the images like the "
    "training images",
    "orientation": ". Rotate the pixels as the flag in the file says",
}


@dataclass(slots=True)
class Remarks:
    """Notes on all predictions together, printed to stderr."""

    answers: int = 0
    unsure: int = 0
    far: int = 0
    unlike: Counter[str] = field(default_factory=Counter)  # by reason
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, answer: "Prediction") -> None:
        """Count an answer."""
        self.answers += 1
        self.far += answer.is_far
        self.unsure += not answer.is_far and not answer.sure
        for each in answer.unlike:
            self.unlike[each.reason] += 1
            named = self.examples.setdefault(each.reason, [])
            if len(named) < NAMED:
                named.append(f"{escape_unprintable(str(answer.path))}: {each.text}")

    def lines(self, settings: "TestSettings") -> Iterable[str]:
        """Yield what there is to say of a model that sees images under these settings."""
        from trueface.prediction.predictor import FAR  # with torch, which is loaded by then

        for reason, count in self.unlike.items():
            advice = ADVICE.get(reason, "").format(crop=settings.resize_size)
            if reason == "size" and settings.decode == "fitted":
                advice = ""
            yield (
                f"warning: {count} of {self.answers} images differ from the training images in {reason}, "
                f"so {NO_CLASS if reason in FAR else LESS_SURE}{advice}"
            )
            yield from (f"  {example}" for example in self.examples[reason])
            if count > NAMED:
                yield f"  and {count - NAMED} more"
        if self.far:
            yield (
                f"note: no class for {self.far} of {self.answers} images that differ from the training "
                "images. Their logits are printed anyway."
            )
        if self.unsure:
            yield f"note: no class for {self.unsure} of {self.answers} images because of low confidence"


def passed_over_line(passed_over: Mapping[str, int]) -> str:
    """Return the note on files that were skipped because of their names."""
    return (
        f"note: skipped files whose names are not names of images: {describe_suffixes(passed_over)}"
    )
