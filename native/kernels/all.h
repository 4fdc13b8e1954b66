// Every kernel, for whoever compiles them all.
#pragma once
#include "delta_chunks.h"
#include "delta_inputs.h"
#include "delta_outputs.h"
#include "update.h"
