#include "caffe/layers/onednn_conv_layer.hpp"

#include <algorithm>
#include <boost/weak_ptr.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <oneapi/dnnl/dnnl_version.h>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

using dnnl::memory;
typedef memory::format_tag Tag;

// The arrays that a pass works on, in the order in which it asks for scratch memory.
enum Role { SOURCE, WEIGHTS, RESULT, PLAIN, BIAS, ROLES };

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& Stream() {
  static thread_local dnnl::stream stream(Engine());
  return stream;
}

// Memory that all layers of a thread share, one array a role: what is in it is used up before the next layer begins.
float* Scratch(Role role, size_t bytes) {
  struct Array {
    float* data;
    size_t bytes;
    Array() : data(NULL), bytes(0) {}
    ~Array() { std::free(data); }
  };
  static thread_local Array arrays[ROLES];
  Array& array = arrays[role];
  if (array.bytes < bytes) {
    std::free(array.data);
    void* data = NULL;
    CHECK_EQ(posix_memalign(&data, 64, bytes), 0) << "no memory for " << bytes << " bytes of a convolution";
    array.data = static_cast<float*>(data);
    array.bytes = bytes;
  }
  return array.data;
}

memory::desc Desc(const memory::dims& dims, Tag tag) { return memory::desc(dims, memory::data_type::f32, tag); }

// What a convolution multiplies; it adds up float32 and writes float32 in any case. ROUNDED are float32 numbers that are rounded to
// bfloat16: the products are those of BFLOAT16, on a processor that has none.
enum Precision { FLOAT32, BFLOAT16, ROUNDED };

bool HasBFloat16() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// What the user asks for.
Precision WantedPrecision() {
  const char* variable = std::getenv("MCC_CAFFE_PRECISION");
  const std::string name = variable && *variable ? variable : "float32";
  CHECK(name == "float32" || name == "bfloat16" || name == "auto")
      << "MCC_CAFFE_PRECISION is " << name << ": give float32, bfloat16 or auto";
  const Precision wanted = name == "float32" || (name == "auto" && !HasBFloat16()) ? FLOAT32
      : HasBFloat16() ? BFLOAT16 : ROUNDED;
  if (wanted == FLOAT32) {
    LOG_FIRST_N(INFO, 1) << "convolutions on the CPU in float32";
  } else if (wanted == BFLOAT16) {
    LOG_FIRST_N(INFO, 1) << "convolutions on the CPU in bfloat16";
  } else {
    LOG_FIRST_N(INFO, 1) << "convolutions on the CPU in bfloat16, rounded from float32 because this processor has none";
  }
  return wanted;
}

