// NVRTC, by dlopen: source text to a cubin. Needs no GPU.
#pragma once
#include <string>
#include <vector>

namespace revmoe {

/** 13.0, of the library of this path, or of this name where the loader looks. Throws std::runtime_error where it cannot be opened. */
std::string nvrtc_version(const std::string& library);

/**
 * What each source becomes for `options` (--gpu-architecture=sm_90 is one), all at the same time. Throws std::runtime_error with NVRTC's own log.
 */
std::vector<std::vector<char>> compile_cuda(const std::string& library, const std::vector<std::string>& sources,
                                            const std::vector<std::string>& options);

}  // namespace revmoe
