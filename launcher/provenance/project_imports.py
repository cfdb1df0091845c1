"""The modules of a project that a script imports, found in the texts of its files; nothing is imported."""

import ast
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from launcher.provenance.code_words import has_code_suffix
from launcher.provenance.module_files import ModuleFiles
from launcher.system.executables import find_program, module_of, without_wrappers
from launcher.system.files import FileStamp, file_stamp

MOST_MODULES = 20_000  # modules of one script
MOST_BYTES = 4 << 20  # bytes of a module; a larger one holds data
_LAUNCHER = "launcher"  # this package
_INSTALLED = {"site-packages", "dist-packages"}
_PYTHON_SUFFIXES = (".py", ".pyw")
_EDITABLE = "__editable__"
_NO_PATH = ("#", "import ", "import\t")  # beginnings of other lines in a .pth file
_KNOWN_HOOKS = {"_distutils_hack", "_virtualenv"}  # hooks that serve distutils alone
_HOOK_WORDS = ("meta_path", "path_hooks")
_NO_FOLDER = "\0"  # in no text of a hook
_MODULE_SUFFIXES = (".py", ".pyc", ".so")
_MAPPING = "MAPPING"  # in a finder that setuptools writes: package → folder


class ImportedName(NamedTuple):
    """An import statement of a module."""

    level: int  # dots at the name's beginning
    module: str
    names: tuple[str, ...] = ()  # after `from module import`


class ProjectFolders(NamedTuple):
    """Where the modules of a project are looked for."""

    folders: tuple[str, ...]  # as in sys.path
    packages: tuple[tuple[str, str], ...] = ()  # an editable package, and its folder


class ImportFinder:
    """Finds the modules that scripts import; a text is read again only if its file has changed."""

    def __init__(self) -> None:
        """Begin without having read any."""
        self._imports: dict[str, tuple[FileStamp, tuple[ImportedName, ...]]] = {}

    def files(
        self, starts: Iterable[str], places: ProjectFolders, most: int = MOST_MODULES
    ) -> tuple[list[str], bool]:
        """Return the files of scripts and of the project's modules that they import, and whether these are all.

        Args:
            starts: paths of scripts, and dotted names of modules.
            places: where modules are looked for. The folder of a script comes first for its imports.
            most: number of files at which the search ends.
        """
        search = _Search(places)
        todo: list[tuple[str, str]] = []  # file, and the folder of the script
        for start in starts:
            if os.path.isabs(start):  # noqa: PTH117  # a text
                # as Python does with a link
                todo.append((start, os.path.dirname(os.path.realpath(start))))  # noqa: PTH120  # as above
            else:
                todo += [(file, "") for file in search.module_files(start, "")]
        found = {file: None for file, _ in todo}
        for file, folder in todo:  # grows meanwhile
            for imported in self._read(file):
                for other in search.imported_files(imported, file, folder):
                    if other in found:
                        continue
                    if len(found) >= most:
                        return [*found], False
                    found[other] = None
                    todo.append((other, folder))
        return [*found], True

    @staticmethod
    def module_files(modules: Iterable[str], places: ProjectFolders) -> list[str]:
        """Return the files of modules without those that they import."""
        search = _Search(places)
        return [file for module in modules for file in search.module_files(module, "")]

    def _read(self, file: str) -> tuple[ImportedName, ...]:
        stamp = file_stamp(file)
        if stamp is None or not is_python(file):
            return ()
        known = self._imports.get(file)
        if known is None or known[0] != stamp:
            known = self._imports[file] = stamp, tuple(_read_imports(file))
        return known[1]


def is_python(file: str) -> bool:
    """Return whether a file may be a text of Python, by its name."""
    suffix = os.path.splitext(file)[1]  # noqa: PTH122  # called for each of thousands
    return suffix in _PYTHON_SUFFIXES or not suffix


