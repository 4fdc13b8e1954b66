// Tensors on their way between ranks as messages of Gloo, each under a tag. One that lies on a GPU goes through a copy in main memory: on its way
// out the copy is made while the GPU computes, and a thread sends it when it is there; on its way in the GPU is given it when it is waited for.
#pragma once
#include <condition_variable>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "io/async_copy.hpp"

namespace revmoe {

using Works = std::vector<c10::intrusive_ptr<c10d::Work>>;

/**
 * A tensor's bytes, so that every type travels, also where Gloo knows only some. What goes on when a call returns keeps the tensor's memory; else a
 * thread of Gloo would keep it a moment longer than the call.
 */
at::Tensor bytes_of(const at::Tensor& tensor, bool keeps = false);

class Messages {
 public:
  /** With `copies_all`, tensors in main memory go through copies as well, for tests. */
  Messages(c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo, bool copies_all);
  /** Waits for the thread. */
  ~Messages();

  /** To each of these ranks; of a tensor on a GPU one copy is made for all of them. Messages of one tag arrive in the order of the calls. */
  int send(const at::Tensor& tensor, std::vector<int> to, int tag);
  int receive(const at::Tensor& into, int from, int tag);
  void await(int ticket);
  void drop(int ticket);

 private:
  struct Sending {
    at::Tensor bytes;
    std::optional<c10::Event> copied;
    std::vector<int> to;
    int tag;
    std::promise<Works> works;
  };
  struct Ticket {
    Works works;
    // Of what the thread sends.
    std::future<Works> sent;
    // Of what was received for `into`, whose memory is free to be written to behind `behind`.
    at::Tensor host, into;
    std::optional<c10::Event> behind;
  };

  bool is_copied(const at::Tensor& tensor) const { return copies_all_ || !tensor.device().is_cpu(); }
  int keep(Ticket ticket);
  Works begin(const Sending& sending);
  void run();

  const c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo_;
  const bool copies_all_;
  std::map<int, Ticket> tickets_;
  int started_ = 0;

  std::mutex lock_;
  std::condition_variable changed_;
  // Those that the thread has not begun yet, the one it is at among them.
  std::deque<Sending> queue_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace revmoe
