"""Say which folders are installed, and where; everything else stands in pyproject.toml.

A checkout has prototxt/ and solver/ at its top, an installed package has them inside mcc_caffe.
Only the folders of prototxts are installed, not the generators beside them. pyproject.toml cannot
say this in addition to searching for packages.
"""

from setuptools import find_namespace_packages, find_packages, setup

PROTOTXTS = find_namespace_packages(include=["prototxt.*", "solver.*"], exclude=["*.__pycache__"])

setup(
    packages=find_packages(include=["mcc_caffe*", "data_tools*", "caffe_build*"])
    + [f"mcc_caffe.{folder}" for folder in PROTOTXTS],
    package_dir={"mcc_caffe.prototxt": "prototxt", "mcc_caffe.solver": "solver"},
)
