// Instance norm with the leaky ReLU behind it, and its gradients. An image is read twice in each direction: once for its
// sums, and once for what is made of them.

#include <cmath>

#include "blocks.h"
#include "loops.h"
#include "operations.h"
#include "workers.h"

namespace consilium {

namespace {

// Images as rows of channels.
struct Images {
  std::size_t count;
  std::size_t pixels;
  std::size_t channels;
  Blocks blocks;

  Shape channel_shape() const { return {static_cast<std::int64_t>(channels)}; }
  // One number for each channel of each image.
  Shape statistics_shape() const { return {static_cast<std::int64_t>(count), static_cast<std::int64_t>(channels)}; }

  // Calls `run(image, unit, start, rows, scratch)` for all runs of all images, on several threads. A unit is a block of an
  // image, the start is that of the run's numbers, and the scratch space is two numbers for each channel.
  template <typename Run>
  void each_run(Run run) const {
    const std::size_t block_rows = std::min(pixels, blocks.rows);
    in_parts(count * blocks.count, part_rows(block_rows * channels), [&](std::size_t first, std::size_t last) {
      std::vector<float> scratch(2 * channels);
      for (std::size_t unit = first; unit < last; unit += 1) {
        const std::size_t image = unit / blocks.count, block = unit % blocks.count;
        blocks.each_run(block, [&](std::size_t row, std::size_t rows) {
          run(image, unit, (image * pixels + row) * channels, rows, scratch.data());
        });
      }
    });
  }
};

Images images_of(Call& call, const Shape& shape) {
  if (shape.size() < 2) call.fail("an image has channels");
  if (call.failed()) return {0, 0, 0, blocks_of(0)};
  const std::size_t pixels = count_of(Shape(shape.begin() + 1, shape.end() - 1));
  return {static_cast<std::size_t>(shape.front()), pixels, static_cast<std::size_t>(shape.back()), blocks_of(pixels)};
}

// Rows that were seen, and of each channel their mean and the sum of their squared distances from it.
struct Moments {
  double rows = 0;
  std::vector<double> mean, squares;

  explicit Moments(std::size_t channels) : mean(channels, 0.0), squares(channels, 0.0) {}

