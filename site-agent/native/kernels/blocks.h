// How rows are parted for sums: into runs, whose sums are of single precision, and into blocks of runs, which threads take
// and whose sums are of double precision. Neither depends on the number of threads, so that sums do not either.

#ifndef CONSILIUM_KERNELS_BLOCKS_H_
#define CONSILIUM_KERNELS_BLOCKS_H_

#include <algorithm>
#include <cstddef>

namespace consilium {

// What a thread must have to do to be worth waking: 64 KiB.
constexpr std::size_t PART_NUMBERS_MIN = 16384;
constexpr std::size_t RUN_ROWS = 64;
constexpr std::size_t BLOCKS_MAX = 64;

// Rows of so many numbers that are worth a thread.
inline std::size_t part_rows(std::size_t columns) {
  return std::max<std::size_t>(1, PART_NUMBERS_MIN / std::max<std::size_t>(1, columns));
}

struct Blocks {
  std::size_t all_rows;
  // Of each block but the last; a multiple of a run.
  std::size_t rows;
  std::size_t count;

  // Calls `run(first row, number of rows)` for each run of a block.
  template <typename Run>
  void each_run(std::size_t block, Run run) const {
    const std::size_t end = std::min(all_rows, (block + 1) * rows);
    for (std::size_t row = block * rows; row < end; row += RUN_ROWS) run(row, std::min(RUN_ROWS, end - row));
  }
};

inline Blocks blocks_of(std::size_t rows) {
  const std::size_t runs = (rows + RUN_ROWS - 1) / RUN_ROWS;
  const std::size_t runs_each = std::max<std::size_t>(1, (runs + BLOCKS_MAX - 1) / BLOCKS_MAX);
  return {rows, runs_each * RUN_ROWS, (runs + runs_each - 1) / runs_each};
}

}  // namespace consilium

#endif  // CONSILIUM_KERNELS_BLOCKS_H_
