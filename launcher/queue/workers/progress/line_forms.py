"""The lines of known tools: each form is a row of a table, with an example and the place where it comes from.

All names of such a line are results, except those of settings, times and sizes. A form reads a whole line; a line that
it does not understand completely gives no numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

from launcher.queue.workers.progress.line_content import FormLine, compile_pattern, number
from launcher.queue.workers.progress.number_texts import NUMBER, SHAPES, remember
from launcher.queue.workers.progress.pair_lines import EPOCH, read_pairs
from launcher.queue.workers.progress.record_lines import (
    read_dictionary,
    read_json_line,
    read_pair_list,
)
from launcher.queue.workers.progress.steps import STEP


class Form(NamedTuple):
    """A form of lines."""

    name: str
    mark: str  # text that each of these lines contains
    example: str
    source: str  # tool and file that print lines of the form
    read: Callable[[str], FormLine | None]


# Keras


def _keras(line: str) -> FormLine | None:
    head = compile_pattern(
        r"\s*(?P<step>\d+)/(?P<total>\d+|[Uu]nknown)(?: (?P<bar>[━\u2578\u257a]+|\[[=>.]+\]))?(?P<rest>[\s-].*)"
    ).fullmatch(line)
    if head is None or " - " not in head["rest"]:
        return None
    found = {}
    time_item = compile_pattern(
        r"(?:ETA: )?[\d.:]+(?:us|ms|s|m|h)?(?: ?[\d.]+(?:us|ms|s)/(?:step|epoch|sample))?|[\d.]+(?:us|ms|s)/\w+"
    )
    for part in head["rest"].split(" - "):
        part = part.strip(" -")
        if not part or time_item.fullmatch(part):
            continue
        pair = compile_pattern(rf"([A-Za-z_][\w@/.-]*): ({NUMBER})\s*").fullmatch(part)
        if pair is None:
            return None
        found[pair[1]] = number(pair[2])
    if not found:
        return None
    if head["bar"] is None or not head["total"].isdigit():  # an epoch in one line counts nothing
        return FormLine(tuple(found.items()))
    return FormLine(tuple(found.items()), int(head["step"]), int(head["total"]))


# loops in the manner of torchvision, timm and the example of ImageNet

_METER = rf"(?P<name>[^\W\d][\w@/.]*(?: [a-z]+)?):?\s+(?P<value>{NUMBER})(?:s|ms|MB|M|G|GB)?(?:,\s*[\d.]+/s)?(?:\s*\(\s*(?P<mean>{NUMBER})s?(?:,\s*[\d.]+/s)?\s*\))?"
_METER_END = r"(?=\s|$|,|;)"


def _meters(line: str) -> FormLine | None:
    head = compile_pattern(
        r"\s*(?P<title>[A-Za-z_]\w*)?(?:\((?P<phase>\w+)\))?:?\s*(?:\[?(?P<epoch>\d+)(?:/(?P<epochs>\d+))?\]?)?:?\s*\[\s*(?P<step>\d+)/\s*(?P<total>\d+)[^\]]*\]:?"
    ).match(line)
    if head is None:
        return None
    rest = line[head.end() :]
    meter = compile_pattern(rf"\s*[,;|]?\s*(?:eta:? ?(?:\d+ days?, )?[\d:]+|{_METER}{_METER_END})")
    place, found, with_mean = 0, {}, False
    while match := meter.match(rest, place):
        if match["name"]:
            found[match["name"]] = number(match["mean"] or match["value"])
            with_mean = with_mean or match["mean"] is not None
        place = match.end()
    if rest[place:].strip(" \t,;") or not found:
        return None
    title = head["phase"] or head["title"] or ""
    is_epoch = title.lower() in {EPOCH, "iter", "ep", "step", ""}
    is_eval = title.lower().startswith(("test", "val", "eval"))
    if not with_mean and not head["phase"]:
        return None
    title = "train" if is_epoch else title
    numbers = tuple(found.items())
    place_of = int(head["step"]), int(head["total"])
    if is_eval:
        return FormLine(numbers, title=title, is_batch=not head["phase"], eval_step=place_of)
    if head["epoch"] is not None:
        epochs = int(head["epochs"]) if head["epochs"] else None
        return FormLine(
            numbers, int(head["epoch"]), epochs, EPOCH, title, is_batch=not head["phase"],
            batch=place_of,
        )  # fmt: skip
    return FormLine(
        numbers, int(head["step"]), int(head["total"]), STEP, title, is_batch=not head["phase"]
    )


def _star(line: str) -> FormLine | None:
    star = compile_pattern(
        rf"\s*\*+((?:\s+[^\W\d][\w@/.]*:? {NUMBER}%?(?:\s*\({NUMBER}\))?)+)(?:\s+\(?.*\)?)?"
    ).fullmatch(line)
    if star is None:
        return None
    pairs = compile_pattern(rf"([^\W\d][\w@/.]*):? ({NUMBER})").findall(star[1])
    return FormLine(tuple((name, number(value)) for name, value in pairs), is_mean=True)


def _parse_averaged(line: str) -> FormLine | None:
    match = compile_pattern(rf"Averaged stats:(?P<rest>(?:\s+{_METER}{_METER_END})+)\s*").fullmatch(
        line
    )
    if match is None:
        return None
    found = {
        item["name"]: number(item["mean"] or item["value"])
        for item in compile_pattern(_METER + _METER_END).finditer(match["rest"])
    }
    return FormLine(tuple(found.items()), is_mean=True)


def _epoch_counts(line: str) -> FormLine | None:
    train = compile_pattern(
        rf"(?P<title>\w* ?)[Ee]poch:? (?P<epoch>\d+) \[\d+/\d+ \(\s*{NUMBER}%\)\](?P<rest>(?:\s+[^\W\d][\w ]*: {NUMBER})+)"
    ).fullmatch(line.strip())
    if train is None:
        return None
    pairs = compile_pattern(rf"([^\W\d][\w ]*): ({NUMBER})").findall(train["rest"])
    numbers = tuple((name.strip(), number(value)) for name, value in pairs)
    return FormLine(numbers, int(train["epoch"]), None, EPOCH, "Train")


def _counted_shares(line: str) -> FormLine | None:
    share = (
        r"(?P<name>[^\W\d][\w -]*):? (?P<right>\d+)/(?P<all>\d+) "
        rf"\(\s*(?P<percent>{NUMBER}) ?%\)"
    )
    match = compile_pattern(share).search(line)
    if match is None or int(match["all"]) == 0 or line[match.end() :].strip(" ."):
        return None
    before = line[: match.start()].strip(" ,;|-")
    title, numbers = "", []
    if before:
        found = read_pairs(before.rstrip(":"))
        if found is not None:
            title, numbers = found.title, [(pair.name, pair.value) for pair in found.pairs]
        elif before.endswith(":") and len(before) < 40:
            title = before[:-1]
        else:
            return None
    numbers.append((match["name"].strip(), int(match["right"]) / int(match["all"])))
    return FormLine(tuple(numbers), title=title, is_known=False)


def _boosting(line: str) -> FormLine | None:
    match = compile_pattern(r"(?:\[(?P<a>\d+)\]|(?P<b>\d+):)\s+(?P<rest>.+)").fullmatch(
        line.strip()
    )
    if match is None:
        return None
    pair = compile_pattern(rf"([^\W\d][\w@'. +#*-]*): ?({NUMBER})(?:\s?[+±] ?{NUMBER}| \(\d+\))?")
    found = {}
    for part in compile_pattern(r"\t+|\s{2,}").split(match["rest"].strip()):
        item = pair.fullmatch(part.strip())
        if item is not None:
            if item[1] not in {"total", "remaining", "learning_rate"}:
                found[item[1]] = number(item[2])
        elif not compile_pattern(
            r"(?:total|remaining|[\w ]+): ?[\d.]+(?:us|ms|s|m|h)(?: \d+\w+)*"
        ).fullmatch(part.strip()):
            return None
    return FormLine(tuple(found.items()), int(match["a"] or match["b"])) if found else None


def _fairseq(line: str) -> FormLine | None:
    match = compile_pattern(
        r"(?P<title>train|valid|test|train_inner|dev)\w* ?\| epoch (?P<epoch>\d+)(?: ?:\s*(?P<step>\d+) ?/ ?(?P<total>\d+) | \| )(?P<rest>.+)"
    ).fullmatch(line.strip())
    if match is None:
        return None
    found = {
        name: number(value)
        for name, value in compile_pattern(
            rf"(?:^|[|,] ?)([a-zA-Z]\w*)[ =]({NUMBER})(?=$|[ ,|])"
        ).findall(match["rest"])
    }
    for name in (
        "wps",
        "ups",
        "wpb",
        "bsz",
        "num_updates",
        "gnorm",
        "train_wall",
        "wall",
        "gb_free",
        "clip",
        "lr",
        "loss_scale",
    ):
        found.pop(name, None)
    title = "train_inner" if match["step"] else match["title"]
    return FormLine(
        tuple(found.items()), int(match["epoch"]), None, EPOCH, title.replace("train_inner", "train"),
        is_batch=match["step"] is not None, is_mean=match["step"] is None,
        batch=(int(match["step"]), int(match["total"])) if match["step"] else None,
    )  # fmt: skip


def _gan(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\[\s*(?P<epoch>\d+)/(?P<epochs>\d+)\]\s*\[\s*(?P<step>\d+)/(?P<total>\d+)\]:?(?P<rest>(?:[\s,|]+[A-Za-z][\w()]*:? ?=? ?{NUMBER}(?: / {NUMBER})?)+)\s*"
    ).fullmatch(line.strip())
    if match is None:
        return None
    pairs = compile_pattern(rf"([A-Za-z][\w()]*):? ?=? ?({NUMBER})(?: / ({NUMBER}))?").findall(
        match["rest"]
    )
    numbers = [(name, number(value)) for name, value, second in pairs]
    batch = int(match["step"]), int(match["total"])
    return FormLine(tuple(numbers), int(match["epoch"]), int(match["epochs"]), EPOCH, batch=batch)


def _brackets(line: str) -> FormLine | None:
    match = compile_pattern(
        r"\(epoch: (?P<epoch>\d+), iters: (?P<step>\d+), time: [\d.]+(?:, data: [\d.]+)?\)(?P<rest>.+)"
    ).fullmatch(line.strip())
    if match is None:
        return None
    found = read_pairs(match["rest"].replace(",", ""))
    if found is None:
        return None
    numbers = tuple((pair.name, pair.value) for pair in found.pairs)
    return FormLine(numbers, int(match["epoch"]), None, EPOCH)


def _coco(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\s*(?P<name>Average (?:Precision|Recall)\s+\(A[PR]\) @\[.*\]) = (?P<value>{NUMBER})"
    ).fullmatch(line)
    if match is None:
        return None
    if number(match["value"]) == -1:  # -1: no object of this size
        return FormLine()
    name = compile_pattern(r"\s+").sub(" ", match["name"]).replace("= ", "=")
    if match["name"].count("area=   all") == 0 or "(AR)" in name:
        return FormLine(((name, number(match["value"])),))
    short = compile_pattern(
        r"Average (?:Precision|Recall)\s+\((A[PR])\) @\[ IoU=([\d.:]+)\s+\| area=\s*(\w+) \| maxDets=\s*(\d+) \]"
    ).fullmatch(match["name"].strip())
    if short is None:
        return FormLine(((name, number(match["value"])),))
    kind, overlap = short.group(1, 2)
    place = "" if ":" in overlap else overlap.split(".")[1].ljust(2, "0")
    return FormLine(((kind + place, number(match["value"])),))


def _espnet(line: str) -> FormLine | None:
    match = compile_pattern(r"(?P<epoch>\d+)epoch results: (?P<rest>\[train\].*)").fullmatch(
        line.strip()
    )
    if match is None:
        return None
    numbers = []
    for title, text in compile_pattern(r"\[(\w+)\] ([^\[]*)").findall(match["rest"]):
        if title in {"train", "valid", "test"}:
            numbers += [
                (f"{title} {name}", number(value))
                for name, value in compile_pattern(rf"(\w+)=({NUMBER})(?=,|$| )").findall(text)
            ]
    return FormLine(tuple(numbers), int(match["epoch"]), None, EPOCH)


def _tutorial(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\[\s*(?P<epoch>\d+),\s*(?P<step>\d+)\] (?P<name>[A-Za-z]\w*): (?P<value>{NUMBER})"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine(((match["name"], number(match["value"])),), int(match["step"]))


def _accuracy_of(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?P<name>Accuracy (?:of the (?:network|model)\b[^:=]*|for class: (?P<class>[\w ]+?)\s+is|of\s+(?P<other>[\w ]+?)\s*))\s?[:=]? *(?P<value>{NUMBER}) ?%"
    ).fullmatch(line.strip())
    if match is None:
        return None
    name = compile_pattern(r"\s+").sub(" ", match["name"]).removesuffix(" is")
    return FormLine(((name, number(match["value"])),))


def _epoch_reached(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"Epoch (?P<epoch>\d+), global step (?P<step>\d+): '(?P<name>[^']+)' reached (?P<value>{NUMBER}) \(best (?P<best>{NUMBER})\).*"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine(((match["name"], number(match["value"])),), int(match["step"]))


def _ultra_speed(line: str) -> FormLine | None:
    return FormLine() if compile_pattern(r"Speed: [\d.]+ms .*").fullmatch(line.strip()) else None


def _optuna(line: str) -> FormLine | None:
    best = compile_pattern(
        rf".*Best is trial (?P<trial>\d+) with value: (?P<value>{NUMBER})\.?"
    ).fullmatch(line)
    if best is None:
        return None
    return FormLine((("best value", number(best["value"])),))


def _r_print(line: str) -> FormLine | None:
    match = compile_pattern(r'\[1\] "(?P<text>[^"]+)"').fullmatch(line.strip())
    if match is None or (found := read_pairs(match["text"])) is None:
        return None
    numbers = tuple((pair.name, pair.value) for pair in found.pairs)
    return FormLine(numbers, found.step, found.total, found.unit, found.title, is_known=False)


def _r_fit(line: str) -> FormLine | None:
    for pattern in (
        rf"(?P<a>Residual standard error): (?P<x>{NUMBER}) on \d+ degrees of freedom",
        rf"(?P<a>Multiple R-squared):\s+(?P<x>{NUMBER}),\s+(?P<b>Adjusted R-squared):\s+(?P<y>{NUMBER})\s*",
        rf"(?P<a>F-statistic):\s+(?P<x>{NUMBER}) on \d+ and \d+ DF,\s+(?P<b>p-value): <?\s?(?P<y>{NUMBER})",
        rf"(?P<a>AIC): (?P<x>{NUMBER})",
    ):
        if match := compile_pattern(pattern).fullmatch(line.strip()):
            groups = match.groupdict()
            numbers = [(match["a"], number(match["x"]))]
            if groups.get("b"):
                numbers.append((groups["b"], number(groups["y"])))
            return FormLine(tuple(numbers))
    return None


def _statsmodels(line: str) -> FormLine | None:
    item = rf"(?P<name>(?:Adj\. |Pseudo )?R-squ(?:ared|\.)(?: \(uncentered\))?|F-statistic|Prob \(F-statistic\)|Log[- ]Likelihood|HQIC|LL-Null|LLR p-value|AIC|BIC|Durbin-Watson|No\. Observations|Df Residuals|Df Model):? +(?P<value>{NUMBER})"
    found = compile_pattern(rf"(?<!\S){item}(?=\s{{2,}}|\s*$)").findall(line)
    if not found or not compile_pattern(r"\S.*(?::\s+\S+|\s{8,}\S+$)").match(line.strip()):
        return None
    numbers = tuple(
        (name, number(value))
        for name, value in found
        if not name.startswith(("No.", "Df", "Durbin"))
    )
    return FormLine(numbers)


def _alignment(line: str) -> FormLine | None:
    match = compile_pattern(rf"(?P<value>{NUMBER})% (?P<name>overall alignment rate)").fullmatch(
        line.strip()
    )
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _star_log(line: str) -> FormLine | None:
    match = compile_pattern(rf"\s+(?P<name>[^|]+?) \|\t(?P<value>{NUMBER})%?").fullmatch(line)
    if match is None:
        return None
    name = match["name"].strip()
    if "%" not in name:  # counts and lengths
        return FormLine()
    return FormLine(((name, number(match["value"])),))


def _kaldi(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?:\[(?P<title>[\w.-]+)\] )?%(?P<name>[WCSP]ER) (?P<value>{NUMBER})%? \[ ?\d+ ?/ ?\d+[, ].*\].*"
    ).fullmatch(line.strip())
    return (
        None
        if match is None
        else FormLine(((f"%{match['name']}", number(match["value"])),), title=match["title"] or "")
    )


def _scipy(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\s*(?:(?P<name>fun): (?P<value>{NUMBER})|(?P<other>success|status|nit|nfev|njev|nhev|cost|optimality): \S+|differential_evolution step (?P<step>\d+): f\(x\)= ?(?P<f>{NUMBER})|Iterations:? *\d+|(?:Function|Gradient|Hessian) evaluations: *\d+)"
    ).fullmatch(line)
    if match is None:
        return None
    if match["step"]:
        return FormLine((), int(match["step"]))
    return FormLine(((match["name"], number(match["value"])),) if match["name"] else ())


def _current_value(line: str) -> FormLine | None:
    match = compile_pattern(rf"\s*(Current function value): (?P<value>{NUMBER})").fullmatch(line)
    return (
        None if match is None else FormLine((("Current function value", number(match["value"])),))
    )


def _two_of_one(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?:\[?[Ss]tep\s+(?P<step>\d+)\]?\.?:? ?)?(?P<a>[A-Za-z]+) ?/ ?(?P<b>[A-Za-z]+) (?P<name>[a-z][\w ]*): (?P<x>{NUMBER}) ?/ ?(?P<y>{NUMBER})\.?"
    ).fullmatch(line.strip())
    if match is None:
        return None
    numbers = (
        (f"{match['a']} {match['name']}", number(match["x"])),
        (f"{match['b']} {match['name']}", number(match["y"])),
    )
    return FormLine(numbers, int(match["step"]) if match["step"] else None, is_known=False)


def _megatron(line: str) -> FormLine | None:
    match = compile_pattern(
        r"-*\s*validation loss at (?:iteration|the end of training for \w+ data|end)\s*\d*(?: on (?P<title>\w+) set)?\s*\|(?P<rest>.+)"
    ).fullmatch(line.strip())
    if match is None or (found := read_pairs(match["rest"])) is None:
        return None
    numbers = tuple((pair.name, pair.value) for pair in found.pairs)
    return FormLine(numbers, title=match["title"] or "validation")


def _ignite(line: str) -> FormLine | None:
    match = compile_pattern(
        r"(?:Epoch (?P<unit>\[\d+/\d+\])?:? ?)?\[(?P<step>\d+)/(?P<total>\d+)\]\s+\d+%\|[^|,\[]*\|?\s*(?P<rest>,.*?)?\s*\[[\d:?]+<.*\]"
    ).fullmatch(line.strip())
    if match is None:
        return None
    found = read_pairs(match["rest"].strip(" ,")) if match["rest"] else None
    numbers = tuple((pair.name, pair.value) for pair in found.pairs) if found else ()
    return FormLine(numbers, int(match["step"]), int(match["total"]))


def _espnet_batches(line: str) -> FormLine | None:
    match = compile_pattern(r"(?P<epoch>\d+)epoch:(?P<title>\w+):\d+-\d+batch: .*").fullmatch(
        line.strip()
    )
    return None if match is None else FormLine((), int(match["epoch"]), None, EPOCH)


def _gurobi(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"Best objective (?P<x>{NUMBER}), best bound (?P<y>{NUMBER}), gap (?P<z>{NUMBER})%"
    ).fullmatch(line.strip())
    if match is None:
        return None
    names = ("Best objective", "best bound", "gap")
    return FormLine(tuple(zip(names, map(number, match.group("x", "y", "z")), strict=True)))


def _ipopt(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?P<name>Objective|Dual infeasibility|Constraint violation|Complementarity|Overall NLP error)\.*: +{NUMBER} +(?P<value>{NUMBER})"
    ).fullmatch(line.strip())
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _ipopt_row(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\s*(?P<step>\d+)r?\s+{NUMBER} {NUMBER} {NUMBER}\s+{NUMBER} {NUMBER}\s+(?:-|{NUMBER})\s+{NUMBER} {NUMBER}\w?\s+\d+"
    ).fullmatch(line)
    return None if match is None else FormLine((), int(match["step"]))


def _autogluon(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\t+(?P<value>{NUMBER})s?\s+= (?P<name>\w+\s+\w+)(?:\s+\((?P<metric>[\w-]+)\))?"
    ).fullmatch(line)
    return None if match is None else FormLine()  # a line about one model among others


def _pycma(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"final/bestever f-value = (?P<x>{NUMBER}) (?P<y>{NUMBER}).*"
    ).fullmatch(line.strip())
    return None if match is None else FormLine((("bestever f-value", number(match["y"])),))


def _darknet(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\s*(?P<step>\d+): (?:(?P<loss>{NUMBER}), (?P<avg>{NUMBER}) avg(?: loss)?, .*|top 1: (?P<top1>{NUMBER}), top (?P<k>\d+): (?P<topk>{NUMBER}), .*)"
    ).fullmatch(line)
    if match is None:
        return None
    if match["avg"]:
        numbers = [("loss", number(match["loss"])), ("avg", number(match["avg"]))]
    else:
        numbers = [("top 1", number(match["top1"])), (f"top {match['k']}", number(match["topk"]))]
    return FormLine(tuple(numbers), int(match["step"]))


def _espresso(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"!?\s+(?P<name>total energy|highest occupied level \(ev\)|Fermi energy)\s*(?:=|:|is)\s*(?P<value>{NUMBER})(?: Ry| ev)?"
    ).fullmatch(line)
    if match is None or ("total energy" in line and not line.startswith("!")):
        return None
    return FormLine(((match["name"], number(match["value"])),))


def _sacrebleu(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?:.*[ |])?(?P<name>BLEU4?|chrF\d?\+{{0,2}}|TER)(?:[|+]\S+ = (?P<value>{NUMBER})(?: .*)?| = (?P<other>{NUMBER}),? [\d./]+ \(BP.*)"
    ).fullmatch(line)
    if match is None:
        return None
    return FormLine(((match["name"], number(match["value"] or match["other"])),))


def _trec_eval(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?P<name>[a-zA-Z]\w*)(?: *\t ?| {{2,}})all(?:\t| {{2,}})(?P<value>{NUMBER})"
    ).fullmatch(line.strip())
    if match is None:
        return None
    if match["name"].startswith("num_"):
        return FormLine()
    return FormLine(((match["name"], number(match["value"])),))


def _flagstat(line: str) -> FormLine | None:
    match = compile_pattern(
        r"\d+ \+ \d+ (?P<name>[a-z][a-z0-9 ]*?)(?: \((?P<value>[\d.]+)% : \S+\))?(?: \(mapQ.*\))?"
    ).fullmatch(line)
    if match is None:
        return None
    return FormLine(((match["name"], number(match["value"])),) if match["value"] else ())


def _percent_bar(line: str) -> FormLine | None:
    match = compile_pattern(
        r".*?\d{1,3}% ?\|[^|\d]*\|?\s*(?P<step>\d+)/(?P<total>\d+) \[[^\]]*\]?.*"
    ).fullmatch(line)
    if match is None or "/s" in line or "s/" in line:
        return None
    return FormLine((), int(match["step"]), int(match["total"]))


def _parse_completed(line: str) -> FormLine | None:
    match = compile_pattern(
        r"\s*completed\s+(?P<step>\d+)\s+/\s+(?P<total>\d+)\s+epochs"
    ).fullmatch(line)
    return None if match is None else FormLine((), int(match["step"]), int(match["total"]), EPOCH)


def _basicsr(line: str) -> FormLine | None:
    match = compile_pattern(
        r"(?:\[[^\]]*\])?\[epoch: *(?P<epoch>\d+), iter: *(?P<iter>[\d,]+), lr:\([^)]*\)\] (?:\[[^\]]*\] )?(?P<rest>.*)"
    ).fullmatch(line.strip())
    if match is not None:
        found = compile_pattern(rf"([a-zA-Z]\w*): ({NUMBER})").findall(match["rest"])
        step = int(match["iter"].replace(",", ""))
        return FormLine(tuple((name, number(value)) for name, value in found), step)
    match = compile_pattern(
        rf"\t # (?P<name>\w+): (?P<value>{NUMBER})(?:\tBest: {NUMBER} @ \d+ iter)?"
    ).fullmatch(line)
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _wenet(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?P<name>\w+)(?: ->|:) (?P<value>{NUMBER}) % N=\d+ C=\d+ S=\d+ D=\d+ I=\d+"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine(
        (("Overall WER", number(match["value"])),) if match["name"] == "Overall" else ()
    )


def _rouge(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\S+ (?P<name>ROUGE-\S+ Average_[RPF]): (?P<value>{NUMBER}) \(95%-conf\.int\. .*\)"
    ).fullmatch(line.strip())
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _cmc(line: str) -> FormLine | None:
    match = compile_pattern(rf"(?P<name>CMC curve, Rank-\d+) *: *(?P<value>{NUMBER})%?").fullmatch(
        line.strip()
    )
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _ml_agents(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?P<title>\S.*)\. Step: (?P<step>\d+)\. Time Elapsed: [\d.]+ s\. Mean Reward: (?P<value>{NUMBER})\. Std of Reward: .*"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine(
        (("Mean Reward", number(match["value"])),), int(match["step"]), title=match["title"]
    )


def _soft_actor(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\| (?P<title>train|eval) +\| E: (?P<episode>\d+) \| S: (?P<step>\d+) \| R: (?P<value>{NUMBER})(?: \|.*)?"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine(((f"{match['title']} R", number(match["value"])),), int(match["step"]))


def _fasttext(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\s*Progress: +(?P<percent>[\d.]+)% words/sec/thread: +\d+ lr: +{NUMBER} (?:avg\.)?loss: +(?P<value>{NUMBER}) ETA: .*"
    ).fullmatch(line)
    if match is None:
        return None
    name = "avg.loss" if "avg.loss" in line else "loss"
    return FormLine(((name, number(match["value"])),), int(float(match["percent"])), 100)


def _at_k(line: str) -> FormLine | None:
    match = compile_pattern(rf"(?P<name>[PR]@\d+)\t(?P<value>{NUMBER})").fullmatch(line)
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _step_bar(line: str) -> FormLine | None:
    match = compile_pattern(
        r"\s*\[[=>.]+\]\s+(?:Step: \S+ \| Tot: \S+ \| )?(?P<rest>.+?)\s+(?P<step>\d+)/(?P<total>\d+)\s*"
    ).fullmatch(line)
    if match is None or (found := read_pairs(match["rest"])) is None:
        return None
    numbers = tuple((pair.name, pair.value) for pair in found.pairs)
    return FormLine(numbers, int(match["step"]), int(match["total"]))


def _parallel(line: str) -> FormLine | None:
    match = compile_pattern(
        r"\[Parallel\(n_jobs=-?\d+\)\]: Done +(?P<step>\d+) (?:out of +(?P<total>\d+)|tasks|jobs).*"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine((), int(match["step"]), int(match["total"]) if match["total"] else None)


def _steps_done(line: str) -> FormLine | None:
    match = compile_pattern(r"(?P<step>\d+) of (?P<total>\d+) steps \(\d+%\) done").fullmatch(
        line.strip()
    )
    return None if match is None else FormLine((), int(match["step"]), int(match["total"]))


def _cv_end(line: str) -> FormLine | None:
    return FormLine() if line.startswith("[CV") else None


def _tests_done(line: str) -> FormLine | None:
    return (
        FormLine()
        if compile_pattern(r".* (?:PASSED|FAILED|ERROR|SKIPPED|XFAIL) +\[ *\d+%\]").fullmatch(line)
        else None
    )


def _marian(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?:\[(?P<title>\w+)\] )?Ep\. \d+ : Up\. (?P<step>[\d,]+) : (?:(?P<name>[\w-]+) : (?P<value>{NUMBER}) : .*|.*Cost (?P<cost>{NUMBER}) .*)"
    ).fullmatch(line.strip())
    if match is None:
        return None
    name, value = (match["name"], match["value"]) if match["name"] else ("Cost", match["cost"])
    step = int(match["step"].replace(",", ""))
    return FormLine(((name, number(value)),), step, title=match["title"] or "")


def _mmdet2(line: str) -> FormLine | None:
    text = compile_pattern(r",? ?\w+_copypaste: .*").sub("", line.strip())
    head = compile_pattern(r"Epoch\((?P<title>\w+)\) \[(?P<epoch>\d+)\]\[\d+\]\s+").match(text)
    if head is None:
        return None
    numbers = []
    for part in text[head.end() :].split(", "):
        pair = compile_pattern(rf"([a-zA-Z]\w*): ({NUMBER})").fullmatch(part.strip())
        if pair is None:
            return None
        numbers.append((pair[1], number(pair[2])))
    return FormLine(tuple(numbers), int(head["epoch"]), unit=EPOCH, title=head["title"])


def _arcface(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?:.* \S*-)?\[(?P<title>\w+)\]\[(?P<step>\d+)\](?P<name>[A-Z][\w-]*): (?P<value>{NUMBER})(?:\+-{NUMBER})?"
    ).fullmatch(line.strip())
    if match is None:
        return None
    numbers = ((f"{match['title']} {match['name']}", number(match["value"])),)
    return FormLine(numbers, int(match["step"]))


def _name_step_value(line: str) -> FormLine | None:
    match = compile_pattern(
        r"(?P<name>(?:Train|Validation|Valid|Val|Test) loss) (?P<step>\d+):? +(?P<value>\d*\.\d+(?:e-?\d+)?)(?: .*)?"
    ).fullmatch(line.strip())
    if match is None:
        return None
    return FormLine(((match["name"], number(match["value"])),), int(match["step"]))


def _episodes_accuracy(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"\d+ (?P<name>(?:Test|Val) Acc) = (?P<value>{NUMBER})% \+- {NUMBER}%"
    ).fullmatch(line.strip())
    return None if match is None else FormLine(((match["name"], number(match["value"])),))


def _speaker(line: str) -> FormLine | None:
    match = compile_pattern(
        rf"(?P<epoch>\d+) epoch, ACC (?P<acc>{NUMBER})%, EER (?P<eer>{NUMBER})%, bestEER (?P<best>{NUMBER})%"
    ).fullmatch(line.strip())
    if match is None:
        return None
    names = ("ACC", "EER", "bestEER")
    values = map(number, match.group("acc", "eer", "best"))
    return FormLine(tuple(zip(names, values, strict=True)), int(match["epoch"]), unit=EPOCH)


def _settings_line(line: str) -> FormLine | None:
    """A representation of an object: `Namespace(lr=0.1)`, `(1): BatchNorm2d(16, eps=1e-05)`."""
    return (
        FormLine()
        if compile_pattern(r"(?:\([\w.-]+\): )?[A-Z]\w*\(.*\)?,?").fullmatch(line.strip())
        else None
    )


FORMS: tuple[Form, ...] = (
    Form("dictionary", "{'", "{'eval_loss': 0.31, 'eval_accuracy': 0.88, 'epoch': 1.0}", "transformers, trainer_callback.py; Lightning 1", read_dictionary),
    Form("pairs in a list", "[('", "test result: OrderedDict([('ndcg@10', 0.21)])", "RecBole, quick_start.py", read_pair_list),
    Form("JSON line", '{"', '{"step": 100, "loss": 0.25, "val": {"acc": 0.9}}', "JSON lines of any program", read_json_line),
    Form("Keras", "/", "938/938 ━━━━ 5s 5ms/step - accuracy: 0.96 - val_loss: 0.10", "keras, utils/progbar.py", _keras),
    Form("meters", "[", "Test: [ 10/48]  Loss: 0.812 (1.021)  Acc@1: 81.2 (76.5)", "torchvision, timm, examples of PyTorch, mmengine", _meters),
    Form("line of means", "*", " * Acc@1 76.512 Acc@5 93.102", "torchvision, timm, examples of PyTorch", _star),
    Form("averaged stats", "Averaged stats", "Averaged stats: loss: 2.1911 (2.1910)", "DeiT, MAE, DINO, main_*.py", _parse_averaged),
    Form("examples of PyTorch", "%)]", "Train Epoch: 2 [40000/60000 (67%)]\tLoss: 0.12", "pytorch/examples, mnist/main.py", _epoch_counts),
    Form("counted share", "/", "Test set: Average loss: 0.1, Accuracy: 9600/10000 (96%)", "pytorch/examples, mnist/main.py", _counted_shares),
    Form("boosting", ":", "[10]\tvalid-auc:0.93", "XGBoost, LightGBM, CatBoost", _boosting),
    Form("fairseq", "| epoch ", "valid | epoch 001 | valid on 'valid' subset | loss 5.6 | ppl 29.86", "fairseq, logging/progress_bar.py", _fairseq),
    Form("GAN of PyTorch's examples", "][", "[0/2][15/16] Loss_D: 0.88 Loss_G: 5.44 D(x): 0.81 D(G(z)): 0.31 / 0.01", "pytorch/examples, dcgan/main.py", _gan),
    Form("CycleGAN", "(epoch:", "(epoch: 1, iters: 100, time: 0.251, data: 0.003) D_A: 0.280 G_A: 0.420", "pytorch-CycleGAN-and-pix2pix, util/visualizer.py", _brackets),
    Form("COCO", "@[", " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.683", "pycocotools, cocoeval.py", _coco),
    Form("ESPnet", "epoch results:", "2epoch results: [train] loss=40.1, [valid] acc=0.781", "ESPnet2, train/reporter.py", _espnet),
    Form("tutorial of PyTorch", "[", "[1,  2000] loss: 1.575", "PyTorch tutorials, cifar10_tutorial.py", _tutorial),
    Form("accuracy of the network", "Accuracy ", "Accuracy of the network on the 10000 test images: 55 %", "PyTorch tutorials, cifar10_tutorial.py", _accuracy_of),
    Form("Lightning's checkpoint", " reached ", "Epoch 1, global step 60: 'val_wer' reached 0.51042 (best 0.51042), saving model", "Lightning, callbacks/model_checkpoint.py", _epoch_reached),
    Form("speed of ultralytics", "Speed:", "Speed: 0.2ms preprocess, 1.3ms inference", "ultralytics, engine/validator.py", _ultra_speed),
    Form("Megatron", "alidation loss at ", " validation loss at iteration 500 on test set | lm loss value: 6.54E+00 |", "Megatron-LM, training.py", _megatron),
    Form("Ignite's bar", "%|", "Epoch [1/3]: [1/20]   5%|▌         , loss=0.715 [00:00<?]", "pytorch-ignite, contrib/handlers/tqdm_logger.py", _ignite),
    Form("ESPnet, batches", "batch: ", "1epoch:train:1-500batch: iter_time=1.2e-04, loss_ctc=80.2, acc=0.500", "ESPnet2, train/reporter.py", _espnet_batches),
    Form("Optuna", "Best is trial", "Trial 3 finished with value: 0.2 and parameters: {}. Best is trial 3 with value: 0.2.", "Optuna, study/study.py", _optuna),
    Form("R, a printed text", '[1] "', '[1] "RMSE on test: 2.871"', "R, print", _r_print),
    Form("R, a linear model", ":", "Multiple R-squared:  0.8268,\tAdjusted R-squared:  0.8148", "R, stats, print.summary.lm", _r_fit),
    Form("statsmodels", ":", "Dep. Variable:    y   R-squared:       0.480", "statsmodels, iolib/summary.py", _statsmodels),
    Form("alignment rate", "alignment rate", "96.70% overall alignment rate", "Bowtie 2, HISAT2", _alignment),
    Form("STAR", " |\t", "    Uniquely mapped reads % |\t90.80%", "STAR, Log.final.out", _star_log),
    Form("Kaldi", "%", "%WER 5.27 [ 2770 / 52576, 306 ins, 302 del, 2162 sub ]", "Kaldi, compute-wer", _kaldi),
    Form("SciPy, a count", "Iterations", "         Iterations: 100", "SciPy, optimize; statsmodels", _scipy),
    Form("SciPy", ":", "     fun: 6.12e-11", "SciPy, optimize", _scipy),
    Form("value of a function", "Current function value", "Current function value: 0.507378", "SciPy, statsmodels", _current_value),
    Form("two of one name", "/", "[Step  2000] Train / Test accuracy: 0.892 / 0.880.", "Haiku, examples/mnist.py", _two_of_one),
    Form("Gurobi", "Best objective", "Best objective 6.98e+03, best bound 6.98e+03, gap 0.0000%", "Gurobi", _gurobi),
    Form("Ipopt", ":", "Objective...............:   1.7014017140224130e+01    1.7014017140224130e+01", "Ipopt", _ipopt),
    Form("Ipopt, an iteration", "e", "   8  1.7014017e+01 5.62e-14 6.81e-14  -8.6 1.96e-07    -  1.00e+00 1.00e+00h  1", "Ipopt", _ipopt_row),
    Form("AutoGluon, one of several models", " = ", "\t0.84\t = Validation score   (accuracy)", "AutoGluon, trainer", _autogluon),
    Form("pycma", "f-value", "final/bestever f-value = 4.1e-14 3.9e-14 after 2089/2040 evaluations", "pycma, logger", _pycma),
    Form("Darknet", ": ", "1000: 1.790121, 1.831127 avg, 0.001000 rate, 3.210114 seconds, 64000 images", "darknet, examples/detector.c", _darknet),
    Form("Quantum ESPRESSO", "e", "!    total energy              =     -15.85181961 Ry", "Quantum ESPRESSO, PW/electrons.f90", _espresso),
    Form("sacreBLEU", " = ", "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.4.0 = 28.4 61.2/34.7/21.9/14.3", "sacrebleu, sacrebleu.py", _sacrebleu),
    Form("trec_eval", "all", "map                   \tall\t0.1957", "trec_eval, form_res_rels.c", _trec_eval),
    Form("samtools flagstat", " + ", "40912011 + 0 mapped (99.27% : N/A)", "samtools, bam_stat.c", _flagstat),
    Form("UMAP", "completed ", "\tcompleted  30  /  100 epochs", "umap-learn, layouts.py", _parse_completed),
    Form("bar without a rate", "%|", "Epochs completed: 100%| ██████████ 100/100 [00:00]", "tqdm with an own format", _percent_bar),
    Form("BasicSR", ": ", "\t # psnr: 37.8000\tBest: 37.9100 @ 295000 iter", "BasicSR, models/sr_model.py; utils/logger.py", _basicsr),
    Form("WeNet", " % N=", "Overall -> 5.11 % N=104765 C=99580 S=5002 D=183 I=168", "WeNet, tools/compute-wer.py", _wenet),
    Form("pyrouge", "ROUGE-", "1 ROUGE-1 Average_F: 0.41803 (95%-conf.int. 0.41571 - 0.42033)", "pyrouge, Rouge155.py", _rouge),
    Form("re-identification", "CMC curve", "CMC curve, Rank-1  :88.4%", "reid-strong-baseline, engine/trainer.py", _cmc),
    Form("ML-Agents", "Mean Reward: ", "3DBall. Step: 12000. Time Elapsed: 23.400 s. Mean Reward: 1.201. Std of Reward: 0.712. Training.", "ml-agents, trainers/stats.py", _ml_agents),
    Form("soft actor-critic", "| E: ", "| eval  | E: 20 | S: 20000 | R: 402.9114", "pytorch_sac, logger.py", _soft_actor),
    Form("fastText", "words/sec", "Progress:  55.0% words/sec/thread:   60311 lr:  0.225000 avg.loss:   8.201110 ETA:   0h 0m 4s", "fastText, fasttext.cc", _fasttext),
    Form("precision at k", "@", "P@1\t0.599", "fastText, main.cc", _at_k),
    Form("step bar", "] ", " [=====>.]  Step: 70ms | Tot: 16s | Loss: 1.567 | Acc: 35.000% (8960/25600) 200/391", "pytorch-cifar, utils.py", _step_bar),
    Form("Marian", " : Up. ", "[valid] Ep. 1 : Up. 5000 : perplexity : 83.5284 : new best", "Marian, training/scheduler.h", _marian),
    Form("MMDetection 2", "Epoch(", "Epoch(val) [2][500]\tbbox_mAP: 0.2340, bbox_mAP_50: 0.4070, bbox_mAP_copypaste: 0.234 0.407", "mmcv, hooks/logger/text.py", _mmdet2),
    Form("ArcFace", "][", "[lfw][4000]Accuracy-Flip: 0.99683+-0.00241", "insightface, arcface_torch/utils/utils_callbacks.py", _arcface),
    Form("Tacotron 2", " loss ", "Validation loss 1400:  0.570000", "tacotron2, train.py", _name_step_value),
    Form("few-shot classification", " Acc = ", "600 Test Acc = 64.24% +- 0.72%", "CloserLookFewShot, methods/meta_template.py", _episodes_accuracy),
    Form("speaker recognition", " epoch, ACC ", "4 epoch, ACC 68.14%, EER 2.11%, bestEER 2.05%", "ECAPA-TDNN, trainECAPAModel.py", _speaker),
    Form("joblib", "[Parallel", "[Parallel(n_jobs=4)]: Done  60 out of  60 | elapsed:    2.1s finished", "joblib, parallel.py", _parallel),
    Form("Snakemake", "steps (", "4 of 5 steps (80%) done", "Snakemake, logging", _steps_done),
    Form("scikit-learn, one fit", "[CV", "[CV 1/3] END ...............C=0.1;, score=0.930 total time=   0.0s", "scikit-learn, _validation.py", _cv_end),
    Form("pytest", "%]", "test_a.py::test_ok PASSED    [ 16%]", "pytest", _tests_done),
    Form("representation", "(", "  (1): BatchNorm2d(16, eps=1e-05, momentum=0.1)", "Python, repr", _settings_line),
)  # fmt: skip


_UNREAD: set[str] = set()  # shapes of lines that no form reads: a log has many lines of one shape


def read_form(line: str) -> tuple[str, FormLine] | None:
    """Return the form that reads a line, and its content; None if no form reads it."""
    shape = line.translate(SHAPES)
    if shape in _UNREAD:
        return None
    for form in FORMS:
        if form.mark in line and (found := form.read(line)) is not None:
            return form.name, found
    remember(_UNREAD, shape)
    return None