// Rounds to the nearest bfloat16, ties to even. A NaN stays one, and what is larger than the largest becomes infinite.
void RoundToBFloat16(const float* from, float* to, long count) {
#pragma omp parallel for if (count > 16384)
  for (long i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof(bits));
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    bits = (is_nan ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}

// The contents of a blob, values or gradients, in a layout of oneDNN's.
class PackedArray : public SyncedMemory::Packed {
 public:
  PackedArray(const memory::desc& plain, const memory::desc& packed)
      : plain_(plain), packed_(packed, Engine()), reorder_(packed_, memory(plain_, Engine(), NULL)) {}

  virtual void Unpack(void* data) const {
    memory packed = packed_, plain(plain_, Engine(), data);
    reorder_.execute(Stream(), packed, plain);
    Stream().wait();
  }

  void Pack(const void* data) {
    memory plain(plain_, Engine(), const_cast<void*>(data));
    dnnl::reorder(plain, packed_).execute(Stream(), plain, packed_);
    Stream().wait();
  }

  const memory::desc& plain() const { return plain_; }
  const memory& packed() const { return packed_; }
  float* data() const { return static_cast<float*>(packed_.get_data_handle()); }
  size_t count() const { return packed_.get_desc().get_size() / sizeof(float); }

  // What is packed in `contents`, NULL where nothing is.
  static shared_ptr<PackedArray> Of(const SyncedMemory& contents) {
    return boost::dynamic_pointer_cast<PackedArray>(contents.packed());
  }

  // An array for what will be packed in `contents`: the one that is there if that has the same layout.
  static shared_ptr<PackedArray> For(const SyncedMemory& contents, const memory::desc& plain, const memory::desc& packed) {
    shared_ptr<PackedArray> array = Of(contents);
    if (!array || array->packed_.get_desc() != packed) array.reset(new PackedArray(plain, packed));
    return array;
  }

  // An array of the same layout for what will be packed in `contents`.
  shared_ptr<PackedArray> Like(const SyncedMemory& contents) const { return For(contents, plain_, packed_.get_desc()); }

 private:
  memory::desc plain_;
  memory packed_;
  dnnl::reorder reorder_;
};

// Weights in the layout of a primitive; the primitives of several shapes mostly want the same one.
struct PackedWeights {
  memory array;
  size_t version = 0;  // of the values in `array`, 0 where there are none
};

// An array of Caffe's and the same in the layout, and of the precision, that a primitive wants.
class Operand {
 public:
  Operand() : role_(ROLES), precision_(FLOAT32) {}
  Operand(const memory::desc& plain, const memory::desc& inner, Role role, bool output, Precision precision)
      : role_(role), precision_(precision), plain_(plain, Engine(), NULL), inner_(inner, Engine(), NULL) {
    if (plain != inner) {
      reorder_ = output ? dnnl::reorder(inner_, plain_) : dnnl::reorder(plain_, inner_);
    }
  }

  // To be read by the primitive.
  const memory& Input(const void* data) {
    plain_.set_data_handle(const_cast<void*>(data));
    if (!reorder_ && precision_ != ROUNDED) return plain_;
    PlaceInner();
    Convert(reorder_, plain_, inner_);
    return inner_;
  }

  // The same for the contents of a blob, which may have the layout already. Where another primitive is going to read them
  // (`is_read_again`), float32 contents keep what is packed here beside the plain array. Below float32, `earlier` (another
  // primitive's operand, or NULL) is read instead if it still holds these contents in this layout.
  const memory& BlobInput(SyncedMemory* contents, bool is_read_again, const Operand* earlier = NULL) {
    if (precision_ != FLOAT32) {
      if (earlier && earlier->Holds(*contents, inner_.get_desc())) return earlier->inner_;
      const shared_ptr<PackedArray> packed = PackedArray::Of(*contents);
      // A Reshape gives the same contents to blobs of several shapes.
      const bool fits = packed && packed->plain() == plain_.get_desc();
      const memory& lowered = fits ? Lowered(packed->packed()) : Input(contents->cpu_data());
      held_version_ = contents->version();
      return lowered;
    }
    if (reorder_) {
      packed_ = PackedArray::Of(*contents);
      if (packed_ && packed_->packed().get_desc() == inner_.get_desc()) return packed_->packed();
      if (is_read_again && !packed_ && !contents->exposed()) {
        if (!added_ || added_.use_count() > 1) added_.reset(new PackedArray(plain_.get_desc(), inner_.get_desc()));
        added_->Pack(contents->cpu_data());
        contents->add_packed(added_);
        return added_->packed();
      }
    }
    return Input(contents->cpu_data());
  }

  // The same for weights whose values are those of the last call with the same `version`; with 0 they may be any. What the
  // primitive reads stays in `packed` for the next call.
  const memory& WeightsInput(const void* data, size_t version, PackedWeights* packed) {
    if (!reorder_ && precision_ != ROUNDED) return Input(data);
    if (!version) {
      *packed = PackedWeights();
      return Input(data);
    }
    const bool fits = packed->version && packed->array.get_desc() == inner_.get_desc();
    if (!fits) packed->array = memory(inner_.get_desc(), Engine());
    if (!fits || packed->version != version) {
      plain_.set_data_handle(const_cast<void*>(data));
      Convert(reorder_, plain_, packed->array);
      packed->version = version;
    }
    return packed->array;
  }

  // To be written by the primitive, and to become `contents`; NULL where these have to be plain.
  shared_ptr<PackedArray> PackedOutput(const SyncedMemory& contents) const {
    if (!reorder_ || contents.exposed()) return shared_ptr<PackedArray>();
    return PackedArray::For(contents, plain_.get_desc(), inner_.get_desc());
  }

  // To be written by the primitive; `Finish` brings it to where it belongs.
  const memory& Output(void* data) {
    plain_.set_data_handle(data);
    if (!reorder_) return plain_;
    PlaceInner();
    return inner_;
  }

  // Makes what `Input` returns stay valid until its next call, in an array of its own instead of scratch memory.
  void Keep() {
    if (is_kept_) return;
    inner_ = memory(inner_.get_desc(), Engine());
    is_kept_ = true;
  }

  void Finish() {
    if (reorder_) reorder_.execute(Stream(), inner_, plain_);
  }

  bool is_kept() const { return is_kept_; }
  size_t bytes() const { return plain_.get_desc().get_size(); }

 private:
  void PlaceInner() {
    if (!is_kept_) inner_.set_data_handle(Scratch(role_, inner_.get_desc().get_size()));
  }

  // Whether these contents were read last, in this layout, and have not changed since.
  bool Holds(const SyncedMemory& contents, const memory::desc& layout) const {
    return held_version_ && held_version_ == contents.version() && !contents.exposed() && inner_.get_desc() == layout;
  }

  // What is packed, in the primitive's precision; it can't stand for the contents then.
  const memory& Lowered(const memory& packed) {
    const memory::desc layout = packed.get_desc();
    if (layout != lowered_layout_) {
      lowered_layout_ = layout;
      lower_ = layout == inner_.get_desc() ? dnnl::reorder() : dnnl::reorder(packed, inner_);
    }
    PlaceInner();
    Convert(lower_, packed, inner_);
    return inner_;
  }

  // Fills `to` with what is in `from`, rounded where that is asked for. Without a `reorder` both have the same layout.
  void Convert(const dnnl::reorder& reorder, const memory& from, const memory& to) const {
    if (reorder) reorder.execute(Stream(), const_cast<memory&>(from), const_cast<memory&>(to));
    if (precision_ != ROUNDED) return;
    Stream().wait();
    float* values = static_cast<float*>(to.get_data_handle());
    RoundToBFloat16(reorder ? values : static_cast<float*>(from.get_data_handle()), values,
        to.get_desc().get_size() / sizeof(float));
  }

  Role role_;
  Precision precision_;
  bool is_kept_ = false;     // whether `inner_` is an array of its own
  size_t held_version_ = 0;  // of the contents that `inner_` has in a precision below float32
  memory plain_, inner_;
  shared_ptr<PackedArray> packed_;  // what a blob had packed in the last call, which the primitive may still read
  shared_ptr<PackedArray> added_;   // what it got beside its plain array
  dnnl::reorder reorder_, lower_;   // from the plain array, or from what is packed
  memory::desc lowered_layout_;     // of what `lower_` reads
};

const dnnl::algorithm kDirect = dnnl::algorithm::convolution_direct;

// What oneDNN is told of a convolution. Its third version joined the two steps of its second.
struct Geometry {
  memory::dims source, weights, bias, result, strides, pads;
  Precision precision;

  // Arrays that a pass reads, and one that it writes, in the layout that suits it.
  memory::desc Read(const memory::dims& dims) const {
    return memory::desc(dims, precision == BFLOAT16 ? memory::data_type::bf16 : memory::data_type::f32, Tag::any);
  }
  memory::desc Written(const memory::dims& dims) const { return Desc(dims, Tag::any); }

  dnnl::convolution_forward::primitive_desc Forward(dnnl::prop_kind kind) const {
#if DNNL_VERSION_MAJOR >= 3
    return dnnl::convolution_forward::primitive_desc(Engine(), kind, kDirect, Read(source), Read(weights), Bias(),
        Written(result), strides, pads, pads);
#else
    return dnnl::convolution_forward::primitive_desc(dnnl::convolution_forward::desc(kind, kDirect, Read(source), Read(weights),
        Bias(), Written(result), strides, pads, pads), Engine());
#endif
  }

  dnnl::convolution_backward_data::primitive_desc BackwardData() const {
#if DNNL_VERSION_MAJOR >= 3
    return dnnl::convolution_backward_data::primitive_desc(Engine(), kDirect, Written(source), Read(weights), Read(result),
        strides, pads, pads, Forward(dnnl::prop_kind::forward_training));
#else
    return dnnl::convolution_backward_data::primitive_desc(dnnl::convolution_backward_data::desc(kDirect, Written(source),
        Read(weights), Read(result), strides, pads, pads), Engine(), Forward(dnnl::prop_kind::forward_training));
#endif
  }

  dnnl::convolution_backward_weights::primitive_desc BackwardWeights() const {
#if DNNL_VERSION_MAJOR >= 3
    return dnnl::convolution_backward_weights::primitive_desc(Engine(), kDirect, Read(source), Written(weights), Bias(),
        Read(result), strides, pads, pads, Forward(dnnl::prop_kind::forward_training));
#else
    return dnnl::convolution_backward_weights::primitive_desc(dnnl::convolution_backward_weights::desc(kDirect, Read(source),
        Written(weights), Bias(), Read(result), strides, pads, pads), Engine(), Forward(dnnl::prop_kind::forward_training));
#endif
  }

  memory::desc Bias() const { return bias.empty() ? memory::desc() : Desc(bias, Tag::x); }
  memory::desc Plain(const memory::dims& dims) const { return Desc(dims, dims.size() == 5 ? Tag::goihw : Tag::oihw); }

  // An array of Caffe's that a pass reads in the layout `inner`, or writes in it.
  Operand Input(const memory::dims& dims, const memory::desc& inner, Role role) const {
    return Operand(Plain(dims), inner, role, false, precision);
  }
  Operand Output(const memory::dims& dims, const memory::desc& inner, Role role) const {
    return Operand(Plain(dims), inner, role, true, FLOAT32);
  }
};

// The three passes, each a primitive and the layouts it works in.
struct ForwardPass {
  explicit ForwardPass(const Geometry& geometry, dnnl::prop_kind kind) {
    dnnl::convolution_forward::primitive_desc wanted = geometry.Forward(kind);
    primitive = dnnl::convolution_forward(wanted);
    implementation = wanted.impl_info_str();
    source = geometry.Input(geometry.source, wanted.src_desc(), SOURCE);
    weights = geometry.Input(geometry.weights, wanted.weights_desc(), WEIGHTS);
    result = geometry.Output(geometry.result, wanted.dst_desc(), RESULT);
  }
  dnnl::convolution_forward primitive;
  std::string implementation;  // its name
  Operand source, weights, result;
};

struct BackwardDataPass {
  explicit BackwardDataPass(const Geometry& geometry) {
    dnnl::convolution_backward_data::primitive_desc wanted = geometry.BackwardData();
    primitive = dnnl::convolution_backward_data(wanted);
    implementation = wanted.impl_info_str();
    source = geometry.Output(geometry.source, wanted.diff_src_desc(), SOURCE);
    weights = geometry.Input(geometry.weights, wanted.weights_desc(), WEIGHTS);
    result = geometry.Input(geometry.result, wanted.diff_dst_desc(), RESULT);
  }
  dnnl::convolution_backward_data primitive;
  std::string implementation;  // its name
  Operand source, weights, result;
};

struct BackwardWeightsPass {
  explicit BackwardWeightsPass(const Geometry& geometry) {
    dnnl::convolution_backward_weights::primitive_desc wanted = geometry.BackwardWeights();
    primitive = dnnl::convolution_backward_weights(wanted);
    implementation = wanted.impl_info_str();
    source = geometry.Input(geometry.source, wanted.src_desc(), SOURCE);
    weights = geometry.Output(geometry.weights, wanted.diff_weights_desc(), WEIGHTS);
    result = geometry.Input(geometry.result, wanted.diff_dst_desc(), RESULT);
  }
  dnnl::convolution_backward_weights primitive;
  std::string implementation;  // its name
  Operand source, weights, result;
};

// A pass of a shape. Where oneDNN has none in bfloat16, or only its reference, which is very slow, the numbers are rounded instead.
template <typename Pass, typename... Kind>
std::unique_ptr<Pass> MakePass(Geometry geometry, Kind... kind) {
  std::unique_ptr<Pass> pass;
  if (geometry.precision == BFLOAT16) {
    try {
      pass.reset(new Pass(geometry, kind...));
    } catch (const dnnl::error&) {
    }
    if (pass && pass->implementation.compare(0, 3, "ref") != 0) return pass;
    LOG_FIRST_N(WARNING, 1) << "oneDNN has no fast convolution in bfloat16 here: float32 is rounded to it, which takes longer";
    geometry.precision = ROUNDED;
  }
  pass.reset(new Pass(geometry, kind...));
  return pass;
}

// A maximum pooling (height, width) of planes that have `block` channels side by side: some, or all of a picture.
struct PooledPlanes {
  PooledPlanes(const memory::dims& from, const memory::dims& to, int block, const int* kernel, const int* stride, const int* pad)
      : count(from[0] * ((from[1] + block - 1) / block)), block(block), height(from[2]), width(from[3]), pooled_height(to[2]),
        pooled_width(to[3]), kernel(kernel), stride(stride), pad(pad) {}

  size_t plane_values() const { return static_cast<size_t>(height) * width * block; }
  size_t plane_maxima() const { return static_cast<size_t>(pooled_height) * pooled_width * block; }
  bool is_large() const { return count * plane_maxima() > 4096; }

  // The pixels of a window that lie in the picture, up to the ends.
  struct Window {
    Window(const PooledPlanes& planes, int ph, int pw) {
      const int top = ph * planes.stride[0] - planes.pad[0], left = pw * planes.stride[1] - planes.pad[1];
      first_h = std::max(top, 0), end_h = std::min(top + planes.kernel[0], planes.height);
      first_w = std::max(left, 0), end_w = std::min(left + planes.kernel[1], planes.width);
    }
    int first_h, end_h, first_w, end_w;
  };

  // The maxima of a window, one a channel. Where a NaN comes first it is the maximum.
  void Maxima(const float* plane, const Window& window, float* maxima) const {
    std::copy_n(plane + (window.first_h * width + window.first_w) * block, block, maxima);
    for (int h = window.first_h; h < window.end_h; ++h) {
      for (int w = window.first_w; w < window.end_w; ++w) {
        const float* pixel = plane + (h * width + w) * block;
#pragma omp simd
        for (int c = 0; c < block; ++c) maxima[c] = pixel[c] > maxima[c] ? pixel[c] : maxima[c];
      }
    }
  }

  void Forward(const float* source, float* result) const {
#pragma omp parallel for collapse(2) if (is_large())
    for (int plane = 0; plane < count; ++plane) {
      for (int ph = 0; ph < pooled_height; ++ph) {
        float* pooled = result + plane * plane_maxima() + static_cast<size_t>(ph) * pooled_width * block;
        for (int pw = 0; pw < pooled_width; ++pw, pooled += block) {
          Maxima(source + plane * plane_values(), Window(*this, ph, pw), pooled);
        }
      }
    }
  }

  void Backward(const float* source, const float* result_diff, float* source_diff) const {
#pragma omp parallel for if (is_large())
    for (int plane = 0; plane < count; ++plane) {
      const float* values = source + plane * plane_values();
      const float* pooled_diff = result_diff + plane * plane_maxima();
      float* diff = source_diff + plane * plane_values();
      std::fill_n(diff, plane_values(), 0.f);
      std::vector<float> maxima(block), rest(block);  // the gradients that no pixel has taken yet
      for (int ph = 0; ph < pooled_height; ++ph) {
        for (int pw = 0; pw < pooled_width; ++pw, pooled_diff += block) {
          const Window window(*this, ph, pw);
          Maxima(values, window, maxima.data());
          std::copy_n(pooled_diff, block, rest.data());
          for (int h = window.first_h; h < window.end_h; ++h) {
            for (int w = window.first_w; w < window.end_w; ++w) {
              const int pixel = (h * width + w) * block;
              TakeGradients(values + pixel, maxima.data(), block, rest.data(), diff + pixel);
            }
          }
        }
      }
    }
  }

  // Gives a pixel the gradients of the channels in which it is the maximum, the first of the window's.
  static void TakeGradients(const float* values, const float* maxima, int block, float* rest, float* diff) {
#pragma omp simd
    for (int c = 0; c < block; ++c) {
      const bool is_maximum = values[c] == maxima[c] || maxima[c] != maxima[c];
      diff[c] += is_maximum ? rest[c] : 0.f;
      rest[c] = is_maximum ? 0.f : rest[c];
    }
  }

  int count, block, height, width, pooled_height, pooled_width;
  const int *kernel, *stride, *pad;
};

// The layout of an array whose plain shape is `dims`, if `PooledPlanes` can read it.
Tag PooledLayout(const PackedArray& array, const memory::dims& dims) {
  const memory::desc layout = array.packed().get_desc();
  for (Tag tag : {Tag::nChw8c, Tag::nChw16c, Tag::nhwc}) {
    if (layout == Desc(dims, tag)) return tag;
  }
  return Tag::undef;
}

// The channels that lie side by side in such a layout.
int Block(Tag layout, const memory::dims& dims) { return layout == Tag::nChw8c ? 8 : layout == Tag::nChw16c ? 16 : dims[1]; }

template <typename Dtype>
memory::dims Dims(const Blob<Dtype>& blob) {
  return memory::dims(blob.shape().begin(), blob.shape().end());
}

}  // namespace

