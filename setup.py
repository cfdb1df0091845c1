"""Makes manual pages, and copies documentation, plugins and the commit into a wheel; all else is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup  # first: it brings the distutils that newer Pythons have not

from distutils.command.install_data import install_data  # isort: skip
from setuptools.command.build_py import build_py  # isort: skip
from setuptools.command.sdist import sdist  # isort: skip

MANUALS = Path("build", "man")
COMMIT = Path("launcher", "commit.txt")  # `launcher --version` prints it
PAGES = Path("launcher", "pages")  # in the package; `launcher help` prints them
PLUGINS = Path(
    "launcher", "frontends", "plugins", "search_path"
)  # packages that Hydra and Snakemake find by their names


class ManualPages(install_data):
    """Makes the pages from the commands, and installs them."""

    def run(self) -> None:
        """Make and install them; if a package of the commands is missing, the build fails."""
        sys.path[:0] = [".", ".ci"]
        try:
            from manual_pages import write
        except ImportError as error:
            sys.exit(
                f"error: the manual pages cannot be made: {error}. "
                "Install the packages that pyproject.toml requires for a build."
            )
        self.data_files = [("share/man/man1", [str(path) for path in write(MANUALS)])]
        super().run()


class Documentation(build_py):
    """Copies README.md and the pages of docs/ and contributing/ into the package; a checkout reads them where they are.

    Puts the plugins of Hydra and Snakemake beside the package, and the commit into it.
    """

    def run(self) -> None:
        """Build the package, then copy the pages and the plugins."""
        super().run()
        if self.editable_mode:
            self._add_plugins()
            return
        target = Path(self.build_lib) / PAGES
        self.mkpath(str(target))
        pages = [*Path("docs").glob("*.md"), *Path("contributing").glob("*.md")]
        for page in (Path("README.md"), *sorted(pages)):
            self.copy_file(str(page), str(target / page.name))
        for module in PLUGINS.rglob("*.py"):
            plugin = Path(self.build_lib, module.relative_to(PLUGINS))
            self.mkpath(str(plugin.parent))
            self.copy_file(str(module), str(plugin))
        _write_commit(Path(self.build_lib, COMMIT))

    def _add_plugins(self) -> None:
        """Add the folder of the plugins to the search path of an editable installation.

        Its finder answers for modules by their names, but Hydra and Snakemake list folders.
        """
        packages = self.get_finalized_command("install").install_lib
        path = Path(packages, f"{self.distribution.get_name()}.plugins.pth")
        path.write_text(f"{PLUGINS.resolve()}\n", encoding="utf-8")


class SourceArchive(sdist):
    """Adds the commit to the source archive, which has no git."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Collect the files, then write the commit."""
        super().make_release_tree(base_dir, files)
        _write_commit(Path(base_dir, COMMIT))


def _write_commit(file: Path) -> None:
    """Write the commit of the sources into a file, unless it was copied from a source archive."""
    sys.path[:0] = ["."]
    from launcher.frontends.version import read_commit

    commit = read_commit(Path("launcher").resolve())
    if commit is not None and not file.exists():
        file.write_text(f"{commit}\n", encoding="ascii")


setup(
    cmdclass={"build_py": Documentation, "install_data": ManualPages, "sdist": SourceArchive},
    data_files=[("share/man/man1", [])],
)
