"""Networks with K logits: torchvision's, each with first layers for small images or for large ones.

    vgg16: K. Simonyan, A. Zisserman, arXiv 1409.1556, with batch norm.
    resnet18, resnet50: K. He et al., arXiv 1512.03385. The small stem is that of its section 4.2, one
        convolution of 3x3 with stride 1, and no pooling.
    vit: A. Dosovitskiy et al., arXiv 2010.11929. The small one is the "tiny" of H. Touvron et al.,
        arXiv 2012.12877, on patches of 4 pixels. The large one is ViT-B/16.

ResNets are trained as by He et al., section 4.2, for CIFAR-10. Their weight decay is that of wide
ResNets (arXiv 1605.07146, section 3). VGG is trained at half their rate, ViT as by Touvron et al.
"""

from torch import nn
from torchvision.models import VisionTransformer, resnet18, resnet50, vgg16_bn, vit_b_16
from torchvision.models.resnet import ResNet

from trueface.models.registry import ClassifierShape, register_classifier

VGG_WIDTH = 512  # width of its last convolution
PATCH = {"small": 4, "large": 16}  # side of vit's patches, in pixels
TINY = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}  # arXiv 2012.12877


@register_classifier(
    "vgg16",
    summary="VGG-16 with batch norm",
    optimizer="sgd",
    lr=0.05,
    weight_decay=5e-4,
    least_size={"small": 32, "large": 32},
)
def vgg(shape: ClassifierShape) -> nn.Module:
    """Return a VGG-16; the small one has one linear layer in the place of three."""
    network = vgg16_bn(num_classes=shape.classes)
    if shape.stem == "small":
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Sequential(nn.Linear(VGG_WIDTH, shape.classes))
    return network  # type: ignore[no-any-return]  # torchvision is untyped


@register_classifier("resnet18", summary="ResNet-18", optimizer="sgd", lr=0.1, weight_decay=5e-4)
def small_resnet(shape: ClassifierShape) -> nn.Module:
    """Return a ResNet-18."""
    return _with_stem(resnet18(num_classes=shape.classes), shape)


@register_classifier("resnet50", summary="ResNet-50", optimizer="sgd", lr=0.1, weight_decay=5e-4)
def large_resnet(shape: ClassifierShape) -> nn.Module:
    """Return a ResNet-50."""
    return _with_stem(resnet50(num_classes=shape.classes), shape)


@register_classifier(
    "vit",
    summary="vision transformer",
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    least_size={"large": 32},
    patch=PATCH,
)
def transformer(shape: ClassifierShape) -> nn.Module:
    """Return a vision transformer for images of one size."""
    if shape.stem == "large":
        return vit_b_16(image_size=shape.size, num_classes=shape.classes)  # type: ignore[no-any-return]  # torchvision is untyped
    return VisionTransformer(  # type: ignore[no-any-return]  # torchvision is untyped
        image_size=shape.size, patch_size=PATCH["small"], num_classes=shape.classes, **TINY
    )


def _with_stem(network: ResNet, shape: ClassifierShape) -> nn.Module:
    if shape.stem == "small":
        first = nn.Conv2d(3, network.conv1.out_channels, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        network.conv1, network.maxpool = first, nn.Identity()
    return network  # type: ignore[no-any-return]  # torchvision is untyped
