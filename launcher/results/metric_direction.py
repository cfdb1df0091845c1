"""Whether lower values of a metric are better."""

import re
from collections.abc import Iterable

from launcher.kind_interface import Kind, RanksMetrics

# words in the names of metrics that measure errors, distances or costs
_LOW = frozenset(
    (  # noqa: SIM905  # a list of fifty words
        "brier bytes cer cost crossentropy deviation disparity distance drift ece eer entropy err error "  # prose: ok, words
        "errors fid flops fnr fpr gap hter kl latency loss losses lpips mae mape maxerror mb memory "
        "minutes mse nll params peak perplexity ppl price ratio_of_errors regret rmse sd seconds std time "
        "wer violation"
    ).split()
)
_WORD = re.compile(r"[^\W_]+")


def lower_is_better(metric: str, kinds: Iterable[Kind]) -> bool:
    """Return whether lower values of a metric are better.

    Args:
        metric: Name of the metric.
        kinds: Kinds of the jobs; those with `RanksMetrics` define it for their metrics.
    """
    for kind in kinds:
        if isinstance(kind, RanksMetrics) and metric in kind.lower_is_better:
            return True
    return any(word in _LOW for word in _WORD.findall(metric.casefold()))
