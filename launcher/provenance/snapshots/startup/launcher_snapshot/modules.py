"""Imports of a process that follows a snapshot: modules and scripts come from the copy, under their original names."""

from __future__ import annotations

import _frozen_importlib_external as importing  # importlib itself takes a millisecond to load
import _imp
import posix
import sys
from _io import open as _open
from _io import open_code as _open_code
from os.path import normpath

from .held_files import HeldFiles, real_path

TYPE_CHECKING = False  # the module typing takes several milliseconds to load
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, ModuleType
    from typing import Any

_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")  # first bytes of a zip file, which Python runs itself

_getcwd, _readlink = posix.getcwd, posix.readlink


class _Finder:
    """Finds modules in a folder of the project: those of the copy first, under their original paths."""

    def __init__(self, files: HeldFiles, folder: str, name: str) -> None:
        self._files, self.path = files, folder
        suffixes = importing.SOURCE_SUFFIXES
        extensions = importing.ExtensionFileLoader, _imp.extension_suffixes()
        sources = importing.SourceFileLoader, suffixes
        compiled = importing.SourcelessFileLoader, importing.BYTECODE_SUFFIXES
        self._name, self._copy = name, f"{files.copy}/{name}".rstrip("/")
        self._held = importing.FileFinder(self._copy, extensions, sources)
        self._present = importing.FileFinder(folder, extensions, sources, compiled)

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> Any:
        spec = self._held.find_spec(fullname)
        if (
            spec is None
            or spec.origin is None
            or not isinstance(spec.loader, importing.SourceFileLoader)
        ):
            return self._present.find_spec(fullname) or self._namespace(spec)
        name = spec.origin[len(self._copy) + 1 :]
        if self._files.is_current(f"{self._name}/{name}" if self._name else name):
            return self._present.find_spec(fullname)
        path = f"{self.path}/{name}"
        above = None if spec.submodule_search_locations is None else [path.rpartition("/")[0]]
        loader = importing.SourceFileLoader(fullname, path)
        return importing.spec_from_file_location(
            fullname, path, loader=loader, submodule_search_locations=above
        )

    def _namespace(self, spec: Any) -> Any:
        """Return the spec of a folder without `__init__.py` that was deleted meanwhile."""
        if spec is None or spec.loader is not None:
            return None
        spec.submodule_search_locations = [f"{self.path}/{spec.name.rpartition('.')[2]}"]
        return spec

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Yield names of modules and whether they are packages, for pkgutil."""
        import pkgutil  # few programs list modules

        found = {}
        for finder in (self._present, self._held):
            found.update(pkgutil.iter_importer_modules(finder, prefix))  # type: ignore[attr-defined]
        yield from sorted(found.items())

    def invalidate_caches(self) -> None:
        """Forget the lists of files."""
        self._held.invalidate_caches()
        self._present.invalidate_caches()


class _MainFinder:
    """Finds the script with which Python was started, as if it were an archive that contains `__main__`."""

    def __init__(self, files: HeldFiles, path: str) -> None:
        self._files, self._path = files, path

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> Any:
        if fullname != "__main__":
            return None
        sys.path_importer_cache.pop(self._path, None)  # for runpy.run_path of the same script
        if sys.path and sys.path[0] == self._path:
            if getattr(sys.flags, "safe_path", False):
                del sys.path[0]
            else:
                sys.path[0] = self._files.real_original(self._path).rpartition("/")[0]
        loader = _MainLoader(fullname, self._path)
        loader.copy = self._files.find(self._path) or self._path
        return importing.spec_from_file_location(fullname, self._path, loader=loader)


class _MainLoader(importing.SourceFileLoader):
    """Loads a script so that its module is as that of a script: multiprocessing needs `__spec__` to be None."""

    copy = ""

    def get_code(self, fullname: str) -> CodeType:
        import _ast

        with _open_code(self.copy) as file:
            tree: Any = compile(
                file.read(), self.path, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True
            )
        at = next(
            (at for at, node in enumerate(tree.body) if not _is_first(node, at)), len(tree.body)
        )
        line = tree.body[min(at, len(tree.body) - 1)].lineno if tree.body else 1
        place = {"lineno": line, "col_offset": 0, "end_lineno": line, "end_col_offset": 0}
        names: list[Any] = [
            _ast.Name(name, _ast.Store(), **place)
            for name in ("__spec__", "__package__", "__cached__")
        ]
        tree.body.insert(at, _ast.Assign(names, _ast.Constant(None, None, **place), None, **place))
        return compile(tree, self.path, "exec", dont_inherit=True)


def _is_first(node: Any, index: int) -> bool:
    """Return whether a statement must be before all others: a docstring, or an import from `__future__`."""
    if index == 0 and type(node).__name__ == "Expr":
        return isinstance(getattr(node.value, "value", None), str)
    return type(node).__name__ == "ImportFrom" and node.module == "__future__"


class Importing:
    """Methods of importlib's loaders that read from the copy."""

    def __init__(self, files: HeldFiles) -> None:
        self._files = files
        self._get_code = importing.SourceLoader.get_code
        self._path_stats = importing.SourceFileLoader.path_stats
        self._create_module = importing.ExtensionFileLoader.create_module

    def install(self) -> None:
        def get_code(loader: Any, fullname: str) -> Any:
            return self.get_code(loader, fullname)

        def path_stats(loader: Any, path: str) -> Any:
            return self._path_stats(loader, self._files.find(path) or path)

        def create_module(loader: Any, spec: Any) -> Any:
            self._files.note_loaded(loader.path)
            return self._create_module(loader, spec)

        # the frames of importlib, whose name these have, are left out of the traceback of a mistake in a module
        hidden = self._get_code.__code__.co_filename
        for function in (get_code, Importing.get_code, _Compiler.__call__):
            function.__code__ = function.__code__.replace(co_filename=hidden)
        importing.SourceLoader.get_code = get_code  # type: ignore[assignment]
        importing.SourceFileLoader.path_stats = path_stats  # type: ignore[assignment]
        importing.ExtensionFileLoader.create_module = create_module  # type: ignore[assignment]
        sys.path_hooks.insert(0, self.path_hook)
        for path in list(sys.path_importer_cache):
            if self._files.folder_name(path) in self._files.folders:
                del sys.path_importer_cache[path]

    def get_code(self, loader: Any, fullname: str) -> Any:
        """Return the code of a module; its compiled form is kept beside the copy."""
        path = getattr(loader, "path", None)
        if path.__class__ is not str:
            return self._get_code(loader, fullname)
        copy = self._files.find(path) or self._link_in(path)
        if copy is None or copy == path:
            self._files.note_loaded(path)
            return self._get_code(loader, fullname)
        inner = object.__new__(type(loader))  # methods of the loader's class may change the code
        inner.__dict__.update(loader.__dict__, path=copy, source_to_code=_Compiler(loader, path))
        code = self._get_code(inner, fullname)
        if code is not None:
            _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]
        return code

    def _link_in(self, path: str) -> str | None:
        """Return the copy of a file to which a link outside of the project leads."""
        try:
            target = _readlink(path)
        except OSError:
            return None
        return self._files.find(
            real_path(f"{path.rpartition('/')[0]}/{target}" if target[:1] != "/" else target)
        )

    def path_hook(self, path: str) -> Any:
        """Return the finder for a folder of the project, or for the script with which Python was started.

        Raises:
            ImportError: The path is neither.
        """
        files = self._files
        name = files.folder_name(path)
        if name is not None and name in files.folders:
            return _Finder(
                files, path if path[:1] == "/" else normpath(f"{_getcwd()}/{path}"), name
            )
        if (
            name is not None and sys._getframe().f_back is None
        ):  # Python itself calls the hook when it starts
            copy = files.find(path)
            if copy is None:
                files.note_loaded(path)
            elif not _is_archive(copy):
                return _MainFinder(files, path)
        raise ImportError


class _Compiler:
    """Compiles the text of a copy for its original path."""

    def __init__(self, loader: Any, path: str) -> None:
        self._loader, self._path = loader, path

    def __call__(self, data: Any, _copy: str, **options: Any) -> Any:
        return self._loader.source_to_code(data, self._path, **options)


def _is_archive(path: str) -> bool:
    with _open(path, "rb") as file:
        return file.read(4) in _ARCHIVES or path.endswith(".pyc")
