"""Look for a GPU and for the packages that are needed, then hand over to `command`.

python -m benchmarks.gpu --help
"""

import ctypes
import sys
from importlib import import_module
from importlib.util import find_spec

NOT_MEASURED = "not measured on a GPU"
LIBRARY = "libnvidia-ml.so.1"  # library of NVIDIA's driver
PACKAGES = (
    "PIL", "click", "numpy", "platformdirs", "pydantic", "pynvml", "rich", "scipy", "simplejpeg",
    "sklearn", "torch", "torchvision", "yaml",
)  # fmt: skip


def main() -> int:
    """Return the exit code where there is nothing to hand over."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        import_module("benchmarks.gpu.command").main()
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        print(f"{NOT_MEASURED}: {LIBRARY}, of NVIDIA's driver, is not found")
        return 0
    print(
        f"{NOT_MEASURED}: {sys.executable} lacks {', '.join(missing)}; install them, or name an "
        "interpreter that has them: PYTHON=… make gpu"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
