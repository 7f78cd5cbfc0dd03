"""Codebooks and fixed quantisers: their laws against brute force, their updates against the papers' formulas."""

import itertools
import math

import pytest
import torch

from zoo.errors import ZooError
from zoo.relaxations import (
    BSQ,
    FSQ,
    LFQ,
    RELAXATIONS,
    VQ,
    Categorical,
    CodebookQuantizer,
    Codeword,
    Exact,
    ReinMax,
    ResidualQuantizer,
)
from zoo.relaxations.codebooks import Codebook, copy_gradient, rotate, some_points, squared_distances
from zoo.relaxations.noise import Noise, PartOfBatch

POINTS = torch.tensor([[[0.3, -0.1], [1.2, 0.4]], [[-0.5, 0.9], [0.1, 0.1]]], dtype=torch.float64)
VECTORS = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.2, 0.4]], dtype=torch.float64)
QUANTIZERS = {
    "codebook": lambda: CodebookQuantizer(width=3, codes=7),
    "dvae": lambda: CodebookQuantizer(width=3, codes=7, decay=0.0, revive=0.0, commitment=0.0, kl=0.1),
    "residual": lambda: ResidualQuantizer(depth=2, width=3, codes=7),
    "fsq": lambda: FSQ(levels=[4, 3, 2]),
    "lfq": lambda: LFQ(bits=3),
    "bsq": lambda: BSQ(bits=3),
}


def cost(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors - 0.3).pow(2).flatten(1).sum(1) + (vectors[:, 0] * vectors[:, 1]).sum(1)


def leaves() -> tuple[torch.Tensor, torch.Tensor]:
    return POINTS.clone().requires_grad_(), VECTORS.clone().requires_grad_()


# The choice among vectors -------------------------------------------------------------------------------------------


def test_logits_are_minus_the_squared_distances():
    brute = torch.stack([(POINTS - v).square().sum(-1) for v in VECTORS], -1)
    torch.testing.assert_close(squared_distances(POINTS, VECTORS).double(), brute, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Codeword(POINTS, VECTORS, scale=2.0).logits.double(), -2 * brute, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="points must be"):
        Codeword(POINTS, VECTORS[:, :1])


def test_a_value_is_a_vector_and_its_probability_that_of_its_number():
    law = Codeword(POINTS.float(), VECTORS.float())
    value = law.sample((50,))
    assert value.shape == (50, 2, 2, 2)
    index = torch.cdist(value, VECTORS.float()).argmin(-1)
    assert torch.equal(value, VECTORS.float()[index])
    expected = Categorical(law.logits).log_prob(torch.nn.functional.one_hot(index, 3).float())
    torch.testing.assert_close(law.log_prob(value), expected)
    assert torch.equal(law.mode(), VECTORS.float()[torch.cdist(POINTS.float(), VECTORS.float()).argmin(-1)])
    torch.testing.assert_close(law.enumerate_support()[:, 0, 0], VECTORS.float())


def test_the_exact_expectation_is_the_sum_over_all_codes():
    points, vectors = leaves()
    estimate = Exact().expectation(lambda draw: cost(draw(Codeword(points, vectors))))
    log_p = (-squared_distances(points, vectors)).log_softmax(-1)
    total = torch.zeros(2, dtype=torch.float64)
    for i, j in itertools.product(range(3), repeat=2):
        pair = vectors[torch.tensor([i, j])].expand(2, 2, 2)
        total = total + (log_p[:, 0, i] + log_p[:, 1, j]).exp().double() * cost(pair)
    torch.testing.assert_close(estimate.double(), total, rtol=1e-5, atol=1e-5)
    for got, wanted in zip(*(torch.autograd.grad(x.sum(), [points, vectors]) for x in (estimate, total))):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_every_relaxation_serves_it(name):
    """And draws what it draws of a categorical with the same logits and the same noise, as a vector."""
    points, vectors = (x.float().detach().requires_grad_() for x in leaves())
    seen = []

    def program(draw):
        seen.append(draw(Codeword(points, vectors)))
        return cost(seen[-1])

    gradient = torch.autograd.grad(RELAXATIONS[name]().expectation(program).sum(), points)[0]
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    torch.manual_seed(0)
    relaxation = RELAXATIONS[name]()
    if not hasattr(relaxation, "pathwise"):
        return
    here = relaxation(Codeword(points, vectors))
    torch.manual_seed(0)
    there = RELAXATIONS[name]()(Codeword(points, vectors).logits) @ vectors
    torch.testing.assert_close(here, there)


