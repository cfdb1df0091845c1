"""Find sentences that are hard to read in documents, Python files and YAML files.

`python .ci/prose.py` counts them per file and rule, and fails if a count differs from `.ci/prose_baseline.txt`.
`python .ci/prose.py --write` (`make prose`) writes the baseline again; no count may rise by that.
`python .ci/prose.py launcher/frontends/cli docs/tasks.md` prints every hit in these files, with the advice of its rule.

A line that ends with the comment `prose: ok, REASON` is an exception: no rule applies to the texts on it.
"""

import argparse
import ast
import gc
import hashlib
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import prose_rules
from prose_rules import RULES_OF, Kind, Text, count_words, hide_code

TREE = Path(__file__).parents[1]
BASELINE = ".ci/prose_baseline.txt"
CACHE = "build/prose.json"  # findings of files that have not changed
PLACES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "contributing",
    "docs",
    "launcher",
    "trueface",
    "tasks",
    "tests",
    "benchmarks",
)
EXAMPLES = ("tests/test_prose.py",)  # bad sentences are the input of these tests
PACKAGES = ("launcher", "trueface")
MOST_EXCEPTIONS = 30  # in a package; with more of them a rule is wrong, not the texts
MOST_LISTED = 10  # counts that have fallen; the command that corrects them is the same for all


class Hit(NamedTuple):
    """A place at which a text breaks a rule."""

    path: str
    line: int
    kind: Kind
    rule: str
    quotation: str
    advice: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: [{self.rule}] "{self.quotation}": {self.advice}'


class Exemption(NamedTuple):
    """A line on which no rule applies."""

    path: str
    line: int
    reason: str


class Findings(NamedTuple):
    """Everything that was found in some files."""

    paths: frozenset[str]
    hits: list[Hit]
    exemptions: list[Exemption]


Counts = Counter[tuple[str, str]]  # hits by path and rule


_BEFORE, _AFTER = 25, 35  # characters that a quotation shows around a match
_SHOWN = 60  # characters of a text that is quoted because of its length


def check(text: Text, path: str = "") -> Iterator[Hit]:
    """Yield the hits of one text."""
    hidden = hide_code(text.words)
    stripped = hidden.lstrip("*_ ")
    offset = len(hidden) - len(stripped)
    for rule in RULES_OF[text.kind]:
        if span := rule.find(text.kind, stripped):
            begin, end = span
            quoted = slice(
                max(0, offset + begin - _BEFORE), offset + end + (_AFTER if end else _SHOWN)
            )
            yield Hit(
                path, text.first, text.kind, rule.name, text.words[quoted].strip(), rule.advice
            )


# ---- texts of a file

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!\ al\.)(?<!\bvs\.)(?<!\bcf\.)(?<!\betc\.)[\"”)*]*\s+(?=[A-Z`*\"“(\[0-9…])"
)
_ITEM = re.compile(r"(?:[-*+]|\d+[.)])\s+")
_CODE_BLOCK = re.compile(
    r"^ *(```|~~~).*?^ *\1[^\n]*$|(?<=\n\n)(?: {4,}(?![ ]*(?:[-*+]|\d+\.) )[^\n]*(?:\n|\Z))+",
    re.DOTALL | re.MULTILINE,
)
_RULER = re.compile(r"\|[\s:|-]+\|$")
_FEWEST_IN_CELL = 4  # words; fewer are a value
_FEWEST = 3  # words of a comment or message; fewer are a name


def _sentences(kind: Kind, line: int, text: str) -> Iterator[Text]:
    """Split a paragraph that begins on a line; its line breaks are those of the file."""
    text = _LINK.sub(r"\1", text)
    begin = 0
    for end in (*(found.end() for found in _SENTENCE_END.finditer(hide_code(text))), len(text)):
        sentence = text[begin:end].strip()
        if sentence.strip("*_"):
            first = line + text.count("\n", 0, text.index(sentence[0], begin))
            yield Text(kind, first, first + sentence.count("\n"), " ".join(sentence.split()))
        begin = end


