"""Checkpoints of detectors that others published, as checkpoints of the lab.

A published network ends in one or two logits. The lab's detectors have one, positive = fake. Two logits
(r, f) have the softmax sigmoid(f - r), so the difference of both rows of the last layer gives the same
probability. One logit of the opposite order has its sign changed. All other tensors stay as they are.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from trueface.models import checkpoint
from trueface.models.assembly import (
    COUNTER,
    BuildOptions,
    SizedByState,
    StartsFromFile,
    assemble,
    drop_unused,
    fitting_networks,
    load_state,
    read_state,
    to_float32,
    without_average_count,
    without_prefixes,
)
from trueface.models.detectors import normalization_numbers, warn_of_other_side
from trueface.models.head import head_of
from trueface.models.model_file import Checkpoint
from trueface.models.published_settings import PublishedSettings
from trueface.models.registry import BuiltNetwork
from trueface.runtime import tensor_files
from trueface.runtime.errors import WeightsError
from trueface.runtime.files import Json
from trueface.runtime.tensor_files import cached_sha256

SHOWN = 5  # names in a message
MOST_LETTERS = 120  # letters of a name from a file in a message; those of networks are shorter
LEAST_MATCH = 0.5  # fraction of a network's names, from which on a prefix is suggested
PARAMETERS = "parameters"  # key of their number, without statistics and other buffers
MOST_FAULTY = 0.1  # fraction of a network's tensors, up to which a file is of another version of it
AGAIN = "Get the file from its authors again, or give another one."
REFUSED = (
    "If you trust its author, load it in a separate program, and save its state dict with torch.save or "
    "safetensors"
)
_NAME = re.compile(r"GLOBAL ([\w.]{1,120})")  # name of the object that a pickle would build
State = dict[str, Tensor]
log = logging.getLogger(__name__)


@runtime_checkable
class KnowsFiles(Protocol):
    """A network that knows the published files of its parts."""

    def check_files(self, digests: Mapping[str, str]) -> None:
        """Refuse known files in the wrong place, and log what is known of the others.

        Args:
            digests: SHA-256 of each file, by the name of the part.

        Raises:
            WeightsError: a file is of another part, or the files are of several pairs.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedState:
    """The tensors of a published network, without the prefix of their names."""

    tensors: State
    heads: tuple[str, ...]  # layers of the file that may be the last one, as `head` names them
    key: str  # under which the file has them; "": the file is a state dict
    prefix: str
    ignored: int  # number of tensors without the prefix


def read_published(path: Path, settings: PublishedSettings, base: Path | None = None) -> Checkpoint:
    """Return a published checkpoint as one of the lab, without provenance.

    Args:
        path: of the checkpoint.
        settings: say what is in it.
        base: file of the tensors that it does not have. None if it has all.

    Raises:
        WeightsError: the file cannot be read safely, is ambiguous, or does not fit the settings.
        JobError: the network cannot be built, or does not accept images of the size of the crop.
    """
    built = _build(settings)
    found = _find_state(path, settings, built)
    tensors = _as_detector(path, settings, built, found)
    if base is not None:
        tensors |= _absent_tensors(base, built, tensors)
    noun = f"weights {path}"
    try:
        load_state(built.network, tensors, noun)
    except WeightsError as error:
        advice = ". ".join(_advice(settings, built, found, tensors))
        raise WeightsError(f"{error}. {advice}.") from error
    log.info(
        "weights=%s key=%s prefix=%s tensors=%d ignored=%d",
        path,
        found.key or "none",
        found.prefix or "none",
        len(found.tensors),
        found.ignored,
    )
    facts: dict[str, Json] = {
        "key": found.key,
        "prefix": found.prefix,
        "ignored_tensors": found.ignored,
    }
    kept = _make_checkpoint(settings, built, facts)
    checkpoint.from_checkpoint(kept, path)  # the network works on images of this size
    warn_of_other_side(built.spec, settings.crop)
    return kept


def read_published_parts(paths: Mapping[str, Path], settings: PublishedSettings) -> Checkpoint:
    """Return the parts of a published network, one file each, as a checkpoint of the lab without provenance.

    Args:
        paths: of the files, by the names of the network's parts.
        settings: of the checkpoint.

    Raises:
        WeightsError: a file cannot be read safely, is of another network, or is known to be of another part or pair.
    """
    built = _build(settings)
    network = built.network
    if isinstance(network, KnowsFiles):
        network.check_files({name: cached_sha256(path) for name, path in paths.items()})
    tensors: State = {}
    for name, path in paths.items():
        part, own = network.get_submodule(name), read_state(path, remedy=AGAIN)
        load_state(part, own, f"weights {path} ({name})")
        tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    log.info("weights=%s tensors=%d", ",".join(map(str, paths.values())), len(tensors))
    return _make_checkpoint(settings, built, {"key": "", "prefix": "", "ignored_tensors": 0})


