// What every file of the addon shares: errors that carry errno, and each file's registration.
#pragma once
#include <napi.h>

#include <cerrno>
#include <cstring>
#include <string>

// An Error with errno, code, syscall and what was being done. Thrown by every call outside the hot path.
Napi::Error SystemError(Napi::Env env, int error, const char* syscall, const std::string& doing);

void InitTun(Napi::Env env, Napi::Object exports);
void InitPoll(Napi::Env env, Napi::Object exports);
void InitPacket(Napi::Env env, Napi::Object exports);
void InitInterface(Napi::Env env, Napi::Object exports);
void InitXsk(Napi::Env env, Napi::Object exports);
void InitBpf(Napi::Env env, Napi::Object exports);