def _paragraphs(
    kind: Kind, lines: Iterable[str], first: int, read: Callable[[str], tuple[bool, str]]
) -> Iterator[Text]:
    """Yield the sentences of paragraphs; `read` returns whether a line ends the one before, and the line's prose."""
    paragraph: list[str] = []
    begin = first
    for number, line in enumerate(lines, first):
        is_new, prose = read(line)
        if is_new:
            yield from _sentences(kind, begin, "\n".join(paragraph))
            paragraph, begin = [], number
        paragraph.append(prose)
    yield from _sentences(kind, begin, "\n".join(paragraph))


def _markdown(source: str) -> Iterator[Text]:
    for blank in (_HTML_COMMENT, _CODE_BLOCK):
        source = blank.sub(lambda found: "\n" * found[0].count("\n"), source)
    lines = source.splitlines()
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith("|") and not _RULER.match(line):
            for cell in _LINK.sub(r"\1", line).strip("|").split("|"):
                if count_words(hide_code(cell)) >= _FEWEST_IN_CELL:
                    yield Text(Kind.CELL, number, number, cell.strip())
    yield from _paragraphs(Kind.DOC, lines, 1, _markdown_line)


def _markdown_line(line: str) -> tuple[bool, str]:
    line = line.strip()
    if not line or line[0] in "#<|" or line.startswith(("---", "![")):
        return True, ""
    item = _ITEM.match(line)
    return bool(item), line[item.end() :] if item else line


_COMMENT = re.compile(  # behind a string, in which a `#` begins no comment
    r"\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#([^\n]*)",
    re.DOTALL,
)
_NO_PROSE = ("noqa", "type:", "pragma", "fmt:", "!")  # comments for programs
# methods whose arguments are the key=value lines of a log
_LOGGING = frozenset({"debug", "info", "warning", "exception", "critical", "log"})
_HELP_KEYWORDS = frozenset({"help", "description", "summary", "short_help", "epilog"})
_EXAMPLE_LINES = ("launcher ", "trueface ", ">>> ", "$ ", "\b", "\\b", "./")
_ARGUMENT = re.compile(r" {4,}\*{0,2}[A-Za-z_][\w.]*(?: \([^)]*\))?: ")
_READ = (  # an eighth of all nodes
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef),
    *(ast.Call, ast.JoinedStr, ast.Constant),
)
_SQL = re.compile(
    r"^\s*(?i:select|insert|update|delete|create|drop|alter|pragma|with|begin|commit)\b.*\b[A-Z]{2}"
    r"|\b(?:SELECT|RECURSIVE|WHERE|JOIN|ORDER\ BY|VALUES)\b",
    re.DOTALL,
)
_MARKUP = re.compile(r"\s*(?:<|\{%|#!|name: \S+\n)")  # the last one begins a task file
_LONGEST_MESSAGE = 4000  # characters; a longer literal is a file


def _python(source: str) -> Iterator[Text]:
    handled: set[int] = set()  # nodes that are no message of their own
    helps: set[int] = set()
    for node in ast.walk(ast.parse(source)):  # parents come before their children
        if not isinstance(node, _READ):
            continue
        match node:
            case (
                ast.Module(body=body)
                | ast.ClassDef(body=body)
                | ast.FunctionDef(body=body)
                | ast.AsyncFunctionDef(body=body)
            ):
                match body:
                    case [ast.Expr(value=ast.Constant(value=str(text)) as docstring), *_]:
                        handled.add(id(docstring))
                        first, lines = docstring.lineno, text.splitlines()
                        yield from _paragraphs(Kind.DOCSTRING, lines, first, _docstring_line)
            case ast.Call(func=ast.Attribute(attr=name)) if name in _LOGGING:
                handled.update(id(part) for each in node.args for part in ast.walk(each))
            case ast.Call():
                helps.update(id(each.value) for each in node.keywords if each.arg in _HELP_KEYWORDS)
            case ast.JoinedStr(values=values):
                handled.update(map(id, values))
                if id(node) not in handled:
                    yield from _literal(node, _template(values), is_help=id(node) in helps)
            case ast.Constant(value=str(text)) if id(node) not in handled:
                yield from _literal(node, text, is_help=id(node) in helps)
    yield from _comments(source)


