#include "common.h"

void InitTun(Napi::Env, Napi::Object) {}
