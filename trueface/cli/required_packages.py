"""The packages that the laboratory works with; the queue is installed without them.

They are looked for before a command is imported, which would end in the middle of an import.
"""

import importlib.util
import sys
from collections.abc import Sequence

PACKAGES = (
    "jinja2",
    "markupsafe",
    "numpy",
    "PIL",
    "scipy",
    "simplejpeg",
    "sklearn",
    "torch",
    "torchvision",
)
_NEED_NOTHING = frozenset({"-h", "--help", "--version"})  # as the first word


def can_work(argv: Sequence[str]) -> bool:
    """Tell whether all packages are installed, or the arguments ask for none; else say what to do."""
    if argv and argv[0] in _NEED_NOTHING:
        return True
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return True
    sys.stderr.write(
        f"error: trueface needs {', '.join(missing)}, not installed here; install the laboratory "
        "with `pip install 'launcher-trueface[lab]'`, in a checkout with `pip install '.[lab]'`\n"
    )
    return False
