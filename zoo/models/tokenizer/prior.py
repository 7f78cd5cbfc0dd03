"""An autoregressive prior over the codes of a grid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.relaxations import Categorical
from zoo.relaxations.noise import DEFAULT, Noise


class CodeTransformer(Configurable, nn.Module):
    """A small causal transformer: each number of a code given those before it, row by row.

    Args:
        places: numbers of a code.
        codes: values of each.
        width: of the features.
        layers: of attention and a feed-forward network, four times as wide.
        heads: of the attention.

    Raises:
        ValueError: if a number is less than 1, or ``heads`` does not divide ``width``.
    """

    def __init__(self, *, places: int, codes: int, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        check_positive(places=places, codes=codes, width=width, layers=layers, heads=heads)
        if width % heads:
            raise ValueError(f"heads={heads} must divide width={width}")
        self.places, self.codes = places, codes
        self.value = nn.Embedding(codes + 1, width)  # the last one stands for the beginning
        self.place = nn.Parameter(torch.randn(places, width) * 0.02)
        nn.init.normal_(self.value.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, codes)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, code: Tensor) -> Tensor:
        """Logits ``(batch, places, codes)`` of codes int64 ``(batch, places)``, each of what comes before it.

        The last number may be missing, and those before it: there are as many logits as numbers, and one more.
        """
        begin = code.new_full((len(code), 1), self.codes)
        x = self.value(torch.cat([begin, code[:, : self.places - 1]], 1))
        x = x + self.place[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x))

    def log_prob(self, code: Tensor) -> Tensor:
        """Log-probability of codes int64 ``(batch, places)``, in nats, ``(batch,)``."""
        logits = self(code).float()
        return -F.cross_entropy(logits.transpose(1, 2), code, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n: int, *, temperature: float = 1.0, noise: Noise = DEFAULT) -> Tensor:
        """Codes int64 ``(n, places)``.

        Args:
            temperature: of each number; below 1 the likelier ones come more often.
        """
        code = torch.empty(n, 0, dtype=torch.int64, device=self.place.device)
        for _ in range(self.places):
            logits = self(code)[:, -1].float() / temperature
            code = torch.cat([code, Categorical(logits).sample_index(noise=noise).unsqueeze(1)], 1)
        return code


class Layer(nn.Module):
    """Causal attention and a feed-forward network, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.back = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.mixed(self.before(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.back(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.feed(x)
