"""Networks for the chain rule of a code: masked perceptrons, and a transformer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.cat_vae.chain import ChainNet


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
        said = self.out(h.view(shape))
        return said if part is None else said[..., part[0] :, :]
