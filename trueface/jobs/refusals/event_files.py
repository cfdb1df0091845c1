"""Event files of TensorBoard that nothing here could write."""

from collections.abc import Iterable
from importlib.util import find_spec

from launcher.api import Draft

PACKAGE = "tensorboard"


def no_tensorboard(draft: Draft) -> Iterable[str]:
    """Refuse to write event files without the package that writes them."""
    if draft.settings.get("tensorboard") and find_spec(PACKAGE) is None:
        yield (
            f"tensorboard: true writes event files with the package {PACKAGE}, which is not installed: "
            "pip install 'launcher-trueface[tensorboard]', or leave the setting out"
        )