def _make_checkpoint(
    settings: PublishedSettings, built_network: BuiltNetwork, facts: Mapping[str, Json]
) -> Checkpoint:
    return Checkpoint(
        kind=checkpoint.DETECTOR.name,
        arch=settings.architecture,
        arguments={
            "normalization": settings.normalization,
            "nodown": False,
            "side": built_network.spec.input_size,
        },
        state=built_network.network.state_dict(),
        provenance={
            "library": built_network.spec.library,
            PARAMETERS: sum(each.numel() for each in built_network.network.parameters()),
            **facts,
        },
    )


def _build(settings: PublishedSettings) -> BuiltNetwork:
    pixels = normalization_numbers(settings.normalization)
    options = BuildOptions(weights="none", pixels=pixels, side=settings.crop)
    with torch.random.fork_rng(devices=()):
        return assemble(settings.architecture, options)


def _absent_tensors(base: Path, built_network: BuiltNetwork, tensors: State) -> State:
    """Return the tensors of a further file that a state dict lacks.

    Raises:
        WeightsError: the file cannot be read safely, or its tensors do not fit.
    """
    network, file = built_network.network, built_network.spec.start_file
    lacking = [name for name in network.state_dict() if name not in tensors]
    remedy = (
        f"Give the file of {file}." if file else "Give a file of the tensors that weights lacks."
    )
    state = built_network.adapt(read_state(base, noun="base_weights", remedy=remedy))
    absent = {name: state[name] for name in lacking if name in state}
    if not absent:
        advice = remedy if lacking else "Leave base_weights out."
        raise WeightsError(
            f"base_weights {base}: the file has no tensor that weights lacks. {advice}"
        )
    try:
        if isinstance(network, SizedByState):
            network.take_sizes(absent)
        kept = {
            name: own
            for name, own in network.state_dict().items()
            if name in tensors or not _is_of_start_file(network, name)
        }
        load_state(network, {**kept, **absent}, "its tensors")
    except WeightsError as error:
        raise WeightsError(f"base_weights {base}: {error}. {remedy}") from error
    log.info("base_weights=%s tensors=%d unused=%d", base, len(absent), len(state) - len(absent))
    return absent


# --- the state dict in a file


def _find_state(
    path: Path, settings: PublishedSettings, built_network: BuiltNetwork
) -> PublishedState:
    key, state = _state_dict(path, _content(path), settings.key)
    _refuse_start_file(path, built_network, state)
    if not _is_whole(state):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
        raise WeightsError(
            f"weights {path}: the file has only a last layer ({shapes}), not the network whose features it "
            "reads. Give a file with the whole network. For a layer on frozen features, train "
            "linear/NETWORK instead."
        )
    prefix = settings.prefix or _find_prefix(path, state, built_network)
    own = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    if not own:
        raise WeightsError(
            f"weights {path}: the prefix {prefix!r} is not in the file. Its names begin like "
            f"{_names(list(state))}."
        )
    outer_head = _head_outside(settings.head, state, own)
    own |= outer_head
    others = [name for name in state if not name.startswith(prefix) and name not in outer_head]
    heads = [name.removeprefix(prefix) for name in _heads(state, built_network)]
    if others and not settings.prefix:  # the use of a part of the file must be confirmed
        outside = [name for name in heads if f"{name}.weight" in others]
        alone = bool(outside) and f"{settings.head or built_network.spec.head}.weight" not in own
        fitting = fitting_networks(settings.architecture, state)
        remedy = (
            f"They fit architecture: {' or '.join(fitting)}."
            if fitting
            else f"If the last layer is one of them, set head, such as head: {outside[0]}."
            if alone
            else f"To ignore them, set prefix: {prefix!r}."
        )
        raise WeightsError(
            f"weights {path}: the network's names begin with {prefix!r}, and {len(others)} unexpected names "
            f"do not ({_names(others)}). {remedy}"
        )
    own = _drop_parts(path, own, settings.ignored_parts)
    own = drop_unused(built_network.network, own, f"weights {path}")
    _refuse_expanded(path, own)
    return PublishedState(
        tensors={
            name: to_float32(tensor, name, f"weights {path}", remedy=AGAIN)
            for name, tensor in own.items()
        },
        heads=tuple(heads),
        key=key,
        prefix=prefix,
        ignored=len(state) - len(own),
    )


