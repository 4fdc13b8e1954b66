// The single way to every ATen operator: op("aten::mm") looks the operator up once and returns a JavaScript function
// whose arguments are converted by the operator's own schema. Missing trailing arguments take the schema's defaults.
// Conversions: tensor <-> handle; Scalar <- number (whole numbers are integer scalars, as in Python); dtype and device
// <- string; lists <- arrays; None <-> null. An in-place operator returns the handle it was given.
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>

#include "core/table.hpp"

namespace revmoe {
namespace {

c10::IValue from_js(const Napi::Value& value, const c10::TypePtr& type);

at::Scalar scalar_from(const Napi::Value& value) {
  if (value.IsBoolean()) return at::Scalar(value.As<Napi::Boolean>().Value());
  if (value.IsBigInt()) {
    bool lossless;
    return at::Scalar(value.As<Napi::BigInt>().Int64Value(&lossless));
  }
  if (!value.IsNumber()) throw std::runtime_error("expected a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  const bool whole = std::floor(number) == number && std::abs(number) < 9007199254740992.0;
  return whole ? at::Scalar(static_cast<int64_t>(number)) : at::Scalar(number);
}

int64_t int_from(const Napi::Value& value) {
  if (value.IsString()) return static_cast<int64_t>(dtype_from(value.As<Napi::String>().Utf8Value()));
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  const at::Scalar scalar = scalar_from(value);
  if (scalar.isFloatingPoint()) throw std::runtime_error("expected a whole number");
  return scalar.toLong();
}

at::Tensor tensor_from(const Napi::Value& value) {
  if (value.IsNull() || value.IsUndefined()) return at::Tensor();
  if (!value.IsNumber()) throw std::runtime_error("expected a tensor");
  return get_tensor(value.As<Napi::Number>().DoubleValue());
}

template <typename List, typename Convert>
c10::IValue list_from(const Napi::Value& value, List list, Convert convert) {
  if (!value.IsArray()) throw std::runtime_error("expected an array");
  Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) list.push_back(convert(array.Get(i)));
  return list;
}

c10::IValue list_of(const Napi::Value& value, const c10::TypePtr& element) {
  switch (element->kind()) {
    case c10::TypeKind::TensorType:
      return list_from(value, c10::List<at::Tensor>(), tensor_from);
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return list_from(value, c10::List<int64_t>(), int_from);
    case c10::TypeKind::FloatType:
      return list_from(value, c10::List<double>(),
                       [](const Napi::Value& item) { return scalar_from(item).toDouble(); });
    case c10::TypeKind::BoolType:
      return list_from(value, c10::List<bool>(), [](const Napi::Value& item) { return item.ToBoolean().Value(); });
    case c10::TypeKind::NumberType: {
      c10::impl::GenericList list(element);
      return list_from(value, list, [](const Napi::Value& item) { return c10::IValue(scalar_from(item)); });
    }
    case c10::TypeKind::OptionalType:
      return list_from(value, c10::List<c10::optional<at::Tensor>>(), [](const Napi::Value& item) {
        at::Tensor tensor = tensor_from(item);
        return tensor.defined() ? c10::optional<at::Tensor>(tensor) : c10::optional<at::Tensor>();
      });
    default:
      throw std::runtime_error("lists of " + element->str() + " cannot be passed");
  }
}

c10::IValue from_js(const Napi::Value& value, const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return tensor_from(value);
    case c10::TypeKind::OptionalType:
      if (value.IsNull() || value.IsUndefined()) return c10::IValue();
      return from_js(value, type->castRaw<c10::OptionalType>()->getElementType());
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return int_from(value);
    case c10::TypeKind::FloatType:
      return scalar_from(value).toDouble();
    case c10::TypeKind::BoolType:
      if (!value.IsBoolean()) throw std::runtime_error("expected true or false");
      return value.As<Napi::Boolean>().Value();
    case c10::TypeKind::NumberType:
      return scalar_from(value);
    case c10::TypeKind::StringType:
      return value.As<Napi::String>().Utf8Value();
    case c10::TypeKind::DeviceObjType:
      return c10::Device(value.As<Napi::String>().Utf8Value());
    case c10::TypeKind::ListType:
      return list_of(value, type->castRaw<c10::ListType>()->getElementType());
    default:
      throw std::runtime_error("arguments of type " + type->str() + " cannot be passed");
  }
}

class Operator {
 public:
  explicit Operator(c10::OperatorHandle handle) : handle_(std::move(handle)) {}

