"""Plain words for what was measured and for what was done."""

from collections.abc import Mapping

from core.names import MODEL
from reporting.page.material import parts_of
from reporting.recipes import parameters, recipe_text
from store.runs import Run

WORDS: Mapping[str, str] = {
    "accuracy": "share of images whose class is named right",
    "top5_accuracy": "share of images whose class is among the five likeliest",
    "macro_accuracy": "accuracy, every class counting the same",
    "worst_class_accuracy": "accuracy on the class that is served worst",
    "nonfinite": "share of images on which the model breaks and gives no number",
    "class_collapse": "share of the class that is named most often",
    "params": "numbers the model has learned",
    "macs": "multiplications for one image",
    "weight_bytes": "size of the weights",
    "weight_sparsity": "share of the weights that are zero",
    "latency_p50_ms": "time for one image, the median",
    "latency_p90_ms": "time for one image that nine of ten stay below",
    "latency_p99_ms": "time for one image that 99 of 100 stay below",
    "latency_ratio": "time for one image, compressed over baseline, taken in turns",
    "throughput": "images a second, many at a time",
    "peak_memory": "memory while it runs",
    "nll": "how surprised the model is by the truth (negative log-likelihood)",
    "brier": "squared error of the probabilities",
    "confidence_gap": "mean confidence minus accuracy; above 0 is overconfident",
    "ece": "mean gap between confidence and accuracy (biased upward: no verdict)",
    "mce": "largest gap between confidence and accuracy in any bin",
    "calibration_error_debiased": "squared gap between confidence and accuracy, without bias",
    "aurc": "mean error when the least confident answers are left out one by one",
    "eaurc": "the same beyond what a perfect order would leave",
    "augrc": "share of wrong answers that are kept, over all shares left out",
    "mean_corruption_error": "share of wrong answers on disturbed images",
    "corruption_gap": "what disturbing the images adds to the error",
    "corruption_gap_ratio": "what disturbing adds, compressed over baseline",
    "churn": "share of images on which the two models answer differently",
    "agreement": "share of images on which the two models answer alike",
    "negative_flip_rate": "share of images the baseline alone gets right",
    "positive_flip_rate": "share of images the compressed model alone gets right",
    "nfr_relative": "share of the baseline's right answers that were lost",
    "newly_wrong": "images the baseline alone gets right",
    "newly_right": "images the compressed model alone gets right",
    "unnecessary_churn": "changed answers beyond what the change of accuracy needs",
    "mcnemar_p": "how often chance alone gives as uneven a change",
    "kl": "how far the probabilities moved (Kullback-Leibler divergence)",
    "js": "how far the probabilities moved (Jensen-Shannon divergence)",
    "total_variation": "share of probability that moved",
    "worst_class_delta": "largest loss of accuracy of any class",
    "worst_class_delta_class": "number of the class that lost most",
}

AT_A_GLANCE = (
    "accuracy",
    "worst_class_accuracy",
    "nll",
    "brier",
    "calibration_error_debiased",
    "aurc",
    "mean_corruption_error",
    "params",
    "macs",
    "weight_bytes",
    "latency_p50_ms",
    "peak_memory",
)

COSTS = {
    "params": "parameters",
    "macs": "multiplications an image (MACs)",
    "weight_bytes": "size of the weights",
    "latency_p50_ms": "median time for one image",
}


def title_of(name: str) -> str:
    """Result key in words: `accuracy on digits (test)`."""
    key = parts_of(name)
    measured = key.measured.replace("_", " ")
    if key.datamodule in ("", MODEL):
        return measured
    return f"{measured} on {key.datamodule} ({key.split})"


def cost_title(name: str, unit: str) -> str:
    """Axis of a cost, with its unit where the words do not say it.

    Example:
        >>> cost_title("model_test_weight_bytes", "bytes")
        'size of the weights (bytes)'
    """
    words = COSTS.get(parts_of(name).measured, title_of(name))
    return words if unit in ("", "MACs", "parameters") else f"{words} ({unit})"


def place_of(name: str) -> str:
    """What a number was measured on: `digits, test split`, or the model itself."""
    key = parts_of(name)
    if key.datamodule == MODEL:
        return "the model itself"
    return f"{key.datamodule}, {key.split} split" if key.datamodule else "not measured"


def recipe_of(run: Run) -> str:
    """Recipe in full: `l1_filter+short: sparsity=0.5 ...`."""
    told = recipe_text(run.lineage)
    return f"{run.compressor}: {told}" if told else run.compressor


def strength_of(run: Run) -> str:
    """How much a recipe does, without what its steps were told beside it."""
    told = parameters(run.lineage)
    return " ".join(f"{name}={value}" for name, value in told.items() if "." not in name)
