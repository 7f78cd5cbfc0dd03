"""One's own recordings: a folder for each speaker, or a table of files."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.data.recordings import Recording, find, in_split, read_sound
from zoo.data.speech import NAMED, SpokenWords, check_speakers
from zoo.data.text import DIGITS, LONGEST, spoken
from zoo.errors import ZooError

log = logging.getLogger(__name__)


class SpeechFolder(SpokenWords):
    """Recordings of one's own, of any words by any speakers, in any format that libsndfile reads.

    See :func:`zoo.data.recordings.find` for how files say what is said and by whom. Which split a recording is in
    follows from a hash of its speaker and its path relative to the root, so that it stays there when others are added;
    but where no hash says test or validation, one is taken from training until one does. Recordings that cannot be
    used are named, counted and left out. Needs the extra ``speech``.

    Args:
        root: the folder, or a file .csv or .jsonl.
        speakers: names of those to use, in the order of labels; or how many there are, where it is not known, or not
            to be said, who is who.
        words: texts to use, such as ``[yes, no]``; null for all.
        mix: the share of each of ``speakers``; null for all recordings.
        labelled: share of the training recordings whose speaker is told, in [0, 1].
        test: share of the recordings for the test.
        val: and for validation.
        longest: seconds of a recording, without the silence about it; a longer one counts as bad.
        name: of the data, for the card of a model that is trained on them.
        licence: of the data, for the card too.
        batch_size: training recordings in a step, over all devices together.
        eval_batch_size: the same for validation and test.
        seed: of the order, and of which recordings are left out and labelled.

    Raises:
        ValueError: if a number is out of range, or ``speakers`` and ``mix`` do not go together.
        ZooError: if there is no root.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        speakers: list[str | int] | int = 2,
        words: list[str] | None = None,
        mix: list[float] | None = None,
        labelled: float = 0.0,
        test: float = 0.1,
        val: float = 0.1,
        longest: float = 3.0,
        name: str = "recordings of one's own",
        licence: str = "not stated",
        batch_size: int = 64,
        eval_batch_size: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__(
            speakers=speakers,
            mix=mix,
            labelled=labelled,
            root=root,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
        )
        if not (min(test, val) > 0 and test + val < 1 and 0.1 < longest <= 60):
            raise ValueError(
                f"need test > 0, val > 0, test + val < 1 and longest in (0.1, 60], got {test}, {val}, {longest}"
            )
        self.test, self.val, self.longest, self.name, self.licence = test, val, longest, name, licence
        self.chosen = words

    @property
    def notice(self) -> str:  # type: ignore[override]
        return (
            f"Trained on {self.name} ({len(self.names) or self.speakers} speakers), whose licence is: {self.licence}. "
            "Sounds here are made from them."
        )

    def read(self, path: Path) -> tuple[Tensor, int]:
        return read_sound(path)

    @staticmethod
    def vocabulary(config: Any) -> list[str]:
        """What is said in the recordings of the data with this configuration."""
        speakers = config.get("speakers")
        names = None if speakers is None or isinstance(speakers, int) else [str(name) for name in speakers]
        return vocabulary(candidates(config.get("root"), names, config.get("words")))

    def find(self) -> list[Recording]:
        found = candidates(self.root, None if isinstance(self.speakers, int) else self.names, self.chosen)
        if isinstance(self.speakers, int):
            there = {recording.speaker for recording in found if recording.speaker}
            if len(there) > self.speakers:
                raise ZooError(
                    f"{self.root} has {len(there)} speakers, and data.speakers={self.speakers}: say how many there "
                    f"are, or whom to use: data.speakers=[{','.join(sorted(there)[: self.speakers])}]"
                )
            self.names = sorted(there) if len(there) == self.speakers else []
            if self.labelled and not self.names:
                raise ZooError(
                    f"data.labelled={self.labelled} needs the names of all speakers, and {self.root} has {len(there)} "
                    f"of data.speakers={self.speakers}: leave data.labelled out, or put each in a folder of its own"
                )
        else:
            check_speakers(self.names, {recording.speaker for recording in found}, str(self.root))
        self.words = vocabulary(found)
        takes = Counter((recording.text, recording.speaker) for recording in found if not recording.fault)
        again = {text for (text, _), count in takes.items() if count > 1}
        if once := [text for text in self.words if text not in again]:
            log.warning(
                "nobody says these twice, %d of %d texts: %s. In a file's name the take stands behind _ (hello_2.wav).",
                *(len(once), len(self.words), ", ".join(map(repr, once[:NAMED])) + ", ..." * (len(once) > NAMED)),
            )
        return self._split(found)

    def _key(self, recording: Recording) -> str:
        """What distinguishes ``recording``: ``speaker/name``, or its path in the root, after the speaker if need be."""
        root = Path(str(self.root)).expanduser()
        where = Path(os.path.relpath(recording.path, root if root.is_dir() else root.parent)).as_posix()
        return where if where.startswith(f"{recording.speaker}/") else f"{recording.speaker}/{where}"

    def _split(self, found: list[Recording]) -> list[Recording]:
        """``found`` with their splits, each of which has one at least if there are three."""
        places = []
        for recording in found:
            content = hashlib.sha256(self._key(recording).encode(errors="surrogatepass")).digest()
            places.append(int.from_bytes(content[:8], "big") / 2**64)
        split = [in_split(recording, place, self.test, self.val) for recording, place in zip(found, places)]
        for wanted in ("test", "val"):
            if not any(r.split == wanted and not r.fault for r in split):
                spare = [i for i, r in enumerate(split) if r.split == "train" and not r.fault]
                if spare:
                    first = min(spare, key=places.__getitem__)
                    split[first] = replace(split[first], split=wanted)
        return split