template <typename Dtype>
struct OneDNNConvolutionLayer<Dtype>::Primitives {
  Geometry geometry;
  std::unique_ptr<ForwardPass> forward;
  std::unique_ptr<BackwardDataPass> backward_data;
  std::unique_ptr<BackwardWeightsPass> backward_weights;
};

template <typename Dtype>
struct OneDNNConvolutionLayer<Dtype>::State {
  static const int kShapes = 4;  // a net that looks at pictures one by one and in batches has two or three

  const Precision precision = WantedPrecision();
  std::vector<std::unique_ptr<Primitives> > primitives;  // of the last shapes, those of the present one first
  PackedWeights weights;
  boost::weak_ptr<SyncedMemory> left_packed;  // the contents that the last pass left packed
  bool is_changed = false;  // a layer that wants the result plain changed it afterwards
};

template <typename Dtype>
OneDNNConvolutionLayer<Dtype>::OneDNNConvolutionLayer(const LayerParameter& param)
    : ConvolutionLayer<Dtype>(param), state_(new State()) {}

template <typename Dtype>
OneDNNConvolutionLayer<Dtype>::~OneDNNConvolutionLayer() {}

template <typename Dtype>
bool OneDNNConvolutionLayer<Dtype>::Supported() const {
  if (!std::is_same<Dtype, float>::value || this->num_spatial_axes_ != 2 || this->channel_axis_ != 1) return false;
  const int* dilation = this->dilation_.cpu_data();
  return dilation[0] == 1 && dilation[1] == 1;
}

