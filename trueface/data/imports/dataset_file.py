"""dataset.yaml in a data root: a task file to include, with its folders and words.

`include: ROOT/dataset.yaml` gives a task file data root, splits, and the words that data IDs name
the set's sources by; the commands of `trueface` that take a data root read the words from it, see `root_files`.
"""

import json
from pathlib import Path

from trueface.data.imports.record import ImportRecord
from trueface.data.imports.root_files import DATASET, write_video_sources
from trueface.runtime.files import write_atomic


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
        f"#   include: {_text(str(root / DATASET))}",
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
    write_atomic(folder / DATASET, "\n".join(lines) + "\n")


def _text(text: str) -> str:
    """Return a text as YAML that a task file does not fill in."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)
