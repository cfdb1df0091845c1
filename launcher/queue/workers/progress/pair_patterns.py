"""The parts of a line of pairs, as patterns: names, values with their units and spreads, counters, titles, remarks."""

import re

from launcher.queue.workers.progress.number_texts import NUMBER


def _one_of(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


# a name: up to ten words, of which the later ones may be in brackets
_ABBREVIATIONS = r"(?:vs|Adj|adj|[Aa]vg|[Aa]ve|squ|[Aa]cc|[Vv]al|[Mm]in|[Mm]ax|No|[\w-]*Spec|Err)\."
_WORD = _one_of(r"(?!tensor\(|np\.)[^\W\d](?:[\w@/.'^*#+&-]*[\w*'+])?", _ABBREVIATIONS)
_BRACKETED = _one_of(
    r"\|\w{1,8}\|",  # max|u|
    r"\((?:[\w@ .%/+^,-]|\u2191|\u2193){1,28}\)",  # F1 (macro)
    r"\[[\w@.%/-]{1,16}\]",  # dice[1]
)
_INNER_NUMBER = _one_of(
    r"(?<=[Tt]op )\d{1,3}",  # Top 5 accuracy
    r"(?<=the )\d+",  # on the 10000 test images
    r"(?<=on )\d+",
    r"(?<=\b[A-Za-z] )\d{1,2}(?= ?[:=])",
)
_FIRST = _one_of(_WORD, r"\d+(?:-?[^\W\d]\w*)")
_LATER = _one_of(rf"{_WORD}(?:{_BRACKETED})?", _BRACKETED, "%", _INNER_NUMBER)
_NAME = rf"(?:{_FIRST}(?:{_BRACKETED})?%?)(?: (?:& )?{_LATER}){{0,9}}(?: ?[\u2191\u2193])?"
_BETWEEN = _one_of(
    r"\s*\.{2,}\s*:?\s*",  # dots that lead to the number
    r"\s*[:=\uff1a]\s*",
    r"\s*(?:-|->|=>|\u2192)\s+",
    r"\s+(?:is|equals|was|are)\s+",
    r"\s+",
)
# a value: as Python prints numbers, with a unit or a spread, and a mean or a remark in brackets
_OPEN = r"(?:np\.float\d*\(|np\.\w*int\d*\(|tensor\(|array\(|[\[(\"'`]{1,2})?"
_CLOSE = r"(?:, (?:device|dtype|grad_fn)=[^)]*\)|\.?[\])\"'`]{1,2})?"
_SHARE = r"(?:\d+\s?/\s?\d+ = )?"  # 407/500 = 81.4%
_UNIT_OF_TIME = _one_of(
    r"(?:ms|us|\u00b5s|ns|s|sec|secs|seconds?|min|mins|minutes?|h|hrs?|hours?|d|days?)(?:/\w+)?",
    r"(?:it|img|images?|samples?|tok|tokens?|steps?|ex|examples|batch(?:es)?|f|frames?)/s(?:ec)?",
    "fps|FPS|Hz",
)
_UNIT_OF_SIZE = _one_of(
    r"[kKMGTP]i?[Bb](?:/s)?|[KMGBT]|FLOPs|GFLOPs|GFLOPS|MiB|GiB|GF|px",
    "params|samples|images|examples|steps|epochs|rows|files|bytes|tokens|iterations|threads",
)
_UNIT = _one_of(
    rf"(?P<time> ?{_UNIT_OF_TIME}\b)",
    rf"(?P<size> ?{_UNIT_OF_SIZE}\b)",
    r" ?(?:dB|nats?|bits?|points?|pts|pp|BLEU|J|K|m?eV(?: ?/ ?\w+)*|kcal/mol|kJ/mol)\b",
)
_SPREAD = _one_of(
    rf" ?%? ?\(?(?:±|\+/-|\+-|\+\\-) ?(?P<spread>{NUMBER}) ?%?\)?",
    rf"\s*\((?:std|sd|\u03c3)[:= ]+(?P<std>{NUMBER})\)",
)
_MEAN = rf"\s*\(\s*(?P<mean>(?![+-]){NUMBER})\s*(?P<mean_share>%)?\s*\)"
_REMARK = r"\s*\((?!\s*(?:\+/-|\+-|±))[^()]{0,60}\)"
_END = r"(?![\w%/:@(-]|\.\w|,\d|\s(?:of|out of|von)\s\d)"  # no part of a date, version, address or formula follows
PAIR = re.compile(
    rf"(?P<name>{_NAME})(?P<between>{_BETWEEN}){_OPEN}{_SHARE}(?P<value>{NUMBER}){_CLOSE}"
    rf"(?P<share>\s?%(?!\w))?(?:{_SPREAD}|{_UNIT})?(?:{_one_of(_MEAN, rf'(?P<remark>{_REMARK})')})?(?:\s?[\u2191\u2193])?{_END}"
)

# counters
_OF = r"(?:/|of|von|out of|sur|de|из)"
_COUNTED = (
    r"(?:current |end of |finished |completed |eval |evaluating |train |training )?"
    + _one_of(
        "epochs?|epoche|époque|época|эпоха|steps?|global[_ ]?steps?|schritt|train_steps?|num_steps|env_step",
        "iter(?:ation|at)?s?|iters?|its?|ep|episode|update|round|batch|gen(?:eration)?|tick|durchlauf|nimg|kimg|t",
    )
)
COUNTER = re.compile(
    rf"[\[(]? ?(?P<unit>{_COUNTED})(?: ?[:=#.] ?#?| )?\s*[\[(#]?\s*(?P<step>\d{{1,15}})(?:\.0)?\s*[\])]?(?![\d.]*\d|[eE]-?\d|[a-z%])"
    rf"(?:\s*{_OF}\s*[\[(]?(?P<total>\d{{1,15}}))?\s*[\])]?(?:\s*\(\s*[\d.]+\s*%\s*\))?:?(?=[\s,;:|\[\])>-]|\Z)",
    re.IGNORECASE,
)
FRACTION = re.compile(
    r"[\[(]?\s*(?P<step>\d{1,15})\s*(?:/|\bof\b)\s*(?P<total>\d{1,15})\s*(?:\([\d. ]+%\))?[\])]?(?:\s+batches)?:?(?=[\s,;:|]|\Z)"
    r"|\u7b2c\s*(?P<cstep>\d+)\s*(?:/\s*(?P<ctotal>\d+)\s*)?[\u8f6e\u4ee3\u6b65]"
)
BARE_COUNT = re.compile(r"\s*(\d{1,12})\s*\|\s+(?=[A-Za-z])")  # 3500 | loss 1.25
PHASE_REMARK = re.compile(
    r"\s*\((train|val|valid|test|dev|eval)\w{0,6}(?: (?:set|split))?\)", re.IGNORECASE
)
OF_OTHERS = re.compile(  # remarks of numbers that the program did not compute: `acc: 0.95 (target)`
    r"\s*\([^()\d]*\b(?:target|goal|expected|baseline|reference|required|random|chance|paper|published|sota|previous)\b[^()\d]*\)",
    re.IGNORECASE,
)
BETWEEN_TWO = frozenset({"to", "or", "vs", "vs.", "versus", "until"})  # no names: `acc: 0.8 to 0.9`
ONE_MINUS = re.compile(
    r"\s*1(?:\.0*)? ?[-\u2212\u2013] ?[A-Za-z]"
)  # `1 - acc: 0.1` is an error rate
STEP_WORDS = re.compile(r" (?:at|in|after|for|on) ")
AT_STEP = re.compile(  # within a name: `Test MRR at step 99999: 0.337`
    r"(?<=[\w)]) (?:at|after|in|for|on) "
    r"(?:(?:global )?(?:step|epoch|iter(?:ation)?) (?P<step>\d{1,15})|\d{1,15} (?:iterations|epochs|steps))"
    r"(?:,? (?:with [a-z ]+|(?:iteration|step|batch) \d+))?(?=\s*[:=])"
)
EPOCHS = frozenset({"epoch", "epochs", "epoche", "époque", "época", "эпоха", "ep"})

# titles
_INSTANCES = "fold|seed|run|trial|split|repeat|rep|client|class|task|subject|model|domain|group|cluster|player|agent"
INSTANCE = re.compile(
    rf"(?P<title>(?i:{_INSTANCES})\s?[:=#_]?\s?\[?#?\d+(?:\s?(?:/|of)\s?\d+)?\]?)(?=[\s:,|)>-]|\Z)"
)
WORDS_BEFORE_COUNT = re.compile(  # `pretrain epoch 1/3`, `Testing at - 4096/4096 of epoch 0`
    r"(?P<title>[A-Za-z][a-z]+(?: [a-z]+){0,2}?) (?:- )?(?=(?:epoch|step|iter(?:ation)?|it) \d|\d+/\d+[ ,])"
)
TITLE = re.compile(
    r"(?P<title>[^\W_][\w .'/()#&+%@*-]{0,56}?)\s*(?::|->|=>|→|\||\s-{1,2}|\s—)\s*(?=[^\W\d_]|\d+-|\{|\[[A-Za-z])"
)
TITLE_STEP = re.compile(r"\s*@ ?\d+$")  # `eval @400`
BRACKETED_TITLE = re.compile(r"\[(?P<title>[A-Za-z][\w /-]{1,24})\]:?\s*")
PHASE_GROUP = re.compile(  # valid (NDCG@10: 0.53, HR@10: 0.75)
    r"(?P<title>train|valid|val|test|dev|eval)\w{0,6}\s*[(\[{]\s*(?=[A-Za-z@][\w@/.-]*\s*[:=]\s*[+-]?[\d.])",
    re.IGNORECASE,
)
OF_TITLE = re.compile(r"\s[a-z]{3,}: ")  # behind a number in a title: `using 10 episodes: `
OF_BEST = re.compile(r"\b(?:best|restor\w+|load\w*|resum\w+|checkpoint)\b", re.IGNORECASE)

# parts without a number that counts
_CLOCK = r"\d+:\d\d(?::\d\d)?(?:\.\d+)?s?|(?:\d+d ?)?\d+h ?\d+m(?: ?\d+s)?|\d+m ?\d+s"
_TIME_NAMES = "ETA|eta|elapsed|time|Time|Total time|total time|took|remaining|rem|Elapsed|Remaining"
_NOISE_ALTERNATIVES = (
    r"\d+(?:\.\d+)?%? \w{2,5} MFU",
    rf"\(?(?:\d+(?:\.\d+)?(?:{_UNIT_OF_TIME}|\s?{_UNIT_OF_TIME}\b)|{_CLOCK})\)?",
    rf"(?:{_TIME_NAMES})\s?[:=]?\s*(?:in )?(?:\d+ ?days?, ?)?[\d.:]+(?:e-?\d+)?\s?"
    r"(?:ms|s|m|h|sec|secs|seconds|min|minutes|hours)?(?:\s?\d+(?:\.\d+)?s)?(?:/\w+)?",
    r"\d+(?:\.\d+)?[kKMG]? ?%",
    r"\d[\d.,/]*\s?(?:tok|tokens|samples|images|img|it|ex|sec|s|steps|words|frames)/(?:s|sec|it|step|batch)\w*",
    r"(?:at|in|from|after|on|of|@) (?:epoch|step|iter\w*|round|trial|#)\s?[:#]?\s?\d+(?: of \d+)?",
    r"in #\d+",
    r"\([^()=:]{0,40}\)",
    r"\d{1,2}:\d\d",
    r"\*+|[\u2713\u2714\u2191\u2193\u2605\u2b50]|\.{2,3}",
    r"[Nn]ew best!?|NEW BEST!?|[Bb]est!?|[Ss]aved!?|saving(?: model)?(?: \.\.\.)?|improved|[Dd]one\.?|correct",
    r"[A-Za-z_]+:? ?\d+(?:/\d+)+(?=[;,\s])",  # bsz: 1311/1290/64
    r"\[\d+(?:\.\d+)? ?(?:s|ms|sec)\]|\[(?:stage|phase|part) \d+\]",
    r"total \d+[hms]\w*",
    r"\d+ (?:batches|samples|images|examples)",
    r"(?:head|phase|split|mode|stage|device|dataset|name|model|type|status)\s?[:=]\s?[A-Za-z][\w./-]*",
    r"Time Taken: \d+ sec|lr=\[[^\]]*\]|mom=\[[^\]]*\]",
)
NOISE = re.compile(rf"\s*{_one_of(*_NOISE_ALTERNATIVES)}(?=[\s,;|):\]]|\Z)")
BETWEEN_PARTS = re.compile(
    r"(?:[\s,;)}\]|•·>*→─━\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\ufe0f\U0001f300-\U0001faff]|\.(?=\s)|\[(?=[A-Za-z][\w ./-]*[:=] ?[-+\d.])|-{1,3}(?=[\s|])|=+>|-+>|\band\b|\[\]|:(?=\s))+"
)
REMARK = re.compile(  # a sentence behind the pairs of a line
    r"\s*(?:<?-{1,3}>?|\*+|!+|[|\[(@>,;])*\s*"
    r"(?:(?i:(?:new )?best|saved|saving|save|improved|patience|no improvement|early|stopp\w+|checkpoint|ckpt|over|ci|model|lr|to|at|with|thr\w*)\b|\d{2}% ?CI|\[?\d)"
)
RESULT_PAIR = re.compile(r"([^\W\d][\w/@.-]{0,40})\s?[=: ]\s?[-+]?\.?\d")
NOTHING = re.compile(r"[\s.,;:|)\]!*=>#-]*\Z")
DIGIT = re.compile(r"\d|nan|NaN|inf|Inf")
WRAPPED_NAME = re.compile(r"[^\W\d][\w/-]*(?: [\w/-]+){0,2}")
WIDE_NAME = re.compile(r"(?<=[A-Za-z])  (?=[A-Za-z][\w ]*[:=])")  # `Force  MAE   : 0.1`
LEADERS = re.compile(r"(?<=[a-z])\.{4,}(?=[a-z])")
ARTICLE = re.compile(r"\A(?:The|the|Our|our|Its|its) ")
VERB = re.compile(r" (?:is|was|equals|are|of|at|reached|=)$")
BLANKS = re.compile(r"\s+")

# first characters; most parts of a line begin with none of them, and are not matched in vain
COUNTER_STARTS = frozenset("[( abcdefgiknrstuéэABCDEFGIKNRSTUÉЭ")
INSTANCE_STARTS = frozenset("fsrtcmdgpaFSRTCMDGPA")
NOISE_STARTS = frozenset("eEtTrRaAioOfF@0123456789(hpsmdnHPSMDNcI")
