"""Which printed names are names of results: the words of the field, and those of settings, times and sizes.

A name counts if its words are words of the field. So `val_loss` and `Top 1 accuracy` count, and `loss_scale`,
`target_acc` and `port` do not. Names in the line of a known tool need no word of the field.
"""

import re
from functools import lru_cache

MOST_WORDS = 9  # words of a name
_MOST_UNKNOWN = 2  # words that no list contains, beside one that is a name of a result alone


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


# names of results, in lower case; each counts alone and with the words around it
_METRICS = _words(
    "loss losses acc accs accuracy accuracies auc auroc aucroc aucpr auprc aupr roc prc iou ious miou giou dice",
    "jaccard f1 f2 fbeta fscore fmeasure precision recall sensitivity specificity tpr fpr tnr fnr fpr95 ppv npv",
    "mcc kappa psnr ssim msssim lpips fid kid nll nlls bpd bpb bpc bits bleu sacrebleu rouge rougel rougelsum meteor",
    "chrf cider wer cer eer hter acer apcer bpcer mindcf dcf perplexity ppl reward rewards return returns score scores mse",
    "rmse mae mape smape wmape mase rmsle msle medae nrmse nmse crps pinball r2 rsquared logloss mlogloss crossentropy xent ece",
    "brier ndcg mrr hits pearson spearman kendall silhouette ari nmi ami purity likelihood loglik",
    "loglikelihood elbo aic bic deviance error err fitness objective rmsd lddt bertscore mauve vmaf",
    "concordance cindex gini ks map map50 map75 map95 top1 top3 top5",
    "top10 hit hr success pck oks mpjpe epe ade fde auuc",
    "fb1 prec winrate residual result cost trustworthiness inertia bpref igd divergence hd95 pesq objective regret",
    "hypervolume winrate ssr sse dcg em rew matthews corrcoef correlation corr coherence ks2 ndcg10 mpiou",
    "ap50 ap75 aps apm apl ar1 ar10 ar100 ars arm arl metric areaunderroc areaunderpr tss",
    "mota motp idf1 hota pesq stoi sisdr sdr snr der jer ter comet spice",
    # German, French, Spanish, Chinese, Japanese, Russian
    "verlust genauigkeit fehler trefferquote fehlerrate perte exactitude erreur pérdida precisión exactitud",
    "损失 损失值 准确率 精度 精确率 召回率 误差 損失 正解率 потери точность ошибка полнота",
)
# endings of compounds in languages that join words
_COMPOUND = re.compile(
    r"(?!ziel|rechen|rundungs|standard|目标).*(?:verlust|genauigkeit|fehler|fehlerrate|损失|准确率|精度|召回率|误差|損失|正解率|loss|acc|accuracy|logloss)"
)
_EXACT_CASE = _words(
    "MER WIL HR MR mAP MAP AP AR PER IS P R"
)  # words that are others in lower case
# words around the name of a result
_AROUND = _words(
    "train training tr trn valid validation validate vali val dev devel test testing tst eval evaluation holdout heldout hold",
    "out oof oob cv cross validated mean avg average averaged median max maximum min minimum best final last current",
    "cur new total overall global macro micro weighted unweighted balanced top k at per class classes classwise ema swa",
    "sample samplewise",
    "teacher student clean adv adversarial robust natural source image images img pixel token tokens word words char",
    "character sentence sequence seq instance object box bbox mask seg segm segmentation cls classification regression",
    "reg obj objectness dfl rpn loc bce ce nll kl kld",
    "mse l1 l2 linf huber focal triplet contrastive ctc att attention",
    "commit commitment vq codebook prior recon reconstruction rec perceptual style content gan gen generator disc",
    "discriminator critic actor policy value entropy q v aux auxiliary main smooth log raw normalized norm absolute",
    "relative rel abs squared square root sum of on the in for",
    "with over to a and set sets data dataset split subset",
    "network model models ensemble baseline episode episodic ep eval rollout running smoothed moving exp exact match",
    "explained variance characteristic operating receiver area under curve peak signal noise ratio structural similarity",
    "index frechet inception distance clip harmonic geometric binary multi multiclass multilabel categorical sparse cross",
    "positive negative pos neg true false rate false error hits hit win success first second third stage level lm mlm",
    "nsp sft dpo ppo pg td recall precision coefficient determination c d g",
    "x y z u p e epoch step batch end score pred",
    "prediction predicted predict so far was is equals official unofficial coco bbox keypoints easy medium hard common rare",
    "long short small large ap ar map box mask id ood",
    "iid shift subgroup group worst nn knn linear probe zeroshot zero",
    "shot few mrpc sst2 cola qnli rte imagenet cifar cifar10 cifar100 mnist seen unseen novel query gallery hdr best5",
    "reached achieved obtained initial tuned optimal optimum found cost objective obs point points perclass label labels",
    "multiclass average sd mean5 top1 topk cosine cos sim euclidean manhattan dot similarity correlation pred real fake",
    "full part overall all any cv5 avgd loss pseudo soft hard dot",
    "tf torch lp fn fp tp tn node edge graph link",
    "quality quantile macroavg microavg w wo without std0 h f s t m",
    "n r b ii i iii seg instance panoptic sq rq pq",
    "validierungs trainings test makro mikro beste bestes bester mittlerer mittlere 验证 训练 测试 最佳 平均 最终",
    "d1 d2 d3 g1 per5 nce info infonce ranking pairwise listwise",
    "rank margin pde bc ic ib ib2 data physics residual",
    "next mtp mtl task domain identity id cycle idt feat feature matching fm duration pitch energy mel stft post postnet",
    "sts dev stsb spearman pearson pair pairs wise nlg nlu squad race rewards chosen rejected accuracies margins logps",
    "internal natoms virial force energy cmc curve rank undiscounted spec divergence individual analytic vs found clip",
    "sc pass human prefer preference valid_1 held expected oracle greedy beam dev_clean clean other average_precision",
)
# words of settings, sizes, counts and places: a name with one of them is no result, whatever else it contains
_SETTINGS = _words(
    "lr lrs learning_rate wd decay momentum seed seeds dropout patience eps epsilon lambda alpha beta beta1 beta2 gamma tol",
    "tolerance threshold thresh thr target goal required scale scaling scaler coef coeff weight weights warmup",
    "schedule scheduler every interval freq frequency version port pid uid id_ workers num nb no_ number count counter counts",
    "params parameters param hidden layers layer layer_ depth width height channels dim dims size sizes length len",
    "capacity limit budget temperature0 fn_ func type mode config cfg arg args option options setting settings hparams",
    "kwargs namespace max_iter iters iterations iteration memory mem gb mb kb",
    "gib mib kib gpu gpus cpu cpus cuda device devices",
    "threads thread cores nodes ranks world rows columns cols files lines bytes flops flos gflops mflops macs total_flos vocab",
    "vocabulary bins trees leaves estimators folds repeats runs trials gradient accumulation lookback window stride",
    "padding init smoothing dilation downsample exit status code job jobid array slurm rank line col address",
    "episodes samples examples instances sentences support requests queries documents updates num_updates bsz wpb n_updates",
    "total_timesteps timesteps v_num best_iteration best_step best_epoch year month day date chunk offset retry retries timeout",
    "skipped checksum hash schema compression rounds evaluations nfev nit nsv nbsv gnorm grad_norm gradnorm mfu delta min_delta",
    "thres nms discount clipping stopping early hyperparameter hyperparameters penalty_weight tau rho nu trainable frozen buffer replay lora_alpha lora_rank rank_ port_",
    "errno errors warning warnings level_ verbosity page figure section chapter step_size stepsize cooldown cutoff bandwidth",
    "batch_size batchsize bs epochs max_epochs num_epochs steps max_steps crop crop_size resize imgsz res resolution embedding",
    "ncall nc start begin starting exploration stop interacts nupdates serial residual_weight 学习率 批大小 轮数 种子 lernrate stapelgröße startwert größe",
)
_VERBS = _words(
    "saved saving save loaded loading load wrote writing written using used found got read reading decreased increased improved"
)
_COUNTERS = _words(
    "epoch step global_step iteration iter it env_step train_step gradient_step update round episode batch tick kimg e n bound"
)
_TIMES = _words(
    "time times timing elapsed eta seconds second secs sec s_ ms",
    "us ns minutes minute mins hours hour hrs days latency",
    "duration runtime speed throughput fps ips ups wps sps qps tps rps took wall walltime dur remaining cputime dauer laufzeit",
    "sec_ samples_per_second steps_per_second timestamp clock cost_ 用时 耗时 iter_time toks tok qps it_s img_s",
)
_SPREADS = _words(
    "std stdev stderr sd sem stddev se_ ci var_ ± +/- iqr mad_ stddeviation deviation"
)
# names that are results alone only with a fraction: `error: 404` is a message
_FRACTIONAL = _words(
    "precision metric result cost residual error err score objective fitness hit hr success return is p r bits"
)
# a name of one of these words alone is too short to be one of a result
_NOT_ALONE = _words("p r is ks em hr hit hits success bits corr correlation ter per ap ar roc")

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARTS = re.compile(r"[^\W_]+")
_PER_SECOND = re.compile(
    r"(?:_per_|/|_?p)(?:s|sec|secs|second|min|hour|epoch|step|iter|it|batch|day)\b|per[_ ]?second|/s\b|_(?:s|ms|sec|secs|us|ns)$|\((?:s|ms|sec|secs|seconds|min|h|hours)\)|^sec/|^ms/|^s/|time\b|_time$|^time_(?!series)|^t_"
    r"|(?:^|[\s_/.])eta(?:$|[\s_/.])",
    re.IGNORECASE,
)
_LEARNING_RATE = re.compile(
    r"(?:^|[\W_])(?:learning[\W_]?rate|learn(?:ing)?[\W_]rate|lr|lrs|lr\d+|lr[-_]?\w*|weight[\W_]?decay|wd|grad(?:ient)?[\W_]?norm|loss[\W_]?scale)(?:$|[\W_\d(])",
    re.IGNORECASE,
)
_COUNT_OF = re.compile(
    r"(?:^|[\W_])(?:n|num|nb|no|number|amount|#)(?:[\W_]+)(?:of\b)?|^(?:n|num|max|min)_(?!acc|loss|auc|f1|score|error|iou|map)\w|^total number|^#|_count$|_idx$|_index$|_id$|_ids$|_size$|_samples$|_steps$|_epochs$|_iters?$|_flos$|_length$|_every$",
    re.IGNORECASE,
)

