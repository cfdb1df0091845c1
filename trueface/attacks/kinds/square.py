"""Square attack in the L-infinity norm: M. Andriushchenko et al., arXiv 1912.00049, algorithms 1 and 2.

It sees logits only, and stops for an image once that is called otherwise.
"""

import math

import torch
from torch import Tensor

from trueface.attacks.perturb import AttackInput
from trueface.attacks.registry import register_attack

FIRST_SHARE = 0.05  # fraction of the pixels that the first square covers; the paper's
# after how many of 10,000 queries that share is halved; the paper's, scaled to the queries here
HALVED_AFTER = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
OF_QUERIES = 10_000


@register_attack("square", summary="random squares, using only logits", access="score")
def square(request: AttackInput) -> Tensor:
    """Return the best of so many tries for each image; it begins with vertical stripes."""
    shape, directions = request.images.shape[1:], request.directions
    stripes = request.draw_per_image(lambda rng: _signs((shape[0], 1, shape[2]), rng))
    best = request.project_to_budget(request.images + request.budget * stripes)
    gains = request.target.logits(best) * directions
    for query in range(1, request.queries):
        open_ = (gains <= 0).nonzero().flatten().tolist()
        if not open_:
            break
        side = _side(shape, query, request.queries)
        tries = torch.stack([_paint_square(request, best[at], at, side) for at in open_])
        tried = request.target.logits(tries) * directions[open_]
        better = tried > gains[open_]
        chosen = torch.tensor(open_)[better]
        best[chosen], gains[chosen] = tries[better], tried[better]
    return best


def _paint_square(request: AttackInput, best: Tensor, image_index: int, side: int) -> Tensor:
    """Return an image with a new square, each channel of which moves as a whole."""
    rng = request.generators[image_index]
    height, width = best.shape[1:]
    top = int(torch.randint(0, height - side + 1, (1,), generator=rng))
    left = int(torch.randint(0, width - side + 1, (1,), generator=rng))
    window = (slice(None), slice(top, top + side), slice(left, left + side))
    changed = best.clone()
    moved = request.images[image_index][window] + request.budget * _signs((len(best), 1, 1), rng)
    changed[window] = moved.clamp(0, 255)
    return changed


def _side(shape: torch.Size, query: int, queries: int) -> int:
    """Return the side of the square of a query, in pixels."""
    halvings = sum(query * OF_QUERIES > limit * queries for limit in HALVED_AFTER)
    height, width = shape[1:]
    side = round(math.sqrt(FIRST_SHARE / 2**halvings * height * width))
    return min(max(side, 1), height, width)


def _signs(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=rng).float() * 2 - 1
