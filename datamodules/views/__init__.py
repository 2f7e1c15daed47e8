"""Views: deterministic ways to look at images, `(images, sample ids) -> images`.

The corruptions here are *lite*: small vectorised versions of the kinds that Hendrycks and
Dietterich ("Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019) defined. They are of the same kinds and of similar strength, but they are not the images
of ImageNet-C or CIFAR-10-C, and their numbers must not be compared with published ones. The
published images are read from disk by the datamodules `imagenet_c` and `cifar10c`.
"""
