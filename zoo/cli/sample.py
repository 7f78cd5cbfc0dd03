"""Draw samples from a generative model and save them as a picture.

    python scripts/sample.py checkpoint=cat_vae.mnist
    python scripts/sample.py checkpoint=runs/mine n=100 seed=1 output=mine.png
    python scripts/sample.py checkpoint=cat_vae.mnist show=nearest                  beside the nearest training images
    python scripts/sample.py checkpoint=cat_vae.mnist temperature=0.7 replacement=false
    python scripts/sample.py checkpoint=cat_vae.mnist judge=image_classifier.mnist  and their distance to real images

The picture shows pixel means.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, written
from zoo.errors import ZooError

ARCHS = ("cat_vae", "tokenizer")


def sample(
    checkpoint: str,
    *,
    n: Annotated[int, Field(ge=1, le=10_000)] = 64,
    seed: NonNegativeInt = 0,
    temperature: PositiveFloat = 1.0,
    replacement: bool = True,
    show: Literal["samples", "nearest", "interpolations", "code_maps"] = "samples",
    judge: str | None = None,
    output: Path = Path("samples.png"),
    trust: Sequence[str] = (),
) -> None:
    """Draw from a model, and save a picture.

    Args:
        checkpoint: a pretrained model, its folder, a run folder or a checkpoint file of one.
        n: how many samples; of interpolations, how many pairs of test images.
        seed: of the draws.
        temperature: of the prior.
        replacement: false for samples of codes that all differ.
        show: samples; nearest, each beside the nearest training image; interpolations of test images; code_maps, which
            pixels each latent moves.
        judge: an image classifier, in whose features the Fréchet distance of samples to the test images is printed.
        output: the picture.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Raises:
        ZooError: if the model generates nothing, or not what is asked for, or ``output`` cannot be written.
    """
    from torch import Tensor

    from zoo.data.seeding import PREDICT, seed_default_generators
    from zoo.training.plots import image_grid, image_pairs, style

    saved = hub.read(checkpoint, trust, ARCHS)
    model: Any = saved.build()
    if not hasattr(model, "sample"):
        others = {"solve": "solve", "speak": "speak", "predict": "play", "step": "write"}  # a method -> its command
        better = next((f": use zoo {name}" for method, name in others.items() if hasattr(model, method)), "")
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, which has nothing to sample{better}")
    how: dict[str, Any] = {}
    how |= {} if temperature == 1 else {"temperature": temperature}
    how |= {} if replacement else {"replacement": replacement}
    needs = dict.fromkeys(how, "sample_codes") | ({"judge": "draw_pixels"} if judge else {})
    needs |= {"show": {"interpolations": "interpolate", "code_maps": "code_map"}.get(show, "sample")}
    if lacking := [option for option, method in needs.items() if not hasattr(model, method)]:
        raise ZooError(
            f"{checkpoint} is a {type(model).__name__}, which has no use for {', '.join(lacking)}: leave it out"
        )
    splits = {} if show == "samples" and not judge else images_of(saved)
    seed_default_generators(seed, PREDICT)
    with style():
        if show == "interpolations":
            figure = image_grid(model.interpolate(splits["test"][: 2 * n]).flatten(0, 1), "From one image to another")
        elif show == "code_maps":
            figure = image_grid(model.code_map(splits["test"][:n]), f"Which pixels each latent of {checkpoint} moves")
        else:
            images = model.sample(n, **how)
            if not (isinstance(images, Tensor) and images.dim() == 4 and images.shape[1] in (1, 3)):
                shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
                raise ZooError(
                    f"{checkpoint} draws {shape} and not pictures (n, channels, height, width): call model.sample in "
                    "Python"
                )
            if show == "nearest":
                from zoo.lab.samples import nearest

                figure = image_pairs(
                    images, nearest(images, splits["train"]), "Samples, each beside its nearest training image"
                )
            else:
                figure = image_grid(images, f"Samples of {checkpoint}: pixel means")
        with written(output) as path:
            figure.savefig(path)
    print(output)
    if judge:
        from zoo.lab.samples import scores

        classifier: Any = hub.from_pretrained(judge, trust=trust)
        if not hasattr(classifier, "features"):
            raise ZooError(f"judge={judge} is a {type(classifier).__name__}, which has no features(x)")
        print(f"Fréchet distance to real images, in the features of {judge}")
        for name, value in scores(model, classifier, splits["test"], temperature=temperature).items():
            print(f"    {name:<24} {value:10.4g}")


def images_of(saved: hub.Saved) -> dict[str, Any]:
    """Training and test images of the data that a model was trained on, as it saw them.

    Raises:
        ZooError: if these are not images.
    """
    import torch

    from zoo.config import Trust, from_config

    data = from_config(saved.data, where="data", trust=Trust.of(saved.trust))
    data.prepare_data()
    data.setup()
    if not hasattr(data, "splits"):
        raise ZooError(f"{saved.origin} was trained on {type(data).__name__}, which has no images to compare with")
    loaders = {"train": data.train_dataloader(), "test": data.test_dataloader()}
    return {name: torch.cat([batch[0] for batch in loader]) for name, loader in loaders.items()}


main = command(sample, text=str(__doc__), notes=lambda: pretrained(*ARCHS))
