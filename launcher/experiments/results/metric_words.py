"""The better direction of words in the names of metrics.

The names are those of scikit-learn, XGBoost, LightGBM, CatBoost, Keras, torchmetrics, the Trainer of transformers,
detectron2, mmdetection, CleanRL, Stable-Baselines3 and fairseq, and of benchmarks.
"""

from collections.abc import Mapping
from enum import Enum, auto


class Sense(Enum):
    """The meaning of a word for the better direction."""

    # low is better
    ERROR = auto()  # measures errors
    LOSS = auto()  # like ERROR, but the name of a loss may follow: loss_giou
    QUANTITY = auto()  # a cost, which a model may also predict: price_r2, latency_auc
    OPPOSED = auto()  # an error rate that is often written behind its counterpart: tpr_fpr
    SPREAD = auto()  # a deviation, also of a high number: acc_std
    PEAK = auto()  # like QUANTITY in peak_memory; peak_accuracy is high
    # high is better
    STATISTIC = auto()  # measures success or agreement
    PER_CLASS = auto()  # like STATISTIC, but also computed for the negative class: neg_recall
    REGION = auto()  # like PER_CLASS, and the name of a loss: dice
    REWARD = auto()  # a reward, of which an error or a cost may be a part
    SCORE = auto()  # high unless another word says something else: brier_score
    # no direction of its own
    NEGATIVE = auto()  # turns the direction of the next words
    UNSURE = auto()  # the direction of the whole name is unknown
    UNSURE_BEHIND = auto()  # unknown if it follows the metric: loss_scale
    UNSURE_BEHIND_ERROR = auto()  # unknown in kl_coef, no meaning in dice_coef
    AT = auto()  # a condition follows: fpr_at_tpr95
    NEUTRAL = auto()  # no meaning


LOW = frozenset({Sense.ERROR, Sense.LOSS, Sense.QUANTITY, Sense.OPPOSED, Sense.SPREAD, Sense.PEAK})
HIGH = frozenset({Sense.STATISTIC, Sense.PER_CLASS, Sense.REGION, Sense.REWARD, Sense.SCORE})

_WORDS: Mapping[Sense, tuple[str, ...]] = {
    Sense.ERROR: (
        # classification and calibration
        "err error errors merror brier ece mce eer hter acer apcer bpcer cllr dcf mindcf actdcf",
        "misclassification mistakes incorrect wrong inaccuracy hamming false fallout aurc eaurc",
        # likelihood
        "nll nlpd nloglik nelbo perplexity ppl deviance bce crossentropy xentropy xent hinge logcosh",
        "kullback kl kld kldiv divergence aic bic poisson tweedie",
        # regression and forecasts
        "mae mse msle mape mdape smape wape wmape mase rmse rmsle rmspe rmsse nrmse nmse nmae",
        "medae mphe sse ssd rss maxerror huber residual residuals pinball quantile expectile",
        "crps wis mpiw msis owa mdae wql l1 l2 linf",
        # depth, flow, paths, poses
        "absrel sqrel silog epe aepe ate rpe ade fde minade minfde nme mpjpe mpvpe mave maoe maae",
        # speech and text
        "wer cer ter der jer mcd lsd wil hallucination hallucinations toxicity lost",
        # images, distributions, surfaces
        "lpips dists dssim fid sfid fvd fad kid cmmd niqe brisque piqe ergas rase",
        "emd mmd wasserstein frechet jsd chamfer hd hd95 hausdorff assd asd",
        "dissimilarity discrepancy mismatch bpd bpb bpc bpp bdrate",
        # ranks, clusters, tracking
        "medr mdr meanr mnr lamr idsw davies bouldin inertia wcss conductance",
        # failures
        "failure failures fail fails failed miss misses missed missrate collision collisions",
        "violation violations regret forgetting unfairness disagreement penalty",
        "drop drops degradation decline",
    ),
    Sense.LOSS: ("loss losses logloss mlogloss",),
    Sense.QUANTITY: (
        "bytes cost costs distance disparity drift energy entropy distortion flops gap latency",
        "makespan mb memory joules emissions risk minutes ms hours params price",
        "runtime duration elapsed overhead sec secs seconds time ttft tpot walltime",
    ),
    Sense.OPPOSED: ("far fdr fmr fnmr fnr fpr fpr95 frr",),
    Sense.SPREAD: ("deviation sd std stdev stderr",),
    Sense.PEAK: ("peak",),
    Sense.STATISTIC: (
        # classification and calibration
        "accuracy auc aucpr aucroc auroc auprc aupr aupro prauc roc rocauc balacc bac bacc",
        "tpr tnr tar ppv npv mcc kappa wkappa gmean informedness youden uar em correct",
        "macc aacc topk hmean",
        # likelihood
        "elbo likelihood loglik loglikelihood llh elpd",
        # agreement and correlation
        "r2 rsquared corr correlation corrcoef matthews concordance cindex similarity agreement",
        "ccc pcc plcc srcc srocc krcc cramers theils tschuprows",
        # retrieval
        "map ap ap50 ap75 aps apm apl mrr ndcg dcg pfound",
        "r1 r5 r10 rank1 rank5 rank10 rank20 cmc",
        # detection, segmentation, tracking, poses, navigation
        "ar pq hota mota idf1 idp idr deta assa nds nsd pck pckh oks spl",
        # text and speech
        "sacrebleu meteor chrf cider spice comet mauve las uas wip pesq stoi estoi mos",
        "dnsmos utmos nisqa sdr sdri sisdr sisnr snr sir intelligibility preserved coherence",
        "npmi faithfulness groundedness helpfulness",
        # images, molecules
        "psnr msssim vif fsim uqi vmaf musiq maniqa arniqa quality fidelity",
        "qed validity uniqueness novelty",
        # clusters
        "silhouette calinski harabasz dunn rand ari nmi ami purity homogeneity completeness",
        "vmeasure fowlkes mallows modularity",
        # speed
        "fps qps rps tps sps wps ups throughput goodput speedup bandwidth mfu",
    ),
    Sense.PER_CLASS: (
        "acc precision recall sensitivity specificity f1 f2 f05 fbeta fscore fmeasure",
        "hit hits hitrate",
    ),
    Sense.REGION: ("dice dsc giou diou ciou iou miou jaccard intersection ssim",),
    Sense.REWARD: (
        "reward rewards rew return returns ret success successes solved solve pass passed",
        "win wins winrate elo trueskill profit revenue sharpe sortino calmar utility fitness",
    ),
    Sense.SCORE: ("score scores top1 top3 top5 top10",),
    Sense.NEGATIVE: ("neg negative",),
    Sense.UNSURE: (
        "minus inverse inv no non not without attack attacks forget membership mia shannonentropy",
    ),
    Sense.UNSURE_BEHIND: (
        "change changes delta diff difference gain gains improvement improvements reduction",
        "increase decrease saved saving savings skill efficiency weight weights scale scaler",
        "threshold limit target budget factor margin schedule decay variance var id idx bound",
    ),
    Sense.UNSURE_BEHIND_ERROR: ("coef coefficient norm",),
    Sense.AT: ("at",),
    Sense.NEUTRAL: ("negatives",),
}
SENSES: Mapping[str, Sense] = {
    word: sense for sense, lines in _WORDS.items() for line in lines for word in line.split()
}