def _is_of_start_file(network: Any, name: str) -> bool:
    return isinstance(network, StartsFromFile) and name.partition(".")[0] in network.start_parts


def _refuse_start_file(path: Path, built_network: BuiltNetwork, state: State) -> None:
    """Refuse the file that trainings start from in the place of the detector's.

    Raises:
        WeightsError: it is this file.
    """
    network = built_network.network
    known = network.state_dict().keys() & built_network.adapt(dict(without_prefixes(state))).keys()
    if known and all(_is_of_start_file(network, name) for name in known):
        raise WeightsError(
            f"weights {path}: the file is that of {built_network.spec.start_file}. Set base_weights to it, and weights to "
            "the file of the detector."
        )


def _refuse_expanded(path: Path, state: State) -> None:
    """Refuse tensors that need much more memory than the file has bytes.

    A tensor of a file may repeat its stored numbers any number of times, and tensors may share them.

    Raises:
        WeightsError: there is such a tensor, or there are too many that share their numbers.
    """
    total = 0
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta:
            continue  # refused by its type
        needed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if needed > stored:
            raise WeightsError(
                f"weights {path}: {name} {tuple(tensor.shape)} repeats its numbers. It needs {needed:,} bytes, "
                f"but the file has {stored:,} of it. If you trust its author, save it again after contiguous()."
            )
        total += needed
    size = path.stat().st_size
    if total > tensor_files.MOST_EXPANDED * size:
        raise WeightsError(
            f"weights {path}: its tensors share their numbers. They need {total:,} bytes, but the file has "
            f"{size:,}. If you trust its author, save it again after clone() of each tensor."
        )


def _head_outside(head: str, state: State, own_state: State) -> State:
    """Return the last layer if only its full name, without the prefix, is in the file."""
    if not head or f"{head}.weight" in own_state:
        return {}
    return {name: state[name] for name in (f"{head}.weight", f"{head}.bias") if name in state}


def _drop_parts(path: Path, state: State, parts: Sequence[str]) -> State:
    """Return a state dict without some parts of it.

    Raises:
        WeightsError: it has no such part.
    """
    dropped = {
        part: [name for name in state if f"{name}.".startswith(f"{part}.")] for part in parts
    }
    for part, names in dropped.items():
        if not names:
            raise WeightsError(
                f"weights {path}: {part!r} is not a part of the file. Leave it out of ignore."
            )
    gone = {name for names in dropped.values() for name in names}
    return {name: tensor for name, tensor in state.items() if name not in gone}


def _content(path: Path) -> object:
    try:
        return tensor_files.load(path)
    except FileNotFoundError as error:
        raise WeightsError(f"weights {path} cannot be read: no such file.") from error
    except tensor_files.BrokenFileError as error:
        named = _NAME.search(str(error.__cause__ or ""))  # torch's message
        reason = f"{error} (it needs {named[1]})" if named else str(error)
        raise WeightsError(f"weights {path} cannot be read safely: {reason}. {REFUSED}.") from error


def _state_dict(path: Path, content: object, key: str) -> tuple[str, State]:
    """Return the state dict of a file and its key."""
    if key:
        found = content
        for word in key.split("."):
            found = found.get(word) if isinstance(found, Mapping) else None
        if not _is_state(found):
            raise WeightsError(
                f"weights {path}: the key {key!r} is not a state dict of the file. {_keys(content)}"
            )
        return key, _with_plain_names(found)
    if _is_state(content):
        return "", _with_plain_names(content)
    inside = content.items() if isinstance(content, Mapping) else ()
    dicts = {_printable_name(str(name)): value for name, value in inside if _is_state(value)}
    if len(dicts) != 1:
        found_content = "several state dicts" if dicts else "no state dict (names and tensors)"
        raise WeightsError(
            f"weights {path}: the file has {found_content}. {_keys(content)}"
            + (f" Set key, such as key: {next(iter(dicts))}." if dicts else "")
        )
    ((name, state),) = dicts.items()
    return name, _with_plain_names(state)


