// Handles, scopes, and the names of dtypes and shapes. Only the JavaScript thread uses this.
#include "core/table.hpp"

#include <sstream>

namespace revmoe {
namespace {

constexpr double kSlots = 16777216.0;  // at most 2^24 live tensors; 2^29 generations fit beside them in a double

struct Entry {
  at::Tensor tensor;
  uint32_t generation = 1;  // so that small numbers are never handles
  uint32_t depth = 0;
};

std::vector<Entry> entries(1);  // slot 0 stays empty, so that 0 is never a handle
std::vector<uint32_t> vacant;
std::vector<std::vector<double>> scopes;
size_t live = 0;

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {
    {"float32", at::kFloat}, {"float64", at::kDouble}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf},
    {"int64", at::kLong},    {"int32", at::kInt},      {"int16", at::kShort},       {"int8", at::kChar},
    {"uint8", at::kByte},    {"bool", at::kBool},
};

Entry& entry_of(double handle) {
  const double generation = std::floor(handle / kSlots);
  const double slot = handle - generation * kSlots;
  if (!(handle > 0) || slot < 1 || slot >= entries.size() || std::floor(slot) != slot) {
    throw std::runtime_error("this value is not a tensor handle");
  }
  Entry& entry = entries[static_cast<size_t>(slot)];
  if (entry.generation != generation || !entry.tensor.defined()) {
    throw std::runtime_error("tensor #" + std::to_string(static_cast<uint64_t>(slot)) + " was already freed");
  }
  return entry;
}

void release(double handle) {
  Entry& entry = entry_of(handle);
  entry.tensor = at::Tensor();
  entry.generation++;
  live--;
  // A slot whose generations are used up is not reused: beyond 2^53, handles could not be told apart.
  if (entry.generation < (1u << 29)) vacant.push_back(static_cast<uint32_t>(std::fmod(handle, kSlots)));
}

bool alive_in(double handle, size_t depth) {
  const Entry& entry = entries[static_cast<size_t>(std::fmod(handle, kSlots))];
  return entry.tensor.defined() && entry.generation == std::floor(handle / kSlots) && entry.depth == depth;
}

// The parent scope takes the tensors that the closing scope returns; depth 0 has no list.
void move_to(double handle, size_t depth) {
  entry_of(handle).depth = static_cast<uint32_t>(depth);
  if (depth > 0) scopes[depth - 1].push_back(handle);
}

}  // namespace

double add_tensor(at::Tensor tensor) {
  uint32_t slot;
  if (vacant.empty()) {
    slot = static_cast<uint32_t>(entries.size());
    entries.emplace_back();
  } else {
    slot = vacant.back();
    vacant.pop_back();
  }
  Entry& entry = entries[slot];
  entry.tensor = std::move(tensor);
  entry.depth = static_cast<uint32_t>(scopes.size());
  live++;
  const double handle = entry.generation * kSlots + slot;
  if (!scopes.empty()) scopes.back().push_back(handle);
  return handle;
}

const at::Tensor& get_tensor(double handle) { return entry_of(handle).tensor; }

at::Tensor tensor_at(const Napi::CallbackInfo& info, size_t index) {
  if (info.Length() <= index || !info[index].IsNumber()) throw std::runtime_error("expected a tensor handle");
  return get_tensor(info[index].As<Napi::Number>().DoubleValue());
}

std::vector<at::Tensor> tensors_at(const Napi::CallbackInfo& info, size_t index) {
  std::vector<at::Tensor> tensors;
  Napi::Array list = info[index].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Value value = list.Get(i);
    tensors.push_back(value.IsNumber() ? get_tensor(value.As<Napi::Number>().DoubleValue()) : at::Tensor());
  }
  return tensors;
}

Napi::Value to_js(Napi::Env env, const at::Tensor& tensor) {
  if (!tensor.defined()) return env.Null();
  return Napi::Number::New(env, add_tensor(tensor));
}

size_t live_handles() { return live; }

const char* dtype_name(at::ScalarType type) {
  for (const auto& row : kDtypes) {
    if (row.type == type) return row.name;
  }
  return at::toString(type);
}

at::ScalarType dtype_from(const std::string& name) {
  for (const auto& row : kDtypes) {
    if (name == row.name) return row.type;
  }
  throw std::runtime_error("unknown dtype \"" + name + "\"");
}

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "null";
  std::ostringstream out;
  out << dtype_name(tensor.scalar_type()) << "[";
  for (int64_t i = 0; i < tensor.dim(); i++) out << (i ? "," : "") << tensor.size(i);
  out << "]";
  if (!tensor.device().is_cpu()) out << "@" << tensor.device().str();
  return out.str();
}

void init_table(Napi::Env env, Napi::Object exports) {
  define(env, exports, "free", [](const Napi::CallbackInfo& info) {
    for (size_t i = 0; i < info.Length(); i++) release(info[i].As<Napi::Number>().DoubleValue());
  });
  define(env, exports, "isAlive", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const double handle = info[0].As<Napi::Number>().DoubleValue();
    const size_t slot = handle > 0 ? static_cast<size_t>(std::fmod(handle, kSlots)) : 0;
    const bool alive = slot > 0 && slot < entries.size() && entries[slot].tensor.defined() &&
                       entries[slot].generation == std::floor(handle / kSlots);
    return Napi::Boolean::New(info.Env(), alive);
  });
  define(env, exports, "keep",
         [](const Napi::CallbackInfo& info) { move_to(info[0].As<Napi::Number>().DoubleValue(), 0); });
  define(env, exports, "scopeOpen", [](const Napi::CallbackInfo&) { scopes.emplace_back(); });
  define(env, exports, "scopeClose", [](const Napi::CallbackInfo& info) {
    if (scopes.empty()) throw std::runtime_error("no scope is open");
    const size_t depth = scopes.size();
    std::vector<double> own = std::move(scopes.back());
    scopes.pop_back();
    if (info[0].IsArray()) {
      Napi::Array kept = info[0].As<Napi::Array>();
      for (uint32_t i = 0; i < kept.Length(); i++) {
        const double handle = kept.Get(i).As<Napi::Number>().DoubleValue();
        if (alive_in(handle, depth)) move_to(handle, depth - 1);
      }
    }
    for (double handle : own) {
      if (alive_in(handle, depth)) release(handle);
    }
  });
}

}  // namespace revmoe
