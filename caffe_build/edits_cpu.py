"""The edits to Caffe 1.0 for today's libraries, and those that make it fast on a CPU."""

from caffe_build.edits import Edit, addition

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
    # Of a bytearray frombuffer makes an array that can be written to, as fromstring did.
    Edit("python/caffe/io.py", "arr.tostring()", "arr.tobytes()"),
    Edit("python/caffe/io.py", "np.fromstring(datum.data,", "np.frombuffer(bytearray(datum.data),"),
    Edit("python/caffe/io.py", "as_grey=", "as_gray="),
    # Two thirds of the time of `import caffe` went to scikit-image and SciPy, which only two of its
    # functions use.
    Edit(
        "python/caffe/io.py",
        "import numpy as np\nimport skimage.io\nfrom scipy.ndimage import zoom\n"
        "from skimage.transform import resize\n",
        "import numpy as np\n\n# load_image and resize_image import scikit-image and SciPy.\n",
    ),
    Edit(
        "python/caffe/io.py",
        "    img = skimage.img_as_float(skimage.io.imread(",
        "    from skimage import img_as_float\n    from skimage.io import imread\n"
        "    img = img_as_float(imread(",
    ),
    Edit(
        "python/caffe/io.py",
        '    """\n    if im.shape[-1] == 1 or im.shape[-1] == 3:',
        '    """\n    from scipy.ndimage import zoom\n    from skimage.transform import resize\n'
        "    if im.shape[-1] == 1 or im.shape[-1] == 3:",
    ),
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
    # A convolution keeps its weights in oneDNN's layout while `version` stays the same, and hands
    # its result on in that layout. What is new in the class comes last in it.
    Edit(
        "include/caffe/syncedmem.hpp",
        "  size_t size() const { return size_; }\n\n#ifndef CPU_ONLY",
        "  size_t size() const { return size_; }\n"
        "  // A number that changes with the contents, but not when a pointer of an earlier call "
        "writes\n"
        "  // them. 0: the plain array has another owner, which may write at any time.\n"
        "  size_t version() const { return cpu_ptr_ && !own_cpu_data_ ? 0 : version_; }\n\n"
        "  // Contents in another layout, which only some layers know.\n"
        "  class Packed {\n"
        "   public:\n"
        "    virtual ~Packed() {}\n"
        "    virtual void Unpack(void* plain) const = 0;\n"
        "  };\n"
        "  // The plain contents are made of packed ones when they are asked for; a pointer "
        "that may\n"
        "  // write ends the packed ones. NULL where there are none.\n"
        "  const shared_ptr<Packed>& packed() const { return packed_; }\n"
        "  void set_packed(const shared_ptr<Packed>& packed);\n"
        "  // The same contents in another layout, beside the plain ones.\n"
        "  void add_packed(const shared_ptr<Packed>& packed);\n"
        "  // Whether a pointer to the plain contents may be kept that has to see every change.\n"
        "  bool exposed() const { return exposed_ || (cpu_ptr_ && !own_cpu_data_); }\n"
        "  void expose() { exposed_ = true; }\n\n#ifndef CPU_ONLY",
    ),
    Edit(
        "include/caffe/syncedmem.hpp",
        "  int device_;\n\n  DISABLE",
        "  int device_;\n"
        "  size_t version_;\n"
        "  shared_ptr<Packed> packed_;\n"
        "  bool unpacked_;\n"
        "  bool exposed_;\n\n  DISABLE",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        '#include "caffe/util/math_functions.hpp"\n\nnamespace caffe {\nSyncedMemory::',
        '#include "caffe/util/math_functions.hpp"\n\n#include <atomic>\n\nnamespace caffe {\n\n'
        "// No two contents in a process have the same.\n"
        "static size_t NewVersion() {\n"
        "  static std::atomic<size_t> last(0);\n"
        "  return ++last;\n"
        "}\n\nSyncedMemory::",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "cpu_malloc_use_cuda_(false), own_gpu_data_(false) {",
        "cpu_malloc_use_cuda_(false), own_gpu_data_(false),\n"
        "    version_(NewVersion()), unpacked_(false), exposed_(false) {",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "inline void SyncedMemory::to_cpu() {\n  check_device();\n  switch (head_) {",
        "void SyncedMemory::set_packed(const shared_ptr<Packed>& packed) {\n"
        "  CHECK(!exposed());\n"
        "  packed_ = packed;\n"
        "  unpacked_ = false;\n"
        "  head_ = HEAD_AT_CPU;\n"
        "  version_ = NewVersion();\n"
        "}\n\n"
        "void SyncedMemory::add_packed(const shared_ptr<Packed>& packed) {\n"
        "  CHECK(!exposed());\n"
        "  packed_ = packed;\n"
        "  unpacked_ = true;\n"
        "}\n\n"
        "inline void SyncedMemory::to_cpu() {\n"
        "  check_device();\n"
        "  if (packed_ && !unpacked_) {\n"
        "    if (cpu_ptr_ == NULL) {\n"
        "      CaffeMallocHost(&cpu_ptr_, size_, &cpu_malloc_use_cuda_);\n"
        "      caffe_memset(size_, 0, cpu_ptr_);\n"
        "      own_cpu_data_ = true;\n"
        "    }\n"
        "    packed_->Unpack(cpu_ptr_);\n"
        "    unpacked_ = true;\n"
        "  }\n"
        "  switch (head_) {",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "inline void SyncedMemory::to_gpu() {\n"
        "  check_device();\n"
        "#ifndef CPU_ONLY\n"
        "  switch (head_) {",
        "inline void SyncedMemory::to_gpu() {\n"
        "  check_device();\n"
        "#ifndef CPU_ONLY\n"
        "  if (packed_) to_cpu();\n"
        "  switch (head_) {",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "  cpu_ptr_ = data;\n  head_ = HEAD_AT_CPU;\n  own_cpu_data_",
        "  cpu_ptr_ = data;\n  head_ = HEAD_AT_CPU;\n  packed_.reset();\n  own_cpu_data_",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "  to_cpu();\n  head_ = HEAD_AT_CPU;\n  return cpu_ptr_;",
        "  to_cpu();\n"
        "  head_ = HEAD_AT_CPU;\n"
        "  packed_.reset();\n"
        "  version_ = NewVersion();\n"
        "  return cpu_ptr_;",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "  to_gpu();\n  head_ = HEAD_AT_GPU;\n  return gpu_ptr_;",
        "  to_gpu();\n"
        "  head_ = HEAD_AT_GPU;\n"
        "  packed_.reset();\n"
        "  version_ = NewVersion();\n"
        "  return gpu_ptr_;",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "  gpu_ptr_ = data;\n  head_ = HEAD_AT_GPU;\n  own_gpu_data_",
        "  gpu_ptr_ = data;\n"
        "  head_ = HEAD_AT_GPU;\n"
        "  packed_.reset();\n"
        "  version_ = NewVersion();\n"
        "  own_gpu_data_",
    ),
    Edit(
        "src/caffe/syncedmem.cpp",
        "  CHECK(head_ == HEAD_AT_CPU);\n  if (gpu_ptr_ == NULL) {",
        "  CHECK(head_ == HEAD_AT_CPU);\n  if (packed_) to_cpu();\n  if (gpu_ptr_ == NULL) {",
    ),
    # An array of Python's sees every change of the blob's memory for as long as it lives.
    Edit(
        "python/caffe/_caffe.cpp",
        "bp::make_function(&Blob<Dtype>::mutable_cpu_data,",
        "bp::make_function(&Blob_Data,",
    ),
    Edit(
        "python/caffe/_caffe.cpp",
        "bp::make_function(&Blob<Dtype>::mutable_cpu_diff,",
        "bp::make_function(&Blob_Diff,",
    ),
    Edit(
        "python/caffe/_caffe.cpp",
        "};\n\nbp::object Blob_Reshape(bp::tuple args, bp::dict kwargs) {",
        "};\n\nDtype* Blob_Data(Blob<Dtype>& blob) {\n"
        "  Dtype* data = blob.mutable_cpu_data();\n"
        "  blob.data()->expose();\n"
        "  return data;\n"
        "}\n\n"
        "Dtype* Blob_Diff(Blob<Dtype>& blob) {\n"
        "  Dtype* diff = blob.mutable_cpu_diff();\n"
        "  blob.diff()->expose();\n"
        "  return diff;\n"
        "}\n\n"
        "bp::object Blob_Reshape(bp::tuple args, bp::dict kwargs) {",
    ),
    # One pass over the parameters, by all threads, as on a GPU.
    Edit(
        "src/caffe/solvers/adam_solver.cpp",
        "  Blob<Dtype>* val_v = this->history_[param_id + update_history_offset].get();\n"
        "  Blob<Dtype>* val_t = this->temp_[param_id].get();\n",
        "  Blob<Dtype>* val_v = this->history_[param_id + update_history_offset].get();\n",
    ),
    Edit(
        "src/caffe/solvers/adam_solver.cpp",
        """\
    // update m <- \\beta_1 m_{t-1} + (1-\\beta_1)g_t
    caffe_cpu_axpby(N, Dtype(1)-beta1,
        net_params[param_id]->cpu_diff(), beta1,
        val_m->mutable_cpu_data());

    // update v <- \\beta_2 m_{t-1} + (1-\\beta_2)g_t^2
    caffe_mul(N,
        net_params[param_id]->cpu_diff(),
        net_params[param_id]->cpu_diff(),
    val_t->mutable_cpu_data());
    caffe_cpu_axpby(N, Dtype(1)-beta2,
        val_t->cpu_data(), beta2,
        val_v->mutable_cpu_data());

    // set update
    caffe_powx(N,
        val_v->cpu_data(), Dtype(0.5),
        val_t->mutable_cpu_data());
    caffe_add_scalar(N, eps_hat, val_t->mutable_cpu_data());
    caffe_div(N,
        val_m->cpu_data(),
        val_t->cpu_data(),
        val_t->mutable_cpu_data());

    caffe_cpu_scale(N, local_rate*correction,
        val_t->cpu_data(),
        net_params[param_id]->mutable_cpu_diff());
""",
        """\
    Dtype* gradient = net_params[param_id]->mutable_cpu_diff();
    Dtype* m = val_m->mutable_cpu_data();
    Dtype* v = val_v->mutable_cpu_data();
    const Dtype corrected_local_rate = local_rate * correction;
#pragma omp parallel for if (N > 16384)
    for (int i = 0; i < N; ++i) {
      const Dtype g = gradient[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      gradient[i] = corrected_local_rate * m[i] / (std::sqrt(v[i]) + eps_hat);
    }
""",
    ),
    # Threads share the values of a ReLU and the planes of a maximum pooling, so that these do not
    # run on one core while the convolutions between them run on all.
    Edit(
        "src/caffe/layers/relu_layer.cpp",
        '\n\n#include "caffe/layers/relu_layer.hpp"\n',
        '\n\n#include "caffe/layers/onednn_conv_layer.hpp"\n'
        '#include "caffe/layers/relu_layer.hpp"\n',
    ),
    Edit(
        "src/caffe/layers/relu_layer.cpp",
        "    const vector<Blob<Dtype>*>& top) {\n"
        "  const Dtype* bottom_data = bottom[0]->cpu_data();\n"
        "  Dtype* top_data = top[0]->mutable_cpu_data();\n",
        "    const vector<Blob<Dtype>*>& top) {\n"
        "  if (RectifyPacked(bottom[0], top[0],\n"
        "      static_cast<Dtype>(this->layer_param_.relu_param().negative_slope()))) {\n"
        "    return;\n"
        "  }\n"
        "  const Dtype* bottom_data = bottom[0]->cpu_data();\n"
        "  Dtype* top_data = top[0]->mutable_cpu_data();\n",
    ),
    Edit(
        "src/caffe/layers/relu_layer.cpp",
        "negative_slope();\n  for (int i = 0; i < count; ++i) {\n    top_data[i] = std::max",
        "negative_slope();\n#pragma omp parallel for if (count > 16384)\n"
        "  for (int i = 0; i < count; ++i) {\n    top_data[i] = std::max",
    ),
    Edit(
        "src/caffe/layers/relu_layer.cpp",
        "  if (propagate_down[0]) {\n    const Dtype* bottom_data = bottom[0]->cpu_data();\n",
        "  if (propagate_down[0] && !RectifyPackedBackward(top[0], bottom[0],\n"
        "      static_cast<Dtype>(this->layer_param_.relu_param().negative_slope()))) {\n"
        "    const Dtype* bottom_data = bottom[0]->cpu_data();\n",
    ),
    Edit(
        "src/caffe/layers/relu_layer.cpp",
        "negative_slope();\n    for (int i = 0; i < count; ++i) {\n      bottom_diff[i] =",
        "negative_slope();\n#pragma omp parallel for if (count > 16384)\n"
        "    for (int i = 0; i < count; ++i) {\n      bottom_diff[i] =",
    ),
    Edit(
        "src/caffe/layers/pooling_layer.cpp",
        """\
    for (int n = 0; n < top[0]->num(); ++n) {
      for (int c = 0; c < channels_; ++c) {
        for (int ph = 0; ph < pooled_height_; ++ph) {
          for (int pw = 0; pw < pooled_width_; ++pw) {
            const int index = ph * pooled_width_ + pw;
            const int bottom_index =
                use_top_mask ? top_mask[index] : mask[index];
            bottom_diff[bottom_index] += top_diff[index];
          }
        }
        bottom_diff += bottom[0]->offset(0, 1);
        top_diff += top[0]->offset(0, 1);
        if (use_top_mask) {
          top_mask += top[0]->offset(0, 1);
        } else {
          mask += top[0]->offset(0, 1);
        }
      }
    }
""",
        """\
#pragma omp parallel for if (top[0]->count() > 4096)
    for (int plane = 0; plane < top[0]->num() * channels_; ++plane) {
      Dtype* plane_diff = bottom_diff + plane * bottom[0]->offset(0, 1);
      const int begin = plane * top[0]->offset(0, 1);
      for (int index = begin; index < begin + top[0]->offset(0, 1); ++index) {
        const int bottom_index = use_top_mask ? top_mask[index] : mask[index];
        if (bottom_index >= 0) plane_diff[bottom_index] += top_diff[index];
      }
    }
""",
    ),
    # A maximum pooling of packed contents leaves no indices, for a backward pass over packed
    # gradients finds them again, and one over plain gradients is rare; -2 is none.
    Edit(
        "src/caffe/layers/pooling_layer.cpp",
        '\n\n#include "caffe/layers/pooling_layer.hpp"\n#include "caffe/util',
        '\n\n#include "caffe/layers/onednn_conv_layer.hpp"\n'
        '#include "caffe/layers/pooling_layer.hpp"\n#include "caffe/util',
    ),
    Edit(
        "src/caffe/layers/pooling_layer.cpp",
        "      const vector<Blob<Dtype>*>& top) {\n"
        "  const Dtype* bottom_data = bottom[0]->cpu_data();\n",
        "      const vector<Blob<Dtype>*>& top) {\n"
        "  if (top.size() == 1\n"
        "      && this->layer_param_.pooling_param().pool() == PoolingParameter_PoolMethod_MAX) {\n"
        "    const int kernel[] = {kernel_h_, kernel_w_}, stride[] = {stride_h_, stride_w_};\n"
        "    const int pad[] = {pad_h_, pad_w_};\n"
        "    if (PoolPacked(bottom[0], top[0], kernel, stride, pad)) {\n"
        "      max_idx_.mutable_cpu_data()[0] = -2;\n"
        "      return;\n"
        "    }\n"
        "  }\n"
        "  const Dtype* bottom_data = bottom[0]->cpu_data();\n",
    ),
    Edit(
        "src/caffe/layers/pooling_layer.cpp",
        "    return;\n  }\n  const Dtype* top_diff = top[0]->cpu_diff();\n",
        "    return;\n"
        "  }\n"
        "  if (top.size() == 1 && max_idx_.count() && max_idx_.cpu_data()[0] == -2) {\n"
        "    const int kernel[] = {kernel_h_, kernel_w_}, stride[] = {stride_h_, stride_w_};\n"
        "    const int pad[] = {pad_h_, pad_w_};\n"
        "    if (PoolPackedBackward(top[0], bottom[0], kernel, stride, pad)) { return; }\n"
        "    bottom[0]->mutable_cpu_data();  // ends the packed contents\n"
        "    Blob<Dtype> again;  // top may hold what a layer in place made of the maxima\n"
        "    again.ReshapeLike(*top[0]);\n"
        "    Forward_cpu(bottom, vector<Blob<Dtype>*>(1, &again));\n"
        "  }\n"
        "  const Dtype* top_diff = top[0]->cpu_diff();\n",
    ),
    # The maximum stays in a register instead of in memory. Where a NaN comes first it is the
    # maximum, and its index lies in the window; Caffe's own backward pass would write in front of
    # the array. It would do so, too, where a window begins behind the image, as the last one may
    # with a stride above the kernel: that has no maximum, and the index -1.
    Edit(
        "src/caffe/layers/pooling_layer.cpp",
        """\
      top_mask = top[1]->mutable_cpu_data();
      caffe_set(top_count, Dtype(-1), top_mask);
    } else {
      mask = max_idx_.mutable_cpu_data();
      caffe_set(top_count, -1, mask);
    }
    caffe_set(top_count, Dtype(-FLT_MAX), top_data);
    // The main loop
    for (int n = 0; n < bottom[0]->num(); ++n) {
      for (int c = 0; c < channels_; ++c) {
        for (int ph = 0; ph < pooled_height_; ++ph) {
          for (int pw = 0; pw < pooled_width_; ++pw) {
            int hstart = ph * stride_h_ - pad_h_;
            int wstart = pw * stride_w_ - pad_w_;
            int hend = min(hstart + kernel_h_, height_);
            int wend = min(wstart + kernel_w_, width_);
            hstart = max(hstart, 0);
            wstart = max(wstart, 0);
            const int pool_index = ph * pooled_width_ + pw;
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
          }
        }
        // compute offset
        bottom_data += bottom[0]->offset(0, 1);
        top_data += top[0]->offset(0, 1);
        if (use_top_mask) {
          top_mask += top[0]->offset(0, 1);
        } else {
          mask += top[0]->offset(0, 1);
        }
      }
    }
""",
        """\
      top_mask = top[1]->mutable_cpu_data();
    } else {
      mask = max_idx_.mutable_cpu_data();
    }
#pragma omp parallel for if (top_count > 4096)
    for (int plane = 0; plane < bottom[0]->num() * channels_; ++plane) {
      const Dtype* values = bottom_data + plane * bottom[0]->offset(0, 1);
      for (int ph = 0; ph < pooled_height_; ++ph) {
        for (int pw = 0; pw < pooled_width_; ++pw) {
          int hstart = ph * stride_h_ - pad_h_;
          int wstart = pw * stride_w_ - pad_w_;
          int hend = min(hstart + kernel_h_, height_);
          int wend = min(wstart + kernel_w_, width_);
          hstart = max(hstart, 0);
          wstart = max(wstart, 0);
          const int pool_index = (plane * pooled_height_ + ph) * pooled_width_ + pw;
          const bool empty = hstart >= hend || wstart >= wend;
          int most_index = empty ? -1 : hstart * width_ + wstart;
          Dtype most = empty ? Dtype(-FLT_MAX) : values[most_index];
          for (int h = hstart; h < hend; ++h) {
            for (int w = wstart; w < wend; ++w) {
              const int index = h * width_ + w;
              const bool more = values[index] > most;
              most = more ? values[index] : most;
              most_index = more ? index : most_index;
            }
          }
          top_data[pool_index] = most;
          if (use_top_mask) {
            top_mask[pool_index] = static_cast<Dtype>(most_index);
          } else {
            mask[pool_index] = most_index;
          }
        }
      }
    }
""",
    ),
)

CPU_ADDITIONS = (
    addition("onednn_conv_layer.hpp", "include/caffe/layers/onednn_conv_layer.hpp"),
    addition("onednn_conv_layer.cpp", "src/caffe/layers/onednn_conv_layer.cpp"),
)
