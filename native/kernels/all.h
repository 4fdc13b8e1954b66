// Every kernel, for whoever compiles them all.
#pragma once
#include "update.h"
