"""All metrics: those of each module in metrics/, modules by name, in each as they are written."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType, ModuleType

from trueface.evaluation import metrics
from trueface.evaluation.metric import Metric
from trueface.runtime.errors import UsageError


def collect(modules: Iterable[ModuleType]) -> dict[str, Metric]:
    """Return the metrics at the top of some modules by their names.

    Raises:
        UsageError: two metrics have one name; both modules are named.
    """
    collected: dict[str, Metric] = {}
    owners: dict[str, str] = {}
    for module in modules:
        for metric in vars(module).values():
            if not isinstance(metric, Metric) or collected.get(metric.name) is metric:
                continue
            if metric.name in collected:
                raise UsageError(
                    f"two metrics are called {metric.name}: in {owners[metric.name]} and in "
                    f"{module.__name__}; rename one"
                )
            collected[metric.name], owners[metric.name] = metric, module.__name__
    return collected


def _modules() -> list[ModuleType]:
    names = sorted(module.name for module in iter_modules(metrics.__path__))
    return [import_module(f"{metrics.__name__}.{name}") for name in names]


METRICS = MappingProxyType(collect(_modules()))
