// The addon: Node loads it after TensorFlow, whose libraries it is linked to, and it registers the operations once.

#include <node_api.h>

#include <string>

#include "loops.h"
#include "operations.h"
#include "workers.h"

namespace {

constexpr std::size_t TEXT_BYTES_MAX = 64;

napi_value text(napi_env env, const char* value) {
  napi_value made = nullptr;
  napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &made);
  return made;
}

napi_value argument(napi_env env, napi_callback_info info) {
  std::size_t count = 1;
  napi_value value = nullptr;
  napi_get_cb_info(env, info, &count, &value, nullptr, nullptr);
  return value;
}

// start(threads): gives operations threads to share, and registers them. It throws what TensorFlow says against one.
napi_value start(napi_env env, napi_callback_info info) {
  static bool is_started = false;
  std::uint32_t threads = 1;
  if (napi_get_value_uint32(env, argument(env, info), &threads) != napi_ok || threads < 1) {
    napi_throw_type_error(env, nullptr, "start wants a number of threads");
    return nullptr;
  }
  if (is_started) return nullptr;
  is_started = true;
  for (const auto& operations : {consilium::row_operations(), consilium::instance_norm_operations()})
    for (const consilium::Operation& operation : operations) {
      const std::string refusal = consilium::register_operation(operation);
      if (refusal.empty()) continue;
      napi_throw_error(env, nullptr, (std::string(operation.name) + ": " + refusal).c_str());
      return nullptr;
    }
  consilium::start_workers(threads);
  return nullptr;
}

// useLevel(name): for tests. False where this processor does not have it.
napi_value use_level(napi_env env, napi_callback_info info) {
  char level[TEXT_BYTES_MAX] = "";
  std::size_t length = 0;
  napi_get_value_string_utf8(env, argument(env, info), level, sizeof level, &length);
  napi_value is_used = nullptr;
  napi_get_boolean(env, consilium::use_level(level), &is_used);
  return is_used;
}

napi_value levels(napi_env env) {
  napi_value list = nullptr;
  napi_create_array(env, &list);
  std::uint32_t index = 0;
  for (const consilium::Loops& each : consilium::present_loops()) {
    napi_set_element(env, list, index, text(env, each.level));
    index += 1;
  }
  return list;
}

napi_value function(napi_env env, const char* name, napi_callback call) {
  napi_value made = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &made);
  return made;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_set_named_property(env, exports, "start", function(env, "start", start));
  napi_set_named_property(env, exports, "useLevel", function(env, "useLevel", use_level));
  napi_set_named_property(env, exports, "levels", levels(env));
  return exports;
}
