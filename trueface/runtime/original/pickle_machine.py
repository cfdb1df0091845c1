"""The instructions of a pickle, carried out without importing, building or running anything that it names."""

import io
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

MAX_STEPS = 2_500_000  # instructions, a few seconds; a record of 200,000 images has 1.2 million
MAX_BYTES = 256 << 20  # bytes of the arrays that stand-ins create
MAX_STREAMS = 64  # pickles within the pickle; a score file has 3
MAX_ENTRIES = 4096  # entries of one dict: keys of one hash cost the square of their number
SHOWN = 120  # characters of a requested name
Stack = list[object]
_NOTHING = frozenset({"PROTO", "FRAME"})
# instructions that put a value onto the stack: their argument, or this; LONG4 is none of them, as
# a number of megabytes takes hours to multiply
_VALUES: Mapping[str, object] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")),
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}


class Refusal(Exception):
    """Why a pickle is not read; `load` adds the file and raises a DataError."""


@runtime_checkable
class BuildTarget(Protocol):
    """A stand-in's result that takes a state after it was made."""

    def build(self, state: object) -> None:
        """Take the state, or raise a Refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A value that a name in a pickle stands for."""

    name: str
    value: object  # a function that is called in its place, or anything that stands for it


@dataclass(slots=True, kw_only=True)
class Budget:
    """Remaining budget for reading one file, including the pickles within it."""

    steps: int = MAX_STEPS
    array_bytes: int = MAX_BYTES
    streams: int = MAX_STREAMS

    def count_bytes(self, size: int) -> None:
        """Count `size` bytes that a stand-in is about to allocate."""
        self.array_bytes -= size
        if self.array_bytes < 0:
            raise Refusal("it expands to more data than old files contain")

    def count_stream(self) -> None:
        """Count a pickle within the pickle."""
        self.streams -= 1
        if self.streams < 0:
            raise Refusal("it contains more nested pickles than old files do")


