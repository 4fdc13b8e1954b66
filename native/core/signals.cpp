// Signals that ask a run to stop, also while the main thread is inside a long call. The first signal is acknowledged at
// once with a prepared line, and JavaScript can ask for it later; a second one, after that line, ends the process. The
// handler calls only functions that are allowed in handlers.
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <deque>

#include "core/table.hpp"

namespace revmoe {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
// One key press can arrive twice: from the terminal, and passed on by a program such as npm that started this one.
constexpr int64_t kOnePressNs = 300'000'000;

struct Words {
  std::string acknowledged;
  std::string left;
};

struct sigaction before[std::size(kSignals)];
bool listening = false;
std::atomic<int> output{-1};
std::atomic<int> asked{0};
std::atomic<int64_t> acknowledged_ns{0};
std::atomic<const Words*> words{nullptr};

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// An output that does not take the line at once, such as a terminal that is gone or stopped, does not get it.
void say(const std::string& line) {
  pollfd ready{output, POLLOUT, 0};
  if (poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT)) (void)!write(output, line.data(), line.size());
}

void on_signal(int signal) {
  const int error = errno;
  int none = 0;
  if (asked.compare_exchange_strong(none, signal)) {
    say(words.load()->acknowledged);
    acknowledged_ns = now_ns();
  } else if (signal != SIGHUP && acknowledged_ns != 0 && now_ns() - acknowledged_ns > kOnePressNs) {
    // A terminal that closes is not a second press, because nobody has read the line.
    say(words.load()->left);
    _exit(128 + signal);
  }
  errno = error;
}

void set_words(const Napi::CallbackInfo& info, size_t first) {
  static std::deque<Words> kept;  // a handler may be reading the previous words
  words = &kept.emplace_back(
      Words{info[first].As<Napi::String>().Utf8Value(), info[first + 1].As<Napi::String>().Utf8Value()});
}

}  // namespace

void init_signals(Napi::Env env, Napi::Object exports) {
  define(env, exports, "listenForStop", [](const Napi::CallbackInfo& info) {
    if (listening) throw std::runtime_error("signals are listened for already");
    output = info[0].As<Napi::Number>().Int32Value();
    set_words(info, 1);
    asked = 0;
    acknowledged_ns = 0;
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);
    for (size_t i = 0; i < std::size(kSignals); i++) sigaction(kSignals[i], &action, &before[i]);
    listening = true;
  });
  define(env, exports, "setStopWords", [](const Napi::CallbackInfo& info) { set_words(info, 0); });
  define(env, exports, "stopSignal",
         [](const Napi::CallbackInfo& info) -> Napi::Value { return Napi::Number::New(info.Env(), asked.load()); });
  define(env, exports, "forgetStop", [](const Napi::CallbackInfo&) {
    if (!listening) return;
    for (size_t i = 0; i < std::size(kSignals); i++) sigaction(kSignals[i], &before[i], nullptr);
    listening = false;
  });
}

}  // namespace revmoe
