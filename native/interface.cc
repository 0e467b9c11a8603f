#include "common.h"

void InitInterface(Napi::Env, Napi::Object) {}