template <typename Dtype>
size_t OneDNNConvolutionLayer<Dtype>::WeightsVersion() const {
  // In training they change before each pass. The layer and the net own the blob; a third owner is an array of Python's, through
  // which it may write at any time. A second owner of the memory is another blob, which may have such an array.
  const shared_ptr<Blob<Dtype> >& weights = this->blobs_[0];
  if (this->phase_ != TEST || weights.use_count() > 2 || weights->data().use_count() > 1) return 0;
  return weights->data()->version();
}

template <typename Dtype>
typename OneDNNConvolutionLayer<Dtype>::Primitives* OneDNNConvolutionLayer<Dtype>::Prepared(const Blob<Dtype>& bottom,
    const Blob<Dtype>& top) {
  Geometry geometry;
  geometry.precision = state_->precision;
  geometry.source.assign(bottom.shape().begin(), bottom.shape().end());
  geometry.result.assign(top.shape().begin(), top.shape().end());
  std::vector<std::unique_ptr<Primitives> >& known = state_->primitives;
  for (int i = 0; i < known.size(); ++i) {
    if (known[i]->geometry.source != geometry.source) continue;
    std::rotate(known.begin(), known.begin() + i, known.begin() + i + 1);
    return known.front().get();
  }
  const vector<int>& weights = this->blobs_[0]->shape();
  geometry.weights.assign(weights.begin(), weights.end());
  if (this->group_ > 1) {
    geometry.weights[0] /= this->group_;
    geometry.weights.insert(geometry.weights.begin(), this->group_);
  }
  if (this->bias_term_) geometry.bias.assign(1, this->num_output_);
  const int *stride = this->stride_.cpu_data(), *pad = this->pad_.cpu_data();
  geometry.strides.assign(stride, stride + 2);
  geometry.pads.assign(pad, pad + 2);
  if (known.size() == State::kShapes) known.pop_back();
  known.emplace(known.begin(), new Primitives());
  known.front()->geometry = geometry;
  return known.front().get();
}

