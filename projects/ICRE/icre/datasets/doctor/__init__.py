"""The data doctor: is a data set on disk complete, readable and the published one?"""

from icre.datasets.doctor.examine import examine, examine_table, find_folder
from icre.datasets.doctor.report import Report, text

__all__ = ["Report", "examine", "examine_table", "find_folder", "text"]