def _template(values: Sequence[ast.expr]) -> str:
    return "".join(str(each.value) if isinstance(each, ast.Constant) else "{x}" for each in values)


def _literal(node: ast.expr, text: str, *, is_help: bool) -> Iterator[Text]:
    kind = Kind.HELP if is_help else Kind.MESSAGE
    if is_help or _reads_as_message(text):
        for sentence in _sentences(kind, 0, " ".join(text.split())):
            yield sentence._replace(first=node.lineno, last=node.end_lineno or node.lineno)


def _reads_as_message(text: str) -> bool:
    words = text.split()
    if len(words) < _FEWEST or len(text) >= _LONGEST_MESSAGE:
        return False
    spelled = sum(word.rstrip(".,;:'\"").isalpha() for word in words)
    return spelled >= len(words) / 2 and not _MARKUP.match(text) and not _SQL.search(text)


def _docstring_line(line: str) -> tuple[bool, str]:
    prose = line.strip()
    is_heading = prose.endswith(":") and len(prose.split()) <= 2
    if not prose or is_heading or prose.startswith(_EXAMPLE_LINES):
        return True, ""
    argument = _ARGUMENT.match(line)
    return bool(argument), line[argument.end() :] if argument else prose


def _comments(source: str) -> Iterator[Text]:
    """Yield the sentences of comments; whole lines below each other are one comment."""
    comments: dict[int, str] = {}
    position, line = 0, 1
    for found in _COMMENT.finditer(source):
        if found[1] is not None:
            line += source.count("\n", position, found.start())
            position = found.start()
            begin = source.rfind("\n", 0, position) + 1
            is_whole_line = not source[begin:position].strip()
            comments[line] = found[1] if is_whole_line else f"\0{found[1]}"
    yield from _joined_comments(comments)


def _joined_comments(comments: dict[int, str]) -> Iterator[Text]:
    """Yield sentences of comments by their lines; one that begins with a null character is alone."""
    paragraph: list[str] = []
    for line, text in comments.items():
        prose = text.strip("\0#: ")
        paragraph.append("" if prose.startswith(_NO_PROSE) else prose)
        following = comments.get(line + 1)
        if text.startswith("\0") or following is None or following.startswith("\0"):
            comment = "\n".join(paragraph)
            if len(comment.split()) >= _FEWEST:
                yield from _sentences(Kind.COMMENT, line + 1 - len(paragraph), comment)
            paragraph = []


_YAML_COMMENT = re.compile(r"(\s*)#(.*)|.*?\s#\s(.*)|about:\s*(\S.*)")


def _yaml(source: str) -> Iterator[Text]:
    comments: dict[int, str] = {}
    for number, line in enumerate(source.splitlines(), 1):
        found = _YAML_COMMENT.match(line)
        if found and "yaml-language-server" not in line:
            comments[number] = found[2] if found[2] is not None else f"\0{found[3] or found[4]}"
    yield from _joined_comments(comments)


_READERS = {".md": _markdown, ".py": _python, ".yaml": _yaml, ".yml": _yaml}
_EXEMPT = re.compile(
    r"(?:#|<!--) ?prose: ok(?:,[ \t]*([^\s>-].*?)?)?[ \t]*(?:-->)?[ \t]*$", re.MULTILINE
)


def read_file(path: str, source: str) -> tuple[list[Hit], list[Exemption]]:
    """Return the hits and the exceptions of a file."""
    exemptions = [
        Exemption(path, source.count("\n", 0, found.start()) + 1, found[1] or "")
        for found in _EXEMPT.finditer(source)
    ]
    exempt = {each.line for each in exemptions}
    hits = [
        hit
        for text in _READERS[Path(path).suffix](source)
        if exempt.isdisjoint(range(text.first, text.last + 1))
        for hit in check(text, path)
    ]
    return hits, exemptions


