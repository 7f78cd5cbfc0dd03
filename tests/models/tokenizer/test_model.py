"""The tokenizer: its objective by hand, its codes and back, its prior against enumeration, its file."""

import math

import pytest
import torch

import zoo
from zoo.config import Trust, from_config, to_config
from zoo.errors import ZooError
from zoo.models.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian
from zoo.models.tokenizer import GridDecoder, GridEncoder, Tokenizer
from zoo.models.tokenizer.metrics import CodeUse
from zoo.relaxations import BSQ, FSQ, LFQ, VQ, CodebookQuantizer, GumbelSoftmax, ReinMax, ResidualQuantizer
from zoo.training import AdamW

NETS = {"features": 8, "shape": [3, 8, 8], "channels": 4}
QUANTIZERS = {
    "codebook": lambda: CodebookQuantizer(width=4, codes=6),
    "residual": lambda: ResidualQuantizer(depth=2, width=4, codes=6),
    "fsq": lambda: FSQ(levels=[3, 2]),
    "lfq": lambda: LFQ(bits=3),
    "bsq": lambda: BSQ(bits=3),
}


def make(quantizer="codebook", relaxation=None, **arguments) -> Tokenizer:
    defaults = {
        "encoder": GridEncoder(**NETS),
        "decoder": GridDecoder(**NETS),
        "quantizer": QUANTIZERS[quantizer](),
        "relaxation": relaxation or VQ(),
        "optimizer": AdamW(),
        "shape": [3, 8, 8],
        "prior_width": 8,
        "prior_layers": 1,
    }
    return Tokenizer(**(defaults | arguments))


@pytest.fixture
def x():
    return torch.rand(5, 3, 8, 8)


def step(model: Tokenizer, x: torch.Tensor) -> dict[str, torch.Tensor]:
    values = model.training_step((x, None), 0)
    values["loss"].backward()
    model.on_after_backward()
    return values


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_loss_is_what_its_parts_say(x, name):
    model = make(name)
    points = model.points(x)
    codes = model.quantizer.encode(points)
    images = model.pixels(model.quantizer.decode(codes))
    distortion = -torch.distributions.Normal(images, 0.1).log_prob(x).sum((1, 2, 3))
    one_hot = torch.nn.functional.one_hot(codes.flatten(1), model.quantizer.codes).float()
    expected = distortion + model.quantizer.penalty(points) - model.prior.log_prob(one_hot)
    torch.testing.assert_close(model.training_step((x, None), 0)["loss"], expected.mean())


def test_the_prior_sends_nothing_back(x):
    """The gradients of the tokenizer are those that it has without a prior."""
    with_prior = make()
    without = make(prior_layers=0)
    without.load_state_dict({k: v for k, v in with_prior.state_dict().items() if not k.startswith("prior_")})
    step(with_prior, x)
    step(without, x)
    for name, parameter in without.named_parameters():
        other = dict(with_prior.named_parameters())[name]
        assert (parameter.grad is None) == (other.grad is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, other.grad)
    assert all(p.grad is not None for p in with_prior.prior_net.parameters())


@pytest.mark.parametrize("relaxation", [VQ, GumbelSoftmax, ReinMax])
def test_all_that_is_to_be_learned_has_a_gradient(x, relaxation):
    model = make(relaxation=relaxation(), quantizer="codebook")
    step(model, x)
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_and_back(x, name):
    model = make(name).eval()
    codes = model.encode(x)
    assert codes.shape == (5, 2, 2, model.quantizer.depth) and codes.dtype == torch.int64
    torch.testing.assert_close(model.decode(codes), model.reconstruct(x))
    assert model.bits == pytest.approx(4 * model.quantizer.depth * math.log2(model.quantizer.codes))
    for wrong in (codes.int(), codes[:, :1], codes + model.quantizer.codes):
        with pytest.raises(ValueError, match="codes must be"):
            model.decode(wrong)
    assert len(model.sample_codes(4, replacement=False).flatten(1).unique(dim=0)) == 4
    drawn = model.draw_pixels(model.sample_codes(2))
    assert drawn.shape == (2, 3, 8, 8)
    samples = model.sample(3, temperature=0.7)
    assert samples.shape == (3, 3, 8, 8) and samples.min() >= 0 and samples.max() <= 1


