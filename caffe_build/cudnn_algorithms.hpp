// Chooses convolution algorithms for cuDNN 8 and newer, which dropped the functions that Caffe 1.0
// calls for it: cudnnGetConvolution{Forward,BackwardFilter,BackwardData}Algorithm and their
// constants. They are made again here, on the lists of algorithms that cuDNN expects to be fastest
// (..._v7), so that Caffe's convolution layers stay as they are.
//
// CAFFE_CUDNN_WORKSPACE_MIB in the environment sets how much workspace one algorithm may take; each
// layer has three.
#ifndef CAFFE_UTIL_CUDNN_ALGORITHMS_HPP_
#define CAFFE_UTIL_CUDNN_ALGORITHMS_HPP_

#include <cudnn.h>
#include <glog/logging.h>

#include <cstddef>
#include <cstdlib>

#ifndef CAFFE_CUDNN_WORKSPACE_MIB
#define CAFFE_CUDNN_WORKSPACE_MIB 8  // Caffe 1.0's own limit
#endif

enum cudnnConvolutionFwdPreference_t { CUDNN_CONVOLUTION_FWD_SPECIFY_WORKSPACE_LIMIT };
enum cudnnConvolutionBwdFilterPreference_t { CUDNN_CONVOLUTION_BWD_FILTER_SPECIFY_WORKSPACE_LIMIT };
enum cudnnConvolutionBwdDataPreference_t { CUDNN_CONVOLUTION_BWD_DATA_SPECIFY_WORKSPACE_LIMIT };

namespace caffe {
namespace cudnn {

inline size_t workspaceLimit() {
  static const size_t bytes = [] {
    const char* text = std::getenv("CAFFE_CUDNN_WORKSPACE_MIB");
    if (!text) { return size_t(CAFFE_CUDNN_WORKSPACE_MIB) << 20; }
    char* end;
    const long mib = std::strtol(text, &end, 10);
    CHECK(end != text && *end == '\0' && mib >= 0)
        << "CAFFE_CUDNN_WORKSPACE_MIB=" << text << " must be a whole number of MiB";
    return size_t(mib) << 20;
  }();
  return bytes;
}

// Puts into `chosen` the first of `found` (the fastest first) that runs within `limit` bytes of
// workspace. What counts is the workspace that the descriptors as they are ask for:
// `workspace(algorithm, &bytes)`. An entry that cuDNN ranked for another math type than the
// descriptor's is only taken where no entry of its own does.
template <typename Found, typename Algorithm, typename Workspace>
cudnnStatus_t chooseAlgorithm(cudnnConvolutionDescriptor_t convolution, const Found* found,
                              int count, size_t limit, Algorithm* chosen, Workspace workspace) {
  cudnnMathType_t math;
  const cudnnStatus_t status = cudnnGetConvolutionMathType(convolution, &math);
  if (status != CUDNN_STATUS_SUCCESS) { return status; }
  for (const bool same_math : {true, false}) {
    for (int i = 0; i < count; ++i) {
      size_t bytes;
      if (found[i].status == CUDNN_STATUS_SUCCESS && (found[i].mathType == math) == same_math &&
          workspace(found[i].algo, &bytes) == CUDNN_STATUS_SUCCESS && bytes <= limit) {
        *chosen = found[i].algo;
        return CUDNN_STATUS_SUCCESS;
      }
    }
  }
  return CUDNN_STATUS_NOT_SUPPORTED;
}

}  // namespace cudnn
}  // namespace caffe

inline cudnnStatus_t cudnnGetConvolutionForwardAlgorithm(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
    cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdPreference_t, size_t limit, cudnnConvolutionFwdAlgo_t* chosen) {
  // Twice the number of algorithms: each may be listed with and without tensor cores.
  cudnnConvolutionFwdAlgoPerf_t found[2 * CUDNN_CONVOLUTION_FWD_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionForwardAlgorithm_v7(
      handle, x, w, convolution, y, 2 * CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, found);
  if (status != CUDNN_STATUS_SUCCESS) { return status; }
  return caffe::cudnn::chooseAlgorithm(convolution, found, count, limit, chosen,
      [&](cudnnConvolutionFwdAlgo_t algorithm, size_t* bytes) {
        return cudnnGetConvolutionForwardWorkspaceSize(
            handle, x, w, convolution, y, algorithm, bytes);
      });
}

inline cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t dy,
    cudnnConvolutionDescriptor_t convolution, cudnnFilterDescriptor_t dw,
    cudnnConvolutionBwdFilterPreference_t, size_t limit, cudnnConvolutionBwdFilterAlgo_t* chosen) {
  cudnnConvolutionBwdFilterAlgoPerf_t found[2 * CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionBackwardFilterAlgorithm_v7(
      handle, x, dy, convolution, dw, 2 * CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, found);
  if (status != CUDNN_STATUS_SUCCESS) { return status; }
  return caffe::cudnn::chooseAlgorithm(convolution, found, count, limit, chosen,
      [&](cudnnConvolutionBwdFilterAlgo_t algorithm, size_t* bytes) {
        return cudnnGetConvolutionBackwardFilterWorkspaceSize(
            handle, x, dy, convolution, dw, algorithm, bytes);
      });
}

inline cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm(
    cudnnHandle_t handle, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t dy,
    cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t dx,
    cudnnConvolutionBwdDataPreference_t, size_t limit,
    cudnnConvolutionBwdDataAlgo_t* chosen) {
  cudnnConvolutionBwdDataAlgoPerf_t found[2 * CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionBackwardDataAlgorithm_v7(
      handle, w, dy, convolution, dx, 2 * CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, found);
  if (status != CUDNN_STATUS_SUCCESS) { return status; }
  return caffe::cudnn::chooseAlgorithm(convolution, found, count, limit, chosen,
      [&](cudnnConvolutionBwdDataAlgo_t algorithm, size_t* bytes) {
        return cudnnGetConvolutionBackwardDataWorkspaceSize(
            handle, w, dy, convolution, dx, algorithm, bytes);
      });
}

#endif  // CAFFE_UTIL_CUDNN_ALGORITHMS_HPP_
