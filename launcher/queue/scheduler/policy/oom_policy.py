"""Whose fault a lack of memory was, and the request of the next attempt.

The criterion is always the same: did the job have the memory that was reserved for it? All numbers
are of one GPU.

    need: the larger of its usage when it failed and its measured peak, plus the failed allocation
    others: usage of all others on its GPU at that moment
    room: memory of the GPU without that of others

Evidence                                                 Fault          Next request         Counts?
Need beyond its request, or beyond its allocator's cap   ours           larger               no.
Need within its request, room smaller than its request   a neighbour's  the same             no.
No request, need within the GPU, others on it            a neighbour's  the need             no.
No request, need unknown, others on it                   a neighbour's  more than the room   no.
All of the room reserved, a little of the GPU others'    a neighbour's  more than the room   no.
Alone on the GPU, without a cap                          ours           more than the GPU    no.
Otherwise, if no neighbour can be shown                  ours           larger               no.
No request, no need and no room known                    ours           as before            yes.
Main memory, need within the reservation                 the machine's  as before            no.
Main memory, need beyond the reservation                 ours           as before            yes.
Main memory, no reservation, or the need unknown         the machine's  as before            yes.

A request grows beyond the size of a GPU only if the known need is more than that.

*Counts*: the attempt uses up one of the job's `retries`. A fault of ours need not count, since such
attempts end by themselves. Each time the request grows by a quarter (by half if the need is
unknown) and by at least 256 MiB, at least to the known need. A job whose request fits no GPU fails.
A neighbour's fault or the machine's may occur forever. The caller therefore requeues such a job
with growing pauses, or counts the attempt.

This module does not check whether any GPU can ever hold the request. The caller has the list of
GPUs.
"""

from typing import Literal, NamedTuple

from launcher.queue.jobs.states import MemoryKind, OomReport
from launcher.system.units import format_bytes

BlamedOn = Literal["ours", "neighbour", "machine"]

STEP = 256 << 20  # requests are multiples of this step
GROWTH = 1.25  # growth factor of a request that was too small
DOUBT = 1.5  # growth factor if the shortage is unknown: from 1 GiB to a GPU of 192 GiB in 13 steps
MARGIN = 1.1  # factor on the need at the failure: the next step may need a little more
CONTEXT = 512 << 20  # memory of CUDA, cuDNN and cuBLAS that an allocator does not count; a guess
# a display, or the context that a program's own report leaves out: not worth waiting for
NEGLIGIBLE = 768 << 20
# a job that wants a GPU for itself gets one of which others use at most this share, or next to nothing
QUIET_SHARE = 0.1


class OomContext(NamedTuple):
    """Facts of the scheduler about an attempt with too little memory, in bytes. None if unknown."""

    vram: int | None = None  # bytes on each GPU
    total: int | None = None  # size of the attempt's GPU
    others: int | None = None  # usage of the attempt's GPU by all other processes
    peak: int | None = None  # the most that the attempt was seen to take
    reserve: int = 0  # memory of each GPU, always left to others
    ram: int | None = None  # main memory that was reserved for the attempt


class OomVerdict(NamedTuple):
    """Whose fault it was, and what follows."""

    blamed_on: BlamedOn
    # bytes of each GPU that the next attempt needs; None: unknown as before
    vram: int | None
    why: str  # one sentence, in numbers
    charged: bool  # whether the attempt uses up one of its job's retries
    where: MemoryKind = "gpu"  # kind of the missing memory


def diagnose_oom(report: OomReport, context: OomContext) -> OomVerdict:
    """Return whose fault a lack of memory was; the module's table says how it is judged.

    Args:
        report: report in the program's own words.
        context: facts that the scheduler has measured.
    """
    if report.where == "ram":
        return _diagnose_main_memory(report, context)
    vram, need = context.vram, _needed_bytes(report, context)
    total = report.total if context.total is None else context.total
    others = _others_bytes(report, context)
    numbers = _describe_need(report, context)
    taken = _is_taken_by_others(vram, need, total, others) and not _hit_own_cap(report, need)
    least = (
        None if report.cap else _request_without_others(vram, need, total, others, context.reserve)
    )
    if taken:
        least = (
            vram if vram is not None else _request_beyond_room(need, total, others, context.reserve)
        )
    if taken or least is not None:
        why = f"other processes used {_bytes_or_unknown(others)} of {_bytes_or_unknown(total)}, this job {numbers}"
        return OomVerdict(blamed_on="neighbour", vram=least, why=why, charged=False)
    grown = _grow_request(vram, need, _largest_request(total, others, context.reserve))
    if report.cap is None and total is not None and others is not None and others <= NEGLIGIBLE:
        grown = _round_up_request(max(grown or 0, total + 1))
        numbers += f", alone on a GPU of {_bytes_or_unknown(total)}"
    return OomVerdict(blamed_on="ours", vram=grown, why=numbers, charged=grown is None)