_PHRASES = re.compile(
    r"top[- ]?\d+$|rank-\d+$|inception[ _]distance|inception[ _]score|cross.?entropy|area under|coefficient of determination|bits per (?:byte|dim|char|pixel|word)|explained[ _]variance"
    r"|(?:success|win|hit|error|detection|acceptance|rejection|solve|pass)[ _-]?rate|exact[ _]match|hits?@\d|pass@\d|(?:^|[ /])l_[a-z0-9]+$|mean absolute|mean squared"
    r"|signal.to.noise|structural similarity",
    re.IGNORECASE,
)
_VERSIONED = re.compile(
    r"(?:fid|kid|is|pr|ppl|lpips|hits?|ndcg|map|top|acc|recall|precision|rouge|bleu)\d+k?(?:\d+)?"
)
_EPISODES = re.compile(r"(?i:mean|avg|average)[_ ]ep(?:isode)?[_ ]?len|(?:^|[_ /.])ep_?len|EpLen")
_PHASE_ONLY = re.compile(
    r"(?:final|best|highest|mean|avg|average|overall) (?:train|valid|val|test|dev)(?:ing|ation)?",
    re.IGNORECASE,
)
_CLIPPING = re.compile(
    r"clip[ _-]?(?:grad|norm|range|value|eps|coef|frac|min|max|threshold)|[ _]t$|grad_clip|^clip$",
    re.IGNORECASE,
)
SETTING, TIME, SPREAD, UNKNOWN = (
    "a setting, count or size",
    "a time, rate or learning rate",
    "a spread",
    "not a name of a result",
)


