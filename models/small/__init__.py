"""Small networks of our own: the embedded default and the CIFAR ResNets."""
