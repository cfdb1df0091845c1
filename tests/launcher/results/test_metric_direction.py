"""The better direction of metrics by their names."""

import pytest

from launcher.experiments.results.metric_direction import Direction, direction_of, split_direction
from launcher.system.errors import UsageError
from tests.launcher.results.scored_toys import TEST

# names by tool or field, each with its right direction
LOW = {
    "scikit-learn": "brier_score davies_bouldin_score log_loss max_error hamming_loss zero_one_loss "
    "mean_absolute_percentage_error mean_poisson_deviance mean_pinball_loss coverage_error",
    "XGBoost": "rmse rmsle mae mape mphe logloss error error@0.7 merror mlogloss poisson-nloglik "
    "gamma-deviance tweedie-nloglik@1.5 aft-nloglik valid-logloss test-mlogloss-mean",
    "LightGBM": "l1 l2 huber quantile binary_logloss multi_logloss binary_error multi_error cross_entropy "
    "xentropy kullback_leibler kldiv gamma_deviance tweedie valid_0's_binary_logloss",
    "CatBoost": "Logloss CrossEntropy BalancedErrorRate BrierScore HingeLoss ZeroOneLoss NumErrors MSLE "
    "QueryRMSE RMSEWithUncertainty SMAPE MedianAbsoluteError LogCosh",
    "torchmetrics": "BinaryCalibrationError HammingDistance KLDivergence LogCoshError MeanSquaredError "
    "TweedieDevianceScore ContinuousRankedProbabilityScore FrechetInceptionDistance "
    "LearnedPerceptualImagePatchSimilarity PerceptualPathLength SpectralAngleMapper HausdorffDistance "
    "WordErrorRate WordInfoLost TranslationEditRate RetrievalFallOut DaviesBouldinScore Perplexity",
    "losses": "loss val_loss eval_loss train/loss Loss/train valLoss valloss d_loss G_loss loss_giou "
    "val_dice_loss losses/value_loss val/box_loss f1_loss reward_loss accuracy_loss train_loss_epoch",
    "likelihood": "nll negative_log_likelihood neg_log_likelihood nlog_likelihood nelbo neg_elbo perplexity eval_perplexity ppl "
    "bpd bpb bits_per_dim bits_per_char deviance kl",
    "forecasts": "smape sMAPE mase crps WAPE NRMSE residual",
    "detection": "fpr95 FPR@TPR95 fpr_at_tpr_95 fpr95tpr far frr fnr eer ece false_positive_rate miss_rate "
    "top1_error error_top1 top-1_err minDCF hter",
    "geometry": "chamfer emd hd95 hausdorff assd abs_rel AbsRel sq_rel silog ate rpe epe ADE minFDE mpjpe NME",
    "generation": "fid FID/test fid_score kid fvd lpips mmd energy niqe",
    "text and speech": "wer cer ter TER mcd mean_rank",
    "costs": "runtime eval_runtime latency_ms peak_memory seconds_per_step params cost cost_return regret gap",
    "deviations": "acc_std accuracy_gap accuracy_drop std_test_score acc_stderr,none",
}
HIGH = {
    "scikit-learn": "accuracy balanced_accuracy top_k_accuracy average_precision f1_macro jaccard_weighted r2 "
    "roc_auc_ovr matthews_corrcoef explained_variance adjusted_rand_score v_measure_score "
    "neg_mean_squared_error neg_log_loss neg_brier_score neg_max_error neg_mean_gamma_deviance "
    "neg_negative_likelihood_ratio positive_likelihood_ratio d2_log_loss_score d2_absolute_error_score "
    "mean_test_score mean_test_neg_mean_squared_error silhouette_score calinski_harabasz_score",
    "XGBoost": "auc aucpr ndcg@5 map@10 interval-regression-accuracy",
    "LightGBM": "auc_mu average_precision ndcg@3",
    "CatBoost": "PRAUC QueryAUC PFound AverageGain TotalF1 WKappa LogLikelihoodOfPrediction BalancedAccuracy",
    "torchmetrics": "BinaryAUROC MulticlassF1Score CohenKappa MatthewsCorrCoef PearsonCorrCoef "  # prose: ok, names
    "KendallRankCorrCoef ConcordanceCorrCoef R2Score CosineSimilarity JaccardIndex DiceScore MeanIoU "
    "IntersectionOverUnion DistanceIntersectionOverUnion MeanAveragePrecision PanopticQuality "
    "PeakSignalNoiseRatio StructuralSimilarityIndexMeasure ScaleInvariantSignalDistortionRatio "
    "ShortTimeObjectiveIntelligibility BLEUScore BERTScore InceptionScore CLIPScore WordInfoPreserved "
    "RetrievalNormalizedDCG RetrievalHitRate LabelRankingAveragePrecision SensitivityAtSpecificity",
    "classification": "acc val_acc testAccuracy acc@1 acc1 top1 Top5Accuracy auroc AUROC aupr auprc f1 F1_(macro) "
    "fbeta precision recall@5 sensitivity specificity tpr TPR@FPR=0.01 tpr_at_1fpr mcc kappa hits@10 hit R@5 "
    "mrr nDCG@10 rank1 sparse_categorical_accuracy eval_matthews_correlation acc_norm,none",
    "regression": "r2_score R² pearson eval_spearmanr kendall concordance energy_r2 price_r2 gap_accuracy",
    "detection": "ap AP50 mAP mAP50-95 metrics/mAP50-95(B) bbox_mAP_50 iou mIoU aAcc mean_io_u dice_coef HOTA IDF1",
    "generation": "psnr ms_ssim val_is inception_score vmaf elbo likelihood loglik log_likelihood",
    "text and speech": "bleu BLEU-4 rougeL eval_rougeLsum meteor chrf++ cider em exact_match pass@1 PESQ si_sdr",
    "rewards": "reward ep_rew_mean charts/episodic_return EpRet return score wins win_rate elo success_rate",
    "turned": "negative_mse neg_rmse test_neg_log_loss NegMeanSquaredError",
    "speed": "eval_samples_per_second tokens_per_sec img/s time/fps throughput peak_accuracy",
}
UNKNOWN = (
    "value x y objective result learning_rate loss_scale entropy_coef score_threshold loss_accuracy loss/accuracy "
    "error_accuracy tpr_fpr kl_reward neg_recall neg_acc neg_loss attack_success_rate forget_accuracy 1-ssim "
    "accuracy_delta loss_reduction energy_efficiency energy_score brier_skill_score anomaly_score is_best rank "
    "win_loss likelihood_ratio threshold gini p95 rank_test_score collision_free_rate time_in_range imprecision "
    "-log_likelihood --acc -loss"
)