def test_a_score_function_has_the_gradient_of_the_exact_expectation():
    points, vectors = (x.float().detach() for x in leaves())
    repeated = points[:1].repeat(40_000, 1, 1).requires_grad_()
    estimate = RELAXATIONS["rloo"]().expectation(lambda draw: cost(draw(Codeword(repeated, vectors))))
    each = torch.autograd.grad(estimate.sum(), repeated)[0]
    one = points[:1].clone().requires_grad_()
    exact = torch.autograd.grad(Exact().expectation(lambda draw: cost(draw(Codeword(one, vectors)))).sum(), one)[0][0]
    error = each.std(0) / len(each) ** 0.5
    assert ((each.mean(0) - exact).abs() < 5 * error).all()


# Vector quantisation ------------------------------------------------------------------------------------------------


def test_vq_is_the_nearest_vector_with_the_gradient_copied():
    points = POINTS.clone().requires_grad_()
    value = VQ(gradient="copied")(Codeword(points, VECTORS))
    assert torch.equal(value, VECTORS[torch.cdist(POINTS, VECTORS).argmin(-1)])
    weight = torch.randn(2, 2, 2, dtype=torch.float64)
    assert torch.equal(torch.autograd.grad((value * weight).sum(), points)[0], weight)


def test_the_rotation_takes_the_point_to_its_vector_and_so_the_gradient_back():
    """The matrix by which the gradient goes back is orthogonal but for a factor, and takes each point to its vector."""
    points = torch.randn(5, 3, dtype=torch.float64).requires_grad_()
    vectors = torch.randn(5, 3, dtype=torch.float64)
    value = rotate(points, vectors)
    torch.testing.assert_close(value, vectors)
    rows = [torch.autograd.grad(value[:, i].sum(), points, retain_graph=True)[0] for i in range(3)]
    matrix = torch.stack(rows, 1)  # (batch, of the value, of the point)
    torch.testing.assert_close((matrix @ points.unsqueeze(-1)).squeeze(-1), vectors)
    factor = vectors.norm(dim=1) / points.norm(dim=1)
    turn = matrix / factor[:, None, None]
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(5, dtype=torch.float64))


