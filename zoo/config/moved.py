"""The one table of moved names: class paths that earlier versions wrote, and where the classes are now."""

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
