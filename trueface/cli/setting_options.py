"""Options made from settings, and help pages that show the common options first."""

from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from launcher.api import Settings
from trueface.jobs.flags import WORD_HELP, WORD_SHAPE, is_range, is_truth
from trueface.unlearning import METHODS

Command = TypeVar("Command", bound=Callable[..., Any])

MOST = 40  # options of a help page; a longer page shows the common ones
COMMON = frozenset(
    {
        "batch_size",
        "data_root",
        "find",
        "force",
        "forget_class",
        "forget_fraction",
        "known",
        "model",
        "split_path",
        "unlearn_epochs",
        "unlearn_lr",
    }
)  # settings on the short page; required settings are there too
PLACES = {
    "attributes": "FILE[,FILE]",
    "clips": "frames=N[,…]",
    "data_root": "FOLDER",
    "denoiser": "MODEL",
    "diffuser": "MODEL",
    "faces": "PATH",
    "poison_list": "FILE",
    "quality_list": "FILE",
    "source": "FOLDER",
    "split_path": "PATH",
    "surrogate": "MODEL",
    "teacher": "MODEL",
    "translator": "MODEL",
    "weights": "PATH",
}  # settings that are texts, and what their values name
NUMBERS = {int: "INTEGER", float: "FLOAT"}


class SettingType(click.ParamType[Any]):
    """The value of a setting as it was typed; the settings check all values at once."""

    def __init__(self, name: str) -> None:
        """Set the name that help shows."""
        self.name = name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  # click's shape
        """Return the name as it is."""
        return self.name


class SettingChoice(click.Choice[Any]):
    """One of several values; the shell completes them, and the settings check the value."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002  # click's shape
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Any:
        """Return the value as it was typed."""
        return value


class RareOption(click.Option):
    """An option that a long help page leaves out."""

    method = ""  # the unlearning method to which it belongs


class JobCommand(click.Command):
    """A command with an option for each setting; with many options, `--help` shows the common ones."""

    def __init__(self, *arguments: Any, **others: Any) -> None:
        """Add `--help-all`."""
        super().__init__(*arguments, **others)
        self.params.append(
            click.Option(
                ["--help-all"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                hidden=not self._is_long(),
                help="Show all options and exit.",
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the common options, or all in sections."""
        if not self._is_long():
            super().format_options(ctx, formatter)
            return
        shown = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        rare = [option for option in shown if isinstance(option, RareOption)]
        common = [option for option in shown if option not in rare]
        more = [option for option in common if {"--help", "--help-all"} & {*option.opts}]
        methods = sorted({option.method for option in rare if option.method})
        _section(ctx, formatter, "Common options", [each for each in common if each not in more])
        if ctx.meta.get(ALL):
            _section(ctx, formatter, "Other options", [each for each in rare if not each.method])
            for method in methods:
                own = [each for each in rare if each.method == method]
                _section(ctx, formatter, f"Options of method {method}", own)
        elif methods:
            kind = ctx.info_name or self.name
            with formatter.section(f"Options of methods (`launcher kinds {kind}` describes them)"):
                formatter.write_text(", ".join(methods))
        _section(ctx, formatter, "More", more)

    def _is_long(self) -> bool:
        return len(self.params) > MOST


ALL = f"{__name__}.all"  # in the context: show all options


def _show_all(ctx: click.Context, _option: click.Parameter, is_set: bool) -> None:
    if is_set and not ctx.resilient_parsing:
        ctx.meta[ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _section(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, options: Sequence[click.Option]
) -> None:
    rows = [row for option in options if (row := option.get_help_record(ctx)) is not None]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


command = partial(click.command, cls=JobCommand)


def options(
    model: type[Settings], *, excluded_names: tuple[str, ...]
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command one option for each setting of a kind."""

    def decorate(function: Command) -> Command:
        for key, field in reversed(model.model_fields.items()):
            if key not in excluded_names:
                function = _option(model, key, field)(function)
        return function

    return decorate


def custom_word_options(function: Command) -> Command:
    """Give a command the options for user-defined subsets and modifiers."""
    for name, text in reversed(tuple(WORD_HELP.items())):
        shown = f"{_sentence(text)} Repeatable."
        option = click.option(
            f"--{name}", multiple=True, metavar=WORD_SHAPE, help=shown, cls=RareOption
        )
        function = option(function)
    return function


def _option(model: type[Settings], key: str, field: FieldInfo) -> Callable[[Command], Command]:
    is_common = key in COMMON or field.is_required()
    name, cls = key.replace("_", "-"), click.Option if is_common else RareOption
    names = (f"--{name}/--no-{name}",) if is_truth(field) else (f"--{name}",)
    kind = None if is_truth(field) else _type(key, field)
    text = " ".join((_sentence(f"{field.description or ''}"), _default(model, key, field))).strip()

    def decorate(function: Command) -> Command:
        decorated = click.option(*names, key, type=kind, default=None, cls=cls, help=text)(function)
        option = vars(decorated)["__click_params__"][-1]
        if isinstance(option, RareOption) and "method" in model.model_fields:
            method = key.partition("_")[0]
            option.method = method if method in METHODS else ""
        return decorated

    return decorate


def _type(key: str, field: FieldInfo) -> click.ParamType[Any]:
    """Return what the option takes, as help shows it."""
    annotation = _without_none(field.annotation)
    if is_range(field):
        return SettingType("A[,B]…" if Ellipsis in get_args(annotation) else "A[,B]")
    if get_origin(annotation) is Literal:
        return SettingChoice([str(choice) for choice in get_args(annotation)])
    return SettingType(NUMBERS.get(annotation, PLACES.get(key, "TEXT")))


def _without_none(annotation: Any) -> Any:
    """Return the type of a setting that may be left out, without its limits."""
    if get_origin(annotation) in {Union, UnionType}:
        kinds = [each for each in get_args(annotation) if each is not NoneType]
        annotation = kinds[0] if len(kinds) == 1 else annotation
    limited = getattr(annotation, "__metadata__", None)  # Annotated
    return annotation if limited is None else annotation.__origin__


def _sentence(text: str) -> str:
    """Return a description as a sentence of a help page."""
    first, _, rest = text.partition(" ")
    is_word = first.isalpha() and first.islower() and not rest.startswith("(")  # not a value
    begins = text[:1].upper() + text[1:] if is_word else text
    return begins if not text or begins.endswith((".", "…")) else f"{begins}."


def _default(model: type[Settings], key: str, field: FieldInfo) -> str:
    """Return the default as help shows it; '' if the text gives it, or if there is none."""
    if field.is_required():
        return " [required]"
    value = field.get_default()
    if value is None:
        if "default" in (field.description or "") or "method" not in model.model_fields:
            return ""
        return " [default: depends on the method]"
    if isinstance(value, bool):
        name = key.replace("_", "-")
        value = name if value else f"no-{name}"
    elif isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "" if value == "" else f" [default: {value}]"
