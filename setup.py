"""Makes the manual pages and copies the documentation when a wheel is built; all else is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup  # first: it brings the distutils that newer Pythons have not

from distutils.command.install_data import install_data  # isort: skip
from setuptools.command.build_py import build_py  # isort: skip

MANUALS = Path("build", "man")
PAGES = Path("launcher", "pages")  # in the package; `launcher help` prints them


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


class Documentation(build_py):
    """Copies README.md and the pages of docs/ into the package; a checkout reads them where they are."""

    def run(self) -> None:
        """Build the package, then copy the pages."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / PAGES
        self.mkpath(str(target))
        for page in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
            self.copy_file(str(page), str(target / page.name))


setup(
    cmdclass={"build_py": Documentation, "install_data": ManualPages},
    data_files=[("share/man/man1", [])],
)
