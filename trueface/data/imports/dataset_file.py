"""dataset.yaml in a data root: a task file to include, with its folders and words.

`include: ROOT/dataset.yaml` gives a task file data root, splits, and the words that data IDs name
the set's sources by; the commands of `trueface` that take a data root read the words from it.
"""

import json
from pathlib import Path

import yaml

from trueface.data.imports.record import ImportRecord
from trueface.data.video_sources import write_video_sources
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic
from trueface.runtime.ids import Words

NAME = "dataset.yaml"


def write_dataset_file(folder: Path, root: Path, split_path: Path, record: ImportRecord) -> None:
    """Write dataset.yaml and videos.json.

    Args:
        folder: to write in; `root` itself, or what will be renamed to it.
        root: the data root.
        split_path: of the lists.
        record: of all that was imported.
    """
    write_video_sources(folder, record.video_folders)
    lines = [
        "# Written by trueface import. In a task file:",
        f"#   include: {_text(str(root / NAME))}",
        f"defaults: {{data_root: {_text(str(root))}, split_path: {_text(str(split_path))}}}",
    ]
    own = {word: source for source, word in record.words.items()}
    if own:
        lines.append("subsets:")
        for word, source in sorted(own.items()):
            label = "fake" if record.sources[source] else "real"
            lines.append(f"  {_text(word)}: [{_text(source)}]  # {label}")
    if record.modifiers:
        lines.append("modifiers:")
        lines += [f"  {_text(name)}: [{_text(name)}]" for name in record.modifiers]
    write_atomic(folder / NAME, "\n".join(lines) + "\n")


def read_words(root: Path) -> Words:
    """Return the words of a data root; none where nothing was imported.

    Raises:
        DataError: its dataset.yaml cannot be read.
    """
    try:
        content = yaml.safe_load((root / NAME).read_text(encoding="utf-8"))
        sections = [content.get(name) or {} for name in ("subsets", "modifiers")]
        subsets, modifiers = (
            {str(word): tuple(map(str, folders)) for word, folders in section.items()}
            for section in sections
        )
    except (FileNotFoundError, NotADirectoryError):
        return Words()
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read {root / NAME}: {error}") from error
    return Words(subsets=subsets, modifiers=modifiers)


def _text(text: str) -> str:
    """Return a text as YAML that a task file does not fill in."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)
