"""Draw samples from a generative model and save them as a picture.

    python scripts/sample.py checkpoint=cat_vae.mnist
    python scripts/sample.py checkpoint=runs/mine n=100 seed=1 output=mine.png

The picture shows pixel means.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError


def sample(
    checkpoint: str,
    *,
    n: PositiveInt = 64,
    seed: NonNegativeInt = 0,
    output: Path = Path("samples.png"),
    trust: Sequence[str] = (),
) -> None:
    """Draw from a model, and save a picture.

    Args:
        checkpoint: a pretrained model, its folder, a run folder or a checkpoint file of one.
        n: how many samples.
        seed: of the draws.
        output: the picture.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Raises:
        ZooError: if the model generates nothing, or ``output`` cannot be written.
    """
    from torch import Tensor

    from zoo.data.seeding import PREDICT, seed_default_generators
    from zoo.training.plots import image_grid

    model = hub.from_pretrained(checkpoint, trust=trust)
    if not hasattr(model, "sample"):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, which generates nothing to sample")
    seed_default_generators(seed, PREDICT)
    images = model.sample(n)
    if not (isinstance(images, Tensor) and images.dim() == 4 and images.shape[1] in (1, 3)):
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ZooError(f"{checkpoint} draws no pictures (n, channels, height, width), but {shape}: call model.sample")
    figure = image_grid(images, f"Samples of {checkpoint}: pixel means")
    with written(output) as path:
        figure.savefig(path, dpi=120)
    print(output)


main = command(sample, text=str(__doc__), notes=pretrained)
