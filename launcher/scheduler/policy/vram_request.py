"""How much of a GPU's memory a job is promised, and on what that rests."""

from launcher.errors import counted
from launcher.store.usage import LEAST_MARGIN, MARGIN, Usage
from launcher.units import format_bytes


def vram_request_of(
    asked: int | None, least: int, usage: Usage, *, exact: bool = True
) -> tuple[int | None, str]:
    """Return what a job is promised on each of its GPUs, in bytes, and on what that rests.

    Args:
        asked: `min_vram`; None: not said, or `auto`.
        least: what it needs at least, as it turned out when it had less; 0: that never happened.
        usage: what jobs like it took.
        exact: those agree with it in all that costs; else what was asked for counts more than the usage.

    Returns:
        None where nobody knows: then it shares its GPUs with none of ours, until that is learned.
    """
    peak = usage.peak
    learned = None if peak is None else peak + max(round(peak * MARGIN), LEAST_MARGIN)
    if asked is not None and (peak is None or asked >= peak or not exact):
        claim, source = asked, "declared"
    elif asked is not None and learned is not None and peak is not None:
        claim, source = learned, f"declared {format_bytes(asked)}, measured {format_bytes(peak)}"
    elif learned is not None:
        claim, source = learned, f"learned from {counted(len(usage.peaks), 'run')}"
    elif least:
        return least, "after it had too little"
    else:
        return None, ""
    return (claim, source) if claim >= least else (least, "after it had too little")
