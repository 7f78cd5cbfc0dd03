"""The categorical VAE: its bound against enumeration, its methods, its steps."""

import math

import pytest
import torch
from torch import nn

import zoo
from zoo.config import Trust, from_config, to_config
from zoo.errors import ZooError
from zoo.models.cat_vae import (
    MADE,
    Bernoulli,
    CatVAE,
    Chain,
    ConvDecoder,
    ConvEncoder,
    DiscretizedLogistic,
    Gaussian,
    GreyLevels,
    LocalHead,
    MLPDecoder,
    MLPEncoder,
)
from zoo.relaxations import RELAXATIONS, Categorical, Exact, ReinMax, Relaxation
from zoo.training import AdamW


def make(latents: int = 3, categories: int = 4, relaxation: Relaxation | None = None, **arguments) -> CatVAE:
    size = {"latents": latents, "categories": categories}
    defaults = {
        "encoder": MLPEncoder(**size, hidden=[16]),
        "decoder": MLPDecoder(**size, hidden=[16]),
        "relaxation": relaxation or ReinMax(),
        "optimizer": AdamW(),
    }
    return CatVAE(**size, **(defaults | arguments))


@pytest.fixture
def x():
    return (torch.rand(5, 1, 28, 28) < 0.3).float()


def all_codes(latents: int, categories: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(categories)] * latents).view(-1, latents)


