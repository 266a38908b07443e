"""Is a data set on disk complete, readable and the published one? `tools/check_dataset.py`."""

from icre.datasets.doctor.examine import SETS, examine, find_folder
from icre.datasets.doctor.report import Report, text

__all__ = ["SETS", "Report", "examine", "find_folder", "text"]
