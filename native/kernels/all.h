// Every kernel, for whoever compiles them all.
#pragma once
#include "expert_activation.h"
#include "expert_rows.h"
#include "gradient.h"
#include "update.h"
