"""How a long piece of work is watched: by whom it is told, and by whom it may be stopped."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

REPORT_EVERY_S = 0.5  # how often a person can see a number change


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Where the work is done, where it tells how far it is, and who may stop it."""

    device: str = "cpu"
    precision: str = "fp32"  # of the network's arithmetic; answers are float32 whatever it is
    progress: Callable[..., None] = lambda *_args, **_metrics: None
    stop: threading.Event = field(default_factory=threading.Event)
