// The loops behind the operations, in one set for each level of vector instructions. All arrays are float32, row-major and
// aligned to nothing but their elements; nothing overlaps, except where a result may lie where an input does.

#ifndef CONSILIUM_KERNELS_LOOPS_H_
#define CONSILIUM_KERNELS_LOOPS_H_

#include <cstddef>
#include <vector>

namespace consilium {

// What an instance norm has for each column, and the slope of the leaky ReLU behind it.
struct ChannelNorm {
  const float* mean;
  const float* inverse;
  const float* gamma;
  const float* beta;
  float slope;
};

struct Loops {
  const char* level;

  // y = x Phi(x).
  void (*gelu)(const float* x, float* y, std::size_t count);
  // dx = dy (Phi(x) + x phi(x)); dx may be dy.
  void (*gelu_gradient)(const float* x, const float* dy, float* dx, std::size_t count);

  // Each row x of `columns` numbers becomes (x - mean) inverse gamma + beta; inverse = 1 / sqrt(variance + epsilon).
  void (*layer_norm)(const float* x, const float* gamma, const float* beta, float epsilon, float* y, float* mean,
                     float* inverse, std::size_t rows, std::size_t columns);
  // dx may be dy.
  void (*layer_norm_gradient)(const float* x, const float* gamma, const float* mean, const float* inverse,
                              const float* dy, float* dx, std::size_t rows, std::size_t columns);
  // Adds the rows' dy (x - mean) inverse to `sums` [columns].
  void (*layer_norm_scale_gradient)(const float* x, const float* mean, const float* inverse, const float* dy,
                                    float* sums, std::size_t rows, std::size_t columns);

  // Each row becomes e^(factor (x - greatest)) over the row's sum of these; factor > 0.
  void (*scaled_softmax)(const float* x, float factor, float* y, std::size_t rows, std::size_t columns);
  // dx = factor y (dy - sum(y dy)); dx may be dy.
  void (*scaled_softmax_gradient)(const float* y, const float* dy, float factor, float* dx, std::size_t rows,
                                  std::size_t columns);

  // Of each column of a few rows: its mean, and the sum of its squared distances from that.
  void (*column_moments)(const float* x, float* mean, float* squares, std::size_t rows, std::size_t columns);
  // z = (x - mean) inverse gamma + beta for each column; y is z, or z slope where z is not above 0.
  void (*instance_norm)(const float* x, const ChannelNorm& norm, float* y, std::size_t rows, std::size_t columns);
  // With dz = dy slope where z is not above 0: each column's sums of dz and of dz (x - mean) inverse, of a few rows.
  void (*instance_norm_sums)(const float* x, const float* dy, const ChannelNorm& norm, float* direct, float* parallel,
                             std::size_t rows, std::size_t columns);
  // dx = (dz - direct - (x - mean) inverse parallel) inverse gamma, both means of the sums above; dx may be dy.
  void (*instance_norm_gradient)(const float* x, const float* dy, const ChannelNorm& norm, const float* direct,
                                 const float* parallel, float* dx, std::size_t rows, std::size_t columns);
};

// The levels that this processor has, the best one first; never empty.
const std::vector<Loops>& present_loops();

// The loops that operations use: the best ones, unless another level was asked for.
const Loops& loops();

// False where this processor has no such level.
bool use_level(const char* level);

}  // namespace consilium

#endif  // CONSILIUM_KERNELS_LOOPS_H_
