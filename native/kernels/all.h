// Every kernel, for whoever compiles them all.
#pragma once
#include "factored.h"
#include "squares.h"
#include "update.h"
#include "update8bit.h"
