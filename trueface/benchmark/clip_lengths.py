"""Models of different clips in one benchmark: names of their inputs, and the conditions they share. No torch here.

A clip of 8 frames, a clip of 32 frames and a single frame are different images, so such models have no image in common.
They have videos in common. If models read different clips of a test, all tables of the run count videos.
"""

from collections.abc import Iterable, Iterator

from trueface.benchmark.conditions import Condition
from trueface.corruptions.registry import SPECS, CorruptionStep, parse_steps
from trueface.data.clips import Clips


def describe_frames(clips: Clips | None) -> str:
    """Return the frames that a model reads together: "1", "8", "16 (stride 2, 4 clips per video)"."""
    if clips is None:
        return "1"
    further = [f"stride {clips.stride}"] * (clips.stride > 1)
    if clips.per_video:
        further.append(f"{clips.per_video} clip{'s' * (clips.per_video > 1)} per video")
    return f"{clips.frames} ({', '.join(further)})" if further else str(clips.frames)


def describe_input(clips: Clips | None) -> str:
    """Return what a model reads, in words: "single frames", "clips of 8 frames"."""
    if clips is None:
        return "single frames"
    count, *further = describe_frames(clips).split(" ", 1)
    return " ".join((f"clips of {count} frames", *further))


def incomparable(condition: Condition) -> str:
    """Return why a condition is not the same for models of different clips; "" if it is."""
    if condition.is_attack:
        return (
            f"{condition.attack} changes each frame or clip on its own, so its success by frame and by clip "
            "is not comparable"
        )
    return next(_incomparable_steps(parse_steps(condition.corrupt)), "")


def _incomparable_steps(steps: Iterable[CorruptionStep]) -> Iterator[str]:
    for step in steps:
        frames = SPECS[step.name].frames
        if frames == "together":
            yield f"{step} codes all frames of a clip together, so frames of clips of other lengths look otherwise"
        elif step.upper is not None or (step.draws and frames == "alike"):
            yield f"{step} draws its values for each clip or single frame, so clips of other lengths get others"