  Napi::Value call(const Napi::CallbackInfo& info) {
    const auto& arguments = handle_.schema().arguments();
    if (info.Length() > arguments.size()) throw error(info, "too many arguments");
    torch::jit::Stack stack;
    stack.reserve(arguments.size());
    Inputs inputs;
    for (size_t i = 0; i < arguments.size(); i++) {
      const auto& argument = arguments[i];
      if (i >= info.Length() || info[i].IsUndefined()) {
        if (!argument.default_value()) throw error(info, "argument \"" + argument.name() + "\" is missing");
        stack.push_back(*argument.default_value());
        continue;
      }
      try {
        stack.push_back(from_js(info[i], argument.type()));
      } catch (const c10::Error& failure) {
        throw error(info, "argument \"" + argument.name() + "\": " + failure.what_without_backtrace());
      } catch (const std::exception& failure) {
        throw error(info, "argument \"" + argument.name() + "\": " + failure.what());
      }
      if (stack.back().isTensor()) inputs.emplace_back(stack.back().unsafeToTensorImpl(), info[i]);
    }
    try {
      handle_.callBoxed(&stack);
    } catch (const c10::OutOfMemoryError& failure) {
      Napi::Error out = error(info, failure.what_without_backtrace());
      out.Set("code", Napi::String::New(info.Env(), "OUT_OF_MEMORY"));
      throw out;
    } catch (const c10::Error& failure) {
      throw error(info, failure.what_without_backtrace());
    } catch (const std::exception& failure) {
      throw error(info, failure.what());
    }
    check_files(info.Env());
    if (stack.size() == 1) return result(info.Env(), stack[0], inputs);
    Napi::Array results = Napi::Array::New(info.Env(), stack.size());
    for (size_t i = 0; i < stack.size(); i++)
      results.Set(static_cast<uint32_t>(i), result(info.Env(), stack[i], inputs));
    return stack.empty() ? info.Env().Undefined() : results.As<Napi::Value>();
  }

 private:
  /** Tensors among the arguments, and their handles. */
  using Inputs = std::vector<std::pair<c10::TensorImpl*, Napi::Value>>;

  Napi::Value result(Napi::Env env, const c10::IValue& value, const Inputs& inputs) {
    if (value.isTensor()) {
      const at::Tensor& tensor = value.toTensor();
      for (const auto& [impl, handle] : inputs) {
        if (impl == tensor.unsafeGetTensorImpl() && tensor.defined()) return handle;
      }
      return to_js(env, tensor);
    }
    if (value.isTensorList()) {
      const auto list = value.toTensorList();
      Napi::Array array = Napi::Array::New(env, list.size());
      for (size_t i = 0; i < list.size(); i++) array.Set(static_cast<uint32_t>(i), to_js(env, list.get(i)));
      return array;
    }
    if (value.isNone()) return env.Null();
    if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
    if (value.isInt()) return Napi::Number::New(env, static_cast<double>(value.toInt()));
    if (value.isDouble()) return Napi::Number::New(env, value.toDouble());
    if (value.isString()) return Napi::String::New(env, value.toStringRef());
    if (value.isScalar()) return Napi::Number::New(env, value.toScalar().toDouble());
    throw std::runtime_error(handle_.schema().name() + ": results of type " + value.tagKind() + " cannot be returned");
  }

  // "aten::mm(float32[8,3], float32[4]): libtorch's message"
  Napi::Error error(const Napi::CallbackInfo& info, const std::string& message) {
    check_files(info.Env());  // an operator may refuse the zeros that replace a file's bytes
    const auto& schema = handle_.schema();
    std::string words = schema.name();
    if (!schema.overload_name().empty()) words += "." + schema.overload_name();
    words += "(";
    for (size_t i = 0; i < info.Length(); i++) {
      if (i) words += ", ";
      const bool tensor = i < schema.arguments().size() && info[i].IsNumber() &&
                          schema.arguments()[i].type()->str().rfind("Tensor", 0) == 0;
      try {
        words += tensor ? describe(tensor_from(info[i])) : info[i].ToString().Utf8Value();
      } catch (const std::exception&) {
        words += "?";
      }
    }
    return Napi::Error::New(info.Env(), words + "): " + message);
  }

  c10::OperatorHandle handle_;
};

c10::OperatorName parse_name(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return {name, ""};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

}  // namespace

void init_op(Napi::Env env, Napi::Object exports) {
  define(env, exports, "hasOp", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto found = c10::Dispatcher::singleton().findSchema(parse_name(info[0].As<Napi::String>().Utf8Value()));
    return Napi::Boolean::New(info.Env(), found.has_value());
  });
  define(env, exports, "schema", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const auto found = c10::Dispatcher::singleton().findSchema(parse_name(info[0].As<Napi::String>().Utf8Value()));
    if (!found) return info.Env().Null();
    std::ostringstream words;
    words << found->schema();
    return Napi::String::New(info.Env(), words.str());
  });
  define(env, exports, "op", [](const Napi::CallbackInfo& info) -> Napi::Value {
    const std::string name = info[0].As<Napi::String>().Utf8Value();
    const auto found = c10::Dispatcher::singleton().findSchema(parse_name(name));
    if (!found) throw Napi::Error::New(info.Env(), name + ": this libtorch has no such operator");
    auto op = std::make_shared<Operator>(*found);
    return Napi::Function::New(
        info.Env(), [op](const Napi::CallbackInfo& call) { return op->call(call); }, name);
  });
}

}  // namespace revmoe
