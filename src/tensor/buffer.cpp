#include "fairway/tensor/buffer.h"

#include "fairway/base/text.h"
#include "fairway/tensor/cuda.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

namespace fairway::tensor {
namespace {

constexpr std::size_t alignment = 256;  // one cache line of every device, and CUDA's own alignment
constexpr std::size_t huge_page = std::size_t{2} << 20;

constexpr std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::byte* host_allocate(std::size_t bytes) {
  const bool large = bytes >= 2 * huge_page;
  const std::size_t unit = large ? huge_page : alignment;
  void* data = bytes <= SIZE_MAX - unit ? std::aligned_alloc(unit, round_up(bytes, unit)) : nullptr;
  if (!data) base::fail("out of memory: {} asked for", base::human_bytes(bytes));
  if (large)
    ::madvise(data, round_up(bytes, unit), MADV_HUGEPAGE);  // advice only: a refusal costs speed, not results
  std::memset(data, 0, bytes);
  return static_cast<std::byte*>(data);
}

}  // namespace

Buffer::Buffer(Device device, std::size_t bytes) : device_(device), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = device.is_cuda() ? cuda_allocate(device.index, bytes) : host_allocate(bytes);
}

Buffer::~Buffer() {
  if (!data_) return;
  if (device_.is_cuda()) {
    cuda_release(device_.index, data_);
  } else {
    std::free(data_);
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

View Buffer::view(std::size_t offset, Meta meta) const {
  const std::size_t bytes = meta.bytes();
  base::check(offset <= bytes_ && bytes <= bytes_ - offset, "view of {} bytes at {} in a buffer of {}", bytes,
              offset, bytes_);
  base::check(offset % size_of(meta.dtype) == 0, "view of {} at the unaligned offset {}",
              dtype_name(meta.dtype), offset);
  return {data_ ? data_ + offset : nullptr, meta};
}

}  // namespace fairway::tensor
