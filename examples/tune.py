"""Tune a model with Optuna: each trial is a run with the options that Optuna suggests.

    pip install optuna
    python examples/tune.py                     20 trials, then the best options
    python examples/tune.py --trials 100        the study goes on where it stood, in tuning/study.db

Trials are compared by the score of the *validation*, which each model names as its ``monitor``; lower is better. One
that cannot be trained is passed over. Several of these commands at a time share the study.
"""

import argparse
from pathlib import Path

import optuna

import zoo


def objective(trial: optuna.Trial, folder: Path) -> float:
    """The best validation score of a run. Put your model, options and ranges here."""
    relaxation = trial.suggest_categorical("relaxation", ["gumbel_softmax", "reinmax", "rloo"])
    options = {"lr": trial.suggest_float("lr", 1e-4, 1e-1, log=True)}
    if relaxation != "rloo":  # which has no temperature
        options["tau"] = trial.suggest_float("tau", 0.3, 3.0, log=True)
    words = [f"relaxation.tau={options['tau']}"] if "tau" in options else []
    model, scores = zoo.train(
        "polynomial",
        *words,
        relaxation=relaxation,
        optimizer={"lr": options["lr"]},
        data={"steps": 200},
        epochs=1,
        logger="csv",
        trainer={"enable_progress_bar": False},
        run=folder / f"trial={trial.number}",
    )
    return scores[model.monitor]


def tune(folder: Path, trials: int) -> optuna.Study:
    """The study in ``folder`` after as many more ``trials``."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{folder / 'study.db'}"
    study = optuna.create_study(study_name="zoo", storage=storage, direction="minimize", load_if_exists=True)
    study.optimize(lambda trial: objective(trial, folder), n_trials=trials, catch=(zoo.ZooError,))
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("tuning"))
    arguments = parser.parse_args()
    study = tune(arguments.folder, arguments.trials)
    print(f"best of {len(study.trials)} trials: {study.best_value:.5f} with {study.best_params}")
