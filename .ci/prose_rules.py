"""Which texts are hard to read, by kind of text: patterns, and limits of words, colons and numbers."""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

MOST_NUMBERS = 4  # in a sentence or cell; a table with a column for each is easier to read


class Kind(StrEnum):
    """What a text is for its reader."""

    DOC = "doc"  # a sentence of a Markdown paragraph or list
    CELL = "cell"  # of a Markdown table
    DOCSTRING = "docstring"
    COMMENT = "comment"
    MESSAGE = "message"  # a string literal that reads as a sentence
    HELP = "help"  # the value of a keyword such as `help=`


# The aim is 25 words. Lists of options in help texts and sentences with many names are somewhat longer.
MOST_WORDS = {
    Kind.DOC: 28,
    Kind.CELL: 40,
    Kind.DOCSTRING: 28,
    Kind.COMMENT: 28,
    Kind.MESSAGE: 28,
    Kind.HELP: 32,
}


class Text(NamedTuple):
    """A sentence, table cell or list item, and the lines on which it is."""

    kind: Kind
    first: int
    last: int
    words: str


class Rule(NamedTuple):
    """What is forbidden in some kinds of text: `find` returns where it is, None if it is not there."""

    name: str
    advice: str
    kinds: frozenset[Kind]
    find: Callable[[Kind, str], tuple[int, int] | None]


EVERY = frozenset(Kind)
PUBLISHED = frozenset({Kind.DOC, Kind.CELL, Kind.MESSAGE, Kind.HELP})  # what users read
SENTENCES = EVERY - {Kind.CELL}
HELP = frozenset({Kind.HELP})

_CODE = re.compile(r"`[^`\n]*`")
_WORD = re.compile(r"\S*\w\S*")
_NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?(?: ?%)?(?![\w.])")
_ENCLOSED = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]|\([^()]*\)")
_LABEL = re.compile(r"\**[^\s:]+:\**\s")  # `NAME: description` is a list item, not a chain
_JOINT = re.compile(r"[;:](?=\s)")
_SHORT = 10  # words; a shorter text with two colons is a heading or a pair of values


def hide_code(text: str) -> str:
    """Return the text with `code` as one word of the same length."""
    return _CODE.sub(lambda code: f"`{'x' * (len(code[0]) - 2)}`", text)


def count_words(text: str) -> int:
    """Return the number of words, without lone punctuation."""
    return len(_WORD.findall(text))


def _too_long(kind: Kind, text: str) -> tuple[int, int] | None:
    if text.count(" ") < MOST_WORDS[kind] or count_words(text) <= MOST_WORDS[kind]:
        return None
    return 0, 0


def _chained(_kind: Kind, text: str) -> tuple[int, int] | None:
    if len(_JOINT.findall(text)) < 2 or count_words(text) < _SHORT:
        return None
    label = _LABEL.match(text)
    plain = _ENCLOSED.sub("x", text[label.end() :] if label else text)
    return (0, 0) if len(_JOINT.findall(plain)) > 1 else None


def _many_numbers(_kind: Kind, text: str) -> tuple[int, int] | None:
    return (0, 0) if len(_NUMBER.findall(text)) > MOST_NUMBERS else None


def _rule(name: str, advice: str, pattern: str, kinds: frozenset[Kind] = EVERY) -> Rule:
    """Return a rule that forbids what a pattern matches; blanks and line breaks in it have no meaning."""
    search = re.compile(pattern, re.VERBOSE).search

    def find(_kind: Kind, text: str) -> tuple[int, int] | None:
        found = search(text)
        return found.span() if found else None

    return Rule(name, advice, kinds, find)


