#include "profile.h"

#include <executorch/runtime/core/event_tracer.h>
#include <executorch/runtime/platform/clock.h>

#include <utility>

namespace splitbench {
namespace {

using executorch::runtime::ArrayRef;
using executorch::runtime::ChainID;
using executorch::runtime::DebugHandle;
using executorch::runtime::DelegateDebugIntId;
using executorch::runtime::EventTracerEntry;
using Logged = executorch::runtime::Result<bool>;
using Tensor = executorch::aten::Tensor;

// A run gives
//
//   Method::execute( DELEGATE_CALL( Convolution.. #1, .. ), OPERATOR_CALL( native_call_cumsum.out ), DELEGATE_CALL( .. ) )
//
// where XNNPACK logs its operators, in whole microseconds, once they all have run, and a kernel's event surrounds it. Only
// this is relied upon: events nest, and what is logged is part of the event that is open. Then an operator is an event
// within another that holds none itself: no time counts twice, and a call that tells nothing of its inside counts whole.
class OperatorTracer final : public executorch::runtime::EventTracer {
 public:
  explicit OperatorTracer(Operators& operators) : operators_(operators) {}

  EventTracerEntry start_profiling(const char* name, ChainID, DebugHandle) override {
    return open(name);
  }
  void end_profiling(EventTracerEntry entry) override { close(entry); }

  EventTracerEntry start_profiling_delegate(const char* name, DelegateDebugIntId id) override {
    return open(name_of(name, id));
  }
  void end_profiling_delegate(EventTracerEntry entry, const void*, std::size_t) override { close(entry); }

  void log_profiling_delegate(const char* name, DelegateDebugIntId id, et_timestamp_t start, et_timestamp_t end,
                              const void*, std::size_t) override {
    fill_open();
    add(name_of(name, id), end - start);
  }

  // Neither memory nor values are looked at.
  void create_event_block(const char*) override {}
  void track_allocation(executorch::runtime::AllocatorID, std::size_t) override {}
  executorch::runtime::AllocatorID track_allocator(const char*) override { return 0; }
  void set_delegation_intermediate_output_filter(executorch::runtime::EventTracerFilterBase*) override {}
  Logged log_evalue(const executorch::runtime::EValue&, executorch::runtime::LoggedEValueType) override { return false; }
  Logged log_intermediate_output_delegate(const char*, DelegateDebugIntId, const Tensor&) override { return false; }
  Logged log_intermediate_output_delegate(const char*, DelegateDebugIntId, ArrayRef<Tensor>) override { return false; }
  Logged log_intermediate_output_delegate(const char*, DelegateDebugIntId, const int&) override { return false; }
  Logged log_intermediate_output_delegate(const char*, DelegateDebugIntId, const bool&) override { return false; }
  Logged log_intermediate_output_delegate(const char*, DelegateDebugIntId, const double&) override { return false; }

 private:
  struct Event {
    std::string name;
    bool holds_others;
  };

  // A delegate names its operators or numbers them.
  static std::string name_of(const char* name, DelegateDebugIntId id) {
    return name == nullptr ? std::to_string(id) : name;
  }

  EventTracerEntry open(std::string name) {
    fill_open();
    open_.push_back({std::move(name), false});
    EventTracerEntry entry{};
    entry.event_id = static_cast<std::int64_t>(open_.size()) - 1;
    entry.start_time = executorch::runtime::pal_current_ticks();
    return entry;
  }

  void close(const EventTracerEntry& entry) {
    const et_timestamp_t end = executorch::runtime::pal_current_ticks();
    const auto place = static_cast<std::size_t>(entry.event_id);
    if (place >= open_.size()) {
      return;  // the event around it has ended already
    }
    if (place > 0 && !open_[place].holds_others) {
      add(std::move(open_[place].name), end - entry.start_time);
    }
    open_.erase(open_.begin() + entry.event_id, open_.end());
  }

  void fill_open() {
    if (!open_.empty()) {
      open_.back().holds_others = true;
    }
  }

  void add(std::string name, et_timestamp_t ticks) {
    operators_.names.push_back(std::move(name));
    operators_.times_ns.push_back(static_cast<std::int64_t>(executorch::runtime::ticks_to_ns(ticks)));
  }

  Operators& operators_;
  std::vector<Event> open_;  // the events that have not ended, each within the one before it
};

}  // namespace

std::unique_ptr<executorch::runtime::EventTracer> trace_into(Operators& operators) {
  return std::make_unique<OperatorTracer>(operators);
}

Profile profile_of(const std::vector<Operators>& runs) {
  if (runs.empty() || runs.front().names.empty()) {
    return {{}, {}, "no operator was seen to run"};
  }
  Profile profile{runs.front().names, {}, ""};
  for (const Operators& run : runs) {
    if (run.names != profile.operators) {
      return {{}, {}, "not every run consists of the same operators"};
    }
    profile.times_ns.push_back(run.times_ns);
  }
  return profile;
}

}  // namespace splitbench
