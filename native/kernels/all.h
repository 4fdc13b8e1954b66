// Every kernel, for whoever compiles them all.
#pragma once
#include "loss.h"
#include "update.h"
