"""Entry point of the command line, under the name that installed commands use; see `frontends.cli`."""

from launcher.frontends.cli import start as start