RULES = (
    _rule(
        "inversion",
        "begin with the subject: 'The pilot gets PATH and HOME', not 'Of the environment a pilot gets PATH'",
        r"""^(?:Of|Besides?)\ (?:an?|the|two|three|all|others?|such|these|those|its|their|what|which|each|many|
              [a-z]+s)\b [^.:;]{3,60}?,?\ (?:an?|the|one|two|three|[a-z]+|\d+(?:\ %)?|`[^`]*`)\ """,
        SENTENCES,
    ),
    _rule(
        "inversion",
        "begin with the subject: 'The brackets contain the 95th percentile', not 'In brackets stands what'",
        r"^(?:In|Beside|Above|Below|Behind|Before)\ [a-z\ `]{3,40}\ (?:stand|lie|come)s?\ ",
    ),
    _rule(
        "what-clause",
        "name the thing: 'Modules that import only launcher.api need no change', not 'What imports launcher.api'",
        r"""^(?:What|Who|Whoever|Whatever)\ (?!(?:is|are|does|do|did|can|should|to)\ |happens|changed)
            [^?]{4,90}$""",
    ),
    _rule(
        "what-clause",
        "name the thing: results, attempts, files, the cause",
        r"""(?:[,;:]|\b(?:of|and|with|for|from|about|on|in))\ what\ (?:is|was|were|has|had|ended|ends|runs|ran|
            came|comes|stands|they|it|an?|the|others|earlier|no|nobody|nothing|each|such|similar)\b
            (?!\ (?:wrong|to\ do))""",
        SENTENCES,
    ),
    _rule(
        "tell",
        "choose the verb that says what the program does: print, report, show, return, distinguish",
        r"(?<!can\ )(?<!cannot\ ) \b(?:[Tt]ells?|[Tt]old|[Tt]elling)\b (?!\ (?:real|fakes?|\S+\ images?\ |them\ )?apart)",
    ),
    _rule(
        "located",
        "write 'is in', 'are written to': files and settings neither stand nor lie",
        r"""\b(?:lies?|lay|stands?|stood)\ (?:in|on|at|beside|behind|beyond|under|there|elsewhere|nowhere|alone|up|
            as)\b""",
    ),
    _rule(
        "speak",
        "choose the verb that says what the program does: report, respond, return, poll",
        r"""\b(?:speaks?|spoken?|hears?|heard|hearing|listens\ to|looks?\ (?:once|away|at\ the\ GPUs)|
            answers?\ with)\b""",
    ),
    _rule(
        "is-no",
        "write 'is not a': 'rule.txt is not a checkpoint', not 'is no checkpoint'",
        r"""(?<!there\ ) \b(?:is|are|was|were|be)\ no\ (?!longer|more|less|fewer|way|need|one|point|room|such|
            matter|later|earlier|sooner|(?:GPU|result|backend|job|target|group|run)s?\b|(?:folder|program)\ called)
            [a-z`]+""",
    ),
    _rule(
        "names-no",
        "negate the verb: 'does not name a method'",
        r"""\b(?:names|holds|tells|takes)\ no\ (?!more|longer|room|effect|time|step|part|(?:result|GPU|job)s?\b)
            [a-z]+""",
        PUBLISHED - {Kind.CELL},
    ),
    _rule(
        "but-for",
        "write 'except' or 'only'",
        r"\b(?:but\ for|needed\ but|(?:nothing|none|all|no\ [a-z]+)\ but|save\ for)\b",
    ),
    _rule(
        "else",
        "write 'otherwise', or two sentences",
        r"[;,(]\ else\b(?!\ if|\ :) | :\ else\b | ^[Ee]lse\b",
        EVERY - {Kind.COMMENT},
    ),
    _rule(
        "word",
        "write: again, also, more often, rarely, obey, fix, slow or expensive",
        r"""\b(?:anew|afresh|likewise|oftener|seldom|heed(?:s|ed)?|mend(?:s|ed)?|dear(?:er|est)|unawares|
            hitherto|thereby|therein|whereby|ere|forthwith|betimes|wont)\b""",
    ),
    _rule(
        "word",
        "write: available, instead of, anyway, permanently, recently, compared with, flipped, continue, skipped",
        r"""\b(?:to\ be\ had|at\ hand|in\ the\ place\ of|all\ the\ same|for\ good|of\ late|by\ heart|in\ small|
            in\ full|as\ it\ stands|for\ want\ of|held\ against|put\ right|turned\ round|take[sn]?\ in|
            c[ao]mes?\ out|go(?:es)?\ on|went\ on|passed\ over|given\ up|done\ with|as\ good\ as|so\ be\ it|
            no\ more\ than\ that|the\ knob\ of)\b""",
        PUBLISHED,
    ),
    _rule(
        "beside",
        "write 'alongside', 'compared with', 'while X runs' or 'next to'",
        r"\bbesides?\ (?!the\ (?:weights|model\b))",
        PUBLISHED,
    ),
    _rule(
        "person",
        "write 'they', 'other users', or the name of the process",
        r"\b(?:he|him|his|whom|strangers?)\b",
    ),
    _rule(
        "so-participle",
        "say how: 'fitted in closed form', 'for this time', 'this many'",
        r"""\b(?:so\ (?:labelled|fitted|called\ by|named|stopped|long\ an?\b|long\ as\ that)|for\ so\ long|
            (?:fitted|called|named|stopped|written|done|chosen|measured)\ so|
            so\ (?:many|long)\ (?:each|of|before|after))\b""",
    ),
    _rule(
        "per",
        "write 'per': 'one record per line', '22 ms per job'",
        r"""\b(?:one|two|\d[\d.,]*(?:\ ?(?:s|ms|%|GiB|MiB|KB|µs))?|seconds|bytes|images|jobs|rows|lines|files|
            steps|cores|GPUs|times|slots|samples|words|CPU|memory|peak|pixels|copies|calls|tests|folder|column|row|
            line|file|prompt|process)\ an?\ (?:job|image|line|row|page|class|face|epoch|file|folder|step|second|
            minute|cell|model|seed|process|attempt|node|pilot|sample|run|test|training|program|command|column|group|
            target|prompt|base|layer|card|number|entry|place|measure)\b""",
        EVERY - {Kind.COMMENT},
    ),
    _rule(
        "of-fragment",
        "begin the description with a noun: 'Momentum of SGD', not 'of sgd'",
        r"^(?:of|by|with|before|likewise|so\ many|so\ long)\ [a-z]",
        HELP,
    ),
    _rule(
        "noun",
        "name the noun: 'logits of the reals', 'the seed that draws them', not 'of the reals', 'that draws them'",
        r"^(?:of|which|that|whose|how|what|where)\b",
        frozenset({Kind.COMMENT}),
    ),
    _rule(
        "it-help",
        "begin with a verb or a noun: 'Start no earlier than TIME', not 'It starts no sooner'",
        r"^It\ (?:is|starts|shares|gets|ends|runs|waits|works|takes|asks|has)\b",
        HELP,
    ),
    _rule(
        "dot-decimal",
        "write the zero: 0.98",
        r"(?<![\w.\d/~*-])\.\d+(?![\w.])",
        frozenset({Kind.DOC, Kind.CELL}),
    ),
    Rule("long", "split the sentence; 25 words are enough", EVERY, _too_long),
    Rule(
        "joints",
        "write one colon or one semicolon in a sentence",
        SENTENCES - {Kind.COMMENT},
        _chained,
    ),
    Rule(
        "numbers",
        "write one row per value, with its unit",
        frozenset({Kind.DOC, Kind.CELL}),
        _many_numbers,
    ),
)
RULES_OF = {kind: [rule for rule in RULES if kind in rule.kinds] for kind in Kind}
