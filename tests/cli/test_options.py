"""What a mistake on the command line gets."""

import pytest
from hydra._internal.utils import get_args_parser

from zoo.cli import train
from zoo.config import composition
from zoo.errors import ZooError
from zoo.relaxations import RELAXATIONS

BASE = ["model=cat_vae"]


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["modle=cat_vae"], "no option 'modle'. Did you mean 'model'"),
        (["model=cat_vea"], r"no model=cat_vea. Did you mean 'cat_vae'\? Choose from: actor_critic, cat_vae"),
        ([*BASE, "relaxation=rienmax"], "Did you mean 'reinmax'.*straight_through"),
        ([*BASE, "experiment=none"], "no experiment=none"),
        ([], "choose a model"),
        ([*BASE, "model.latnts=3"], "no option 'model.latnts'. Did you mean 'latents'.*Options of model: .*encoder"),
        ([*BASE, "model.encoder.hiden=3"], "Did you mean 'hidden'"),
        ([*BASE, "model.latents.x=3"], "single value"),
        ([*BASE, "seed.x=3"], "single value"),
        ([*BASE, "model.latents=lots"], "model.latents='lots' is not valid: input should be a valid integer"),
        ([*BASE, "model.latents=2.5"], "model.latents=2.5 is not valid"),
        ([*BASE, "model.prior=flat"], "'uniform' or 'learned'"),
        ([*BASE, "+model.depth=3"], "model has no option 'depth'"),
        ([*BASE, "+surprise=3"], "no option 'surprise'"),
        ([*BASE, "relaxation=exact", "relaxation.tau=1"], "no option 'relaxation.tau'.*limit"),
        ([*BASE, "annealing.schedule=lineal"], "'constant', 'linear'"),
        ([*BASE, "trainer.max_epochs=many"], "trainer.max_epochs='many'"),
        ([*BASE, "seed=-1"], "seed=-1 is not valid"),
        ([*BASE, "epochs=0"], "epochs=0 is not valid"),
        ([*BASE, "logger.wandb.project=3"], "project=3 is not valid"),
        ([*BASE, "data.root=[1]"], "data.root"),
        (
            ["model=speaker_generator", "data.speakers=null"],
            r"^the networks .* data.speakers=\[NAME,NAME\]$",
        ),
        (["model=cat_vae="], "cannot read|no model"),
        (["hello"], "cannot read the options"),
    ],
)
def test_mistakes_are_found_before_anything_starts(overrides, message):
    with pytest.raises(ZooError, match=message):
        composition.check(composition.compose(overrides))


@pytest.mark.parametrize("name", RELAXATIONS)
def test_every_relaxation_has_a_configuration_file_that_passes(name):
    config = composition.compose([*BASE, f"relaxation={name}"])
    composition.check(config)
    assert config.relaxation._target_ == f"zoo.relaxations.{RELAXATIONS[name].__name__}"


def test_every_file_of_every_group_passes():
    for group in ("model", "nets", "data", "annealing", "trainer", "logger", "experiment"):
        base = [] if group in ("model", "experiment") else BASE  # an experiment brings its own model
        for name in composition.choices(group):
            composition.check(composition.compose([*base, f"{group}={name}"]))


def test_every_file_says_what_it_is():
    for group in composition.GROUPS:
        assert composition.choices(group) and all(composition.choices(group).values()), group


def test_relaxation_files_are_the_registry():
    assert set(composition.choices("relaxation")) == set(RELAXATIONS)


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
    assert train.read(get_args_parser(), ["seed=1", "cat_vae"]).overrides == ["seed=1", "cat_vae"]  # refused later


@pytest.mark.parametrize(
    "words, message",
    [
        (["cat_vae", "--multirn"], "no flag '--multirn'. Did you mean '--multirun'"),
        (["cat_vae", "--seed=3"], "no flag '--seed=3'.*written name=value"),
        (["cat_vae", "--cfg", "jb"], "invalid choice: 'jb'"),
        (["cat_vae", "--config-dir"], "expected one argument"),
    ],
)
def test_a_flag_that_is_not_valid_is_one_error(words, message):
    with pytest.raises(ZooError, match=message):
        train.read(get_args_parser(), words)
