// The kernels for one kind of CPU, which the build says in REVMOE_CPU and its flags.
#include "all.h"
