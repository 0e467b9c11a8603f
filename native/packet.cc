#include "common.h"

void InitPacket(Napi::Env, Napi::Object) {}
