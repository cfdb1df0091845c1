"""A program that holds memory of a card and keeps it busy for a part of the time.

python -m benchmarks.gpu.measurements.load BYTES DELAY ROUNDS PRODUCTS PAUSE [WORD …]
python -m benchmarks.gpu.measurements.load time      print how many seconds one product takes

It creates its context, takes BYTES after DELAY seconds, and then ROUNDS times multiplies matrices PRODUCTS times and
sleeps PAUSE seconds. If something else keeps the card busy, only the products take longer. Further words have no
effect. In a rehearsal the memory is that of the simulated card, and a product is a sleep.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.measurements.programs import TAKEN, taken

SIDE = 2048  # side of the matrices: a product fills an H100 for about half a millisecond in fp32
PRODUCT_S = 0.0005  # time of a product in a rehearsal
WARM_UP = 20


def multiplier() -> Callable[[int], None]:
    """Return a function that multiplies matrices so many times, and waits for the last product."""
    if TAKEN in os.environ:
        return lambda count: time.sleep(count * PRODUCT_S)
    import torch  # not in a rehearsal

    left = torch.rand(SIDE, SIDE, device="cuda")

    def multiply(count: int) -> None:
        product: Any = left
        for _ in range(count):
            product = left @ left
        torch.cuda.synchronize()
        del product

    return multiply


def seconds_of_product() -> float:
    """Return how long one product takes while nothing else runs on the card."""
    multiply = multiplier()
    multiply(WARM_UP)
    began = time.perf_counter()
    multiply(10 * WARM_UP)
    return (time.perf_counter() - began) / (10 * WARM_UP)


def main() -> None:
    """Run the program that the command line describes."""
    if sys.argv[1:] == ["time"]:
        print(seconds_of_product())
        return
    count, delay, rounds, products, pause, *_ = sys.argv[1:]
    multiply = multiplier()
    time.sleep(float(delay))
    with taken(int(count)):
        for _ in range(int(rounds)):
            multiply(int(products))
            time.sleep(float(pause))


if __name__ == "__main__":
    main()
