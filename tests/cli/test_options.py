"""What a mistake on the command line gets."""

import inspect

import pytest
from hydra._internal.utils import get_args_parser

from tests.conftest import run_script
from zoo.cli import train
from zoo.config import composition
from zoo.errors import ZooError
from zoo.models.pointer_net import TSP
from zoo.relaxations import OF_CODEBOOKS, RELAXATIONS, GumbelSoftmax, STGumbelSoftmax

BASE = ["model=cat_vae"]


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["modle=cat_vae"], "no option 'modle'. Did you mean 'model'"),
        (
            ["model=cat_vea"],
            r"no model=cat_vea. Did you mean 'cat_vae'\? Choose from: actor_critic, binary_net, ca",
        ),
        (["model=cat_vae.mnist"], "pretrained weights: zoo eval cat_vae.mnist. To train .* model=cat_vae"),
        (["model=null"], "model=null is not valid: choose one of actor_critic"),
        ([*BASE, "nets=null"], "nets=null is not valid: choose one of"),
        ([*BASE, "model.relaxation=rloo"], "write relaxation=rloo"),
        ([*BASE, "relaxation=gumbel"], "Did you mean 'gumbel_rao' or 'gumbel_softmax'"),
        ([*BASE, "annealing=exp"], "Did you mean 'exponential'"),
        ([*BASE, "relaxation=rienmax"], "Did you mean 'reinmax'.*straight_through"),
        ([*BASE, "experiment=none"], "no experiment=none"),
        ([], "choose a model"),
        (["model._target_=mine.Judge"], r"choose a model.*model/NAME.yaml.*\+model\._target_=mine\.Judge run=FOLDER"),
        (["model=mine.Judge"], r"model/NAME.yaml.*\+model\._target_=mine\.Judge run=FOLDER"),
        ([*BASE, "callbacks.c._target_=mine.C"], r"to add it, write \+callbacks\.c\._target_="),
        ([*BASE, "model.latnts=3"], "no option 'model.latnts'. Did you mean 'latents'.*Options of model: .*encoder"),
        ([*BASE, "model.encoder.hiden=3"], "Did you mean 'hidden'"),
        ([*BASE, "model.latents.x=3"], "single value"),
        ([*BASE, "seed.x=3"], "single value"),
        ([*BASE, "model.latents=lots"], "model.latents='lots' is not valid: input should be a valid integer"),
        ([*BASE, "model.latents=2.5"], "model.latents=2.5 is not valid"),
        ([*BASE, "model.prior=flat"], "'uniform', 'learned', 'made' or 'transformer'"),
        ([*BASE, "+model.depth=3"], "model has no option 'depth'"),
        ([*BASE, "+surprise=3"], "no option 'surprise'"),
        ([*BASE, "relaxation=exact", "relaxation.tau=1"], "no option 'relaxation.tau'.*limit"),
        ([*BASE, "annealing.schedule=lineal"], "'constant', 'linear'"),
        ([*BASE, "trainer.max_epochs=many"], "trainer.max_epochs='many'"),
        ([*BASE, "seed=-1"], "seed=-1 is not valid"),
        ([*BASE, "epochs=0"], "epochs=0 is not valid"),
        ([*BASE, "logger.wandb.project=3"], "project=3 is not valid"),
        (
            ["model=speaker_generator", "data.speakers=null"],
            r"^None is not a list: write data\.speakers=\[NAME,NAME\]",
        ),
        (["model=cat_vae="], "cannot read|no model"),
        (["hello"], "cannot read the options"),
    ],
)
def test_mistakes_are_found_before_anything_starts(overrides, message):
    with pytest.raises(ZooError, match=message):
        composition.check(composition.compose(overrides))


@pytest.mark.parametrize("name", RELAXATIONS)
def test_every_relaxation_has_a_configuration_file_of_all_its_arguments(name):
    """With their defaults; only the Gumbel family starts at another tau than PyTorch's function."""
    config = composition.compose([*BASE, f"relaxation={name}"])
    composition.check(config)
    cls = RELAXATIONS[name]
    assert config.relaxation._target_ == f"zoo.relaxations.{cls.__name__}"
    defaults = {key: p.default for key, p in inspect.signature(cls).parameters.items() if key != "in_eval"}
    if issubclass(cls, (GumbelSoftmax, STGumbelSoftmax)):
        defaults["tau"] = 0.5
    assert {key: value for key, value in config.relaxation.items() if key != "_target_"} == defaults


TOURS = "model=pointer_net"
SELF_LABEL = [TOURS, "model.objective=self_label"]