template <typename Dtype>
void OneDNNConvolutionLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (!Supported()) return ConvolutionLayer<Dtype>::Forward_cpu(bottom, top);
  Primitives* passes = Prepared(*bottom[0], *top[0]);
  const bool is_training = this->phase_ == TRAIN;
  if (!passes->forward) {
    passes->forward = MakePass<ForwardPass>(passes->geometry,
        is_training ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference);
  }
  ForwardPass& pass = *passes->forward;
  if (is_training && state_->precision != FLOAT32 && this->param_propagate_down_[0] && bottom.size() == 1 &&
      !bottom[0]->data()->exposed()) {
    pass.source.Keep();
  }
  if (state_->left_packed.lock() == top[0]->data() && !top[0]->data()->packed()) state_->is_changed = true;
  for (int i = 0; i < bottom.size(); ++i) {
    shared_ptr<PackedArray> packed;
    if (!state_->is_changed) packed = pass.result.PackedOutput(*top[i]->data());
    std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, pass.source.BlobInput(bottom[i]->data().get(), is_training)},
      {DNNL_ARG_WEIGHTS, pass.weights.WeightsInput(this->blobs_[0]->cpu_data(), WeightsVersion(), &state_->weights)},
      {DNNL_ARG_DST, packed ? packed->packed() : pass.result.Output(top[i]->mutable_cpu_data())},
    };
    if (this->bias_term_) {
      arguments[DNNL_ARG_BIAS] = memory(passes->geometry.Bias(), Engine(), const_cast<Dtype*>(this->blobs_[1]->cpu_data()));
    }
    pass.primitive.execute(Stream(), arguments);
    if (!packed) pass.result.Finish();
    Stream().wait();
    if (packed) top[i]->data()->set_packed(packed);
  }
  if (top[0]->data()->packed()) state_->left_packed = top[0]->data();
}

