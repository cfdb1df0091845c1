"""Makes the manual pages, and copies documentation and plugins when a wheel is built; all else is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup  # first: it brings the distutils that newer Pythons have not

from distutils.command.install_data import install_data  # isort: skip
from setuptools.command.build_py import build_py  # isort: skip

MANUALS = Path("build", "man")
PAGES = Path("launcher", "pages")  # in the package; `launcher help` prints them
PLUGINS = Path(
    "launcher", "frontends", "plugins", "search_path"
)  # packages that Hydra and Snakemake find by their names


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
    """Copies README.md and the pages of docs/ into the package; a checkout reads them where they are.

    Puts the plugins of Hydra and Snakemake beside the package.
    """

    def run(self) -> None:
        """Build the package, then copy the pages and the plugins."""
        super().run()
        if self.editable_mode:
            self._add_plugins()
            return
        target = Path(self.build_lib) / PAGES
        self.mkpath(str(target))
        for page in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
            self.copy_file(str(page), str(target / page.name))
        for module in PLUGINS.rglob("*.py"):
            plugin = Path(self.build_lib, module.relative_to(PLUGINS))
            self.mkpath(str(plugin.parent))
            self.copy_file(str(module), str(plugin))

    def _add_plugins(self) -> None:
        """Add the folder of the plugins to the search path of an editable installation.

        Its finder answers for modules by their names, but Hydra and Snakemake list folders.
        """
        packages = self.get_finalized_command("install").install_lib
        path = Path(packages, f"{self.distribution.get_name()}.plugins.pth")
        path.write_text(f"{PLUGINS.resolve()}\n", encoding="utf-8")


setup(
    cmdclass={"build_py": Documentation, "install_data": ManualPages},
    data_files=[("share/man/man1", [])],
)