  // Chan, Golub and LeVeque 1979.
  template <typename Number>
  void add(double more, const Number* other_mean, const Number* other_squares) {
    if (more == 0) return;
    const double all = rows + more;
    for (std::size_t channel = 0; channel < mean.size(); channel += 1) {
      const double distance = other_mean[channel] - mean[channel];
      mean[channel] += distance * (more / all);
      squares[channel] += other_squares[channel] + distance * distance * (rows * more / all);
    }
    rows = all;
  }
};

void infer_instance_norm(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  infer::same(context, 0, 0, status);
}

void* create_norm(TF_OpKernelConstruction* construction) { return read_attributes(construction, {"epsilon", "negativeSlope"}); }
void* create_gradient(TF_OpKernelConstruction* construction) { return read_attributes(construction, {"negativeSlope"}); }

void instance_norm(void* attributes, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Images images = images_of(call, shape);
  const std::size_t channels = images.channels;
  float* y = call.output(0, shape);
  float* mean = call.output(1, images.statistics_shape());
  float* inverse = call.output(2, images.statistics_shape());
  const float* x = call.input(0);
  const float* gamma = call.input(1, images.channel_shape());
  const float* beta = call.input(2, images.channel_shape());
  if (call.failed()) return;
  const float epsilon = static_cast<const float*>(attributes)[0], slope = static_cast<const float*>(attributes)[1];
  std::vector<Moments> of_blocks(images.count * images.blocks.count, Moments(channels));
  images.each_run([&](std::size_t, std::size_t unit, std::size_t start, std::size_t rows, float* scratch) {
    loops().column_moments(x + start, scratch, scratch + channels, rows, channels);
    of_blocks[unit].add(static_cast<double>(rows), scratch, scratch + channels);
  });
  for (std::size_t image = 0; image < images.count; image += 1) {
    Moments all(channels);
    for (std::size_t block = 0; block < images.blocks.count; block += 1) {
      const Moments& part = of_blocks[image * images.blocks.count + block];
      all.add(part.rows, part.mean.data(), part.squares.data());
    }
    for (std::size_t channel = 0; channel < channels; channel += 1) {
      mean[image * channels + channel] = static_cast<float>(all.mean[channel]);
      const double variance = all.squares[channel] / static_cast<double>(images.pixels);
      inverse[image * channels + channel] = static_cast<float>(1.0 / std::sqrt(variance + epsilon));
    }
  }
  images.each_run([&](std::size_t image, std::size_t, std::size_t start, std::size_t rows, float*) {
    const ChannelNorm norm = {mean + image * channels, inverse + image * channels, gamma, beta, slope};
    loops().instance_norm(x + start, norm, y + start, rows, channels);
  });
}

// Of each image and channel the means of the sums behind an instance norm's gradient, and the gradients of scale and
// shift, which are the sums over all images.
struct GradientSums {
  std::vector<float> direct, parallel;
};

GradientSums gradient_sums(const Images& images, const std::vector<double>& direct, const std::vector<double>& parallel,
                           float* dgamma, float* dbeta) {
  const std::size_t channels = images.channels;
  GradientSums means = {std::vector<float>(images.count * channels), std::vector<float>(images.count * channels)};
  for (std::size_t channel = 0; channel < channels; channel += 1) {
    double all_direct = 0, all_parallel = 0;
    for (std::size_t image = 0; image < images.count; image += 1) {
      double of_direct = 0, of_parallel = 0;
      for (std::size_t block = 0; block < images.blocks.count; block += 1) {
        const std::size_t place = (image * images.blocks.count + block) * channels + channel;
        of_direct += direct[place];
        of_parallel += parallel[place];
      }
      means.direct[image * channels + channel] = static_cast<float>(of_direct / static_cast<double>(images.pixels));
      means.parallel[image * channels + channel] = static_cast<float>(of_parallel / static_cast<double>(images.pixels));
      all_direct += of_direct;
      all_parallel += of_parallel;
    }
    dbeta[channel] = static_cast<float>(all_direct);
    dgamma[channel] = static_cast<float>(all_parallel);
  }
  return means;
}

void infer_gradient(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
  for (int output = 0; output < 3; output += 1) infer::same(context, output, output, status);
}

void instance_norm_gradient(void* attributes, TF_OpKernelContext* context) {
  Call call(context);
  const Shape shape = call.shape(0);
  const Images images = images_of(call, shape);
  const std::size_t channels = images.channels;
  float* dx = call.output(0, shape, 5);
  float* dgamma = call.output(1, images.channel_shape());
  float* dbeta = call.output(2, images.channel_shape());
  const float* x = call.input(0);
  const float* gamma = call.input(1, images.channel_shape());
  const float* beta = call.input(2, images.channel_shape());
  const float* mean = call.input(3, images.statistics_shape());
  const float* inverse = call.input(4, images.statistics_shape());
  const float* dy = call.input(5, shape);
  if (call.failed()) return;
  const float slope = static_cast<const float*>(attributes)[0];
  const auto norm_of = [&](std::size_t image) {
    return ChannelNorm{mean + image * channels, inverse + image * channels, gamma, beta, slope};
  };
  std::vector<double> direct(images.count * images.blocks.count * channels, 0.0), parallel(direct);
  images.each_run([&](std::size_t image, std::size_t unit, std::size_t start, std::size_t rows, float* scratch) {
    loops().instance_norm_sums(x + start, dy + start, norm_of(image), scratch, scratch + channels, rows, channels);
    for (std::size_t channel = 0; channel < channels; channel += 1) {
      direct[unit * channels + channel] += scratch[channel];
      parallel[unit * channels + channel] += scratch[channels + channel];
    }
  });
  const GradientSums means = gradient_sums(images, direct, parallel, dgamma, dbeta);
  images.each_run([&](std::size_t image, std::size_t, std::size_t start, std::size_t rows, float*) {
    const std::size_t first = image * channels;
    loops().instance_norm_gradient(x + start, dy + start, norm_of(image), means.direct.data() + first,
                                   means.parallel.data() + first, dx + start, rows, channels);
  });
}

}  // namespace

std::vector<Operation> instance_norm_operations() {
  return {
      {"ConsiliumInstanceNorm", {"x", "gamma", "beta"}, {"y", "mean", "inverse"}, {"epsilon", "negativeSlope"},
       infer_instance_norm, create_norm, instance_norm},
      {"ConsiliumInstanceNormGradient", {"x", "gamma", "beta", "mean", "inverse", "dy"}, {"dx", "dgamma", "dbeta"},
       {"negativeSlope"}, infer_gradient, create_gradient, instance_norm_gradient},
  };
}

}  // namespace consilium
