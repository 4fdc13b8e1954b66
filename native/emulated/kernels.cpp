// Every kernel as a GPU would run it. Compiled so that each memory access calls memory.cpp.
#include "emulated/cuda.hpp"
//
#include "kernels/all.h"