@lru_cache(maxsize=4096)
def reason_against(name: str, *, is_known: bool = False) -> str:
    """Return why a printed name is no result; empty if it is one.

    Args:
        name: As printed, with its words.
        is_known: The line is that of a known tool, whose other names are results.
    """
    words = name_words(name.replace("time_series", "series"))
    if not words or len(words) > MOST_WORDS:
        return UNKNOWN
    lower = [word.lower() for word in words]
    joined = "_".join(lower)
    if joined in _COUNTERS:
        return SETTING
    if _EPISODES.search(name) or _PHASE_ONLY.fullmatch(name):
        return ""
    if (
        joined
        in {
            "bt",
            "dt",
            "data",
            "data_t",
            "batch_t",
            "batch_cost",
            "reader_cost",
            "data_cost",
            "time_cost",
        }
        or any(word in _TIMES for word in lower)
        or _PER_SECOND.search(name)
    ):
        return TIME
    if _LEARNING_RATE.search(name):
        return TIME
    if any(word in _SPREADS for word in lower):
        return SPREAD
    metrics = [
        place for place, word in enumerate(words) if word in _EXACT_CASE or _is_metric(lower[place])
    ]
    if (
        _CLIPPING.search(name)
        or any(word in _SETTINGS for word in lower)
        or joined in _SETTINGS
        or _COUNT_OF.search(name)
    ):
        return SETTING
    if is_known:
        return ""
    if _PHRASES.search(name) and len(words) <= 7:
        return ""
    if not metrics or lower[0] in _VERBS:
        return UNKNOWN
    if len(words) == 1 and lower[0] in _NOT_ALONE and words[0] not in _EXACT_CASE - {"P", "R"}:
        return UNKNOWN
    unknown = [
        place
        for place, word in enumerate(lower)
        if place not in metrics
        and word not in _AROUND
        and not word.isdigit()
        and word.rstrip("0123456789") not in _AROUND
    ]
    if not unknown:
        return ""
    strong = [p for p in metrics if lower[p] in _STRONG or _COMPOUND.fullmatch(lower[p])]
    at_end = len(words) - 1 in strong or 0 in strong
    return "" if at_end and len(unknown) <= _MOST_UNKNOWN and len(words) <= 5 else UNKNOWN


