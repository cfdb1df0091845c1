"""Published figures of class unlearning on CIFAR-10, for orientation: one class of ten forgotten.

Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning", AAAI 2024, arXiv 2312.16823, as the
authors' slides give them. The unlearning scores were computed anew from the accuracies. Networks,
epochs and machines are others than ours; time is of theirs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A row of the table; accuracies in percent."""

    method: str  # as we call it
    network: str
    retain: float  # on what was kept, of the training set
    forget: float
    test_retain: float
    test_forget: float
    us: float
    seconds: float | None


_CELLS = (
    ("before", "VGG16", 99.98, 100.0, 92.07, 96.7, 0.4495, None),
    ("before", "ResNet18", 99.98, 100.0, 93.13, 96.6, 0.4575, None),
    ("before", "ResNet50", 99.94, 99.96, 93.44, 95.0, 0.4647, None),
    ("before", "ViT", 88.06, 93.52, 81.48, 88.4, 0.4021, None),
    ("retrain", "VGG16", 99.89, 0.0, 91.98, 0.0, 0.939, 3683.0),
    ("retrain", "ResNet18", 99.79, 0.0, 92.5, 0.0, 0.9428, 2871.0),
    ("retrain", "ResNet50", 99.77, 0.0, 92.48, 0.0, 0.9427, 4705.0),
    ("retrain", "ViT", 95.0, 0.0, 81.0, 0.0, 0.8631, 4441.0),
    ("ng", "VGG16", 88.53, 16.96, 79.86, 17.0, 0.7321, 73.0),
    ("ng", "ResNet18", 93.85, 28.38, 86.3, 25.54, 0.7204, 153.0),
    ("ng", "ResNet50", 88.75, 24.77, 82.52, 23.3, 0.7087, 174.0),
    ("ng", "ViT", 85.264, 18.69, 79.74, 16.7, 0.7333, 78.0),
    ("finetune", "VGG16", 99.63, 0.0, 90.09, 0.0, 0.9254, 433.0),
    ("finetune", "ResNet18", 99.63, 0.0, 91.25, 0.0, 0.9337, 546.0),
    ("finetune", "ResNet50", 99.45, 0.0, 90.79, 0.0, 0.9304, 1061.0),
    ("finetune", "ViT", 90.96, 1.77, 82.43, 1.62, 0.8598, 479.0),
    ("rl", "VGG16", 80.99, 3.56, 72.4, 3.69, 0.7806, 24.0),
    ("rl", "ResNet18", 91.38, 11.09, 84.0, 10.98, 0.8008, 30.0),
    ("rl", "ResNet50", 81.3, 12.91, 76.62, 11.84, 0.7468, 57.0),
    ("rl", "ViT", 77.58, 15.1, 73.42, 14.38, 0.7094, 23.0),
    ("fisher", "VGG16", 46.78, 55.24, 44.61, 52.3, 0.3415, 9710.0),
    ("fisher", "ResNet18", 59.0, 52.34, 55.57, 52.2, 0.3946, 12526.0),
    ("fisher", "ResNet50", 58.17, 58.06, 55.95, 56.2, 0.3781, 19850.0),
    ("fisher", "ViT", 42.68, 66.34, 43.34, 62.3, 0.2911, 13238.0),
    ("shrink", "VGG16", 90.73, 10.16, 81.53, 9.58, 0.7943, 116.0),
    ("shrink", "ResNet18", 95.88, 9.75, 87.91, 10.24, 0.8329, 191.0),
    ("shrink", "ResNet50", 86.03, 3.94, 80.09, 3.46, 0.8303, 471.0),
    ("shrink", "ViT", 85.22, 0.61, 79.29, 0.28, 0.8498, 163.0),
    ("iwu", "VGG16", 90.81, 0.0, 82.35, 0.1, 0.8712, 1351.0),
    ("iwu", "ResNet18", 89.41, 0.0, 82.55, 0.0, 0.8733, 362.0),
    ("iwu", "ResNet50", 86.11, 0.0, 79.98, 0.0, 0.8565, 1513.0),
    ("iwu", "ViT", 82.48, 3.92, 77.01, 2.58, 0.8174, 1563.0),
    ("lau", "VGG16", 99.97, 0.0, 92.18, 0.0, 0.9405, 3.76),
    ("lau", "ResNet18", 99.97, 0.0, 93.53, 0.0, 0.9504, 4.37),
    ("lau", "ResNet50", 99.92, 0.0, 93.52, 0.0, 0.9504, 7.76),
    ("lau", "ViT", 87.51, 0.0, 81.14, 0.0, 0.864, 25.93),
)  # fmt: skip

CIFAR_10 = tuple(
    Figure(
        method=method,
        network=network,
        retain=retain,
        forget=forget,
        test_retain=test_retain,
        test_forget=test_forget,
        us=us,
        seconds=seconds,
    )
    for method, network, retain, forget, test_retain, test_forget, us, seconds in _CELLS
)