# ---- the tree and its baseline


def find_hits(root: Path, places: Iterable[str] = PLACES) -> Findings:
    """Read all files below some places of a tree."""
    paths = sorted(
        file.relative_to(root).as_posix()
        for place in places
        for file in ([root / place] if (root / place).is_file() else (root / place).rglob("*"))
        if file.suffix in _READERS and file.is_file()
    )
    paths = [path for path in paths if path not in EXAMPLES]
    findings = Findings(frozenset(paths), [], [])
    for hits, exemptions in _read_all(root, paths):
        findings.hits.extend(hits)
        findings.exemptions.extend(exemptions)
    return findings


_RULE_TEXTS = [Path(file).read_text(encoding="utf-8") for file in (__file__, prose_rules.__file__)]
_ENOUGH = 50  # files; the start of processes pays for more of them


def _read_all(root: Path, paths: list[str]) -> Iterable[tuple[list[Hit], list[Exemption]]]:
    sources = [(root / path).read_text(encoding="utf-8") for path in paths]
    if len(paths) < _ENOUGH:
        return map(read_file, paths, sources)
    digests = [_digest(*each) for each in zip(paths, sources, strict=True)]
    known = _read_cache(root / CACHE)
    new = [place for place, digest in enumerate(digests) if digest not in known]
    with ProcessPoolExecutor(initializer=gc.disable) as pool:  # trees are many small objects
        lists = [[each[place] for place in new] for each in (paths, sources)]
        found = pool.map(read_file, *lists, chunksize=16)
        known |= zip([digests[place] for place in new], found, strict=True)
    if new:
        _write_cache(root / CACHE, {digest: known[digest] for digest in digests})
    return [known[digest] for digest in digests]


def _digest(*texts: str) -> str:
    """Return a digest of the rules, a path and the file's text."""
    return hashlib.sha256("\0".join([*_RULE_TEXTS, *texts]).encode()).hexdigest()


