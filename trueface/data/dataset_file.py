"""The description of a data root: words for data IDs, and the folders that are videos.

`<root>/dataset.yaml`   A task file to include. Its `subsets` and `modifiers` are words for its sources.
`<root>/videos.json`    `{"schema": 1, "sources": ["FF-DF", "FF-real"]}`. The sources are folders below
                        Real/ or Fake/, in which each folder of images is a video.

`include: ROOT/dataset.yaml` adds the data root, the splits, and the words for sources in data IDs
to a task file. Commands of `trueface` that take a data root read the words from this file.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic, write_json
from trueface.runtime.ids import Words

DATASET = "dataset.yaml"
VIDEOS = "videos.json"
SCHEMA = 1


def write_dataset_file(
    folder: Path, root: Path, split_path: Path, command: str, sections: Iterable[str]
) -> None:
    """Write dataset.yaml.

    Args:
        folder: to write in; `root` itself, or what will be renamed to it.
        root: the data root.
        split_path: of the lists.
        command: of `trueface` that made the set.
        sections: lines with the words.
    """
    lines = [
        f"# Written by trueface {command}. In a task file:",
        f"#   include: {quote_yaml(str(root / DATASET))}",
        f"defaults: {{data_root: {quote_yaml(str(root))}, split_path: {quote_yaml(str(split_path))}}}",
        *sections,
    ]
    write_atomic(folder / DATASET, "\n".join(lines) + "\n")


def quote_yaml(text: str) -> str:
    """Return a text as YAML that a task file does not fill in."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)


def write_video_sources(folder: Path, sources: Iterable[str]) -> None:
    """Write videos.json; without any source nothing is written."""
    if names := sorted(sources):
        write_json(folder / VIDEOS, {"schema": SCHEMA, "sources": list(names)})


def video_sources(root: Path) -> frozenset[str]:
    """Return the sources whose folders are videos; none where the data root names none.

    Raises:
        DataError: its videos.json cannot be read.
    """
    try:
        content: Mapping[str, object] = json.loads((root / VIDEOS).read_bytes())
        sources = content["sources"]
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {root / VIDEOS}: {error}") from error
    if not isinstance(sources, list):
        raise DataError(f"{root / VIDEOS}: sources is not a list of folders")
    return frozenset(map(str, sources))


def read_words(root: Path) -> Words:
    """Return the words of a data root; none where nothing was imported.

    Raises:
        DataError: its dataset.yaml cannot be read.
    """
    try:
        content = yaml.safe_load((root / DATASET).read_text(encoding="utf-8"))
        sections = [content.get(name) or {} for name in ("subsets", "modifiers")]
        subsets, modifiers = (
            {str(word): tuple(map(str, folders)) for word, folders in section.items()}
            for section in sections
        )
    except (FileNotFoundError, NotADirectoryError):
        return Words()
    except RecursionError as error:
        raise DataError(f"cannot read {root / DATASET}: it is nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read {root / DATASET}: {error}") from error
    return Words(subsets=subsets, modifiers=modifiers)
