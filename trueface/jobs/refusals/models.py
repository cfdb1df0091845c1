"""Models that a job cannot start from: without weights, or trained with other images."""

from collections.abc import Iterable, Sequence

from launcher.api import Draft
from trueface.data.settings import other_decoding


def without_weights(makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse a model that is made without being kept: an older one in its place would be taken."""
    # an unlearning keeps its weights whatever the setting says
    if makers and makers[-1].kind == "train" and not makers[-1].settings["save_weights"]:
        yield (
            f"the weights of {makers[-1].model} are needed, and its training does not keep them; "
            "set save_weights: true in its training"
        )


def unlike_decoding(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse images that are read in another way than those of the model's training were."""
    differs = other_decoding(makers[-1].settings, draft.settings) if makers else ""
    if differs:
        yield f"{makers[-1].model} is trained with {differs}; train and test alike"