template <typename Dtype>
void OneDNNConvolutionLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
    const vector<Blob<Dtype>*>& bottom) {
  if (!Supported()) return ConvolutionLayer<Dtype>::Backward_cpu(top, propagate_down, bottom);
  Primitives* passes = Prepared(*bottom[0], *top[0]);
  const bool learn_bias = this->bias_term_ && this->param_propagate_down_[1];
  const Operand* kept = passes->forward && passes->forward->source.is_kept() ? &passes->forward->source : NULL;
  for (int i = 0; i < top.size(); ++i) {
    // The gradients as the pass of the weights read them. They lie in scratch memory, which nothing else takes until they are read.
    const Operand* gradients = NULL;
    if (this->param_propagate_down_[0] || learn_bias) {
      if (!passes->backward_weights) passes->backward_weights = MakePass<BackwardWeightsPass>(passes->geometry);
      BackwardWeightsPass& pass = *passes->backward_weights;
      // Gradients are added to what is there (iter_size, shared weights), so they come into an array of their own first.
      Dtype* weights = reinterpret_cast<Dtype*>(Scratch(PLAIN, pass.weights.bytes()));
      Dtype* bias = reinterpret_cast<Dtype*>(Scratch(BIAS, this->num_output_ * sizeof(float)));
      std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, pass.source.BlobInput(bottom[i]->data().get(), false, kept)},
        {DNNL_ARG_DIFF_DST, pass.result.BlobInput(top[i]->diff().get(), propagate_down[i])},
        {DNNL_ARG_DIFF_WEIGHTS, pass.weights.Output(weights)},
      };
      if (this->bias_term_) arguments[DNNL_ARG_DIFF_BIAS] = memory(passes->geometry.Bias(), Engine(), bias);
      pass.primitive.execute(Stream(), arguments);
      gradients = &pass.result;
      pass.weights.Finish();
      Stream().wait();
      if (this->param_propagate_down_[0]) {
        caffe_axpy<Dtype>(this->blobs_[0]->count(), 1, weights, this->blobs_[0]->mutable_cpu_diff());
      }
      if (learn_bias) caffe_axpy<Dtype>(this->num_output_, 1, bias, this->blobs_[1]->mutable_cpu_diff());
    }
    if (propagate_down[i]) {
      if (!passes->backward_data) passes->backward_data = MakePass<BackwardDataPass>(passes->geometry);
      BackwardDataPass& pass = *passes->backward_data;
      const shared_ptr<PackedArray> packed = pass.source.PackedOutput(*bottom[i]->diff());
      pass.primitive.execute(Stream(), {
        {DNNL_ARG_DIFF_DST, pass.result.BlobInput(top[i]->diff().get(), false, gradients)},
        {DNNL_ARG_WEIGHTS, pass.weights.Input(this->blobs_[0]->cpu_data())},
        {DNNL_ARG_DIFF_SRC, packed ? packed->packed() : pass.source.Output(bottom[i]->mutable_cpu_diff())},
      });
      if (!packed) pass.source.Finish();
      Stream().wait();
      if (packed) bottom[i]->diff()->set_packed(packed);
    }
  }
}

