"""The parser of the original programs' flags."""

import argparse
from typing import NoReturn

from launcher.api import UsageError


class Parser(argparse.ArgumentParser):
    """Reports its errors as the rest of the laboratory does."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` where argparse would end the program."""
        raise UsageError(message)