# words at whose beginning or end a name is one of a result, whatever the other words are
_STRONG = _words(
    "loss acc accuracy auc auroc auprc f1 iou miou dice psnr ssim",
    "fid mse rmse mae mape bleu wer cer perplexity ppl logloss r2",
    "nll metric score fb1 prec epe mpjpe kappa bpb ece brier ade fde mota silhouette",
    "ari nmi elbo dice bpc bpd rouge1 rouge2 rougel meteor chrf spearman pearson eer logloss",
    "auprc mcc hr regret reward divergence recall precision top1 top5 ndcg mrr reward",
)


def _is_metric(word: str) -> bool:
    if word in _METRICS or (word.rstrip("0123456789") in _METRICS and len(word) > 2):
        return True
    return (
        (len(word) > 4 or not word.isascii()) and _COMPOUND.fullmatch(word) is not None
    ) or _VERSIONED.fullmatch(word) is not None


@lru_cache(maxsize=4096)
def needs_fraction(name: str) -> bool:
    """Return whether a name alone is one of a result only with a number that is not whole."""
    return name.strip().lower() in _FRACTIONAL


def name_words(name: str) -> list[str]:
    """Return the words of a name: `val_AvgLoss@5` has four, of which the last is "5"."""
    words = []
    for part in _PARTS.findall(name):
        if part in _EXACT_CASE or part.lower() in _METRICS:
            words.append(part)
        else:
            words += _CAMEL.split(part)
    return words
