#include "common.h"

void InitBpf(Napi::Env, Napi::Object) {}
