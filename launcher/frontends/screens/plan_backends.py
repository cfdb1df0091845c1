"""The requests of a plan to each backend, in sentences."""

from collections.abc import Iterator, Sequence

from launcher.experiments.planning.backend_preview import BackendPreview
from launcher.queue.backends.settings import LOCAL, BackendSettings
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal
from launcher.system.units import LONGEST_ESTIMATE_S, format_bytes, format_estimate, format_seconds


def backend_lines(previews: Sequence[BackendPreview], now: float) -> Iterator[str]:
    """Yield a sentence for each backend, or this machine, that jobs of a plan go to."""
    for preview in previews:
        if preview.settings is None:
            yield sanitize_terminal(f"On this machine{_unplaced_text(preview)}: {_jobs(preview)}")
        else:
            yield sanitize_terminal(
                f"On {preview.name}{_unplaced_text(preview)}: {_jobs(preview)}; {_pilots(preview, now)}"
            )


def shape_of(settings: BackendSettings) -> str:
    """Return the request of a pilot, in words."""
    parts = [pluralize(settings.cpus, "core")]
    if settings.gpus:
        kind = settings.gpu_type or ("GPU" if settings.gpus == 1 else "GPUs")
        parts.append(f"{settings.gpus} {kind}")
    parts += [format_bytes(settings.memory)] if settings.memory is not None else []
    parts += [format_seconds(settings.time_s)] if settings.time_s is not None else []
    return ", ".join(parts)


def _unplaced_text(preview: BackendPreview) -> str:
    names = ("this machine" if name == LOCAL else name for name in preview.other_backends)
    if not preview.other_backends:
        return ""
    most = f" (except {pluralize(preview.jobs_only_here, 'job')})" if preview.jobs_only_here else ""
    return f", otherwise on {' or '.join(names)}{most}"


def _jobs(preview: BackendPreview) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in preview.kinds.items())
    return kinds if len(preview.kinds) == 1 else f"{pluralize(preview.jobs, 'job')} ({kinds})"


def _pilots(preview: BackendPreview, now: float) -> str:
    settings = preview.settings
    assert settings is not None, "this machine has no pilots"
    shape = shape_of(settings)
    if not settings.pilot:
        return f"each as a job of the engine with {shape}{_start_text(preview, now)}"
    if preview.first_pilots == preview.max_pilots:
        text = pluralize(preview.max_pilots, "pilot")
    elif preview.first_pilots:
        text = f"{pluralize(preview.first_pilots, 'pilot')} at first, up to {preview.max_pilots}"
    else:
        text = f"up to {pluralize(preview.max_pilots, 'pilot')}"
    text += f" with {shape}" if preview.max_pilots == 1 else f" with {shape} each"
    return f"{text}{_start_text(preview, now)}"


def _start_text(preview: BackendPreview, now: float) -> str:
    estimate = preview.estimate_result.estimate
    if estimate is None:
        trouble = preview.estimate_result.error
        return f"; the start time is unknown ({trouble})" if trouble else ""
    if not estimate.possible:
        return f"; none can start: {estimate.why}"
    if estimate.starts_at is None:
        return ""
    if estimate.starts_at <= now + 1:
        return "; one would start now"
    when = format_estimate(estimate.starts_at, now)
    if not when:
        return f"; none is expected to start within {format_seconds(LONGEST_ESTIMATE_S)}"
    return f"; one is expected to start {when}"