@pytest.mark.parametrize(
    "overrides, message",
    [
        ([*BASE, "relaxation=rloo", "annealing=linear"], "^annealing= would have no effect: RLOO has no temperature"),
        ([*BASE, "relaxation=simple", "annealing=step", "annealing.pattern=relaxation"], "Simple has no temperature"),
        ([*BASE, "relaxation=exact", "annealing.start=2.0"], "Exact has no temperature"),
        ([TOURS, "annealing=cosine"], "RLOO has no temperature"),
        ([*BASE, "model.rws_from=0", "relaxation=rloo"], "^relaxation= would have no effect: .*rws_from=0"),
        ([*BASE, "model.rws_from=0.0", "relaxation.tau=0.7"], "^relaxation.tau= would have no effect"),
        ([*BASE, "model.rws_from=0", "annealing=linear"], "^annealing= would have no effect: .*rws_from=0"),
        ([*SELF_LABEL, "relaxation=reinmax"], "^relaxation= would have no effect: model.objective=self_label trains"),
        ([*SELF_LABEL, "relaxation.samples=2"], "^relaxation.samples= would have no effect"),
        ([TOURS, "data=sort", "model.objective=supervised", "relaxation=rloo"], "objective=supervised trains without"),
        (["experiment=pointer_net_tsp20", "relaxation=rloo"], "objective=self_label trains without it"),
        ([TOURS, "data.task._target_=zoo.tasks.TSP", "relaxation=rloo"], "objective=self_label trains without it"),
        (
            [TOURS, "data.task._target_=tests.cli.test_options.Labelled", "~data.task.gradient", "relaxation=rloo"],
            "self",
        ),
        (
            ["model=speech_judge", "relaxation=reinmax"],
            "^relaxation= would have no effect: SpeechJudge makes no choice",
        ),
        (["model=speech_judge", "annealing=linear"], "^annealing= would have no effect: SpeechJudge makes no choice"),
    ],
)
def test_an_option_without_effect_is_refused(overrides, message):
    with pytest.raises(ZooError, match=message):
        composition.check(composition.compose(overrides), overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [*BASE, "relaxation=gumbel_softmax", "annealing=linear"],
        [*BASE, "relaxation=rloo", "annealing=constant"],
        [*BASE, "model.rws_from=0.5", "relaxation=rloo"],
        [*BASE, "model.rws_from=0"],
        [TOURS, "relaxation=gumbel_softmax", "annealing=linear", "data.task.gradient=edges"],
        [*SELF_LABEL],
        [*SELF_LABEL, "model.objective=expectation", "relaxation=rloo"],
        ["experiment=pointer_net_tsp20", "model.objective=null", "relaxation=rloo"],
        ["experiment=pointer_net_sort10", "relaxation=reinmax"],
    ],
)
def test_an_option_with_an_effect_is_not(overrides):
    composition.check(composition.compose(overrides), overrides)


class Labelled(TSP):
    """A task from outside that is trained without the relaxation unless something else is said."""

    objective = "self_label"


def test_no_job_of_a_sweep_starts_where_one_would_have_an_option_without_effect(tmp_path):
    result = run_script("train", "-m", *SELF_LABEL, "relaxation=rloo,reinmax", f"run={tmp_path / 'run'}", cwd=tmp_path)
    assert result.returncode == 1 and "error: relaxation= would have no effect" in result.stdout, result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_file_of_every_group_passes():
    for group in ("model", "nets", "data", "annealing", "trainer", "logger", "experiment"):
        for name in composition.choices(group):
            model = next(iter(composition.serves(group, name)), "cat_vae")
            base = [] if group in ("model", "experiment") else [f"model={model}"]
            if name == "speech_folder":  # which has to be there; a class of one's own takes any data
                base = ["model=polynomial", "model._target_=zoo.models.polynomial.PolynomialProgram"]
            composition.check(composition.compose([*base, f"{group}={name}"]))


def test_files_are_for_models_that_there_are():
    for group in composition.GROUPS:
        for name in composition.choices(group):
            assert set(composition.serves(group, name)) <= set(composition.choices("model"))
            assert group not in ("nets", "quantizer", "data", "experiment") or composition.serves(group, name), name


def test_every_file_says_what_it_is():
    for group in composition.GROUPS:
        assert composition.choices(group) and all(composition.choices(group).values()), group


def test_relaxation_files_are_the_registry():
    assert set(composition.choices("relaxation")) == set(RELAXATIONS) | set(OF_CODEBOOKS)


def test_sweeps_are_taken_apart():
    jobs = composition.jobs([*BASE, "relaxation=reinmax,rloo", "seed=1,2"])
    assert len(jobs) == 4 and ["model=cat_vae", "relaxation=rloo", "seed=2"] in jobs
    assert composition.jobs(BASE) == [BASE]


def test_flags_are_left_to_hydra():
    flags = train.read(get_args_parser(), ["model=cat_vae", "-m", "seed=1,2", "--cfg", "job", "~nets", "-cp", "x"])
    assert flags.overrides == ["model=cat_vae", "seed=1,2", "~nets"]
    assert (flags.multirun, flags.cfg, flags.config_path) == (True, "job", "x")


def test_the_first_bare_word_is_the_model():
    for words in (["cat_vae", "seed=1"], ["-m", "cat_vae", "seed=1"], ["--cfg", "job", "cat_vae", "seed=1"]):
        assert train.read(get_args_parser(), words).overrides == ["model=cat_vae", "seed=1"]
    with pytest.raises(ZooError, match="only the model, the first word, stands alone"):
        train.read(get_args_parser(), ["seed=1", "cat_vae"])


@pytest.mark.parametrize(
    "words, message",
    [
        (["cat_vae", "--multirn"], "no flag '--multirn'. Did you mean '--multirun'"),
        (["cat_vae", "--seed=3"], "written name=value: seed=3, not --seed=3"),
        (["cat_vae", "--lr", "1e-3"], "no flag '--lr'.*model.optimizer.lr=1e-3"),
        (["cat_vae", "--cfg", "jb"], "invalid choice: 'jb'"),
        (["cat_vae", "--config-dir"], "expected one argument"),
    ],
)
def test_a_flag_that_is_not_valid_is_one_error(words, message):
    with pytest.raises(ZooError, match=message):
        train.read(get_args_parser(), words)
