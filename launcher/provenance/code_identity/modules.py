"""The modules that can be imported and the content of their texts, each read once and found without importing it."""

import hashlib
import importlib.machinery
import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from launcher.provenance.code_identity.text import (
    LAUNCHER,
    Element,
    ModuleText,
    opaque_text,
    read_text,
)
from launcher.provenance.file_digests import CacheFile
from launcher.provenance.module_files import ModuleFiles

ABSENT_MODULE = "absent"  # the digest of a module that is not there
_COMPILED = (*importlib.machinery.EXTENSION_SUFFIXES, ".pyc")
_SUFFIXES = (".py", *_COMPILED)  # suffixes of the files of modules


class DiskModules:
    """The modules on the disk.

    Args:
        cache_file: stores imports under `imports_part`.
        text_cache: stores the content of texts under `texts_part`.
    """

    def __init__(
        self, cache_file: CacheFile, imports_part: str, text_cache: CacheFile, texts_part: str
    ) -> None:
        self._cache, self._imports_part = cache_file, imports_part
        self._text_cache, self._texts_part = text_cache, texts_part
        self._contents: dict[str, bytes] = {}  # by SHA-256
        # modules of closures that are known by their bytes alone
        self.opaque_modules: dict[str, Path] = {}
        self._files = ModuleFiles(_SUFFIXES)
        self._places = cache(_places)
        self.file = cache(self._find_file)
        self._key_of = cache(self._read_content_digest)
        self.text = cache(self._find_text)

    def exists(self, module: str) -> bool:
        """Return whether there is such a module."""
        return self.file(module) is not None

    def is_package(self, module: str) -> bool:
        """Return whether a module can contain others."""
        file = self.file(module)
        return file is not None and file.name.startswith("__init__.")

    def modules_below(self, module: str) -> Iterator[str]:
        """Yield all modules below a package."""
        file = self.file(module)
        if file is None or not self.is_package(module):
            return
        for path in sorted(file.parent.rglob("*")):
            name = _module_name(path)
            parts = (*path.relative_to(file.parent).parts[:-1], name)
            if name and all(part.isidentifier() for part in parts):
                below = ".".join((module, *(parts[:-1] if name == "__init__" else parts)))
                if below != module and self.file(below) is not None:
                    yield below

    def imports(self, module: str) -> tuple[str, ...]:
        """Return the imports of a module; a module that cannot be parsed is noted in `opaque_modules`."""
        file = self.file(module)
        if file is None:
            return ()
        key = self._text_key(module, file)
        known = self._cache.get(self._imports_part, key, _read_cached_imports)
        if known is None:
            text = self._read(module, file)
            known = text.imports, text.is_read
            self._cache.add(self._imports_part, key, text.imports if text.is_read else None)
        imports, is_read = known
        if not is_read and top_package(module) != LAUNCHER:
            self.opaque_modules[module] = file
        return imports

    def content_digest(self, module: str) -> str:
        """Return the SHA-256 of a module's content; `ABSENT_MODULE` where it has none."""
        file = self.file(module)
        return ABSENT_MODULE if file is None else self._key_of(file)

    def _find_file(self, module: str) -> Path | None:
        """Return the file of a module, of a package its `__init__.py`; None if no file exists."""
        top, *rest = module.split(".")
        for place in self._places(top) if top else ():
            if not place.is_dir():  # a module without a package
                return None if rest else place
            found = [self._files.find_in_folder(str(place), "__init__")]
            if rest:
                found = [*self._files.find(str(place), rest)]
            file = found[-1] if len(found) == max(1, len(rest)) else None
            if file is not None and os.path.isfile(file):  # noqa: PTH113  # done for every module
                return Path(file)
        return None

    def _read_content_digest(self, file: Path) -> str:
        content = file.read_bytes()
        key = hashlib.sha256(content).hexdigest()
        self._contents[key] = content
        return key

    def _find_text(self, module: str) -> ModuleText | None:
        """Return the content of a module; None if there is no such module."""
        file = self.file(module)
        return None if file is None else self._read(module, file)

    def _read(self, module: str, file: Path) -> ModuleText:
        key = self._text_key(module, file)
        text = self._text_cache.get(self._texts_part, key, _decode_text)
        if text is None:
            content = self._contents[self._key_of(file)]
            text = (
                opaque_text(content)
                if file.name.endswith(_COMPILED)
                else read_text(content, self._package(module))
            )
            self._text_cache.add(self._texts_part, key, text)
        return text

    def _text_key(self, module: str, file: Path) -> str:
        """Return the key of a text in the caches; its relative imports depend on its package."""
        return f"{self._package(module)} {self._key_of(file)}"

    def _package(self, module: str) -> str:
        return module if self.is_package(module) else module.rpartition(".")[0]


def _decode_text(value: Any) -> ModuleText:
    """Return the content of a text from its JSON form."""
    imports, elements, *others = value
    return ModuleText._make((tuple(imports), tuple(map(Element._make, elements)), *others))


def top_package(module: str) -> str:
    """Return the top-level package of a module."""
    return module.partition(".")[0]


def _read_cached_imports(value: Any) -> tuple[tuple[str, ...], bool]:
    return tuple(map(str, value or ())), value is not None


def _places(top: str) -> tuple[Path, ...]:
    """Return the folders of a top-level package, or the file of a module."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations is not None:
        return tuple(map(Path, spec.submodule_search_locations))
    origin = Path(spec.origin or "")
    return (origin,) if origin.name.endswith(_SUFFIXES) else ()


def _module_name(path: Path) -> str:
    """Return the name of the module that a file holds, without its packages; empty if there is none."""
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return ""
