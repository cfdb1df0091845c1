"""The code that does some work, as the launcher identifies it."""

from launcher.api import code_digest as code_digest