def enumerated(model: CatVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The exact ELBO and log-likelihood, from the definitions with torch.distributions."""
    codes = all_codes(model.latents, model.categories)
    one_hot = torch.nn.functional.one_hot(codes, model.categories).float()
    pixels = torch.distributions.Bernoulli(logits=model.decoder(one_hot))
    log_px = torch.stack([pixels.log_prob(image).sum((1, 2, 3)) for image in x])  # (batch, codes)
    log_pz = torch.distributions.Categorical(logits=model.prior_logits).log_prob(codes).sum(-1)
    logits = model.encoder(x)
    log_q = torch.stack([torch.distributions.Categorical(logits=t).log_prob(codes).sum(-1) for t in logits])
    elbo = (log_q.exp() * (log_px + log_pz - log_q)).sum(-1)
    return elbo, (log_px + log_pz).logsumexp(-1)


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_elbo_equals_its_enumeration(x, prior):
    model = make(relaxation=Exact(), prior=prior)
    nn.init.normal_(model.prior_logits)
    elbo, _ = enumerated(model, x)
    terms = model.terms(x, model.posterior(x))
    torch.testing.assert_close(-terms["neg_elbo"], elbo)
    torch.testing.assert_close(terms["reconstruction"] + terms["kl"], terms["neg_elbo"])


@pytest.mark.parametrize("prior", ["learned", "made"])
def test_beta_weighs_the_kl_divergence_in_training_alone(x, prior):
    model = make(latents=2, prior=prior, beta=0.25, relaxation=Exact())
    nn.init.normal_(model.prior_logits)
    for mode in (True, False):
        torch.manual_seed(0)
        terms = model.train(mode).terms(x, model.posterior(x))
        assert terms["kl"].min() > 1e-3
        torch.testing.assert_close(terms["neg_elbo"], terms["reconstruction"] + terms["kl"])
        torch.testing.assert_close(terms["loss"], terms["reconstruction"] + (0.25 if mode else 1.0) * terms["kl"])
    with pytest.raises(ValueError, match="beta must be a number of at least 0, got nan"):
        make(beta=math.nan)


@pytest.mark.parametrize("tau", [0.8, 1.0, 1.5])
def test_importance_weighted_bound_reaches_the_log_likelihood_with_any_proposal(x, tau):
    model = make().eval()
    nn.init.normal_(model.prior_logits)
    nn.init.normal_(model.encoder.layers[-2].weight, std=0.1)
    _, log_likelihood = enumerated(model, x)
    torch.testing.assert_close(model.log_likelihood(x, 20_000, tau=tau), log_likelihood, atol=0.1, rtol=0)


def test_importance_weighted_bound_rises_from_the_elbo_to_the_log_likelihood(x):
    model = make().eval()
    nn.init.normal_(model.prior_logits)
    nn.init.normal_(model.encoder.layers[-2].weight, std=0.1)
    elbo, log_likelihood = enumerated(model, x)
    one = torch.stack([model.log_likelihood(x, 1) for _ in range(3000)])
    assert ((one.mean(0) - elbo).abs() <= 4.5 * one.std(0) / math.sqrt(3000)).all()
    # Of a uniform proposal among 64 codes of which one counts, the standard error is sqrt(63 / 20,000).
    torch.testing.assert_close(model.log_likelihood(x, 20_000), log_likelihood, atol=0.25, rtol=0)
    assert elbo.mean() < log_likelihood.mean()


def test_importance_weighted_bound_does_not_depend_on_the_chunk(x, monkeypatch):
    model = make().eval()
    monkeypatch.setattr(Categorical, "sample", lambda self, **_: self.mode())  # no noise: the same codes in every chunk
    expected = model.log_likelihood(x, 12, rows=1_000_000)
    for rows in (1, 7, 60):
        torch.testing.assert_close(model.log_likelihood(x, 12, rows=rows), expected)


def test_reweighted_wake_sleep_follows_the_exact_gradients(x):
    """With many samples: of the log-likelihood for decoder and prior, of the forward KL for the posterior."""
    model = make(prior="learned", rws_from=0.0, rws_samples=20_000)
    nn.init.normal_(model.prior_logits, std=0.5)
    nn.init.normal_(model.encoder.layers[-2].weight, std=0.1)
    image = x[:1]
    parameters = [*model.encoder.parameters(), *model.decoder.parameters(), model.prior_logits]

    codes = torch.nn.functional.one_hot(all_codes(3, 4), 4).float()
    log_q = model.posterior(image).repeat(64).log_prob(codes[None])[0]
    log_joint = model.log_joint(image, codes[None])[0]
    truth = log_joint.detach().softmax(0)
    exact = torch.autograd.grad(-log_joint.logsumexp(0) - (truth * log_q).sum(), parameters)
    estimate = torch.autograd.grad(model.rws_terms(image, model.posterior(image))["loss"].sum(), parameters)
    exact, estimate = (torch.cat([part.flatten() for part in parts]) for parts in (exact, estimate))
    assert (estimate - exact).norm() < 0.1 * exact.norm()  # bias and noise are of order samples^-0.5


def test_methods(x):
    model = make().eval()
    codes = model.encode(x)
    assert codes.shape == (5, 3) and codes.dtype == torch.int64
    assert torch.equal(model.decode(codes), model.reconstruct(x))
    assert torch.equal(model(x), model.reconstruct(x))
    samples = model.sample(7)
    assert samples.shape == (7, 1, 28, 28) and ((samples >= 0) & (samples <= 1)).all()


@pytest.mark.parametrize(
    "codes", [torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 3), torch.full((2, 3), 4), torch.full((2, 3), -1)]
)
def test_decode_refuses_what_is_no_code(codes):
    with pytest.raises(ValueError, match="codes must be"):
        make().decode(codes)


def test_samples_follow_the_prior():
    model = make(latents=1, categories=2)
    model.prior_logits.data.copy_(torch.tensor([[0.0, math.log(3)]]))
    low, high = model.decode(torch.tensor([[0], [1]]))
    samples = model.sample(4000)
    is_low, is_high = ((samples - code).abs().amax((1, 2, 3)) < 1e-4 for code in (low, high))
    assert (is_low ^ is_high).all()
    assert abs(is_high.float().mean() - 0.75) < 4.5 * math.sqrt(0.75 * 0.25 / 4000)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_few_steps_with_any_relaxation_lower_the_loss(x, name):
    """On five images: also the estimators with much variance learn the mean picture."""
    model = make(latents=2, relaxation=RELAXATIONS[name]())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.training_step((x, None), 0)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


@pytest.mark.parametrize("name", RELAXATIONS)
def test_every_parameter_gets_a_gradient(x, name):
    model = make(latents=2, relaxation=RELAXATIONS[name](), prior="learned")
    model.training_step((x, None), 0)["loss"].backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None and value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", RELAXATIONS)
def test_evaluation_decodes_exact_samples_whatever_the_relaxation(x, name):
    model = make(latents=2, relaxation=RELAXATIONS[name]()).eval()
    nn.init.normal_(model.encoder.layers[-2].weight, std=0.1)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = model.posterior(x).logits
    torch.manual_seed(1)
    model.terms(x, Chain(logits))
    torch.manual_seed(1)
    assert torch.equal(seen[0], Categorical(logits).sample())
    model.terms(x[:1].expand(4000, -1, -1, -1), Chain(logits[:1].expand(4000, -1, -1)))
    p = logits[0].softmax(-1)
    assert ((seen[1].mean(0) - p).abs() <= 4.5 * (p * (1 - p) / 4000).sqrt()).all()


def test_convolutional_networks_fit():
    size = {"latents": 3, "categories": 4}
    model = make(encoder=ConvEncoder(**size, channels=4, hidden=8), decoder=ConvDecoder(**size, channels=4, hidden=8))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 1, 28, 28)


def test_configuration_round_trip():
    config = to_config(make(prior="learned"))
    assert to_config(from_config(config, trust=Trust())) == config


def test_networks_that_do_not_fit_are_an_error(x):
    model = make(encoder=MLPEncoder(latents=2, categories=4))
    with pytest.raises(ValueError, match=r"encoder gives \(2, 4\)"):
        model(x)


@pytest.mark.parametrize(
    "arguments", [{"latents": 0}, {"categories": 1}, {"iwae_samples": 0}, {"rws_from": 2.0}, {"rws_samples": 1}]
)
def test_constructor_checks_its_numbers(arguments):
    config = to_config(make()) | arguments
    with pytest.raises(ZooError, match=next(iter(arguments))):
        from_config(config)


def test_exact_on_many_latents_is_refused(x):
    with pytest.raises(ValueError, match="combinations"):
        make(latents=30, relaxation=Exact()).training_step((x, None), 0)


def test_training_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ZooError, match="not a training checkpoint"):
        CatVAE.load_from_checkpoint(tmp_path / "other.ckpt")


def test_inference_exports(x):
    model = make().eval()
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


# What knows more: a prior and a posterior by the chain rule, a head, other likelihoods --------------------------------

SIZE = {"latents": 2, "categories": 3}


def rich(relaxation: Relaxation | None = None, *, posterior: bool = True, **arguments) -> CatVAE:
    """A small model of which every part is told of what comes before it, disturbed so that each says something."""
    model = CatVAE(
        **SIZE,
        encoder=MLPEncoder(**SIZE, hidden=[6], shape=(1, 4, 4)),
        decoder=MLPDecoder(**SIZE, hidden=[6], shape=(1, 4, 4), out_channels=2),
        relaxation=relaxation or Exact(),
        optimizer=AdamW(),
        prior=MADE(**SIZE, hidden=[5]),
        posterior=MADE(**SIZE, hidden=[5], context=6) if posterior else None,
        head=LocalHead(features=2, hidden=[4]),
        **arguments,
    )
    for part in (model.prior_net, model.posterior_net, model.head):
        for parameter in [] if part is None else part.parameters():
            nn.init.normal_(parameter, std=0.5)
    nn.init.normal_(model.prior_logits)
    return model


@pytest.fixture
def small():
    return (torch.rand(3, 1, 4, 4) < 0.3).float()


def exactly(model: CatVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The exact ELBO, KL divergence and log-likelihood by torch.distributions, one code and one position at a time."""
    codes = all_codes(**SIZE)
    elbo, kl, evidence = [], [], []
    for image in x:
        posterior = model.posterior(image[None])
        log_q, log_pz, log_px = [], [], []
        for code in nn.functional.one_hot(codes, 3).float():
            q = torch.distributions.Categorical(logits=posterior.conditionals(code[None])[0])
            p = torch.distributions.Categorical(logits=model.prior.conditionals(code))
            log_q.append(q.log_prob(code.argmax(-1)).sum())
            log_pz.append(p.log_prob(code.argmax(-1)).sum())
            pixels = torch.distributions.Bernoulli(logits=model.pixels(code[None], image[None]))
            log_px.append(pixels.log_prob(image).sum())
        log_q, log_pz, log_px = torch.stack(log_q), torch.stack(log_pz), torch.stack(log_px)
        torch.testing.assert_close(log_q.exp().sum(), torch.tensor(1.0))
        elbo.append((log_q.exp() * (log_px + log_pz - log_q)).sum())
        kl.append((log_q.exp() * (log_q - log_pz)).sum())
        evidence.append((log_px + log_pz).logsumexp(0))
    return torch.stack(elbo), torch.stack(kl), torch.stack(evidence)


@pytest.mark.parametrize("posterior", [False, True])
def test_chain_rule_elbo_and_kl_equal_their_enumeration(small, posterior):
    model = rich(posterior=posterior)
    elbo, kl, evidence = exactly(model, small)
    terms = model.terms(small, model.posterior(small))
    torch.testing.assert_close(-terms["neg_elbo"], elbo)
    torch.testing.assert_close(terms["kl"], kl)
    assert (elbo < evidence).all()


def test_chain_rule_importance_weighted_bound_reaches_the_log_likelihood(small):
    model = rich().eval()
    _, _, evidence = exactly(model, small)
    for tau in (1.5, 2.5):
        torch.testing.assert_close(model.log_likelihood(small, 20_000, tau=tau), evidence, atol=0.1, rtol=0)


def test_reweighted_wake_sleep_knows_of_every_part(small):
    """Its bound is that of the same samples scored one image and one code at a time; every weight gets a gradient."""
    model = rich(rws_from=0.0, rws_samples=5)
    torch.manual_seed(4)
    terms = model.rws_terms(small, model.posterior(small))
    torch.manual_seed(4)
    code = model.posterior(small).repeat(5).sample()
    for image, codes, bound in zip(small, code, -terms["nll"]):
        single = [
            model.log_joint(image[None], z[None, None])[0, 0] - model.posterior(image[None]).log_prob(z[None])[0]
            for z in codes
        ]
        torch.testing.assert_close(bound, torch.stack(single).logsumexp(0) - math.log(5))
    found = gradients(model, terms["loss"].sum())
    assert all(value.abs().sum() > 0 for value in found.values())


def gradients(model: CatVAE, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    named = {name: value for name, value in model.named_parameters() if not name.startswith("relaxation.")}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(named[name]) if g is None else g for name, g in zip(named, found)}


def test_gradients_by_enumeration_are_those_of_the_exact_bound(small):
    model = rich()
    expected = gradients(model, -exactly(model, small)[0].sum())
    found = gradients(model, model.terms(small, model.posterior(small))["loss"].sum())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", RELAXATIONS)
@pytest.mark.parametrize("posterior", [False, True])
def test_gradients_of_every_estimator_against_the_exact_ones(small, name, posterior):
    """What is unbiased is so for all weights; what draws hard samples, for those behind the code and not before it."""
    kind, image = RELAXATIONS[name], small[:1]
    model = rich(posterior=posterior)
    exact = gradients(model, model.terms(image, model.posterior(image))["loss"].sum())
    model.relaxation = kind()
    if posterior and not kind.dependent_draws:
        with pytest.raises(ZooError, match=kind.__name__):
            model.terms(image, model.posterior(image))["loss"].sum().backward()
        return
    runs, copies = 20, 300
    many, found = image.expand(copies, -1, -1, -1), []
    for _ in range(runs):
        found.append(gradients(model, model.terms(many, model.posterior(many))["loss"].mean()))
    sampled = kind.hard and kind.stochastic and kind.law is Relaxation.law
    for part, value in exact.items():
        behind = not part.startswith(("encoder", "posterior_net"))
        grads = torch.stack([run[part] for run in found]).flatten(1)
        assert grads.isfinite().all()
        if kind.unbiased or (sampled and behind):
            along = grads @ value.flatten() / value.norm().clamp_min(1e-9)  # one number, so one test a part
            error = 5 * along.std() / math.sqrt(runs) + 1e-4 * value.norm() + 1e-5
            assert (along.mean() - value.norm()).abs() <= error, (part, along.mean(), value.norm())


def test_head_looks_from_its_share_of_training_on(small):
    model = rich(ReinMax(), head_from=0.5)
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1] is not None))
    model.trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    for step in (0, 4, 5, 9):
        type(model).global_step = property(lambda self, step=step: step)
        try:
            model.training_step((small, None), 0)
        finally:
            del type(model).global_step
    assert seen == [False, False, True, True]


