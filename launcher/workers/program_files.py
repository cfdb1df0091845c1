"""The files of a program: those that it reads as its attempt finds them, and those that it makes.

Their digests are taken by the attempt's supervisor, where it runs: its order may have waited for days since it was
planned, and another host may be shown the old content of a file of the network for a minute.
"""

import os
import re

from launcher.context import INPUTS, named_files
from launcher.system.file_digests import CHANGED, GONE, MOST_READ, FileDigests
from launcher.workers.order import Order

# which a program reads; another file of its command line that changes meanwhile may be what it writes
_CODE = re.compile(r"(?i).*\.(py|pyw|ipynb|sh|bash|r|jl|m|lua|pl|rb|js|ya?ml|toml|cfg|ini)")


def read_files(order: Order, digests: FileDigests) -> tuple[str, ...]:
    """Return a digest of each file that `named_files` names, `GONE` where there is none.

    Words of the command line count that name files of the project, but those of its runs.
    """
    names, inputs = named_files(order.spec), len(order.spec.settings.get(INPUTS) or ())
    above, results = f"{order.project}/", f"{order.project}/runs/"
    found = [digests.found(path_of(order, name)) for name in names[:inputs]]
    for name in names[inputs:]:
        path = os.path.normpath(path_of(order, name)) if name else ""
        counts = path.startswith(above) and not path.startswith(results)
        found.append(digests.found(path, MOST_READ) if counts else GONE)
    return tuple(found)


def read_again(order: Order, digests: FileDigests, before: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is to be known of a program's files at its end, given their digests at its start."""
    names, inputs = named_files(order.spec), len(order.spec.settings.get(INPUTS) or ())
    known = []
    for place, (was, now) in enumerate(zip(before, read_files(order, digests), strict=True)):
        if was in {GONE, now}:
            known.append(was)
        else:
            counts = place < inputs or (now != GONE and _is_code(path_of(order, names[place])))
            known.append(CHANGED if counts else GONE)
    return tuple(known)


def path_of(order: Order, name: str) -> str:
    """Return the path of a file that a program names."""
    return os.path.join(order.context.folder, os.path.expanduser(name))  # noqa: PTH111, PTH118  # done for every word


def _is_code(path: str) -> bool:
    return _CODE.fullmatch(path) is not None or os.access(path, os.X_OK)
