// Every kernel, for whoever compiles them all.
#pragma once
#include "streams.h"
#include "gated.h"
#include "norm.h"
#include "loss.h"
#include "factored.h"
#include "squares.h"
#include "update.h"
#include "update8bit.h"
