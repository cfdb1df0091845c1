from collections import Counter

from trueface.data.index import Image
from trueface.data.transforms import COPY_KINDS, matched_chains


def images(label: int, count: int) -> list[Image]:
    return [Image(f"{label}/{n}.png", f"{label}/{n}", label, "", "none") for n in range(count)]


def test_the_same_image_of_both_classes_gets_the_same_corruption() -> None:
    real, fake = images(0, 30), images(1, 20)
    chains = matched_chains([*real, *fake], seed=1)
    for first, second in zip(real, fake, strict=False):
        assert str(chains[first.name]) == str(chains[second.name])


def test_strengths_follow_from_the_seed_and_lie_between_the_bounds() -> None:
    strengths, same, others = (
        [str(chain) for chain in matched_chains(images(0, 60), seed).values()] for seed in (1, 1, 2)
    )
    assert strengths == same != others
    for place, chain in enumerate(strengths):
        kind = COPY_KINDS[place % len(COPY_KINDS)]
        assert kind.low <= float(chain.removeprefix(kind.name)) <= kind.high


def test_images_that_were_halved_are_among_the_copies() -> None:
    counts = Counter(str(chain) for chain in matched_chains(images(0, 480), seed=1).values())
    assert counts["resize0.5"] + counts["resize0.75"] >= 40
    assert min(counts["resize0.5"], counts["resize0.75"]) >= 10
