"""Our vector quantisation beside vector-quantize-pytorch's: reconstruction and CPU time, with the same network.

    pip install vector-quantize-pytorch
    python scripts/bench/codebooks.py [steps=400] [seeds=3] [data.root=FOLDER]

Both quantise the same points of the same encoder with the same initial weights, in the same order of batches, by moving
averages with the same decay, copied gradients and the same commitment, in turns. Theirs begins with random vectors, or
by k-means on the first batch, as its documentation advises; dead vectors are replaced in both. FashionMNIST, grey
levels; the mean squared error is of the first 1,000 test images.
"""

import statistics
import sys
import time

import torch
from torch import nn
from vector_quantize_pytorch import VectorQuantize

from zoo.data import FashionMNIST
from zoo.models.tokenizer import GridDecoder, GridEncoder
from zoo.relaxations import VQ, CodebookQuantizer

CODES, WIDTH, DECAY, BATCH = 512, 16, 0.9, 64
NETS = {"features": WIDTH, "shape": [1, 28, 28], "channels": 16}


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quantizer, self.relaxation = (
            CodebookQuantizer(width=WIDTH, codes=CODES, decay=DECAY),
            VQ(gradient="copied"),
        )

    def forward(self, points):
        penalty = self.quantizer.penalty(points).mean() if self.training else 0.0
        return self.quantizer(points, self.relaxation), penalty

    def used(self, points):
        return self.quantizer.encode(points)

    def update(self) -> None:
        self.quantizer.update()


class Theirs(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        dead = 0.1 * BATCH * 49 / CODES  # the same share of the fair use
        options = {
            "decay": DECAY,
            "rotation_trick": False,
            "commitment_weight": 1.0,
            "threshold_ema_dead_code": dead,
        } | options
        self.quantizer = VectorQuantize(dim=WIDTH, codebook_size=CODES, **options)

    def forward(self, points):
        vectors, _, loss = self.quantizer(points)
        return vectors, loss.sum() * points[0].numel()  # a mean there, a sum here

    def used(self, points):
        return self.quantizer(points)[1]

    def update(self) -> None:
        pass


WAYS = {
    "ours": Ours,
    "theirs, random": Theirs,
    "theirs, k-means": lambda: Theirs(kmeans_init=True, kmeans_iters=10),
}


class Run:
    """A training that can be gone on with."""

    def __init__(self, way: str, seed: int, data: FashionMNIST, steps: int) -> None:
        torch.manual_seed(seed)
        self.encoder, self.decoder = GridEncoder(**NETS), GridDecoder(**NETS)
        self.quantizer = WAYS[way]()
        self.modules = nn.ModuleList([self.encoder, self.decoder, self.quantizer])
        parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0, fused=True)
        factor = lambda step: min(1.0, (step + 1) / 100) * min(1.0, 2 - 2 * step / steps)  # noqa: E731
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.images, self.order = data.splits["train"][0], torch.Generator().manual_seed(seed)
        self.seconds, self.generator = 0.0, torch.Generator().manual_seed(seed).get_state()

    def points(self, x):
        return self.encoder(x).flatten(2).transpose(1, 2)

    def decoded(self, vectors):
        return self.decoder(vectors.transpose(1, 2).unflatten(2, (7, 7)))

    def go(self, steps: int) -> None:
        torch.set_rng_state(self.generator)
        self.modules.train()
        for _ in range(steps):
            x = self.images[torch.randint(len(self.images), (BATCH,), generator=self.order)].float() / 255
            began = time.process_time()
            vectors, penalty = self.quantizer(self.points(x))
            loss = (x - self.decoded(vectors)).square().flatten(1).sum(1).mean() / 0.02 + penalty
            self.optimizer.zero_grad()
            loss.backward()
            self.quantizer.update()
            self.optimizer.step()
            self.schedule.step()
            self.seconds += time.process_time() - began
        self.generator = torch.get_rng_state()

    @torch.no_grad()
    def score(self, x) -> tuple[float, float]:
        """Mean squared error x 1000, and the share of the codes in use."""
        self.modules.eval()
        vectors, _ = self.quantizer(self.points(x))
        error = (x - self.decoded(vectors).clamp(0, 1)).square().mean().item()
        return 1000 * error, len(self.quantizer.used(self.points(x)).unique()) / CODES


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    steps, seeds = int(options.get("steps", 400)), int(options.get("seeds", 3))
    torch.set_num_threads(1)
    data = FashionMNIST(root=options.get("data.root"), binarize="none")
    data.setup()
    x = data.splits["test"][0][:1000].float() / 255
    results: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        runs = {way: Run(way, seed, data, steps) for way in WAYS}
        for _ in range(10):  # in turns, so that a busy machine slows each down alike
            for run in runs.values():
                run.go(steps // 10)
        for way, run in runs.items():
            results[way].append((*run.score(x), 1000 * run.seconds / steps))
            print(seed, way, *(f"{value:.4g}" for value in results[way][-1]), flush=True)
    print(f"\n{steps} steps, batch {BATCH}, {seeds} seeds, one thread: mean (least to most)\n")
    print("| quantiser | MSE x 1000 | codes in use | CPU ms a step |\n| --- | ---: | ---: | ---: |")
    for way, values in results.items():
        columns = [f"{statistics.mean(c):.3g} ({min(c):.3g} to {max(c):.3g})" for c in zip(*values)]
        print(f"| {way} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
