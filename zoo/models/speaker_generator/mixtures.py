"""Groups in data without labels: mixtures of Gaussians that share one covariance."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.models.speaker_generator.metrics import match

DIMENSIONS = 40  # principal components that are looked at, but
POINTS = 15  # points for each of them at least
FIRST_STEPS, LAST_STEPS = 15, 60  # of EM: from every start, and from the best of them
BEST = 16
LLOYD = 10  # steps of k-means
RIDGE = 1e-4  # of the covariance, whose whole is 1


def fit_mixture(
    x: Tensor, components: int, *, generator: torch.Generator, label: Tensor | None = None, starts: int = 192
) -> tuple[Tensor, Tensor]:
    """The most likely mixture of Gaussians with one covariance for all components.

    Because the covariance is learned, directions in which points vary within each group count little, however far they
    vary: without labels it is what linear discriminant analysis is with them (McLachlan & Peel 2000, Finite Mixture
    Models, chapter 3). EM (Dempster, Laird & Rubin 1977) alone mostly ends where two groups share a component and a
    third has two. So it starts from many clusterings by k-means++ (Arthur & Vassilvitskii 2007), with and without steps
    of k-means, in spaces from one where the first principal components count for more than they vary to one where all
    have the same variance; the likeliest go on, and the likeliest of them is the result. Labels hold from there on. It
    is computed on the CPU, in the same way everywhere.

    Args:
        x: points ``(n, features)``.
        components: how many, K.
        generator: of the starts, on the CPU.
        label: the component where it is known, else -1, int64 ``(n,)``.
        starts: how many.

    Returns:
        Weight ``(features, K)`` and bias ``(K,)``: ``softmax(x @ weight + bias)`` is the probability of the components.

    Raises:
        ValueError: if there are fewer points or features than make sense, or ``starts`` is less than 1.
    """
    if x.dim() != 2 or components < 2 or len(x) < components or starts < 1:
        raise ValueError(
            f"need x (n, features), 2 <= components <= n and starts >= 1, got {tuple(x.shape)}, {components}, {starts}"
        )
    device, x = x.device, x.float().cpu()
    mean = x.mean(0)
    points, scale, directions = torch.linalg.svd(x - mean, full_matrices=False)
    used = min(DIMENSIONS, max(1, len(x) // POINTS), int((scale > 1e-4 * scale[0]).sum()))
    points, scale = points[:, :used] * len(x) ** 0.5, scale[:used] / len(x) ** 0.5
    clusterings = []
    for start in range(starts):
        space = points * scale ** (2 - 2 * start / starts)
        clusterings.append(cluster(space, components, LLOYD * (start % 2), generator))
    posterior = F.one_hot(torch.stack(clusterings), components).float()
    excluded = torch.zeros(len(x), components, dtype=torch.bool)
    posterior = likeliest(points, posterior, excluded, steps=FIRST_STEPS, keep=min(BEST, starts))
    if label is not None:
        label = label.cpu()
        posterior = torch.stack([in_order(one, label) for one in posterior])
        excluded = (label >= 0)[:, None] & (torch.arange(components) != label[:, None])
    weight, bias, _ = maximise(points, likeliest(points, posterior, excluded, steps=LAST_STEPS, keep=1))
    weight = (directions[:used].T / scale) @ weight[0]
    return weight.to(device), (bias[0] - mean @ weight).to(device)


def likeliest(points: Tensor, posterior: Tensor, excluded: Tensor, *, steps: int, keep: int) -> Tensor:
    """Those ``keep`` of several posteriors ``(fits, n, K)`` that are likeliest after some steps of EM.

    ``excluded`` ``(n, K)`` says which components a point cannot have.
    """
    for _ in range(steps):
        weight, bias, constant = maximise(points, posterior)
        joint = (points @ weight + bias[:, None]).masked_fill(excluded, -torch.inf)
        posterior = joint.softmax(-1)
    return posterior[(joint.logsumexp(-1) + constant).mean(1).topk(keep).indices]


def maximise(points: Tensor, posterior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The M-step for ``points`` ``(n, d)`` of covariance 1 and several posteriors ``(fits, n, K)``.

    Returns:
        Weight ``(fits, d, K)`` and bias ``(fits, K)`` of the logarithm of p(component, point), and the part of it that
        is the same for all components, ``(fits, n)``.
    """
    count = posterior.sum(1).clamp(min=1e-3)
    share = count / count.sum(-1, keepdim=True)
    means = posterior.transpose(1, 2) @ points / count.unsqueeze(-1)
    between = (means * share.unsqueeze(-1)).transpose(1, 2) @ means
    eye = torch.eye(points.shape[1])
    factor = torch.linalg.cholesky((1 + RIDGE) * eye - between)
    precision = torch.cholesky_inverse(factor)
    weight = precision @ means.transpose(1, 2)
    bias = share.log() - 0.5 * (means * weight.transpose(1, 2)).sum(-1)
    spread = ((points @ precision) * points).sum(-1)
    return weight, bias, -0.5 * spread - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)


def cluster(points: Tensor, components: int, steps: int, generator: torch.Generator) -> Tensor:
    """Cluster ``points`` ``(n, d)`` by k-means++ and some steps of k-means: int64 ``(n,)``."""
    centres = torch.empty(components, points.shape[1])
    distance = torch.ones(len(points))
    for k in range(components):
        centres[k] = points[torch.multinomial(distance.clamp(min=1e-9), 1, generator=generator)[0]]
        new = (points - centres[k]).square().sum(1)
        distance = torch.minimum(distance, new) if k else new
    nearest = torch.cdist(points, centres).argmin(1)
    for _ in range(steps):
        member = F.one_hot(nearest, components).float()
        count = member.sum(0)[:, None]
        centres = torch.where(count > 0, member.T @ points / count.clamp(min=1), centres)
        nearest = torch.cdist(points, centres).argmin(1)
    return nearest


def in_order(posterior: Tensor, label: Tensor) -> Tensor:
    """``posterior`` ``(n, K)`` with its components in the order of ``label`` ``(n,)``, as far as it is known."""
    components = posterior.shape[1]
    known = label >= 0
    counts = F.one_hot(posterior[known].argmax(-1), components).T @ F.one_hot(label[known], components)
    return posterior[:, match(counts).argsort()]