def _with_plain_names(state: Mapping[str, Tensor]) -> State:
    """Return a state dict with names that can be shown. Names of networks do not change."""
    return {_printable_name(name): tensor for name, tensor in without_average_count(state).items()}


def _printable_name(name: str) -> str:
    """Return a name from a file without control characters, shortened if it is long."""
    text = name[: MOST_LETTERS + 1]
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def _is_state(value: Any) -> TypeGuard[Mapping[str, Tensor]]:  # the content of a file has any type
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items())
    )


def _keys(content: object) -> str:
    """Return a sentence about the keys of a file."""
    if not isinstance(content, Mapping):
        return f"It contains a {type(content).__name__}."
    if _is_state(content):
        return f"The file itself is one, with the names {_names([*map(_printable_name, content)])}: leave key out."
    shown = [
        f"{_printable_name(str(name))} ({len(value)} tensors)"
        if _is_state(value)
        else _printable_name(str(name))
        for name, value in content.items()
    ]
    return f"Its keys: {_names(shown)}."


def _is_whole(state: State) -> bool:
    """Return whether a file has more than one linear layer."""
    return len(state) > 2 or any(tensor.dim() > 2 for tensor in state.values())


def _find_prefix(path: Path, state: State, built_network: BuiltNetwork) -> str:
    """Return the text before the network's names: the one that fits, or that fits best.

    Raises:
        WeightsError: several fit completely.
    """
    expected = frozenset(_body_names(built_network))
    counts = Counter(
        name[:at] for name in state for at in _word_starts(name) if name[at:] in expected
    )
    whole = [prefix for prefix, count in counts.items() if count == len(expected)]
    if len(whole) > 1:
        raise WeightsError(
            f"weights {path}: the file has {len(whole)} networks of this architecture. Set prefix to one of "
            f"{_names([repr(each) for each in sorted(whole)])}."
        )
    if whole:
        return whole[0]
    prefix, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return prefix if count >= LEAST_MATCH * len(expected) else ""


def _word_starts(name: str) -> Iterator[int]:
    yield 0
    yield from (at + 1 for at, letter in enumerate(name) if letter == ".")


def _body_names(built_network: BuiltNetwork) -> Iterator[str]:
    """Yield the names of the network's tensors, without its last layer and the counters of batch norms."""
    for name in built_network.network.state_dict():
        if not name.startswith(f"{built_network.spec.head}.") and not name.endswith(COUNTER):
            yield name


# --- one logit, positive = fake


def _as_detector(
    path: Path,
    settings: PublishedSettings,
    built_network: BuiltNetwork,
    published_state: PublishedState,
) -> State:
    """Return the tensors with a last layer of one logit, positive = fake.

    Raises:
        WeightsError: the last layer is missing, or has another number of logits.
    """
    own, head = built_network.network.state_dict(), built_network.spec.head
    counters = {name: tensor for name, tensor in own.items() if name.endswith(COUNTER)}
    state = built_network.adapt(dict(published_state.tensors))
    _refuse_other_size(path, settings.crop, built_network, published_state.tensors, state)
    if head is None:
        return counters | state
    named = settings.head or head
    weight, bias = state.pop(f"{named}.weight", None), state.pop(f"{named}.bias", None)
    if weight is None:
        fits = all(
            name in state and state[name].shape == own[name].shape
            for name in _body_names(built_network)
        )
        if not settings.head and not (published_state.heads and fits):
            return state  # the names that are missing are reported together
        remedy = (
            f"Set head, such as head: {published_state.heads[0]}."
            if published_state.heads
            else f"The file has no linear layer of the {head_of(built_network.network, head).in_features} features of "
            "this network. Set architecture to the network of the file."
        )
        raise WeightsError(f"weights {path}: the last layer {named!r} is missing. {remedy}")
    rows = len(weight) if weight.dim() else 0
    if rows != settings.logits:
        remedy = (
            f"Set logits: {rows}."
            if rows in {1, 2}
            else "A detector of real and fake has 1 or 2, so this file is of another task."
        )
        raise WeightsError(
            f"weights {path} have a last layer {named!r} with {rows} {'logit' if rows == 1 else 'logits'}, but "
            f"the setting logits is {settings.logits}. {remedy}"
        )
    bias = torch.zeros(rows) if bias is None else bias
    return {
        **counters,
        **state,
        f"{head}.weight": _fake_row(weight, settings),
        f"{head}.bias": _fake_row(bias, settings),
    }


