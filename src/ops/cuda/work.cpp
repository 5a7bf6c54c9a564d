#include "fairway/ops/cuda_work.h"

#include <nvtx3/nvToolsExt.h>
#include <cstring>
#include <utility>

#include "cuda/state.h"
#include "fairway/base/error.h"
#include "fairway/base/text.h"

namespace fairway::ops::cuda {
namespace {

cudaStream_t stream_of(State& state) { return static_cast<cudaStream_t>(state.stream()); }
cudaEvent_t event_of(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

void upload(State& state, void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_of(state)),
             "cannot copy to " + state.device().str());
}
void download(State& state, void* host, const void* device, std::size_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_of(state)),
             "cannot copy from " + state.device().str());
}
void copy_on_device(State& state, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(state)),
             "cannot copy on " + state.device().str());
}
void zero_on_device(State& state, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  check_cuda(cudaMemsetAsync(data, 0, bytes, stream_of(state)),
             "cannot clear memory on " + state.device().str());
}

PinnedBuffer::PinnedBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  check_cuda(cudaMallocHost(&data, bytes), fmt::format("cannot pin {} of memory", base::human_bytes(bytes)));
  data_ = static_cast<std::byte*>(data);
  std::memset(data_, 0, bytes);
}
PinnedBuffer::~PinnedBuffer() {
  if (data_) cudaFreeHost(data_);
}
PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Event::Event(bool timed) {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
             "cannot make an event");
  event_ = event;
}
Event::~Event() {
  if (event_) cudaEventDestroy(event_of(event_));
}
Event::Event(Event&& other) noexcept
    : event_(std::exchange(other.event_, nullptr)), recorded_(std::exchange(other.recorded_, false)) {}
Event& Event::operator=(Event&& other) noexcept {
  std::swap(event_, other.event_);
  std::swap(recorded_, other.recorded_);
  return *this;
}
void Event::record(State& state) {
  check_cuda(cudaEventRecord(event_of(event_), stream_of(state)), "cannot record an event");
  recorded_ = true;
}
void Event::wait() const {
  if (recorded_) check_cuda(cudaEventSynchronize(event_of(event_)), "work on a GPU failed");
}
double Event::seconds_since(const Event& earlier) const {
  wait();
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, event_of(earlier.event_), event_of(event_)),
             "cannot time work");
  return static_cast<double>(milliseconds) / 1000;
}

Recording::Recording(State& state, const std::function<void()>& queue) : state_(state) {
  const auto stream = stream_of(state);
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cannot record work");
  cudaGraph_t graph = nullptr;
  try {
    queue();
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph), "cannot record work");
  cudaGraphExec_t exec = nullptr;
  const auto status = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(status, "cannot prepare recorded work");
  graph_ = exec;
  check_cuda(cudaGraphUpload(exec, stream), "cannot prepare recorded work");
}
Recording::~Recording() {
  if (graph_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph_));
}
void Recording::replay() {
  check_cuda(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_), stream_of(state_)), "cannot replay work");
}

ProfilerRange::ProfilerRange(const char* name) { nvtxRangePushA(name); }
ProfilerRange::~ProfilerRange() { nvtxRangePop(); }

}  // namespace fairway::ops::cuda