def test_what_the_test_reports(x):
    model = make("fsq").eval()
    values = model.test_step((x, None), 0)
    codes = model.encode(x)
    torch.testing.assert_close(values["mse"], (x - model.reconstruct(x)).square().mean())
    one_hot = torch.nn.functional.one_hot(codes.flatten(1), 6).float()
    torch.testing.assert_close(values["rate"], -model.prior.log_prob(one_hot).mean() / math.log(2))
    assert model.units.startswith("Gaussian density, std 0.1 likelihood")
    use = model.code_use.compute()
    assert use["utilisation"] == len(codes.unique()) / 6
    share = codes.flatten().bincount(minlength=6) / codes.numel()
    torch.testing.assert_close(use["perplexity"], torch.special.entr(share).sum().exp())


def test_code_use_of_several_codebooks_is_their_mean():
    use = CodeUse(2, 3)
    use.update(torch.tensor([[[0, 2], [1, 2]]]))
    use.update(torch.tensor([[[0, 2], [1, 2]]]))
    values = use.compute()
    assert values["utilisation"] == pytest.approx(0.5) and values["perplexity"] == pytest.approx(1.5)


@pytest.mark.parametrize("likelihood", [Bernoulli(), DiscretizedLogistic(mixtures=2)])
def test_other_laws_of_pixels(x, likelihood):
    model = make(likelihood=likelihood, decoder=GridDecoder(**NETS, out_channels=likelihood.width(3), start=0.0))
    step(model, x)
    values = model.eval().test_step((x, None), 0)
    pixels = model.pixels(model.quantizer.decode(model.quantizer.encode(model.points(x))))
    torch.testing.assert_close(values["reconstruction"], -likelihood.log_prob(pixels, x).mean())
    assert model.reconstruct(x.numpy()).shape == x.shape and likelihood.name in model.units
    assert to_config(from_config(to_config(model), trust=Trust())) == to_config(model)


def test_a_few_steps_learn(x):
    torch.manual_seed(1)
    model = make(likelihood=Gaussian(std=0.3))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    x = x[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    errors, rates = [], []
    for _ in range(80):
        optimizer.zero_grad()
        values = step(model, x)
        errors.append(values["mse"].item())
        rates.append(values["rate"].item())
        optimizer.step()
    assert errors[-1] < 0.6 * errors[0] and rates[-1] < 0.8 * rates[0]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_saved_and_loaded_and_exported(tmp_path, x, name):
    model = make(name)
    step(model, x)
    folder = zoo.save_pretrained(model, tmp_path / "tokenizer.test", data={"_target_": "zoo.data.CIFAR10"})
    again = zoo.from_pretrained(folder)
    assert to_config(again) == to_config(model) and not again.training
    assert torch.equal(again.encode(x), model.encode(x))
    torch.testing.assert_close(again(x), model.eval()(x))
    if name in ("codebook", "fsq"):
        program = torch.export.load(zoo.export(folder, tmp_path / "t.pt2")).module()
        torch.testing.assert_close(program(x), again(x))


def test_networks_that_do_not_fit(x):
    with pytest.raises(ValueError, match="the decoder makes an image of"):
        make(decoder=GridDecoder(**(NETS | {"halvings": 1})))
    with pytest.raises(ValueError, match="multiples of 4"):
        GridEncoder(shape=[3, 30, 30])
    with pytest.raises(ValueError, match="must give"):
        make(encoder=torch.nn.Flatten())
    with pytest.raises(ZooError, match=r"images of 3x8x8 \(channels, height, width\), and got 1x8x8"):
        make()(x[:, :1])
    with pytest.raises(ZooError, match="without a prior"):
        make(prior_layers=0).sample(1)
    with pytest.raises(ZooError, match=r"needs 9 channels for images of 3.*decoder\.out_channels=9"):
        make(likelihood=DiscretizedLogistic())
    with pytest.raises(ZooError, match="prior_width"):
        from_config(to_config(make()) | {"prior_width": 0}, trust=Trust())


def test_pictures_are_in_colour(x):
    figures = make().eval().pictures((x, None))
    assert set(figures) == {"reconstructions", "codes", "samples"}
    shown = figures["reconstructions"].axes[0].images[0].get_array()
    assert shown.shape[2] == 3
    assert torch.allclose(torch.from_numpy(shown[2:10, 2:10].copy()).permute(2, 0, 1).float(), x[0], atol=1e-6)
