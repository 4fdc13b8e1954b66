// Every kernel, for whoever compiles them all.
#pragma once
#include "streams.h"
#include "update.h"
