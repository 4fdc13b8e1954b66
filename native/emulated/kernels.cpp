// Every kernel as a GPU would run it. Compiled so that each access to memory calls memory.cpp.
#include "emulated/cuda.hpp"
//
#include "kernels/all.h"
