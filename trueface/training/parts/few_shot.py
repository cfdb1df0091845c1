"""A closed-form training that extends its base model with a few images of a new source."""

from collections.abc import Sequence
from dataclasses import replace

from trueface.data.index import Image
from trueface.runtime.errors import JobError
from trueface.runtime.rng import python_rng
from trueface.training.image_lists import TrainingLists
from trueface.training.parts.protocol import Part
from trueface.training.parts.registry import register_part


@register_part("few-shot", chosen_by=("shots",))
class FewShot(Part):
    """Limits the training images to the number of examples per class in the settings."""

    def lists(self, lists: TrainingLists) -> TrainingLists:
        """Return the lists with only these examples as training images."""
        settings = self.training.settings
        return replace(lists, train=draw_shots(lists.train, settings.shots, settings.seed))


def draw_shots(images: Sequence[Image], shots: int, seed: int) -> tuple[Image, ...]:
    """Return `shots` random images of each class in their original order, or all images if `shots` is 0.

    Raises:
        JobError: a class has fewer images.
    """
    if not shots:
        return tuple(images)
    chosen: set[str] = set()
    for label in (0, 1):
        names = [image.file for image in images if image.label == label]
        if 0 < len(names) < shots:
            raise JobError(
                f"shots: {shots} is more than the {len(names)} {'fake' if label else 'real'} "
                f"images of the training list. Use {len(names)} or less, or 0 for all images of "
                "both classes."
            )
        rng = python_rng(f"shots/{label}", seed)
        # with the same seed, a smaller number of examples is a subset of a larger one
        chosen |= set(rng.sample(names, len(names))[:shots])
    return tuple(image for image in images if image.file in chosen)
