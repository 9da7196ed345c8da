#include "engine/base/step.h"

void (*_Atomic step_hook)(const char *name);
