"""Write what `icre try` shows: `python docs/sample.py RUN TREE`, see icre/sample/README.md.

RUN is the folder of the small model's training, TREE the SynthVI-S in which it was scored.
"""

import json
import shutil
import sys
from pathlib import Path

from icre.inference.shipped import SAMPLE, WEIGHTS
from icre.runs.release import release
from icre.utils.run_folder import RunFolder

PEOPLE = 20
IMAGES = {1: 2, 2: 2, 4: 2, 5: 2, 3: 1, 6: 1}  # camera -> images of each person; 3 and 6: infrared
RECORD = (
    *("protocol", "draw", "trials", "feature", "seed", "epoch", "steps", "weights"),
    *("Rank-1", "mAP", "mINP"),
)


def main(run: Path, tree: Path) -> None:
    """Copy images of the first test people, the weights in half precision, and the record."""
    files = RunFolder(run)
    shutil.rmtree(SAMPLE / "images", ignore_errors=True)
    people = (tree / "exp/test_id.txt").read_text().split(",")[:PEOPLE]
    for person in people:
        for camera, count in IMAGES.items():
            name = f"cam{camera}/{int(person):04d}"
            (SAMPLE / "images" / name).mkdir(parents=True)
            for path in sorted((tree / name).glob("*.jpg"))[:count]:
                shutil.copyfile(path, SAMPLE / "images" / name / path.name)
    release(files.weights, WEIGHTS)
    records = json.loads(files.metrics.read_text())
    kept = [{key: record[key] for key in RECORD} for record in records if not record["rerank"]]
    machine = json.loads((run / "environment.json").read_text())
    record = {"records": kept, "environment": machine}
    (SAMPLE / "record.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
