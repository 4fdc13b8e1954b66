// Every kernel, for whoever compiles them all.
#pragma once
#include "streams.h"
#include "gated.h"
#include "norm.h"
#include "loss.h"
#include "factored.h"
#include "squares.h"
#include "delta_chunks.h"
#include "delta_inputs.h"
#include "delta_outputs.h"
#include "update.h"
#include "update8bit.h"
