"""What each model says that it draws, and which estimators can serve it: every estimator with every model's draws."""

import pytest
import torch

from tests.models.actor_critic.test_model import make as actor_critic
from tests.models.actor_critic.test_model import transitions
from tests.models.binary_net.test_model import make as binary_net
from tests.models.cat_vae.test_model import make as cat_vae
from tests.models.language_model.test_model import make as language_model
from tests.models.mixture_of_experts.test_model import make as mixture_of_experts
from tests.models.pointer_net.test_model import instances
from tests.models.pointer_net.test_model import make as pointer_net
from tests.models.polynomial.test_model import make as polynomial
from tests.models.selector.test_model import make as selector
from tests.models.speaker_generator.test_model import generator, speech
from tests.models.tokenizer.test_model import make as tokenizer
from tests.models.world_model.test_model import make as world_model
from tests.models.world_model.test_model import sequences
from zoo.errors import ZooError
from zoo.models.cat_vae import MADE
from zoo.relaxations import OF_CODEBOOKS, RELAXATIONS

ALL = RELAXATIONS | OF_CODEBOOKS
Y = torch.tensor([0, 1, 1, 0])


def made_cat_vae(relaxation):
    chain = MADE(latents=3, categories=4, hidden=[8])
    return cat_vae(relaxation=relaxation, posterior=chain)


MODELS = {
    "selector": (
        lambda relaxation: selector(relaxation=relaxation, start=0.5),
        lambda model: model.expected(torch.randn(4, 6), Y, model.budget(0.0)),
    ),
    "selector of one": (
        lambda relaxation: selector(relaxation=relaxation, k=1, start=0.1, each=True),
        lambda model: model.expected(torch.randn(4, 6), Y, 1),
    ),
    "language_model": (
        lambda relaxation: language_model(relaxation=relaxation, gates="hard"),
        lambda model: model.expected(torch.randint(5, (4, 6)), torch.ones(4, 5))[0],
    ),
    "language_model of experts": (
        lambda relaxation: language_model("experts", relaxation=relaxation),
        lambda model: model.expected(torch.randint(5, (4, 3)), torch.ones(4, 2))[0],
    ),
    "mixture_of_experts": (
        lambda relaxation: mixture_of_experts(relaxation),
        lambda model: model.training_step((torch.randn(4, 2, 3), Y), 0)["loss"],
    ),
    "mixture_of_experts, two": (
        lambda relaxation: mixture_of_experts(relaxation, k=2),
        lambda model: model.training_step((torch.randn(4, 2, 3), Y), 0)["loss"],
    ),
    "binary_net": (
        lambda relaxation: binary_net("mlp", relaxation),
        lambda model: model.training_step((torch.randn(4, *model.shape), Y), 0)["loss"],
    ),
    "binary_net of bricks": (
        lambda relaxation: binary_net("bricks", relaxation),
        lambda model: model.training_step((torch.randn(4, *model.shape), Y), 0)["loss"],
    ),
    "cat_vae": (
        lambda relaxation: cat_vae(relaxation=relaxation),
        lambda model: model.train().terms(torch.rand(4, 1, 28, 28).round(), model.posterior(torch.rand(4, 1, 28, 28)))[
            "loss"
        ],
    ),
    "cat_vae, autoregressive": (
        made_cat_vae,
        lambda model: model.train().terms(torch.rand(4, 1, 28, 28).round(), model.posterior(torch.rand(4, 1, 28, 28)))[
            "loss"
        ],
    ),
    "actor_critic": (
        lambda relaxation: actor_critic(relaxation=relaxation, actions=(3, 2)),
        lambda model: model.actor_terms(transitions(actions=(3, 2)).observation)["actor_loss"],
    ),
    "pointer_net": (
        lambda relaxation: pointer_net(relaxation=relaxation),
        lambda model: model.expectation(instances(model, size=4))["loss"],
    ),
    "polynomial": (
        lambda relaxation: polynomial(relaxation, latents=6),
        lambda model: model.training_step((torch.zeros(4),), 0)["loss"],
    ),
    "speaker_generator": (lambda relaxation: generator(relaxation), lambda model: model.terms(speech())["neg_elbo"]),
    "tokenizer": (
        lambda relaxation: tokenizer("codebook", relaxation),
        lambda model: model.training_step((torch.rand(4, 3, 8, 8), None), 0)["loss"],
    ),
    "tokenizer, residual": (
        lambda relaxation: tokenizer("residual", relaxation),
        lambda model: model.training_step((torch.rand(4, 3, 8, 8), None), 0)["loss"],
    ),
    "world_model": (
        lambda relaxation: world_model(relaxation=relaxation),
        lambda model: model.world_terms(sequences())[0],
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_what_cannot_be_served_is_known_beforehand_and_nothing_else_is_refused(name):
    make, step = MODELS[name]
    refused = []
    for kind in ALL.values():
        model = None
        try:
            model = make(kind())
            model.relaxation.check(model.choices(), dependent=model.chained)
        except (ZooError, ValueError) as error:
            refused.append(str(error))
            if model is not None:
                with pytest.raises(ZooError):
                    step(model.train())
        else:
            step(model.train())
    assert len(refused) < len(ALL)
    assert all(any(known in message for known in RELAXATIONS) for message in refused), refused