def _refuse_other_size(
    path: Path, crop: int, built_network: BuiltNetwork, published_state: State, adapted_state: State
) -> None:
    """Refuse tensors that were resized for the crop: the authors' network has images of another size.

    Raises:
        WeightsError: there is such a tensor.
    """
    for name, tensor in published_state.items():
        ours = adapted_state.get(name)
        if ours is None or ours.numel() == tensor.numel():
            continue
        side = _side_of_positions(built_network.network, crop, tensor, ours)
        raise WeightsError(
            f"weights {path}: {name} {tuple(tensor.shape)} is of a network for images of another size than crop "
            f"{crop}. Set crop to {side or 'the side of its images in pixels'}."
        )


def _side_of_positions(
    network: Any, crop: int, published_positions: Tensor, own_positions: Tensor
) -> int | None:
    """Return the side of the images of position embeddings (1, N, C), if it can be computed."""
    patch = getattr(getattr(network, "patch_embed", network), "patch_size", None)
    patch = patch[0] if isinstance(patch, tuple) else patch
    if not isinstance(patch, int) or published_positions.dim() != 3 or own_positions.dim() != 3:
        return None
    tokens = (
        own_positions.shape[1] - (crop // patch) ** 2
    )  # class tokens, which have positions, too
    patches = published_positions.shape[1] - tokens
    grid = math.isqrt(max(patches, 0))
    return grid * patch if grid and grid**2 == patches else None


def _fake_row(rows: Tensor, settings: PublishedSettings) -> Tensor:
    """Return the row (1, …) of the logit of fake, of one row or two."""
    fake = settings.fake_index
    if settings.logits == 1:
        return rows if fake == 1 else -rows
    return (rows[fake : fake + 1].double() - rows[1 - fake : 2 - fake].double()).float()


def _heads(state: State, built_network: BuiltNetwork) -> list[str]:
    """Return the layers of a file that may be the last one of a network, whatever their names."""
    if built_network.spec.head is None:
        return []
    features = head_of(built_network.network, built_network.spec.head).in_features
    return [
        name.removesuffix(".weight")
        for name, tensor in state.items()
        if name.endswith(".weight") and tensor.dim() == 2 and tensor.shape[1] == features
    ]


def _advice(
    settings: PublishedSettings,
    built_network: BuiltNetwork,
    published_state: PublishedState,
    tensors: State,
) -> Iterator[str]:
    """Yield what to do about tensors that do not fit."""
    network = built_network.network
    own, named = network.state_dict(), settings.head or built_network.spec.head
    head = {f"{named}.weight", f"{named}.bias"}
    unknown = [name for name in tensors if name not in own and name not in head]
    body = {name: tensors.get(name) for name in _body_names(built_network)}
    faulty = [name for name, each in body.items() if each is None or each.shape != own[name].shape]
    of_start = [name for name in faulty if _is_of_start_file(network, name)]
    fits, absent = not faulty, [name for name, each in body.items() if each is None]
    if of_start and of_start == absent:
        yield f"Set base_weights to the file of {built_network.spec.start_file}"
        if of_start == faulty and not unknown:
            return
    if fits and not unknown and built_network.spec.head is not None:
        features = head_of(built_network.network, built_network.spec.head).in_features
        yield (
            f"Only the last layer {named!r} differs. It must be linear: a weight "
            f"({settings.logits}, {features}) and a bias ({settings.logits},), or no bias"
        )
        return
    others = fitting_networks(settings.architecture, published_state.tensors)
    if others and not fits:
        yield f"They fit architecture: {' or '.join(others)}"
        return
    if not unknown and len(faulty) <= MOST_FAULTY * len(body):
        yield (
            f"The other {len(body) - len(faulty)} tensors fit, so the file is of another version of "
            f"{settings.architecture}, or incomplete. Get it again, or set architecture to the network of the file"
        )
        return
    if unknown and not absent:
        parts = [*dict.fromkeys(name.partition(".")[0] for name in unknown)]
        yield f"If the logits do not need the unknown ones, set ignore: {_names(parts)}"
        return
    if published_state.prefix:
        yield f"The prefix {published_state.prefix!r} was removed from the names"
    else:
        words = [*dict.fromkeys(name.partition(".")[0] for name in published_state.tensors)]
        yield f"The names in the file begin with {_names(words)}"
    yield "Set architecture to the network of the file, or prefix to the text before its names"


def _names(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