def run(
    stream: io.BytesIO,
    allowed_names: Mapping[str, object],
    budget: Budget,
    *,
    persistent: Callable[[object], object] | None = None,
) -> object:
    """Return the value of the pickle that begins where `stream` is; it is left behind its end.

    Args:
        stream: of which nothing else is read.
        allowed_names: as in `load`.
        budget: of the whole file.
        persistent: gives the value of a persistent ID; None refuses them.

    Raises:
        Refusal: the pickle is truncated or requests a name that is not allowed.
    """
    machine = _Machine(allowed_names, budget, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            budget.steps -= 1
            if budget.steps < 0:
                raise Refusal("it has more instructions than old files do")
            if opcode.name == "STOP":
                return machine.pop_item()
            machine.carry_out(opcode.name, argument)
    # genops raises for unreadable input, and an instruction for too few values on the stack
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise Refusal(f"it is cut off or damaged ({shorten_for_message(error)})") from error
    except MemoryError as error:
        raise Refusal("there is not enough memory for it") from error
    raise Refusal("it is cut off")


def shorten_for_message(value: object) -> str:
    """Return a short form of anything, for a message."""
    if isinstance(value, int | float) and not -(10**18) < value < 10**18:
        return "a huge number"
    if isinstance(value, str | Exception | int | float):
        text = value if isinstance(value, str) else str(value)
        # a hostile text may hold line ends and worse
        text = text[: SHOWN + 1].encode("unicode_escape").decode()
        return f"{text[:SHOWN]}…" if len(text) > SHOWN else text
    return f"a {type(value).__name__}"


class _Machine:
    """The stack, the memo and the instructions of one pickle."""

    def __init__(
        self,
        allowed_names: Mapping[str, object],
        budget: Budget,
        persistent: Callable[[object], object] | None,
    ) -> None:
        self.allowed, self.budget, self.persistent = allowed_names, budget, persistent
        self.stack: Stack = []
        self.below: list[Stack] = []  # stacks that a mark put aside
        self.memo: dict[int, object] = {}

    def carry_out(self, name: str, argument: object) -> None:
        if name in _VALUES:
            self.stack.append(_VALUES[name] if argument is None else argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _NOTHING:
            asked = "" if argument is None else f" {shorten_for_message(argument)}"
            raise Refusal(f"it uses the instruction {name}{asked}, which old files do not need")

    def pop_item(self) -> object:
        return self.stack.pop()

    def pop_marked(self) -> Stack:
        """Remove the values above the last mark and the mark, and return the values."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def empty_list(self, _: object) -> None:
        self.stack.append([])

    def empty_dict(self, _: object) -> None:
        self.stack.append({})

    def tuple_marked(self, _: object) -> None:
        items = self.pop_marked()
        self.stack.append(tuple(items))

    def append(self, _: object) -> None:
        self._extend([self.pop_item()])

    def appends(self, _: object) -> None:
        self._extend(self.pop_marked())

    def set_item(self, _: object) -> None:
        value, key = self.pop_item(), self.pop_item()
        self._fill([key, value])

    def set_items(self, _: object) -> None:
        self._fill(self.pop_marked())

    def store_memo(self, number: object) -> None:
        if not isinstance(number, int):
            raise Refusal("it is damaged")
        self.memo[number] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get_memo(self, number: object) -> None:
        if not isinstance(number, int):
            raise Refusal("it is damaged")
        self.stack.append(self.memo[number])

    def name(self, argument: object) -> None:
        self._push_named(*str(argument).split(" ", 1))

    def stack_name(self, _: object) -> None:
        name, module = self.pop_item(), self.pop_item()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Refusal(
                f"it asks for {shorten_for_message(module)}.{shorten_for_message(name)}, which is not a name"
            )
        self._push_named(module, name)

    def reduce(self, _: object) -> None:
        arguments, function = self.pop_item(), self.pop_item()
        if not isinstance(function, Named) or not callable(function.value):
            called = function.name if isinstance(function, Named) else shorten_for_message(function)
            raise Refusal(f"it asks to call {called}")
        if not isinstance(arguments, tuple):
            raise Refusal(f"it calls {function.name} with {shorten_for_message(arguments)}")
        self.stack.append(function.value(*arguments))

    def build(self, _: object) -> None:
        state, target = self.pop_item(), self.stack[-1]
        if not isinstance(target, BuildTarget):
            called = target.name if isinstance(target, Named) else shorten_for_message(target)
            raise Refusal(f"it asks to change the state of {called}")
        target.build(state)

    def persistent_id(self, _: object) -> None:
        asked = self.pop_item()
        if self.persistent is None:
            raise Refusal("it asks for a value outside the file (a persistent ID)")
        self.stack.append(self.persistent(asked))

    def _push_named(self, module: str, name: str) -> None:
        whole = f"{module}.{name}"
        if whole not in self.allowed or "." in name:
            raise Refusal(f"it asks for {shorten_for_message(whole)}")
        self.stack.append(Named(name=whole, value=self.allowed[whole]))

    def _extend(self, items: Sequence[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Refusal(f"it asks to append to {shorten_for_message(target)}")
        target.extend(items)

    def _fill(self, items: Sequence[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Refusal(f"it asks to set items of {shorten_for_message(target)}")
        if len(target) + len(items) // 2 > MAX_ENTRIES:
            raise Refusal(f"it has a dict with more than {MAX_ENTRIES} entries")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise Refusal(f"it has a dict with a key that is {shorten_for_message(key)}")
            target[key] = value


def _tuple_of(count: int) -> Callable[[_Machine, object], None]:
    def gather(machine: _Machine, _: object) -> None:
        items = [machine.pop_item() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return gather


_ACTIONS: Mapping[str, Callable[[_Machine, object], None]] = {
    "MARK": _Machine.mark,
    "EMPTY_LIST": _Machine.empty_list,
    "EMPTY_DICT": _Machine.empty_dict,
    "TUPLE": _Machine.tuple_marked,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BINPUT": _Machine.store_memo,
    "LONG_BINPUT": _Machine.store_memo,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get_memo,
    "LONG_BINGET": _Machine.get_memo,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
