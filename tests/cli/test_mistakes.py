"""What people naturally get wrong, in this process: one error, on one line, with what to do."""

import sys

import pytest

from zoo.cli import main

TRAIN = {
    "cat_vae --lr 1e-3": r"no flag '--lr'\. Did you mean 'model\.optimizer\.lr'\?",
    "cat_vae --latents=20": r"no flag '--latents=20'\. Did you mean 'model\.latents'\?",
    "cat_vae --epochs 3": "written name=value: epochs=VALUE, not --epochs",
    "cat_vae --resume": "the same command again, with its run=FOLDER",
    "cat_vae lr=1e-3": r"no option 'lr'\. Did you mean 'model\.optimizer\.lr'\?",
    "cat_vae model.lr=1e-3": r"no option 'model\.lr'\. Did you mean 'model\.optimizer\.lr'\?",
    "cat_vae optimizer.lr=1": r"Did you mean 'model\.optimizer\.lr'\?",
    "cat_vae batch_size=64": r"Did you mean 'data\.batch_size'\?",
    "actor_critic env=CartPole-v1": r"Did you mean 'data\.env'\?",
    "cat_vae nets=null": r"nets=null is not valid: choose one of conv, mlp\.",
    "tokenizer nets=big": r"no nets=big\. Choose from: grid\.",
    "binary_net nets=conv": r"nets=conv is for cat_vae, not for binary_net\. Choose from: binary_mlp, bricks\.",
    "cat_vae nets=grid": "is for tokenizer, not for cat_vae. Choose from: conv, mlp",
    "world_model nets=mlp": "The parts of world_model are options of model",
    "cat_vae quantizer=fsq": "is for tokenizer, not for cat_vae",
    "cat_vae trainer.devices=0": r"`Trainer\(devices=0\)` value is not a valid input using cpu accelerator\.$",
    "cat_vae annealing=exp": "Did you mean 'exponential'",
    "cat_vae relaxation=gumbel": "Did you mean 'gumbel_rao' or 'gumbel_softmax'",
    "cat_vae trainer=gpu": r"Write trainer\.accelerator=gpu\.",
    "cat_vae logger=none": "Write logger=csv",
    "cat_vae run=": "run= needs a folder",
    "pointer_net data=mnist": r"data=mnist is for cat_vae, .* not for pointer_net\. Choose from: assignment, .*, tsp\.",
    "speaker_generator data=mnist": r"Choose from: espeak, fsdd, speech_folder\.",
    "language_model data=mnist": r"Choose from: text\.",
    "cat_vae data=tsp": "data=tsp is for pointer_net, not for cat_vae",
    "cat_vae data=nope": r"Choose from: celeba, cifar10, .*, omniglot\.",
    "cat_vae experiment=nope": r"Choose from: cat_vae_mnist, cat_vae_mnist_ar, reinmax_vae\.",
    "language_model data.unit=letter": "'character' or 'word'",
    "selector data=table data.bundled=titanic": "'breast_cancer', 'wine', 'iris' or 'digits'",
    "tokenizer quantizer=vq": "Choose from: bsq, codebook",
    "world_model data=mnist": r"Choose from: gymnasium\.",
    "catvae": "Did you mean 'cat_vae'",
}
OTHERS = {
    "help me": None,
    "eval world_model": "none of world_model is pretrained: train one, zoo train world_model run=FOLDER",
    "eval selector": r"give one of selector\.mnist50, or train one",
    "eval cat_vae.mnist model.latents=20": "the prior is of 30 latents with 10 categories, the model of 20 with 10",
    "eval cat_vae": r"give one of cat_vae\.fashion_mnist, cat_vae\.mnist",
    "sample cat_vae.mnist n=100000000": "less than or equal to 10000",
    "sample pointer_net.sort10": "nothing to sample: use zoo solve",
    "sample actor_critic.cartpole": "nothing to sample: use zoo play",
    "solve pointer_net.tsp20 points=nowhere.csv": r"cannot read points=nowhere\.csv: no such file",
    "solve pointer_net.tsp20 points=x symmetries=9": "less than or equal to 8",
    "solve pointer_net.tsp20 points=x seconds=-1": "greater than or equal to 0",
    "speak speaker_generator.fsdd 4 n=1000000": "less than or equal to 1000",
    "speak speaker_generator.fsdd 4 speed=100": "less than or equal to 4",
    "speak cat_vae.mnist 4": "only a speaker_generator does",
    "play actor_critic.cartpole episodes=0": "greater than or equal to 1",
    "select cat_vae.mnist": "only a selector does",
    "sample nowhere": r"one of: cat_vae\..*, cat_vae\.mnist_ar, tokenizer\.cifar10\.",
    "play actor_critic.cartpol": r"Did you mean 'actor_critic\.cartpole'\? .* actor_critic\.lunarlander\.$",
    "write cat_vae.mnist prompt=x": "only a language_model does",
    "pack cat_vae.mnist": "only a binary_net can be packed",
    "publish nowhere cat_vae.mine": "is not a run folder",
    "eval cat_vae.mnist output=/": "cannot write output=/: is a directory",
}
MISTAKES = {f"train {words}": message for words, message in TRAIN.items()} | OTHERS


@pytest.mark.parametrize("words, message", MISTAKES.items(), ids=MISTAKES)
def test_a_natural_mistake_ends_in_advice(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zoo", *words.split()])
    if message is None:  # it is understood
        main()
        return
    with pytest.raises(SystemExit, match=message) as ended:
        main()
    text = str(ended.value.code)
    assert text.startswith("error: ") and "\n" not in text and "Traceback" not in text
    assert not list(tmp_path.iterdir())
