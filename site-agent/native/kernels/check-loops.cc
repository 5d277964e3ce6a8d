// A program for tests: one loop of one level on numbers from its input, its results to its output. It needs neither
// TensorFlow nor Node. It is not part of the addon.
//   check-loops                                            the levels of this processor, a line each
//   check-loops LEVEL LOOP ROWS COLUMNS NUMBER THREADS     arrays of float32 one behind another, as the loop takes them

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "loops.h"
#include "workers.h"

using consilium::loops;

static std::vector<float> numbers(std::size_t count) {
  std::vector<float> values(count);
  if (std::fread(values.data(), sizeof(float), count, stdin) != count) std::exit(3);
  return values;
}

static void give(const std::vector<float>& values) {
  std::fwrite(values.data(), sizeof(float), values.size(), stdout);
}

// The number is the slope.
static bool run_instance_norm(const std::string& loop, const std::vector<float>& x, std::size_t rows,
                              std::size_t columns, float slope) {
  const std::vector<float> middle = numbers(columns), scale = numbers(columns);
  const std::vector<float> gamma = numbers(columns), beta = numbers(columns);
  const consilium::ChannelNorm norm = {middle.data(), scale.data(), gamma.data(), beta.data(), slope};
  if (loop == "instance_norm") {
    std::vector<float> y(rows * columns);
    loops().instance_norm(x.data(), norm, y.data(), rows, columns);
    give(y);
    return true;
  }
  std::vector<float> dy = numbers(rows * columns), direct(columns), parallel(columns);
  if (loop == "instance_norm_sums") {
    loops().instance_norm_sums(x.data(), dy.data(), norm, direct.data(), parallel.data(), rows, columns);
    give(direct), give(parallel);
    return true;
  }
  if (loop != "instance_norm_gradient") return false;
  direct = numbers(columns);
  parallel = numbers(columns);
  loops().instance_norm_gradient(x.data(), dy.data(), norm, direct.data(), parallel.data(), dy.data(), rows, columns);
  give(dy);
  return true;
}

// False for a loop that there is not.
static bool run(const std::string& loop, std::size_t rows, std::size_t columns, float number) {
  const std::size_t count = rows * columns;
  const std::vector<float> x = numbers(count);
  std::vector<float> y(count), mean(rows), inverse(rows);
  if (loop == "gelu") {
    consilium::in_parts(count, 1, [&](std::size_t first, std::size_t last) {
      loops().gelu(x.data() + first, y.data() + first, last - first);
    });
    give(y);
  } else if (loop == "gelu_gradient") {
    std::vector<float> dy = numbers(count);
    loops().gelu_gradient(x.data(), dy.data(), dy.data(), count);
    give(dy);
  } else if (loop == "layer_norm") {
    const std::vector<float> gamma = numbers(columns), beta = numbers(columns);
    loops().layer_norm(x.data(), gamma.data(), beta.data(), number, y.data(), mean.data(), inverse.data(), rows, columns);
    give(y), give(mean), give(inverse);
  } else if (loop == "layer_norm_gradient") {
    const std::vector<float> gamma = numbers(columns), middle = numbers(rows), scale = numbers(rows);
    std::vector<float> dy = numbers(count);
    loops().layer_norm_gradient(x.data(), gamma.data(), middle.data(), scale.data(), dy.data(), dy.data(), rows, columns);
    give(dy);
  } else if (loop == "layer_norm_scale_gradient") {
    const std::vector<float> middle = numbers(rows), scale = numbers(rows), dy = numbers(count);
    std::vector<float> sums(columns);
    loops().layer_norm_scale_gradient(x.data(), middle.data(), scale.data(), dy.data(), sums.data(), rows, columns);
    give(sums);
  } else if (loop == "scaled_softmax") {
    loops().scaled_softmax(x.data(), number, y.data(), rows, columns);
    give(y);
  } else if (loop == "scaled_softmax_gradient") {
    std::vector<float> dy = numbers(count);
    loops().scaled_softmax_gradient(x.data(), dy.data(), number, dy.data(), rows, columns);
    give(dy);
  } else if (loop == "column_moments") {
    std::vector<float> middle(columns), squares(columns);
    loops().column_moments(x.data(), middle.data(), squares.data(), rows, columns);
    give(middle), give(squares);
  } else {
    return run_instance_norm(loop, x, rows, columns, number);
  }
  return true;
}

int main(int count, char** words) {
  if (count == 1) {
    for (const consilium::Loops& each : consilium::present_loops()) std::printf("%s\n", each.level);
    return 0;
  }
  if (count != 7 || !consilium::use_level(words[1])) return 2;
  consilium::start_workers(static_cast<unsigned>(std::atoi(words[6])));
  const bool is_known = run(words[2], std::strtoul(words[3], nullptr, 10), std::strtoul(words[4], nullptr, 10),
                            std::strtof(words[5], nullptr));
  return is_known ? 0 : 2;
}
