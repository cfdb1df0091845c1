"""Makes the manual pages when the project is installed or a wheel is built; all else is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup  # first: it brings the distutils that newer Pythons have not

from distutils.command.install_data import install_data  # isort: skip

MANUALS = Path("build", "man")


class ManualPages(install_data):
    """Makes the pages from the commands, and installs them."""

    def run(self) -> None:
        """Make and install them; where a package of the commands is missing, say so and make none."""
        sys.path[:0] = [".", ".ci"]
        try:
            from manual_pages import write
        except ImportError as error:
            self.warn(f"no manual pages are made: {error}")
            return
        self.data_files = [("share/man/man1", [str(path) for path in write(MANUALS)])]
        super().run()


setup(cmdclass={"install_data": ManualPages}, data_files=[("share/man/man1", [])])
