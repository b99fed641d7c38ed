"""What ties a submission to the run that made it: hashes, kept beside the CSV and in the run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inkproof.errors import InputError
from inkproof.files import sha256_of, write_text
from inkproof.images import ImageSet
from inkproof.runs import directory
from inkproof.runs.run import Run
from inkproof.runs.verdict import Verdict
from inkproof.sources import open_one
from inkproof.submission import read_submission


def sidecar_of(submission: Path) -> Path:
    """Where a submission's proof lies: beside it."""
    return submission.with_name(submission.name + ".proof.json")


def record_submission(run: Run, submission: Path, test: ImageSet, source: str, *, tta: bool) -> None:
    """Tie a written submission to its run: into a sidecar beside it, and into the run.

    Args:
        run: that predicted.
        submission: the CSV, already written.
        test: the images predicted.
        source: what they were opened from.
        tta: predictions were averaged over shifted images.
    """
    folders = directory.seed_folders(run.path, directory.read_json(run.path / directory.RUN)["seeds"])
    proof: dict[str, Any] = {
        "submission": str(submission.resolve()),
        "sha256": sha256_of(submission),
        "run": str(run.path.resolve()),
        "weights_sha256": {str(seed): sha256_of(folder / directory.WEIGHTS) for seed, folder in folders.items()},
        "test": str(Path(source).resolve()) if Path(source).exists() else source,
        "test_fingerprint": run.check(test).fingerprint,
        "tta": tta,
    }
    write_text(sidecar_of(submission), json.dumps(proof, indent=1) + "\n")
    known = run.path / directory.SUBMISSIONS
    others = directory.read_json(known)["submissions"] if known.exists() else []
    kept = [other for other in others if other["submission"] != proof["submission"]]
    directory.write_json(known, {"submissions": [*kept, proof]})


def check_submitted(run: Run, test: str | None) -> Iterator[Verdict]:
    """Verify every submission of a run: the file's bytes, its test images, and each label.

    Args:
        run: whose submissions.
        test: where the test images are now, if they were moved.
    """
    known = run.path / directory.SUBMISSIONS
    for proof in directory.read_json(known)["submissions"] if known.exists() else []:
        path = Path(proof["submission"])
        what = f"submission {path.name}"
        if not path.exists():
            yield Verdict(what, False, f"is no longer at {path}")
            continue
        if sha256_of(path) != proof["sha256"]:
            yield Verdict(what, False, "was changed after it was written")
            continue
        try:
            images = run.check(open_one(test or proof["test"]))
        except InputError as error:
            yield Verdict(what, False, f"its test images: {error}")
            continue
        if images.fingerprint != proof["test_fingerprint"]:
            yield Verdict(what, False, f"{test or proof['test']} no longer holds the images that it labels")
            continue
        _, labels = read_submission(path)
        again = [run.classes[label] for label in run.predict(images, tta=proof["tta"]).tolist()]
        wrong = sum(one != other for one, other in zip(labels, again, strict=False)) + abs(len(labels) - len(again))
        yield Verdict(what, wrong == 0, f"{len(labels):,} labels predicted again" if not wrong else f"{wrong:,} differ")
