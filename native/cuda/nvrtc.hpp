// NVRTC, by dlopen: compiles source text to a cubin. Needs no GPU.
#pragma once
#include <string>
#include <vector>

namespace revmoe {

/**
 * Version such as 13.0 of a library; `library` is a path, or a name for the loader. Throws std::runtime_error if it
 * cannot be opened.
 */
std::string nvrtc_version(const std::string& library);

/**
 * Compiles each source with `options` (such as --gpu-architecture=sm_90), all at the same time. Throws
 * std::runtime_error with NVRTC's own log.
 */
std::vector<std::vector<char>> compile_cuda(const std::string& library, const std::vector<std::string>& sources,
                                            const std::vector<std::string>& options);

}  // namespace revmoe
