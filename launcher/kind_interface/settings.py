"""The settings of a kind: checked by pydantic, and what each of them counts for."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from launcher.kind_interface.conditions import condition_name


class Settings(BaseModel):
    """Base of a kind's settings: unknown names and numbers without end are refused.

    A subclass may name in `neutral` the settings that cannot change a result, such as a number of
    threads: they stay out of a job's hash, so that changing them runs nothing again. `added` names
    settings that came after jobs had been done: at their default, which is how those jobs were done,
    they stay out of the hash, too.
    `costs` names those on which time and memory depend: jobs that agree in them are expected to take
    the same.
    `aliases` names settings of older programs by today's names. `shared` tells how this kind reads
    a value that a task file gives for all kinds (under `defaults`), or that it does not give at all.
    `modules` names the settings whose value chooses modules that are imported by name, which no
    import statement tells, and gives those of a value.
    `for_many` says that one job of a poison serves every model for which the choice is the same:
    its kind hears of them in `Draft.further_models`, and writes all of `Job.outputs`.
    `conditions` names settings of a test that make another test of the same model and data: their
    values stand in its name (`condition`), and a list of values stands for one test of each.
    `models` names settings that hold the ID of a further model of the run, or nothing: such tests
    come behind all models. A benchmark may name it without its variant, as the model of a test.
    `folders` names settings that hold a folder: a path, or the name of an entry of the role FOLDER, which
    stands for the folders that it makes.
    `word_files` names settings that hold a folder, and the task file in it that may be included for its
    subsets and modifiers: where a data ID has a word that only such a file knows, that is said.
    `columns` names columns of results and the setting of a training that each shows, where its own name
    would mislead there, such as `architecture` for the setting `model`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)
    neutral: ClassVar[frozenset[str]] = frozenset()
    added: ClassVar[frozenset[str]] = frozenset()
    costs: ClassVar[frozenset[str]] = frozenset()
    aliases: ClassVar[Mapping[str, str]] = {}
    shared: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    modules: ClassVar[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {}
    for_many: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...]] = ()
    models: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[tuple[str, ...]] = ()
    word_files: ClassVar[Mapping[str, str]] = {}
    columns: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def decisive(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a job's settings that are part of its hash."""
        defaults = {name: cls.model_fields[name].default for name in cls.added}
        return {
            name: value
            for name, value in values.items()
            if name not in cls.neutral and (name not in defaults or value != defaults[name])
        }

    @classmethod
    def without_effect(cls, values: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return settings that change nothing beside the other values, each with the reason."""
        return {}

    @classmethod
    def condition(cls, values: Mapping[str, Any]) -> str:
        """Return what tells a test from that under the defaults, as in an ID; '' if nothing does."""
        known = cls.model_fields
        return condition_name(
            (name, values.get(name), known[name].default) for name in cls.conditions
        )

    @classmethod
    def followed(cls, given: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG003  # for others
        """Return which settings of a poison take the value of a setting of the poisoned training.

        Asked for the settings that a task file does not give; their defaults are the same.

        Args:
            given: the values that it does give.
        """
        return {}
