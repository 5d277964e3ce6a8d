// The operations by name, as site-agent/backend/fused-kernel.ts describes them.

#ifndef CONSILIUM_KERNELS_OPERATIONS_H_
#define CONSILIUM_KERNELS_OPERATIONS_H_

#include <vector>

#include "operation.h"

namespace consilium {

std::vector<Operation> row_operations();
std::vector<Operation> instance_norm_operations();

}  // namespace consilium

#endif  // CONSILIUM_KERNELS_OPERATIONS_H_
