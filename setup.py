"""Installs `icre` (projects/ICRE) and `synthvi` (projects/SynthVI): `pip install -e .`."""

import re
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
SOURCES = {"icre": "projects/ICRE/icre", "synthvi": "projects/SynthVI/synthvi"}
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / SOURCES["icre"] / "__init__.py").read_text())[
    1
]
FASTREID = "1.4.0"
# packages with a folder templates
TEMPLATES = ("icre.utils", "icre.report", "icre.gallery", "icre.serve")

REQUIREMENTS = [
    "torch>=2.6",  # torch.load is safe by default since 2.6
    "torchvision>=0.21",
    "numpy>=2.0",
    "scipy",
    "pillow",
    "pyyaml",
    "yacs",
    "scikit-learn",
    "tabulate",
    "termcolor",
    "tensorboard",
    "tqdm",
    "matplotlib",
    "pydantic>=2",  # structure of what is read from files
    "jinja2",  # the pages of tools/report.py and tools/search.py
    "grad-cam",  # figures of what a model looks at
    "h5py",
    "numba",  # compiled loops of re-ranking on a CPU
]

# The key TRACKERS. The whole of mlflow is needed for its pages only (`mlflow ui`), not for writing.
TRACKERS = {
    "wandb": ["wandb>=0.31,<1"],
    "mlflow": ["mlflow-skinny>=3.17,<4", "sqlalchemy>=2,<3", "alembic>=1.20,<2"],  # local store
}


def require_fastreid() -> None:
    """Stop an installation that could not run.

    fastreid cannot be a requirement: its own pins (torch 1.13) would follow it. pip builds in an
    isolated environment, so a fresh interpreter (-I) is asked what the real one holds.
    """
    code = "from importlib.metadata import version; print(version('fastreid'))"
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    version = found.stdout.strip()
    if version.split("+")[0] != FASTREID:
        state = f"fastreid {version} is installed" if version else "fastreid is not installed"
        sys.exit(
            f"icre needs fastreid {FASTREID}, {state}. "
            f"Run: pip install --no-deps fastreid=={FASTREID}"
        )


if {"editable_wheel", "develop", "install"} & set(sys.argv):
    require_fastreid()

setup(
    name="icre",
    version=VERSION,
    description="Visible-infrared person re-identification (ICRE) as a fast-reid project",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="person re-identification, visible-infrared, cross-modality, fast-reid, retrieval",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.11,<3.14",
    package_dir=SOURCES,
    packages=[
        *find_packages("projects/ICRE", include=["icre*"]),
        *find_packages("projects/SynthVI", include=["synthvi*"]),
    ],
    package_data={
        "icre": ["py.typed", "configs/**/*.yml", "examples/*.*", "sample/**/*"],
        "synthvi": ["*.json", "py.typed"],
        **{room: ["templates/*"] for room in TEMPLATES},
    },
    entry_points={"console_scripts": ["icre = icre.commands:main"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "cpu": ["faiss-cpu"],
        "gpu": ["faiss-gpu>=1.15"],  # in place of faiss-cpu, never beside it
        "frame": ["pandas"],  # .frame() of scores and comparisons
        "export": ["onnx", "onnxruntime", "onnxscript"],
        "timm": ["timm>=1.0.31,<1.1"],
        # --store; milvus-lite is in no extra: it asks for faiss-cpu, also beside a faiss for GPUs
        "milvus": ["pymilvus>=3.0.2,<4"],
        "parquet": ["pyarrow>=17,<27"],
        "cluster": ["ray[data]>=2.60,<2.61", "fsspec"],  # s3:// needs s3fs too, gs:// gcsfs
        "serve": [
            "fastapi>=0.120",
            "uvicorn>=0.35",
            "python-multipart>=0.0.20",  # forms
            "prometheus-client>=0.20",
        ],
        **TRACKERS,
        "trackers": sorted({one for extra in TRACKERS.values() for one in extra}),
        "completion": ["shtab"],
        "docs": ["sphinx", "furo", "myst-parser", "sphinx-copybutton"],
        "test": [
            *("pytest", "pytest-xdist", "hypothesis", "httpx2"),
            *("nbformat", "nbclient", "ipykernel"),  # the example notebook
        ],
    },
)
