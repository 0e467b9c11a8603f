#include "common.h"

void InitPoll(Napi::Env, Napi::Object) {}
