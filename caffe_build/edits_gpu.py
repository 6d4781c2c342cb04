"""The edits to Caffe 1.0 for today's CUDA and cuDNN, beside those for the CPU."""

from caffe_build.edits import Edit, addition
from caffe_build.edits_cpu import CPU_ADDITIONS, CPU_EDITS

_COMMON = "src/caffe/common.cpp"
_FACTORY = "src/caffe/layer_factory.cpp"

GPU_EDITS = (
    *CPU_EDITS,
    # CUDA 13 dropped three members of cudaDeviceProp; CUDA 12 has the attributes of the same names,
    # too.
    Edit(
        _COMMON,
        "  cudaDeviceProp prop;\n  int device;\n",
        "  int device;\n"
        "  cudaDeviceProp prop;\n"
        "  const auto attribute = [&device](cudaDeviceAttr name) {\n"
        "    int value = 0;\n"
        "    CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device));\n"
        "    return value;\n"
        "  };\n",
    ),
    Edit(_COMMON, "<< prop.clockRate", "<< attribute(cudaDevAttrClockRate)"),
    Edit(_COMMON, "(prop.deviceOverlap ?", "(attribute(cudaDevAttrGpuOverlap) ?"),
    Edit(_COMMON, "(prop.kernelExecTimeoutEnabled ?", "(attribute(cudaDevAttrKernelExecTimeout) ?"),
    # Where there is no GPU, cuBLAS and cuRAND cannot start. That is no error, since the CPU works
    # without them.
    Edit(_COMMON, "LOG(ERROR)", "LOG(WARNING)"),
    # thrust is included and never used; the compilers for the CPU would not find it in CUDA 13.
    *(
        Edit(
            f"src/caffe/layers/{name}",
            '#include <vector>\n\n#include "thrust/device_vector.h"\n\n#include '
            f'"caffe/layers/{name.split(".")[0]}.hpp"',
            f'#include <vector>\n\n#include "caffe/layers/{name.split(".")[0]}.hpp"',
        )
        for name in ("cudnn_softmax_layer.cpp", "cudnn_softmax_layer.cu", "softmax_layer.cu")
    ),
    Edit(
        "src/caffe/util/math_functions.cu",
        "for fabs, signbit\n"
        "#include <thrust/device_vector.h>\n"
        "#include <thrust/functional.h>  // thrust::plus\n"
        "#include <thrust/reduce.h>\n\n#include <cmath>",
        "for fabs, signbit\n\n#include <cmath>",
    ),
    # cuDNN 8 moved its version into a file of its own.
    Edit(
        "cmake/Cuda.cmake",
        "file(READ ${CUDNN_INCLUDE}/cudnn.h CUDNN_VERSION_FILE_CONTENTS)",
        "file(READ ${CUDNN_INCLUDE}/cudnn_version.h CUDNN_VERSION_FILE_CONTENTS)",
    ),
    # cuDNN 8 dropped the functions that choose an algorithm: cudnn_algorithms.hpp makes them again.
    Edit(
        "include/caffe/util/cudnn.hpp",
        '#include "caffe/proto/caffe.pb.h"\n\n#define CUDNN_VERSION_MIN',
        '#include "caffe/proto/caffe.pb.h"\n#include "caffe/util/cudnn_algorithms.hpp"\n\n'
        "#define CUDNN_VERSION_MIN",
    ),
    *(
        Edit(
            f"src/caffe/layers/cudnn_{name}_layer.cpp",
            "workspace_limit_bytes = 8*1024*1024;",
            "workspace_limit_bytes = cudnn::workspaceLimit();",
        )
        for name in ("conv", "deconv")
    ),
    # Caffe reshapes every layer before every pass, and this one then asks cuDNN again for three
    # algorithms and their workspaces. They depend on the layer's fixed settings and on the shape
    # of the inputs, which all have the same one: they are asked for when that shape is a new one.
    Edit(
        "include/caffe/layers/cudnn_conv_layer.hpp",
        "  bool handles_setup_;\n  cudnnHandle_t* handle_;",
        "  bool handles_setup_;\n"
        "  vector<int> chosen_shape_;  // of the inputs that the algorithms were chosen for\n"
        "  cudnnHandle_t* handle_;",
    ),
    Edit(
        "src/caffe/layers/cudnn_conv_layer.cpp",
        "  const int stride_w = stride_data[1];\n\n  // Specify workspace limit",
        "  const int stride_w = stride_data[1];\n\n"
        "  if (bottom[0]->shape() == chosen_shape_) { return; }\n"
        "  chosen_shape_ = bottom[0]->shape();\n\n"
        "  // Specify workspace limit",
    ),
    # A cuDNN layer aborts where there is no GPU. In CPU mode the default is that of a build for the
    # CPU.
    Edit(_FACTORY, "if (!use_dilation) {", "if (!use_dilation && Caffe::mode() == Caffe::GPU) {"),
    Edit(
        _FACTORY,
        "#ifdef USE_CUDNN\n"
        "    engine = LRNParameter_Engine_CUDNN;\n"
        "#else\n"
        "    engine = LRNParameter_Engine_CAFFE;\n"
        "#endif",
        "    engine = LRNParameter_Engine_CAFFE;\n"
        "#ifdef USE_CUDNN\n"
        "    if (Caffe::mode() == Caffe::GPU) engine = LRNParameter_Engine_CUDNN;\n"
        "#endif",
    ),
    *(
        Edit(
            _FACTORY,
            f"#ifdef USE_CUDNN\n    engine = {layer}Parameter_Engine_CUDNN;",
            "#ifdef USE_CUDNN\n    if (Caffe::mode() == Caffe::GPU) engine = "
            f"{layer}Parameter_Engine_CUDNN;",
        )
        for layer in ("Pooling", "ReLU", "Sigmoid", "Softmax", "TanH")
    ),
)

GPU_ADDITIONS = (
    *CPU_ADDITIONS,
    addition("cudnn_algorithms.hpp", "include/caffe/util/cudnn_algorithms.hpp"),
)