template <typename Dtype>
bool RectifyPacked(const Blob<Dtype>* bottom, Blob<Dtype>* top, Dtype negative_slope) {
  const shared_ptr<PackedArray> source = PackedArray::Of(*bottom->data());
  if (!source || top->data()->exposed()) return false;
  const shared_ptr<PackedArray> result = bottom == top ? source : source->Like(*top->data());
  const float* values = source->data();
  float* rectified = result->data();
  const float slope = negative_slope;
  const long count = source->count();
#pragma omp parallel for if (count > 16384)
  for (long i = 0; i < count; ++i) rectified[i] = std::max(values[i], 0.f) + slope * std::min(values[i], 0.f);
  top->data()->set_packed(result);
  return true;
}

template <typename Dtype>
bool RectifyPackedBackward(const Blob<Dtype>* top, Blob<Dtype>* bottom, Dtype negative_slope) {
  const shared_ptr<PackedArray> source = PackedArray::Of(*bottom->data());
  const shared_ptr<PackedArray> result_diff = PackedArray::Of(*top->diff());
  if (!source || !result_diff || bottom->diff()->exposed()) return false;
  if (source->packed().get_desc() != result_diff->packed().get_desc()) return false;
  const shared_ptr<PackedArray> source_diff = bottom == top ? result_diff : result_diff->Like(*bottom->diff());
  const float *values = source->data(), *gradients = result_diff->data();
  float* rectified = source_diff->data();
  const float slope = negative_slope;
  const long count = source->count();
#pragma omp parallel for if (count > 16384)
  for (long i = 0; i < count; ++i) rectified[i] = gradients[i] * ((values[i] > 0) + slope * (values[i] <= 0));
  bottom->diff()->set_packed(source_diff);
  return true;
}

