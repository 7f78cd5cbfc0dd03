"""What earlier versions wrote, in terms of this one: the one table of moved names, and what a default meant then."""

from typing import Any

MOVED = {
    f"{before}.{name}": f"{now}.{name}"
    for before, now, names in (
        ("zoo.callbacks", "zoo.training.callbacks", "LogMetrics Pictures SeedEachBatch TauAnnealing"),
        ("zoo.data", "zoo.models.actor_critic", "Environments"),
        ("zoo.data", "zoo.models.pointer_net", "Instances"),
        ("zoo.data", "zoo.models.polynomial", "Steps"),
        ("zoo.data", "zoo.models.speech_judge", "VocodedSpeech"),
        ("zoo.distributed", "zoo.training.distributed", "DDP"),
        ("zoo.loggers", "zoo.training.loggers", "CSVLogger WandbSettings"),
        ("zoo.models", "zoo.models.actor_critic", "ActorCritic"),
        ("zoo.models", "zoo.models.cat_vae", "CatVAE"),
        ("zoo.models", "zoo.models.pointer_net", "PointerNet"),
        ("zoo.models", "zoo.models.polynomial", "PolynomialProgram"),
        ("zoo.models", "zoo.models.speaker_generator", "SpeakerGenerator"),
        ("zoo.models", "zoo.models.speech_judge", "SpeechJudge"),
        ("zoo.models", "zoo.training", "ZooModule"),
        ("zoo.nets", "zoo.models.actor_critic", "Critic Policy RunningNorm"),
        ("zoo.nets", "zoo.models.cat_vae", "ConvDecoder ConvEncoder MLPDecoder MLPEncoder"),
        ("zoo.nets", "zoo.models.pointer_net", "LSTMEncoder PointerDecoder TransformerEncoder"),
        ("zoo.nets", "zoo.models.speaker_generator", "SpeechDecoder SpeechEncoder"),
        ("zoo.nets", "zoo.models.speech_judge", "SpeechClassifier"),
        ("zoo.optim", "zoo.training", "AdamW"),
        ("zoo.tasks", "zoo.models.pointer_net", "ConvexHull Knapsack Sorting TSP Task"),
    )
    for name in names.split()
}
"""Of version 0.2: the old path -> the present one."""


def present(path: object) -> str:
    """The present path of the class that ``path`` names, also where it is from an earlier version."""
    return MOVED.get(str(path), str(path))


SELF_LABELLED = ("zoo.tasks.TSP", "zoo.tasks.ConvexHull", "zoo.tasks.Knapsack")
"""What ``objective=null`` of 0.2 trained by self-labelling, and the present version by the relaxation."""


OF_THE_SPEAKER = frozenset(
    [
        "first_noise",
        "anneal",
        "pitch_noise",
        "length_noise",
        "residual_from",
        "balance",
        "balance_until",
        "spread",
        "judged",
    ]
)
"""Arguments of the speaker generator of 0.2 that it has no more: a term that it does without, schedules, which are
fixed or `warm_up` now, and what belongs to saying and judging words."""


def is_earlier(config: dict[str, Any]) -> bool:
    """Whether an earlier version wrote this configuration of an object: the path of its class is from then."""
    return str(config.get("_target_")) in MOVED


def up_to_date(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of one object with the present path of its class, and with the meaning that it had."""
    if "_target_" not in config:
        return config
    encoder = config.get("speaker_encoder")
    if isinstance(encoder, dict) and is_earlier(encoder):
        config = {name: value for name, value in config.items() if name not in OF_THE_SPEAKER}
    if config["_target_"] == "zoo.tasks.TSP":
        config = {"scaled": False} | config
    task = config.get("task")
    if "objective" in config and isinstance(task, dict) and task.get("_target_") in SELF_LABELLED:
        config = config | {"objective": config["objective"] or "self_label"}
    if config.get("train_on") == "all":  # which validated on images that it trained on
        config = config | {"train_on": "most"}
    return config | {"_target_": present(config["_target_"])}
