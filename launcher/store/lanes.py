"""Lanes: jobs of one are alike in all that decides where and when they start; the queue stores each as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from launcher import __version__
from launcher.context import (
    Context,
    WorkerEnvironment,
    placed_context,
    worker_environment_of,
)
from launcher.job import Resources, Spec, read_resources
from launcher.system.stored_fields import Unreadable, parsed, texts

HERE = ("local",)  # this machine, as `Lane.on` has it
_OPTIONAL = {"signature", "visible", "least", "limit", "on"}
_LANE = {"group", "resources", "breed", *_OPTIONAL}  # of its key


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What jobs ask for; jobs of one lane are alike in all that decides where and when they start."""

    group: str
    resources: Resources
    environment: WorkerEnvironment
    signature: str = ""  # where it may need a GPU: how much memory it takes is learned by this
    visible: tuple[str, ...] | None = None  # likewise: its owner's CUDA_VISIBLE_DEVICES
    least: int = 0  # bytes that it needs on each GPU, as it turned out when it had less
    limit: float | None = None  # its time limit, s: decisions count on its end then
    on: tuple[str, ...] = HERE  # backends where it may run, the preferred one first

    @property
    def key(self) -> str:
        """The lane as text, by which it is found again."""
        record: dict[str, Any] = {
            "group": self.group,
            "resources": asdict(self.resources),
            "breed": [
                self.environment.interpreter,
                self.environment.preload,
                self.environment.python_path,
            ],
        }
        if self.signature:
            record["signature"] = self.signature
        if self.visible is not None:
            record["visible"] = [*self.visible]
        if self.least:
            record["least"] = self.least
        if self.limit is not None:
            record["limit"] = self.limit
        if self.on != HERE:
            record["on"] = [*self.on]
        return json.dumps(record, sort_keys=True)


def lane_of(spec: Spec, context: Context) -> Lane:
    """Return the lane of a job."""
    environment = worker_environment_of(spec, context)
    if not spec.resources.may_need_gpu:  # programs without number, each with a signature of its own
        return Lane(
            group=spec.terms.group,
            resources=spec.resources,
            environment=environment,
            limit=spec.terms.time_limit_s,
            on=spec.terms.on or HERE,
        )
    return Lane(
        group=spec.terms.group,
        resources=spec.resources,
        environment=environment,
        signature=spec.signature,
        visible=visible_devices(placed_context(spec, context).environment),
        limit=spec.terms.time_limit_s,
        on=spec.terms.on or HERE,
    )


def visible_devices(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return which GPUs an environment shows to CUDA; None: it says nothing, and shows all."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return None
    return tuple(device.strip() for device in listed.split(",") if device.strip())


def read_lane(key: str) -> Lane:
    """Return the lane that `Lane.key` wrote.

    Raises:
        Unreadable: a newer version wrote it, and jobs of it ask for what this one does not know.
    """
    record = parsed(key, "its lane")
    if unknown := sorted(record.keys() - _LANE):
        raise Unreadable(f"{unknown[0]!r} of its lane is unknown to launcher {__version__}")
    match record:
        case {
            "group": str(group),
            "resources": dict(resources),
            "breed": [str(interpreter), [*preload], str(python_path)],
        }:
            visible = record.get("visible")
            return Lane(
                group=group,
                resources=read_resources(resources),
                environment=WorkerEnvironment(
                    interpreter, texts(preload, "'breed' of its lane"), python_path
                ),
                signature=_signature(record.get("signature", "")),
                visible=None if visible is None else texts(visible, "'visible' of its lane"),
                least=_least(record.get("least", 0)),
                limit=_limit(record.get("limit")),
                on=_on(record.get("on", HERE)),
            )
    raise Unreadable("the record of its lane is not complete")


def _signature(value: object) -> str:
    if isinstance(value, str):
        return value
    raise Unreadable(f"'signature' of its lane is {str(value)[:40]!r}")


def _least(value: object) -> int:
    if isinstance(value, int) and value >= 0:
        return value
    raise Unreadable(f"'least' of its lane is {str(value)[:40]!r}")


def _limit(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and value >= 0):
        return value
    raise Unreadable(f"'limit' of its lane is {str(value)[:40]!r}")


def _on(value: object) -> tuple[str, ...]:
    names = texts(value, "'on' of its lane")
    if names:
        return names
    raise Unreadable("'on' of its lane names no place")
