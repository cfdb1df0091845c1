"""What determines a job's result, and the digest of it: jobs that agree in it need run only once."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring_ascii

from launcher.ids import NO_WORDS, Words
from launcher.system.code_digests import WHOLE

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode
_encode_once = lru_cache(maxsize=256)(encode_basestring_ascii)  # of kilobytes that many jobs share


@dataclass(frozen=True, slots=True)
class Code:
    """The code that does a job's work."""

    entry: str  # "module:function"; '' of a program
    sources: Mapping[str, str]  # module → digest of its code; and that of all of it
    text: str = field(init=False, compare=False)  # of the sources, what enters a hash
    name: str = field(init=False, compare=False)  # likewise of the entry

    def __post_init__(self) -> None:
        whole = self.sources.get(WHOLE)  # of what earlier versions queued there is none
        text = json.dumps(dict(self.sources), sort_keys=True) if whole is None else whole
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "name", self.entry if whole is None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything that determines the result of a job."""

    job: str = field(compare=False)  # its name, which determines nothing
    kind: str
    model: str | None
    base: str | None
    images: str | None
    settings: str  # those that can change a result, as JSON
    needs: tuple["Identity", ...]  # of the jobs whose results it reads
    code: Code
    given: tuple[str, ...]  # digests of the files that it reads and that no job makes
    words: Words = NO_WORDS  # the user's own among those of its data
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        needs = (need.hash for need in self.needs)
        object.__setattr__(self, "hash", self.digest(self.code, self.settings, needs))

    def digest(self, code: Code, settings: str, needs: Iterable[str]) -> str:
        """Return the hash that the job has with other code and settings.

        Args:
            code: that does the work.
            settings: those that can change a result, as JSON.
            needs: hashes of the jobs whose results it reads.
        """
        # the JSON of these fields in the order of their names, put together here: a plan of ten
        # thousand jobs has the same few settings and sources in each
        text = (
            f'{{"base":{_json(self.base)},"entry":{_json(code.name)},"given":{_list(self.given)},'
            f'"images":{_json(self.images)},"kind":{_json(self.kind)},"model":{_json(self.model)},'
            f'"needs":{_list(sorted(needs))},"settings":{_encode_once(settings)},'
            f'"sources":{_encode_once(code.text)}'
        )
        text += f',"words":{_encode(self.words.record())}}}' if self.words else "}"
        return hashlib.sha256(text.encode()).hexdigest()


def _json(text: str | None) -> str:
    return "null" if text is None else encode_basestring_ascii(text)


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(map(encode_basestring_ascii, texts))}]"
