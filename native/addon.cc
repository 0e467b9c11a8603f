// The addon of uvs: system calls, memory maps and ring kicks. No policy, no packet parsing.
#include "common.h"

#include <cstdio>

// The symbolic name libc knows for an errno; strerrorname_np is glibc 2.32 and later.
static const char* ErrorName(int error) {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 32))
  const char* name = strerrorname_np(error);
  return name ? name : "EUNKNOWN";
#else
  static thread_local char buffer[16];
  snprintf(buffer, sizeof buffer, "E%d", error);
  return buffer;
#endif
}

Napi::Error SystemError(Napi::Env env, int error, const char* syscall, const std::string& doing,
                        const std::string& hint) {
  const char* name = ErrorName(error);
  std::string message = doing + ": " + std::strerror(error) + " (" + name + ", " + syscall + ")";
  if (!hint.empty()) message += "; " + hint;
  auto result = Napi::Error::New(env, message);
  result.Set("errno", Napi::Number::New(env, error));
  result.Set("code", Napi::String::New(env, name));
  result.Set("syscall", Napi::String::New(env, syscall));
  return result;
}

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  InitTun(env, exports);
  InitPoll(env, exports);
  InitPacket(env, exports);
  InitInterface(env, exports);
  InitXsk(env, exports);
  InitBpf(env, exports);
  return exports;
}

NODE_API_MODULE(uvs, Init)
