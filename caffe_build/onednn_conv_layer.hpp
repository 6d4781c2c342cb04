#ifndef CAFFE_ONEDNN_CONV_LAYER_HPP_
#define CAFFE_ONEDNN_CONV_LAYER_HPP_

#include <vector>

#include "caffe/layers/conv_layer.hpp"

namespace caffe {

/**
 * Convolution on the CPU by oneDNN: what CuDNNConvolutionLayer is on a GPU. It takes the same parameters as ConvolutionLayer and
 * computes the same, without im2col's matrices, which are kernel height x width times as large as the image.
 *
 * Of float, two spatial axes and no dilation; everything else is left to ConvolutionLayer. `engine: CAFFE` asks for that one.
 */
template <typename Dtype>
class OneDNNConvolutionLayer : public ConvolutionLayer<Dtype> {
 public:
  explicit OneDNNConvolutionLayer(const LayerParameter& param);
  virtual ~OneDNNConvolutionLayer();

 protected:
  virtual void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);
  virtual void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom);

 private:
  struct Primitives;
  struct State;

  bool Supported() const;
  // A number that stays the same while the weights certainly do; 0 where that cannot be known.
  size_t WeightsVersion() const;
  // Those of the present shapes; they are made when a batch or an image of this size comes for the first time.
  Primitives* Prepared(const Blob<Dtype>& bottom, const Blob<Dtype>& top);

  shared_ptr<State> state_;
};

// Passes of other layers over what convolutions left packed. Each returns false, and does nothing, where its input is not packed
// or its output has to be plain.

/// A ReLU.
template <typename Dtype>
bool RectifyPacked(const Blob<Dtype>* bottom, Blob<Dtype>* top, Dtype negative_slope);
template <typename Dtype>
bool RectifyPackedBackward(const Blob<Dtype>* top, Blob<Dtype>* bottom, Dtype negative_slope);

/// A maximum pooling (height, width), packed only where no stride is above its kernel. The backward pass finds the maxima again.
template <typename Dtype>
bool PoolPacked(const Blob<Dtype>* bottom, Blob<Dtype>* top, const int kernel[2], const int stride[2], const int pad[2]);
template <typename Dtype>
bool PoolPackedBackward(const Blob<Dtype>* top, Blob<Dtype>* bottom, const int kernel[2], const int stride[2],
    const int pad[2]);

}  // namespace caffe

#endif  // CAFFE_ONEDNN_CONV_LAYER_HPP_
