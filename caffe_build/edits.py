"""The edits that Caffe 1.0 needs to build with today's libraries, and to be fast on a CPU.

The text of the edits and additions is part of a build's name in the cache: a change to it makes
every user build Caffe again.
"""

from dataclasses import dataclass
from pathlib import Path

from caffe_build.errors import EditError


@dataclass(frozen=True)
class Edit:
    """In `file` (relative to the source tree), `old` becomes `new`, wherever it stands."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Addition:
    """A file of ours in the source tree: `text` as `file` (relative to the tree)."""

    file: str
    text: str


def addition(name: str, file: str) -> Addition:
    """Return the addition of the file `name` beside this module as `file` in the source tree."""
    return Addition(file, Path(__file__).with_name(name).read_text(encoding="utf-8"))


CPU_EDITS = (
    # protobuf dropped the second argument, a threshold for warnings, in 3.6.
    Edit(
        "src/caffe/util/io.cpp",
        "SetTotalBytesLimit(kProtoReadBytesLimit, 536870912)",
        "SetTotalBytesLimit(kProtoReadBytesLimit)",
    ),
    # bin/caffe and python/caffe/_caffe.so find lib/libcaffe.so relative to themselves, so that the
    # built tree can be moved.
    Edit(
        "cmake/Misc.cmake",
        "set(CMAKE_INSTALL_RPATH ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR})",
        r'set(CMAKE_INSTALL_RPATH "\$ORIGIN/../lib;\$ORIGIN/../../lib")',
    ),
    # NumPy 2.3 dropped tostring and the binary fromstring, scikit-image 0.18 the British spelling.
    Edit("python/caffe/io.py", "arr.tostring()", "arr.tobytes()"),
    Edit("python/caffe/io.py", "np.fromstring(datum.data,", "np.frombuffer(datum.data,"),
    Edit("python/caffe/io.py", "as_grey=", "as_gray="),
    # oneDNN does convolutions on the CPU, unless the layer says `engine: CAFFE`; its layer is an
    # addition, below.
    Edit(
        "src/caffe/layer_factory.cpp",
        '#include "caffe/layers/conv_layer.hpp"\n#include "caffe/layers/deconv_layer.hpp"',
        '#include "caffe/layers/conv_layer.hpp"\n#include '
        '"caffe/layers/onednn_conv_layer.hpp"\n#include "caffe/layers/deconv_layer.hpp"',
    ),
    Edit(
        "src/caffe/layer_factory.cpp",
        "GetConvolutionLayer(\n"
        "    const LayerParameter& param) {\n"
        "  ConvolutionParameter conv_param = param.convolution_param();",
        "GetConvolutionLayer(\n"
        "    const LayerParameter& param) {\n"
        "  const ConvolutionParameter& conv_param = param.convolution_param();\n"
        "  if (Caffe::mode() == Caffe::CPU && conv_param.engine() == "
        "ConvolutionParameter_Engine_DEFAULT) {\n"
        "    return shared_ptr<Layer<Dtype> >(new OneDNNConvolutionLayer<Dtype>(param));\n"
        "  }",
    ),
    Edit(
        "cmake/Dependencies.cmake",
        "list(APPEND Caffe_LINKER_LIBS PRIVATE ${CMAKE_THREAD_LIBS_INIT})",
        "list(APPEND Caffe_LINKER_LIBS PRIVATE ${CMAKE_THREAD_LIBS_INIT} dnnl)",
    ),
    # The maximum stays in a register instead of in memory. Where a NaN comes first it is the
    # maximum, and its index lies in the window; Caffe's own backward pass would write in front of
    # the array.
    Edit(
        "src/caffe/layers/pooling_layer.cpp",
        """\
            for (int h = hstart; h < hend; ++h) {
              for (int w = wstart; w < wend; ++w) {
                const int index = h * width_ + w;
                if (bottom_data[index] > top_data[pool_index]) {
                  top_data[pool_index] = bottom_data[index];
                  if (use_top_mask) {
                    top_mask[pool_index] = static_cast<Dtype>(index);
                  } else {
                    mask[pool_index] = index;
                  }
                }
              }
            }
""",
        """\
            int place = hstart * width_ + wstart;
            Dtype most = bottom_data[place];
            for (int h = hstart; h < hend; ++h) {
              for (int w = wstart; w < wend; ++w) {
                const int index = h * width_ + w;
                const bool more = bottom_data[index] > most;
                most = more ? bottom_data[index] : most;
                place = more ? index : place;
              }
            }
            top_data[pool_index] = most;
            if (use_top_mask) {
              top_mask[pool_index] = static_cast<Dtype>(place);
            } else {
              mask[pool_index] = place;
            }
""",
    ),
)

CPU_ADDITIONS = (
    addition("onednn_conv_layer.hpp", "include/caffe/layers/onednn_conv_layer.hpp"),
    addition("onednn_conv_layer.cpp", "src/caffe/layers/onednn_conv_layer.cpp"),
)

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


def edit_text(text: str, edit: Edit) -> str:
    """Return a text with the edit made, or unchanged where it was made before.

    Raises:
        EditError: if the text has neither the old nor the new wording, so that this is another
            Caffe than the one that the edit was written for.
    """
    if edit.old in text:
        return text.replace(edit.old, edit.new)
    if edit.new in text:
        return text
    raise EditError(
        f"{edit.file} has neither {edit.old!r} nor {edit.new!r}: this source is not Caffe 1.0 "
        "(BVLC 99bd997), and the edits in caffe_build/edits.py do not fit it"
    )


def apply_edits(tree: Path, edits: tuple[Edit, ...]) -> None:
    """Make all edits in a source tree.

    Raises:
        EditError: as `edit_text` does, and if a file is missing.
    """
    for edit in edits:
        path = tree / edit.file
        if not path.is_file():
            raise EditError(f"{path} is missing: this source is not Caffe 1.0 (BVLC 99bd997)")
        before = path.read_text(encoding="utf-8")
        after = edit_text(before, edit)
        if after != before:  # an untouched file keeps its time stamp, and ninja its objects
            path.write_text(after, encoding="utf-8")


def add_files(tree: Path, additions: tuple[Addition, ...]) -> None:
    """Write all additions into a source tree; a file that is the same stays untouched."""
    for added in additions:
        path = tree / added.file
        if not path.is_file() or path.read_text(encoding="utf-8") != added.text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(added.text, encoding="utf-8")
