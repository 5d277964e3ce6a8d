// The loops of every level, and the choice among them.

#include "loops.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#define INLINE static inline __attribute__((always_inline))
// Behind a lambda's parameters.
#define INLINED __attribute__((always_inline))

namespace consilium {

namespace baseline {
#include "vector-loops.inc"
}  // namespace baseline

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#include "vector-loops.inc"
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma")
#endif
namespace avx512 {
#include "vector-loops.inc"
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#define LOOPS_OF(level) \
  Loops { \
    #level, level::gelu, level::gelu_gradient, level::layer_norm, level::layer_norm_gradient, \
        level::layer_norm_scale_gradient, level::scaled_softmax, level::scaled_softmax_gradient, \
        level::column_moments, level::instance_norm, level::instance_norm_sums, level::instance_norm_gradient \
  }

static std::vector<Loops> found_loops() {
  std::vector<Loops> found;
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (has_avx512) found.push_back(LOOPS_OF(avx512));
  if (has_avx2) found.push_back(LOOPS_OF(avx2));
  found.push_back(LOOPS_OF(baseline));
  return found;
}

const std::vector<Loops>& present_loops() {
  static const std::vector<Loops> found = found_loops();
  return found;
}

static const Loops* chosen = &present_loops().front();

const Loops& loops() { return *chosen; }

bool use_level(const char* level) {
  for (const Loops& each : present_loops()) {
    if (std::strcmp(each.level, level) != 0) continue;
    chosen = &each;
    return true;
  }
  return false;
}

}  // namespace consilium
