// Threads that share the rows of an operation, where TensorFlow was told to give an operation more than one. The calling
// thread takes its part; several operations may be under way at once.

#ifndef CONSILIUM_KERNELS_WORKERS_H_
#define CONSILIUM_KERNELS_WORKERS_H_

#include <cstddef>
#include <functional>

namespace consilium {

// Called once, before any operation; one thread, the caller's, where it is not. Threads live as long as the process.
void start_workers(unsigned threads);

// Calls `run(first, last)` for parts of the rows [0, rows), each of at least `part_rows_min`, and returns behind the last.
void in_parts(std::size_t rows, std::size_t part_rows_min,
              const std::function<void(std::size_t first, std::size_t last)>& run);

}  // namespace consilium

#endif  // CONSILIUM_KERNELS_WORKERS_H_