def test_methods_with_everything(small, tmp_path):
    model = rich().eval()
    again = zoo.from_pretrained(zoo.save_pretrained(model, tmp_path / "cat_vae.rich"))
    torch.testing.assert_close(again(small), model(small))
    codes = model.encode(small)
    assert codes.shape == (3, 2)
    torch.testing.assert_close(model.decode(codes), model(small))
    assert model.sample(5).shape == (5, 1, 4, 4)
    assert to_config(from_config(to_config(model), trust=Trust())) == to_config(model)


@pytest.mark.parametrize("prior", ["made", "transformer"])
def test_a_prior_by_one_word(x, prior):
    model = make(prior=prior)
    loss = model.training_step((x, None), 0)["loss"]
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.prior_net.parameters())
    assert to_config(from_config(to_config(model), trust=Trust())) == to_config(model)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"prior": MADE(latents=4, categories=3)}, "prior is of 4 latents"),
        ({"prior": MADE(latents=3, categories=4, context=2)}, "prior has no context"),
        ({"posterior": MADE(latents=3, categories=4, context=5)}, "posterior.context must be 16"),
        ({"posterior": MADE(latents=3, categories=5)}, "posterior is of 3 latents"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        make(**parts)


@pytest.mark.parametrize(
    ("likelihood", "bits"),
    [(Bernoulli(), False), (GreyLevels(), True), (DiscretizedLogistic(mixtures=2), True), (Gaussian(std=0.3), False)],
)
def test_every_likelihood_is_named_and_only_probabilities_are_told_in_bits(likelihood, bits):
    size = {"latents": 3, "categories": 4, "hidden": [16], "shape": (1, 28, 28)}
    decoder = MLPDecoder(**size, out_channels=likelihood.width(1), start=0.0)
    model = make(likelihood=likelihood, decoder=decoder)
    x = (255 * torch.rand(4, 1, 28, 28)).round() / 255
    model.training_step((x, None), 0)["loss"].backward()
    scores = model.eval().test_step((x, None), 0)
    assert ("bits_per_dim" in scores) == bits and likelihood.name in model.units
    if bits:
        assert scores["bits_per_dim"] == pytest.approx(scores["nll"].item() / 784 / math.log(2))
    for images in (model(x), model.sample(2), model.draw_pixels(model.sample_codes(2))):
        assert images.shape[1:] == x.shape[1:] and images.min() >= 0 and images.max() <= 1


def test_codes_sampled_without_replacement_differ_and_cold_ones_agree():
    model = make(prior="made").eval()
    assert len(model.sample_codes(64, replacement=False).flatten(1).unique(dim=0)) == 64
    nn.init.normal_(model.prior_logits)
    assert len(model.sample_codes(20, temperature=1e-4).flatten(1).unique(dim=0)) == 1
    with pytest.raises(ZooError, match="temperature"):
        model.sample_codes(2, temperature=0.0)


def test_interpolations_end_at_the_reconstructions_and_maps_show_what_a_latent_moves(x):
    model = make().eval()
    way = model.interpolate(x[:4], steps=5)
    assert way.shape == (2, 5, 1, 28, 28)
    torch.testing.assert_close(way[:, [0, -1]].flatten(0, 1), model(x[:4]))
    with torch.no_grad():
        model.decoder.layers[1].weight[:, 4:8] = 0  # the second latent moves nothing
    maps = model.code_map(x)
    assert maps.shape == (3, 1, 28, 28) and maps[1].max() < 1e-6 and maps.max() == 1


def test_codes_of_other_images_are_told_beside(x):
    model = make().eval()
    nn.init.normal_(model.encoder.layers[-2].weight, std=0.3)
    optimizer = torch.optim.Adam(model.train().parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        model.training_step((x, None), 0)["loss"].backward()
        optimizer.step()
    scores = model.eval().test_step((x, None), 0)
    assert scores["neg_elbo_shuffled"] > scores["neg_elbo"] + 10