def _diagnose_main_memory(report: OomReport, context: OomContext) -> OomVerdict:
    held, wanted, promised = report.held, report.wanted, context.ram
    numbers = f"used {_bytes_or_unknown(held)}"
    if wanted:
        numbers += f" and needed {format_bytes(wanted)} more"
    numbers += f" (reserved: {'none' if promised is None else format_bytes(promised)})"
    measured = held is not None and wanted is not None
    beyond = promised is not None and (held or 0) + (wanted or 0) > promised
    within = promised is not None and measured and not beyond
    whose: BlamedOn = "ours" if beyond else "machine"
    why = numbers if beyond else f"the machine had too little, this job {numbers}"
    return OomVerdict(blamed_on=whose, where="ram", vram=context.vram, why=why, charged=not within)


def _needed_bytes(report: OomReport, context: OomContext) -> int | None:
    """Return what the job would have needed to go on, as far as it is known."""
    seen = [amount for amount in (report.held, context.peak) if amount is not None]
    return max(seen) + (report.wanted or 0) if seen else None


def _others_bytes(report: OomReport, context: OomContext) -> int | None:
    """Return the usage of all others on the GPU. A later reading may show less."""
    seen = [] if context.others is None else [context.others]
    if report.total is not None and report.free is not None and report.held is not None:
        seen.append(max(0, report.total - report.free - report.held))
    return max(seen, default=None)


def _is_taken_by_others(
    vram: int | None, need: int | None, total: int | None, others: int | None
) -> bool:
    """Whether others used memory that this job had reserved, or needed."""
    if total is None or others is None or others <= NEGLIGIBLE:
        return False
    if vram is None:
        return need is None or need <= total
    return total - others < vram <= total and (need is None or need <= vram)


def _hit_own_cap(report: OomReport, need: int | None) -> bool:
    """Whether its allocator was refused by its cap and not by the GPU."""
    if report.cap is None:
        return False
    free, wanted = report.free, report.wanted
    full = free is not None and wanted is not None and free < wanted
    return not full and (need is None or need > report.cap)


def _largest_request(total: int | None, others: int | None, reserve: int) -> int | None:
    """Return the largest request that such a GPU can meet when it is unused."""
    if total is None:
        return None
    always = NEGLIGIBLE if others is None else min(others, NEGLIGIBLE)
    return (total - always - reserve) // STEP * STEP


def _request_without_others(
    vram: int | None, need: int | None, total: int | None, others: int | None, reserve: int
) -> int | None:
    """Return a request that is not met before others leave, for a job that had all memory except their small part; otherwise None.

    It may fit without them, and an equal attempt would fail in the same way.
    """
    if vram is None or total is None or others is None:
        return None
    little = NEGLIGIBLE < others <= QUIET_SHARE * total
    if not little or total - others > vram + STEP or (need or 0) > total - NEGLIGIBLE:
        return None
    beyond = _round_up_request(max(need or 0, total - others) + 1 + NEGLIGIBLE)
    return max(vram, min(beyond, (total - reserve) // STEP * STEP))


def _request_beyond_room(
    need: int | None, total: int | None, others: int | None, reserve: int
) -> int | None:
    """Return the request of a job that had none, and needs more than it got."""
    if need is None and total is not None and others is not None:
        return _round_up_request(max(0, total - others) + 1)
    return _grow_request(None, need, _largest_request(total, others, reserve))


def _grow_request(vram: int | None, need: int | None, most: int | None) -> int | None:
    """Return a larger request, one that the GPU can meet if that may be enough."""
    least, wish = need or 0, 0 if need is None else round(need * MARGIN) + CONTEXT
    if vram is not None:
        grown = round(vram * (DOUBT if need is None else GROWTH))
        least, wish = max(least, vram + STEP), max(wish, grown, vram + STEP)
    elif need is None:
        return None
    return most if most is not None and least <= most < wish else _round_up_request(wish)


def _round_up_request(amount: int) -> int:
    return -(-amount // STEP) * STEP


def _describe_need(report: OomReport, context: OomContext) -> str:
    """Return what the job had and wanted, in words."""
    held = report.held if report.held is not None else context.peak
    text = f"used {_bytes_or_unknown(held)}"
    if report.cap is not None:
        text += f" of its limit of {format_bytes(report.cap)}"
    if report.wanted is not None:
        text += f" and needed {format_bytes(report.wanted)} more"
    return text if context.vram is None else f"{text} (reserved: {_bytes_or_unknown(context.vram)})"


def _bytes_or_unknown(amount: int | None) -> str:
    return "an unknown amount" if amount is None else format_bytes(amount)
