"""What may differ when a run goes on."""

import pytest

from zoo.errors import ZooError
from zoo.training.runs import RunFolder

ENCODER = {"_target_": "zoo.models.cat_vae.MLPEncoder", "latents": 2, "categories": 3}


def test_a_run_older_than_an_option_goes_on_with_its_default(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        run.claim({"model": {"encoder": ENCODER}}, "command")
        run.claim({"model": {"encoder": ENCODER | {"activation": "silu"}}}, "command")
        with pytest.raises(ZooError, match=r"model\.encoder\.activation was 'silu', now 'relu'"):
            run.claim({"model": {"encoder": ENCODER | {"activation": "relu"}}}, "command")


def began(folder, target: str, command: str) -> RunFolder:
    """The folder of a run of a model ``target`` that was begun with ``command``."""
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder)
    config = {"model": {"_target_": target, "lr": 1}, "data": {"root": "there"}, "relaxation": 1, "epochs": 2}
    run.claim(config, command)
    return run


NOW = {
    "model": {"_target_": "zoo.models.cat_vae.CatVAE", "lr": 2},
    "data": {"root": "here"},
    "relaxation": 3,
    "epochs": 4,
}


def test_a_run_of_an_earlier_version_goes_on_with_what_its_options_meant(tmp_path):
    run = began(tmp_path, "zoo.models.CatVAE", "python scripts/train.py model=cat_vae seed=1 epochs=2")
    settled = run.settled(NOW, "zoo-train seed=1 model=cat_vae epochs=4")
    assert settled["model"] == {"_target_": "zoo.models.CatVAE", "lr": 1} and settled["relaxation"] == 1
    assert settled["data"] == {"root": "here"} and settled["epochs"] == 4  # what may change
    run.claim(settled, "")


def test_other_options_are_other_settings_and_a_run_of_this_version_is_what_it_is(tmp_path):
    command = "python scripts/train.py model=cat_vae seed=1"
    earlier = began(tmp_path / "earlier", "zoo.models.CatVAE", command)
    assert earlier.settled(NOW, "python scripts/train.py model=cat_vae seed=2") is NOW
    assert began(tmp_path / "present", "zoo.models.cat_vae.CatVAE", command).settled(NOW, command) is NOW
    assert RunFolder(tmp_path / "new").settled(NOW, command) is NOW


def test_before_the_first_step_a_run_may_be_made_longer(tmp_path):
    """Also where the learning rate follows its length: nothing has been made of it."""
    run = began(tmp_path, "zoo.models.cat_vae.CatVAE", "shorter")
    run.claim(run.read_config() | {"epochs": 9}, "longer")
    assert run.commands() == "longer" and run.read_config()["epochs"] == 9
