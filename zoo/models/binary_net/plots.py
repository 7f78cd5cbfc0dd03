"""Pictures of weights."""

from matplotlib.figure import Figure
from torch import nn


def weights(network: nn.Module) -> Figure:
    """A histogram of the stored weights of each layer, or of how probable the chosen brick is."""
    shown = {}
    for name, parameter in network.named_parameters():
        if name.endswith("logits"):
            shown[name] = parameter.detach().softmax(-1).amax(-1).flatten().float().cpu().numpy()
        elif parameter.dim() > 1:
            shown[name] = parameter.detach().flatten().float().cpu().numpy()
    figure = Figure(figsize=(2.6 * len(shown), 2.4), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items()):
        axes.hist(values, bins=60)
        axes.set_title(name, fontsize=8)
        axes.set_yticks([])
    return figure