template <typename Dtype>
bool PoolPacked(const Blob<Dtype>* bottom, Blob<Dtype>* top, const int kernel[2], const int stride[2], const int pad[2]) {
  const shared_ptr<PackedArray> source = PackedArray::Of(*bottom->data());
  if (!source || top->data()->exposed() || bottom->num_axes() != 4) return false;
  if (stride[0] > kernel[0] || stride[1] > kernel[1]) return false;  // the last window may be empty
  const memory::dims from = Dims(*bottom), to = Dims(*top);
  const Tag layout = PooledLayout(*source, from);
  if (layout == Tag::undef) return false;
  const shared_ptr<PackedArray> result = PackedArray::For(*top->data(), Desc(to, Tag::nchw), Desc(to, layout));
  PooledPlanes(from, to, Block(layout, from), kernel, stride, pad).Forward(source->data(), result->data());
  top->data()->set_packed(result);
  return true;
}

template <typename Dtype>
bool PoolPackedBackward(const Blob<Dtype>* top, Blob<Dtype>* bottom, const int kernel[2], const int stride[2],
    const int pad[2]) {
  const shared_ptr<PackedArray> source = PackedArray::Of(*bottom->data()), result_diff = PackedArray::Of(*top->diff());
  if (!source || !result_diff || bottom->diff()->exposed() || bottom->num_axes() != 4) return false;
  const memory::dims from = Dims(*bottom), to = Dims(*top);
  const Tag layout = PooledLayout(*source, from);
  if (layout == Tag::undef || layout != PooledLayout(*result_diff, to)) return false;
  const shared_ptr<PackedArray> source_diff = source->Like(*bottom->diff());
  PooledPlanes(from, to, Block(layout, from), kernel, stride, pad)
      .Backward(source->data(), result_diff->data(), source_diff->data());
  bottom->diff()->set_packed(source_diff);
  return true;
}

#define INSTANTIATE_PACKED(Dtype) \
  template bool RectifyPacked(const Blob<Dtype>*, Blob<Dtype>*, Dtype); \
  template bool RectifyPackedBackward(const Blob<Dtype>*, Blob<Dtype>*, Dtype); \
  template bool PoolPacked(const Blob<Dtype>*, Blob<Dtype>*, const int*, const int*, const int*); \
  template bool PoolPackedBackward(const Blob<Dtype>*, Blob<Dtype>*, const int*, const int*, const int*)

INSTANTIATE_PACKED(float);
INSTANTIATE_PACKED(double);
INSTANTIATE_CLASS(OneDNNConvolutionLayer);

}  // namespace caffe
