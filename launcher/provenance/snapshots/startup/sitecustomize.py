"""Runs at the start of each Python of a job with a snapshot, before the user's own `sitecustomize`.

The syntax is that of all versions of Python 3. See `launcher_snapshot`.
"""

import os
import sys

_FIRST_VERSION = (3, 8)


def _follow_snapshot(folder):  # type: ignore[no-untyped-def]  # prose: ok, the syntax of old versions
    if sys.version_info >= _FIRST_VERSION:
        # the package is in the folder of this file
        __import__("launcher_snapshot").start(folder, os.environ)
        return
    attempt = os.environ.get("LAUNCHER_ATTEMPT", "")
    with open(attempt + "/snapshot", "a") as notes:
        notes.write("child\t%s, which is older than Python 3.8\n" % sys.executable)


def _run_next():  # type: ignore[no-untyped-def]
    """Run the `sitecustomize` that Python would have found without this one."""
    import _frozen_importlib
    import _frozen_importlib_external

    spec = _frozen_importlib_external.PathFinder.find_spec(__name__, sys.path)
    if spec is not None and spec.loader is not None:
        module = _frozen_importlib.module_from_spec(spec)
        sys.modules[__name__] = module
        spec.loader.exec_module(module)


_folder = os.path.dirname(__file__)
try:
    _follow_snapshot(_folder)  # type: ignore[no-untyped-call]
except Exception as error:  # noqa: BLE001  # the program must run
    sys.stderr.write("launcher: cannot follow the snapshot: %r\n" % (error,))
if _folder in sys.path:
    sys.path.remove(_folder)
sys.path_importer_cache.pop(_folder, None)
if __name__ == "sitecustomize":
    _run_next()  # type: ignore[no-untyped-call]
