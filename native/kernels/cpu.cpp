// The kernels for one kind of CPU, which the build selects by REVMOE_CPU and its flags.
#include "all.h"