def test_direction_of_a_metric_follows_from_its_name() -> None:
    expected = {
        name: direction
        for direction, groups in ((Direction.MIN, LOW), (Direction.MAX, HIGH))
        for names in groups.values()
        for name in names.split()
    }
    expected |= dict.fromkeys(["F1 score", "R2 score", "Top 1 accuracy"], Direction.MAX)
    known = {name: direction_of(name) for name in expected}
    assert known == expected
    unknown = {name: direction_of(name) for name in UNKNOWN.split()}
    assert unknown == dict.fromkeys(unknown)


def test_scorers_of_scikit_learn_are_better_high() -> None:
    names = pytest.importorskip("sklearn.metrics").get_scorer_names()
    assert {name: direction_of(name) for name in names} == dict.fromkeys(names, Direction.MAX)


def test_kind_that_ranks_its_metrics_decides_before_their_names() -> None:
    assert direction_of("badness", [TEST]) is Direction.MIN
    assert direction_of("goodness", [TEST], is_table_column=True) is Direction.MAX
    assert direction_of("goodness", [TEST]) is None
    assert direction_of("goodness", is_table_column=True) is None
    assert direction_of("loss", [TEST]) is Direction.MIN


@pytest.mark.parametrize(
    ("text", "metric", "direction"),
    [
        ("acc", "acc", None),
        ("acc:max", "acc", Direction.MAX),
        ("acc:low", "acc", Direction.MIN),
        ("val:loss", "val:loss", None),
        ("val:acc:high", "val:acc", Direction.MAX),
        ("acc:min:max", "acc:min", Direction.MAX),
    ],
)
def test_direction_follows_the_last_colon(
    text: str, metric: str, direction: Direction | None
) -> None:
    assert split_direction(text, "--best {}") == (metric, direction)


@pytest.mark.parametrize("text", ["acc:up", "acc:maximize", "acc:Lower", ":max"])
def test_other_spelling_of_a_direction_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"acc:max\.$"):
        split_direction(text, "--search {}")