def _read_cache(file: Path) -> dict[str, tuple[list[Hit], list[Exemption]]]:
    """Return the findings of files that were read before, by digest."""
    try:
        return {
            digest: ([Hit(*hit) for hit in hits], [Exemption(*each) for each in exemptions])
            for digest, (hits, exemptions) in json.loads(file.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # none, cut off, or of older code
        return {}


def _write_cache(file: Path, findings: Mapping[str, tuple[list[Hit], list[Exemption]]]) -> None:
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(findings), encoding="utf-8")
    unfinished.replace(file)


def check_tree(root: Path) -> list[str]:
    """Return what is wrong with a tree: exceptions, counts that have risen, and counts that have fallen."""
    findings = find_hits(root)
    problems = [*_wrong_exemptions(findings.exemptions)]
    if not (root / BASELINE).is_file():
        return [*problems, f"{BASELINE} is missing. Write it: make prose"]
    known = read_baseline(root)
    problems += _risen(known, findings)
    return [*problems, *_fallen(known, findings)]


def write_baseline(root: Path) -> list[str]:
    """Write the counts of a tree, unless one has risen; return the reasons if nothing was written.

    Files that are gone leave their counts to files that are new, as after a renaming. Without a baseline all counts
    are accepted.
    """
    findings = find_hits(root)
    counts = _count(findings.hits)
    file = root / BASELINE
    if file.is_file() and (problems := [*_risen(read_baseline(root), findings, can_inherit=True)]):
        return [*problems, f"{BASELINE} was not changed, because no count may rise."]
    lines = [f"{path} {rule} {count}\n" for (path, rule), count in sorted(counts.items())]
    file.write_text("".join(lines), encoding="utf-8")
    return []


def read_baseline(root: Path) -> Counts:
    """Return the counts of the baseline file."""
    counts: Counts = Counter()
    for line in (root / BASELINE).read_text(encoding="utf-8").splitlines():
        path, rule, count = line.rsplit(" ", 2)
        counts[path, rule] = int(count)
    return counts


def _count(hits: Iterable[Hit]) -> Counts:
    return Counter((hit.path, hit.rule) for hit in hits)


def _wrong_exemptions(exemptions: list[Exemption]) -> Iterator[str]:
    for each in exemptions:
        if not each.reason:
            yield f"{each.path}:{each.line}: the exception has no reason. Write: prose: ok, REASON"
    for package in PACKAGES:
        count = sum(each.path.startswith(f"{package}/") for each in exemptions)
        if count > MOST_EXCEPTIONS:
            yield (
                f"{package}: {count} lines end with `prose: ok`, {MOST_EXCEPTIONS} may. "
                "Reword some of these sentences, or correct the rule."
            )


def _risen(known: Counts, findings: Findings, *, can_inherit: bool = False) -> Iterator[str]:
    """Yield the hits of each file and rule that has more of them than the baseline.

    With `can_inherit`, new files may have as many as files that are gone had together.
    """
    known_paths = {path for path, _ in known}
    inherited: Counter[str] = Counter()
    for (path, rule), count in known.items():
        if path not in findings.paths:
            inherited[rule] += count
    places: dict[tuple[str, str], list[Hit]] = defaultdict(list)
    for hit in findings.hits:
        places[hit.path, hit.rule].append(hit)
    for (path, rule), hits in sorted(places.items()):
        more = len(hits) - known[path, rule]
        if more <= 0:
            continue
        could_inherit = path not in known_paths and inherited[rule] >= more
        if could_inherit:
            inherited[rule] -= more
            if can_inherit:
                continue
        yield "\n".join(
            [
                *map(str, hits),
                f"{path}: {_hits(len(hits), rule)}, the baseline has {known[path, rule]}. "
                + (
                    "If the file was renamed: make prose"
                    if could_inherit
                    else f"Reword {more} of them."
                ),
            ]
        )


def _fallen(known: Counts, findings: Findings) -> Iterator[str]:
    counts = _count(findings.hits)
    fallen = [key for key, count in sorted(known.items()) if counts[key] < count]
    for path, rule in fallen[:MOST_LISTED]:
        if path in findings.paths:
            found = _hits(counts[path, rule], rule)
            yield f"{path}: {found}, the baseline has {known[path, rule]}."
        else:
            yield f"{path}: the file is gone, the baseline has {_hits(known[path, rule], rule)}."
    if len(fallen) > MOST_LISTED:
        yield f"{len(fallen) - MOST_LISTED} more counts of the baseline are too high."
    if fallen:
        yield "The baseline may only shrink. Write it again: make prose"


def _hits(count: int, rule: str) -> str:
    return f"{count} {'hit' if count == 1 else 'hits'} of [{rule}]"


def main() -> int:
    """Check the tree or some files, or write the baseline; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "places", nargs="*", metavar="PATH", help="Print every hit in this file or folder."
    )
    parser.add_argument("--kinds", metavar="KIND,...", help=f"Only of these: {', '.join(Kind)}.")
    parser.add_argument(
        "--write", action="store_true", help="Write the baseline; no count may rise."
    )
    parser.add_argument(
        "--root", type=Path, default=TREE, help="Folder of the tree. Default: this one."
    )
    options = parser.parse_args()
    root: Path = options.root.resolve()
    if options.places:
        kinds = options.kinds.split(",") if options.kinds else [*Kind]
        for name in options.places:
            if not (root / name).exists():
                parser.error(f"no file or folder {name} in {root}")
        if unknown := {*kinds} - {*Kind}:
            parser.error(f"--kinds: no kind {', '.join(unknown)}. Kinds: {', '.join(Kind)}")
        hits = find_hits(root, options.places).hits
        problems = [str(hit) for hit in hits if hit.kind in kinds]
    else:
        problems = write_baseline(root) if options.write else check_tree(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
