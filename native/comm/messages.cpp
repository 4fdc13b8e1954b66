// What messages.hpp says.
#if __has_include(<torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>)
#define USE_C10D_GLOO
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "comm/messages.hpp"

namespace revmoe {
namespace {

// A copy is as long on its way as its GPU computes what comes before it: there is nothing to be gained by looking more often.
constexpr auto kPause = std::chrono::microseconds(20);

// On the event's own GPU: a thread that asks from another one takes memory there.
void wait_for(const c10::Event& event) {
  const c10::DeviceGuard guard(c10::Device(event.device_type(), event.device_index()));
  while (!event.query()) std::this_thread::sleep_for(kPause);
}

// As above: an event ends on its own GPU.
void release(std::optional<c10::Event>& event) {
  if (!event) return;
  const c10::DeviceGuard guard(c10::Device(event->device_type(), event->device_index()));
  event.reset();
}

at::Tensor in_main_memory(const at::Tensor& like) {
  return at::empty(like.sizes(), at::TensorOptions(like.scalar_type()).pinned_memory(!like.device().is_cpu()));
}

}  // namespace

at::Tensor bytes_of(const at::Tensor& tensor, bool keeps) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(), "a tensor for other ranks must lie whole in memory");
  const auto bytes = static_cast<int64_t>(tensor.nbytes());
  return at::from_blob(
      tensor.data_ptr(), {bytes}, [kept = keeps ? tensor : at::Tensor()](void*) {}, at::TensorOptions(at::kByte));
}

Messages::Messages(c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo, bool copies_all)
    : gloo_(std::move(gloo)), copies_all_(copies_all) {}

Messages::~Messages() {
  {
    const std::lock_guard<std::mutex> hold(lock_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

int Messages::send(const at::Tensor& tensor, std::vector<int> to, int tag) {
  Sending sending{{}, {}, std::move(to), tag, {}};
  const bool copies = is_copied(tensor);
  if (copies) {
    const at::Tensor host = in_main_memory(tensor);
    copy_async(host, tensor);
    if (!tensor.device().is_cpu()) sending.copied = event_of(copy_stream(tensor.device(), /*out=*/true));
    sending.bytes = bytes_of(host, /*keeps=*/true);
  } else {
    sending.bytes = bytes_of(tensor, /*keeps=*/true);
  }
  std::future<Works> sent = sending.works.get_future();
  std::unique_lock<std::mutex> hold(lock_);
  // Behind what waits for its copy, for messages of one tag keep their order.
  if (!copies && queue_.empty()) {
    hold.unlock();
    return keep({begin(sending), {}, {}, {}, {}});
  }
  queue_.push_back(std::move(sending));
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  hold.unlock();
  changed_.notify_all();
  return keep({{}, std::move(sent), {}, {}, {}});
}

int Messages::receive(const at::Tensor& into, int from, int tag) {
  Ticket ticket;
  if (is_copied(into)) {
    TORCH_CHECK(into.is_contiguous(), "what is received must lie whole in memory");
    ticket.into = into;
    ticket.host = in_main_memory(into);
    if (!into.device().is_cpu()) ticket.behind = event_of(computing_stream(into.device()));
  }
  std::vector<at::Tensor> bytes{bytes_of(ticket.host.defined() ? ticket.host : into, /*keeps=*/true)};
  ticket.works.push_back(gloo_->recv(bytes, from, tag));
  return keep(std::move(ticket));
}

void Messages::await(int number) {
  auto found = tickets_.extract(number);
  TORCH_CHECK(!found.empty(), "a ticket is waited for twice");
  Ticket& ticket = found.mapped();
  if (ticket.sent.valid()) ticket.works = ticket.sent.get();
  for (const auto& work : ticket.works) work->wait();
  if (!ticket.into.defined()) return;
  if (!ticket.behind) {
    ticket.into.copy_(ticket.host);
    return;
  }
  copy_in(ticket.into, ticket.host, *ticket.behind);
  await_copies(ticket.into.device(), /*out=*/false);
}

void Messages::drop(int number) {
  const auto found = tickets_.extract(number);
  // What was to be sent is on its way then, like all else that is dropped.
  if (!found.empty() && found.mapped().sent.valid()) found.mapped().sent.wait();
}

int Messages::keep(Ticket ticket) {
  tickets_.emplace(++started_, std::move(ticket));
  return started_;
}

Works Messages::begin(const Sending& sending) {
  Works works;
  for (const int to : sending.to) {
    std::vector<at::Tensor> bytes{sending.bytes};
    works.push_back(gloo_->send(bytes, to, sending.tag));
  }
  return works;
}

void Messages::run() {
  std::unique_lock<std::mutex> hold(lock_);
  for (;;) {
    changed_.wait(hold, [this] { return ends_ || !queue_.empty(); });
    if (ends_) return;
    Sending& first = queue_.front();
    std::promise<Works> promise = std::move(first.works);
    Works works;
    std::exception_ptr failure;
    hold.unlock();
    try {
      if (first.copied) wait_for(*first.copied);
      works = begin(first);
    } catch (...) {
      failure = std::current_exception();
    }
    hold.lock();
    release(first.copied);
    queue_.pop_front();
    // Whoever hears of it finds nothing left of it here.
    if (failure)
      promise.set_exception(failure);
    else
      promise.set_value(std::move(works));
  }
}

}  // namespace revmoe
#endif