_PHRASES: Mapping[Sense, tuple[str, ...]] = {
    Sense.ERROR: (
        "abs rel", "sq rel", "absolute relative", "log loss", "log cosh", "bits per", "bit per", "nats per",
        "mean rank", "average rank", "avg rank", "median rank", "edit rate", "error rate", "fall out",
        "negative log likelihood", "neg log likelihood", "negative loglikelihood", "neg loglikelihood",
        "nlog likelihood", "n log likelihood", "nlog prob", "negative loglik", "neg loglik",
        "negative likelihood ratio", "min dcf", "id switches",
        "ranked probability score", "patch similarity", "texture similarity", "perceptual path length",
        "spectral angle", "word info lost", "bd rate", "cost return", "cost ret", "parity difference",
        "odds difference", "ratio of errors", "fpr95 tpr", "fl all",
    ),
    Sense.STATISTIC: (
        "log likelihood", "log prob", "positive likelihood ratio", "true positive", "true positives",
        "true negative", "true negatives", "negative predictive", "positive predictive", "explained variance",
        "exact match", "top k", "c index", "rank 1", "rank 5", "rank 10", "g mean",
        "average gain", "cumulative gain", "r square", "r squared", "inception score", "reciprocal rank",
        "signal noise ratio", "signal to noise ratio", "signal distortion ratio", "signal to distortion ratio",
        "peak signal noise ratio", "peak signal to noise ratio", "modulation energy ratio", "si sdr", "si snr",
        "corr coef", "correlation coefficient", "d2 absolute error score", "d2 log loss score", "d2 brier score",
        "d2 pinball score", "d2 tweedie score", "per second", "per sec", "per s", "per minute", "per min",
        "per hour", "parity ratio", "skill score", "r at", "p at", "hr at",
    ),
    Sense.PER_CLASS: ("hit ratio", "hit rate"),
    Sense.REGION: ("io u", "structural similarity"),
    Sense.REWARD: ("success rate", "win rate", "pass rate"),
    Sense.SCORE: ("top 1", "top 3", "top 5", "top 10"),
    Sense.UNSURE: (
        "likelihood ratio", "win loss", "wins losses", "profit loss", "profit and loss", "stop loss",
        "neg loss", "negative loss",  # a turned loss, or the loss of negative samples
        "time to failure", "between failures", "survival time", "learning rate", "one minus", "anomaly score",
        "outlier score", "fake score", "real score", "bias score", "z score", "f1 all", "rank test score", "rank score",
        "collision free", "error free", "failure free", "violation free", "distance traveled", "distance travelled",
        "distance covered", "time in range", "time alive",
    ),
    Sense.NEUTRAL: (
        "multi scale", "scale invariant", "negative sample", "negative samples", "negative pair", "negative pairs",
    ),
}  # fmt: skip
PHRASES: Mapping[tuple[str, ...], Sense] = {
    tuple(phrase.split()): sense for sense, phrases in _PHRASES.items() for phrase in phrases
}
