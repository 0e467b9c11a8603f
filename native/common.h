// What every file of the addon shares: errors that carry errno, checked arguments, and each file's
// registration. The addon is loaded by every thread that uses it and so keeps no state of its own.
#pragma once
#include <napi.h>

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

// An Error with errno, code, syscall and what was being done; `hint` says what to do about it. Thrown by
// every call outside the hot path.
Napi::Error SystemError(Napi::Env env, int error, const char* syscall, const std::string& doing,
                        const std::string& hint = "");

// The hint for a refusal that a capability would have prevented; empty for other errors.
inline std::string CapabilityHint(int error, const char* capability) {
  return error == EPERM || error == EACCES
             ? std::string("this takes the capability ") + capability + " (root has it)"
             : std::string();
}

// A typed array's memory, valid until the call that got it as an argument returns.
template <typename T>
struct Span {
  T* data;
  size_t length;
};

template <typename T>
struct ElementType;
template <>
struct ElementType<uint8_t> {
  static constexpr napi_typedarray_type type = napi_uint8_array;
  static constexpr const char* name = "Uint8Array";
};
template <>
struct ElementType<int16_t> {
  static constexpr napi_typedarray_type type = napi_int16_array;
  static constexpr const char* name = "Int16Array";
};
template <>
struct ElementType<int32_t> {
  static constexpr napi_typedarray_type type = napi_int32_array;
  static constexpr const char* name = "Int32Array";
};

// Argument `index` as a typed array of exactly this type; TypeError otherwise. One call into the engine
// and no allocation, so that the hot path can afford it.
template <typename T>
Span<T> SpanArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(info.Env(), info[index], &type, &length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != ElementType<T>::type)
    throw Napi::TypeError::New(info.Env(), std::string(name) + ": must be of type " + ElementType<T>::name);
  return {static_cast<T*>(data), length};
}

// A value as a 32-bit integer; TypeError for what is no number, RangeError for what does not fit.
inline int32_t ToInteger(Napi::Env env, napi_value value, const char* name) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok)
    throw Napi::TypeError::New(env, std::string(name) + ": must be a number");
  if (!(number >= INT32_MIN && number <= INT32_MAX) || number != static_cast<int32_t>(number))
    throw Napi::RangeError::New(env, std::string(name) + ": must be a 32-bit integer");
  return static_cast<int32_t>(number);
}

inline int32_t IntegerArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return ToInteger(info.Env(), info[index], name);
}

inline std::string ToText(Napi::Value value, const char* name) {
  if (!value.IsString())
    throw Napi::TypeError::New(value.Env(), std::string(name) + ": must be a string");
  return value.As<Napi::String>().Utf8Value();
}

inline bool ToBoolean(Napi::Value value, const char* name) {
  if (!value.IsBoolean())
    throw Napi::TypeError::New(value.Env(), std::string(name) + ": must be true or false");
  return value.As<Napi::Boolean>().Value();
}

inline Napi::Object ObjectArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsObject())
    throw Napi::TypeError::New(info.Env(), std::string(name) + ": must be an object");
  return info[index].As<Napi::Object>();
}

// Copies an interface name into the kernel's fixed field; RangeError if it does not fit there.
template <size_t N>
void CopyInterfaceName(Napi::Env env, const std::string& name, char (&field)[N]) {
  if (name.size() >= N || name.find('\0') != std::string::npos)
    throw Napi::RangeError::New(env, "interface name \"" + name + "\": must be at most " +
                                         std::to_string(N - 1) + " bytes, without NUL");
  std::memset(field, 0, N);
  std::memcpy(field, name.data(), name.size());
}

// A descriptor that is closed on every way out, unless released to the caller.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

void InitTun(Napi::Env env, Napi::Object exports);
void InitPoll(Napi::Env env, Napi::Object exports);
void InitPacket(Napi::Env env, Napi::Object exports);
void InitInterface(Napi::Env env, Napi::Object exports);
void InitXsk(Napi::Env env, Napi::Object exports);
void InitBpf(Napi::Env env, Napi::Object exports);