def test_the_rotation_of_opposite_and_of_zero_vectors_is_finite():
    points = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], requires_grad=True)
    value = rotate(points, torch.tensor([[-2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    value.sum().backward()
    assert value.isfinite().all() and points.grad.isfinite().all()
    assert value.tolist() == [[-2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]


def test_vq_refuses_what_is_no_codebook_and_is_deterministic_in_eval():
    with pytest.raises(ZooError, match="VQ does not serve Categorical"):
        VQ()(torch.zeros(2, 3, requires_grad=True))
    with pytest.raises(ValueError, match="copied or rotated"):
        VQ(gradient="bent")
    law = Codeword(POINTS, VECTORS)
    assert torch.equal(VQ().eval()(law), law.mode())


# The codebook -------------------------------------------------------------------------------------------------------


def begun(decay: float, revive: float = 0.0, codes: int = 3) -> Codebook:
    book = Codebook(codes=codes, width=2, decay=decay, revive=revive)
    book.observe(torch.randn(30, 2), torch.randint(codes, (30,)))
    book.update(Noise())
    return book


def test_it_begins_with_points_of_the_first_batch():
    points = torch.randn(30, 2)
    book = Codebook(codes=5, width=2)
    book.observe(points.view(10, 3, 2), torch.zeros(10, 3, dtype=torch.int64))
    book.update(Noise())
    assert torch.cdist(book.vectors, points).min(1).values.max() < 1e-6 and len(book.vectors.unique(dim=0)) == 5
    assert bool(book.begun) and book.use.tolist() == [6.0] * 5


def test_the_moving_averages_are_the_papers():
    """Van den Oord et al. 2017, appendix A.1, equations 6 to 8, over twenty batches."""
    book = begun(0.9)
    number, total, vectors = book.use.clone(), book.sums.clone(), book.vectors.clone()
    for _ in range(20):
        points = torch.randn(40, 2)
        index = torch.cdist(points, vectors).argmin(1)
        book.observe(points, index)
        book.update(Noise())
        for i in range(3):
            own = points[index == i]
            number[i] = 0.9 * number[i] + 0.1 * len(own)
            total[i] = 0.9 * total[i] + 0.1 * own.sum(0)
            vectors[i] = total[i] / number[i]
        torch.testing.assert_close(book.vectors.detach(), vectors)


def test_without_decay_the_vectors_stay_until_a_gradient_moves_them():
    book = begun(0.0)
    before = book.vectors.clone()
    book.observe(torch.randn(40, 2), torch.randint(3, (40,)))
    book.update(Noise())
    assert torch.equal(book.vectors, before) and book.vectors.requires_grad
    assert not begun(0.9).vectors.requires_grad


def test_a_vector_that_nobody_uses_is_moved_and_others_are_not():
    book = begun(0.5, revive=0.05)
    moved = None
    for step in range(12):
        points = torch.randn(40, 2)
        before = book.vectors.clone()
        book.observe(points, torch.randint(2, (40,)))  # never the third
        book.update(Noise())
        if (distance := torch.cdist(book.vectors[2:], points).min()) < 1e-6:
            assert not torch.equal(before[2], book.vectors[2]) and distance < 1e-6
            moved = step
            break
    assert moved is not None and moved >= 3  # its average falls by half in each step
    still = begun(0.5, revive=0.0)
    before = still.vectors[2].clone()
    for _ in range(12):
        still.observe(torch.randn(40, 2), torch.randint(2, (40,)))
        still.update(Noise())
    torch.testing.assert_close(still.vectors[2], before)


def test_two_processes_pick_the_points_that_one_picks():
    """Their parts of the batch are filled in, and add up."""
    points = torch.randn(12, 2)
    whole = some_points(points, 5, 3, Noise())
    parts = [some_points(points[6 * i : 6 * i + 6], 5, 3, PartOfBatch(i, 2, 0)) for i in range(2)]
    torch.testing.assert_close(parts[0] + parts[1], whole)
    assert len(some_points(points, 30, 3, Noise())) == 30


@pytest.mark.parametrize("wrong", [{"codes": 1}, {"width": 0}, {"decay": 1.0}, {"revive": -0.1}])
def test_wrong_codebooks(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Codebook(**({"codes": 3, "width": 2} | wrong))


# Quantisers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTIZERS)
def test_decoding_the_numbers_is_the_forward_pass(name):
    quantizer, points = QUANTIZERS[name](), 2 * torch.randn(4, 6, 3)
    index = quantizer.encode(points)
    assert index.shape == (4, 6, quantizer.depth) and index.dtype == torch.int64
    assert index.min() >= 0 and index.max() < quantizer.codes
    vectors = VQ().expectation(lambda draw: (quantizer(points, draw) - quantizer.decode(index)).abs().flatten(1).sum(1))
    assert vectors.abs().max() < 1e-5


@pytest.mark.parametrize("name", ["fsq", "lfq", "bsq"])
def test_codes_and_numbers_are_a_bijection(name):
    quantizer = QUANTIZERS[name]()
    index = torch.arange(quantizer.codes).view(-1, 1)
    vectors = quantizer.decode(index)
    assert len(vectors.unique(dim=0)) == quantizer.codes
    # each vector lies where it is quantised to; of FSQ through the inverse of its bound
    if name == "fsq":
        half = (quantizer.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(quantizer.levels % 2 == 0, 0.5, 0.0)
        points = ((vectors * (quantizer.levels // 2) + offset) / half).atanh() - (offset / half).atanh()
    else:
        points = vectors
    assert torch.equal(quantizer.encode(points), index)


def test_fsq_has_the_levels_of_the_paper():
    """Every level of each number is reached, equally spaced, and no other."""
    quantizer = FSQ(levels=[8, 5])
    points = torch.linspace(-8, 8, 4001).view(-1, 1, 1).expand(-1, 1, 2)
    vectors = quantizer(points, None).detach()
    assert vectors[:, 0, 0].unique().tolist() == [i / 4 for i in range(-4, 4)]
    assert vectors[:, 0, 1].unique().tolist() == [i / 2 for i in range(-2, 3)]
    assert len(quantizer.encode(points).unique()) <= quantizer.codes == 40


@pytest.mark.parametrize("name", ["fsq", "lfq", "bsq"])
def test_the_gradient_of_fixed_codes_is_that_of_what_is_rounded(name):
    quantizer = QUANTIZERS[name]()
    points = torch.randn(2, 4, 3, requires_grad=True)
    weight = torch.randn(2, 4, 3)
    got = torch.autograd.grad((quantizer(points, None) * weight).sum(), points)[0]
    soft = quantizer.bound(points) / (quantizer.levels // 2) if name == "fsq" else quantizer.shaped(points)
    torch.testing.assert_close(got, torch.autograd.grad((soft * weight).sum(), points)[0])


def test_the_entropy_loss_of_lfq_against_all_codes():
    quantizer = LFQ(bits=3, entropy=0.7, commitment=0.2, temperature=0.5)
    points = torch.randn(4, 5, 3)
    codes = quantizer.decode(torch.arange(8).view(-1, 1))
    p = (-torch.cdist(points, codes.expand(4, 8, 3)).square() / 0.5).softmax(-1)
    own = torch.special.entr(p).sum(-1)
    together = torch.special.entr(p.mean((0, 1))).sum()
    commitment = (points - quantizer.signs(points)).square().sum(-1)
    expected = (0.2 * commitment + 0.7 * (own - together)).sum(1)
    torch.testing.assert_close(quantizer.penalty(points), expected)


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_the_entropy_loss_of_decided_choices_is_finite(name):
    quantizer = QUANTIZERS[name]()
    points = (100 * quantizer.decode(torch.arange(3).view(1, 3, 1))).requires_grad_()
    quantizer.penalty(points).sum().backward()
    assert points.grad.isfinite().all()


def test_the_law_of_bsq_is_a_softmax_over_all_codes():
    quantizer = BSQ(bits=3, temperature=0.2)
    points = quantizer.shaped(torch.randn(10, 1, 3))
    codes = quantizer.decode(torch.arange(8).view(-1, 1))
    p = (points @ codes.T / 0.2).softmax(-1)
    one = p @ (codes > 0).float()
    torch.testing.assert_close(quantizer.bit_logits(points).sigmoid(), one)


def test_a_cascade_quantises_what_is_left_and_the_gradient_passes_once():
    quantizer = QUANTIZERS["residual"]()
    points = torch.randn(4, 6, 3, requires_grad=True)
    value = VQ(gradient="copied").expectation(lambda draw: quantizer(points, draw).flatten(1).sum(1))
    assert torch.equal(torch.autograd.grad(value.sum(), points)[0], torch.ones_like(points))
    first, second = quantizer.stages
    left = points - first.decode(first.encode(points))
    assert torch.equal(quantizer.encode(points)[..., 1:], second.encode(left))
    alone = first.penalty(points) + second.penalty(left.detach() + (points - points.detach()))
    torch.testing.assert_close(quantizer.penalty(points), alone)


def test_commitment_and_kl_against_their_formulas():
    quantizer = CodebookQuantizer(width=3, codes=7, decay=0.0, commitment=0.5, commitment_codes=0.25, kl=2.0)
    points = torch.randn(4, 6, 3)
    vectors = quantizer.codebook.vectors
    distance = torch.cdist(points, vectors.expand(4, 7, 3)).square()
    p = (-distance).softmax(-1)
    kl = (p * (p.log() + math.log(7))).sum(-1)
    expected = (0.75 * distance.min(-1).values + 2.0 * kl).sum(1)
    torch.testing.assert_close(quantizer.penalty(points), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_in_half_precision_the_choice_is_the_same(name):
    quantizer, points = QUANTIZERS[name](), torch.randn(4, 6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        index = quantizer.encode(points)
    assert torch.equal(index, quantizer.encode(points))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FSQ(levels=[]), "levels"),
        (lambda: FSQ(levels=[1]), "levels"),
        (lambda: LFQ(bits=0), "bits"),
        (lambda: LFQ(temperature=0.0), "temperature"),
        (lambda: ResidualQuantizer(depth=0), "depth"),
        (lambda: CodebookQuantizer(scale=0.0), "scale"),
        (lambda: CodebookQuantizer(commitment=-1.0), "commitment"),
    ],
)
def test_wrong_quantisers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_vector_of_another_width_is_refused():
    for make in QUANTIZERS.values():
        with pytest.raises(ZooError, match="quantises vectors of 3 numbers"):
            quantizer = make()
            ReinMax().expectation(lambda draw, q=quantizer: q(torch.randn(2, 2, 4), draw).flatten(1).sum(1))


def test_copy_gradient():
    points = torch.randn(3, 2, requires_grad=True)
    value = copy_gradient(points, torch.ones(3, 2))
    assert torch.equal(value, torch.ones(3, 2))
    assert torch.equal(torch.autograd.grad(value.sum(), points)[0], torch.ones(3, 2))
