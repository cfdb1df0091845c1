"""Lanes and ranks of jobs. Jobs of one lane are alike in all that decides where and when they start.

The queue stores each lane as JSON.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from launcher import __version__
from launcher.queue.jobs.context import (
    Context,
    WorkerEnvironment,
    entry_context,
    worker_environment_of,
)
from launcher.queue.jobs.job import Resources, Spec
from launcher.queue.jobs.stored_specs import read_resources
from launcher.system.stored_fields import Unreadable, parse_record, read_texts

# One point of priority is worth a day of waiting. As all jobs age alike, the order of
# "priority + age" never changes: it is kept in `rank`, and ageing costs nothing.
PRIORITY_POINT_S = 86_400.0
LOCAL_ONLY = ("local",)  # this machine, as `Lane.on` has it
_OPTIONAL_LANE_KEYS = {"signature", "visible", "least_vram", "made_exclusive", "limit", "on"}
_LANE_KEYS = {"group", "resources", "breed", *_OPTIONAL_LANE_KEYS}  # names in the key of a lane


def rank_of(submit_time: float, priority: int) -> float:
    """Return a job's place in the queue, the smallest first: priority, then age, ageing slowly."""
    return submit_time - priority * PRIORITY_POINT_S


class Lane(NamedTuple):
    """Requests of jobs. Jobs of one lane are equal in everything that decides where and when they start."""

    group: str
    resources: Resources
    environment: WorkerEnvironment
    signature: str = ""  # if the job may need a GPU: key of its recorded memory usage
    visible: tuple[str, ...] | None = (
        None  # if the job may need a GPU: CUDA_VISIBLE_DEVICES of its owner
    )
    least_vram: int = 0  # bytes that the job needs on each GPU, as a failure with fewer has shown
    made_exclusive: bool = (
        # the job shares its GPUs with no other job, as memory was missing when it shared them
        False
    )
    # the job's time limit, s: decisions count on the end of the job then
    limit: float | None = None
    on: tuple[str, ...] = LOCAL_ONLY  # backends where the job may run, the preferred one first

    @property
    def key(self) -> str:
        """The lane as text, by which it is found again."""
        record = {
            "group": self.group,
            "resources": self.resources.to_json(),
            "breed": self.environment,
        }
        for name, usual in self._field_defaults.items():
            if (value := getattr(self, name)) != usual:
                record[name] = value
        return json.dumps(record, sort_keys=True)


def lane_of(spec: Spec, context: Context) -> Lane:
    """Return the lane of a job."""
    lane = Lane(
        group=spec.terms.group,
        resources=spec.resources,
        environment=worker_environment_of(spec, context),
        limit=spec.terms.time_limit_s,
        on=spec.terms.on or LOCAL_ONLY,
    )
    if not spec.resources.may_need_gpu:  # programs without number, each with a signature of its own
        return lane
    visible = visible_devices(entry_context(spec, context).environment)
    return lane._replace(signature=spec.signature, visible=visible)


def with_gpu_of_number(lane: Lane, uuids: Mapping[str, str]) -> Lane:
    """Return the lane of jobs for `cuda:N` with the UUID of the GPU that has this number now.

    On the nodes of clusters, a number has another meaning.

    Args:
        lane: Lane.
        uuids: Label of each GPU, such as `cuda:1` → its UUID.
    """
    asked = lane.resources
    uuid = uuids.get(asked.device)
    if uuid is None or asked.gpu_uuid or lane.on != LOCAL_ONLY:
        return lane
    return lane._replace(resources=asked._replace(gpu_uuid=uuid))


def visible_devices(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the GPUs that an environment shows to CUDA, None if it does not restrict them."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return None
    return tuple(device.strip() for device in listed.split(",") if device.strip())


def read_lane(key: str) -> Lane:
    """Return the lane that `Lane.key` wrote.

    Raises:
        Unreadable: a newer version wrote it, and jobs of it ask for what this one does not know.
    """
    record = parse_record(key, "its lane")
    if unknown := sorted(record.keys() - _LANE_KEYS):
        raise Unreadable(f"launcher {__version__} does not know the stored setting {unknown[0]!r}")
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
                    interpreter, read_texts(preload, "the stored setting 'breed'"), python_path
                ),
                signature=_read_lane_field(record, "signature", lambda text: isinstance(text, str)),
                visible=None
                if visible is None
                else read_texts(visible, "the stored setting 'visible'"),
                least_vram=_read_lane_field(
                    record, "least_vram", lambda size: isinstance(size, int) and size >= 0
                ),
                made_exclusive=_read_lane_field(
                    record, "made_exclusive", lambda value: isinstance(value, bool)
                ),
                limit=_read_lane_field(record, "limit", _is_limit),
                on=_read_backend_names(record.get("on", LOCAL_ONLY)),
            )
    raise Unreadable("the stored settings of the job are incomplete")


def _is_limit(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and value >= 0)


def _read_lane_field(record: Mapping[str, Any], name: str, is_valid: Callable[[Any], bool]) -> Any:
    value = record.get(name, Lane._field_defaults[name])
    if is_valid(value):
        return value
    raise Unreadable(f"the stored setting {name!r} is invalid: {str(value)[:40]!r}")


def _read_backend_names(value: object) -> tuple[str, ...]:
    names = read_texts(value, "the stored setting 'on'")
    if names:
        return names
    raise Unreadable("the stored setting 'on' is empty")
