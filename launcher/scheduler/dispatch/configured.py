"""The backends of the user's file, read again when it was changed."""

import os
from collections.abc import Callable, Mapping

from launcher.backends.settings import Backends, configured_backends
from launcher.errors import UsageError
from launcher.system.config import configuration_file


class ConfiguredBackends:
    """What config.toml says of backends; while it cannot be understood, what held before holds on."""

    def __init__(self, environ: Mapping[str, str], warn: Callable[[str], None]) -> None:
        """Begin without having read anything.

        Args:
            environ: tells where the file is.
            warn: called with what is wrong with it.
        """
        self._environ, self._warn = environ, warn
        self._seen: tuple[float, int] | None = (-1.0, -1)
        self._backends: Backends | None = None  # it was never understood
        self._trouble = ""

    def __call__(self) -> Backends:
        """Return what holds now.

        Raises:
            UsageError: the file has never been understood, so that nothing is known of any backend.
        """
        try:
            file = configuration_file(self._environ)
            try:
                status = os.stat(file)  # noqa: PTH116  # once a turn
                seen = (status.st_mtime, status.st_size)
            except OSError:
                seen = None
            if seen != self._seen:
                self._seen = seen
                self._backends = configured_backends(self._environ)
        except UsageError as error:
            self._warn(str(error))
            self._trouble = str(error)
        if self._backends is None:
            raise UsageError(self._trouble)
        return self._backends
