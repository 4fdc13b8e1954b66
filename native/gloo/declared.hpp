// What c10d's headers must know of Gloo; they have only pointers to it. Gloo itself is in libtorch, but its headers are
// in no wheel and in a separate package in Debian: this folder stands in for them, for every libtorch. We define and
// call none of these functions. The other files of this folder have the names that are included. That the group
// computes correctly is tested when it is opened.
#pragma once
#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {

class Store {
 public:
  static const std::chrono::milliseconds kDefaultTimeout;
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& value) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};

}  // namespace rendezvous
}  // namespace gloo
