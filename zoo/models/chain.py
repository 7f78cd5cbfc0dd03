"""Laws of a whole code: its positions one after the other, each a categorical given those before it.

The networks that tell a position of those before it: masked perceptrons, and a transformer.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.errors import ZooError
from zoo.relaxations import Categorical
from zoo.relaxations.base import Draw
from zoo.relaxations.noise import DEFAULT, Noise

__all__ = ["MADE", "Chain", "ChainNet", "CodeTransformer"]


class ChainNet(nn.Module):
    """A network that tells each position of a code about those before it.

    ``forward(code, context)`` takes codes ``(..., latents, categories)``, one-hot or soft, and gives what is added to
    the logits of each position, of the same shape: what it adds at a position depends on the positions of earlier
    groups alone. ``forward(before, context, (start, stop))`` gives those of one group, of the positions before it.

    Args:
        latents, categories: the size of the code.
        groups: of neighbouring positions that do not see each other and are drawn at once, each as large as the others
            to one position; null for one position a group.
        context: width of what else it is told, ``(..., context)``; 0 for nothing.

    Raises:
        ValueError: if there are fewer than 1 or more than ``latents`` groups, or a number is out of range.
    """

    def __init__(self, *, latents: int, categories: int, groups: int | None = None, context: int = 0) -> None:
        super().__init__()
        groups = latents if groups is None else groups
        if latents < 1 or categories < 2 or context < 0 or not 1 <= groups <= latents:
            raise ValueError(
                "need latents >= 1, categories >= 2, context >= 0 and groups in [1, latents], got "
                f"{latents}, {categories}, {context}, {groups}"
            )
        self.latents, self.categories, self.context = latents, categories, context
        self.bounds = [round(group * latents / groups) for group in range(groups + 1)]

    def group_of(self) -> list[int]:
        """The group of each position."""
        return [sum(stop <= position for stop in self.bounds[1:]) for position in range(self.latents)]


class Chain:
    """The law of a code by the chain rule: position i is categorical with logits that see the groups before its own.

    Without a network the positions are independent. A value, nearly free to make; codes are one-hot or soft,
    ``(..., latents, categories)``.

    Args:
        logits: of each position before it sees others, ``(..., latents, categories)``.
        net: what the positions before add to them.
        context: what the network is told beside the code, ``(..., context)``.
        tau: temperature; the logits of each position given those before are divided by it.
    """

    def __init__(
        self, logits: Tensor, net: ChainNet | None = None, context: Tensor | None = None, *, tau: float = 1.0
    ) -> None:
        self.logits, self.net, self.context, self.tau = logits, net, context, tau

    @property
    def bounds(self) -> list[int]:
        """Where the groups begin, and where the last one ends."""
        return [0, self.logits.shape[-2]] if self.net is None else self.net.bounds

    def at(self, tau: float) -> "Chain":
        """This law at another temperature.

        Raises:
            ZooError: if it is not positive.
        """
        if not tau > 0:
            raise ZooError(f"temperature must be positive, got {tau}")
        return Chain(self.logits, self.net, self.context, tau=tau)

    def repeat(self, samples: int) -> "Chain":
        """This law of ``(batch, ...)`` as that of ``(batch, samples, ...)``."""
        context = None if self.context is None else self.context.unsqueeze(1)  # which the network broadcasts
        return Chain(self.logits.unsqueeze(1).expand(-1, samples, -1, -1), self.net, context, tau=self.tau)

    def conditionals(self, code: Tensor) -> Tensor:
        """Logits of each position given those before it in ``code``; not normalised."""
        logits = self.logits if self.net is None else self.logits + self.net(code, self.context).to(self.logits)
        return logits if self.tau == 1 else logits / self.tau

    def log_prob(self, code: Tensor) -> Tensor:
        """Log-probability of codes in nats, ``(...)``; of a soft code linear in each position given those before."""
        return Categorical(self.conditionals(code)).log_prob(code).sum(-1)

    def draw(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """A code, group after group, each by ``draw(logits)``, and the logits it was drawn with.

        Returns:
            Code and logits, both of the shape of :attr:`logits`.
        """
        if self.net is None:
            logits = self.conditionals(self.logits)
            return draw(logits), logits
        drawn: list[Tensor] = []
        used: list[Tensor] = []
        for part in zip(self.bounds, self.bounds[1:]):
            before = torch.cat(drawn, -2) if drawn else self.logits[..., :0, :]
            logits = self.logits[..., part[0] : part[1], :] + self.net(before, self.context, part).to(self.logits)
            used.append(logits if self.tau == 1 else logits / self.tau)
            drawn.append(draw(used[-1]))
        return torch.cat(drawn, -2), torch.cat(used, -2)

    @torch.no_grad()
    def sample(self, n: int | None = None, *, noise: Noise = DEFAULT) -> Tensor:
        """One-hot codes drawn exactly: of a law ``(latents, categories)`` ``n`` of them, else one for each of its."""
        law = self if n is None else Chain(self.logits.expand(n, -1, -1), self.net, self.context, tau=self.tau)
        return law.draw(lambda logits: Categorical(logits).sample(noise=noise))[0]

    def sample_index(self, n: int, *, replacement: bool = True, noise: Noise = DEFAULT) -> Tensor:
        """Codes of a law ``(latents, categories)``, int64 ``(n, latents)``; they differ without ``replacement``."""
        code = self.sample(n, noise=noise) if replacement else self.sample_without_replacement(n, noise=noise)[0]
        return code.argmax(-1)

    @torch.no_grad()
    def sample_and_score(self, *, noise: Noise = DEFAULT) -> tuple[Tensor, Tensor]:
        """As :meth:`sample` and :meth:`log_prob`, in one pass."""
        code, logits = self.draw(lambda logits: Categorical(logits).sample(noise=noise))
        return code, Categorical(logits).log_prob(code).sum(-1)

    def mode(self) -> Tensor:
        """One-hot codes of the most probable category of each position, given those chosen before."""
        return self.draw(lambda logits: Categorical(logits).mode())[0]

    @torch.no_grad()
    def sample_without_replacement(self, n: int, *, noise: Noise = DEFAULT) -> tuple[Tensor, Tensor]:
        """``n`` different codes of a law ``(latents, categories)``, in the order of a draw without replacement.

        By ancestral Gumbel top-k: the perturbed log-probabilities of all codes are followed down the tree, and only the
        best ``n`` of each depth are kept (Kool et al. 2019, arXiv 1903.06059).

        Returns:
            One-hot codes ``(n, latents, categories)`` and their log-probabilities in nats, ``(n,)``.

        Raises:
            ZooError: if there are fewer than ``n`` codes.
        """
        latents, categories = self.logits.shape
        if n < 1 or n > categories**latents:
            raise ZooError(f"{categories} ** {latents} different codes cannot give {n} without replacement")
        log_p, perturbed = self.logits.new_zeros(1), self.logits.new_zeros(1)
        codes = self.logits.new_zeros(1, latents, categories)
        for position in range(latents):
            law = Chain(self.logits.expand(len(codes), -1, -1), self.net, self.context, tau=self.tau)
            children = log_p[:, None] + law.conditionals(codes)[:, position].log_softmax(-1)
            scores = at_most(perturbed[:, None], children + noise.gumbel(children))
            best = scores.flatten().topk(min(n, scores.numel())).indices
            parent, category = best // categories, best % categories
            log_p, perturbed = children.flatten()[best], scores.flatten()[best]
            codes = codes[parent]
            codes[torch.arange(len(codes)), position, category] = 1
        return codes, log_p


def at_most(top: Tensor, scores: Tensor) -> Tensor:
    """Gumbel ``scores`` ``(rows, children)`` given that the greatest of each row is ``top`` ``(rows, 1)``.

    Kool et al. 2019, appendix B.3.
    """
    greatest = scores.max(-1, keepdim=True).values
    v = top - scores + torch.log1p(-(scores - greatest).exp())  # minus infinity at the greatest
    return top - v.clamp_min(0) - torch.log1p((-v.abs()).exp())


class MaskedLinear(nn.Linear):
    """A linear layer with ``mask`` ``(out, in)`` on its weights."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float(), persistent=False)

    def forward(self, x: Tensor, rows: slice = slice(None), columns: int | None = None) -> Tensor:
        """Outputs ``rows``, of the first ``columns`` inputs."""
        return F.linear(x, (self.weight * self.mask)[rows, :columns], self.bias[rows])


