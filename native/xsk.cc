#include "common.h"

void InitXsk(Napi::Env, Napi::Object) {}
