"""Shards of features as Parquet, the columnar format that other tools of a cluster read too."""

from pathlib import Path

import numpy as np

from icre.gallery.shards import Shard


class ParquetShard(Shard):
    """A shard with one row per image: `feature`, a list of D float32, or `fault`, why it has none.

    Pages carry checksums, which reading compares.
    """

    suffix = ".parquet"

    def _read(self) -> tuple[np.ndarray, list[int], list[str]]:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(self.file, page_checksum_verification=True)
        reasons = table["fault"].to_pylist()
        faulty = [at for at, reason in enumerate(reasons) if reason is not None]
        lists = table["feature"].combine_chunks()
        values = lists.flatten().to_numpy()  # without the missing ones
        features = values.reshape(len(reasons) - len(faulty), lists.type.list_size)
        return features, faulty, [reasons[at] for at in faulty]

    def _write(
        self, path: Path, features: np.ndarray, faulty: list[int], reasons: list[str]
    ) -> None:
        import pyarrow
        import pyarrow.parquet

        count, (_, width) = len(features) + len(faulty), features.shape
        fault = np.full(count, None, dtype=object)
        fault[faulty] = reasons
        known = np.ones(count, dtype=bool)
        known[faulty] = False
        whole = np.zeros((count, width), dtype=np.float32)
        whole[known] = features
        lists = pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(whole.reshape(-1)), max(width, 1), mask=pyarrow.array(~known)
        )
        table = pyarrow.table({"feature": lists, "fault": pyarrow.array(fault, pyarrow.string())})
        pyarrow.parquet.write_table(table, path, compression="none", write_page_checksum=True)