class MADE(Configurable, ChainNet):
    """A masked perceptron (Germain et al. 2015, arXiv 1502.03509), with a direct layer beside the hidden ones.

    At first it adds nothing: the law begins as that of independent positions.

    Args:
        latents, categories, groups, context: as for every :class:`ChainNet`.
        hidden: widths of the hidden layers, at least one.

    Raises:
        ValueError: as :class:`ChainNet`, and if a width is less than 1 or there is none.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        hidden: Sequence[int] = (512,),
        groups: int | None = None,
        context: int = 0,
    ) -> None:
        super().__init__(latents=latents, categories=categories, groups=groups, context=context)
        check_positive(hidden=hidden)
        ends = torch.tensor([group for group in self.group_of() for _ in range(categories)])
        last = max(1, len(self.bounds) - 2)
        seen = [ends, *(torch.arange(width) * last // width for width in hidden)]  # the latest group that a unit sees
        self.hidden = nn.ModuleList(MaskedLinear(after[:, None] >= before) for before, after in pairwise(seen))
        self.out, self.direct = MaskedLinear(ends[:, None] > seen[-1]), MaskedLinear(ends[:, None] > ends)
        self.told = nn.Linear(context, hidden[0], bias=False) if context else None
        for layer in (self.out, self.direct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, code: Tensor, context: Tensor | None = None, part: tuple[int, int] | None = None) -> Tensor:
        flat, rows = code.flatten(-2), slice(None)
        if part is not None:
            rows = slice(part[0] * self.categories, part[1] * self.categories)
        h = flat
        for i, layer in enumerate(self.hidden):
            h = layer(h, columns=flat.shape[-1]) if i == 0 else layer(h)
            if i == 0 and self.told is not None:
                h = h + self.told(context)
            h = F.silu(h)
        said = self.out(h, rows) + self.direct(flat, rows, flat.shape[-1])
        return said.unflatten(-1, (-1, self.categories))


class CodeTransformer(Configurable, ChainNet):
    """A causal transformer over the positions of a code, one position after the other.

    At first it adds nothing: the law begins as that of independent positions.

    Args:
        latents, categories, context: as for every :class:`ChainNet`.
        width: of the features of a position.
        heads: of the attention.
        layers: number of them.
        dropout: in training.

    Raises:
        ValueError: as :class:`ChainNet`, and if a number is out of range or ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        *,
        latents: int,
        categories: int,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.0,
        context: int = 0,
    ) -> None:
        super().__init__(latents=latents, categories=categories, context=context)
        check_positive(width=width, heads=heads, layers=layers)
        if width % heads:
            raise ValueError(f"heads={heads} does not divide width={width}")
        self.embed = nn.Linear(categories, width, bias=False)
        self.told = nn.Linear(context, width) if context else None
        self.position = nn.Parameter(0.02 * torch.randn(latents, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, activation=F.silu, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        last = nn.Linear(width, categories)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.out = nn.Sequential(nn.LayerNorm(width), last)

    def forward(self, code: Tensor, context: Tensor | None = None, part: tuple[int, int] | None = None) -> Tensor:
        if part is None:
            code = code[..., :-1, :]
        before = F.pad(self.embed(code), (0, 0, 1, 0))  # each position is told of the one before
        count = before.shape[-2]
        h = before + self.position[:count]
        if self.told is not None:
            h = h + self.told(context).unsqueeze(-2)
        shape, h = h.shape, h.reshape(-1, *h.shape[-2:])
        never = torch.ones(count, count, dtype=torch.bool, device=h.device).triu(1)
        for layer in self.layers:
            h = layer(h, src_mask=never)
        h = h.view(shape)
        return self.out(h if part is None else h[..., part[0] :, :])
