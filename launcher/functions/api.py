"""`submit`, `submit_many` and `future`, as `launcher.api` offers them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from launcher.errors import UnknownName, UsageError
from launcher.functions.future import Future
from launcher.functions.options import JobOptions
from launcher.functions.submit import Asked, submit_calls
from launcher.functions.task_files import Run, submit_plan
from launcher.system.text import is_utf8

if TYPE_CHECKING:  # planning is imported where a task file comes
    from launcher.planning.plan import Plan

Value = TypeVar("Value")
Job = Future[Any] | Run | int
After = Job | Iterable[Job]
_OF_TASK_FILES = [*signature(submit_plan).parameters][1:]  # the options of a task file


@overload
def submit(
    function: "str | Path | Plan",
    /,
    *,
    settings: Sequence[str] = (),
    force: bool = False,
    accept_code: bool = False,
    pass_env: Sequence[str] = (),
    on: str | Sequence[str] | None = None,
) -> Run: ...


@overload
def submit(
    function: Callable[..., Value],
    /,
    *arguments: object,
    kwargs: Mapping[str, object] | None = None,
    name: str = "",
    after: After = (),
    after_any: After = (),
    pass_env: Sequence[str] = (),
    hold: bool = False,
    **options: Unpack[JobOptions],
) -> Future[Value]: ...


def submit(function: Any, /, *arguments: Any, **options: Any) -> Any:
    """Queue a call of a function as a job, or the jobs of a task file or a plan.

    A function travels with its closure and its arguments (cloudpickle). Its job runs in this folder,
    with this interpreter, environment and search path for modules, and goes on when this process has
    ended: `future` has it again.

    Args:
        function: to be called, also a lambda, or one of a notebook; or the path of a task file, or a plan.
        arguments: of the function, by position; those by name go into `kwargs`.
        options: of a function: `kwargs`; `name` of the job, which its number follows; `after`, jobs
            that must be done before; `after_any`, that must have ended; `pass_env`, variables that the
            job gets although their names look like secrets; `hold`, it waits for `launcher release`;
            and those of `launcher add`: gpus=1, vram="10GiB", time_limit="8h", …
            Of a task file: `settings` (key=value each), `on`, `force`, `accept_code`, `pass_env`.

    Returns:
        A `Future`; of a task file or plan a `Run`.

    Raises:
        UsageError: an option is wrong, the function or an argument cannot be pickled (it is named),
            or no machine could ever run it.
        TaskFileError: all that is wrong with a task file.
        MachineError: the queue cannot be used.
    """
    if callable(function):
        return _submit_calls(function, [arguments], **options)[0]
    from launcher.planning.plan import Plan

    if not isinstance(function, str | Path | Plan):
        raise UsageError(
            f"expected a function, a plan, or the path of a task file, got {type(function).__name__}"
        )
    if arguments:
        raise UsageError("a task file takes no arguments; give settings=['key=value']")
    for option in options:
        if option not in _OF_TASK_FILES:
            raise UsageError(
                f"{UnknownName('option', option, _OF_TASK_FILES)}; what jobs ask for stands in the "
                f"task file: settings=['resources.cpus=4']"
            )
    return submit_plan(function, **options)


def submit_many(
    function: Callable[..., Value],
    /,
    *iterables: Iterable[object],
    kwargs: Mapping[str, object] | None = None,
    name: str = "",
    after: After = (),
    after_any: After = (),
    pass_env: Sequence[str] = (),
    hold: bool = False,
    **options: Unpack[JobOptions],
) -> list[Future[Value]]:
    """Queue a job for each call of a function, as `map` pairs the arguments; all of them or none.

    The function is stored once, whatever it takes along. There is one iterable for each of its
    arguments, and the shortest counts; `kwargs` and all options are those of `submit`, for each call.
    Different functions without arguments: `submit_many(operator.call, [first, second])`.

    Raises:
        UsageError: as `submit`.
        MachineError: likewise.
    """
    if not iterables:
        raise UsageError(
            "submit_many calls the function once for each argument: give an iterable of them"
        )
    return _submit_calls(
        function,
        zip(*iterables, strict=False),
        kwargs=kwargs,
        name=name,
        after=after,
        after_any=after_any,
        pass_env=pass_env,
        hold=hold,
        **options,
    )


def _submit_calls(
    function: Callable[..., Value],
    calls: Iterable[Sequence[object]],
    *,
    kwargs: Mapping[str, object] | None = None,
    name: str = "",
    after: After = (),
    after_any: After = (),
    pass_env: Sequence[str] = (),
    hold: bool = False,
    **options: Any,
) -> list[Future[Value]]:
    if not is_utf8(name):
        raise UsageError(f"name: {name!r} is no UTF-8 text")
    keywords = {} if kwargs is None else _keywords(kwargs)
    asked = Asked(
        name=name,
        after=_numbers("after", after),
        after_any=_numbers("after_any", after_any),
        pass_env=pass_env,
        hold=hold,
        options=options,
    )
    return submit_calls(function, calls, keywords, asked)


def _keywords(kwargs: object) -> Mapping[str, object]:
    """Return the keywords of a call.

    Raises:
        UsageError: they are something else.
    """
    if isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs):
        return kwargs
    raise UsageError(
        f"kwargs: expected a mapping with texts as keys, such as {{'lr': 0.1}}, got {kwargs!r:.80}"
    )


def _numbers(name: str, jobs: object) -> list[int]:
    """Return the numbers of jobs to wait for, each once.

    Raises:
        UsageError: they are something else.
    """
    match jobs:
        case Future():
            return [jobs.job]
        case Run():
            return [*jobs.jobs]
        case int() if not isinstance(jobs, bool):
            return [jobs]
        case Iterable() if not isinstance(jobs, str):
            return [*dict.fromkeys(number for each in jobs for number in _numbers(name, each))]
    raise UsageError(f"{name}: expected futures, runs or numbers of jobs, got {jobs!r:.80}")
