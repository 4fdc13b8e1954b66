// What c10d's headers must know of Gloo, of which they hold nothing but pointers. Gloo itself is in libtorch, and its headers are in no wheel
// and in a package of their own in Debian: these stand in for them, for every libtorch alike. No function here is defined or called by us.
// The other files of this folder have the names that are asked for. That the group computes right is tried when it is opened.
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