def candidates(root: str | None, speakers: Sequence[str] | None, words: Sequence[str] | None) -> list[Recording]:
    """The recordings in ``root`` with their texts as they are said, of these ``speakers`` and ``words`` if given.

    Raises:
        ZooError: if there is no such root, one of the speakers is not there, or there is a word that nobody says.
    """
    if not root:
        raise ZooError("say where the recordings are: data.root=FOLDER, with a folder for each speaker, or a table")
    wanted = None if words is None else {spoken(text) for text in words}
    every = [as_said(recording) for recording in find(Path(root).expanduser())]
    check_speakers(speakers or (), {recording.speaker for recording in every} - {""}, root)
    found, said = [], set()
    for recording in every:
        of_these = speakers is None or recording.speaker in speakers
        if of_these and not recording.fault:
            said.add(recording.text)
        if recording.fault or (of_these and (wanted is None or recording.text in wanted)):
            found.append(recording)
    missing = sorted((wanted or set()) - said)
    if missing and said:
        known = ", ".join(sorted(said)[:20]) + (" ..." if len(said) > 20 else "")
        raise ZooError(f"nobody says {', '.join(map(repr, missing[:20]))} of data.words. What is said: {known}.")
    return found


def as_said(recording: Recording) -> Recording:
    """``recording`` with its text as it is said."""
    if recording.fault:
        return recording
    try:
        text = spoken(recording.text)
    except ZooError as error:  # of a number
        return replace(recording, fault=str(error))
    if not 0 < len(text.encode()) <= LONGEST:
        return replace(recording, fault=f"its text has {len(text.encode())} bytes of words, not 1 to {LONGEST}")
    return replace(recording, text=text)


def vocabulary(recordings: Sequence[Recording]) -> list[str]:
    """What is said in ``recordings``, in alphabetical order; in theirs for the ten digits.

    Raises:
        ZooError: if nothing is.
    """
    texts = {recording.text for recording in recordings if not recording.fault}
    if not texts:
        why = f", the first because {recordings[0].fault}" if recordings else ""
        raise ZooError(f"none of {len(recordings)} recordings can be used{why}")
    return list(DIGITS) if texts == set(DIGITS) else sorted(texts)
