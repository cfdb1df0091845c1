"""What a plan asks of each backend, in sentences."""

from collections.abc import Iterator, Sequence

from launcher.backends.settings import HERE, BackendSettings
from launcher.errors import counted
from launcher.planning.backend_preview import BackendPreview
from launcher.screens.format import harmless
from launcher.units import FORESEEN_S, format_bytes, format_estimate, format_seconds


def backend_lines(previews: Sequence[BackendPreview], now: float) -> Iterator[str]:
    """Give a sentence for each place where jobs of a plan go."""
    for preview in previews:
        if preview.settings is None:
            yield harmless(f"On this machine{_else(preview)}: {_jobs(preview)}")
        else:
            yield harmless(
                f"On {preview.name}{_else(preview)}: {_jobs(preview)}; {_pilots(preview, now)}"
            )


def shape_of(settings: BackendSettings) -> str:
    """Return what a pilot asks for, in words."""
    parts = [counted(settings.cpus, "core")]
    if settings.gpus:
        kind = settings.gpu_type or ("GPU" if settings.gpus == 1 else "GPUs")
        parts.append(f"{settings.gpus} {kind}")
    parts += [format_bytes(settings.memory)] if settings.memory is not None else []
    parts += [format_seconds(settings.time_s)] if settings.time_s is not None else []
    return ", ".join(parts)


def _else(preview: BackendPreview) -> str:
    names = ("this machine" if name == HERE else name for name in preview.otherwise)
    if not preview.otherwise:
        return ""
    most = f" (except {counted(preview.only_there, 'job')})" if preview.only_there else ""
    return f", otherwise on {' or '.join(names)}{most}"


def _jobs(preview: BackendPreview) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in preview.kinds.items())
    return kinds if len(preview.kinds) == 1 else f"{counted(preview.jobs, 'job')} ({kinds})"


def _pilots(preview: BackendPreview, now: float) -> str:
    settings = preview.settings
    assert settings is not None, "this machine has no pilots"
    shape = shape_of(settings)
    if not settings.pilot:
        return f"each as a job of the engine with {shape}{_starts(preview, now)}"
    if preview.first == preview.most:
        text = counted(preview.most, "pilot")
    elif preview.first:
        text = f"{counted(preview.first, 'pilot')} at first, up to {preview.most}"
    else:
        text = f"up to {counted(preview.most, 'pilot')}"
    text += f" with {shape}" if preview.most == 1 else f" with {shape} each"
    return f"{text}{_starts(preview, now)}"


def _starts(preview: BackendPreview, now: float) -> str:
    estimate = preview.answer.estimate
    if estimate is None:
        trouble = preview.answer.trouble
        return f"; the start time is unknown ({trouble})" if trouble else ""
    if not estimate.possible:
        return f"; none can start: {estimate.why}"
    if estimate.starts_at is None:
        return ""
    if estimate.starts_at <= now + 1:
        return "; one would start now"
    when = format_estimate(estimate.starts_at, now)
    if not when:
        return f"; none is expected to start within {format_seconds(FORESEEN_S)}"
    return f"; one is expected to start {when}"
