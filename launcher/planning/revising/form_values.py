"""Values as a task file has them: each is read back as what it was, to the last digit."""

import json
import re
from datetime import datetime
from operator import attrgetter

from launcher.job_options.registry import JobOption, JobRequest
from launcher.job_options.value_types import Moment, Names, Size, Span, Truth
from launcher.system.files import Json
from launcher.taskfile.yaml_tree import TRUTHS, Scalar, Source

_UNITS = ("GiB", "MiB", "KiB", "B")
_SPANS = (("d", 86_400), ("h", 3_600), ("m", 60))
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+@=-]*")
_NOWHERE = Source(file="", lines=())


def yaml_text(value: Json) -> str:
    """Return a setting's value as YAML, in one line."""
    match value:
        case str():
            return value if _is_plain(value) else f'"{"".join(map(_escaped, value))}"'
        case list() | tuple():
            return f"[{', '.join(map(yaml_text, value))}]"
        case dict():
            pairs = (f"{yaml_text(key)}: {yaml_text(inner)}" for key, inner in value.items())
            return f"{{{', '.join(pairs)}}}"
    return json.dumps(value)


def _escaped(char: str) -> str:
    """Return a character as it stands between double quotes; JSON's pairs of surrogates are no YAML."""
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _is_plain(text: str) -> bool:
    """Tell whether a text means itself without quotes, to readers of YAML 1.1, too."""
    if text.lower() in TRUTHS:
        return False
    node = Scalar(_NOWHERE, 0, 0, len(text), text, plain=True)
    return _PLAIN.fullmatch(text) is not None and node.value == text


def option_text(option: JobOption, request: JobRequest) -> str:
    """Return the value of an option as a task file has it; '' where it is not given."""
    value, default = (attrgetter(option.field)(asked) for asked in (request, JobRequest()))
    if option.name == "gpus":  # one is the default only of who asks for none
        value, default = request.gpus, None
    if value in (None, default):
        return ""
    match option.takes:
        case Truth():
            return str(value).lower()
        case Size() if isinstance(value, int):
            return _size(value)
        case Span() if isinstance(value, float | int):
            return _span(float(value))
        case Moment() if isinstance(value, float | int):
            return datetime.fromtimestamp(value).isoformat()  # noqa: DTZ006  # as it is read: local
        case Names() if isinstance(value, tuple):
            return ",".join(map(str, value))
    return yaml_text(value) if isinstance(value, str) else str(value)


def _size(amount: int) -> str:
    for power, unit in zip((30, 20, 10), _UNITS, strict=False):
        if amount and amount % (1 << power) == 0:
            return f"{amount >> power}{unit}"
    return f"{amount}B"


def _span(span_s: float) -> str:
    parts, left = [], span_s
    for unit, unit_s in _SPANS:
        count, left = divmod(left, unit_s)
        parts += [f"{int(count)}{unit}"] if count else []
    if left or not parts:
        parts.append(f"{left:.9f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)