def _read_imports(file: str) -> Iterator[ImportedName]:
    """Yield the imports in a text; none if it cannot be read or parsed."""
    tree = _parse(file)
    if tree is None:
        return
    todo = deque[ast.AST]([tree])
    while todo:
        node = todo.popleft()
        if isinstance(node, ast.Import):
            yield from (ImportedName(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield ImportedName(node.level, node.module or "", names)
        elif not isinstance(node, ast.expr):  # no expression contains a statement
            todo.extend(ast.iter_child_nodes(node))


def _parse(file: str) -> ast.Module | None:
    """Return a text of Python; None if it cannot be read or parsed."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123  # as above
            content = opened.read(MOST_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(content)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class _Search:
    """A search for the modules of a project."""

    def __init__(self, places: ProjectFolders) -> None:
        self._folders, self._packages = places.folders, dict(places.packages)
        self._files = ModuleFiles()

    def imported_files(self, imported_name: ImportedName, file: str, folder: str) -> Iterator[str]:
        if not imported_name.level:
            yield from self.module_files(imported_name.module, folder, imported_name.names)
            return
        above = os.path.dirname(file)  # noqa: PTH120  # as above
        for _ in range(imported_name.level - 1):
            above = os.path.dirname(above)  # noqa: PTH120  # as above
        parts = [part for part in imported_name.module.split(".") if part]
        yield from self._iterate_below(above, parts, imported_name.names)

    def module_files(self, module: str, folder: str, names: Sequence[str] = ()) -> Iterator[str]:
        """Yield the files of a module, its packages, and its submodules of some names."""
        top, *rest = module.split(".")
        if top == _LAUNCHER:  # a checkout of ours is not a part of the project
            return
        if top in self._packages:
            if (package := self._files.find_in_folder(self._packages[top], "__init__")) is not None:
                yield package
            yield from self._iterate_below(self._packages[top], rest, names)
            return
        for place in (folder, *self._folders) if folder else self._folders:
            there = self._files.names_in(place)
            if f"{top}.py" in there or top in there:
                yield from self._iterate_below(place, [top, *rest], names)
                return

    def _iterate_below(
        self, folder: str, parts: Sequence[str], names: Sequence[str]
    ) -> Iterator[str]:
        for last in ((), *((name,) for name in names)):
            yield from filter(None, self._files.find(folder, (*parts, *last)))


def named_code_files(file: str) -> Iterator[str]:
    """Yield the names of files of code and configuration that a text of Python contains as constants.

    Names that are joined to a folder that is computed are left out.
    """
    tree = _parse(file) if is_python(file) else None
    todo: list[ast.AST] = [] if tree is None else [tree]
    while todo:
        node = todo.pop()
        if (name := _constant_path(node)) is not None:
            if has_code_suffix(name) and "\n" not in name:
                yield name
        elif (parts := _joined_parts(node)) is not None:
            todo += [part for part in parts if _constant_path(part) is None]
        elif not isinstance(node, ast.JoinedStr):
            todo += ast.iter_child_nodes(node)


def _constant_path(node: ast.AST) -> str | None:
    """Return the path that an expression of constants makes; None if it is not known."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    parts = _joined_parts(node)
    paths = [_constant_path(part) for part in parts or ()]
    known = [path for path in paths if path is not None]
    return os.path.join(*known) if known and len(known) == len(paths) else None  # noqa: PTH118  # texts


def _joined_parts(node: ast.AST) -> Sequence[ast.expr] | None:
    """Return the operands of `a / b`, os.path.join(a, b), a.joinpath(b) and Path(a, b); None for anything else."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return node.left, node.right
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    match node.func:
        case ast.Name(id="Path" | "PurePath" | "PosixPath") | ast.Attribute(attr="Path" | "join"):
            return node.args
        case ast.Attribute(attr="joinpath", value=above):
            return above, *node.args
    return None


def missing_module(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Return that neither the project nor Python has the module of `-m`; empty if one does, or if it is unknown.

    Args:
        argv: the program and its arguments.
        folder: folder in which the program is started.
        environment: with its PATH and PYTHONPATH.
    """
    module = module_of(argv)
    if not module or "{" in module:
        return ""
    word = without_wrappers(argv)[0]
    program = os.path.normpath(folder / word) if "/" in word else find_program(word, environment)
    python_path = environment.get("PYTHONPATH", "").split(os.pathsep)
    if not program or not lacks_module(program, module, str(folder), python_path):
        return ""
    return f"neither the project nor {word!r} has the module {module!r}"


def lacks_module(program: str, module: str, folder: str, python_path: Sequence[str]) -> bool:
    """Return whether neither a project nor an interpreter has a module; False if that is unknown.

    Args:
        program: path of the interpreter.
        module: its dotted name.
        folder: folder in which the program is started.
        python_path: further folders, such as those of PYTHONPATH.
    """
    top, *rest = module.split(".")
    installed = [*_site_folders(program)]
    if not installed or top in sys.stdlib_module_names or not os.path.exists(program):  # noqa: PTH110  # a text
        return False
    linked, packages = linked_packages(program)
    named = [os.path.join(folder, path) for path in ("", *python_path)]  # noqa: PTH118  # texts
    standard = [os.path.dirname(path) for path in installed]  # noqa: PTH120  # as above
    for place in (*named, *linked, *installed, *standard):
        if _has_module(place, top):
            below = place
            for before, part in pairwise((top, *rest)):
                below = f"{below}/{before}"
                if place in named and not _has_module(below, part):
                    return True
            return False
    return top not in dict(packages) and next(import_hooks(program, _NO_FOLDER), None) is None


def _has_module(folder: str, name: str) -> bool:
    try:
        entries = os.listdir(folder)  # noqa: PTH208  # names only
    except OSError:
        return False
    return any(
        entry == name or (entry.startswith(f"{name}.") and entry.endswith(_MODULE_SUFFIXES))
        for entry in entries
    )


def project_folders(folder: str, python_path: Sequence[str], program: str) -> ProjectFolders:
    """Return where a program finds modules that are not installed.

    Args:
        folder: folder in which the program is started.
        python_path: further folders, such as those of PYTHONPATH.
        program: path of its interpreter, or of a script beside it.
    """
    listed, packages = linked_packages(program)
    named = (os.path.join(folder, path) for path in python_path if path)  # noqa: PTH118  # texts
    paths = dict.fromkeys(map(os.path.normpath, (*named, folder, *listed)))
    return ProjectFolders(tuple(path for path in paths if is_project_path(path)), tuple(packages))


def linked_packages(program: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the import paths of editable installations, and editable packages with their folders.

    Args:
        program: path of an interpreter, or of a script beside it.
    """
    folders, packages = list[str](), list[tuple[str, str]]()
    for installed in _site_folders(program):
        more, mapped = _editable_paths(installed)
        folders += more
        packages += mapped
    return folders, packages


def import_hooks(program: str, top: str) -> Iterator[str]:
    """Yield the files that let an interpreter find modules of a folder by other hooks than that of setuptools.

    Args:
        program: path of the interpreter.
        top: the folder.
    """
    for installed in _site_folders(program):
        for path in sorted(Path(installed).glob("*.pth")):
            for line in _text(str(path)).splitlines():
                if not line.startswith(_NO_PATH[1:]):
                    continue
                module = line.split()[1].strip(";,")
                if module.startswith(_EDITABLE) or module in _KNOWN_HOOKS:
                    continue
                places = (f"{installed}/{module}.py", f"{installed}/{module}/__init__.py")
                text = "\n".join((line, *map(_text, places)))
                if any(word in text for word in (*_HOOK_WORDS, top)):
                    yield str(path)
                    break


def is_project_path(path: str) -> bool:
    """Return whether a path is neither among installed packages nor in the standard library."""
    parts = path.split("/")
    if not _INSTALLED.isdisjoint(parts):
        return False
    return not any(
        name.startswith("python3") and above in {"lib", "lib64"} for above, name in pairwise(parts)
    )


def _site_folders(program: str) -> Iterator[str]:
    prefix = os.path.dirname(os.path.dirname(program))  # noqa: PTH120  # texts
    if not prefix:
        return
    prefixes = [prefix]
    if not os.path.exists(f"{prefix}/pyvenv.cfg"):  # noqa: PTH110  # a text
        real = os.path.dirname(os.path.dirname(os.path.realpath(program)))  # noqa: PTH120  # as above
        prefixes += [real, os.path.expanduser("~/.local")]  # noqa: PTH111  # as above
    for place in dict.fromkeys(prefixes):
        for packages in ("lib/python3*/site-packages", "lib/python3*/dist-packages"):
            yield from map(str, Path(place).glob(packages))


def _editable_paths(content: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the folders and packages outside of a folder of packages that are installed by a link."""
    folders, packages = list[str](), list[tuple[str, str]]()
    try:
        names = sorted(os.listdir(content))  # noqa: PTH208  # names only
    except OSError:
        return folders, packages
    for name in names:
        path = f"{content}/{name}"
        if name.endswith(".pth"):
            lines = _text(path).splitlines()
            named = (line.strip() for line in lines if not line.startswith(_NO_PATH))
            folders += [os.path.join(content, line) for line in named if line]  # noqa: PTH118  # as above
        elif name.startswith(_EDITABLE) and name.endswith("_finder.py"):
            packages += _mapped_packages(_text(path))
    return folders, packages


def _mapped_packages(text: str) -> Iterator[tuple[str, str]]:
    try:
        for node in ast.parse(text).body:
            targets = [*node.targets] if isinstance(node, ast.Assign) else list[ast.expr]()
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if names == [_MAPPING] and (value := getattr(node, "value", None)) is not None:
                mapping = ast.literal_eval(value)
                yield from ((str(key), str(place)) for key, place in mapping.items())
    except (SyntaxError, ValueError, AttributeError):
        return


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
